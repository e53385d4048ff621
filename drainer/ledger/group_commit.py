"""Many writes, one commit: whatever is asked for while a commit runs, or soon after it, goes into the next transaction.

In    changes: functions that check first, then run statements on the connection
Out   each one's result, to its caller, once COMMIT has returned
Not here  what is written (sqlite.py)

Statements run in the event loop's thread, the COMMIT with its fsync in a thread of its own. Were the statements run
there too, each of them would give up and win back the interpreter lock against a busy loop, up to 5 ms a time
(sys.getswitchinterval); so it happens once per group.

After a commit the next group may wait for those who are about to write (gathering.py). One that finds nothing at work begins
at once.

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

from drainer.clock import Clock
from drainer.errors import HaltError, LedgerNotDurable
from drainer.ledger.gathering import LOOK_EVERY_S, Gathering

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
    clock          says how long a commit takes
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        *,
        after_begin: Callable[[], None],
        before_commit: Callable[[], None],
        forget: Callable[[], None],
        translate: Callable[[sqlite3.Error], HaltError],
        clock: Clock,
    ) -> None:
        self._connection = connection
        self._after_begin = after_begin
        self._before_commit = before_commit
        self._forget = forget
        self._translate = translate
        self._clock = clock
        self._queue: list[_Write] = []
        self._is_at_work = False
        self._look: asyncio.TimerHandle | None = None
        self._gathering = Gathering()
        self._rests: asyncio.Future[None] | None = None
        self._busy = 0
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="ledger-commit")
        self._commits = 0
        self._is_closing = False
        self._is_closed = False

    async def write(self, change: Callable[[], T], undo: Callable[[T], None] | None = None) -> T:
        """Run `change` in the next transaction; return its result when that is durable.

        undo    as in `begin`; it is run too if the caller was cancelled before it could have the result
        Raises  what the future of `begin` has
        """
        future = self.begin(change, undo)
        try:
            return await future
        except asyncio.CancelledError:
            # It may have come in the very moment between the commit and this caller's turn.
            if undo is not None and future.done() and not future.cancelled() and future.exception() is None:
                self._add(self._undoing(undo, future.result()))
            raise

    def begin(self, change: Callable[[], T], undo: Callable[[T], None] | None = None) -> asyncio.Future[T]:
        """Run `change` in the next transaction. The future has its result once that is durable, or the error: what `change`
        raised; LedgerNotDurable or LedgerUnusable if the group could not be committed.

        change  raises IllegalTransition before it writes anything, and may be run again after a rollback
        undo    a change of its own, run with the result if the future was cancelled meanwhile
        """
        if self._is_closed:
            return refused(LedgerNotDurable("the ledger is closed"))
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._add(_Write(change, future, undo))
        return future

    async def close(self) -> None:
        """Commit what is queued, then take no more."""
        self._is_closing = True
        if self._look is not None:
            self._look.cancel()
            self._begin_soon()
        while self._is_at_work:
            self._rests = self._rests or asyncio.get_running_loop().create_future()
            await asyncio.shield(self._rests)
        self._is_closed = True
        self._thread.shutdown()

    def _add(self, write: _Write) -> None:
        self._queue.append(write)
        if not self._is_at_work:
            self._is_at_work = True
            self._begin_soon()
        elif self._look is not None and self._gathering.is_complete(len(self._queue)):
            self._look.cancel()
            self._begin_soon()

    def _begin_soon(self) -> None:
        """Not at once: what else is asked for in this turn of the loop goes into the same group."""
        self._look = None
        asyncio.get_running_loop().call_soon(self._write_group)

    def _write_group(self) -> None:
        """Write the rows of all that is queued, and have them committed."""
        group, self._queue = [write for write in self._queue if not write.future.done()], []
        if not group:
            self._rest()
            return
        loop = asyncio.get_running_loop()
        try:
            if self._has_begun():
                applied = self._applied(group)
                if applied is not None:
                    self._thread.submit(self._commit, applied, loop)
                    return
                loop.call_soon(self._write_group)
            else:
                loop.call_later(_BUSY_WAIT_S, self._write_group)
        except (sqlite3.Error, HaltError) as exc:
            self._refuse(group, exc)
            self._go_on()
        except BaseException:
            self._refuse(group, LedgerNotDurable("the ledger was stopped before this write was committed"))
            self._go_on()
            raise
        else:
            self._queue[:0] = group

    def _has_begun(self) -> bool:
        """Begin a transaction. False: another connection writes; to be tried again."""
        try:
            self._connection.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError as exc:
            self._busy += 1
            if exc.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or self._busy > _BUSY_TRIES:
                self._busy = 0
                raise
            return False
        self._busy = 0
        self._after_begin()
        return True

    def _applied(self, group: list[_Write]) -> list[tuple[_Write, Any]] | None:
        """Run the group's changes in the transaction. None: one raised. It fails its own caller only, and what it half wrote
        is rolled back with the others, which are to be written anew."""
        applied: list[tuple[_Write, Any]] = []
        for write in group:
            try:
                applied.append((write, write.change()))
            except HaltError as exc:
                _fail(write, exc)
            except sqlite3.Error:
                raise
            except Exception as exc:  # noqa: BLE001 - it goes to its caller
                _fail(write, exc)
                self._roll_back()
                return None
        self._before_commit()
        return applied

    def _commit(self, applied: list[tuple[_Write, Any]], loop: asyncio.AbstractEventLoop) -> None:
        """In the thread."""
        error: Exception | None = None
        began_s = self._clock.monotonic_s()
        try:
            self._finish()
        except Exception as exc:  # noqa: BLE001 - the loop's thread tells what it means
            error = exc
        loop.call_soon_threadsafe(self._committed, applied, error, self._clock.monotonic_s() - began_s)

    def _committed(self, applied: list[tuple[_Write, Any]], error: Exception | None, took_s: float) -> None:
        if error is not None:
            self._refuse([write for write, _ in applied], error)
            self._go_on()
            return
        for write, result in applied:
            if not write.future.done():
                write.future.set_result(result)
            elif write.future.cancelled() and write.undo is not None:
                self._queue.append(self._undoing(write.undo, result))
        now_s = self._clock.monotonic_s()
        if not self._is_closing and self._gathering.waits(len(applied), len(self._queue), took_s, now_s):
            self._look_soon()
        else:
            self._go_on()

    def _look_soon(self) -> None:
        self._look = asyncio.get_running_loop().call_later(LOOK_EVERY_S, self._look_again)

    def _look_again(self) -> None:
        if self._gathering.goes_on(len(self._queue), self._clock.monotonic_s()):
            self._look_soon()
        else:
            self._look = None
            self._go_on()

    def _go_on(self) -> None:
        if self._queue:
            self._begin_soon()
        else:
            self._rest()

    def _rest(self) -> None:
        self._is_at_work = False
        if self._rests is not None:
            self._rests.set_result(None)
            self._rests = None

    def _finish(self) -> None:
        self._connection.commit()
        self._commits += 1
        if self._commits % 64 == 1:
            self._bound_log()

    def _bound_log(self) -> None:
        """Keep the write-ahead log below a sixteenth of the file; a small ledger below 64 pages."""
        (pages,) = self._connection.execute("PRAGMA page_count").fetchone()
        self._connection.execute(f"PRAGMA wal_autocheckpoint = {min(max(pages // 16, 64), 1000)}").fetchone()

    def _refuse(self, group: list[_Write], error: Exception) -> None:
        self._roll_back()
        if isinstance(error, sqlite3.Error):
            error = self._translate(error)
        for write in group:
            _fail(write, error)

    def _roll_back(self) -> None:
        if self._connection.in_transaction:
            self._connection.rollback()
        self._forget()

    def _undoing(self, undo: Callable[[Any], None], result: Any) -> _Write:
        return _Write(lambda: undo(result), asyncio.get_running_loop().create_future(), None)


def refused(error: LedgerNotDurable) -> asyncio.Future[Any]:
    """A write that was not even queued."""
    future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    future.set_exception(error)
    return future


def _fail(write: _Write, exc: Exception) -> None:
    if not write.future.done():
        write.future.set_exception(exc)
