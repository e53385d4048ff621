"""The ledger kept on disk: SQLite, one writer, group commit.

In    the calls of contract.py
Out   rows; History for a message in a few reads
Not here  the file itself (sqlite_file.py); when a write is durable (group_commit.py); what a change to deliveries may do
          (deliveries.py); the reads (tables.py)

Size      a plain delivery is one small row of keys; addresses in clear live in `attempts` while it is open, and that
          table's pages are used again. Nothing is kept in memory per message but a bounded cache.
Reading   history() and its kin run on a connection of their own, in the caller's thread: some microseconds each, and a
          WAL reader never waits for the writer. Searches over a whole table run in a thread.
"""

from __future__ import annotations

import asyncio
import math
import sqlite3
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from drainer.clock import Clock, SystemClock
from drainer.errors import LedgerNotDurable
from drainer.ledger import account, action_rows, tables
from drainer.ledger.actions import Action, NewAction, PutBack, Step
from drainer.ledger.columns import filebase_in, keys_of, stored_filebase, stored_text, text_in
from drainer.ledger.deliveries import Deliveries
from drainer.ledger.dsns import Dsns
from drainer.ledger.evidence import Account, Ended, Event, Evidence, sum_of
from drainer.ledger.group_commit import GroupCommit
from drainer.ledger.records import (
    Akin,
    Deferral,
    DsnBacklog,
    History,
    Hold,
    JournalLine,
    Learnt,
    MessageRecord,
    NewAttempt,
    NewDsn,
    OpenAttempt,
    OperatorState,
    Outcome,
    OwedDsn,
    Pause,
    Totals,
    kin_of,
)
from drainer.ledger.sqlite_file import LedgerFile, open_ledger_file, open_reader, translated
from drainer.ledger.states import DsnState, State

T = TypeVar("T")

_EXPIRE_AT_A_TIME = 200


@dataclass(frozen=True, slots=True)
class _Opened:
    file: LedgerFile
    commits: GroupCommit
    deliveries: Deliveries
    dsns: Dsns


_DEFERRALS = "SELECT filebase, attempts, first_at, due, recipients, reply FROM deferrals"
_HOLDS = "SELECT filebase, reason, detail, by, at FROM holds"


_WRITE_HOLD = "INSERT OR REPLACE INTO holds (filebase, reason, detail, by, at) VALUES (?, ?, ?, ?, ?)"
_WRITE_DEFERRAL = (
    "INSERT OR REPLACE INTO deferrals (filebase, attempts, first_at, due, recipients, reply) VALUES (?, ?, ?, ?, ?, ?)"
)


def _deferral_row(one: Deferral) -> tuple[object, ...]:
    return (
        stored_filebase(one.filebase), one.attempts, one.first_at_s, one.due_s, one.recipients, stored_text(one.reply)
    )  # fmt: skip


def _hold_row(one: Hold) -> tuple[object, ...]:
    return (
        stored_filebase(one.filebase),
        stored_text(one.reason),
        stored_text(one.detail),
        stored_text(one.by),
        one.at_s,
    )


def _deferral(row: tuple[Any, ...]) -> Deferral:
    filebase, attempts, first_at, due, recipients, reply = row
    return Deferral(filebase_in(filebase), attempts, first_at, due, recipients, text_in(reply))


def _hold(row: tuple[Any, ...]) -> Hold:
    filebase, reason, detail, by, at = row
    return Hold(filebase_in(filebase), text_in(reason), text_in(detail), text_in(by), at)


