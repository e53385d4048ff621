"""Waits until the rate allows one more transaction.

In    ceilings in messages and in recipients per second, hourly and daily caps; how many recipients the next transaction has
Out   permission, evenly spaced, to one waiter after the other: fresh mail first (fresh_lane.py), then in the order they came
Not here  which ceiling is right (adaptive_rate.py, the operator); what counts against a cap (schedule/caps.py, permit.py)

asyncio_throttle.Throttler alone counts calls in a window: its first `rate_limit` calls pass in one burst, and waiters poll.
So there is one Throttler per ceiling with `rate_limit=1` and one waiter at a time. Its period is set to the time that the
last transaction has used up, its retry interval to the rest of that. Permission is due at fixed moments rather than one
period after the last wake-up, or the rate would fall short by the event loop's latency. CATCH_UP_S bounds how much is made
up for in this way.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Awaitable, Callable, Sequence

from asyncio_throttle.throttler import Throttler

from drainer.clock import Clock, SystemClock
from drainer.errors import MoreThanCap
from drainer.feed.fresh_lane import LaneCredit, cost_s
from drainer.feed.lane_queue import LaneQueue
from drainer.feed.permit import Permit
from drainer.schedule.caps import CAPS, Account, CapInForce

CATCH_UP_S = 0.01
"""How far permission may lag and still be made up for: no window holds more than rate * (window + this) + 1."""
_GRAIN_S = 0.001
"""Sleeps are whole milliseconds, rounded up. uvloop rounds them to the nearest: of a rest of less than half of one it would
make no sleep at all, but a loop that spins until it is over."""


class _EvenThrottler(Throttler):
    """Throttler for one waiter that knows when it may go, and does not poll."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._passed = clock.monotonic_s()
        self._due = self._passed
        super().__init__(rate_limit=1, period=0.0)

    @property
    def retry_interval(self) -> float:
        return _GRAIN_S * max(1, math.ceil((self._due - self._clock.monotonic_s()) / _GRAIN_S))

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
    """Both ceilings together, and the caps; None is unlimited, zero pauses. For one event loop."""

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
        self._account = Account()
        self.lanes = LaneCredit()
        self._turn = LaneQueue(1, self.lanes)
        self._waiting_for: asyncio.Timeout | None = None
        self._binding = ""

    @property
    def messages_per_s(self) -> float | None:
        return self._messages.per_s

    @property
    def recipients_per_s(self) -> float | None:
        return self._recipients.per_s

    @property
    def binding(self) -> str:
        """What made the last transaction wait, or makes the next one: "messages", "recipients", "hourly", "daily" or ""."""
        return self._binding

    @property
    def waits_for(self) -> str:
        """As `binding`; "" while nobody waits."""
        return self._binding if self._waiting_for is not None else ""

    @property
    def caps(self) -> list[CapInForce]:
        """The caps that are set, as they stand."""
        return self._account.in_force(self._clock.monotonic_s())

    def cap(self, hourly: int, daily: int) -> None:
        """Change the caps, in recipients; 0: none. Whoever waits notices at once."""
        self._account.limit(hourly, daily)
        self._look_again()

    def restore(self, sent: Sequence[tuple[float, int]]) -> None:
        """What earlier runs sent, in place of what an earlier call said: (seconds ago, recipients), the oldest first."""
        self._account.restore(self._clock.monotonic_s(), sent)
        self._look_again()

    def set(self, messages_per_s: float | None, recipients_per_s: float | None) -> None:
        """Change the ceilings; whoever waits notices at once. Raises ValueError for a negative one."""
        messages_per_s, recipients_per_s = _checked(messages_per_s), _checked(recipients_per_s)
        self._messages.limit(messages_per_s)
        self._recipients.limit(recipients_per_s)
        self._look_again()

    def begun_before(self, recipients: int) -> Permit:
        """A permit for recipients that an earlier run began to send to. It waits for nothing."""
        self._account.reserve(recipients)
        permit = Permit(recipients, self._ended)
        permit.sent(recipients)
        return permit

    async def acquire(
        self, recipients: int, *, is_fresh: bool = False, may_be_cut: bool = False, places: LaneQueue | None = None
    ) -> Permit:
        """Wait for permission to begin a transaction with so many recipients; fresh mail first, then as they came.

        may_be_cut  the permit may be for fewer of them, where a cap has no room for all; else they wait for it
        places      one of them is taken too, and the caller gives it back after the transaction. One of the backlog that
                    waits here, perhaps for hours for a cap, leaves its place to fresh mail that waits for one
        Returns     the permit, which the caller ends once the transaction is over
        Raises      MoreThanCap: it must not be cut, and a cap never allows so many; also when the caps change meanwhile

        A large transaction goes when its turn comes and makes the next ones wait for it: 100 recipients at 10/s are
        followed by ten seconds of nothing.
        """
        has_waited = False
        while True:
            if places is not None:
                self._let_see(is_fresh)
                await places.enter(is_fresh, at_front=has_waited)
            permit = None
            try:
                permit = self._at_once(recipients, may_be_cut, is_fresh, places)
                if permit is None:
                    permit = await self._in_turn(recipients, may_be_cut, is_fresh, places, at_front=has_waited)
            finally:
                if permit is None and places is not None:
                    places.leave()
            if permit is not None:
                return permit
            has_waited = True

    def _at_once(self, recipients: int, may_be_cut: bool, is_fresh: bool, places: LaneQueue | None) -> Permit | None:
        """As _in_turn where nobody is in line and nothing has to be waited for; None: it is to stand in line."""
        if not self._turn.has_room or (places is not None and places.is_overtaken(is_fresh)):
            return None
        now_s = self._clock.monotonic_s()
        if self._due(now_s, recipients, may_be_cut)[0] > now_s:
            return None
        self._binding = ""
        return self._granted(recipients, is_fresh, places)

    async def _in_turn(
        self, recipients: int, may_be_cut: bool, is_fresh: bool, places: LaneQueue | None, *, at_front: bool
    ) -> Permit | None:
        """As acquire, with a place. None: fresh mail waits for the place."""
        while True:
            self._let_see(is_fresh)
            async with self._turn.place(is_fresh, at_front=at_front):
                await self._until_due(recipients, may_be_cut, is_fresh, places)
                if places is not None and places.is_overtaken(is_fresh):
                    return None
                if not self._turn.is_overtaken(is_fresh):
                    return self._granted(recipients, is_fresh, places)
                at_front = True

    def _granted(self, recipients: int, is_fresh: bool, places: LaneQueue | None) -> Permit:
        granted = int(min(recipients, self._account.room(self._clock.monotonic_s())))
        backlog_waits = self._turn.backlog_waits or (places is not None and places.backlog_waits)
        cost = cost_s(granted, self.messages_per_s, self.recipients_per_s)
        self.lanes.went(cost, is_fresh=is_fresh, backlog_waits=backlog_waits)
        self._account.reserve(granted)
        self._messages.grant(1)
        self._recipients.grant(granted)
        return Permit(granted, self._ended)

    async def _until_due(self, recipients: int, may_be_cut: bool, is_fresh: bool, places: LaneQueue | None) -> None:
        """Until the ceilings allow one more transaction, and the caps so many recipients, or a piece of it; or until another
        one goes first."""
        binding = ""
        while not any(line.is_overtaken(is_fresh) for line in (self._turn, places) if line is not None):
            now_s = self._clock.monotonic_s()
            due_s, due_for = self._due(now_s, recipients, may_be_cut)
            if due_s <= now_s:
                break
            self._binding = binding = due_for
            if due_for in CAPS:
                await self._wait_for(due_s, asyncio.sleep, due_s - now_s)
            else:
                await self._wait_for(due_s, (self._messages if due_for == "messages" else self._recipients).wait)
        self._binding = binding

    def _due(self, now_s: float, recipients: int, may_be_cut: bool) -> tuple[float, str]:
        """When ceilings and caps allow such a transaction, in seconds of the monotonic clock, and what it waits for.

        Raises  MoreThanCap
        """
        due_s, due_for = self._messages.due(), "messages"
        if (recipients_due_s := self._recipients.due()) > due_s:
            due_s, due_for = recipients_due_s, "recipients"
        most = self._account.most
        if not may_be_cut and 0 < most < recipients:
            raise MoreThanCap(recipients, most)
        at_least = min(recipients, self._account.smallest_piece or recipients) if may_be_cut else recipients
        cap_due_s, cap = self._account.due_s(now_s, at_least)
        return (cap_due_s, cap) if cap and cap_due_s > due_s else (due_s, due_for)

    def _let_see(self, is_fresh: bool) -> None:
        """Fresh mail is about to stand in line: one of the backlog may wait for hours for a cap that has room for it."""
        if is_fresh:
            self._look_again()

    def _ended(self, reserved: int, sent: int) -> None:
        self._account.settle(self._clock.monotonic_s(), reserved, sent)
        if self._binding in CAPS:
            self._look_again()

    def _look_again(self) -> None:
        if self._waiting_for is not None and not self._waiting_for.expired():
            self._waiting_for.reschedule(asyncio.get_running_loop().time())

    async def _wait_for(self, due_s: float, wait: Callable[..., Awaitable[None]], *arguments: float) -> None:
        """Until then, or until ceilings or caps change (which ends the wait early)."""
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(None) as self._waiting_for:
                    await (wait(*arguments) if due_s < math.inf else asyncio.get_running_loop().create_future())
        finally:
            self._waiting_for = None


def _checked(per_s: float | None) -> float | None:
    if per_s is not None and not 0 <= per_s < math.inf:
        raise ValueError(f"a ceiling of {per_s} per second; right would be 0 or more, or None for unlimited")
    return per_s
