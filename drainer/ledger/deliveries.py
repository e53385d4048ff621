"""Every change to messages, attempts and deliveries, inside the writer's transaction: check first, then write.

In    the writer's connection, and calls from within a group's transaction (group_commit.py)
Out   rows; IllegalTransition, with nothing written, for what states.py does not allow
Not here  when it becomes durable; the entries' own tables (sqlite.py)

Between transactions it remembers a bounded number of things that can all be read again: `forget` after a rollback.
"""

from __future__ import annotations

import sqlite3
from collections import OrderedDict
from collections.abc import Callable, Collection, Container, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from drainer.errors import IllegalTransition
from drainer.ledger.columns import (
    CODES,
    DELIVERY_BITS,
    STATES,
    Stored,
    addresses_in,
    delivery_ids,
    filebase_in,
    keys_of,
    split_keys,
    stored_addresses,
    stored_filebase,
    stored_text,
    text_in,
)
from drainer.ledger.evidence import Evidence, doubt_resolved
from drainer.ledger.records import (
    RECIPIENT_KEY_BYTES,
    Learnt,
    MessageRecord,
    NewAttempt,
    NewDsn,
    Outcome,
    RecipientKey,
    recipient_key,
)
from drainer.ledger.states import State, check, check_close, check_record, check_resolve, check_split
from drainer.ledger.tables import UndoneFailure, is_expired, messages_sharing

_MESSAGES_AT_A_TIME = 500
REMEMBERED_KEYS = 100_000
"""Recipient keys remembered at most, about 10 MB; a single message may have more."""


@dataclass(slots=True)
class _Known:
    """What binds later attempts at one message: keys delivered, keys final for an entry.

    first  the filebase column of its row in `messages`
    rows   number of its next row in `deliveries`
    """

    first: Stored
    delivered: set[RecipientKey] = field(default_factory=set)
    final: dict[Stored, dict[RecipientKey, State]] = field(default_factory=dict)
    rows: int = 0

    def learn(self, state: State, filebase: Stored, keys: Iterable[RecipientKey]) -> None:
        if state is State.DELIVERED:
            self.delivered.update(keys)
        else:
            self.final.setdefault(filebase, {}).update(dict.fromkeys(keys, state))

    def size(self) -> int:
        return 1 + len(self.delivered) + sum(map(len, self.final.values()))


@dataclass(slots=True)
class _Attempt:
    """A row of `attempts`. `addresses` is read when needed."""

    message: int
    state: State
    filebase: Stored
    keys: list[RecipientKey]


