"""How many octets of messages are in memory at a time: entries that were read, or content that is being sent.

In    sizes in bytes of what is about to be read or sent
Out   permission, in the order in which it was asked for
Not here  how much that should be (feed.memory)

Twenty sessions with a 30 MB copy each would need gigabytes. So a task takes its share of a budget before it reads an entry,
or holds a composed message until the MTA has it, and waits while the budget is used up. A message that is larger than the
whole budget goes alone: it has to go some time.
"""

from __future__ import annotations

import asyncio
from collections import deque

ENTRY_COPIES = 11
"""How often an entry is in memory at the worst moment: as its file, checked, unpickled, and composed.
Measured (VmHWM) for a mail of 30 MB of Mailman 2.1: 308 MB more to read it, 33 MB more to compose it."""
CONTENT_COPIES = 3
"""Content that is being sent: as it is, dot-stuffed, and the part that the kernel has not taken yet."""


class MemoryBudget:
    """Bytes that may be in use at a time."""

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self._used_bytes = 0
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    def resize(self, limit_bytes: int) -> None:
        """Another limit from now on; what is in use stays in use."""
        self.limit_bytes = limit_bytes
        self._admit()

    @property
    def used_bytes(self) -> int:
        return self._used_bytes

    def give(self, size_bytes: int) -> None:
        """So many bytes are free again."""
        self._used_bytes -= size_bytes
        self._admit()

    async def take(self, size_bytes: int) -> None:
        """Use so many bytes, once they are free; first come, first served. A call that is cancelled has taken none."""
        if not self._waiting and self._fits(size_bytes):
            self._used_bytes += size_bytes
            return
        waiter = asyncio.get_running_loop().create_future()
        self._waiting.append((size_bytes, waiter))
        try:
            await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled():
                self._used_bytes -= size_bytes
            elif (size_bytes, waiter) in self._waiting:
                self._waiting.remove((size_bytes, waiter))
            self._admit()
            raise

    def _fits(self, size_bytes: int) -> bool:
        return not self._used_bytes or self._used_bytes + size_bytes <= self.limit_bytes

    def _admit(self) -> None:
        while self._waiting and self._fits(self._waiting[0][0]):
            size_bytes, waiter = self._waiting.popleft()
            if not waiter.done():
                self._used_bytes += size_bytes
                waiter.set_result(None)


class MemoryByLane:
    """A budget for each lane: where fresh mail has one, the backlog leaves it a quarter. What waits for a cap keeps its
    room, and fresh mail would wait for that."""

    def __init__(self, limit_bytes: int, *, has_fresh_lane: bool) -> None:
        self._backlog, self._fresh = MemoryBudget(limit_bytes), MemoryBudget(limit_bytes)
        self.resize(limit_bytes, has_fresh_lane=has_fresh_lane)

    def resize(self, limit_bytes: int, *, has_fresh_lane: bool) -> None:
        """Other limits from now on; what is in use stays in use."""
        fresh_bytes = limit_bytes // 4
        self._backlog.resize(limit_bytes - fresh_bytes if has_fresh_lane else limit_bytes)
        self._fresh.resize(fresh_bytes)

    def of(self, *, is_fresh: bool) -> MemoryBudget:
        return self._fresh if is_fresh else self._backlog
