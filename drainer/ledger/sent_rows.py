"""How many recipients were sent to lately, by ten seconds: what hourly and daily caps have to know over a restart.

In    the writer's connection, inside its transaction; or a reader's
Out   rows of `sent`
Not here  what a cap allows (schedule/caps.py); when the clock was set (stages/sent_before.py)

INVARIANT counted-before-DATA: recipients are counted in the commit that opens their attempt, or that begins a DSN.
  Crash before: nothing was sent, and nothing is counted.  Crash after: they count, whether the MTA took them or not.
  Held by tests/contract/test_sent.py.
"""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Iterable, Mapping

from drainer.schedule.caps import DAY_S, GRAIN_S

AHEAD_S = 60.0
"""Rows that are dated further ahead were written by a clock that was ahead."""
MOST_ROWS = int(2 * DAY_S / GRAIN_S)
"""Kept of each queue, those with the latest dates. It takes two days of sending to fill so many, and the longest cap is of a
day. By their dates alone, a clock that is two days ahead for a moment would forget all that counts."""


def bucket_of(at_s: float) -> int:
    """The first second of the ten."""
    return int(at_s // GRAIN_S * GRAIN_S)


def write_sent(writer: sqlite3.Connection, queue: int, recipients: Mapping[int, int]) -> None:
    """Add recipients, by the first second of their ten."""
    writer.executemany(
        "INSERT INTO sent (queue, at, recipients) VALUES (?, ?, ?)"
        " ON CONFLICT DO UPDATE SET recipients = recipients + excluded.recipients",
        [(queue, at, number) for at, number in recipients.items()],
    )


def forget_sent(writer: sqlite3.Connection, queue: int) -> None:
    """All but the last MOST_ROWS go."""
    writer.execute(
        "DELETE FROM sent WHERE queue = ? AND at <"
        " (SELECT at FROM sent WHERE queue = ? ORDER BY at DESC LIMIT 1 OFFSET ?)",
        (queue, queue, MOST_ROWS - 1),
    )


def redate_sent(writer: sqlite3.Connection, queue: int, now_s: float, set_forward_s: float) -> None:
    """Date rows by the clock as it stands now."""
    rows = writer.execute(
        "SELECT at, recipients FROM sent WHERE queue = ? AND at >= ?",
        (queue, bucket_of(now_s - set_forward_s - DAY_S)),
    ).fetchall()
    wrong = [(at, recipients) for at, recipients in rows if redated(at, now_s, set_forward_s) != at]
    writer.executemany("DELETE FROM sent WHERE queue = ? AND at = ?", [(queue, at) for at, _ in wrong])
    for at, recipients in wrong:
        write_sent(writer, queue, {redated(at, now_s, set_forward_s): max(0, recipients)})


def redated(at: int, now_s: float, set_forward_s: float) -> int:
    """The first second of the ten that a row belongs to. Pure.

    at             as it is dated
    now_s          what the clock says now
    set_forward_s  by so much was the clock set forward just now: rows that it has dated keep their age. 0: it was not
    """
    before_s = now_s - set_forward_s
    if set_forward_s > 0 and at <= before_s + AHEAD_S:
        at += math.ceil(set_forward_s / GRAIN_S) * int(GRAIN_S)
    return bucket_of(now_s) if at > now_s + AHEAD_S else at


def sent_since(reader: sqlite3.Connection, queue: int, since_s: float) -> list[tuple[float, int]]:
    rows: Iterable[tuple[int, int]] = reader.execute(
        "SELECT at, recipients FROM sent WHERE queue = ? AND at >= ? AND recipients > 0 ORDER BY at",
        (queue, bucket_of(since_s)),
    )
    return [(float(at), recipients) for at, recipients in rows]
