"""`drainer demo`: the tour."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def demo_command(
    mails: Annotated[int, typer.Option("--mails", min=1, metavar="N", help="Original mails in the sample.")] = 2500,
    messages: Annotated[str, typer.Option("--messages", metavar="R", help="Rate limit of the drain.")] = "400/s",
    directory: Annotated[
        Path | None, typer.Option("--directory", metavar="D", help="Build it here and keep it.", show_default=False)
    ] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Keep the temporary directory.")] = False,
) -> None:
    """Show it at work: a sample outage drained into an SMTP sink on this machine, and checked. No root, no network.

    \b
    drainer demo
    drainer demo --mails 500 --keep
    """
    from drainer.demo.tour import run_demo

    raise typer.Exit(run_demo(mails, messages, directory, keep))
