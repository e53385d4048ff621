"""A recorded drain: one row per interval.

In    CSV text with one header line and the columns below; other columns are ignored
Out   TraceRow values, in order
Pure  no file is read

    t_s                     seconds, rising; the end of the interval, when the row was written
    arrived_entries         in the interval; in the first row, the backlog at the start
    arrived_recipients
    finished_entries        in the interval
    finished_recipients
    limit_recipients_per_s  in force; empty: none; 0: paused
    state                   optional: "paused" or another of the service's words; empty: draining
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import get_args

from drainer.errors import UsageError
from drainer.estimate.eta import ServiceState

COUNTS = ("arrived_entries", "arrived_recipients", "finished_entries", "finished_recipients")
REQUIRED = ("t_s", *COUNTS, "limit_recipients_per_s")
STATES: dict[str, ServiceState] = {
    "": "draining",
    "stalled": "draining",
    "growing": "draining",
    "measuring": "draining",
    "done": "idle",
    **{word: word for word in get_args(ServiceState)},
}
"""Words of the service, and of its estimate as states of the service: the replay makes its own estimates."""


@dataclass(frozen=True, slots=True)
class TraceRow:
    t_s: float
    arrived_entries: int
    arrived_recipients: int
    finished_entries: int
    finished_recipients: int
    limit_recipients_per_s: float | None
    state: ServiceState


def read_trace(lines: Iterable[str]) -> list[TraceRow]:
    """The rows of a trace. Raises UsageError with the line, what is wrong in it, and what would be right."""
    reader = csv.DictReader(lines, restkey="", restval=None, skipinitialspace=True)
    try:
        return _rows(reader)
    except csv.Error as exc:
        raise UsageError(
            f"line {reader.line_num}: not CSV: {exc}; right would be plain text, fields apart by ,"
        ) from exc


def _rows(reader: csv.DictReader[str]) -> list[TraceRow]:
    names = [name.strip() for name in reader.fieldnames or ()]
    if missing := [name for name in REQUIRED if name not in names]:
        raise UsageError(f"line 1: column {missing[0]} is missing; right would be a header with {','.join(REQUIRED)}")
    reader.fieldnames = names
    rows: list[TraceRow] = []
    entries = recipients = 0
    for fields in reader:
        at = f"line {reader.line_num}: "
        if "" in fields or None in fields.values():
            got = sum(value is not None for name, value in fields.items() if name) + len(fields.get("") or ())
            raise UsageError(f"{at}{got} fields; right would be {len(names)}, as in the header")
        t_s = _number(fields["t_s"], f"{at}t_s", "seconds")
        if rows and t_s <= rows[-1].t_s:
            raise UsageError(f"{at}t_s = {t_s:g} is not later than {rows[-1].t_s:g}; right would be rising times")
        arrived_entries, arrived, finished_entries, finished = (_count(fields[name], at, name) for name in COUNTS)
        entries += arrived_entries - finished_entries
        recipients += arrived - finished
        for name, left in (("finished_entries", entries), ("finished_recipients", recipients)):
            if left < 0:
                raise UsageError(f"{at}{name} is {-left} more than there was; right would be at most what had arrived")
        limit = fields["limit_recipients_per_s"].strip()
        word = (fields.get("state") or "").strip()
        if word not in STATES:
            raise UsageError(
                f"{at}state = {word!r}; right would be one of {', '.join(filter(None, STATES))}, or nothing"
            )
        limit_per_s = (
            _number(limit, f"{at}limit_recipients_per_s", "recipients per second, 0 or more, or nothing")
            if limit
            else None
        )
        if limit_per_s is not None and limit_per_s < 0:
            raise UsageError(f"{at}limit_recipients_per_s = {limit}; right would be 0 or more, or nothing for no limit")
        rows.append(TraceRow(t_s, arrived_entries, arrived, finished_entries, finished, limit_per_s, STATES[word]))
    if not rows:
        raise UsageError("line 2: there are no rows; right would be one per interval")
    return rows


def _number(text: str, where: str, right: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise UsageError(f"{where} = {text!r} is not a number; right would be {right}")
    return number


def _count(text: str, at: str, name: str) -> int:
    if not text.strip().isdecimal() or len(text) > 18:
        raise UsageError(f"{at}{name} = {text!r} is not a count; right would be a whole number, 0 or more")
    return int(text)
