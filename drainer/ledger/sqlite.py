"""The ledger kept on disk: SQLite, one writer, group commit.

In    the calls of contract.py
Out   rows; History for a message in a few reads
Not here  the file itself (sqlite_file.py); when a write is durable (group_commit.py)

Size      a plain delivery is one small row of keys; addresses in clear live in `attempts` while it is open, and that
          table's pages are used again. Nothing is kept in memory per message but a bounded cache.
Reading   history() and its kin run on a connection of their own, in the caller's thread: some microseconds each, and a
          WAL reader never waits for the writer. Searches over the whole table run in a thread.
"""

from __future__ import annotations

import asyncio
import json
import re
import sqlite3
import struct
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from drainer.clock import Clock, SystemClock
from drainer.errors import IllegalTransition, LedgerNotDurable
from drainer.ledger.group_commit import GroupCommit
from drainer.ledger.records import (
    RECIPIENT_KEY_BYTES,
    Coverage,
    Deferral,
    History,
    Hold,
    JournalLine,
    MessageRecord,
    NewAttempt,
    OpenAttempt,
    OperatorState,
    Outcome,
    Pause,
    RecipientKey,
    Totals,
    recipient_key,
)
from drainer.ledger.sqlite_file import LedgerFile, open_ledger_file, open_reader, translated
from drainer.ledger.states import State, check, check_close, check_resolve

T = TypeVar("T")

CODES = {
    State.DELIVERED: 0,
    State.FAILED: 1,
    State.SKIPPED: 2,
    State.DEFERRED: 3,
    State.HELD: 4,
    State.ATTEMPTING: 5,
    State.IN_DOUBT: 6,
}
"""As in 0001_initial.sql."""
_STATES = {code: state for state, code in CODES.items()}
_WAITING = (State.DEFERRED, State.HELD)

_WHEN = re.compile(r"[0-9]+\.[0-9]+\Z")
_HEX = re.compile(r"[0-9a-f]{40}\Z")
_PACKED = 0x41
"""First byte of a float between 2^17 and 2^33; other text that is not ASCII is stored behind a zero byte."""

_DELIVERY_BITS = 24
_REMEMBERED_KEYS = 100_000
_EXPIRE_AT_A_TIME = 200
_EXPIRE_FOUND_AT_A_TIME = 20_000

_Stored = str | bytes


@dataclass(slots=True)
class _Known:
    """What binds later attempts at one message: keys delivered, keys final for an entry, the next row's number."""

    delivered: set[RecipientKey] = field(default_factory=set)
    final: dict[str, dict[RecipientKey, State]] = field(default_factory=dict)
    rows: int = 0

    @property
    def size(self) -> int:
        return 1 + len(self.delivered) + sum(map(len, self.final.values()))


@dataclass(frozen=True, slots=True)
class _AttemptRow:
    attempt_id: int
    message: int
    state: State
    filebase: str


