"""What the report is made of: written in the commits it belongs to, read in one snapshot.

In    the writer's connection, inside its transaction; or a reader's
Out   rows; an Account
Not here  what a report says of it (report/incident/document.py)
"""

from __future__ import annotations

import json
import math
import sqlite3
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import astuple
from typing import Any

from drainer.ledger.columns import (
    CODES,
    DELIVERY_BITS,
    addresses_in,
    dsn_recipients_in,
    filebase_in,
    stored_addresses,
    stored_filebase,
    stored_text,
    text_in,
)
from drainer.ledger.evidence import (
    DSNS,
    Account,
    Ended,
    Event,
    Evidence,
    Failure,
    Fate,
    Mark,
    Some,
    counted_since,
    marks_to_forget,
    too_short,
)
from drainer.ledger.records import Hold, JournalLine, Totals
from drainer.ledger.states import State
from drainer.ledger.tables import dsn_backlog, unresolved_attempts

SERVICE = "drainer"
"""Who wrote a line of the journal that no person did."""

_EVIDENCE = "SELECT fate, filebase, at, list, message_id, recipients, of, of_at, addresses, detail FROM evidence"
_FAILED = (
    f"FROM deliveries d JOIN messages m ON m.id = d.id >> {DELIVERY_BITS} JOIN lists l ON l.id = m.list"
    f" WHERE d.state = {CODES[State.FAILED]}"
)


def write_evidence(writer: sqlite3.Connection, lines: Iterable[Evidence]) -> None:
    writer.executemany(
        "INSERT INTO evidence (fate, filebase, at, list, message_id, recipients, of, of_at, addresses, detail)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [
            (
                line.fate.value,
                stored_filebase(line.filebase),
                line.at_s,
                stored_text(line.list_id),
                stored_text(line.message_id),
                line.recipients,
                stored_filebase(line.of),
                line.of_at_s,
                stored_addresses(line.addresses) if line.addresses else "",
                stored_text(line.detail),
            )
            for line in lines
        ],
    )


def forget_drop(writer: sqlite3.Connection, filebase: str | bytes) -> None:
    writer.execute("DELETE FROM evidence WHERE fate = ? AND filebase = ?", (Fate.DROPPED.value, filebase))


def write_ended(writer: sqlite3.Connection, ended: Iterable[Ended]) -> None:
    writer.executemany(
        "INSERT INTO ended (fate, list, kind, entries, recipients, bytes) VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE"
        " SET entries = entries + excluded.entries, recipients = recipients + excluded.recipients,"
        " bytes = bytes + excluded.bytes",
        [(one.fate.value, stored_text(one.list_id), one.kind, one.entries, one.recipients, one.bytes) for one in ended],
    )


def write_event(writer: sqlite3.Connection, event: Event) -> None:
    writer.execute(
        "INSERT INTO events (at, kind, what, detail) VALUES (?, ?, ?, ?)",
        (event.at_s, event.kind, stored_text(event.what), stored_text(event.detail)),
    )
    rows = writer.execute(
        "SELECT at, kind, what, detail, id FROM events WHERE kind = ? ORDER BY id", (event.kind,)
    ).fetchall()
    forgotten = too_short([_event(row[:4]) for row in rows])
    if forgotten is not None:
        writer.execute("DELETE FROM events WHERE id = ?", (rows[forgotten][4],))


def write_mark(writer: sqlite3.Connection, at_s: float) -> None:
    """What is counted up to now, under this moment. The counters have to be written by then."""
    # ASCII, lone surrogates of undecodable list names included.
    value = json.dumps([_counts(writer), [astuple(one) for one in _ended(writer)]])
    writer.execute("INSERT OR REPLACE INTO marks (at, value) VALUES (?, ?)", (at_s, zlib.compress(value.encode())))
    marks = [at for (at,) in writer.execute("SELECT at FROM marks ORDER BY at")]
    writer.executemany("DELETE FROM marks WHERE at = ?", [(at,) for at in marks_to_forget(marks)])


def keep(writer: sqlite3.Connection, name: str, value: bytes) -> None:
    writer.execute("INSERT OR REPLACE INTO kept (name, value) VALUES (?, ?)", (name, value))


def kept(reader: sqlite3.Connection, name: str) -> bytes | None:
    row = reader.execute("SELECT value FROM kept WHERE name = ?", (name,)).fetchone()
    return row[0] if row else None


def rename_evidence(writer: sqlite3.Connection, before: str | bytes, after: str | bytes) -> None:
    for column in ("filebase", "of"):
        writer.execute(f"UPDATE evidence SET {column} = ? WHERE {column} = ?", (after, before))


def forget_evidence(writer: sqlite3.Connection, older_than_s: float) -> None:
    writer.execute("DELETE FROM evidence WHERE at < ?", (older_than_s,))


