"""The ledger kept on disk: SQLite, group commit.

In    the calls of contract.py
Out   rows
Not here  the questions (sqlite_reads.py); the file itself (sqlite_file.py); when a write is durable (group_commit.py);
          what a change may do (attempts.py, outcomes.py, forgetting.py, dsns.py)

Size      a plain delivery is one small row of keys; addresses in clear live in `attempts` while it is open, and that
          table's pages are used again. Nothing is kept in memory per message but a bounded cache.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

from drainer.clock import Clock, SystemClock
from drainer.errors import LedgerNotDurable
from drainer.ledger import (
    account,
    action_rows,
    entry_rows,
    finishing,
    forgetting,
    operator_rows,
    queue_rows,
    sent_rows,
    tables,
)
from drainer.ledger.actions import NewAction, PutBack, Step
from drainer.ledger.attempts import Attempts
from drainer.ledger.columns import keys_of, stored_filebase
from drainer.ledger.dsns import Dsns
from drainer.ledger.evidence import Ended, Event, Evidence, Finish
from drainer.ledger.group_commit import GroupCommit, refused
from drainer.ledger.outcomes import Outcomes
from drainer.ledger.perhaps_known import PerhapsKnown
from drainer.ledger.records import (
    AttemptId,
    Deferral,
    Hold,
    JournalLine,
    Learnt,
    MessageRecord,
    NewAttempt,
    NewDsn,
    OperatorState,
    Outcome,
    Queue,
    RecipientKey,
)
from drainer.ledger.settle_rows import drop_waiting, free_held
from drainer.ledger.sqlite_file import LedgerFile, open_ledger_file, translated
from drainer.ledger.sqlite_reads import Source, SqliteReads
from drainer.ledger.states import DsnState, State
from drainer.ledger.writer import Writer

T = TypeVar("T")

_EXPIRE_AT_A_TIME = 200


@dataclass(frozen=True, slots=True)
class _Opened:
    file: LedgerFile
    commits: GroupCommit
    writer: Writer
    attempts: Attempts
    outcomes: Outcomes
    dsns: Dsns


class SqliteLedger(SqliteReads):
    """The Ledger on disk. All calls from one event loop.

    path      the SQLite file; PATH.lock, PATH-wal and PATH-shm stand beside it
    clock     read when the file is created, and when a queue is claimed
    is_alone  False: drainers of other queues may have the file open too, all of them so
    """

    def __init__(self, path: Path, clock: Clock | None = None, *, is_alone: bool = True) -> None:
        self._path = path
        self._clock = clock or SystemClock()
        self._is_alone = is_alone
        self._maybe_opened: _Opened | None = None

    async def open(self) -> None:
        file, perhaps = await asyncio.to_thread(self._open)
        writer = Writer(file.writer, perhaps)
        attempts = Attempts(writer)
        commits = GroupCommit(
            file.writer,
            after_begin=writer.begin,
            before_commit=writer.write_counts,
            forget=writer.forget,
            translate=lambda exc: translated(exc, file.path),
            clock=self._clock,
        )
        self._maybe_opened = _Opened(file, commits, writer, attempts, Outcomes(writer, attempts), Dsns(writer))

    def _open(self) -> tuple[LedgerFile, PerhapsKnown]:
        file = open_ledger_file(self._path, self._clock.now_s(), is_alone=self._is_alone)
        try:
            perhaps = PerhapsKnown.read(file.reader) if self._is_alone else PerhapsKnown()
        except sqlite3.Error as exc:
            file.close()
            raise translated(exc, file.path) from exc
        if not self._is_alone:
            perhaps.give_up()
        return file, perhaps

    async def close(self) -> None:
        opened = self._maybe_opened
        if opened is None:
            return
        await opened.commits.close()
        self._maybe_opened = None
        await asyncio.to_thread(opened.file.close)

    @property
    def is_in_place(self) -> bool:
        """Whether the file still has its name. If not, what it holds is lost unless `close` writes it anew."""
        return self._opened.file.is_in_place

    @property
    def _opened(self) -> _Opened:
        if self._maybe_opened is None:
            raise LedgerNotDurable(f"the ledger {self._path} is not open")
        return self._maybe_opened

    def _source(self) -> Source:
        opened = self._opened
        return Source(opened.file, opened.writer.queue, opened.writer.perhaps)

    async def claim(self, queue: Queue, known_as: str | None = None) -> None:
        opened = self._opened
        now_s = self._clock.now_s()
        own = await self._write(partial(queue_rows.claim, opened.file.writer, queue, now_s, known_as))
        opened.writer.become(own)
        opened.attempts.claimed()

    async def open_attempt(self, attempt: NewAttempt) -> AttemptId:
        attempts = self._opened.attempts
        keys = keys_of(attempt.recipients)

        def withdraw(is_new: bool) -> None:
            if is_new:
                attempts.withdraw(attempt)

        await self._write(partial(attempts.open, attempt, keys), undo=withdraw)
        return attempt.attempt_id

    def begin_attempt(self, attempt: NewAttempt) -> asyncio.Future[AttemptId]:
        def change() -> AttemptId:
            self._opened.attempts.open(attempt, keys_of(attempt.recipients))
            return attempt.attempt_id

        return self._begin(change)

    def close_attempt(
        self,
        attempt_id: AttemptId,
        state: State,
        reply: str,
        at_s: float,
        dsns: Sequence[NewDsn] = (),
        finish: Finish | None = None,
    ) -> asyncio.Future[None]:
        def change() -> None:
            opened = self._opened
            owed = opened.attempts.close(attempt_id, state, reply, at_s, dsns)
            if owed is None:  # repeated: the first writing had the DSNs and the end of the entry with it
                return
            opened.dsns.owe(owed)
            if finish is not None:
                finishing.finish(opened.writer, finish)

        return self._begin(change)

    async def split_attempt(self, attempt_id: AttemptId, recipients: Sequence[str], part_id: AttemptId) -> None:
        await self._write(partial(self._opened.attempts.split, attempt_id, tuple(recipients), part_id))

    def record(
        self,
        filebase: str,
        message: MessageRecord,
        outcomes: Sequence[Outcome],
        dsns: Sequence[NewDsn] = (),
        step: Step | None = None,
        finish: Finish | None = None,
    ) -> asyncio.Future[None]:
        # Begun at once, as close_attempt is: a task would come too late for the group of the outcome beside it.
        def change() -> None:
            opened = self._opened
            opened.dsns.owe(opened.outcomes.record(filebase, message, outcomes, dsns))
            if finish is not None:
                finishing.finish(opened.writer, finish)
            action_rows.write_step(opened.file.writer, step)

        return self._begin(change)

    async def resolve(self, attempt_id: AttemptId, state: State, why: str, at_s: float) -> None:
        await self._write(partial(self._opened.attempts.resolve, attempt_id, state, why, at_s))

    async def finish_entry(
        self,
        filebase: str,
        counts: Mapping[str, int] | None = None,
        ended: Ended | None = None,
        evidence: Sequence[Evidence] = (),
        step: Step | None = None,
    ) -> None:
        writer = self._opened.writer

        def change() -> None:
            finishing.finish(writer, Finish(filebase, counts or {}, ended, evidence))
            action_rows.write_step(writer.connection, step)

        await self._write(change)

    async def move_dsns(
        self,
        dsn_ids: Sequence[int],
        state: DsnState,
        at_s: float,
        due_s: float = 0.0,
        journal: JournalLine | None = None,
    ) -> None:
        dsns, writer = self._opened.dsns, self._opened.writer

        def change() -> None:
            dsns.move(dsn_ids, state, at_s, due_s)
            if journal is not None:
                action_rows.write_journal(writer.connection, writer.queue, journal, None)

        await self._write(change)

    async def redate_sent(self, now_s: float, set_forward_s: float = 0.0) -> None:
        writer = self._opened.writer
        await self._write(partial(sent_rows.redate_sent, writer.connection, writer.queue, now_s, set_forward_s))

    async def learn(self, name: str, learnt: Sequence[Learnt]) -> int:
        return await self._write(partial(forgetting.learn, self._opened.writer, name, learnt))

    async def unlearn(self, name: str) -> int:
        found = await self._search(lambda reader: tables.learnt_as(reader, name))
        await self._write(partial(forgetting.forget_deliveries, self._opened.writer, [row for row, _ in found]))
        return sum(recipients for _, recipients in found)

    async def undo_failures(self, filebases: Collection[str], at_s: float) -> int:
        writer, dsns = self._opened.writer, self._opened.dsns
        found = await self._search(lambda reader: tables.failures_of(reader, writer.queue, filebases))

        def change() -> int:
            undone = forgetting.undo_failures(writer, found)
            dsns.drop_owed(undone, at_s)
            return sum(map(len, undone.values()))

        return await self._write(change)

    async def defer(self, deferral: Deferral) -> None:
        writer = self._opened.writer
        await self._write(partial(entry_rows.write_deferral, writer.connection, writer.perhaps, writer.queue, deferral))

    async def hold(self, holds: Sequence[Hold], step: Step | None = None) -> None:
        writer = self._opened.writer

        def change() -> None:
            entry_rows.write_holds(writer.connection, writer.perhaps, writer.queue, holds)
            action_rows.write_step(writer.connection, step)

        await self._write(change)

    async def release(
        self,
        filebases: Sequence[str],
        *,
        held_recipients: bool,
        step: Step | None = None,
        held_elsewhere: tuple[Sequence[bytes], Collection[RecipientKey]] | None = None,
    ) -> None:
        writer = self._opened.writer

        def change() -> None:
            for filebase in map(stored_filebase, filebases):
                entry_rows.forget_entry(writer.connection, writer.queue, filebase)
                if held_recipients:
                    drop_waiting(writer, filebase, State.HELD)
            if held_elsewhere is not None:
                identity, keys = held_elsewhere
                free_held(writer, writer.identities.sharing(identity), frozenset(keys))
            action_rows.write_step(writer.connection, step)

        await self._write(change)

    async def put_back(
        self,
        how: PutBack,
        message: MessageRecord | None,
        waiting: Sequence[Outcome],
        step: Step,
        counts: Mapping[str, int] | None = None,
        ended: Ended | None = None,
    ) -> None:
        outcomes, writer = self._opened.outcomes, self._opened.writer
        connection, stored = writer.connection, stored_filebase(how.filebase)

        def change() -> None:
            if message is not None:
                outcomes.put_back(how.filebase, message, how.skipped, waiting)
            if how.is_held:
                drop_waiting(writer, stored, State.DEFERRED)
            entry_rows.forget_entry(connection, writer.queue, stored)
            if how.hold is not None:
                entry_rows.write_holds(connection, writer.perhaps, writer.queue, [how.hold])
            if how.deferral is not None:
                entry_rows.write_deferral(connection, writer.perhaps, writer.queue, how.deferral)
            account.forget_drop(connection, writer.queue, stored)
            writer.count_all(counts or {})
            writer.add_ended(ended)
            action_rows.write_step(connection, step)

        await self._write(change)

    async def set_operator_state(
        self, state: OperatorState, journal: JournalLine, action: NewAction | None = None
    ) -> int:
        writer = self._opened.writer

        def change() -> int:
            operator_rows.write_operator_state(writer.connection, state)
            return action_rows.write_journal(writer.connection, writer.queue, journal, action)

        return await self._write(change)

    async def write_journal(self, line: JournalLine, action: NewAction | None = None) -> int:
        writer = self._opened.writer
        return await self._write(partial(action_rows.write_journal, writer.connection, writer.queue, line, action))

    async def end_action(self, number: int, detail: str, at_s: float | None) -> None:
        await self._write(partial(action_rows.end_action, self._opened.file.writer, number, detail, at_s))

    async def write_event(self, event: Event) -> None:
        writer = self._opened.writer
        await self._write(partial(account.write_event, writer.connection, writer.queue, event))

    async def keep(self, values: Mapping[str, bytes]) -> None:
        writer = self._opened.writer

        def change() -> None:
            for name, value in values.items():
                account.keep(writer.connection, writer.queue, name, value)

        await self._write(change)

    async def write_baseline(self, at_s: float) -> None:
        writer = self._opened.writer

        def change() -> None:
            writer.write_counts()
            account.write_baseline(writer.connection, writer.queue, at_s)

        await self._write(change)

    async def count(self, counts: Mapping[str, int]) -> None:
        await self._write(partial(self._opened.writer.count_all, counts))

    async def expire(self, older_than_s: float) -> int:
        writer = self._opened.writer
        forgotten = 0

        def forget_lines() -> None:
            account.forget_evidence(writer.connection, writer.queue, older_than_s)
            action_rows.forget(writer.connection, writer.queue, older_than_s)
            sent_rows.forget_sent(writer.connection, writer.queue)

        await self._write(forget_lines)
        while found := await self._search(lambda reader: list(tables.expired(reader, older_than_s).items())):
            before = forgotten
            for start in range(0, len(found), _EXPIRE_AT_A_TIME):
                part = found[start : start + _EXPIRE_AT_A_TIME]
                forgotten += await self._write(partial(forgetting.expire, writer, part, older_than_s))
            if len(found) < tables.EXPIRED_AT_MOST or forgotten == before:
                break
        return forgotten

    async def _write(self, change: Callable[[], T], undo: Callable[[T], None] | None = None) -> T:
        return await self._opened.commits.write(change, undo)

    def _begin(self, change: Callable[[], T]) -> asyncio.Future[T]:
        """For the writes of each transaction: a coroutine would have to become a task."""
        try:
            return self._opened.commits.begin(change)
        except LedgerNotDurable as exc:
            return refused(exc)
