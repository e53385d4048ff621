"""Interruptions of the drain: the time they have cost, and the time that more of them may cost.

In    time worked; every interruption with its length
Out   LostTime: the chance that no interruption comes before the end, and the time to expect otherwise
Pure  values only

A service rate does not predict a pause or an outage of the MTA. A drain that stood still five times will probably do so
again, for about as long each time. A drain that never stood still may do so once.
"""

from __future__ import annotations

from dataclasses import dataclass

_TIMES_AT_FIRST = 0.15
_PER_DRAINS = 0.15
"""The prior: as if 0.15 interruptions had been seen in 0.15 of a drain."""
_NEAR = 0.01
_LENGTH_AT_FIRST = 0.03
"""Prior length of an interruption, as a part of the drain."""


@dataclass(frozen=True, slots=True)
class LostTime:
    """Time that interruptions may cost.

    none        chance that no interruption comes
    share       if one comes: seconds lost per second of work
    variance_s  variance of the seconds lost, per second of work
    """

    none: float = 1.0
    share: float = 0.0
    variance_s: float = 0.0

    def is_near(self, other: LostTime) -> bool:
        """Whether both follow from the same interruptions, for nearly as much work."""
        return abs(self.none - other.none) <= _NEAR and abs(self.share - other.share) <= _NEAR


class Interruptions:
    """Sums only: memory does not grow."""

    def __init__(self) -> None:
        self._worked_s = self._lost_s = self._squares = 0.0
        self._times = 0

    def worked(self, seconds: float) -> None:
        self._worked_s += seconds

    def interrupted(self, seconds: float) -> None:
        self._times += 1
        self._lost_s += seconds
        self._squares += seconds**2

    def lost(self, left_s: float) -> LostTime:
        """For `left_s` seconds of work (> 0) still to do, roughly."""
        drain_s = self._worked_s + left_s
        length_s = _LENGTH_AT_FIRST * drain_s
        seen = self._times + _TIMES_AT_FIRST
        over_s = self._worked_s + _PER_DRAINS * drain_s
        mean_s = (self._lost_s + _TIMES_AT_FIRST * length_s) / seen
        square = (self._squares + _TIMES_AT_FIRST * 2 * length_s**2) / seen
        # The Poisson rate is known only from these interruptions, so their number is negative binomial.
        times = seen * left_s / over_s
        none = (over_s / (over_s + left_s)) ** seen
        some = max(1 - none, 1e-12)
        second_moment = times * square + (times * left_s / over_s + times**2) * mean_s**2
        mean = times * mean_s / some
        return LostTime(none, mean / left_s, max(0.0, second_moment / some - mean**2) / left_s)
