"""What all changes to the ledger share: the connection, the queue it is written for, and what is remembered between commits.

In    the writer's connection, inside its transaction
Out   counts and evidence that a change adds; rows of messages, found or made
Not here  when a transaction begins and ends (group_commit.py); what a change may do (attempts.py, outcomes.py, ...)

INVARIANT decided-under-the-lock: a change reads, decides and writes in one transaction that BEGIN IMMEDIATE has begun, so no
other writer can change in between what it decided on. What is remembered from earlier transactions is trusted only while no
other connection has committed (`begin`).
  Held by tests/contract/test_two_writers.py.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from drainer.ledger import account, queue_rows, sent_rows
from drainer.ledger.columns import Stored, stored_text
from drainer.ledger.evidence import Ended, Evidence, Fate
from drainer.ledger.identities import Identities
from drainer.ledger.known_recipients import AttemptRow, EntryKey, KnownMessage, KnownRecipients
from drainer.ledger.perhaps_known import PerhapsKnown
from drainer.ledger.queue_rows import OwnQueue
from drainer.ledger.records import MessageRecord


class Writer:
    """own      the queue that is written for; the one that was claimed last, before `become`
    perhaps  of what there are rows, perhaps: also for who only reads
    """

    def __init__(self, connection: sqlite3.Connection, perhaps: PerhapsKnown) -> None:
        self.connection = connection
        self.execute: Callable[[str, Sequence[Any]], sqlite3.Cursor] = connection.execute
        self.own = queue_rows.claimed_last(connection)
        self.perhaps = perhaps
        self.identities = Identities(connection, perhaps)
        self.known = KnownRecipients(connection)
        self.open_attempts: dict[bytes, AttemptRow] = {}
        self._lists: dict[str, int] = {}
        self._counted: dict[str, int] = {}
        self._sent: dict[int, int] = {}
        self._ended: dict[tuple[Fate, str, str], list[int]] = {}
        self._data_version = self._now_version()

    @property
    def queue(self) -> int:
        return self.own.number

    def become(self, own: OwnQueue) -> None:
        """The claim of this queue is committed."""
        self.own = own
        self.forget()

    def begin(self) -> None:
        """The transaction has begun. Raises LedgerUnusable if another drainer has claimed the queue."""
        version = self._now_version()
        if version != self._data_version:
            self.perhaps.give_up()
            self.forget()
            queue_rows.require_owner(self.connection, self.own)
            self._data_version = version

    def forget(self) -> None:
        """Drop all that is remembered: after a rollback, a change of names, a commit by another connection."""
        self._counted.clear()
        self._sent.clear()
        self._ended.clear()
        self.forget_rows()

    def forget_rows(self) -> None:
        """As forget, within a transaction: what it has counted so far is still to be written."""
        self.identities.forget()
        self.known.forget()
        self.open_attempts.clear()
        self._lists.clear()

    def entry(self, filebase: Stored) -> EntryKey:
        """An entry of this queue."""
        return self.own.number, filebase

    def count(self, name: str, count: int) -> None:
        self._counted[name] = self._counted.get(name, 0) + count

    def count_sent(self, at_s: float, recipients: int) -> None:
        """So many recipients are about to be sent to; fewer than nothing: they were not, after all."""
        bucket = sent_rows.bucket_of(at_s)
        self._sent[bucket] = self._sent.get(bucket, 0) + recipients

    def count_all(self, counts: Mapping[str, int]) -> None:
        for name, count in counts.items():
            self.count(name, count)

    def add_ended(self, ended: Ended | None) -> None:
        if ended is not None:
            known = self._ended.setdefault((ended.fate, ended.list_id, ended.kind), [0, 0, 0])
            known[0] += ended.entries
            known[1] += ended.recipients
            known[2] += ended.bytes

    def write_evidence(self, lines: Sequence[Evidence]) -> None:
        if lines:
            account.write_evidence(self.connection, self.queue, lines)

    def write_counts(self) -> None:
        """Once per group: twenty transactions that end together cost one row per counter."""
        if self._counted:
            self.connection.executemany(
                "INSERT INTO counters (queue, name, value) VALUES (?, ?, ?)"
                " ON CONFLICT DO UPDATE SET value = value + excluded.value",
                [(self.queue, name, count) for name, count in self._counted.items()],
            )
            self._counted.clear()
        if self._sent:
            sent_rows.write_sent(self.connection, self.queue, self._sent)
            self._sent.clear()
        if self._ended:
            account.write_ended(self.connection, self.queue, [Ended(*key, *sums) for key, sums in self._ended.items()])
            self._ended.clear()

    def message(self, record: MessageRecord, filebase: Stored, sharing: tuple[int, ...]) -> int:
        """The row of exactly this identity, made if there is none. sharing: rows that share a digest with it now."""
        if not record.identity:
            raise ValueError("a message needs at least one identity digest")
        exactly = self.identities.exactly(record.identity, sharing)
        if exactly is not None:
            return exactly
        cursor = self.execute(
            "INSERT INTO messages (list, digests, queue, filebase, message_id) VALUES (?, ?, ?, ?, ?)",
            (
                self._list(record.list_id), len(set(record.identity)), self.queue, filebase,
                stored_text(record.message_id),
            ),
        )  # fmt: skip
        message = int(cursor.lastrowid or 0)
        self.identities.make(record.identity, sharing, message)
        self.known.remember(message, KnownMessage(self.entry(filebase)))
        return message

    def _list(self, list_id: str) -> int:
        number = self._lists.get(list_id)
        if number is None:
            stored = stored_text(list_id)
            self.execute("INSERT OR IGNORE INTO lists (name) VALUES (?)", (stored,))
            ((number,),) = self.execute("SELECT id FROM lists WHERE name = ?", (stored,)).fetchall()
            self._lists[list_id] = int(number)
        return self._lists[list_id]

    def _now_version(self) -> int:
        """Changes when another connection has committed."""
        ((version,),) = self.connection.execute("PRAGMA data_version").fetchall()
        return int(version)
