"""What more than one subcommand needs: common options, the way to the service, and how answers are printed."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer
from pydantic import BaseModel

from drainer.errors import ServiceNotRunning
from drainer.settings import Settings, duration_s, rate_per_s
from drainer.settings_file import DEFAULT_PATH, load_settings
from drainer.text.said import cleaned

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


def terminal_width() -> int:
    """Columns of the terminal; COLUMNS counts, and a pipe is 80 wide."""
    columns = os.environ.get("COLUMNS", "")
    if columns.isdecimal() and int(columns) > 0:
        return int(columns)
    try:
        return os.get_terminal_size(sys.stdout.fileno()).columns or 80
    except (OSError, ValueError):
        return 80


def table_width() -> int | None:
    """As terminal_width, but None into a pipe or file: there is no right side to cut at."""
    columns = os.environ.get("COLUMNS", "")
    return terminal_width() if sys.stdout.isatty() or columns.isdecimal() else None


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
