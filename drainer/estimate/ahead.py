"""What windows and caps allow from now on: how much work can be done by when, at a given rate.

In    the rate, the limits of the windows to come, the caps with what counts against them now
Out   Course: the work done by a time, as a line of straight pieces
Pure  values only

The schedule is known, the rate is not: so the schedule is applied to each scenario of the rate (completion.py). Within a
window work is done at the rate or at the window's limit, whichever is less. A cap N over a window W means that the work done
by a time t is at most N above that done by t - W. A source that sends as soon as it may does all that both allow:
    done(t) = min(done(t - dt) + rate(t) dt, done(t - W) + N)
which is computed here step by step. What was sent before now stands at negative times.

Source  Le Boudec and Thiran, Network Calculus (2001), ch. 1: greedy shapers. Steps: the error is at most one of them.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Sequence
from dataclasses import dataclass

_STEPS = 300
_STEPS_IN_WINDOW = 6
"""A cap whose window has fewer steps than this counts as an even rate, after what it has room for now."""
LONGEST_S = 60 * 86_400.0
"""Beyond this the course goes on as evenly as before."""
UNLIMITED = 1e9
"""In place of an unlimited rate: work per second."""
_HELD = 0.9
"""A rate of at least this part of the limit is held down by it."""


@dataclass(frozen=True, slots=True)
class CapAhead:
    """A cap from now on.

    most      work within any window_s
    leaving   (seconds from now, work): what counts now, and from when on no more; in order
    reserved  work that counts and is not in `leaving`: it is being done now
    """

    most: float
    window_s: float
    leaving: tuple[tuple[float, float], ...] = ()
    reserved: float = 0.0

    @property
    def room(self) -> float:
        """Work that the cap allows now; less than nothing: as much as counts too much, since the cap was lowered."""
        return self.most - self.reserved - sum(amount for _, amount in self.leaving)

    def times(self, factor: float) -> CapAhead:
        """In another unit."""
        leaving = tuple((at_s, amount * factor) for at_s, amount in self.leaving)
        return CapAhead(self.most * factor, self.window_s, leaving, self.reserved * factor)


@dataclass(frozen=True, slots=True)
class Ahead:
    """The schedule from now on. In Ceilings windows are in messages and caps in recipients; in a DrainModel both in work.

    windows  (begins in seconds, limit per second; None: unlimited), the first at 0; empty: no limit will change
    caps     those that are set
    """

    windows: tuple[tuple[float, float | None], ...] = ()
    caps: tuple[CapAhead, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.windows or self.caps)

    @property
    def only_caps(self) -> Ahead:
        return Ahead((), self.caps)

    @property
    def goes_on(self) -> bool:
        """Whether a window to come lets something go."""
        return any(per_s != 0 for _, per_s in self.windows[1:])

    def course(self, pace: Pace, left: float) -> Course:
        """The work done by a time, if it is done as soon as it may be.

        left  the work of interest: the course is fine up to three times the time that it takes
        """
        until_s = max(1.0, 2 * left / max(pace.now, 1e-9), *(left * cap.window_s / cap.most for cap in self.caps))
        course = self._course(pace, until_s, _STEPS // 4)
        while course.done[-1] < left and until_s < LONGEST_S:
            until_s *= 4
            course = self._course(pace, until_s, _STEPS // 4)
        reached_s = course.time_of(left)
        return course if math.isinf(reached_s) else self._course(pace, min(3 * reached_s, LONGEST_S), _STEPS)

    def first_doubtful_s(self, pace: Pace) -> tuple[float, float]:
        """From when on the rate is not known from observation, and its relative standard deviation then; infinite: never."""
        for at_s, limit in self.windows:
            off = pace.doubt_under(limit)
            if off:
                return at_s, off
        return math.inf, 0.0

    def _course(self, pace: Pace, until_s: float, steps: int) -> Course:
        step_s = until_s / steps
        times = [step_s * number for number in range(steps + 1)]
        paced = self._paced(pace, times)
        done, histories = [0.0], [_History(cap, step_s) for cap in self.caps]
        for number in range(1, steps + 1):
            now = done[-1] + paced[number] - paced[number - 1]
            for history in histories:
                now = min(now, history.most_by(times[number], done))
            done.append(max(now, done[-1]))
        return Course(tuple(times), tuple(done))

    def _paced(self, pace: Pace, times: Sequence[float]) -> list[float]:
        """The work that the windows allow by each time, without caps."""
        windows = self.windows or ((0.0, pace.limit),)
        begins = [at_s for at_s, _ in windows]
        speeds = [pace.under(limit) for _, limit in windows]
        at_beginning = [0.0]
        for number in range(1, len(windows)):
            at_beginning.append(at_beginning[-1] + speeds[number - 1] * (begins[number] - begins[number - 1]))
        found = []
        for at_s in times:
            number = max(0, bisect.bisect_right(begins, at_s) - 1)
            found.append(at_beginning[number] + speeds[number] * max(0.0, at_s - begins[number]))
        return found


@dataclass(frozen=True, slots=True)
class Pace:
    """The rate of work now, and what is known of it under other limits. All in work per second.

    now    as observed
    limit  in force now; None: unlimited; 0: nothing is sent now, and `now` was observed before
    free   as observed where no limit held it down; None: never
    """

    now: float
    limit: float | None = None
    free: float | None = None

    @property
    def is_held(self) -> bool:
        """Whether the limit of now is what holds the rate down."""
        return self.limit is not None and self.limit > 0 and self.now >= _HELD * self.limit

    def under(self, limit: float | None) -> float:
        """The rate under another limit. Unless it was seen without one, it is taken to follow a finite limit."""
        if limit == 0:
            return 0.0
        if self.is_held:
            if limit is None:
                return max(self.now, self.free or 0.0)
            followed = min(1.0, self.now / (self.limit or self.now)) * limit
            return followed if self.free is None else min(followed, max(self.now, self.free))
        own = max(self.now, self.free or 0.0) if self.limit == 0 else self.now
        return own if limit is None else min(own, limit)

    def doubt_under(self, limit: float | None) -> float:
        """Relative standard deviation of that rate, beyond what is known of the present one."""
        if not self.is_held or self.limit is None or (limit is not None and limit <= self.limit):
            return 0.0
        if self.free is not None:
            return _SEEN_OFF
        return LIFTED_OFF if limit is None else RAISED_OFF


RAISED_OFF, LIFTED_OFF = 0.3, 0.5
"""Relative standard deviation of the rate after a limit is raised (the MTA may not keep up), or removed."""
_SEEN_OFF = 0.15


@dataclass(frozen=True, slots=True)
class Course:
    """done[i]: the work done by times[i]; both rise, from 0. Beyond the last time it goes on as on the whole."""

    times: tuple[float, ...]
    done: tuple[float, ...]

    def by(self, seconds: float) -> float:
        if seconds >= self.times[-1]:
            return self.done[-1] * seconds / self.times[-1]
        number = bisect.bisect_right(self.times, seconds)
        share = (seconds - self.times[number - 1]) / (self.times[number] - self.times[number - 1])
        return self.done[number - 1] + share * (self.done[number] - self.done[number - 1])

    def time_of(self, amount: float) -> float:
        """The first time by which so much is done; infinite: never."""
        if amount > self.done[-1]:
            return self.times[-1] * amount / self.done[-1] if self.done[-1] > 0 else math.inf
        number = max(1, bisect.bisect_left(self.done, amount))
        rise = self.done[number] - self.done[number - 1]
        share = (amount - self.done[number - 1]) / rise if rise > 0 else 0.0
        return self.times[number - 1] + max(0.0, share) * (self.times[number] - self.times[number - 1])


class _History:
    """What a cap has to know of the work done before."""

    def __init__(self, cap: CapAhead, step_s: float) -> None:
        self._cap = cap
        self._step_s = step_s
        self._is_fine = cap.window_s >= _STEPS_IN_WINDOW * step_s
        self._room = cap.room
        self._leaves = [at_s for at_s, _ in cap.leaving]
        self._gone = [0.0]
        for _, amount in cap.leaving:
            self._gone.append(self._gone[-1] + amount)

    def most_by(self, at_s: float, done: Sequence[float]) -> float:
        """The most work that the cap allows by this time. done: by each step before."""
        cap = self._cap
        freed = self._gone[bisect.bisect_right(self._leaves, at_s)]
        if not self._is_fine:
            # In steps that are longer than the window it comes evenly; on average half a window's worth comes at once.
            return self._room + freed + cap.most * max(0.0, at_s - cap.window_s / 2) / cap.window_s
        back_s = at_s - cap.window_s
        if back_s <= 0:
            return self._room + freed
        number = int(back_s / self._step_s)
        share = back_s / self._step_s - number
        before = done[number] + share * (done[min(number + 1, len(done) - 1)] - done[number])
        return self._room + freed + cap.reserved + before
