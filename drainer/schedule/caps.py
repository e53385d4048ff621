"""Recipients sent to within the last hour and the last day, and when a cap lets more of them go.

In    recipients and the moment of each transaction; the most that a window of time may hold
Out   how many count now, and when there is room for more
Pure  the moments are arguments: seconds of a clock that never jumps

The window slides. Providers count in different ways: since the full hour, since the first message, or over the last sixty
minutes. What keeps within every sixty minutes keeps within each of these.

Mail goes at the rate in force until the cap is reached, and then waits until what was sent first is an hour old. Over a long
drain that is as much as an even rate would send, but it comes earlier. A site that wants it even sets feed.recipients too.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

HOUR_S, DAY_S = 3600.0, 86_400.0
CAPS = {"hourly": HOUR_S, "daily": DAY_S}
"""Their windows, in seconds."""
GRAIN_S = 10.0
"""The ledger counts by so many seconds (ledger/sent_rows.py)."""
_GRAINS = 360
"""Moments within this part of a window are kept as one, that of the last: memory is bounded, no window is too short, and
what that leaves unused of a cap is less than a three-hundredth."""
_PIECES = 20
"""A transaction is cut where it does not fit, but into pieces of at least a twentieth of the cap: more would make many small
transactions of a large one, fewer would leave more of the cap unused."""


@dataclass(slots=True)
class _Sent:
    first_s: float
    last_s: float
    recipients: int


class SentWithin:
    """Recipients sent to within a window of time."""

    def __init__(self, window_s: float) -> None:
        self.window_s = window_s
        self._sent: deque[_Sent] = deque()
        self._sum = 0

    def add(self, at_s: float, recipients: int) -> None:
        """at_s: what comes before one that was added earlier counts as of that one."""
        if recipients <= 0:
            return
        if self._sent:
            at_s = max(at_s, self._sent[-1].last_s)
        if self._sent and at_s - self._sent[-1].first_s < self.window_s / _GRAINS:
            self._sent[-1].last_s = at_s
            self._sent[-1].recipients += recipients
        else:
            self._sent.append(_Sent(at_s, at_s, recipients))
        self._sum += recipients

    def used(self, now_s: float) -> int:
        """How many count now."""
        while self._sent and self._sent[0].last_s + self.window_s <= now_s:
            self._sum -= self._sent.popleft().recipients
        return self._sum

    def leaving(self, now_s: float) -> list[tuple[float, int]]:
        """(moment, recipients) from which on these count no more, in order."""
        self.used(now_s)
        return [(sent.last_s + self.window_s, sent.recipients) for sent in self._sent]


@dataclass(frozen=True, slots=True)
class CapInForce:
    """A cap as it stands.

    name     "hourly" or "daily"
    most     recipients within the window
    used     of these, sent to or about to be
    next_s   seconds until one more may go; 0: now; infinite: when one that is about to be sent to is not, after all
    leaving  (seconds from now, recipients) that count no more from then on, in order; without those about to be sent to
    """

    name: str
    most: int
    window_s: float
    used: int
    next_s: float
    leaving: tuple[tuple[float, int], ...] = ()


class Account:
    """What counts against an hourly and a daily cap; 0: no such cap. It counts without caps too, for those set later."""

    def __init__(self) -> None:
        self._most: dict[str, int] = {}
        self._within = _nothing_sent()
        self._before = _nothing_sent()
        self._reserved = 0

    def limit(self, hourly: int, daily: int) -> None:
        self._most = {name: most for name, most in (("hourly", hourly), ("daily", daily)) if most}

    @property
    def most(self) -> int:
        """The most recipients that can ever go at once; 0: any number."""
        return min(self._most.values(), default=0)

    @property
    def smallest_piece(self) -> int:
        """Into no smaller pieces is a transaction cut; 0: it is not cut at all."""
        return math.ceil(self.most / _PIECES)

    def room(self, now_s: float) -> float:
        """How many recipients may go now; infinite without a cap."""
        return min((most - self._used(name, now_s) for name, most in self._most.items()), default=math.inf)

    def due_s(self, now_s: float, recipients: int) -> tuple[float, str]:
        """The moment at which so many may go, and the cap that they wait for; "" for none."""
        due_s, binding = now_s, ""
        for name, most in self._most.items():
            at_s = self._left_by(name, now_s, self._used(name, now_s) + recipients - most)
            if at_s > due_s:
                due_s, binding = at_s, name
        return due_s, binding

    def reserve(self, recipients: int) -> None:
        """So many are about to be sent to. They count from now on, until `settle` says when they were."""
        self._reserved += recipients

    def settle(self, now_s: float, reserved: int, sent: int) -> None:
        """Of those reserved, so many were sent to, up to now; the others were not."""
        self._reserved -= reserved
        for within in self._within.values():
            within.add(now_s, sent)

    def restore(self, now_s: float, sent: Iterable[tuple[float, int]]) -> None:
        """What earlier runs sent: (seconds ago, recipients), the oldest first. It takes the place of what an earlier call
        said."""
        self._before = _nothing_sent()
        for ago_s, recipients in sent:
            for before in self._before.values():
                before.add(now_s - max(0.0, ago_s), recipients)

    def _used(self, name: str, now_s: float) -> int:
        return self._within[name].used(now_s) + self._before[name].used(now_s) + self._reserved

    def _leaving(self, name: str, now_s: float) -> list[tuple[float, int]]:
        return sorted(self._before[name].leaving(now_s) + self._within[name].leaving(now_s))

    def _left_by(self, name: str, now_s: float, recipients: int) -> float:
        """The moment from which on at least so many of those that count now do not; infinite: there are not so many."""
        if recipients <= 0:
            return now_s
        for at_s, number in self._leaving(name, now_s):
            recipients -= number
            if recipients <= 0:
                return at_s
        return math.inf

    def in_force(self, now_s: float) -> list[CapInForce]:
        """The caps that are set, as they stand."""
        found = []
        for name, most in self._most.items():
            used = self._used(name, now_s)
            next_s = max(0.0, self._left_by(name, now_s, used + 1 - most) - now_s)
            leaving = tuple((at_s - now_s, number) for at_s, number in self._leaving(name, now_s))
            found.append(CapInForce(name, most, CAPS[name], used, next_s, leaving))
        return found


def _nothing_sent() -> dict[str, SentWithin]:
    return {name: SentWithin(window_s) for name, window_s in CAPS.items()}