class SqliteLedger:
    """The Ledger on disk. One process at a time; all calls from one event loop.

    path   the SQLite file; PATH.lock, PATH-wal and PATH-shm stand beside it
    clock  read once, when the file is created
    """

    def __init__(self, path: Path, clock: Clock | None = None) -> None:
        self._path = path
        self._clock = clock or SystemClock()
        self._opened: tuple[LedgerFile, GroupCommit] | None = None
        self._last_attempt = 0
        self._counted: dict[str, int] = {}
        self._attempt_keys: dict[int, bytes] = {}
        self._lists: dict[str, int] = {}
        self._known: OrderedDict[int, _Known] = OrderedDict()
        self._known_keys = 0

    # -- opening ---------------------------------------------------------------------------------------------------

    async def open(self) -> None:
        file = await asyncio.to_thread(open_ledger_file, self._path, self._clock.now_s())
        self._path = file.path
        commits = GroupCommit(
            file.writer,
            before_commit=self._write_counters,
            forget=self._forget_uncommitted,
            translate=lambda exc: translated(exc, file.path),
        )
        self._opened = (file, commits)
        (last,) = file.reader.execute("SELECT coalesce(max(id), 0) FROM attempts").fetchone()
        self._last_attempt = max(last, self._last_attempt)

    async def close(self) -> None:
        if self._opened is None:
            return
        file, commits = self._opened
        await commits.close()
        self._opened = None
        self._forget_uncommitted()
        await asyncio.to_thread(file.close)

    # -- deliveries ------------------------------------------------------------------------------------------------

    async def history(self, identity: Sequence[bytes]) -> History:
        with self._reading() as reader:
            found = _messages_sharing(reader, identity)
            return _history(reader, found) if found else History()

    async def open_attempt(self, attempt: NewAttempt) -> int:
        keys = [recipient_key(recipient) for recipient in attempt.recipients]
        attempt_id = await self._write(lambda: self._open_attempt(attempt, keys), undo=self._withdraw)
        self._attempt_keys[attempt_id] = b"".join(keys)
        return attempt_id

    async def close_attempt(self, attempt_id: int, state: State, reply: str, at_s: float) -> None:
        def change() -> None:
            row = self._attempt(attempt_id)
            check_close(row.state, state)
            self._end_attempt(row, state, reply, at_s)
            self._add("transactions", 1)

        await self._write(change)
        if state is not State.IN_DOUBT:
            self._attempt_keys.pop(attempt_id, None)

    async def record(self, filebase: str, message: MessageRecord, outcomes: Sequence[Outcome]) -> None:
        await self._write(lambda: self._record(filebase, message, outcomes))

    async def unresolved_attempts(self) -> list[OpenAttempt]:
        with self._reading() as reader:
            rows = reader.execute(
                "SELECT a.id, a.state, a.filebase, l.name, m.message_id, a.reverse_path, a.addresses, a.at"
                " FROM attempts a JOIN messages m ON m.id = a.message JOIN lists l ON l.id = m.list ORDER BY a.at, a.id"
            ).fetchall()
        return [
            OpenAttempt(
                attempt_id=attempt_id,
                state=_STATES[code],
                filebase=_filebase(filebase),
                list_id=_text(list_id),
                message_id=_text(message_id),
                reverse_path=_text(reverse_path),
                recipients=tuple(json.loads(addresses)),
                at_s=at,
            )
            for attempt_id, code, filebase, list_id, message_id, reverse_path, addresses, at in rows
        ]

    async def resolve(self, attempt_id: int, state: State, why: str, at_s: float) -> None:
        def change() -> None:
            row = self._attempt(attempt_id)
            check_resolve(row.state, state)
            self._end_attempt(row, state, why, at_s)

        await self._write(change)
        if state is not State.IN_DOUBT:
            self._attempt_keys.pop(attempt_id, None)

    async def finish_entry(self, filebase: str, counts: Mapping[str, int] | None = None) -> None:
        stored = _stored_filebase(filebase)

        def change() -> None:
            self._execute("DELETE FROM deferrals WHERE filebase = ?", (stored,))
            self._execute("DELETE FROM holds WHERE filebase = ?", (stored,))
            self._execute("DELETE FROM waiting WHERE filebase = ? AND state = ?", (stored, CODES[State.DEFERRED]))
            self._add_all(counts or {})

        await self._write(change)

    # -- entries that wait -----------------------------------------------------------------------------------------

    async def defer(self, deferral: Deferral) -> None:
        row = (
            _stored_filebase(deferral.filebase),
            deferral.attempts,
            deferral.first_at_s,
            deferral.due_s,
            deferral.recipients,
            _stored(deferral.reply),
        )
        await self._write(
            lambda: self._execute(
                "INSERT OR REPLACE INTO deferrals (filebase, attempts, first_at, due, recipients, reply)"
                " VALUES (?, ?, ?, ?, ?, ?)",
                row,
            )
        )

    async def deferrals(self) -> list[Deferral]:
        with self._reading() as reader:
            rows = reader.execute(
                "SELECT filebase, attempts, first_at, due, recipients, reply FROM deferrals"
            ).fetchall()
        found = (
            Deferral(_filebase(filebase), attempts, first_at, due, recipients, _text(reply))
            for filebase, attempts, first_at, due, recipients, reply in rows
        )
        return sorted(found, key=lambda deferral: (deferral.due_s, deferral.filebase))

    async def hold(self, holds: Sequence[Hold]) -> None:
        rows = [
            (_stored_filebase(hold.filebase), _stored(hold.reason), _stored(hold.detail), _stored(hold.by), hold.at_s)
            for hold in holds
        ]
        await self._write(
            lambda: self._execute_many(
                "INSERT OR REPLACE INTO holds (filebase, reason, detail, by, at) VALUES (?, ?, ?, ?, ?)", rows
            )
        )

    async def release(self, filebases: Sequence[str]) -> None:
        rows = [(_stored_filebase(filebase),) for filebase in filebases]

        def change() -> None:
            self._execute_many("DELETE FROM holds WHERE filebase = ?", rows)
            self._execute_many("DELETE FROM deferrals WHERE filebase = ?", rows)
            self._execute_many(f"DELETE FROM waiting WHERE filebase = ? AND state = {CODES[State.HELD]}", rows)

        await self._write(change)

    async def holds(self) -> list[Hold]:
        with self._reading() as reader:
            rows = reader.execute("SELECT filebase, reason, detail, by, at FROM holds").fetchall()
        found = (
            Hold(_filebase(filebase), _text(reason), _text(detail), _text(by), at)
            for filebase, reason, detail, by, at in rows
        )
        return sorted(found, key=lambda hold: (hold.at_s, hold.filebase))

    async def rename_entry(self, before: str, after: str) -> None:
        old, new = _stored_filebase(before), _stored_filebase(after)
        # No index finds rows by filebase (it would be the dearest column there is), and names change seldom.
        messages, deliveries = await self._search(
            lambda reader: (
                reader.execute("SELECT id FROM messages WHERE filebase = ?", (old,)).fetchall(),
                reader.execute("SELECT id FROM deliveries WHERE filebase = ?", (old,)).fetchall(),
            )
        )

        def change() -> None:
            self._execute_many("UPDATE messages SET filebase = ? WHERE id = ?", [(new, row[0]) for row in messages])
            self._execute_many("UPDATE deliveries SET filebase = ? WHERE id = ?", [(new, row[0]) for row in deliveries])
            for table in ("waiting", "attempts"):
                self._execute(f"UPDATE {table} SET filebase = ? WHERE filebase = ?", (new, old))
            for table in ("deferrals", "holds"):
                self._execute(f"UPDATE OR REPLACE {table} SET filebase = ? WHERE filebase = ?", (new, old))
            self._known.clear()
            self._known_keys = 0

        await self._write(change)

    # -- the operator ----------------------------------------------------------------------------------------------

    async def operator_state(self) -> OperatorState:
        with self._reading() as reader:
            ((messages_per_s, recipients_per_s),) = reader.execute(
                "SELECT messages_per_s, recipients_per_s FROM operator"
            ).fetchall()
            rows = reader.execute("SELECT list, since, until, by, reason FROM pauses").fetchall()
        pauses = (
            Pause(_text(list_id), since, until, _text(by), _text(reason)) for list_id, since, until, by, reason in rows
        )
        return OperatorState(
            pauses=tuple(sorted(pauses, key=lambda pause: pause.list_id)),
            messages_per_s=messages_per_s,
            recipients_per_s=recipients_per_s,
        )

    async def set_operator_state(self, state: OperatorState, journal: JournalLine) -> None:
        pauses = [
            (_stored(pause.list_id), pause.since_s, pause.until_s, _stored(pause.by), _stored(pause.reason))
            for pause in state.pauses
        ]

        def change() -> None:
            self._execute("DELETE FROM pauses", ())
            self._execute_many(
                "INSERT OR REPLACE INTO pauses (list, since, until, by, reason) VALUES (?, ?, ?, ?, ?)", pauses
            )
            self._execute(
                "UPDATE operator SET messages_per_s = ?, recipients_per_s = ?",
                (state.messages_per_s, state.recipients_per_s),
            )
            self._journal(journal)

        await self._write(change)

    async def write_journal(self, line: JournalLine) -> None:
        await self._write(lambda: self._journal(line))

    async def journal(self, limit: int = 100) -> list[JournalLine]:
        with self._reading() as reader:
            rows = reader.execute(
                "SELECT at, by, action, detail FROM journal ORDER BY id DESC LIMIT ?", (limit,)
            ).fetchall()
        return [JournalLine(at, _text(by), _text(action), _text(detail)) for at, by, action, detail in reversed(rows)]

    # -- counters and questions --------------------------------------------------------------------------------------

    async def count(self, counts: Mapping[str, int]) -> None:
        await self._write(lambda: self._add_all(counts))

    async def totals(self) -> Totals:
        with self._reading() as reader:
            ((since,),) = reader.execute("SELECT since FROM drain").fetchall()
            return Totals(since, dict(reader.execute("SELECT name, value FROM counters").fetchall()))

    async def messages_by_message_id(self, message_id: str) -> list[tuple[MessageRecord, History]]:
        wanted = _stored(message_id)

        def search(reader: sqlite3.Connection) -> list[tuple[MessageRecord, History]]:
            rows = reader.execute(
                "SELECT m.id, l.name FROM messages m JOIN lists l ON l.id = m.list WHERE m.message_id = ? ORDER BY m.id",
                (wanted,),
            ).fetchall()
            digests = _digests(reader, {message for message, _ in rows})
            return [
                (
                    MessageRecord(tuple(digests.get(message, ())), _text(list_id), message_id),
                    _history(reader, [message]),
                )
                for message, list_id in rows
            ]

        return await self._search(search)

    async def expire(self, older_than_s: float) -> int:
        forgotten = 0
        while found := await self._search(lambda reader: _expired(reader, older_than_s)):
            messages = list(found.items())
            before = forgotten
            for start in range(0, len(messages), _EXPIRE_AT_A_TIME):
                part = messages[start : start + _EXPIRE_AT_A_TIME]
                forgotten += await self._write(partial(self._forget, part, older_than_s))
            if len(messages) < _EXPIRE_FOUND_AT_A_TIME or forgotten == before:
                break
        return forgotten

    # -- changes: inside the transaction, check before write -----------------------------------------------------------

    def _open_attempt(self, attempt: NewAttempt, keys: list[RecipientKey]) -> int:
        wanted = frozenset(keys)
        filebase = attempt.filebase
        sharing = _messages_sharing(self._writer, attempt.message.identity)
        for message in sharing:
            self._refuse_second_copy(message, filebase, wanted)
        if sharing:
            for key, before in self._waiting_states(sharing, filebase).items():
                if key in wanted:
                    check(before, State.ATTEMPTING)
            self._supersede(sharing, filebase, wanted)
        message = self._message(attempt.message, filebase, sharing)
        self._last_attempt += 1
        self._execute(
            "INSERT INTO attempts (id, message, state, at, filebase, reverse_path, reply, addresses)"
            " VALUES (?, ?, ?, ?, ?, ?, '', ?)",
            (
                self._last_attempt,
                message,
                CODES[State.ATTEMPTING],
                attempt.at_s,
                _stored_filebase(filebase),
                _stored(attempt.reverse_path),
                _json(attempt.recipients),
            ),
        )
        return self._last_attempt

    def _withdraw(self, attempt_id: int) -> None:
        self._execute("DELETE FROM attempts WHERE id = ?", (attempt_id,))

    def _refuse_second_copy(self, message: int, filebase: str, wanted: frozenset[RecipientKey]) -> None:
        known = self._know(message)
        if not wanted.isdisjoint(known.delivered):
            check(State.DELIVERED, State.ATTEMPTING)
        own = known.final.get(filebase)
        if own:
            for key in wanted & own.keys():
                check(own[key], State.ATTEMPTING)
        for attempt_id, code, addresses in self._execute(
            "SELECT id, state, addresses FROM attempts WHERE message = ?", (message,)
        ).fetchall():
            if not wanted.isdisjoint(_split(self._keys_of_attempt(attempt_id, addresses))):
                check(_STATES[code], State.ATTEMPTING)

    def _record(self, filebase: str, message: MessageRecord, outcomes: Sequence[Outcome]) -> None:
        sharing = _messages_sharing(self._writer, message.identity)
        before: dict[RecipientKey, State] = {}
        for other in sharing:
            before |= self._know(other).final.get(filebase, {})
            for attempt_id, code, stored, addresses in self._execute(
                "SELECT id, state, filebase, addresses FROM attempts WHERE message = ?", (other,)
            ).fetchall():
                if _filebase(stored) == filebase:
                    for key in _split(self._keys_of_attempt(attempt_id, addresses)):
                        before[key] = _STATES[code]
        if sharing:
            before |= self._waiting_states(sharing, filebase)
        keys_of = [[recipient_key(recipient) for recipient in outcome.recipients] for outcome in outcomes]
        for outcome, keys in zip(outcomes, keys_of, strict=True):
            for key in keys:
                check(before.get(key, State.PENDING), outcome.state)
            before.update(dict.fromkeys(keys, outcome.state))
        if not any(keys_of):
            return
        target = self._message(message, filebase, sharing)
        for outcome, keys in zip(outcomes, keys_of, strict=True):
            if keys:
                self._supersede([*sharing, target], filebase, frozenset(keys))
                self._write_outcome(target, filebase, outcome, keys)

    def _write_outcome(self, message: int, filebase: str, outcome: Outcome, keys: list[RecipientKey]) -> None:
        if outcome.state is State.IN_DOUBT:
            self._last_attempt += 1
            self._execute(
                "INSERT INTO attempts (id, message, state, at, filebase, reverse_path, reply, addresses)"
                " VALUES (?, ?, ?, ?, ?, '', ?, ?)",
                (
                    self._last_attempt,
                    message,
                    CODES[State.IN_DOUBT],
                    outcome.at_s,
                    _stored_filebase(filebase),
                    _stored(outcome.reply),
                    _json(outcome.recipients),
                ),
            )
        else:
            self._settle(message, filebase, outcome.state, outcome.reply, outcome.at_s, keys, _json(outcome.recipients))

    def _end_attempt(self, row: _AttemptRow, state: State, reply: str, at_s: float) -> None:
        if state is State.IN_DOUBT:
            self._execute(
                "UPDATE attempts SET state = ?, reply = ? WHERE id = ?", (CODES[state], _stored(reply), row.attempt_id)
            )
            return
        joined = self._attempt_keys.get(row.attempt_id)
        addresses = None
        if joined is None or state in (State.FAILED, State.HELD):
            ((addresses,),) = self._execute("SELECT addresses FROM attempts WHERE id = ?", (row.attempt_id,)).fetchall()
        keys = _split(joined) if joined is not None else _keys(json.loads(addresses or "[]"))
        self._execute("DELETE FROM attempts WHERE id = ?", (row.attempt_id,))
        if state is not State.PENDING:
            self._settle(row.message, row.filebase, state, reply, at_s, keys, addresses)

    def _settle(
        self,
        message: int,
        filebase: str,
        state: State,
        reply: str,
        at_s: float,
        keys: list[RecipientKey],
        addresses: str | None,
    ) -> None:
        """Write the row of recipients that are final or wait, and count them."""
        stored = _stored_filebase(filebase)
        if state in _WAITING:
            self._execute(
                "INSERT INTO waiting (message, filebase, state, at, recipients, reply, addresses)"
                " VALUES (?, ?, ?, ?, ?, ?, ?)",
                (
                    message,
                    stored,
                    CODES[state],
                    int(at_s),
                    b"".join(keys),
                    _stored(reply),
                    addresses if state is State.HELD else None,
                ),
            )
            return
        known = self._know(message)
        plain = state is State.DELIVERED
        ((first,),) = self._execute("SELECT filebase FROM messages WHERE id = ?", (message,)).fetchall()
        self._execute(
            "INSERT INTO deliveries (id, state, at, filebase, recipients, reply, addresses) VALUES (?, ?, ?, ?, ?, ?, ?)",
            (
                (message << _DELIVERY_BITS) + known.rows,
                CODES[state],
                int(at_s),
                None if first == stored else stored,
                b"".join(keys),
                None if plain else _stored(reply),
                addresses if state is State.FAILED else None,
            ),
        )
        self._known_keys -= known.size
        _learn(known, state, filebase, keys)
        self._known_keys += known.size
        if state is State.DELIVERED:
            self._add("delivered_recipients", len(keys))
        elif state is State.FAILED:
            self._add("bounced_recipients", len(keys))

    def _supersede(self, messages: Iterable[int], filebase: str, keys: frozenset[RecipientKey]) -> None:
        """Take `keys` out of the rows of waiting recipients of this entry."""
        wanted = set(messages)
        rows = self._execute(
            "SELECT id, message, recipients, addresses FROM waiting WHERE filebase = ?", (_stored_filebase(filebase),)
        ).fetchall()
        for row, message, joined, addresses in rows:
            present = _split(joined)
            if message not in wanted or keys.isdisjoint(present):
                continue
            left = [key for key in present if key not in keys]
            if not left:
                self._execute("DELETE FROM waiting WHERE id = ?", (row,))
                continue
            if addresses is not None:
                named = zip(present, json.loads(addresses), strict=True)
                addresses = _json([address for key, address in named if key not in keys])
            self._execute(
                "UPDATE waiting SET recipients = ?, addresses = ? WHERE id = ?", (b"".join(left), addresses, row)
            )

    def _waiting_states(self, messages: Iterable[int], filebase: str) -> dict[RecipientKey, State]:
        wanted = set(messages)
        found: dict[RecipientKey, State] = {}
        for message, code, joined in self._execute(
            "SELECT message, state, recipients FROM waiting WHERE filebase = ?", (_stored_filebase(filebase),)
        ).fetchall():
            if message in wanted:
                found.update(dict.fromkeys(_split(joined), _STATES[code]))
        return found

    def _message(self, record: MessageRecord, filebase: str, sharing: list[int]) -> int:
        """The row of exactly this identity, made if there is none."""
        digests = set(record.identity)
        if not digests:
            raise ValueError("a message needs at least one identity digest")
        if sharing:
            for message in sharing:
                ((count,),) = self._execute("SELECT digests FROM messages WHERE id = ?", (message,)).fetchall()
                if count == len(digests) and all(
                    self._execute(
                        "SELECT 1 FROM identities WHERE digest = ? AND message = ?", (digest, message)
                    ).fetchall()
                    for digest in digests
                ):
                    return message
        cursor = self._execute(
            "INSERT INTO messages (list, digests, filebase, message_id) VALUES (?, ?, ?, ?)",
            (self._list(record.list_id), len(digests), _stored_filebase(filebase), _stored(record.message_id)),
        )
        message = cursor.lastrowid or 0
        for digest in digests:
            self._execute("INSERT INTO identities (digest, message) VALUES (?, ?)", (digest, message))
        self._remember(message, _Known())
        return message

    def _list(self, list_id: str) -> int:
        number = self._lists.get(list_id)
        if number is None:
            stored = _stored(list_id)
            self._execute("INSERT OR IGNORE INTO lists (name) VALUES (?)", (stored,))
            ((number,),) = self._execute("SELECT id FROM lists WHERE name = ?", (stored,)).fetchall()
            self._lists[list_id] = number
        return number

    def _attempt(self, attempt_id: int) -> _AttemptRow:
        row = self._execute("SELECT message, state, filebase FROM attempts WHERE id = ?", (attempt_id,)).fetchone()
        if row is None:
            raise IllegalTransition(f"there is no open attempt {attempt_id}")
        return _AttemptRow(attempt_id, row[0], _STATES[row[1]], _filebase(row[2]))

    def _keys_of_attempt(self, attempt_id: int, addresses: str) -> bytes:
        joined = self._attempt_keys.get(attempt_id)
        return joined if joined is not None else b"".join(_keys(json.loads(addresses)))

    def _forget(self, messages: Sequence[tuple[int, list[bytes]]], older_than_s: float) -> int:
        gone = 0
        for message, digests in messages:
            if not _is_expired(self._writer, message, older_than_s):
                continue
            gone += self._execute("DELETE FROM messages WHERE id = ?", (message,)).rowcount
            self._execute("DELETE FROM deliveries WHERE id BETWEEN ? AND ?", _span(message))
            self._execute_many(
                "DELETE FROM identities WHERE digest = ? AND message = ?", [(digest, message) for digest in digests]
            )
            known = self._known.pop(message, None)
            self._known_keys -= known.size if known else 0
        return gone

    def _journal(self, line: JournalLine) -> None:
        self._execute(
            "INSERT INTO journal (at, by, action, detail) VALUES (?, ?, ?, ?)",
            (line.at_s, _stored(line.by), _stored(line.action), _stored(line.detail)),
        )

    # -- what is remembered between writes -----------------------------------------------------------------------------

    def _know(self, message: int) -> _Known:
        """From the cache, or read. Without it, one message to 5,000 recipients one each would be read 5,000 times."""
        known = self._known.get(message)
        if known is not None:
            self._known.move_to_end(message)
            return known
        known = _Known()
        ((first,),) = self._execute("SELECT filebase FROM messages WHERE id = ?", (message,)).fetchall()
        start, end = _span(message)
        for row, code, stored, joined in self._execute(
            "SELECT id, state, filebase, recipients FROM deliveries WHERE id BETWEEN ? AND ?", (start, end)
        ):
            _learn(known, _STATES[code], _filebase(first if stored is None else stored), _split(joined))
            known.rows = row - start + 1
        self._remember(message, known)
        return known

    def _remember(self, message: int, known: _Known) -> None:
        self._known[message] = known
        self._known_keys += known.size
        while self._known_keys > _REMEMBERED_KEYS and len(self._known) > 1:
            self._known_keys -= self._known.popitem(last=False)[1].size

    def _forget_uncommitted(self) -> None:
        self._counted.clear()
        self._lists.clear()
        self._known.clear()
        self._known_keys = 0

    def _add(self, name: str, count: int) -> None:
        self._counted[name] = self._counted.get(name, 0) + count

    def _add_all(self, counts: Mapping[str, int]) -> None:
        for name, count in counts.items():
            self._add(name, count)

    def _write_counters(self) -> None:
        """Once per group: twenty transactions that end together cost one row per counter."""
        for name, count in self._counted.items():
            self._execute(
                "INSERT INTO counters (name, value) VALUES (?, ?) ON CONFLICT DO UPDATE SET value = value + excluded.value",
                (name, count),
            )
        self._counted.clear()

    # -- connections ---------------------------------------------------------------------------------------------------

    @property
    def _file(self) -> LedgerFile:
        if self._opened is None:
            raise LedgerNotDurable(f"the ledger {self._path} is not open")
        return self._opened[0]

    @property
    def _writer(self) -> sqlite3.Connection:
        return self._file.writer

    async def _write(self, change: Callable[[], T], undo: Callable[[T], None] | None = None) -> T:
        if self._opened is None:
            raise LedgerNotDurable(f"the ledger {self._path} is not open")
        return await self._opened[1].write(change, undo)

    def _execute(self, statement: str, values: Sequence[Any]) -> sqlite3.Cursor:
        return self._file.writer.execute(statement, values)

    def _execute_many(self, statement: str, rows: Iterable[Sequence[Any]]) -> None:
        self._file.writer.executemany(statement, rows)

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        reader = self._file.reader
        try:
            yield reader
        except sqlite3.Error as exc:
            raise translated(exc, self._path) from exc

    async def _search(self, search: Callable[[sqlite3.Connection], T]) -> T:
        """Run a search that may take long in a thread, on a connection and a snapshot of its own."""
        path = self._file.path

        def run() -> T:
            try:
                with closing(open_reader(path)) as reader:
                    reader.execute("BEGIN")
                    return search(reader)
            except sqlite3.Error as exc:
                raise translated(exc, path) from exc

        return await asyncio.to_thread(run)


