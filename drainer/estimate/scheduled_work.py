"""The schedule applied to a forecast: the work that each scenario of the rate does by a time, and how sure that is.

In    the schedule ahead in units of work, the limit in force, the rate where no limit held it down
Out   for a scenario's rate and a time: seconds of work at that rate, how much the work depends on the rate, what is in doubt
Pure  values only

Courses are computed for rates five per cent apart, once each: a forecast asks for the same ones dozens of times.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from drainer.estimate.ahead import UNLIMITED, Ahead, Course, Pace

_GRID = 0.05
_FASTER = 2
"""The sensitivity is measured between rates so many steps of the grid apart."""
_LEAST_S = 1e-6
_SAME, _SAME_MOMENT_S = 0.001, 10.0
"""Limits that differ by less than this part are one limit; windows that begin so near each other are one window."""
_MAYBE_FREE = ((0.3, 1.5), (0.4, 6.0), (0.3, 25.0))
"""(chance, times the rate of now): how fast it may go without a limit, where a limit has held it down all the time. Nothing
is known of that but that the site expects more."""


@dataclass(frozen=True, slots=True)
class Share:
    """Of a scenario by a time.

    weight       the chance of it; those of all shares add up to 1
    work         that the schedule lets it do
    seconds      that the scenario's rate takes for it
    sensitivity  relative change of that work for a relative change of the rate: 1 without caps and limits, 0 where a cap or
                 a limit alone decides
    doubtful     relative standard deviation of the work, from windows whose rate was never observed
    """

    weight: float
    work: float
    seconds: float
    sensitivity: float
    doubtful: float


class Schedule:
    """For one forecast; it remembers courses."""

    def __init__(self, ahead: Ahead, left: float, limit: float | None, free: float | None) -> None:
        """left, limit, free: in work, as in Ahead.course and Pace."""
        self._ahead = ahead
        self._left = left
        self._limit = limit
        self._free = free
        self._maybe_free = self._free_rates()
        self._courses: dict[tuple[int, float | None], Course] = {}
        self._doubts: dict[tuple[int, float | None], tuple[float, float]] = {}
        self._hard: Course | None = None
        self._asked_s = 0.0
        self._answers: dict[int, list[Share]] = {}

    def is_near(self, other: Schedule) -> bool:
        """Whether both are made of the same windows, caps and limits, within some seconds of each other."""
        mine, theirs = self._ahead, other._ahead
        return (
            len(mine.windows) == len(theirs.windows)
            and len(mine.caps) == len(theirs.caps)
            and is_near(self._limit, other._limit)
            and is_near(self._free, other._free)
            and all(
                abs(one[0] - two[0]) <= _SAME_MOMENT_S and is_near(one[1], two[1])
                for one, two in zip(mine.windows, theirs.windows, strict=True)
            )
            and all(
                is_near(one.most, two.most)
                and one.window_s == two.window_s
                and abs(one.room - two.room) <= _SAME * two.most
                for one, two in zip(mine.caps, theirs.caps, strict=True)
            )
        )

    def shares(self, rate: float, seconds: float) -> list[Share]:
        """At a rate > 0, by a time > 0."""
        number = round(math.log(rate) / _GRID)
        if self._asked_s != seconds:
            self._asked_s, self._answers = seconds, {}
        if number not in self._answers:
            self._answers[number] = [self._share(weight, number, seconds, free) for weight, free in self._maybe_free]
        return self._answers[number]

    def _share(self, weight: float, number: int, seconds: float, free: float | None) -> Share:
        near, course = math.exp(number * _GRID), self._course(number, free)
        done, faster = course.by(seconds), self._course(number + _FASTER, free).by(seconds)
        sensitivity = 1.0 if done <= 0 else math.log(max(faster, done) / done) / (_FASTER * _GRID)
        from_s, off = self._doubt(number, free)
        before = course.by(from_s) if off and seconds > from_s else done
        doubtful = off * (done - before) / done if done > 0 else 0.0
        return Share(weight, done, max(done / near, _LEAST_S), min(1.0, sensitivity), doubtful)

    def _doubt(self, number: int, free: float | None) -> tuple[float, float]:
        if (number, free) not in self._doubts:
            self._doubts[number, free] = self._ahead.first_doubtful_s(Pace(math.exp(number * _GRID), self._limit, free))
        return self._doubts[number, free]

    def _free_rates(self) -> tuple[tuple[float, float | None], ...]:
        """(chance, rate without a limit)."""
        lifts = any(limit is None for _, limit in self._ahead.windows)
        if self._free is not None or not self._limit or not lifts:
            return ((1.0, self._free),)
        return tuple((weight, times * self._limit) for weight, times in _MAYBE_FREE)

    def most_by(self, seconds: float) -> float:
        """The most work that windows and caps allow by then, at any rate."""
        return self._fastest().by(seconds)

    def earliest_s(self, amount: float) -> float:
        """Before this time windows and caps do not allow so much work."""
        return self._fastest().time_of(amount) if amount > 0 else 0.0

    def time_of(self, rate: float, amount: float) -> float:
        """When so much is done at this rate; infinite: never."""
        _, free = self._maybe_free[len(self._maybe_free) // 2]
        return self._course(round(math.log(rate) / _GRID), free).time_of(amount)

    def _course(self, number: int, free: float | None) -> Course:
        if (number, free) not in self._courses:
            pace = Pace(math.exp(number * _GRID), self._limit, free)
            self._courses[number, free] = self._ahead.course(pace, self._left)
        return self._courses[number, free]

    def _fastest(self) -> Course:
        if self._hard is None:
            # Nothing is observed of this rate: it is under each limit what the limit allows.
            windows = self._ahead.windows or ((0.0, self._limit),)
            self._hard = Ahead(windows, self._ahead.caps).course(Pace(UNLIMITED), self._left)
        return self._hard


def is_near(one: float | None, other: float | None) -> bool:
    """Whether two limits are the same but for a thousandth; None: no limit."""
    if one is None or other is None:
        return one is other
    return abs(one - other) <= _SAME * max(abs(one), abs(other))