def account(reader: sqlite3.Connection, limit: int, since_s: float | None = None) -> Account:
    """limit: lines of each list. since_s: as Ledger.account. Reads whole tables; in one snapshot if the caller began one."""
    ((began_s,),) = reader.execute("SELECT since FROM drain").fetchall()
    marks = [_mark(*row) for row in reader.execute("SELECT at, value FROM marks ORDER BY at")]
    totals, ended = Totals(began_s, _counts(reader)), tuple(_ended(reader))
    earliest_s = -math.inf
    if mark := next((mark for mark in reversed(marks) if since_s is not None and mark.at_s <= since_s), None):
        totals, ended = counted_since(mark, totals.counts, ended)
        earliest_s = mark.at_s
    failures = _failures(reader, limit, earliest_s)
    return Account(
        totals=totals,
        ended=ended,
        evidence={
            Fate(fate): Some(total, tuple(evidence(reader, "fate = ? AND at >= ?", (fate, earliest_s), limit)))
            for fate, total in reader.execute(
                "SELECT fate, count(*) FROM evidence WHERE at >= ? GROUP BY fate", (earliest_s,)
            ).fetchall()
        },
        failures=failures,
        dsns=_dsns_of(reader, {failure.filebase for failure in failures.lines}),
        dsns_owed=frozenset(
            (filebase_in(filebase), recipient.owed)
            for filebase, recipients in reader.execute("SELECT filebase, recipients FROM dsns")
            for recipient in dsn_recipients_in(recipients)
        ),
        dsn_backlog=dsn_backlog(reader),
        open_doubts=tuple(a for a in unresolved_attempts(reader) if a.state is State.IN_DOUBT),
        holds=tuple(
            Hold(filebase_in(filebase), text_in(reason), text_in(detail), text_in(by), at)
            for filebase, reason, detail, by, at in reader.execute(
                "SELECT filebase, reason, detail, by, at FROM holds ORDER BY at, filebase"
            )
        ),
        by_people=_journal(reader, "<>", limit, earliest_s),
        by_service=_journal(reader, "=", limit, earliest_s),
        events=tuple(
            _event(row)
            for row in reader.execute(
                "SELECT at, kind, what, detail FROM events WHERE at >= ? ORDER BY at, id", (earliest_s,)
            )
        ),
        kept=dict(reader.execute("SELECT name, value FROM kept").fetchall()),
        marks=tuple(mark.at_s for mark in marks if mark.ended),
    )


def latest_event(reader: sqlite3.Connection, kind: str) -> Event | None:
    row = reader.execute(
        "SELECT at, kind, what, detail FROM events WHERE kind = ? ORDER BY id DESC LIMIT 1", (kind,)
    ).fetchone()
    return None if row is None else _event(row)


def _counts(reader: sqlite3.Connection) -> dict[str, int]:
    return dict(reader.execute("SELECT name, value FROM counters").fetchall())


def _ended(reader: sqlite3.Connection) -> list[Ended]:
    return [
        Ended(Fate(fate), text_in(list_id), kind, *sums)
        for fate, list_id, kind, *sums in reader.execute(
            "SELECT fate, list, kind, entries, recipients, bytes FROM ended ORDER BY fate, list, kind"
        )
    ]


def _mark(at_s: float, value: bytes) -> Mark:
    counts, ended = json.loads(zlib.decompress(value))
    return Mark(at_s, counts, tuple(Ended(Fate(fate), *rest) for fate, *rest in ended))


def evidence(reader: sqlite3.Connection, where: str, values: Sequence[object], limit: int) -> list[Evidence]:
    """Oldest first. where: terms over the columns of `evidence`."""
    return [
        Evidence(
            Fate(fate),
            filebase_in(filebase),
            at,
            text_in(list_id),
            text_in(message_id),
            recipients,
            filebase_in(of),
            of_at,
            addresses_in(addresses),
            text_in(detail),
        )
        for fate, filebase, at, list_id, message_id, recipients, of, of_at, addresses, detail in reader.execute(
            f"{_EVIDENCE} WHERE {where} ORDER BY at, id LIMIT ?", (*values, limit)
        )
    ]


def evidence_of(reader: sqlite3.Connection, message_id: str, limit: int) -> list[Evidence]:
    return evidence(reader, "message_id = ?", (stored_text(message_id),), limit)


def _failures(reader: sqlite3.Connection, limit: int, earliest_s: float) -> Some[Failure]:
    # Deliveries have whole seconds.
    since_s = earliest_s if math.isinf(earliest_s) else math.floor(earliest_s)
    rows = reader.execute(
        "SELECT coalesce(d.filebase, m.filebase), l.name, m.message_id, d.addresses, d.reply, d.at"
        f" {_FAILED} AND d.at >= ? ORDER BY d.at, d.id LIMIT ?",
        (since_s, limit),
    )
    lines = [
        Failure(filebase_in(filebase), text_in(list_id), text_in(message_id), address, text_in(reply), float(at))
        for filebase, list_id, message_id, addresses, reply, at in rows
        for address in addresses_in(addresses)
    ]
    ((total,),) = reader.execute(
        f"SELECT coalesce(sum(length(d.recipients) / 10), 0) {_FAILED} AND d.at >= ?", (since_s,)
    ).fetchall()
    return Some(total, tuple(lines[:limit]))


def _dsns_of(reader: sqlite3.Connection, filebases: set[str]) -> dict[tuple[str, str], Fate]:
    places = ",".join("?" * len(DSNS))
    return {
        (line.filebase, address): line.fate
        for line in evidence(reader, f"fate IN ({places})", sorted(DSNS), -1)
        if line.filebase in filebases
        for address in line.addresses
    }


def _journal(reader: sqlite3.Connection, by: str, limit: int, earliest_s: float) -> Some[JournalLine]:
    where = f"FROM journal WHERE by {by} ? AND at >= ?"
    ((total,),) = reader.execute(f"SELECT count(*) {where}", (SERVICE, earliest_s)).fetchall()
    rows = reader.execute(
        f"SELECT at, by, action, detail {where} ORDER BY id DESC LIMIT ?", (SERVICE, earliest_s, limit)
    ).fetchall()
    return Some(
        total,
        tuple(
            JournalLine(at, text_in(who), text_in(action), text_in(detail)) for at, who, action, detail in rows[::-1]
        ),
    )


def _event(row: Sequence[Any]) -> Event:
    at, kind, what, detail = row
    return Event(at, kind, text_in(what), text_in(detail))