def _messages_sharing(connection: sqlite3.Connection, identity: Sequence[bytes]) -> list[int]:
    places = ",".join("?" * len(identity))
    rows = connection.execute(f"SELECT message FROM identities WHERE digest IN ({places})", identity).fetchall()
    return sorted({message for (message,) in rows}) if rows else []


def _history(reader: sqlite3.Connection, messages: Sequence[int]) -> History:
    """Read in one snapshot: between two an attempt could end, and be seen neither as open nor as delivered."""
    if not reader.in_transaction:
        reader.execute("BEGIN")
        try:
            return _history(reader, messages)
        finally:
            reader.execute("COMMIT")
    coverage: list[Coverage] = []
    for message in messages:
        first = reader.execute("SELECT filebase FROM messages WHERE id = ?", (message,)).fetchone()
        if first is None:
            continue
        for code, at, stored, joined, reply, addresses in reader.execute(
            "SELECT state, at, filebase, recipients, reply, addresses FROM deliveries WHERE id BETWEEN ? AND ?"
            " UNION ALL SELECT state, at, filebase, recipients, reply, addresses FROM waiting WHERE message = ?",
            (*_span(message), message),
        ):
            coverage.append(
                Coverage(
                    _filebase(first[0] if stored is None else stored),
                    _STATES[code],
                    float(at),
                    frozenset(_split(joined)),
                    _text(reply or ""),
                    tuple(json.loads(addresses)) if addresses else (),
                )
            )
        for code, at, stored, reply, addresses in reader.execute(
            "SELECT state, at, filebase, reply, addresses FROM attempts WHERE message = ?", (message,)
        ):
            named = tuple(json.loads(addresses))
            coverage.append(
                Coverage(_filebase(stored), _STATES[code], float(int(at)), frozenset(_keys(named)), _text(reply), named)
            )
    return History(tuple(sorted(coverage, key=lambda part: (part.at_s, part.filebase, part.state))))


