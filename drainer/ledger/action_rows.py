"""The ledger's rows of actions and their steps.

In    a connection: the reader's, or the writer's inside its transaction; values of actions.py
Out   rows, and back
Not here  what a step does to deliveries (outcomes.py)
"""

from __future__ import annotations

import sqlite3
import zlib

from drainer.ledger.actions import Action, NewAction, Step, StepKind, step_as_text, undone_along, with_text
from drainer.ledger.columns import Stored, filebase_in, stored_filebase, stored_text, text_in
from drainer.ledger.records import JournalLine

_ACTIONS = (
    "SELECT j.id, j.at, j.by, j.action, j.detail, a.number, a.reason, a.undoes, a.depth, a.ended, a.payload,"
    " (SELECT count(*) FROM steps s WHERE s.number = j.id),"
    " (SELECT count(s.undone_by) FROM steps s WHERE s.number = j.id)"
    " FROM journal j LEFT JOIN actions a ON a.number = j.id"
)


def write_journal(writer: sqlite3.Connection, queue: int, line: JournalLine, action: NewAction | None) -> int:
    """Returns the line's number."""
    cursor = writer.execute(
        "INSERT INTO journal (queue, at, by, action, detail) VALUES (?, ?, ?, ?, ?)",
        (queue, line.at_s, stored_text(line.by), stored_text(line.action), stored_text(line.detail)),
    )
    number = int(cursor.lastrowid or 0)
    if action is not None:
        writer.execute(
            "INSERT INTO actions (number, reason, undoes, depth, ended, payload) VALUES (?, ?, ?, ?, ?, ?)",
            (number, stored_text(action.reason), action.undoes, action.depth, action.ended_s, action.payload),
        )
    return number


def end_action(writer: sqlite3.Connection, number: int, detail: str, at_s: float | None) -> None:
    writer.execute("UPDATE journal SET detail = ? WHERE id = ?", (stored_text(detail), number))
    writer.execute("UPDATE actions SET ended = ? WHERE number = ?", (at_s, number))


def write_step(writer: sqlite3.Connection, step: Step | None) -> None:
    if step is None:
        return
    filebase = stored_filebase(step.filebase)
    text = step_as_text(step).encode("ascii")
    writer.execute(
        "INSERT OR REPLACE INTO steps (number, filebase, kind, takes_back, undone_by, before) VALUES (?, ?, ?, ?, ?, ?)",
        (step.number, filebase, step.kind.value, step.takes_back, step.undone_by, zlib.compress(text)),
    )
    for number, undone in undone_along(_chain(writer, step.takes_back, filebase), step.number):
        writer.execute("UPDATE steps SET undone_by = ? WHERE number = ? AND filebase = ?", (undone, number, filebase))


def _chain(writer: sqlite3.Connection, number: int | None, filebase: Stored) -> list[int]:
    """The step on this entry of that action, the one it took back, and so on."""
    found: list[int] = []
    while number is not None:
        row = writer.execute(
            "SELECT takes_back FROM steps WHERE number = ? AND filebase = ?", (number, filebase)
        ).fetchone()
        if row is None:
            break
        found.append(number)
        number = row[0]
    return found


def journal(reader: sqlite3.Connection, queue: int, limit: int) -> list[JournalLine]:
    rows = reader.execute(
        "SELECT at, by, action, detail FROM journal WHERE queue = ? ORDER BY id DESC LIMIT ?", (queue, limit)
    ).fetchall()
    return [JournalLine(at, text_in(by), text_in(action), text_in(detail)) for at, by, action, detail in rows[::-1]]


def actions(reader: sqlite3.Connection, queue: int, limit: int) -> list[Action]:
    rows = reader.execute(f"{_ACTIONS} WHERE j.queue = ? ORDER BY j.id DESC LIMIT ?", (queue, limit)).fetchall()
    return [_action(row) for row in reversed(rows)]


def action(reader: sqlite3.Connection, queue: int, number: int) -> Action | None:
    row = reader.execute(f"{_ACTIONS} WHERE j.id = ? AND j.queue = ?", (number, queue)).fetchone()
    return None if row is None else _action(row)


def steps(reader: sqlite3.Connection, number: int) -> list[Step]:
    rows = reader.execute(
        "SELECT filebase, kind, takes_back, undone_by, before FROM steps WHERE number = ?", (number,)
    ).fetchall()
    found = []
    for filebase, kind, takes_back, undone_by, before in rows:
        step = Step(number, filebase_in(filebase), StepKind(kind), takes_back=takes_back, undone_by=undone_by)
        found.append(with_text(step, zlib.decompress(before).decode("ascii")))
    return sorted(found, key=lambda step: step.filebase)


def steps_after(reader: sqlite3.Connection, queue: int, number: int) -> dict[str, int]:
    rows = reader.execute(
        "SELECT filebase, max(number) FROM steps WHERE number > ? AND number IN (SELECT id FROM journal WHERE queue = ?)"
        " GROUP BY filebase",
        (number, queue),
    )
    return {filebase_in(filebase): int(last) for filebase, last in rows}


def forget(writer: sqlite3.Connection, queue: int, older_than_s: float) -> None:
    """Steps of actions older than that; their lines of the journal stay."""
    writer.execute(
        "DELETE FROM steps WHERE number IN (SELECT id FROM journal WHERE at < ? AND queue = ?)", (older_than_s, queue)
    )


def _action(row: tuple[object, ...]) -> Action:
    number, at_s, by, verb, detail, recorded, reason, undoes, depth, ended, payload, entries, undone = row
    new = None
    if recorded is not None:
        new = NewAction(text_in(reason), undoes, depth, ended, payload)  # type: ignore[arg-type]
    return Action(number, at_s, text_in(by), text_in(verb), text_in(detail), new, entries, undone)  # type: ignore[arg-type]