class SqliteLedger:
    """The Ledger on disk. One process at a time; all calls from one event loop.

    path   the SQLite file; PATH.lock, PATH-wal and PATH-shm stand beside it
    clock  read once, when the file is created
    """

    def __init__(self, path: Path, clock: Clock | None = None) -> None:
        self._path = path
        self._clock = clock or SystemClock()
        self._maybe_opened: _Opened | None = None
        self._counted: dict[str, int] = {}
        self._ended: dict[tuple[str, str, str], Ended] = {}

    async def open(self) -> None:
        file = await asyncio.to_thread(open_ledger_file, self._path, self._clock.now_s())
        deliveries = Deliveries(file.writer, self._add, self._write_evidence)

        def forget() -> None:
            self._counted.clear()
            self._ended.clear()
            deliveries.forget()

        commits = GroupCommit(
            file.writer,
            before_commit=self._write_counters,
            forget=forget,
            translate=lambda exc: translated(exc, file.path),
        )
        self._maybe_opened = _Opened(file, commits, deliveries, Dsns(file.writer, self._add, self._write_evidence))

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

    async def history(self, identity: Sequence[bytes]) -> History:
        with self._reading() as reader:
            found = tables.messages_sharing(reader, identity)
            return tables.history(reader, found) if found else History()

    async def kin_known(self, digests: Collection[bytes]) -> frozenset[bytes]:
        with self._reading() as reader:
            return tables.kin_known(reader, sorted(set(map(kin_of, digests))))

    async def akin(self, identity: Sequence[bytes]) -> list[Akin]:
        with self._reading() as reader:
            return tables.akin(reader, identity)

    async def open_attempt(self, attempt: NewAttempt) -> int:
        deliveries = self._opened.deliveries
        keys = keys_of(attempt.recipients)
        return await self._write(partial(deliveries.open_attempt, attempt, keys), undo=deliveries.withdraw_attempt)

    async def close_attempt(
        self, attempt_id: int, state: State, reply: str, at_s: float, dsns: Sequence[NewDsn] = ()
    ) -> None:
        opened = self._opened
        await self._write(
            lambda: opened.dsns.owe(opened.deliveries.close_attempt(attempt_id, state, reply, at_s, dsns))
        )

    async def split_attempt(self, attempt_id: int, recipients: Sequence[str]) -> int:
        return await self._write(partial(self._opened.deliveries.split_attempt, attempt_id, tuple(recipients)))

    async def record(
        self,
        filebase: str,
        message: MessageRecord,
        outcomes: Sequence[Outcome],
        dsns: Sequence[NewDsn] = (),
        step: Step | None = None,
    ) -> None:
        opened = self._opened

        def change() -> None:
            opened.dsns.owe(opened.deliveries.record(filebase, message, outcomes, dsns))
            action_rows.write_step(opened.file.writer, step)

        await self._write(change)

    async def unresolved_attempts(self) -> list[OpenAttempt]:
        with self._reading() as reader:
            return tables.unresolved_attempts(reader)

    async def resolve(self, attempt_id: int, state: State, why: str, at_s: float) -> None:
        await self._write(partial(self._opened.deliveries.resolve, attempt_id, state, why, at_s))

    async def finish_entry(
        self,
        filebase: str,
        counts: Mapping[str, int] | None = None,
        ended: Ended | None = None,
        evidence: Sequence[Evidence] = (),
        step: Step | None = None,
    ) -> None:
        deliveries, writer = self._opened.deliveries, self._opened.file.writer
        stored = stored_filebase(filebase)

        def change() -> None:
            writer.execute("DELETE FROM deferrals WHERE filebase = ?", (stored,))
            writer.execute("DELETE FROM holds WHERE filebase = ?", (stored,))
            deliveries.drop_waiting(stored, State.DEFERRED)
            self._add_all(counts or {})
            self._write_evidence(evidence)
            if ended is not None:
                self._add_ended(ended)
            action_rows.write_step(writer, step)

        await self._write(change)

    async def dsns(
        self, state: DsnState, limit: int, due_by_s: float = math.inf, except_lists: Collection[str] = ()
    ) -> list[OwedDsn]:
        with self._reading() as reader:
            return tables.dsns(reader, state, limit, due_by_s, except_lists)

    async def dsn_backlog(self) -> DsnBacklog:
        with self._reading() as reader:
            return tables.dsn_backlog(reader)

    async def move_dsns(
        self,
        dsn_ids: Sequence[int],
        state: DsnState,
        at_s: float,
        due_s: float = 0.0,
        journal: JournalLine | None = None,
    ) -> None:
        dsns = self._opened.dsns

        def change() -> None:
            dsns.move(dsn_ids, state, at_s, due_s)
            if journal is not None:
                action_rows.write_journal(self._opened.file.writer, journal, None)

        await self._write(change)

    async def learn(self, name: str, learnt: Sequence[Learnt]) -> int:
        return await self._write(partial(self._opened.deliveries.learn, name, learnt))

    async def unlearn(self, name: str) -> int:
        found = await self._search(lambda reader: tables.learnt_as(reader, name))
        await self._write(partial(self._opened.deliveries.unlearn, [row for row, _ in found]))
        return sum(recipients for _, recipients in found)

    async def undo_failures(self, filebases: Collection[str]) -> int:
        found = await self._search(lambda reader: tables.failures_not_told(reader, filebases))
        return await self._write(partial(self._opened.deliveries.undo_failures, found))

    async def defer(self, deferral: Deferral) -> None:
        await self._write(partial(self._opened.file.writer.execute, _WRITE_DEFERRAL, _deferral_row(deferral)))

    async def deferrals(self) -> list[Deferral]:
        with self._reading() as reader:
            found = [_deferral(row) for row in reader.execute(_DEFERRALS)]
        return sorted(found, key=lambda deferral: (deferral.due_s, deferral.filebase))

    async def deferral(self, filebase: str) -> Deferral | None:
        with self._reading() as reader:
            row = reader.execute(f"{_DEFERRALS} WHERE filebase = ?", (stored_filebase(filebase),)).fetchone()
        return None if row is None else _deferral(row)

    async def hold(self, holds: Sequence[Hold], step: Step | None = None) -> None:
        writer = self._opened.file.writer

        def change() -> None:
            writer.executemany(_WRITE_HOLD, map(_hold_row, holds))
            action_rows.write_step(writer, step)

        await self._write(change)

    async def release(self, filebases: Sequence[str], *, held_recipients: bool, step: Step | None = None) -> None:
        deliveries, writer = self._opened.deliveries, self._opened.file.writer
        stored = [stored_filebase(filebase) for filebase in filebases]

        def change() -> None:
            for filebase in stored:
                writer.execute("DELETE FROM holds WHERE filebase = ?", (filebase,))
                writer.execute("DELETE FROM deferrals WHERE filebase = ?", (filebase,))
                if held_recipients:
                    deliveries.drop_waiting(filebase, State.HELD)
            action_rows.write_step(writer, step)

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
        deliveries, writer = self._opened.deliveries, self._opened.file.writer
        stored = stored_filebase(how.filebase)

        def change() -> None:
            if message is not None:
                deliveries.put_back(how.filebase, message, how.skipped, waiting)
            if how.is_held:
                deliveries.drop_waiting(stored, State.DEFERRED)
            for table in ("holds", "deferrals"):
                writer.execute(f"DELETE FROM {table} WHERE filebase = ?", (stored,))
            if how.hold is not None:
                writer.execute(_WRITE_HOLD, _hold_row(how.hold))
            if how.deferral is not None:
                writer.execute(_WRITE_DEFERRAL, _deferral_row(how.deferral))
            account.forget_drop(writer, stored)
            self._add_all(counts or {})
            if ended is not None:
                self._add_ended(ended)
            action_rows.write_step(writer, step)

        await self._write(change)

    async def held_recipients(self, filebases: Collection[str]) -> int:
        with self._reading() as reader:
            return sum(tables.waiting_recipients(reader, stored_filebase(name), State.HELD) for name in filebases)

    async def holds(self) -> list[Hold]:
        with self._reading() as reader:
            found = [_hold(row) for row in reader.execute(_HOLDS)]
        return sorted(found, key=lambda hold: (hold.at_s, hold.filebase))

    async def hold_of(self, filebase: str) -> Hold | None:
        with self._reading() as reader:
            row = reader.execute(f"{_HOLDS} WHERE filebase = ?", (stored_filebase(filebase),)).fetchone()
        return None if row is None else _hold(row)

    async def rename_entry(self, before: str, after: str) -> None:
        deliveries, writer = self._opened.deliveries, self._opened.file.writer
        old, new = stored_filebase(before), stored_filebase(after)
        # No index finds rows by filebase (it would be among the dearest things in the file), and names change seldom.
        messages, settled = await self._search(
            lambda reader: tuple(
                [row for (row,) in reader.execute(f"SELECT id FROM {table} WHERE filebase = ?", (old,))]
                for table in ("messages", "deliveries")
            )
        )

        def change() -> None:
            deliveries.rename_entry(old, new, messages, settled)
            for table in ("deferrals", "holds", "dsns"):
                writer.execute(f"UPDATE OR REPLACE {table} SET filebase = ? WHERE filebase = ?", (new, old))
            account.rename_evidence(writer, old, new)
            action_rows.rename(writer, old, new)

        await self._write(change)

    async def operator_state(self) -> OperatorState:
        with self._reading() as reader:
            ((messages_per_s, recipients_per_s),) = reader.execute(
                "SELECT messages_per_s, recipients_per_s FROM operator"
            ).fetchall()
            rows = reader.execute("SELECT list, since, until, by, reason FROM pauses").fetchall()
        pauses = (
            Pause(text_in(list_id), since, until, text_in(by), text_in(reason))
            for list_id, since, until, by, reason in rows
        )
        return OperatorState(tuple(sorted(pauses, key=lambda pause: pause.list_id)), messages_per_s, recipients_per_s)

    async def set_operator_state(
        self, state: OperatorState, journal: JournalLine, action: NewAction | None = None
    ) -> int:
        writer = self._opened.file.writer
        pauses = [
            (stored_text(pause.list_id), pause.since_s, pause.until_s, stored_text(pause.by), stored_text(pause.reason))
            for pause in state.pauses
        ]

        def change() -> int:
            writer.execute("DELETE FROM pauses")
            writer.executemany(
                "INSERT OR REPLACE INTO pauses (list, since, until, by, reason) VALUES (?, ?, ?, ?, ?)", pauses
            )
            writer.execute(
                "UPDATE operator SET messages_per_s = ?, recipients_per_s = ?",
                (state.messages_per_s, state.recipients_per_s),
            )
            return action_rows.write_journal(writer, journal, action)

        return await self._write(change)

    async def write_journal(self, line: JournalLine, action: NewAction | None = None) -> int:
        return await self._write(partial(action_rows.write_journal, self._opened.file.writer, line, action))

    async def end_action(self, number: int, detail: str, at_s: float | None) -> None:
        await self._write(partial(action_rows.end_action, self._opened.file.writer, number, detail, at_s))

    async def actions(self, limit: int = 100) -> list[Action]:
        with self._reading() as reader:
            return action_rows.actions(reader, limit)

    async def action(self, number: int) -> Action | None:
        with self._reading() as reader:
            return action_rows.action(reader, number)

    async def steps(self, number: int) -> list[Step]:
        return await self._search(lambda reader: action_rows.steps(reader, number))

    async def steps_after(self, number: int) -> dict[str, int]:
        return await self._search(lambda reader: action_rows.steps_after(reader, number))

    async def journal(self, limit: int = 100) -> list[JournalLine]:
        with self._reading() as reader:
            rows = reader.execute(
                "SELECT at, by, action, detail FROM journal ORDER BY id DESC LIMIT ?", (limit,)
            ).fetchall()
        return [JournalLine(at, text_in(by), text_in(action), text_in(detail)) for at, by, action, detail in rows[::-1]]

    async def write_event(self, event: Event) -> None:
        await self._write(partial(account.write_event, self._opened.file.writer, event))

    async def keep(self, values: Mapping[str, bytes]) -> None:
        def change() -> None:
            for name, value in values.items():
                account.keep(self._opened.file.writer, name, value)

        await self._write(change)

    async def kept(self, name: str) -> bytes | None:
        with self._reading() as reader:
            return account.kept(reader, name)

    async def write_mark(self, at_s: float) -> None:
        def change() -> None:
            self._write_counters()
            account.write_mark(self._opened.file.writer, at_s)

        await self._write(change)

    async def account(self, limit: int, since_s: float | None = None) -> Account:
        return await self._search(lambda reader: account.account(reader, limit, since_s))

    async def evidence_of(self, message_id: str, limit: int) -> list[Evidence]:
        return await self._search(lambda reader: account.evidence_of(reader, message_id, limit))

    async def count(self, counts: Mapping[str, int]) -> None:
        await self._write(partial(self._add_all, counts))

    async def totals(self) -> Totals:
        with self._reading() as reader:
            ((since,),) = reader.execute("SELECT since FROM drain").fetchall()
            return Totals(since, dict(reader.execute("SELECT name, value FROM counters").fetchall()))

    async def messages_by_message_id(self, message_id: str) -> list[tuple[MessageRecord, History]]:
        return await self._search(lambda reader: tables.messages_by_message_id(reader, message_id))

    async def lists(self) -> list[str]:
        with self._reading() as reader:
            return [text_in(name) for (name,) in reader.execute("SELECT name FROM lists").fetchall()]

    async def expire(self, older_than_s: float) -> int:
        deliveries = self._opened.deliveries
        forgotten = 0
        await self._write(partial(account.forget_evidence, self._opened.file.writer, older_than_s))
        await self._write(partial(action_rows.forget, self._opened.file.writer, older_than_s))
        while found := await self._search(lambda reader: list(tables.expired(reader, older_than_s).items())):
            before = forgotten
            for start in range(0, len(found), _EXPIRE_AT_A_TIME):
                part = found[start : start + _EXPIRE_AT_A_TIME]
                forgotten += await self._write(partial(deliveries.expire, part, older_than_s))
            if len(found) < tables.EXPIRED_AT_MOST or forgotten == before:
                break
        return forgotten

    def _add(self, name: str, count: int) -> None:
        self._counted[name] = self._counted.get(name, 0) + count

    def _add_ended(self, ended: Ended) -> None:
        key = (ended.fate, ended.list_id, ended.kind)
        known = self._ended.get(key)
        self._ended[key] = ended if known is None else sum_of(known, ended)

    def _write_evidence(self, lines: Iterable[Evidence]) -> None:
        account.write_evidence(self._opened.file.writer, lines)

    def _add_all(self, counts: Mapping[str, int]) -> None:
        for name, count in counts.items():
            self._add(name, count)

    def _write_counters(self) -> None:
        """Once per group: twenty transactions that end together cost one row per counter."""
        for name, count in self._counted.items():
            self._opened.file.writer.execute(
                "INSERT INTO counters (name, value) VALUES (?, ?)"
                " ON CONFLICT DO UPDATE SET value = value + excluded.value",
                (name, count),
            )
        self._counted.clear()
        if self._ended:
            account.write_ended(self._opened.file.writer, self._ended.values())
            self._ended.clear()

    async def _write(self, change: Callable[[], T], undo: Callable[[T], None] | None = None) -> T:
        return await self._opened.commits.write(change, undo)

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        file = self._opened.file
        try:
            yield file.reader
        except sqlite3.Error as exc:
            raise translated(exc, file.path) from exc

    async def _search(self, search: Callable[[sqlite3.Connection], T]) -> T:
        """Run a search that may take long in a thread, on a connection and a snapshot of its own."""
        path = self._opened.file.path

        def run() -> T:
            try:
                with closing(open_reader(path)) as reader:
                    reader.execute("BEGIN")
                    return search(reader)
            except sqlite3.Error as exc:
                raise translated(exc, path) from exc

        return await asyncio.to_thread(run)