def _expired(reader: sqlite3.Connection, older_than_s: float) -> dict[int, list[bytes]]:
    """Messages to forget, some at a time, with their digests."""
    rows = reader.execute(
        "SELECT id FROM messages m WHERE "
        + _NOTHING_KEEPS.format(message="m.id")
        + f" LIMIT {_EXPIRE_FOUND_AT_A_TIME}",
        {"older_than": older_than_s},
    ).fetchall()
    return _digests(reader, {message for (message,) in rows})


_NOTHING_KEEPS = (
    "NOT EXISTS (SELECT 1 FROM deliveries WHERE at >= :older_than"
    " AND id BETWEEN {message} << 24 AND ({message} << 24) + 16777215)"
    " AND NOT EXISTS (SELECT 1 FROM waiting WHERE message = {message})"
    " AND NOT EXISTS (SELECT 1 FROM attempts WHERE message = {message})"
)


def _is_expired(connection: sqlite3.Connection, message: int, older_than_s: float) -> bool:
    values = {"older_than": older_than_s, "message": message}
    return bool(connection.execute("SELECT " + _NOTHING_KEEPS.format(message=":message"), values).fetchone()[0])


def _digests(reader: sqlite3.Connection, messages: set[int]) -> dict[int, list[bytes]]:
    """The digests of some messages, ascending. Reads the whole table: nothing else needs an index this way round."""
    found: dict[int, list[bytes]] = {message: [] for message in messages}
    if messages:
        for digest, message in reader.execute("SELECT digest, message FROM identities"):
            if message in found:
                found[message].append(digest)
    return found


