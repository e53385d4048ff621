"""`drainer status`: where it stands, once or live."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from drainer.cli.options import (
    ConfigOption,
    JsonOption,
    ask,
    print_json,
    terminal_width,
    wants_colour,
)
from drainer.errors import UsageError
from drainer.report.status_text import status_line, status_lines

if TYPE_CHECKING:
    from drainer.control.client import ControlClient


def status_command(
    config: ConfigOption = None,
    as_json: JsonOption = False,
    watch: Annotated[
        bool, typer.Option("--watch", help="Keep showing it; into a file or pipe, one line each time.")
    ] = False,
    every: Annotated[float, typer.Option("--every", min=0.1, metavar="SECONDS", help="With --watch: how often.")] = 1.0,
    lists: Annotated[int, typer.Option("--lists", min=0, metavar="N", help="Rows of the table of lists.")] = 10,
) -> None:
    """Show where the drain stands: state and reason, backlog, finish time, rate, guards.

    \b
    drainer status
    drainer status --watch
    drainer status --json | jq .eta
    """
    if watch and as_json:
        raise UsageError("--watch and --json do not go together; ask with --json as often as needed")
    if watch:
        try:
            ask(config, lambda service: _watch(service, every, lists))
        except KeyboardInterrupt:
            raise typer.Exit from None
        return
    snapshot = ask(config, lambda service: service.status())
    if as_json:
        print_json(snapshot)
        return
    print("\n".join(status_lines(snapshot, terminal_width(), lists=lists, colour=wants_colour())).rstrip())


async def _watch(service: ControlClient, every_s: float, lists: int) -> None:
    """Show the status again and again until interrupted. Raises ServiceNotRunning when the service ends."""
    if not sys.stdout.isatty():
        while True:
            print(status_line(await service.status()), flush=True)
            await asyncio.sleep(every_s)
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    console = Console(highlight=False)
    with Live(console=console, auto_refresh=False, vertical_overflow="crop") as live:
        while True:
            snapshot = await service.status()
            lines = status_lines(snapshot, console.width, lists=lists, colour=wants_colour())
            live.update(Text.from_ansi("\n".join(lines)), refresh=True)
            await asyncio.sleep(every_s)
