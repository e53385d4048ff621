"""`drainer status`: where it stands, once or live."""

from __future__ import annotations

from typing import Annotated

import typer

from drainer.cli.consult import consult
from drainer.cli.options import ConfigOption, JsonOption
from drainer.cli.output import print_json, terminal_width, wants_colour
from drainer.cli.service import ask
from drainer.errors import UsageError
from drainer.report.terminal.status import status_lines

WATCH_ANSWER_WITHIN_S = 10.0
"""Without an answer for this time, the watch says so."""


def status_command(
    config: ConfigOption = None,
    as_json: JsonOption = False,
    watch: Annotated[
        bool,
        typer.Option("--watch", help="Keep showing it until Ctrl-C or q; into a file or pipe, one line each time."),
    ] = False,
    every: Annotated[
        float | None,
        typer.Option(
            "--every",
            min=0.1,
            metavar="SECONDS",
            show_default=False,
            help="With --watch: how often.  [default: 1; into a file or pipe 10]",
        ),
    ] = None,
    lists: Annotated[int, typer.Option("--lists", min=0, metavar="N", help="Rows of the table of lists.")] = 10,
) -> None:
    """Show where the drain stands: state and reason, backlog, finish time, rate, guards.

    If the service does not run, the figures come from ledger and queue, and the output says of which time they are.

    \b
    drainer status
    drainer status --watch
    drainer status --json | jq .eta
    """
    if watch and as_json:
        raise UsageError("--watch and --json do not go together; ask with --json as often as needed")
    if watch:
        # Here, since only a terminal needs what it imports.
        from drainer.cli.watch import watch as keep_watching

        try:
            ask(config, lambda service: keep_watching(service, every, lists), answer_within_s=WATCH_ANSWER_WITHIN_S)
        except KeyboardInterrupt:
            raise typer.Exit from None
        return
    snapshot = consult(config, lambda service: service.status())
    if as_json:
        print_json(snapshot)
        return
    print("\n".join(status_lines(snapshot, terminal_width(), lists=lists, colour=wants_colour())).rstrip())
