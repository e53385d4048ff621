"""Questions to the ledger's tables.

In    a connection: the reader's, or the writer's inside its transaction
Out   records
Not here  anything that writes (sqlite.py)
"""

from __future__ import annotations

import math
import sqlite3
import zlib
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import TypeVar

from drainer.ledger.columns import (
    CODES,
    DELIVERY_BITS,
    DSN_CODES,
    DSN_STATES,
    ENDS,
    STATES,
    Stored,
    addresses_in,
    dsn_recipients_in,
    filebase_elsewhere,
    filebase_in,
    keys_of,
    split_keys,
    stored_filebase,
    stored_text,
    text_in,
)
from drainer.ledger.records import (
    DIGEST_BYTES,
    RECIPIENT_KEY_BYTES,
    Akin,
    AttemptId,
    Coverage,
    DsnBacklog,
    History,
    MessageRecord,
    OpenAttempt,
    OwedDsn,
    is_of_decorated,
    kin_of,
)
from drainer.ledger.states import DsnState, State

T = TypeVar("T")

EXPIRED_AT_MOST = 20_000
"""Messages `expired` finds in one pass: bounds what it holds in memory."""

_KIN_AT_A_TIME = 250
_AT_A_TIME = 128

_COVERAGE = (
    "WITH asked (message) AS (VALUES {places})"
    " SELECT m.id, d.state, d.at, coalesce(d.queue, m.queue), coalesce(d.filebase, m.filebase), d.recipients, d.reply,"
    " d.addresses FROM asked CROSS JOIN messages m ON m.id = asked.message"
    " CROSS JOIN deliveries d ON d.id BETWEEN m.id << 24 AND (m.id << 24) + 16777215"
    " UNION ALL SELECT w.message, w.state, w.at, w.queue, w.filebase, w.recipients, w.reply, w.addresses"
    " FROM asked CROSS JOIN waiting w ON w.message = asked.message"
    " UNION ALL SELECT a.message, a.state, CAST(a.at AS INTEGER), a.queue, a.filebase, NULL, a.reply, a.addresses"
    " FROM asked CROSS JOIN attempts a ON a.message = asked.message"
)
"""What is known of some messages' recipients. Those of an attempt stand in `addresses` only."""

_RING_BITS = 10
ENDS_REMEMBERED = 1 << _RING_BITS
"""Ends of attempts remembered for each queue: far more than can be under way at once."""


def messages_sharing(connection: sqlite3.Connection, identity: Sequence[bytes]) -> list[int]:
    """Ascending."""
    return sorted({message for _, message in _messages_of(connection, identity)})


def _messages_of(connection: sqlite3.Connection, digests: Sequence[bytes]) -> list[tuple[bytes, int]]:
    """Each digest of a message, with the message."""
    found: list[tuple[bytes, int]] = []
    for some, places in _in_parts(digests, "?"):
        found += connection.execute(f"SELECT digest, message FROM identities WHERE digest IN ({places})", some)
    return found


def _in_parts(values: Sequence[T], place: str) -> Iterator[tuple[list[T | None], str]]:
    """Some values at a time, with places for them. Few lengths, so that SQLite's statements are prepared once: a part is
    filled up with NULL, which equals nothing."""
    for start in range(0, len(values), _AT_A_TIME):
        some: list[T | None] = [*values[start : start + _AT_A_TIME]]
        places = 1 << (len(some) - 1).bit_length()
        some += [None] * (places - len(some))
        yield some, ",".join([place] * places)


def kin_known(reader: sqlite3.Connection, kin: Sequence[bytes]) -> frozenset[bytes]:
    found: set[bytes] = set()
    for start in range(0, len(kin), _KIN_AT_A_TIME):
        some = kin[start : start + _KIN_AT_A_TIME]
        places = ",".join(["(?, ?)"] * len(some))
        bounds = [bound for first in some for bound in _digests_from_to(first)]
        found.update(
            kin_of(digest)
            for (digest,) in reader.execute(
                f"WITH asked (first, last) AS (VALUES {places})"
                " SELECT i.digest FROM asked CROSS JOIN identities i ON i.digest BETWEEN asked.first AND asked.last",
                bounds,
            )
        )
    return frozenset(found)


