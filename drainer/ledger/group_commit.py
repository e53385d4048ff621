"""Many writes, one commit: whatever is asked for while a commit runs goes into the next transaction together.

In    changes: functions that check first, then run statements on the connection
Out   each one's result, to its caller, once COMMIT has returned
Not here  what is written (sqlite.py)

Statements run in the event loop's thread, the COMMIT with its fsync in a thread of its own. Were the statements run
there too, each of them would give up and win back the interpreter lock against a busy loop, up to 5 ms a time
(sys.getswitchinterval); so it happens once per group.

INVARIANT returned-means-durable: a caller goes on only after the COMMIT that holds its write has returned.
  Crash before: the caller never went on; after a restart the write is there or it is not, both are true to what it did.
  Crash after:  the write is there (WAL, synchronous=FULL, read back in sqlite_file.py).
  Held by tests/ledger/test_kill.py and test_full_disk.py.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

from drainer.errors import HaltError, LedgerNotDurable

T = TypeVar("T")

_BUSY_TRIES = 500
_BUSY_WAIT_S = 0.01


@dataclass(slots=True, eq=False)
class _Write:
    change: Callable[[], Any]
    future: asyncio.Future[Any]
    undo: Callable[[Any], None] | None


class GroupCommit:
    """Applies changes to one connection, in order, a group per transaction.

    connection     in autocommit mode; used here only
    after_begin    runs inside the transaction before the group's changes; raises HaltError if they must not be made
    before_commit  runs inside the transaction after the group's changes, for what they added up
    forget         runs after a rollback: whatever was remembered of uncommitted changes is to go
    translate      a sqlite3.Error as the HaltError the callers get
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        *,
        after_begin: Callable[[], None],
        before_commit: Callable[[], None],
        forget: Callable[[], None],
        translate: Callable[[sqlite3.Error], HaltError],
    ) -> None:
        self._connection = connection
        self._after_begin = after_begin
        self._before_commit = before_commit
        self._forget = forget
        self._translate = translate
        self._queue: list[_Write] = []
        self._task: asyncio.Task[None] | None = None
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="ledger-commit")
        self._commits = 0
        self._closed = False

    async def write(self, change: Callable[[], T], undo: Callable[[T], None] | None = None) -> T:
        """Run `change` in the next transaction; return its result when that is durable.

        change  raises IllegalTransition before it writes anything, and may be run again after a rollback
        undo    a change of its own, run with the result if the caller was cancelled before it could have it
        Raises  what `change` raised; LedgerNotDurable or LedgerUnusable if the group could not be committed
        """
        if self._closed:
            raise LedgerNotDurable("the ledger is closed")
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._queue.append(_Write(change, future, undo))
        self._start()
        try:
            return await future
        except asyncio.CancelledError:
            # It may have come in the very moment between the commit and this caller's turn.
            if undo is not None and future.done() and not future.cancelled() and future.exception() is None:
                self._queue.append(self._undoing(undo, future.result()))
                self._start()
            raise

    def _start(self) -> None:
        if self._task is None:
            self._task = asyncio.create_task(self._drain(), name="ledger-commit")

    async def close(self) -> None:
        """Commit what is queued, then take no more."""
        while self._task is not None:
            await asyncio.shield(self._task)
        self._closed = True
        self._thread.shutdown()

    async def _drain(self) -> None:
        group: list[_Write] = []
        try:
            while self._queue:
                group, self._queue = self._queue, []
                await self._commit(group)
        finally:
            self._task = None
            for write in group + self._queue:
                _fail(write, LedgerNotDurable("the ledger was stopped before this write was committed"))

    async def _commit(self, group: list[_Write]) -> None:
        try:
            applied = await self._apply(group)
            await asyncio.get_running_loop().run_in_executor(self._thread, self._finish)
        except (sqlite3.Error, HaltError) as exc:
            self._roll_back()
            for write in group:
                _fail(write, exc if isinstance(exc, HaltError) else self._translate(exc))
            return
        for write, result in applied:
            if not write.future.done():
                write.future.set_result(result)
            elif write.future.cancelled() and write.undo is not None:
                self._queue.append(self._undoing(write.undo, result))

    async def _apply(self, group: list[_Write]) -> list[tuple[_Write, Any]]:
        """Run the group's changes in an open transaction; a change that raises fails its own caller only."""
        await self._begin()
        applied: list[tuple[_Write, Any]] = []
        remaining = [write for write in group if not write.future.done()]
        position = 0
        while position < len(remaining):
            write = remaining[position]
            try:
                applied.append((write, write.change()))
            except HaltError as exc:
                _fail(write, exc)
            except sqlite3.Error:
                raise
            except Exception as exc:  # noqa: BLE001 - it goes to its caller; what it half wrote has to go
                _fail(write, exc)
                self._roll_back()
                remaining = [other for other in remaining if not other.future.done()]
                applied, position = [], 0
                await self._begin()
                continue
            position += 1
        self._before_commit()
        return applied

    async def _begin(self) -> None:
        for _ in range(_BUSY_TRIES):
            try:
                self._connection.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError as exc:
                if exc.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
                    raise
                await asyncio.sleep(_BUSY_WAIT_S)
            else:
                break
        else:
            self._connection.execute("BEGIN IMMEDIATE")
        self._after_begin()

    def _finish(self) -> None:
        self._connection.commit()
        self._commits += 1
        if self._commits % 64 == 1:
            self._bound_log()

    def _bound_log(self) -> None:
        """Keep the write-ahead log below a sixteenth of the file; a small ledger below 64 pages."""
        (pages,) = self._connection.execute("PRAGMA page_count").fetchone()
        self._connection.execute(f"PRAGMA wal_autocheckpoint = {min(max(pages // 16, 64), 1000)}").fetchone()

    def _roll_back(self) -> None:
        if self._connection.in_transaction:
            self._connection.rollback()
        self._forget()

    def _undoing(self, undo: Callable[[Any], None], result: Any) -> _Write:
        return _Write(lambda: undo(result), asyncio.get_running_loop().create_future(), None)


def _fail(write: _Write, exc: Exception) -> None:
    if not write.future.done():
        write.future.set_exception(exc)
