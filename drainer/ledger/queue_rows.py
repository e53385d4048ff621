"""The queues a ledger knows, and which of them its writer writes for.

In    a connection: the reader's, or the writer's inside its transaction; values of records.py
Out   rows, and back; LedgerUnusable for a writer that has lost its queue to another owner
Not here  which queue a directory is (ledger/generation.py, start/ledger_check.py)

An attempt, a hold, a deferral, a DSN and a counter belong to a queue. A queue has one owner at a time, who alone writes
them. Deliveries belong to the message: every queue of the ledger sees them, so that no host sends what another has sent.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from drainer.errors import LedgerUnusable
from drainer.ledger.columns import stored_text, text_in
from drainer.ledger.records import Queue

FIRST_QUEUE = 1
"""The queue that rows of earlier schemas belong to (0006_queues.sql)."""


@dataclass(frozen=True, slots=True)
class OwnQueue:
    """number: the queue's row in `queues`. owner: as it was claimed; "" before any claim."""

    number: int
    owner: str


def create_first(writer: sqlite3.Connection, now_s: float) -> None:
    """A new ledger has one queue, which no drainer has claimed."""
    writer.execute(
        "INSERT OR IGNORE INTO queues (id, queue_id, queue_dir, owner, claimed, since) VALUES (?, '', '', '', 0, ?)",
        (FIRST_QUEUE, now_s),
    )


def claimed_last(reader: sqlite3.Connection) -> OwnQueue:
    """The queue that a ledger is of before it is claimed: the one that was claimed last."""
    row = reader.execute("SELECT id, owner FROM queues ORDER BY claimed DESC, id DESC LIMIT 1").fetchone()
    return OwnQueue(*row) if row else OwnQueue(FIRST_QUEUE, "")


def queues(reader: sqlite3.Connection) -> list[Queue]:
    """Those claimed last in front."""
    rows = reader.execute("SELECT queue_id, queue_dir, owner FROM queues ORDER BY claimed DESC, id DESC").fetchall()
    return [Queue(queue_id, text_in(queue_dir), owner) for queue_id, queue_dir, owner in rows]


def claim(writer: sqlite3.Connection, queue: Queue, at_s: float, known_as: str | None) -> OwnQueue:
    """known_as: as Ledger.claim."""
    number = _number(writer, queue.queue_id)
    if number is None and known_as is not None:
        number = _number(writer, known_as)
    if number is None:
        cursor = writer.execute(
            "INSERT INTO queues (queue_id, queue_dir, owner, claimed, since) VALUES (?, '', '', 0, ?)",
            (queue.queue_id, at_s),
        )
        number = int(cursor.lastrowid or 0)
    writer.execute(
        "UPDATE queues SET queue_id = ?, queue_dir = ?, owner = ?,"
        " claimed = max(?, (SELECT max(claimed) + 0.001 FROM queues)) WHERE id = ?",
        (queue.queue_id, stored_text(queue.queue_dir), queue.owner, at_s, number),
    )
    return OwnQueue(number, queue.owner)


def require_owner(writer: sqlite3.Connection, own: OwnQueue) -> None:
    """Raises LedgerUnusable if another drainer has claimed the queue since."""
    row = writer.execute("SELECT owner, queue_id FROM queues WHERE id = ?", (own.number,)).fetchone()
    if row is None or row[0] != own.owner:
        has = f"{row[0]} has queue {row[1]} now" if row else "its queue is not there any more"
        raise LedgerUnusable(f"the ledger is not written for this drainer ({own.owner or 'no owner'}) any more: {has}")


def _number(connection: sqlite3.Connection, queue_id: str) -> int | None:
    row = connection.execute("SELECT id FROM queues WHERE queue_id = ?", (queue_id,)).fetchone()
    return None if row is None else int(row[0])
