"""Options that more than one subcommand has, and how their values are read."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from drainer.settings import DEFAULT_PATH
from drainer.text.quantities import duration_s, rate_per_s

ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config",
        metavar="FILE",
        help=f"Settings file.  [default: {DEFAULT_PATH}]",
        show_default=False,
        readable=False,  # whoever reads it says better why it cannot be read
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print exactly one JSON object.")]
YesOption = Annotated[bool, typer.Option("--yes", help="Do it. Without this nothing is changed.")]
ReasonOption = Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why; goes into the journal.")]


def parse_duration(text: str) -> float:
    try:
        return duration_s(text)
    except ValueError as exc:
        raise typer.BadParameter(f"{text!r} is {exc}") from exc


def parse_pause(text: str) -> float:
    """A duration; "0": without an end."""
    return 0.0 if text.strip() == "0" else parse_duration(text)


def parse_new_rate(text: str) -> float | str:
    """As parse_rate; "settings" gives the limit back to the settings."""
    return text if text == "settings" else parse_rate(text)


def parse_rate(text: str) -> float | str:
    """A rate per second, or "unlimited"."""
    try:
        per_s = rate_per_s(text)
    except ValueError as exc:
        raise typer.BadParameter(f"{text!r} is {exc}") from exc
    return "unlimited" if per_s is None else per_s