def akin(reader: sqlite3.Connection, queue: int, identity: Sequence[bytes]) -> list[Akin]:
    own = frozenset(identity)
    digests: dict[int, set[bytes]] = {}
    for kin in sorted(set(map(kin_of, identity))):
        for digest, message in reader.execute(
            "SELECT digest, message FROM identities WHERE digest BETWEEN ? AND ?", _digests_from_to(kin)
        ):
            digests.setdefault(message, set()).add(digest)
    return [
        Akin(any(map(is_of_decorated, digests[message])), history(reader, queue, [message]))
        for message in sorted(digests)
        if own.isdisjoint(digests[message])
    ]


def _digests_from_to(kin: bytes) -> tuple[bytes, bytes]:
    left = DIGEST_BYTES - len(kin)
    return kin + bytes(left), kin + b"\xff" * left


def history(reader: sqlite3.Connection, queue: int, messages: Sequence[int]) -> History:
    """What is known of these messages together.

    queue  whose entries have their own names; those of other queues are named as filebase_elsewhere
    """
    coverage = coverage_of(reader, queue, messages)
    return _history([part for message in messages for part in coverage.get(message, ())])


def histories(reader: sqlite3.Connection, queue: int, identities: Sequence[Sequence[bytes]]) -> list[History]:
    """What is known of the messages that share a digest with each of these."""
    sharing: dict[bytes, list[int]] = {}
    for digest, message in _messages_of(reader, sorted({digest for identity in identities for digest in identity})):
        sharing.setdefault(digest, []).append(message)
    coverage = coverage_of(reader, queue, sorted({message for some in sharing.values() for message in some}))
    return [
        _history(
            [
                part
                for message in sorted({message for digest in identity for message in sharing.get(digest, ())})
                for part in coverage.get(message, ())
            ]
        )
        for identity in identities
    ]


def _history(coverage: Iterable[Coverage]) -> History:
    return History(tuple(sorted(coverage, key=lambda part: (part.at_s, part.filebase, part.state))))


def coverage_of(reader: sqlite3.Connection, queue: int, messages: Sequence[int]) -> dict[int, list[Coverage]]:
    """Read by one statement, so in one snapshot: between two an attempt could end, and be seen neither as open nor as
    delivered."""
    found: dict[int, list[Coverage]] = {}
    for some, places in _in_parts(messages, "(?)"):
        for message, code, at, of, stored, joined, reply, addresses in reader.execute(
            _COVERAGE.format(places=places), some
        ).fetchall():
            named = addresses_in(addresses)
            keys = keys_of(named) if joined is None else split_keys(joined)
            part = Coverage(
                _name(reader, queue, of, stored), STATES[code], float(at), frozenset(keys), text_in(reply), named
            )
            found.setdefault(message, []).append(part)
    return found


def _name(reader: sqlite3.Connection, queue: int, of: int, stored: Stored) -> str:
    if of == queue:
        return filebase_in(stored)
    row = reader.execute("SELECT queue_id FROM queues WHERE id = ?", (of,)).fetchone()
    return filebase_elsewhere(stored, row[0] if row else str(of))


def waiting_recipients(reader: sqlite3.Connection, queue: int, filebase: Stored, state: State) -> int:
    """Recipients of this entry that are DEFERRED, or HELD."""
    ((length,),) = reader.execute(
        "SELECT coalesce(sum(length(recipients)), 0) FROM waiting WHERE filebase = ? AND state = ? AND queue = ?",
        (filebase, CODES[state], queue),
    ).fetchall()
    return int(length) // RECIPIENT_KEY_BYTES


def learnt_as(reader: sqlite3.Connection, name: str) -> list[tuple[int, int]]:
    """Rows of `deliveries` (id, how many recipients) that stand under this name. Reads the whole table."""
    stored = stored_filebase(name)
    return reader.execute(
        f"SELECT d.id, length(d.recipients) / {RECIPIENT_KEY_BYTES} FROM deliveries d"
        f" JOIN messages m ON m.id = d.id >> {DELIVERY_BITS} WHERE coalesce(d.filebase, m.filebase) = ?",
        (stored,),
    ).fetchall()


