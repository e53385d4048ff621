"""`drainer`: the subcommands, and what each kind of error means for the exit status.

Exit status  0 done, 1 failed, 2 usage or settings, 3 service not running
"""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError
from typer.core import TyperGroup

from drainer import __version__
from drainer.cli.accept_ledger import accept_ledger_command
from drainer.cli.check import PluginCommand, check_command
from drainer.cli.config import config_command
from drainer.cli.demo import demo_command
from drainer.cli.entries import entries_command, show_command
from drainer.cli.eta import eta_command
from drainer.cli.handback import handback_command
from drainer.cli.hold import drop_command, hold_command, release_command
from drainer.cli.import_log import import_log_command
from drainer.cli.journal import journal_command, undo_command
from drainer.cli.meant import as_meant
from drainer.cli.pause import pause_command, resume_command
from drainer.cli.rate import rate_command
from drainer.cli.report import report_command
from drainer.cli.run import run_command
from drainer.cli.scan import scan_subcommand
from drainer.cli.status import status_command
from drainer.errors import DrainerError, ServiceNotRunning, SettingsError, UsageError
from drainer.mistakes import what_is_wrong
from drainer.reach import advice_for

FAILED, USAGE, NOT_RUNNING = 1, 2, 3

_ABOUT = """Drains a GNU Mailman outgoing queue after an outage: every recipient once, at a rate the MTA can bear, with an
honest finish time.

\b
drainer scan --queue-dir /var/lib/mailman3/queue   what is there? (changes nothing)
drainer run --config /etc/drainer/drainer.toml     the service
drainer status --watch                             how far is it?
drainer pause --for 10m --reason "disk"            stop for a while
drainer handback --yes                             give everything back to Mailman

Exit status: 0 done, 1 failed, 2 usage or settings, 3 service not running.
"""


class _PlainErrors(TyperGroup):
    """What is wrong with an option without pydantic's words around it, and with the value that was given."""

    def parse_args(self, context: Any, arguments: list[str]) -> list[str]:
        return super().parse_args(context, as_meant(arguments))

    def invoke(self, *arguments: Any, **more: Any) -> Any:
        try:
            return super().invoke(*arguments, **more)
        except typer.BadParameter as exc:
            if isinstance(exc.__cause__, ValidationError):
                found = exc.__cause__.errors()[0]
                own = found["type"] == "value_error"
                exc.message = what_is_wrong(found) if own else f"{found['input']!r}: {what_is_wrong(found)}"
            raise


app = typer.Typer(
    cls=_PlainErrors,
    help=_ABOUT,
    add_completion=False,
    invoke_without_command=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("run")(run_command)
app.command("scan")(scan_subcommand)
app.command("status")(status_command)
app.command("eta")(eta_command)
app.command("pause")(pause_command)
app.command("resume")(resume_command)
app.command("rate")(rate_command)
app.command("entries")(entries_command)
app.command("show")(show_command)
app.command("hold")(hold_command)
app.command("release")(release_command)
app.command("drop")(drop_command)
app.command("undo")(undo_command)
app.command("journal")(journal_command)
app.command("handback")(handback_command)
app.command("check", cls=PluginCommand)(check_command)
app.command("report")(report_command)
app.command("import-log")(import_log_command)
app.command("accept-ledger")(accept_ledger_command)
app.command("config")(config_command)
app.command("demo")(demo_command)


@app.callback()
def _no_command(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Show the version and exit.")] = False,
) -> None:
    if version:
        print(f"drainer {__version__}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        print(context.get_help())
        raise typer.Exit(USAGE)


@app.command("version")
def version_command() -> None:
    """Show the version."""
    print(f"drainer {__version__}")


def main() -> None:
    """The console script: runs one subcommand and leaves with its exit status."""
    for stream in (sys.stdout, sys.stderr):
        # List names and subjects may hold what the terminal's encoding lacks; that must not end a status report.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    try:
        app()
    except DrainerError as exc:
        print(f"drainer: {exc}", file=sys.stderr)
        sys.exit(exit_status(exc))
    except OSError as exc:
        # Nobody foresaw that this file may be out of reach: the path, and what would be right, say more than a traceback.
        advice = (
            advice_for(Path(os.fsdecode(exc.filename)), writing=exc.errno == errno.EROFS) if _names_path(exc) else None
        )
        if advice is None:
            raise
        print(f"drainer: {os.fsdecode(exc.filename)}: {exc.strerror}; {advice.text()}", file=sys.stderr)
        sys.exit(FAILED)


def _names_path(error: OSError) -> bool:
    return error.errno in (errno.EACCES, errno.EPERM, errno.EROFS) and isinstance(error.filename, str | bytes)


def exit_status(error: DrainerError) -> int:
    if isinstance(error, ServiceNotRunning):
        return NOT_RUNNING
    if isinstance(error, SettingsError | UsageError):
        return USAGE
    return FAILED
