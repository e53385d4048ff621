"""`drainer check`: a plugin for Icinga, Nagios and other monitors that run such plugins.

In    the queue directory, the filesystems, Mailman's processes; the service, if it answers
Out   a plugin's lines and exit status: 0 OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN; nothing of Mailman's is changed

A plugin runs as a user of its own. A thing it cannot read is UNKNOWN with the reason; the others are judged all the same.
"""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from drainer.cli.check_measures import measured
from drainer.cli.options import ConfigOption, parse_duration
from drainer.cli.queue_settings import configured_queue_dir, settings_for
from drainer.errors import DrainerError
from drainer.report.check import DEFAULTS, Measure, PluginState, check_result, for_a_person, thresholds, unknown
from drainer.text.wording import duration

_UsageError: type[Exception] = typer.BadParameter.__mro__[1]
"""click's, or that of the copy of click inside typer."""


class PluginCommand(TyperCommand):
    """A wrong option is UNKNOWN; the 2 it would be otherwise means CRITICAL to a monitor."""

    def make_context(self, *arguments: Any, **more: Any) -> Any:
        try:
            return super().make_context(*arguments, **more)
        except _UsageError as exc:
            print(unknown(str(exc)))
            raise typer.Exit(PluginState.UNKNOWN) from exc


def check_command(
    warning: Annotated[
        list[str] | None,
        typer.Option("-w", "--warning", metavar="NAME=RANGE", help="WARNING outside of it. As often as needed."),
    ] = None,
    critical: Annotated[
        list[str] | None, typer.Option("-c", "--critical", metavar="NAME=RANGE", help="CRITICAL outside of it.")
    ] = None,
    queue_dir: Annotated[
        Path | None,
        typer.Option(
            "--queue-dir", metavar="D", readable=False, help="Mailman's queue directory; needs no settings file."
        ),
    ] = None,
    state_file: Annotated[
        Path | None,
        typer.Option(
            "--state-file",
            metavar="FILE",
            readable=False,
            help="Remembers what was seen: then out.standstill is known.",
        ),
    ] = None,
    timeout: Annotated[str, typer.Option("-t", "--timeout", metavar="DURATION", help="UNKNOWN after this.")] = "10s",
    config: ConfigOption = None,
) -> None:
    limit_s = _limit_s(timeout)
    finished: list[tuple[PluginState, list[str]]] = []

    def check() -> None:
        finished.append(_checked(queue_dir, config, state_file, warning or [], critical or [], limit_s))

    # A thread: a filesystem that hangs (NFS, a dying disk) holds a system call that no signal ends.
    thread = threading.Thread(target=check, daemon=True)
    thread.start()
    thread.join(limit_s)
    if thread.is_alive():
        print(unknown(f"no result within {duration(limit_s)} (--timeout)"), flush=True)
        os._exit(PluginState.UNKNOWN)
    if not finished:
        print(unknown("the check itself failed"))
        raise typer.Exit(PluginState.UNKNOWN)
    state, lines = finished[0]
    print("\n".join(for_a_person(lines) if sys.stdout.isatty() else lines), flush=True)
    raise typer.Exit(state)


def _help() -> str:
    names = [
        f"  {name:<20}{warning or '-':<9}{critical or '-'}" for name, (warning, critical) in sorted(DEFAULTS.items())
    ]
    return "\n".join(
        [
            "Is mail on its way? A plugin for Icinga and Nagios; works with and without the service.",
            "",
            "\b",
            "drainer check",
            "drainer check --queue-dir /var/lib/mailman/qfiles -w out.entries=200",
            "drainer check -c queue.inodes=@0:8 -w held.entries=   an empty range never alerts",
            "",
            "Exit status: 0 OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN. Ranges: 10 alerts above 10, 10: below 10, 10:20 outside,",
            "@10:20 within; ~ is minus infinity. Ages take 90s, 10m, 2h, 1d; bytes and inodes are percent free.",
            "",
            "\b",
            "  name                warning  critical",
            *names,
            "",
            "QUEUE.entries and QUEUE.age go with every directory in Mailman's queue directory.",
        ]
    )


check_command.__doc__ = _help()


def _limit_s(timeout: str) -> float:
    try:
        limit_s = float(timeout) if timeout.replace(".", "", 1).isdecimal() else parse_duration(timeout)
    except _UsageError as exc:
        limit_s = 0.0
        print(unknown(f"--timeout: {exc}"))
        raise typer.Exit(PluginState.UNKNOWN) from exc
    if not 0 < limit_s <= threading.TIMEOUT_MAX:
        print(unknown(f"--timeout: {timeout!r} is no time to wait"))
        raise typer.Exit(PluginState.UNKNOWN)
    return limit_s


def _checked(
    queue_dir: Path | None,
    config: Path | None,
    state_file: Path | None,
    warning: list[str],
    critical: list[str],
    limit_s: float,
) -> tuple[PluginState, list[str]]:
    """The state, and the lines to print."""
    try:
        limits = thresholds(warning, critical)
        settings, _ = settings_for(queue_dir, config)
        directory = queue_dir or configured_queue_dir(config)
        measures, headline = measured(directory, settings, state_file, limit_s / 2)
    except (DrainerError, ValueError) as exc:
        return PluginState.UNKNOWN, [unknown(str(exc))]
    asked = {option.partition("=")[0] for option in (*warning, *critical)}
    missing = sorted(asked - {measure.name for measure in measures})
    measures += [Measure(name, None, _why_missing(name)) for name in missing]
    return check_result(measures, limits, headline)


def _why_missing(name: str) -> str:
    if name == "out.standstill":
        return "known with --state-file only"
    if name.startswith(("drain.", "doubt.")):
        return "known while the service runs only"
    return "nothing there to measure"
