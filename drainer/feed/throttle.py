"""Waits until the rate allows one more transaction.

In    ceilings in messages and in recipients per second; how many recipients the next transaction has
Out   permission, evenly spaced, to one waiter after the other: fresh mail first (fresh_lane.py), then in the order they came
Not here  which ceiling is right (adaptive_rate.py, the operator)

asyncio_throttle.Throttler alone counts calls in a window: its first `rate_limit` calls pass in one burst, and waiters poll.
So there is one Throttler per ceiling with `rate_limit=1` and one waiter at a time. Its period is set to the time that the
last transaction has used up, its retry interval to the rest of that. Permission is due at fixed moments rather than one
period after the last wake-up, or the rate would fall short by the event loop's latency. CATCH_UP_S bounds how much is made
up for in this way.
"""

from __future__ import annotations

import asyncio
import math

from asyncio_throttle.throttler import Throttler

from drainer.clock import Clock, SystemClock
from drainer.feed.fresh_lane import LaneCredit, cost_s
from drainer.feed.lane_queue import LaneQueue

CATCH_UP_S = 0.01
"""How far permission may lag and still be made up for: no window holds more than rate * (window + this) + 1."""
_SHORTEST_SLEEP_S = 0.0005


class _EvenThrottler(Throttler):
    """Throttler for one waiter that knows when it may go, and does not poll."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._passed = clock.monotonic_s()
        self._due = self._passed
        super().__init__(rate_limit=1, period=0.0)

    @property
    def retry_interval(self) -> float:
        return max(_SHORTEST_SLEEP_S, self._due - self._clock.monotonic_s())

    @retry_interval.setter
    def retry_interval(self, value: float) -> None:
        """The base class sets it; the rest of the wait takes its place."""

    async def acquire_at(self, due: float) -> None:
        """Pass no earlier than `due`, in seconds of the monotonic clock; the first time at once."""
        self._due = due
        self.period = due - self._passed
        await self.acquire()  # type: ignore[no-untyped-call]
        self._passed = self._clock.monotonic_s()


class _Ceiling:
    """One ceiling: when the next transaction is due under it."""

    def __init__(self, per_s: float | None, clock: Clock) -> None:
        self.per_s = _checked(per_s)
        self._clock = clock
        self._throttler = _EvenThrottler(clock)
        self._slot = -math.inf
        self._used = 0

    def limit(self, per_s: float | None) -> None:
        self.per_s = per_s

    def due(self) -> float:
        """Seconds of the monotonic clock; -inf when unlimited, inf when paused."""
        if self.per_s is None:
            return -math.inf
        if self.per_s == 0:
            return math.inf
        return self._slot + self._used / self.per_s

    async def wait(self) -> None:
        await self._throttler.acquire_at(self.due())

    def grant(self, amount: int) -> None:
        now, due = self._clock.monotonic_s(), self.due()
        self._slot = due if now - due <= CATCH_UP_S else now
        self._used = amount


class Throttle:
    """Both ceilings together; None is unlimited, zero pauses. For one event loop."""

    def __init__(
        self, messages_per_s: float | None, recipients_per_s: float | None, clock: Clock | None = None
    ) -> None:
        """Raises ValueError for a negative ceiling. `clock` must run as time.monotonic does: the library reads that.

        lanes  the credit of fresh mail, which every transaction counts for
        """
        clock = clock or SystemClock()
        self._clock = clock
        self._messages = _Ceiling(messages_per_s, clock)
        self._recipients = _Ceiling(recipients_per_s, clock)
        self.lanes = LaneCredit()
        self._turn = LaneQueue(1, self.lanes)
        self._waiting_for: asyncio.Future[None] | None = None
        self._binding = ""

    @property
    def messages_per_s(self) -> float | None:
        return self._messages.per_s

    @property
    def recipients_per_s(self) -> float | None:
        return self._recipients.per_s

    @property
    def binding(self) -> str:
        """The ceiling that made the last transaction wait, or makes the next one: "messages", "recipients" or ""."""
        return self._binding

    def set(self, messages_per_s: float | None, recipients_per_s: float | None) -> None:
        """Change the ceilings; whoever waits notices at once. Raises ValueError for a negative one."""
        messages_per_s, recipients_per_s = _checked(messages_per_s), _checked(recipients_per_s)
        self._messages.limit(messages_per_s)
        self._recipients.limit(recipients_per_s)
        if self._waiting_for is not None:
            self._waiting_for.cancel()

    async def acquire(self, recipients: int, *, is_fresh: bool = False, others_wait: bool = False) -> None:
        """Wait for permission to begin a transaction with so many recipients; fresh mail first, then as they came.

        others_wait  transactions of the backlog wait elsewhere for what this one has already

        A large transaction goes when its turn comes and makes the next ones wait for it: 100 recipients at 10/s are
        followed by ten seconds of nothing.
        """
        has_waited = False
        while True:
            async with self._turn.place(is_fresh, at_front=has_waited):
                await self._until_due()
                if not self._turn.is_overtaken(is_fresh):
                    backlog_waits = others_wait or self._turn.backlog_waits
                    cost = cost_s(recipients, self.messages_per_s, self.recipients_per_s)
                    self.lanes.went(cost, is_fresh=is_fresh, backlog_waits=backlog_waits)
                    self._messages.grant(1)
                    self._recipients.grant(recipients)
                    return
                has_waited = True

    async def _until_due(self) -> None:
        """Until the ceilings allow one more transaction."""
        binding = ""
        while True:
            name, ceiling = ("messages", self._messages)
            if self._recipients.due() > ceiling.due():
                name, ceiling = ("recipients", self._recipients)
            if ceiling.due() <= self._clock.monotonic_s():
                break
            self._binding = binding = name
            await self._wait_for(ceiling)
        self._binding = binding

    async def _wait_for(self, ceiling: _Ceiling) -> None:
        """Until the ceiling may allow one more, or the ceilings change (which cancels what is waited for)."""
        if ceiling.due() < math.inf:
            self._waiting_for = asyncio.ensure_future(ceiling.wait())
        else:
            self._waiting_for = asyncio.get_running_loop().create_future()
        try:
            await asyncio.wait((self._waiting_for,))
        finally:
            self._waiting_for.cancel()
            self._waiting_for = None


def _checked(per_s: float | None) -> float | None:
    if per_s is not None and not 0 <= per_s < math.inf:
        raise ValueError(f"a ceiling of {per_s} per second; right would be 0 or more, or None for unlimited")
    return per_s