class Deliveries:
    """In the transaction that writes it, told of what happens.

    count  what was delivered, bounced or transacted
    tell   what became of doubts
    """

    def __init__(
        self,
        writer: sqlite3.Connection,
        count: Callable[[str, int], None],
        tell: Callable[[Iterable[Evidence]], None],
    ) -> None:
        self._execute: Callable[[str, Sequence[Any]], sqlite3.Cursor] = writer.execute
        self._writer = writer
        self._count = count
        self._tell = tell
        ((last,),) = writer.execute("SELECT coalesce(max(id), 0) FROM attempts").fetchall()
        self._last_attempt = int(last)
        self._lists: dict[str, int] = {}
        self._open: dict[int, _Attempt] = {}
        self._known: OrderedDict[int, _Known] = OrderedDict()
        self._known_keys = 0

    def forget(self) -> None:
        """Drop all that is remembered, after a rollback or a change of names."""
        self._lists.clear()
        self._open.clear()
        self._known.clear()
        self._known_keys = 0

    def open_attempt(self, attempt: NewAttempt, keys: list[RecipientKey]) -> int:
        """keys: recipient_key of each recipient. Returns the attempt's id."""
        filebase = stored_filebase(attempt.filebase)
        sharing = messages_sharing(self._writer, attempt.message.identity)
        if sharing:
            wanted = frozenset(keys)
            for message in sharing:
                self._refuse_second_copy(message, filebase, wanted)
            for key, before in self._waiting_states(sharing, filebase).items():
                if key in wanted:
                    check(before, State.ATTEMPTING)
            self._supersede(sharing, filebase, wanted)
        message = self._message(attempt.message, filebase, sharing)
        addresses = stored_addresses(attempt.recipients)
        reverse_path = stored_text(attempt.reverse_path)
        attempt_id = self._insert_attempt(
            message, State.ATTEMPTING, attempt.at_s, filebase, reverse_path, "", addresses
        )
        self._open[attempt_id] = _Attempt(message, State.ATTEMPTING, filebase, keys)
        return attempt_id

    def withdraw_attempt(self, attempt_id: int) -> None:
        self._open.pop(attempt_id, None)
        self._execute("DELETE FROM attempts WHERE id = ?", (attempt_id,))

    def close_attempt(
        self, attempt_id: int, state: State, reply: str, at_s: float, dsns: Sequence[NewDsn] = ()
    ) -> tuple[NewDsn, ...]:
        """Returns the DSNs that are owed now."""
        attempt = self._attempt(attempt_id)
        check_close(attempt.state, state)
        owed = self._not_told(dsns)
        self._end_attempt(attempt_id, attempt, state, reply, at_s)
        self._count("transactions", 1)
        return owed

    def split_attempt(self, attempt_id: int, recipients: Sequence[str]) -> int:
        attempt = self._attempt(attempt_id)
        ((at_s, reverse_path, joined),) = self._execute(
            "SELECT at, reverse_path, addresses FROM attempts WHERE id = ?", (attempt_id,)
        ).fetchall()
        named = addresses_in(joined)
        check_split(attempt.state, named, recipients)
        rest = tuple(address for address in named if address not in recipients)
        self._open.pop(attempt_id, None)
        self._execute("UPDATE attempts SET addresses = ? WHERE id = ?", (stored_addresses(rest), attempt_id))
        return self._insert_attempt(
            attempt.message, attempt.state, at_s, attempt.filebase, reverse_path, "", stored_addresses(recipients)
        )

    def resolve(self, attempt_id: int, state: State, why: str, at_s: float) -> None:
        attempt = self._attempt(attempt_id)
        check_resolve(attempt.state, state)
        if attempt.state is State.IN_DOUBT:
            self._tell([self._resolved(attempt_id, state, why, at_s)])
        self._end_attempt(attempt_id, attempt, state, why, at_s)

    def _resolved(self, attempt_id: int, state: State, why: str, at_s: float) -> Evidence:
        ((filebase, addresses, list_id, message_id),) = self._execute(
            "SELECT a.filebase, a.addresses, l.name, m.message_id FROM attempts a JOIN messages m ON m.id = a.message"
            " JOIN lists l ON l.id = m.list WHERE a.id = ?",
            (attempt_id,),
        ).fetchall()
        return doubt_resolved(
            filebase_in(filebase), text_in(list_id), text_in(message_id), addresses_in(addresses), state, why, at_s
        )

    def record(
        self, entry: str, message: MessageRecord, outcomes: Sequence[Outcome], dsns: Sequence[NewDsn] = ()
    ) -> tuple[NewDsn, ...]:
        """Returns the DSNs that are owed now."""
        filebase = stored_filebase(entry)
        sharing = messages_sharing(self._writer, message.identity)
        keyed = [(outcome, keys_of(outcome.recipients)) for outcome in outcomes if outcome.recipients]
        before = self._states_for_entry(sharing, filebase)
        for outcome, keys in keyed:
            for key in keys:
                check_record(before.get(key, State.PENDING), outcome.state)
            before.update(dict.fromkeys(keys, outcome.state))
        if not keyed:
            return ()
        owed = self._not_told(dsns)
        target = self._message(message, filebase, sharing)
        for outcome, keys in keyed:
            self._supersede([*sharing, target], filebase, frozenset(keys))
            addresses, reply = stored_addresses(outcome.recipients), stored_text(outcome.reply)
            if outcome.state is State.IN_DOUBT:
                self._insert_attempt(target, State.IN_DOUBT, outcome.at_s, filebase, "", reply, addresses)
            else:
                self._settle(target, filebase, outcome.state, reply, outcome.at_s, keys, addresses)
        return owed

    def put_back(
        self, entry: str, message: MessageRecord, skipped: Collection[RecipientKey], waiting: Sequence[Outcome]
    ) -> None:
        """Recipients this entry SKIPPED are owed again; those of `waiting` wait again, unless settled since."""
        filebase = stored_filebase(entry)
        self._unskip(messages_sharing(self._writer, message.identity), filebase, frozenset(skipped))
        sharing = messages_sharing(self._writer, message.identity)
        own = self._states_for_entry(sharing, filebase)
        bound = {key for m in sharing for key in self._know(m).delivered}
        bound.update(key for m in sharing for attempt in self._attempts_of(m) for key in attempt.keys)
        for outcome in waiting:
            addresses, keys = [], []
            for address, key in zip(outcome.recipients, keys_of(outcome.recipients), strict=True):
                if key not in bound and own.get(key, State.PENDING) in (State.PENDING, State.DEFERRED):
                    addresses.append(address)
                    keys.append(key)
            if keys:
                target = self._message(message, filebase, sharing)
                self._supersede([*sharing, target], filebase, frozenset(keys))
                reply = stored_text(outcome.reply)
                self._settle(target, filebase, outcome.state, reply, outcome.at_s, keys, stored_addresses(addresses))

    def _unskip(self, messages: Iterable[int], filebase: Stored, keys: frozenset[RecipientKey]) -> None:
        self.forget()
        gone = []
        for message in messages:
            ((first,),) = self._execute("SELECT filebase FROM messages WHERE id = ?", (message,)).fetchall()
            for row, own, joined in self._execute(
                "SELECT id, filebase, recipients FROM deliveries WHERE id BETWEEN ? AND ? AND state = ?",
                (*delivery_ids(message), CODES[State.SKIPPED]),
            ).fetchall():
                left = [key for key in split_keys(joined) if key not in keys]
                if (first if own is None else own) != filebase or len(left) * RECIPIENT_KEY_BYTES == len(joined):
                    continue
                if left:
                    self._execute("UPDATE deliveries SET recipients = ? WHERE id = ?", (b"".join(left), row))
                else:
                    gone.append(row)
        self.unlearn(gone)

    def learn(self, name: str, learnt: Sequence[Learnt]) -> int:
        stored, news = stored_filebase(name), 0
        for one in learnt:
            sharing = messages_sharing(self._writer, one.message.identity)
            target = self._message(one.message, stored, sharing)
            had = frozenset[RecipientKey]().union(*(self._know(message).delivered for message in {*sharing, target}))
            if keys := sorted(one.recipients - had):
                self._write_final(target, stored, State.DELIVERED, "", one.at_s, keys, "")
                news += len(keys)
        return news

    def unlearn(self, rows: Iterable[int]) -> None:
        """rows: ids in `deliveries`. Messages nothing else is known of go with them."""
        self.forget()
        gone = list(rows)
        self._writer.executemany("DELETE FROM deliveries WHERE id = ?", [(row,) for row in gone])
        empty = [m for m in sorted({row >> DELIVERY_BITS for row in gone}) if is_expired(self._writer, m, 0.0)]
        for start in range(0, len(empty), _MESSAGES_AT_A_TIME):
            some = empty[start : start + _MESSAGES_AT_A_TIME]
            places = ",".join("?" * len(some))
            self._execute(f"DELETE FROM messages WHERE id IN ({places})", some)
            self._execute(f"DELETE FROM identities WHERE message IN ({places})", some)

    def undo_failures(self, failures: Sequence[UndoneFailure]) -> int:
        """failures: as found before; a row that is gone meanwhile undoes nobody."""
        self.forget()
        undone, gone = 0, []
        for one in failures:
            changed = self._execute(
                "UPDATE deliveries SET recipients = ?, addresses = ? WHERE id = ?", (one.keys, one.addresses, one.row)
            ).rowcount
            undone += one.undone * changed
            if changed and not one.keys:
                gone.append(one.row)
        self.unlearn(gone)
        self._count("undone_recipients", undone)
        return undone

    def rename_entry(self, before: Stored, after: Stored, messages: Iterable[int], deliveries: Iterable[int]) -> None:
        """messages, deliveries: ids of the rows of these tables that have the old name."""
        self.forget()
        self._writer.executemany("UPDATE messages SET filebase = ? WHERE id = ?", [(after, row) for row in messages])
        self._writer.executemany(
            "UPDATE deliveries SET filebase = ? WHERE id = ?", [(after, row) for row in deliveries]
        )
        for table in ("waiting", "attempts"):
            self._execute(f"UPDATE {table} SET filebase = ? WHERE filebase = ?", (after, before))

    def drop_waiting(self, filebase: Stored, state: State) -> None:
        """Return an entry's DEFERRED or HELD recipients to PENDING."""
        self._execute("DELETE FROM waiting WHERE filebase = ? AND state = ?", (filebase, CODES[state]))

    def expire(self, messages: Sequence[tuple[int, list[bytes]]], older_than_s: float) -> int:
        """messages: ids with their digests, as found before; those that are not to go any more stay."""
        gone = 0
        for message, digests in messages:
            if not is_expired(self._writer, message, older_than_s):
                continue
            gone += self._execute("DELETE FROM messages WHERE id = ?", (message,)).rowcount
            self._execute("DELETE FROM deliveries WHERE id BETWEEN ? AND ?", delivery_ids(message))
            self._writer.executemany(
                "DELETE FROM identities WHERE digest = ? AND message = ?", [(digest, message) for digest in digests]
            )
            known = self._known.pop(message, None)
            self._known_keys -= known.size() if known else 0
        return gone

    def _refuse_second_copy(self, message: int, filebase: Stored, wanted: frozenset[RecipientKey]) -> None:
        known = self._know(message)
        if not wanted.isdisjoint(known.delivered):
            check(State.DELIVERED, State.ATTEMPTING)
        own = known.final.get(filebase, {})
        for key in wanted & own.keys():
            check(own[key], State.ATTEMPTING)
        for attempt in self._attempts_of(message):
            if not wanted.isdisjoint(attempt.keys):
                check(attempt.state, State.ATTEMPTING)

    def _not_told(self, dsns: Sequence[NewDsn]) -> tuple[NewDsn, ...]:
        """The DSNs without recipients that failed before, by whatever entry of their message."""
        owed = []
        for dsn in dsns:
            failed: set[RecipientKey] = set()
            for message in messages_sharing(self._writer, dsn.message.identity):
                for final in self._know(message).final.values():
                    failed |= {key for key, state in final.items() if state is State.FAILED}
            recipients = tuple(r for r in dsn.recipients if recipient_key(r.owed) not in failed)
            if recipients:
                owed.append(replace(dsn, recipients=recipients))
        return tuple(owed)

    def _states_for_entry(self, messages: Sequence[int], filebase: Stored) -> dict[RecipientKey, State]:
        found: dict[RecipientKey, State] = {}
        for message in messages:
            for state, own, joined in self._deliveries_of(message):
                if own == filebase:
                    found.update(dict.fromkeys(split_keys(joined), state))
            for attempt in self._attempts_of(message):
                if attempt.filebase == filebase:
                    found.update(dict.fromkeys(attempt.keys, attempt.state))
        return found | self._waiting_states(messages, filebase)

    def _waiting_states(self, messages: Container[int], filebase: Stored) -> dict[RecipientKey, State]:
        found: dict[RecipientKey, State] = {}
        for message, code, joined in self._execute(
            "SELECT message, state, recipients FROM waiting WHERE filebase = ?", (filebase,)
        ).fetchall():
            if message in messages:
                found.update(dict.fromkeys(split_keys(joined), STATES[code]))
        return found

    def _deliveries_of(self, message: int) -> list[tuple[State, Stored, bytes]]:
        ((first,),) = self._execute("SELECT filebase FROM messages WHERE id = ?", (message,)).fetchall()
        return [
            (STATES[code], first if filebase is None else filebase, joined)
            for code, filebase, joined in self._execute(
                "SELECT state, filebase, recipients FROM deliveries WHERE id BETWEEN ? AND ?", delivery_ids(message)
            )
        ]

    def _attempts_of(self, message: int) -> list[_Attempt]:
        rows = self._execute("SELECT id FROM attempts WHERE message = ?", (message,)).fetchall()
        return [self._attempt(attempt_id) for (attempt_id,) in rows]

    def _attempt(self, attempt_id: int) -> _Attempt:
        attempt = self._open.get(attempt_id)
        if attempt is not None:
            return attempt
        row = self._execute(
            "SELECT message, state, filebase, addresses FROM attempts WHERE id = ?", (attempt_id,)
        ).fetchone()
        if row is None:
            raise IllegalTransition(f"there is no open attempt {attempt_id}")
        message, code, filebase, addresses = row
        return _Attempt(message, STATES[code], filebase, keys_of(addresses_in(addresses)))

    def _know(self, message: int) -> _Known:
        """From the cache, or read. Without it, one message to 5,000 recipients one each would be read 5,000 times."""
        known = self._known.get(message)
        if known is not None:
            self._known.move_to_end(message)
            return known
        ((first,),) = self._execute("SELECT filebase FROM messages WHERE id = ?", (message,)).fetchall()
        ((last,),) = self._execute(
            "SELECT max(id) FROM deliveries WHERE id BETWEEN ? AND ?", delivery_ids(message)
        ).fetchall()
        known = _Known(first, rows=0 if last is None else last - delivery_ids(message)[0] + 1)
        for state, filebase, joined in self._deliveries_of(message):
            known.learn(state, filebase, split_keys(joined))
        self._remember(message, known)
        return known

    def _remember(self, message: int, known: _Known) -> None:
        self._known[message] = known
        self._known_keys += known.size()
        while self._known_keys > REMEMBERED_KEYS and len(self._known) > 1:
            self._known_keys -= self._known.popitem(last=False)[1].size()

    def _insert_attempt(
        self,
        message: int,
        state: State,
        at_s: float,
        filebase: Stored,
        reverse_path: Stored,
        reply: Stored,
        addresses: str,
    ) -> int:
        self._last_attempt += 1
        self._execute(
            "INSERT INTO attempts (id, message, state, at, filebase, reverse_path, reply, addresses)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (self._last_attempt, message, CODES[state], at_s, filebase, reverse_path, reply, addresses),
        )
        return self._last_attempt

    def _end_attempt(self, attempt_id: int, attempt: _Attempt, state: State, reply: str, at_s: float) -> None:
        self._open.pop(attempt_id, None)
        if state is State.IN_DOUBT:
            self._execute(
                "UPDATE attempts SET state = ?, reply = ? WHERE id = ?", (CODES[state], stored_text(reply), attempt_id)
            )
            return
        addresses = ""
        if state in (State.FAILED, State.HELD):
            ((addresses,),) = self._execute("SELECT addresses FROM attempts WHERE id = ?", (attempt_id,)).fetchall()
        self._execute("DELETE FROM attempts WHERE id = ?", (attempt_id,))
        if state is not State.PENDING:
            self._settle(attempt.message, attempt.filebase, state, stored_text(reply), at_s, attempt.keys, addresses)

    def _settle(
        self,
        message: int,
        filebase: Stored,
        state: State,
        reply: Stored,
        at_s: float,
        keys: list[RecipientKey],
        addresses: str,
    ) -> None:
        """Write the row of recipients that are final or wait, and count them."""
        if state in (State.DEFERRED, State.HELD):
            joined = b"".join(keys)
            self._execute(
                "INSERT INTO waiting (message, filebase, state, at, recipients, reply, addresses)"
                " VALUES (?, ?, ?, ?, ?, ?, ?)",
                (message, filebase, CODES[state], int(at_s), joined, reply, addresses if state is State.HELD else None),
            )
            return
        self._write_final(message, filebase, state, reply, at_s, keys, addresses)
        if state is State.DELIVERED:
            self._count("delivered_recipients", len(keys))
        elif state is State.FAILED:
            self._count("bounced_recipients", len(keys))

    def _write_final(
        self,
        message: int,
        filebase: Stored,
        state: State,
        reply: Stored,
        at_s: float,
        keys: list[RecipientKey],
        addresses: str,
    ) -> None:
        known = self._know(message)
        self._execute(
            "INSERT INTO deliveries (id, state, at, filebase, recipients, reply, addresses) VALUES (?, ?, ?, ?, ?, ?, ?)",
            (
                delivery_ids(message)[0] + known.rows,
                CODES[state],
                int(at_s),
                None if filebase == known.first else filebase,
                b"".join(keys),
                None if state is State.DELIVERED else reply,
                addresses if state is State.FAILED else None,
            ),
        )
        self._known_keys -= known.size()
        known.rows += 1
        known.learn(state, filebase, keys)
        self._known_keys += known.size()

    def _supersede(self, messages: Container[int], filebase: Stored, keys: frozenset[RecipientKey]) -> None:
        """Take `keys` out of the rows of waiting recipients of this entry."""
        for row, message, joined, addresses in self._execute(
            "SELECT id, message, recipients, addresses FROM waiting WHERE filebase = ?", (filebase,)
        ).fetchall():
            present = split_keys(joined)
            if message not in messages or keys.isdisjoint(present):
                continue
            left = [key for key in present if key not in keys]
            if not left:
                self._execute("DELETE FROM waiting WHERE id = ?", (row,))
                continue
            if addresses is not None:
                named = zip(present, addresses_in(addresses), strict=True)
                addresses = stored_addresses([address for key, address in named if key not in keys])
            self._execute(
                "UPDATE waiting SET recipients = ?, addresses = ? WHERE id = ?", (b"".join(left), addresses, row)
            )

    def _message(self, record: MessageRecord, filebase: Stored, sharing: Iterable[int]) -> int:
        """The row of exactly this identity, made if there is none."""
        digests = set(record.identity)
        if not digests:
            raise ValueError("a message needs at least one identity digest")
        for message in sharing:
            ((count,),) = self._execute("SELECT digests FROM messages WHERE id = ?", (message,)).fetchall()
            if count == len(digests) and all(
                self._execute("SELECT 1 FROM identities WHERE digest = ? AND message = ?", (digest, message)).fetchall()
                for digest in digests
            ):
                return message
        cursor = self._execute(
            "INSERT INTO messages (list, digests, filebase, message_id) VALUES (?, ?, ?, ?)",
            (self._list(record.list_id), len(digests), filebase, stored_text(record.message_id)),
        )
        message = int(cursor.lastrowid or 0)
        places = ",".join(["(?, ?)"] * len(digests))
        values = [value for digest in digests for value in (digest, message)]
        self._execute(f"INSERT INTO identities (digest, message) VALUES {places}", values)
        self._remember(message, _Known(filebase))
        return message

    def _list(self, list_id: str) -> int:
        number = self._lists.get(list_id)
        if number is None:
            stored = stored_text(list_id)
            self._execute("INSERT OR IGNORE INTO lists (name) VALUES (?)", (stored,))
            ((number,),) = self._execute("SELECT id FROM lists WHERE name = ?", (stored,)).fetchall()
            self._lists[list_id] = int(number)
        return self._lists[list_id]