def failures_of(reader: sqlite3.Connection, queue: int, filebases: Collection[str]) -> list[int]:
    """Rows of `deliveries` that have failures by these entries. Reads the whole table."""
    wanted = set(map(stored_filebase, filebases))
    rows = reader.execute(
        "SELECT d.id, coalesce(d.filebase, m.filebase) FROM deliveries d"
        f" JOIN messages m ON m.id = d.id >> {DELIVERY_BITS}"
        f" WHERE d.state = {CODES[State.FAILED]} AND coalesce(d.queue, m.queue) = ?",
        (queue,),
    )
    return [row for row, filebase in rows if filebase in wanted]


def reported_failures(connection: sqlite3.Connection, queue: int) -> dict[Stored, set[str]]:
    """By entry, the recipients that a DSN has reported, or may have."""
    reported: dict[Stored, set[str]] = {}
    for filebase, joined in connection.execute(
        "SELECT filebase, addresses FROM evidence WHERE fate = 'dsn_sent' AND queue = ?", (queue,)
    ):
        reported.setdefault(filebase, set()).update(addresses_in(joined))
    for filebase, joined in connection.execute(
        "SELECT filebase, recipients FROM dsns WHERE tried IS NOT NULL AND queue = ?", (queue,)
    ):
        reported.setdefault(filebase, set()).update(recipient.owed for recipient in dsn_recipients_in(joined))
    return reported


_NOTHING_KEEPS = (
    "NOT EXISTS (SELECT 1 FROM deliveries WHERE at >= :older_than"
    " AND id BETWEEN {message} << 24 AND ({message} << 24) + 16777215)"
    " AND NOT EXISTS (SELECT 1 FROM waiting WHERE message = {message}"
    f" AND NOT (state = {CODES[State.HELD]} AND addresses IS NULL AND at < :older_than))"
    " AND NOT EXISTS (SELECT 1 FROM attempts WHERE message = {message})"
)


def expired(reader: sqlite3.Connection, older_than_s: float) -> dict[int, list[bytes]]:
    """Messages to forget, some at a time, with their digests."""
    rows = reader.execute(
        "SELECT id FROM messages m WHERE " + _NOTHING_KEEPS.format(message="m.id") + f" LIMIT {EXPIRED_AT_MOST}",
        {"older_than": older_than_s},
    ).fetchall()
    return digests_of(reader, {message for (message,) in rows})


def is_expired(connection: sqlite3.Connection, message: int, older_than_s: float) -> bool:
    values = {"older_than": older_than_s, "message": message}
    return bool(connection.execute("SELECT " + _NOTHING_KEEPS.format(message=":message"), values).fetchone()[0])


def digests_of(reader: sqlite3.Connection, messages: set[int]) -> dict[int, list[bytes]]:
    """The digests of some messages, ascending. Reads the whole table: nothing else needs an index this way round."""
    found: dict[int, list[bytes]] = {message: [] for message in messages}
    if messages:
        for digest, message in reader.execute("SELECT digest, message FROM identities"):
            if message in found:
                found[message].append(digest)
    return found


def unresolved_attempts(reader: sqlite3.Connection, queue: int) -> list[OpenAttempt]:
    rows = reader.execute(
        "SELECT a.id, a.state, a.filebase, l.name, m.message_id, a.reverse_path, a.addresses, a.at"
        " FROM attempts a JOIN messages m ON m.id = a.message JOIN lists l ON l.id = m.list WHERE a.queue = ?"
        " ORDER BY a.at, a.id",
        (queue,),
    )
    return [
        OpenAttempt(
            attempt_id=AttemptId(bytes=attempt_id),
            state=STATES[code],
            filebase=filebase_in(filebase),
            list_id=text_in(list_id),
            message_id=text_in(message_id),
            reverse_path=text_in(reverse_path),
            recipients=addresses_in(addresses),
            at_s=at,
        )
        for attempt_id, code, filebase, list_id, message_id, reverse_path, addresses, at in rows
    ]


