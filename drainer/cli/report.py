"""`drainer report`: the incident report, from the running service, or from its ledger when it does not run."""

from __future__ import annotations

import os
import sys
import time
from datetime import datetime
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from drainer.cli.consult import SILENT_AFTER_S
from drainer.cli.options import ConfigOption
from drainer.cli.service import ask, client_settings
from drainer.cli.times import past
from drainer.errors import DrainerError, ServiceNotRunning, ServiceSilent, SiteUnreadable

if TYPE_CHECKING:
    from drainer.report.incident.document import Incident
    from drainer.report.snapshot import SilentState

Format = Literal["markdown", "html", "json"]
_SUFFIXES: dict[str, Format] = {".html": "html", ".htm": "html", ".json": "json"}
_MODE = 0o640


def report_command(
    config: ConfigOption = None,
    form: Annotated[
        Format | None,
        typer.Option("--format", help="[default: as the name of --output says, else markdown]", show_default=False),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", metavar="FILE", help="Write it there instead of to standard output.")
    ] = None,
    since: Annotated[
        str | None,
        typer.Option(
            "--since",
            metavar="TIME",
            help='Without what was before: "06:00", "yesterday 18:00", "2026-01-31 18:00", "8h".',
        ),
    ] = None,
) -> None:
    """Write the incident report: what was found, what became of it, who did what, how good the forecasts were.

    The running service makes it. Afterwards it is made from the ledger, which is not changed.

    \b
    drainer report
    drainer report --output /tmp/incident.html
    drainer report --format json | jq .done
    drainer report --since "yesterday 18:00"     this outage, not the one before

    The counters are saved every half hour, and when the service starts or ends. A report begins with the last ones saved
    before the time asked for.
    """
    now = datetime.now().astimezone()
    since_s = None if since is None else past(since, now).timestamp()
    incident = incident_now(config, since_s)
    form = form or _SUFFIXES.get(output.suffix.lower() if output else "", "markdown")
    octets = rendered(incident, form)
    if output is None:
        sys.stdout.buffer.write(octets)
        sys.stdout.buffer.flush()
        return
    _write(output, octets)
    print(f"{output}: {len(octets):,} bytes, {'from the running service' if incident.live else 'from the ledger'}")


def incident_now(config: Path | None, since_s: float | None) -> Incident:
    """since_s: seconds since the epoch. Raises DrainerError where neither the service nor its ledger has it."""
    silent: SilentState
    why: DrainerError
    try:
        # The report of a long drain takes longer than other answers.
        ask(config, lambda service: service.status(), answer_within_s=SILENT_AFTER_S)
        return ask(config, lambda service: service.report(since_s))
    except ServiceNotRunning as exc:
        silent, why = "not_running", exc
    except ServiceSilent as exc:
        silent, why = "not_answering", exc
    from drainer.report.incident.from_ledger import incident_of

    try:
        return incident_of(client_settings(config).ledger, time.time(), since_s, silent)
    except SiteUnreadable as exc:
        raise type(why)(f"{why}\n{exc}") from exc


def rendered(incident: Incident, form: Format) -> bytes:
    match form:
        case "json":
            from drainer.control.replies import as_json

            return as_json(incident) + b"\n"
        case "html":
            from drainer.report.incident.html_page import html

            style = (resources.files("drainer.report.web") / "page.css").read_text("utf-8")
            return html(incident, style).encode("utf-8", "replace")
        case _:
            from drainer.report.incident.markdown import markdown

            return markdown(incident).encode("utf-8", "replace")


def _write(path: Path, octets: bytes) -> None:
    """Whole or not at all: written beside it, then renamed. It names recipients, so others may not read it."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _MODE)
        with os.fdopen(descriptor, "wb") as file:
            file.write(octets)
        beside.replace(path)
    except OSError as exc:
        beside.unlink(missing_ok=True)
        raise DrainerError(f"{path} cannot be written: {exc.strerror}") from exc
