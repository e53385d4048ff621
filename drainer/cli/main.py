"""`drainer`: the subcommands, and what each kind of error means for the exit status.

Exit status  0 done, 1 failed, 2 usage or settings, 3 service not running
"""

from __future__ import annotations

import errno
import importlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError
from typer.core import TyperGroup

from drainer import __version__
from drainer.cli.meant import as_meant
from drainer.cli.options import print_folded
from drainer.errors import DrainerError, ServiceNotRunning, SettingsError, UsageError
from drainer.files.access import advice_for
from drainer.text.validation import what_is_wrong

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


COMMANDS = {
    "run": "run:run_command",
    "scan": "scan:scan_subcommand",
    "status": "status:status_command",
    "eta": "eta:eta_command",
    "pause": "pause:pause_command",
    "resume": "pause:resume_command",
    "rate": "rate:rate_command",
    "entries": "entries:entries_command",
    "show": "entries:show_command",
    "hold": "hold:hold_command",
    "release": "hold:release_command",
    "drop": "hold:drop_command",
    "undo": "journal:undo_command",
    "journal": "journal:journal_command",
    "handback": "handback:handback_command",
    "check": "check:check_command",
    "report": "report:report_command",
    "import-log": "import_log:import_log_command",
    "accept-ledger": "accept_ledger:accept_ledger_command",
    "config": "config:config_command",
    "demo": "demo:demo_command",
}
"""Each with the function behind it, below drainer.cli, in the order of --help."""


def application(arguments: Sequence[str]) -> typer.Typer:
    """The command line with the subcommands these arguments may mean, or all of them where they name none or ask for help:
    the modules behind the others, and all that they need, are not loaded for a `drainer pause`."""
    app = typer.Typer(
        cls=_PlainErrors,
        help=_ABOUT,
        add_completion=False,
        invoke_without_command=True,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_no_command)
    asks_for_help = not arguments or arguments[0] in ("-h", "--help")
    meant = [] if asks_for_help else [name for name in COMMANDS if name in arguments]
    for name in meant or COMMANDS:
        module_name, _, function_name = COMMANDS[name].partition(":")
        module = importlib.import_module(f"drainer.cli.{module_name}")
        # Usage errors of a monitoring plugin have their own exit status.
        more = {"cls": module.PluginCommand} if name == "check" else {}
        app.command(name, **more)(getattr(module, function_name))
    app.command("version")(version_command)
    return app


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
        application(sys.argv[1:])()
    except DrainerError as exc:
        print_folded(f"drainer: {exc}", sys.stderr)
        sys.exit(exit_status(exc))
    except OSError as exc:
        # Nobody foresaw that this file may be out of reach: the path, and what would be right, say more than a traceback.
        advice = (
            advice_for(Path(os.fsdecode(exc.filename)), writing=exc.errno == errno.EROFS) if _names_path(exc) else None
        )
        if advice is None:
            raise
        print_folded(f"drainer: {os.fsdecode(exc.filename)}: {exc.strerror}; {advice.text()}", sys.stderr)
        sys.exit(FAILED)


def _names_path(error: OSError) -> bool:
    return error.errno in (errno.EACCES, errno.EPERM, errno.EROFS) and isinstance(error.filename, str | bytes)


def exit_status(error: DrainerError) -> int:
    if isinstance(error, ServiceNotRunning):
        return NOT_RUNNING
    if isinstance(error, SettingsError | UsageError):
        return USAGE
    return FAILED
