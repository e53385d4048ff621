"""A place that so many may be in at a time, and the order in which others follow: by lane, and within a lane as they came.

In    who wants in, and of which lane
Out   permission, to one after the other
Not here  which lane goes first (fresh_lane.py)
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from drainer.feed.fresh_lane import LaneCredit

_Line = deque[asyncio.Future[None]]


class LaneQueue:
    """For one event loop. As asyncio.Semaphore, with two lines."""

    def __init__(self, places: int, credit: LaneCredit) -> None:
        self.places = places
        self._credit = credit
        self._inside = 0
        self._fresh: _Line = deque()
        self._backlog: _Line = deque()

    @property
    def backlog_waits(self) -> bool:
        return bool(self._backlog)

    def is_overtaken(self, is_fresh: bool) -> bool:
        """Whether somebody waits who goes before one of this lane that is inside."""
        return not is_fresh and bool(self._fresh) and self._credit.goes_first

    @property
    def is_waited_for(self) -> bool:
        return bool(self._fresh or self._backlog)

    @property
    def has_room(self) -> bool:
        """Whether one that comes now waits for nobody."""
        return self._inside < self.places and not (self._fresh or self._backlog)

    def occupy(self) -> None:
        """A place is taken at once, whether there is room or not."""
        self._inside += 1

    def resize(self, places: int) -> None:
        """So many places from now on; whoever is inside stays."""
        self.places = places
        self._admit()

    @asynccontextmanager
    async def place(self, is_fresh: bool, *, at_front: bool = False) -> AsyncIterator[None]:
        """Inside the block one place is taken. at_front: before all others of its lane."""
        await self.enter(is_fresh, at_front=at_front)
        try:
            yield
        finally:
            self.leave()

    async def enter(self, is_fresh: bool, *, at_front: bool = False) -> None:
        """Take a place, once it is this one's turn. A call that is cancelled has taken none."""
        if self.has_room:
            self._inside += 1
            return
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        line = self._fresh if is_fresh else self._backlog
        if at_front:
            line.appendleft(waiter)
        else:
            line.append(waiter)
        self._admit()
        try:
            await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled():
                self.leave()
            elif waiter in line:
                line.remove(waiter)
            raise

    def leave(self) -> None:
        """Give the place back."""
        self._inside -= 1
        self._admit()

    def _admit(self) -> None:
        while self._inside < self.places and (self._fresh or self._backlog):
            is_first = bool(self._fresh) and (self._credit.goes_first or not self._backlog)
            waiter = (self._fresh if is_first else self._backlog).popleft()
            if not waiter.done():
                self._inside += 1
                waiter.set_result(None)
