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

from drainer.ledger import entry_rows
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
    Baseline,
    Ended,
    Event,
    Evidence,
    Failure,
    Fate,
    Some,
    baselines_to_forget,
    counted_since,
    too_short,
)
from drainer.ledger.records import JournalLine, Totals
from drainer.ledger.states import State
from drainer.ledger.tables import dsn_backlog, unresolved_attempts

SERVICE = "drainer"
"""Who wrote a line of the journal that no person did."""

_EVIDENCE = "SELECT fate, filebase, at, list, message_id, recipients, of, of_at, addresses, detail FROM evidence"
_FAILED = (
    f"FROM deliveries d JOIN messages m ON m.id = d.id >> {DELIVERY_BITS} JOIN lists l ON l.id = m.list"
    f" WHERE d.state = {CODES[State.FAILED]} AND coalesce(d.queue, m.queue) = ?"
)


def write_evidence(writer: sqlite3.Connection, queue: int, lines: Iterable[Evidence]) -> None:
    writer.executemany(
        "INSERT INTO evidence (queue, fate, filebase, at, list, message_id, recipients, of, of_at, addresses, detail)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [
            (
                queue,
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


def forget_drop(writer: sqlite3.Connection, queue: int, filebase: str | bytes) -> None:
    writer.execute(
        "DELETE FROM evidence WHERE fate = ? AND filebase = ? AND queue = ?", (Fate.DROPPED.value, filebase, queue)
    )


def write_ended(writer: sqlite3.Connection, queue: int, ended: Iterable[Ended]) -> None:
    writer.executemany(
        "INSERT INTO ended (queue, fate, list, kind, entries, recipients, bytes) VALUES (?, ?, ?, ?, ?, ?, ?)"
        " ON CONFLICT DO UPDATE SET entries = entries + excluded.entries, recipients = recipients + excluded.recipients,"
        " bytes = bytes + excluded.bytes",
        [
            (queue, one.fate.value, stored_text(one.list_id), one.kind, one.entries, one.recipients, one.bytes)
            for one in ended
        ],
    )


def write_event(writer: sqlite3.Connection, queue: int, event: Event) -> None:
    writer.execute(
        "INSERT INTO events (queue, at, kind, what, detail) VALUES (?, ?, ?, ?, ?)",
        (queue, event.at_s, event.kind, stored_text(event.what), stored_text(event.detail)),
    )
    rows = writer.execute(
        "SELECT at, kind, what, detail, id FROM events WHERE kind = ? AND queue = ? ORDER BY id", (event.kind, queue)
    ).fetchall()
    forgotten = too_short([_event(row[:4]) for row in rows])
    if forgotten is not None:
        writer.execute("DELETE FROM events WHERE id = ?", (rows[forgotten][4],))


def write_baseline(writer: sqlite3.Connection, queue: int, at_s: float) -> None:
    """What is counted up to now, under this moment. The counters have to be written by then."""
    # ASCII, lone surrogates of undecodable list names included.
    value = json.dumps([_counts(writer, queue), [astuple(one) for one in _ended(writer, queue)]])
    writer.execute(
        "INSERT OR REPLACE INTO baselines (queue, at, value) VALUES (?, ?, ?)",
        (queue, at_s, zlib.compress(value.encode())),
    )
    times = [at for (at,) in writer.execute("SELECT at FROM baselines WHERE queue = ? ORDER BY at", (queue,))]
    writer.executemany(
        "DELETE FROM baselines WHERE queue = ? AND at = ?", [(queue, at) for at in baselines_to_forget(times)]
    )


def keep(writer: sqlite3.Connection, queue: int, name: str, value: bytes) -> None:
    writer.execute("INSERT OR REPLACE INTO kept (queue, name, value) VALUES (?, ?, ?)", (queue, name, value))


def kept(reader: sqlite3.Connection, queue: int, name: str) -> bytes | None:
    row = reader.execute("SELECT value FROM kept WHERE queue = ? AND name = ?", (queue, name)).fetchone()
    return row[0] if row else None


def forget_evidence(writer: sqlite3.Connection, queue: int, older_than_s: float) -> None:
    writer.execute("DELETE FROM evidence WHERE at < ? AND queue = ?", (older_than_s, queue))


def totals(reader: sqlite3.Connection, queue: int) -> Totals:
    ((began_s,),) = reader.execute("SELECT since FROM queues WHERE id = ?", (queue,)).fetchall()
    return Totals(began_s, _counts(reader, queue))


def account(reader: sqlite3.Connection, queue: int, limit: int, since_s: float | None = None) -> Account:
    """Of this queue. limit: lines of each list. since_s: as Ledger.account. Reads whole tables; in one snapshot if the
    caller began one."""
    baselines = [
        _baseline(*row)
        for row in reader.execute("SELECT at, value FROM baselines WHERE queue = ? ORDER BY at", (queue,))
    ]
    counted, ended, earliest_s = totals(reader, queue), tuple(_ended(reader, queue)), -math.inf
    if since := next((one for one in baselines[::-1] if since_s is not None and one.at_s <= since_s), None):
        counted, ended = counted_since(since, counted.counts, ended)
        earliest_s = since.at_s
    failures = _failures(reader, queue, limit, earliest_s)
    return Account(
        totals=counted,
        ended=ended,
        evidence={
            Fate(fate): Some(
                total,
                tuple(evidence(reader, "queue = ? AND fate = ? AND at >= ?", (queue, fate, earliest_s), limit)),
            )
            for fate, total in reader.execute(
                "SELECT fate, count(*) FROM evidence WHERE queue = ? AND at >= ? GROUP BY fate", (queue, earliest_s)
            ).fetchall()
        },
        failures=failures,
        dsns=_dsns_of(reader, queue, {failure.filebase for failure in failures.lines}),
        dsns_owed=frozenset(
            (filebase_in(filebase), recipient.owed)
            for filebase, recipients in reader.execute(
                "SELECT filebase, recipients FROM dsns WHERE queue = ?", (queue,)
            )
            for recipient in dsn_recipients_in(recipients)
        ),
        dsn_backlog=dsn_backlog(reader, queue),
        open_doubts=tuple(a for a in unresolved_attempts(reader, queue) if a.state is State.IN_DOUBT),
        holds=tuple(entry_rows.holds(reader, queue)),
        by_people=_journal(reader, queue, "<>", limit, earliest_s),
        by_service=_journal(reader, queue, "=", limit, earliest_s),
        events=tuple(
            _event(row)
            for row in reader.execute(
                "SELECT at, kind, what, detail FROM events WHERE queue = ? AND at >= ? ORDER BY at, id",
                (queue, earliest_s),
            )
        ),
        kept=dict(reader.execute("SELECT name, value FROM kept WHERE queue = ?", (queue,)).fetchall()),
        baselines=tuple(one.at_s for one in baselines if one.ended),
    )


def latest_event(reader: sqlite3.Connection, queue: int, kind: str) -> Event | None:
    row = reader.execute(
        "SELECT at, kind, what, detail FROM events WHERE queue = ? AND kind = ? ORDER BY id DESC LIMIT 1", (queue, kind)
    ).fetchone()
    return None if row is None else _event(row)


def _counts(reader: sqlite3.Connection, queue: int) -> dict[str, int]:
    return dict(reader.execute("SELECT name, value FROM counters WHERE queue = ?", (queue,)).fetchall())


def _ended(reader: sqlite3.Connection, queue: int) -> list[Ended]:
    return [
        Ended(Fate(fate), text_in(list_id), kind, *sums)
        for fate, list_id, kind, *sums in reader.execute(
            "SELECT fate, list, kind, entries, recipients, bytes FROM ended WHERE queue = ? ORDER BY fate, list, kind",
            (queue,),
        )
    ]


def _baseline(at_s: float, value: bytes) -> Baseline:
    counts, ended = json.loads(zlib.decompress(value))
    return Baseline(at_s, counts, tuple(Ended(Fate(fate), *rest) for fate, *rest in ended))


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


def evidence_of(reader: sqlite3.Connection, queue: int, message_id: str, limit: int) -> list[Evidence]:
    return evidence(reader, "queue = ? AND message_id = ?", (queue, stored_text(message_id)), limit)


def _failures(reader: sqlite3.Connection, queue: int, limit: int, earliest_s: float) -> Some[Failure]:
    # Deliveries have whole seconds.
    since_s = earliest_s if math.isinf(earliest_s) else math.floor(earliest_s)
    rows = reader.execute(
        "SELECT coalesce(d.filebase, m.filebase), l.name, m.message_id, d.addresses, d.reply, d.at"
        f" {_FAILED} AND d.at >= ? ORDER BY d.at, d.id LIMIT ?",
        (queue, since_s, limit),
    )
    lines = [
        Failure(filebase_in(filebase), text_in(list_id), text_in(message_id), address, text_in(reply), float(at))
        for filebase, list_id, message_id, addresses, reply, at in rows
        for address in addresses_in(addresses)
    ]
    ((total,),) = reader.execute(
        f"SELECT coalesce(sum(length(d.recipients) / 10), 0) {_FAILED} AND d.at >= ?", (queue, since_s)
    ).fetchall()
    return Some(total, tuple(lines[:limit]))


def _dsns_of(reader: sqlite3.Connection, queue: int, filebases: set[str]) -> dict[tuple[str, str], Fate]:
    places = ",".join("?" * len(DSNS))
    return {
        (line.filebase, address): line.fate
        for line in evidence(reader, f"queue = ? AND fate IN ({places})", (queue, *sorted(DSNS)), -1)
        if line.filebase in filebases
        for address in line.addresses
    }


def _journal(reader: sqlite3.Connection, queue: int, by: str, limit: int, earliest_s: float) -> Some[JournalLine]:
    where = f"FROM journal WHERE by {by} ? AND at >= ? AND queue = ?"
    ((total,),) = reader.execute(f"SELECT count(*) {where}", (SERVICE, earliest_s, queue)).fetchall()
    rows = reader.execute(
        f"SELECT at, by, action, detail {where} ORDER BY id DESC LIMIT ?", (SERVICE, earliest_s, queue, limit)
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
