"""What is asked of the ledger on disk; none of it changes anything.

In    the questions of contract.py
Out   values of records.py, actions.py and evidence.py
Not here  the writes (sqlite.py); the statements (tables.py, account.py, action_rows.py, entry_rows.py, ...)

Questions about a few rows run on a connection of their own, in the caller's thread: some microseconds each, and a WAL reader
never waits for the writer. Searches over a whole table run in a thread.
"""

from __future__ import annotations

import asyncio
import math
import sqlite3
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import closing, contextmanager
from typing import NamedTuple, TypeVar

from drainer.ledger import account, action_rows, entry_rows, operator_rows, queue_rows, sent_rows, tables
from drainer.ledger.actions import Action, Step
from drainer.ledger.columns import stored_filebase, text_in
from drainer.ledger.evidence import Account, Evidence
from drainer.ledger.perhaps_known import PerhapsKnown
from drainer.ledger.records import (
    Akin,
    AttemptId,
    Deferral,
    DsnBacklog,
    History,
    Hold,
    JournalLine,
    MessageRecord,
    OpenAttempt,
    OperatorState,
    OwedDsn,
    Queue,
    Totals,
    kin_of,
)
from drainer.ledger.sqlite_file import LedgerFile, open_reader, translated
from drainer.ledger.states import DsnState, State

T = TypeVar("T")

_UNKNOWN = History()


class Source(NamedTuple):
    """The open file, the number of the queue, and what is known at all."""

    file: LedgerFile
    queue: int
    perhaps: PerhapsKnown


class SqliteReads:
    """The questions of SqliteLedger."""

    def _source(self) -> Source:
        """Raises LedgerNotDurable: it is not open."""
        raise NotImplementedError

    async def queues(self) -> list[Queue]:
        with self._reading() as (reader, _):
            return queue_rows.queues(reader)

    async def history(self, identity: Sequence[bytes]) -> History:
        if not self._source().perhaps.has_message(identity):
            return _UNKNOWN
        with self._reading() as (reader, queue):
            return tables.history(reader, queue, tables.messages_sharing(reader, identity))

    async def histories(self, identities: Sequence[Sequence[bytes]]) -> list[History]:
        perhaps = self._source().perhaps
        found = [_UNKNOWN] * len(identities)
        if asked := [place for place, identity in enumerate(identities) if perhaps.has_message(identity)]:
            with self._reading() as (reader, queue):
                known = tables.histories(reader, queue, [identities[place] for place in asked])
            for place, history in zip(asked, known, strict=True):
                found[place] = history
        return found

    async def kin_known(self, digests: Collection[bytes]) -> frozenset[bytes]:
        kin = sorted(set(map(kin_of, filter(self._source().perhaps.has_digest, digests))))
        with self._reading() as (reader, _):
            return tables.kin_known(reader, kin)

    async def akin(self, identity: Sequence[bytes]) -> list[Akin]:
        if not self._source().perhaps.has_message(identity):
            return []
        with self._reading() as (reader, queue):
            return tables.akin(reader, queue, identity)

    async def attempt(self, attempt_id: AttemptId) -> State | None:
        with self._reading() as (reader, queue):
            return tables.attempt_state(reader, queue, attempt_id)

    async def unresolved_attempts(self) -> list[OpenAttempt]:
        with self._reading() as (reader, queue):
            return tables.unresolved_attempts(reader, queue)

    async def dsns(
        self, state: DsnState, limit: int, due_by_s: float = math.inf, except_lists: Collection[str] = ()
    ) -> list[OwedDsn]:
        with self._reading() as (reader, queue):
            return tables.dsns(reader, queue, state, limit, due_by_s, except_lists)

    async def dsn_backlog(self) -> DsnBacklog:
        with self._reading() as (reader, queue):
            return tables.dsn_backlog(reader, queue)

    async def sent_since(self, since_s: float) -> list[tuple[float, int]]:
        with self._reading() as (reader, queue):
            return sent_rows.sent_since(reader, queue, since_s)

    async def deferrals(self) -> list[Deferral]:
        with self._reading() as (reader, queue):
            return entry_rows.deferrals(reader, queue)

    async def deferral(self, filebase: str) -> Deferral | None:
        with self._reading() as (reader, queue):
            return entry_rows.deferral(reader, queue, filebase)

    async def held_recipients(self, filebases: Collection[str]) -> int:
        with self._reading() as (reader, queue):
            return sum(
                tables.waiting_recipients(reader, queue, stored_filebase(name), State.HELD) for name in filebases
            )

    async def holds(self) -> list[Hold]:
        with self._reading() as (reader, queue):
            return entry_rows.holds(reader, queue)

    async def hold_of(self, filebase: str) -> Hold | None:
        with self._reading() as (reader, queue):
            return entry_rows.hold(reader, queue, filebase)

    async def operator_state(self) -> OperatorState:
        with self._reading() as (reader, _):
            return operator_rows.operator_state(reader)

    async def actions(self, limit: int = 100) -> list[Action]:
        with self._reading() as (reader, queue):
            return action_rows.actions(reader, queue, limit)

    async def action(self, number: int) -> Action | None:
        with self._reading() as (reader, queue):
            return action_rows.action(reader, queue, number)

    async def steps(self, number: int) -> list[Step]:
        return await self._search(lambda reader: action_rows.steps(reader, number))

    async def steps_after(self, number: int) -> dict[str, int]:
        queue = self._source().queue
        return await self._search(lambda reader: action_rows.steps_after(reader, queue, number))

    async def journal(self, limit: int = 100) -> list[JournalLine]:
        with self._reading() as (reader, queue):
            return action_rows.journal(reader, queue, limit)

    async def kept(self, name: str) -> bytes | None:
        with self._reading() as (reader, queue):
            return account.kept(reader, queue, name)

    async def account(self, limit: int, since_s: float | None = None) -> Account:
        queue = self._source().queue
        return await self._search(lambda reader: account.account(reader, queue, limit, since_s))

    async def evidence_of(self, message_id: str, limit: int) -> list[Evidence]:
        queue = self._source().queue
        return await self._search(lambda reader: account.evidence_of(reader, queue, message_id, limit))

    async def totals(self) -> Totals:
        with self._reading() as (reader, queue):
            return account.totals(reader, queue)

    async def messages_by_message_id(self, message_id: str) -> list[tuple[MessageRecord, History]]:
        queue = self._source().queue
        return await self._search(lambda reader: tables.messages_by_message_id(reader, queue, message_id))

    async def lists(self) -> list[str]:
        with self._reading() as (reader, _):
            return [text_in(name) for (name,) in reader.execute("SELECT name FROM lists").fetchall()]

    @contextmanager
    def _reading(self) -> Iterator[tuple[sqlite3.Connection, int]]:
        """The connection that reads, and the number of the queue."""
        file, queue, _ = self._source()
        try:
            yield file.reader, queue
        except sqlite3.Error as exc:
            raise translated(exc, file.path) from exc

    async def _search(self, search: Callable[[sqlite3.Connection], T]) -> T:
        """Run a search that may take long in a thread, on a connection and a snapshot of its own."""
        path = self._source().file.path

        def run() -> T:
            try:
                with closing(open_reader(path)) as reader:
                    reader.execute("BEGIN")
                    return search(reader)
            except sqlite3.Error as exc:
                raise translated(exc, path) from exc

        return await asyncio.to_thread(run)
