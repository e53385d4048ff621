"""Work that must not be left half done: a cancellation waits until it has ended.

In    a coroutine or a future; the cancellation of whoever awaits it
Out   its result, or its error; or else the cancellation, once it has ended
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


async def until_done(
    future: asyncio.Future[Any], cancelled: Callable[[], None] = lambda: None
) -> asyncio.CancelledError | None:
    """Wait for a future, whatever comes. Returns the cancellation that came meanwhile, for the caller to raise when it has
    done what cannot be left undone.

    cancelled  called at each cancellation that has to wait
    """
    interruption: asyncio.CancelledError | None = None
    while not future.done():
        waiter: asyncio.Future[None] = future.get_loop().create_future()

        def wake(_: object, waiter: asyncio.Future[None] = waiter) -> None:
            if not waiter.done():
                waiter.set_result(None)

        future.add_done_callback(wake)
        try:
            await waiter
        except asyncio.CancelledError as exc:
            cancelled()
            interruption = exc
    return interruption


async def carried_through(work: Coroutine[Any, Any, T], cancelled: Callable[[], None] = lambda: None) -> T:
    """The result of `work`.

    cancelled  called at each cancellation that has to wait
    Raises     what `work` raises; CancelledError if a cancellation came meanwhile
    """
    task = asyncio.create_task(work)
    interruption = await until_done(task, cancelled)
    result = task.result()
    if interruption is not None:
        raise interruption
    return result
