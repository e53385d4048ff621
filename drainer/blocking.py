"""Work that may never end, such as reading from an NFS server that is gone: the wait for it has a limit.

In    a function that blocks, a name for what it asks; a process to kill
Out   its result or its error; TimeoutError when it takes too long

Each question runs in a thread of its own, and the process ends without waiting for it. asyncio's executor would not do: it
has few threads, and the process waits for all of them at its end, even for ever. While one thread hangs, the same question
waits for that thread: a thousand entries of a list leave one thread behind, not a thousand.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import threading
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

T = TypeVar("T")

MOST_AT_A_TIME = 64
"""Threads of one InTime, hanging ones included."""

KILLED_WITHIN_S = 5.0


class InTime(Generic[T]):
    """Asks, each question in a thread of its own. For one event loop.

    limit_s  seconds one asker waits
    """

    def __init__(self, limit_s: float) -> None:
        self.limit_s = limit_s
        self._asked: dict[Hashable, asyncio.Future[T]] = {}

    async def ask(self, question: Hashable, work: Callable[[], T]) -> T:
        """Raises  TimeoutError; what `work` raises. A cancelled caller leaves at once; its thread goes on."""
        answer = self._asked.get(question)
        if answer is None:
            if len(self._asked) >= MOST_AT_A_TIME:
                raise TimeoutError(f"{MOST_AT_A_TIME} other questions wait for their answers")
            answer = self._asked[question] = asyncio.get_running_loop().create_future()
            answer.add_done_callback(lambda done: self._forget(question, done))
            threading.Thread(target=_work, args=(answer, work), name=f"asks {question}", daemon=True).start()
        try:
            async with asyncio.timeout(self.limit_s) as limit:
                return await asyncio.shield(answer)
        except TimeoutError as exc:
            if limit.expired():
                raise TimeoutError(f"{question}: no answer within {self.limit_s:g} s") from exc
            raise

    def _forget(self, question: Hashable, done: asyncio.Future[T]) -> None:
        del self._asked[question]
        if not done.cancelled():
            done.exception()  # looked at, even if every caller has left


async def kill_session(process: asyncio.subprocess.Process) -> None:
    """Kill a process that leads a session of its own, with all that it started, and wait for its end."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    await wait_for_killed(process)


async def wait_for_killed(process: asyncio.subprocess.Process) -> None:
    """Wait for its end, so that it leaves no zombie; but not for long, since no signal ends a process while a disk does not
    answer it. Then it is left behind."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(KILLED_WITHIN_S):
            await process.wait()


def _work(answer: asyncio.Future[T], work: Callable[[], T]) -> None:
    result: T | None = None
    error: BaseException | None = None
    try:
        result = work()
    except BaseException as exc:  # noqa: BLE001 - it goes to the caller
        error = exc
    with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
        answer.get_loop().call_soon_threadsafe(_tell, answer, result, error)


def _tell(answer: asyncio.Future[T], result: T | None, error: BaseException | None) -> None:
    if answer.done():
        return
    if error is not None:
        answer.set_exception(error)
    else:
        answer.set_result(result)  # type: ignore[arg-type]  # T itself may be Optional
