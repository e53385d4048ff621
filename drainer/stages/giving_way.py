"""The event loop does a little of a long work in each turn, so that replies and questions are answered in between.

In    work that comes in lots: entries picked together, a listing, what the readers have read
Out   the same work, in the same order, over more turns of the loop
Not here  the work

An HTTP request takes some six turns of the loop from its connection to its answer. Had each of them a step of the work in
it, the answer would wait for six steps.
"""

from __future__ import annotations

import asyncio
from collections import deque

TURNS_FOR_OTHERS = 5
"""An idle turn takes some 10 µs."""


async def give_way() -> None:
    """Between two steps of a long work: the loop turns some times without it."""
    for _ in range(TURNS_FOR_OTHERS):
        await asyncio.sleep(0)


class FewInATurn:
    """`pass_one` for each caller, which then does its piece of the work. Fewer than twice `most` go through in one turn, in
    the order in which they came."""

    def __init__(self, most: int) -> None:
        self._most = self._left = most
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def pass_one(self) -> None:
        """Return in this turn of the loop, or in one of the next."""
        loop = asyncio.get_running_loop()
        if not self._left or self._waiting:
            waits = loop.create_future()
            self._waiting.append(waits)
            await waits
            return
        self._take_one(loop)

    def _take_one(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._left == self._most:
            loop.call_soon(self._next_turn, loop)
        self._left -= 1

    def _next_turn(self, loop: asyncio.AbstractEventLoop) -> None:
        self._left = self._most
        while self._left and self._waiting:
            waits = self._waiting.popleft()
            if not waits.done():
                self._take_one(loop)
                waits.set_result(None)
