"""What more than one subcommand needs: common options, the way to the service, and how answers are printed."""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TextIO, TypeVar

import typer
from pydantic import BaseModel

from drainer.errors import ServiceNotRunning
from drainer.settings import Settings
from drainer.settings_file import DEFAULT_PATH, load_settings
from drainer.text.clean_model import cleaned
from drainer.text.columns import columns, wrapped
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

if TYPE_CHECKING:
    from drainer.control.client import ControlClient

_Answer = TypeVar("_Answer")

_CELLS = re.compile(r"\s*(?:.*\S\s{2,})?")
_FIRST_CELL = re.compile(r"\s*\S+\s{2,}")
_WIDEST_HANGING = 12
_NARROWEST_LAST_CELL = 16


def client_settings(config: Path | None) -> Settings:
    """The settings, as far as asking the service needs them: without a file at the default place, the defaults.

    Raises SettingsError
    """
    return load_settings(config, required=config is not None)


def ask(
    config: Path | None,
    question: Callable[[ControlClient], Awaitable[_Answer]],
    answer_within_s: float | None = None,
) -> _Answer:
    """What the service answers. answer_within_s: to each request; None: as the client has it.

    Raises  ServiceNotRunning with what to do about it; RequestRefused, UsageError, DrainerError as the client does
    """
    from drainer.control.client import ANSWER_WITHIN_S, ControlClient

    socket_path = client_settings(config).control.socket

    async def exchange() -> _Answer:
        async with ControlClient(socket_path, answer_within_s or ANSWER_WITHIN_S) as service:
            return await question(service)

    try:
        return asyncio.run(exchange())
    except ServiceNotRunning as exc:
        raise with_way_out(exc, config) from exc


def with_way_out(exc: ServiceNotRunning, config: Path | None) -> ServiceNotRunning:
    """The same error, with how to start the service and what can be seen without it."""
    text = f"{exc}\nstart it with {start_command(config)}; `drainer scan` counts the backlog without it"
    if config is None and not DEFAULT_PATH.is_file():
        text += f" (there is no {DEFAULT_PATH}; name your settings with --config FILE)"
    return ServiceNotRunning(text)


def start_command(config: Path | None) -> str:
    return f"`systemctl start drainer` or `drainer run{f' --config {config}' if config else ''}`"


def print_json(value: BaseModel | dict[str, object]) -> None:
    """One object on standard output, indented for a person."""
    plain = value.model_dump(mode="json") if isinstance(value, BaseModel) else cleaned(value)
    print(json.dumps(plain, indent=2 if sys.stdout.isatty() else None))


def wants_colour() -> bool:
    """Whether standard output is a terminal that may be coloured (https://no-color.org)."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def print_folded(text: str, stream: TextIO | None = None) -> None:
    """Print to standard output, or to `stream`. A terminal would break long lines within words, so there they are broken
    between words; a file or pipe gets the lines as they are, for grep."""
    stream = stream or sys.stdout
    if not stream.isatty():
        print(text, file=stream)
        return
    width = max(terminal_width(stream), 20)
    for line in text.split("\n"):
        print("\n".join(_folded(line, width)), file=stream)


def _folded(line: str, width: int) -> list[str]:
    """The line, or its pieces: what stands in cells before the last one stays as it is, and the pieces are indented."""
    if columns(line) <= width:
        return [line]
    cells = _CELLS.match(line)
    before = cells.group() if cells else ""
    if len(before) + _NARROWEST_LAST_CELL > width:
        before = line[: len(line) - len(line.lstrip())]
    first = _FIRST_CELL.match(before)
    hanging = len(first.group()) if first and len(first.group()) <= _WIDEST_HANGING else 2
    return wrapped(line[len(before) :], width, before, " " * hanging)


def terminal_width(stream: TextIO | None = None) -> int:
    """Columns of the terminal that standard output or `stream` is; COLUMNS counts, and a pipe is 80 wide."""
    given = os.environ.get("COLUMNS", "")
    if given.isdecimal() and int(given) > 0:
        return int(given)
    try:
        return os.get_terminal_size((stream or sys.stdout).fileno()).columns or 80
    except (OSError, ValueError):
        return 80


def table_width() -> int | None:
    """As terminal_width, but None into a pipe or file: there is no right side to cut at."""
    given = os.environ.get("COLUMNS", "")
    return terminal_width() if sys.stdout.isatty() or given.isdecimal() else None


def parse_duration(text: str) -> float:
    try:
        return duration_s(text)
    except ValueError as exc:
        raise typer.BadParameter(f"{text!r} is {exc}") from exc


def parse_rate(text: str) -> float | str:
    """A rate per second, or "unlimited"."""
    try:
        per_s = rate_per_s(text)
    except ValueError as exc:
        raise typer.BadParameter(f"{text!r} is {exc}") from exc
    return "unlimited" if per_s is None else per_s
