"""The figures of every place that shows them, read as a person reads them, and where they differ.

In    what each place said while nothing moved
Out   place -> figure -> number; the disagreements
"""

from __future__ import annotations

import json
import re
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.promtool import series
from tests.scenarios.running import drainer

Figures = Mapping[str, float | None]
"""None: the place has no such figure now."""

_NUMBER = r"([0-9][0-9,]*)"
_METRICS = {
    "backlog entries": "drainer_backlog_entries",
    "backlog recipients": "drainer_backlog_recipients",
    "deferred recipients": "drainer_backlog_deferred_recipients",
    "held entries": "drainer_held_entries",
    "in doubt recipients": "drainer_in_doubt_recipients",
    "delivered entries": "drainer_delivered_entries_total",
    "delivered recipients": "drainer_delivered_recipients_total",
    "suppressed entries": "drainer_suppressed_entries_total",
    "suppressed recipients": "drainer_suppressed_recipients_total",
    "bounced recipients": "drainer_bounced_recipients_total",
}
_STATUS_TEXT = {
    "backlog entries": rf"^Backlog +{_NUMBER} entr",
    "backlog recipients": rf"^Backlog [^\n]*?, {_NUMBER} recipient",
    "deferred recipients": rf"^Deferred +{_NUMBER} recipient",
    "held entries": rf"held: {_NUMBER} entr",
    "in doubt recipients": rf"^In doubt +{_NUMBER} recipient",
    "delivered entries": rf"^Delivered +{_NUMBER} entr",
    "delivered recipients": rf"^Delivered [^\n]*?, {_NUMBER} recipient",
    "suppressed entries": rf"^Duplicates suppressed: {_NUMBER} entr",
    "suppressed recipients": rf"^Duplicates [^\n]*?, {_NUMBER} recipient",
    "bounced recipients": rf"^Bounced +{_NUMBER} recipient",
}
_ONE_LINE = {
    "backlog entries": rf"; {_NUMBER} entr\w+, ",
    "backlog recipients": rf"{_NUMBER} recipients? left",
    "held entries": rf"held: {_NUMBER} entr",
    "in doubt recipients": rf"in doubt: {_NUMBER} recipient",
}
_PAGE = {
    "backlog entries": r"<dt>Backlog</dt>.*?<dd class=\"note\">" + _NUMBER + " entr",
    "backlog recipients": rf"<dt>Backlog</dt><dd><b>{_NUMBER}</b>",
    "deferred recipients": rf"<dt>Deferred</dt><dd><b>{_NUMBER}</b>",
    "held entries": rf"<dt>Held for a person</dt><dd><b>{_NUMBER}</b>",
    "in doubt recipients": rf"<dt>In doubt</dt><dd><b>{_NUMBER}</b>",
    "delivered entries": r"<dt>Delivered</dt>.*?<dd class=\"note\">" + _NUMBER + " entr",
    "delivered recipients": rf"<dt>Delivered</dt><dd><b>{_NUMBER}</b>",
    "suppressed entries": rf"<dt>Duplicates suppressed</dt><dd><b>{_NUMBER}</b>",
    "suppressed recipients": r"<dt>Duplicates suppressed</dt>.*?<dd class=\"note\">" + _NUMBER + " recipient",
    "bounced recipients": rf"<dt>Bounced</dt><dd><b>{_NUMBER}</b>",
}
_REPORT = {
    "delivered entries": rf"Delivered: {_NUMBER} entr",
    "delivered recipients": rf"Delivered: .*? to {_NUMBER} recipient",
    "suppressed recipients": rf"Suppressed: {_NUMBER} second",
    "suppressed entries": rf"already, {_NUMBER} whole",
    "held entries": rf"{_NUMBER} entr\w+ held for a person",
    "bounced recipients": rf"{_NUMBER} recipients? could not be delivered to",
}
_CHECK = {
    "held entries": r"held.entries=([0-9]+)",
    "in doubt recipients": r"doubt.recipients=([0-9]+)",
}


@dataclass(slots=True)
class Statements:
    """By each place, in its own form. systemd: the newest STATUS=; "" without a listener."""

    status: dict[str, Any]
    status_text: str
    metrics: bytes
    page: str
    check: str
    report: dict[str, Any]
    report_text: str
    systemd: str = ""


def asked(settings: Path, web: str, systemd: str = "") -> Statements:
    """Every place asked, one after the other. web: address of the page."""

    def command(*arguments: str) -> str:
        return drainer(*arguments, "--config", settings).stdout

    def page(path: str) -> bytes:
        with urllib.request.urlopen(f"{web}{path}", timeout=60) as reply:
            found: bytes = reply.read()
            return found

    return Statements(
        status=json.loads(command("status", "--json")),
        status_text=command("status"),
        metrics=page("/metrics"),
        page=page("/").decode(),
        check=command("check"),
        report=json.loads(command("report", "--format", "json")),
        report_text=command("report"),
        systemd=systemd,
    )


def figures(said: Statements) -> dict[str, Figures]:
    """Place -> figure -> number. Of a figure that a place shows only when it is not zero, none is zero."""
    measured = series(said.metrics)
    shown = {
        "status --json": _of_json(said.status["backlog"], said.status["done"]),
        "metrics": {name: measured.get((metric, ())) for name, metric in _METRICS.items()}
        # A counter never falls: who is tried again stays in it, and is counted beside it.
        | {
            "bounced recipients": measured["drainer_bounced_recipients_total", ()]
            - measured["drainer_undone_recipients_total", ()]
        },
        "status": _read(_STATUS_TEXT, said.status_text),
        "page": _read(_PAGE, said.page),
        "check": _read(_CHECK, said.check),
        "report --format json": _of_json(said.report["backlog"], said.report["done"]),
        "report": _read(_REPORT, said.report_text.replace("\\", "")),
    }
    if said.systemd:
        shown["systemd"] = _read(_ONE_LINE, said.systemd)
    return shown


def disagreements(shown: Mapping[str, Figures]) -> list[str]:
    """Where a place says another number than `drainer status --json`."""
    first, *others = shown
    return [
        f"{name}: {first} says {shown[first][name]}, {place} says {number}"
        for place in others
        for name, number in shown[place].items()
        if number != shown[first][name]
    ]


def _read(patterns: Mapping[str, str], text: str) -> Figures:
    found = {name: re.search(pattern, text, re.MULTILINE | re.DOTALL) for name, pattern in patterns.items()}
    return {name: float(match[1].replace(",", "")) if match else 0.0 for name, match in found.items()}


def _of_json(backlog: Mapping[str, Any], done: Mapping[str, Any]) -> Figures:
    return {
        "backlog entries": backlog["entries"],
        "backlog recipients": backlog["recipients"],
        "deferred recipients": backlog["deferred_recipients"],
        "held entries": backlog["held_entries"],
        "in doubt recipients": backlog["in_doubt_recipients"],
        "delivered entries": done["delivered_entries"],
        "delivered recipients": done["delivered_recipients"],
        "suppressed entries": done["suppressed_entries"],
        "suppressed recipients": done["suppressed_recipients"],
        "bounced recipients": done["bounced_recipients"],
    }
