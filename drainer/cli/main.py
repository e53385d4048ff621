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
from typing import Annotated, Any, NamedTuple

import typer
from typer.core import TyperGroup

from drainer import __version__
from drainer.cli.meant import as_meant
from drainer.cli.output import print_folded
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
    """Says what is wrong with an option, with the value given and without pydantic's words."""

    def parse_args(self, context: Any, arguments: list[str]) -> list[str]:
        return super().parse_args(context, as_meant(arguments))

    def invoke(self, *arguments: Any, **more: Any) -> Any:
        try:
            return super().invoke(*arguments, **more)
        except typer.BadParameter as exc:
            if exc.__cause__ is not None:
                from pydantic import ValidationError  # here, since `drainer --help` needs no pydantic

                if not isinstance(exc.__cause__, ValidationError):
                    raise
                found = exc.__cause__.errors()[0]
                own = found["type"] == "value_error"
                exc.message = what_is_wrong(found) if own else f"{found['input']!r}: {what_is_wrong(found)}"
            raise


class _Subcommand(NamedTuple):
    """place  the function behind it, below drainer.cli; line  what `drainer --help` says of it"""

    place: str
    line: str


COMMANDS = {
    "run": _Subcommand("run:run_command", "Run the service: take the queue into custody and drain it."),
    "scan": _Subcommand("scan:scan_subcommand", "Count what is in the queue; say when it would be done."),
    "status": _Subcommand("status:status_command", "Show where the drain stands, once or live."),
    "eta": _Subcommand("eta:eta_command", "Show when the backlog is drained; try another rate."),
    "pause": _Subcommand("pause:pause_command", "Stop delivering; what is being sent is finished first."),
    "resume": _Subcommand("pause:resume_command", "Go on delivering after a pause."),
    "rate": _Subcommand("rate:rate_command", "Show the limits, or change them from this moment on."),
    "domain": _Subcommand("domain:domain_command", "Show the ceilings of recipient domains, or set one."),
    "entries": _Subcommand("entries:entries_command", "List the entries in custody."),
    "show": _Subcommand("entries:show_command", "Show one entry, or what became of a message."),
    "hold": _Subcommand("hold:hold_command", "Set entries aside until released."),
    "release": _Subcommand("hold:release_command", "Let held or deferred entries go on at once."),
    "drop": _Subcommand("hold:drop_command", "Give entries up: their recipients will not get them."),
    "undo": _Subcommand("journal:undo_command", "Take back what an operator did."),
    "journal": _Subcommand("journal:journal_command", "List what operators and the service decided, and why."),
    "handback": _Subcommand("handback:handback_command", "Give every entry in custody back to Mailman's queue."),
    "check": _Subcommand("check:check_command", "Check that mail is on its way, for Icinga and Nagios."),
    "report": _Subcommand("report:report_command", "Write the incident report of the drain."),
    "import-log": _Subcommand("import_log:import_log_command", "Learn from logs what was delivered before."),
    "accept-ledger": _Subcommand(
        "accept_ledger:accept_ledger_command", "Drain with a ledger that the service refused."
    ),
    "config": _Subcommand("config:config_command", "Show the settings in force, or check them."),
    "demo": _Subcommand("demo:demo_command", "Show it at work: drain a sample queue into an SMTP sink."),
}
"""In the order of --help."""


def application(arguments: Sequence[str]) -> typer.Typer:
    """The command line. Only the subcommand that these arguments may mean is loaded, with all that it needs; of the others
    `drainer --help`, and the advice on a misspelt one, need no more than the name and a line."""
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
        if not meant:
            app.command(name, short_help=COMMANDS[name].line)(_not_loaded)
            continue
        module_name, _, function_name = COMMANDS[name].place.partition(":")
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


def _not_loaded() -> None:
    """Stands for a subcommand that the arguments do not name, so it is never run."""


def version_command() -> None:
    """Show the version, and whether pure Python or a compiled core runs."""
    from drainer.start.build_in_use import build_in_use  # here, since `drainer --help` needs it as little

    print(f"drainer {__version__}")
    print(build_in_use().words)


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
        # No code expected this file to be out of reach. The path and the remedy say more than a traceback.
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