def attempt_state(reader: sqlite3.Connection, queue: int, attempt_id: AttemptId) -> State | None:
    """ATTEMPTING or IN_DOUBT, or how it ended, if that is not long ago; None: nothing is known of it in this queue."""
    row = reader.execute("SELECT state FROM attempts WHERE id = ? AND queue = ?", (attempt_id.bytes, queue)).fetchone()
    if row is not None:
        return STATES[row[0]]
    end = end_of(reader, queue, attempt_id)
    return end[0] if end else None


def first_slot(queue: int) -> int:
    """Of the queue's ring in `ended_attempts`."""
    return queue << _RING_BITS


def end_of(connection: sqlite3.Connection, queue: int, attempt_id: AttemptId) -> tuple[State, float] | None:
    """How an attempt ended last, and when. Reads the ring: only a repeated write asks."""
    start = first_slot(queue)
    row = connection.execute(
        "SELECT state, at FROM ended_attempts WHERE slot BETWEEN ? AND ? AND attempt = ? ORDER BY number DESC LIMIT 1",
        (start, start + ENDS_REMEMBERED - 1, attempt_id.bytes),
    ).fetchone()
    return (ENDS[row[0]], row[1]) if row else None


def dsns(
    reader: sqlite3.Connection, queue: int, state: DsnState, limit: int, due_by_s: float, except_lists: Collection[str]
) -> list[OwedDsn]:
    places = ",".join("?" * len(except_lists))
    rows = reader.execute(
        "SELECT id, filebase, list, message_id, reverse_path, recipients, headers, envelope_id, at, tried, due, attempts"
        f" FROM dsns WHERE queue = ? AND state = ? AND due <= ? AND list NOT IN ({places}) ORDER BY due, id LIMIT ?",
        (queue, DSN_CODES.get(state), due_by_s, *map(stored_text, except_lists), limit),
    )
    return [
        OwedDsn(
            dsn_id=dsn_id,
            state=state,
            filebase=filebase_in(filebase),
            list_id=text_in(list_id),
            message_id=text_in(message_id),
            reverse_path=text_in(reverse_path),
            recipients=dsn_recipients_in(recipients),
            headers=zlib.decompress(headers),
            envelope_id=text_in(envelope_id),
            failed_at_s=at,
            tried_at_s=tried,
            due_s=due,
            attempts=attempts,
        )
        for (
            dsn_id, filebase, list_id, message_id, reverse_path, recipients, headers, envelope_id, at, tried, due, attempts,
        ) in rows
    ]  # fmt: skip


def dsn_backlog(reader: sqlite3.Connection, queue: int) -> DsnBacklog:
    owed = in_doubt = 0
    untried_failed_at_s, next_due_s = -math.inf, math.inf
    for code, count, failed, due in reader.execute(
        "SELECT state, count(*), max(CASE WHEN tried IS NULL THEN at END), min(due) FROM dsns WHERE queue = ?"
        " GROUP BY state",
        (queue,),
    ):
        owed += count
        untried_failed_at_s = max(untried_failed_at_s, -math.inf if failed is None else failed)
        if DSN_STATES[code] is DsnState.OWED:
            next_due_s = due
        elif DSN_STATES[code] is DsnState.IN_DOUBT:
            in_doubt = count
    return DsnBacklog(
        owed,
        in_doubt,
        None if untried_failed_at_s == -math.inf else untried_failed_at_s,
        None if next_due_s == math.inf else next_due_s,
    )


def messages_by_message_id(
    reader: sqlite3.Connection, queue: int, message_id: str
) -> list[tuple[MessageRecord, History]]:
    """Reads the whole table: only a person asks, and an index would be one of the largest structures in the file."""
    rows = reader.execute(
        "SELECT m.id, l.name FROM messages m JOIN lists l ON l.id = m.list WHERE m.message_id = ? ORDER BY m.id",
        (stored_text(message_id),),
    ).fetchall()
    digests = digests_of(reader, {message for message, _ in rows})
    return [
        (MessageRecord(tuple(digests[message]), text_in(list_id), message_id), history(reader, queue, [message]))
        for message, list_id in rows
    ]
