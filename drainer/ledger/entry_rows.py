"""Entries of a queue that are deferred, or set aside for a person.

In    a connection: the reader's, or the writer's inside its transaction
Out   rows of `deferrals` and `holds`, and back
Not here  their recipients (settle_rows.py)
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any

from drainer.ledger.columns import Stored, filebase_in, stored_filebase, stored_text, text_in
from drainer.ledger.perhaps_known import PerhapsKnown
from drainer.ledger.records import Deferral, Hold

_DEFERRALS = "SELECT filebase, attempts, first_at, due, recipients, reply FROM deferrals WHERE queue = ?"
_HOLDS = "SELECT filebase, reason, detail, by, at FROM holds WHERE queue = ?"


def write_deferral(writer: sqlite3.Connection, perhaps: PerhapsKnown, queue: int, one: Deferral) -> None:
    filebase = stored_filebase(one.filebase)
    perhaps.add_entry(filebase)
    writer.execute(
        "INSERT OR REPLACE INTO deferrals (queue, filebase, attempts, first_at, due, recipients, reply)"
        " VALUES (?, ?, ?, ?, ?, ?, ?)",
        (
            queue, filebase, one.attempts, one.first_at_s, one.due_s, one.recipients, stored_text(one.reply),
        ),
    )  # fmt: skip


def deferrals(reader: sqlite3.Connection, queue: int) -> list[Deferral]:
    found = [_deferral(row) for row in reader.execute(_DEFERRALS, (queue,))]
    return sorted(found, key=lambda deferral: (deferral.due_s, deferral.filebase))


def deferral(reader: sqlite3.Connection, queue: int, filebase: str) -> Deferral | None:
    row = reader.execute(f"{_DEFERRALS} AND filebase = ?", (queue, stored_filebase(filebase))).fetchone()
    return None if row is None else _deferral(row)


def write_holds(writer: sqlite3.Connection, perhaps: PerhapsKnown, queue: int, holds: Sequence[Hold]) -> None:
    for one in holds:
        perhaps.add_entry(stored_filebase(one.filebase))
    writer.executemany(
        "INSERT OR REPLACE INTO holds (queue, filebase, reason, detail, by, at) VALUES (?, ?, ?, ?, ?, ?)",
        [
            (
                queue, stored_filebase(one.filebase), stored_text(one.reason), stored_text(one.detail),
                stored_text(one.by), one.at_s,
            )
            for one in holds
        ],
    )  # fmt: skip


def holds(reader: sqlite3.Connection, queue: int) -> list[Hold]:
    found = [_hold(row) for row in reader.execute(_HOLDS, (queue,))]
    return sorted(found, key=lambda hold: (hold.at_s, hold.filebase))


def hold(reader: sqlite3.Connection, queue: int, filebase: str) -> Hold | None:
    row = reader.execute(f"{_HOLDS} AND filebase = ?", (queue, stored_filebase(filebase))).fetchone()
    return None if row is None else _hold(row)


def forget_entry(writer: sqlite3.Connection, queue: int, filebase: Stored) -> None:
    """It is neither deferred nor set aside any more."""
    for table in ("holds", "deferrals"):
        writer.execute(f"DELETE FROM {table} WHERE queue = ? AND filebase = ?", (queue, filebase))


def _deferral(row: tuple[Any, ...]) -> Deferral:
    filebase, attempts, first_at, due, recipients, reply = row
    return Deferral(filebase_in(filebase), attempts, first_at, due, recipients, text_in(reply))


def _hold(row: tuple[Any, ...]) -> Hold:
    filebase, reason, detail, by, at = row
    return Hold(filebase_in(filebase), text_in(reason), text_in(detail), text_in(by), at)
