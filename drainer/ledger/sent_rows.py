"""How many recipients were sent to lately, by ten seconds: what hourly and daily caps have to know over a restart.

In    the writer's connection, inside its transaction; or a reader's
Out   rows of `sent`
Not here  what a cap allows (schedule/caps.py)

INVARIANT counted-before-DATA: recipients are counted in the commit that opens their attempt, or that begins a DSN.
  Crash before: nothing was sent, and nothing is counted.  Crash after: they count, whether the MTA took them or not.
  Held by tests/contract/test_sent.py.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping

GRAIN_S = 10
KEPT_S = 2 * 86_400
"""The longest cap is of a day."""


def bucket_of(at_s: float) -> int:
    """The first second of the ten."""
    return int(at_s // GRAIN_S) * GRAIN_S


def write_sent(writer: sqlite3.Connection, queue: int, recipients: Mapping[int, int]) -> None:
    """Add recipients, by the first second of their ten. Old rows go."""
    writer.executemany(
        "INSERT INTO sent (queue, at, recipients) VALUES (?, ?, ?)"
        " ON CONFLICT DO UPDATE SET recipients = recipients + excluded.recipients",
        [(queue, at, number) for at, number in recipients.items()],
    )
    writer.execute("DELETE FROM sent WHERE queue = ? AND at < ?", (queue, max(recipients) - KEPT_S))


def sent_since(reader: sqlite3.Connection, queue: int, since_s: float) -> list[tuple[float, int]]:
    rows = reader.execute(
        "SELECT at, recipients FROM sent WHERE queue = ? AND at >= ? AND recipients > 0 ORDER BY at",
        (queue, bucket_of(since_s)),
    )
    return [(float(at), recipients) for at, recipients in rows]
