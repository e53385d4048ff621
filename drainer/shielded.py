"""Work that must not be left half done: a cancellation waits until it has ended.

In    a coroutine; the cancellation of whoever awaits it
Out   its result, or its error; or else the cancellation, once it has ended
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


async def carried_through(work: Coroutine[Any, Any, T], cancelled: Callable[[], None] = lambda: None) -> T:
    """The result of `work`.

    cancelled  called at each cancellation that has to wait
    Raises     what `work` raises; CancelledError if a cancellation came meanwhile
    """
    task = asyncio.create_task(work)
    interruption: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait((task,))
        except asyncio.CancelledError as exc:
            cancelled()
            interruption = exc
    result = task.result()
    if interruption is not None:
        raise interruption
    return result