def _learn(known: _Known, state: State, filebase: str, keys: Iterable[RecipientKey]) -> None:
    if state is State.DELIVERED:
        known.delivered.update(keys)
    else:
        known.final.setdefault(filebase, {}).update(dict.fromkeys(keys, state))
    known.rows += 1


def _span(message: int) -> tuple[int, int]:
    start = message << _DELIVERY_BITS
    return start, start + (1 << _DELIVERY_BITS) - 1


def _keys(addresses: Iterable[str]) -> list[RecipientKey]:
    return [recipient_key(address) for address in addresses]


def _split(joined: bytes) -> list[RecipientKey]:
    return [joined[start : start + RECIPIENT_KEY_BYTES] for start in range(0, len(joined), RECIPIENT_KEY_BYTES)]


def _json(addresses: Sequence[str]) -> str:
    """ASCII whatever is in them, lone surrogates of undecodable bytes included."""
    return json.dumps(addresses, separators=(",", ":"))


def _stored(text: str) -> _Stored:
    """Text as a column value; what is not ASCII (and may hold undecodable bytes) as its bytes."""
    return text if text.isascii() else text.encode("utf-8", "surrogateescape")


def _text(value: _Stored) -> str:
    return value if isinstance(value, str) else value.decode("utf-8", "surrogateescape")


def _stored_filebase(filebase: str) -> _Stored:
    """A filebase as Mailman makes them in 28 bytes instead of 59: the float, then the digest."""
    when, _, digest = filebase.partition("+")
    if len(digest) == 40 and _WHEN.match(when) and _HEX.match(digest):
        packed = struct.pack(">d", float(when)) + bytes.fromhex(digest)
        if packed[0] == _PACKED and repr(float(when)) == when:
            return packed
    return filebase if filebase.isascii() else b"\0" + filebase.encode("utf-8", "surrogateescape")


def _filebase(value: _Stored) -> str:
    if isinstance(value, str):
        return value
    if value[0] == _PACKED:
        return f"{struct.unpack('>d', value[:8])[0]!r}+{value[8:].hex()}"
    return value[1:].decode("utf-8", "surrogateescape")
