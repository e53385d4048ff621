"""What is remembered of a message between transactions: recipients that are delivered, those final for an entry, attempts.

In    the writer's connection, inside its transaction
Out   KnownMessage, from memory or read
Not here  what may follow from it (attempts.py, settle_rows.py)

All of it can be read again: `forget` after a rollback, after a change of names, and when another writer has committed.
"""

from __future__ import annotations

import sqlite3
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field

from drainer.ledger.columns import STATES, Stored, addresses_in, delivery_ids, keys_of, split_keys
from drainer.ledger.records import RecipientKey
from drainer.ledger.states import State

REMEMBERED_KEYS = 100_000
"""Recipient keys remembered at most, about 10 MB; a single message may have more."""

EntryKey = tuple[int, Stored]
"""An entry: the number of its queue, and its filebase as it is stored. Two queues may have entries of one filebase."""


@dataclass(slots=True)
class AttemptRow:
    """A row of `attempts`. Its addresses are read when needed."""

    queue: int
    message: int
    state: State
    filebase: Stored
    keys: list[RecipientKey]


@dataclass(slots=True)
class KnownMessage:
    """What binds later attempts at one message: keys delivered, keys final for an entry, attempts that are open or in doubt.

    first     the entry that carried it first
    rows      number of its next row in `deliveries`
    attempts  by id as it is stored, of whatever queue
    """

    first: EntryKey
    delivered: set[RecipientKey] = field(default_factory=set)
    final: dict[EntryKey, dict[RecipientKey, State]] = field(default_factory=dict)
    rows: int = 0
    attempts: dict[bytes, AttemptRow] = field(default_factory=dict)

    def learn(self, state: State, entry: EntryKey, keys: Iterable[RecipientKey]) -> int:
        """Returns how many keys it has more than before."""
        known: set[RecipientKey] | dict[RecipientKey, State]
        if state is State.DELIVERED:
            known = self.delivered
            before = len(known)
            known.update(keys)
        else:
            known = self.final.setdefault(entry, {})
            before = len(known)
            known.update(dict.fromkeys(keys, state))
        return len(known) - before

    def failed(self) -> set[RecipientKey]:
        """Keys that failed, by any entry of any queue."""
        return {key for final in self.final.values() for key, state in final.items() if state is State.FAILED}

    def size(self) -> int:
        waiting = sum(len(attempt.keys) for attempt in self.attempts.values())
        return 1 + len(self.delivered) + sum(map(len, self.final.values())) + waiting


class KnownRecipients:
    """Without it, one message to 5,000 recipients one each would be read 5,000 times."""

    def __init__(self, writer: sqlite3.Connection) -> None:
        self._writer = writer
        self._known: OrderedDict[int, KnownMessage] = OrderedDict()
        self._keys = 0

    def forget(self) -> None:
        self._known.clear()
        self._keys = 0

    def drop(self, message: int) -> None:
        """The message is gone."""
        known = self._known.pop(message, None)
        self._keys -= known.size() if known else 0

    def of(self, message: int) -> KnownMessage:
        known = self._known.get(message)
        if known is not None:
            self._known.move_to_end(message)
            return known
        start, end = delivery_ids(message)
        ((last,),) = self._writer.execute("SELECT max(id) FROM deliveries WHERE id BETWEEN ? AND ?", (start, end))
        known = KnownMessage(first_entry(self._writer, message), rows=0 if last is None else last - start + 1)
        for state, entry, keys in final_rows(self._writer, message, known.first):
            known.learn(state, entry, keys)
        for attempt_id, queue, code, filebase, addresses in self._writer.execute(
            "SELECT id, queue, state, filebase, addresses FROM attempts WHERE message = ?", (message,)
        ):
            keys = keys_of(addresses_in(addresses))
            known.attempts[attempt_id] = AttemptRow(queue, message, STATES[code], filebase, keys)
        self.remember(message, known)
        return known

    def remember(self, message: int, known: KnownMessage) -> None:
        self._known[message] = known
        self._keys += known.size()
        while self._keys > REMEMBERED_KEYS and len(self._known) > 1:
            self._keys -= self._known.popitem(last=False)[1].size()

    def open(self, attempt_id: bytes, attempt: AttemptRow) -> None:
        """A row of `attempts` was written, or written anew."""
        if known := self._known.get(attempt.message):
            before = known.attempts.get(attempt_id)
            known.attempts[attempt_id] = attempt
            self._keys += len(attempt.keys) - (len(before.keys) if before else 0)

    def end(self, attempt_id: bytes, message: int) -> None:
        """A row of `attempts` is gone."""
        if (known := self._known.get(message)) and (attempt := known.attempts.pop(attempt_id, None)):
            self._keys -= len(attempt.keys)

    def learn(self, message: int, state: State, entry: EntryKey, keys: Iterable[RecipientKey]) -> None:
        """A row of `deliveries` was written."""
        known = self.of(message)
        known.rows += 1
        self._keys += known.learn(state, entry, keys)


def first_entry(connection: sqlite3.Connection, message: int) -> EntryKey:
    """The entry that carried a message first."""
    row = connection.execute("SELECT queue, filebase FROM messages WHERE id = ?", (message,)).fetchone()
    return row[0], row[1]


def final_rows(
    connection: sqlite3.Connection, message: int, first: EntryKey
) -> list[tuple[State, EntryKey, list[RecipientKey]]]:
    """The message's rows of `deliveries`. first: as first_entry has it."""
    return [
        (STATES[code], entry_of(queue, filebase, first), split_keys(joined))
        for code, queue, filebase, joined in connection.execute(
            "SELECT state, queue, filebase, recipients FROM deliveries WHERE id BETWEEN ? AND ?", delivery_ids(message)
        )
    ]


def entry_of(queue: int | None, filebase: Stored | None, first: EntryKey) -> EntryKey:
    """The entry of a row of `deliveries`, whose columns are NULL where they are the message's own."""
    return first[0] if queue is None else queue, first[1] if filebase is None else filebase


def columns_of(entry: EntryKey, first: EntryKey) -> tuple[int | None, Stored | None]:
    """As entry_of reads them: `queue` and `filebase` of a row."""
    return None if entry[0] == first[0] else entry[0], None if entry == first else entry[1]
