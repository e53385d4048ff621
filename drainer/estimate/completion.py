"""When the drain is complete: the 10, 50 and 90 % quantiles of the time until then.

In    DrainModel: the work left, the forecast of the service rate, the arrivals, the cost of interruptions, a ceiling, the
      schedule
Out   Completion: three times in seconds, and the chance that the drain ends at all; the chance that it ends by a given time
Pure  values only

`DrainModel.chance_by` decides everything. It is the chance that the work done within a time h reaches the work left plus the
work that arrives, summed over the scenarios of the service rate. The quantiles are the times at which that chance first
reaches 0.1, 0.5 and 0.9 of the chance that the drain ends at all. If arrivals alone make the end unlikely, that is doubted
(DrainModel.doubt), and the targets are lower.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from statistics import NormalDist

from drainer.estimate.interruptions import LostTime
from drainer.estimate.scheduled_work import Schedule, is_near
from drainer.estimate.service_rate import RateForecast

QUANTILES = (0.1, 0.5, 0.9)
_FURTHEST_TIMES = 60.0
_FURTHEST_S = 2 * 86400.0
"""The horizon: 60 times the time that the rate alone needs, or two days, so that a night with fewer arrivals is in it."""
_STEP = 1.25
_HIGHEST_TIMES = 12.0
"""No interval reaches further than this many times its middle: nothing is known about times beyond that."""
_LEAST_WORK = 1e-9
"""In place of zero under a tiny ceiling: its logarithm is taken."""
_LEAST_SHARE = 0.01
_HARDLY = 0.01
"""Part of the work left. When no more than that is done, the time left falls in the same proportion."""
_CERTAIN, _NO_CHANCE = 0.98, 1e-6
_TRIES = 12
_NEAR, _NARROW = 0.01, 1e-5
"""The search stops within a hundredth of a standard deviation, or a hundred-thousandth of the time."""
_STANDARD = NormalDist()

Expected = Callable[[float], tuple[float, float]]
"""From a number of seconds to (mean, variance) of the work that arrives within them."""


@dataclass(frozen=True, slots=True)
class Completion:
    """When the drain is complete: low_s <= seconds <= high_s, all > 0. chance: that it ends within the horizon."""

    low_s: float
    seconds: float
    high_s: float
    chance: float

    def times(self, factor: float) -> Completion:
        return Completion(self.low_s * factor, self.seconds * factor, self.high_s * factor, self.chance)


@dataclass(frozen=True, slots=True)
class DrainModel:
    """All that decides when a drain is complete.

    left, left_deviation  work still to do, > 0, with its standard deviation
    forecast              of the service rate
    arrivals              work that arrives meanwhile
    lost                  time that interruptions may cost
    ceiling               work per second that no scenario can exceed; None: none
    schedule              what windows and caps allow from now on; None: they change nothing
    doubt                 from 0 (not at all): how far we doubt that arrivals keep the drain from ending
    arrivals_share        the part of the arrivals that has to be done before this drain is complete
    """

    left: float
    left_deviation: float
    forecast: RateForecast
    arrivals: Expected
    lost: LostTime
    ceiling: float | None = None
    doubt: float = 0.0
    schedule: Schedule | None = None
    arrivals_share: float = 1.0

    def part(self, share: float, *, arrivals_first: bool) -> DrainModel:
        """The model of this part (> 0, at most 1) of the work left. arrivals_first: all that arrives goes ahead of it."""
        return replace(
            self,
            left=self.left * share,
            left_deviation=self.left_deviation * share**0.5,
            arrivals_share=1.0 if arrivals_first else share,
        )

    def is_nearly(self, other: DrainModel) -> bool:
        """Whether the completion of the other, times left / other.left, is that of this one, but for a thousandth or so:
        both are made of one forecast object, under the same limits, and hardly any work was done between them."""
        return (
            self.forecast is other.forecast
            and abs(self.left - other.left) <= _HARDLY * other.left
            and abs(self.left_deviation - other.left_deviation) <= _HARDLY * other.left
            and (self.doubt, self.arrivals_share) == (other.doubt, other.arrivals_share)
            and is_near(self.ceiling, other.ceiling)
            and self.lost.is_near(other.lost)
            and (
                self.schedule is other.schedule
                or (self.schedule is not None and other.schedule is not None and self.schedule.is_near(other.schedule))
            )
        )

    def chance_by(self, seconds: float) -> float:
        """The chance that the drain is complete within this time (> 0)."""
        coming, coming_variance = (self.arrivals_share * one for one in self.arrivals(seconds))
        needed = self.left + coming
        log_needed = math.log(needed)
        blur = (self.left_deviation**2 + coming_variance) / needed**2
        found = self._reached(seconds, 1.0, log_needed, blur)
        if self.lost.none >= 1:
            return found
        slower = 1 + self.lost.share
        interrupted = self._reached(seconds, slower, log_needed, blur + self.lost.variance_s * slower / seconds)
        # The length of an interruption is uncertain, but an interruption never makes the end come sooner.
        return self.lost.none * found + (1 - self.lost.none) * min(found, interrupted)

    @property
    def earliest_s(self) -> float:
        """Ceiling and schedule allow no end before this time, whatever the noise."""
        least = max(0.0, self.left + _STANDARD.inv_cdf(QUANTILES[0]) * self.left_deviation)
        if self.schedule is not None:
            return self.schedule.earliest_s(least)
        return least / self.ceiling if self.ceiling else 0.0

    @property
    def guess_s(self) -> float:
        """Roughly the time that the work left takes; infinite if the schedule never lets it be done."""
        if self.schedule is not None:
            return self.schedule.time_of(self.forecast.rate, self.left)
        return self.left / self.forecast.rate

    def _reached(self, seconds: float, slower: float, log_needed: float, blur: float) -> float:
        """slower: interruptions make each second of work last so long."""
        if self.schedule is not None:
            return self._reached_by_schedule(self.schedule, seconds, slower, log_needed, blur)
        active_s, found = seconds / slower, 0.0
        most = None if self.ceiling is None else self.ceiling * active_s
        blur += self.forecast.noise / active_s
        # The innermost loop of every forecast: some hundred rounds for each of them.
        for scenario in self.forecast.scenarios:
            mean, variance = scenario.work(active_s)
            if most is not None:
                mean = max(min(mean, most), _LEAST_WORK)
            relative, off = blur + variance / (mean * mean), math.log(mean) - log_needed
            reached = _normal(off / math.sqrt(relative)) if relative > 0 else float(off >= 0)
            found += scenario.weight * reached
        return found

    def _reached_by_schedule(
        self, schedule: Schedule, seconds: float, slower: float, log_needed: float, blur: float
    ) -> float:
        found, most = 0.0, schedule.most_by(seconds)
        # Where a window has let next to nothing go, the noise of so little work says nothing about all of it.
        shortest_s = _LEAST_SHARE * self.left / self.forecast.rate
        for scenario in self.forecast.scenarios:
            for share in schedule.shares(scenario.rate / slower, seconds):
                # A trend goes on for as long as the drain works, however much a window lets it do.
                active_s = min(share.seconds, seconds) / slower
                mean, variance = scenario.work(active_s)
                steady = scenario.rate * active_s
                variance *= (share.work / mean) ** 2
                mean = share.work * (mean / steady) ** share.sensitivity
                mean = max(min(mean, most), _LEAST_WORK)
                off = math.log(mean) - log_needed
                deviation = math.sqrt(variance) / mean
                noise = self.forecast.noise / max(active_s, shortest_s)
                own = share.sensitivity**2 * (deviation * deviation + noise)
                relative = blur + own + share.doubtful**2
                reached = _normal(off / math.sqrt(relative)) if relative > 0 else float(off >= 0)
                found += scenario.weight * share.weight * reached
        return found


def completion(model: DrainModel) -> Completion:
    """The three quantiles. If the drain does not end: the horizon three times, and next to no chance."""
    chance_by = model.chance_by
    guess_s = model.guess_s
    if math.isinf(guess_s):
        return Completion(_FURTHEST_S, _FURTHEST_S, _FURTHEST_S, 0.0)
    horizon_s = max(_FURTHEST_TIMES * guess_s, min(_FURTHEST_S, 1000 * guess_s))
    chance = chance_by(horizon_s)
    if chance < _NO_CHANCE:
        return Completion(horizon_s, horizon_s, horizon_s, chance)
    ends = chance
    if model.doubt and chance <= _CERTAIN:
        if_nothing_came = replace(model, arrivals=_nothing_arrives).chance_by(horizon_s)
        ends *= (chance / max(chance, if_nothing_came)) ** model.doubt
    now_s = guess_s / 3
    now = chance_by(now_s)
    while now > QUANTILES[0] / 2 and now_s > guess_s * 1e-3:
        now_s /= 2
        now = chance_by(now_s)
    before_s, before = 0.0, 0.0
    found = []
    for quantile in QUANTILES:
        target = quantile if chance > _CERTAIN else quantile * ends
        while now < target and now_s < horizon_s:
            before_s, before = now_s, now
            now_s *= _STEP
            now = chance_by(now_s)
        found.append(_crossing(chance_by, (before_s, before), (now_s, now), target))
    earliest_s = model.earliest_s
    low_s, seconds, high_s = (max(one, earliest_s) for one in sorted(found))
    return Completion(low_s, seconds, max(seconds, min(high_s, _HIGHEST_TIMES * seconds)), chance)


def _crossing(
    chance_by: Callable[[float], float], below: tuple[float, float], above: tuple[float, float], target: float
) -> float:
    """The time between two times at which the chance reaches the target.

    Found by false position on normal quantiles over the logarithm of time: a single scenario is a straight line there.
    """
    if above[1] <= target or below[1] >= above[1]:
        return above[0]
    aim = _quantile(target)
    low_at, high_at = math.log(max(below[0], above[0] * 1e-4)), math.log(above[0])
    low_by, high_by = _quantile(below[1]) - aim, _quantile(above[1]) - aim
    at = high_at
    for _ in range(_TRIES):
        if high_by - low_by < 1e-9:
            break
        at = low_at - low_by * (high_at - low_at) / (high_by - low_by)
        off = _quantile(chance_by(math.exp(at))) - aim
        if abs(off) < _NEAR or high_at - low_at < _NARROW:
            break
        # Illinois method: the end that stays counts half, so that both ends move.
        if off < 0:
            low_at, low_by, high_by = at, off, high_by / 2
        else:
            high_at, high_by, low_by = at, off, low_by / 2
    return math.exp(at)


def _nothing_arrives(seconds: float) -> tuple[float, float]:
    return 0.0, 0.0


def _quantile(chance: float) -> float:
    return _STANDARD.inv_cdf(min(1 - 1e-12, max(1e-12, chance)))


def _normal(z: float) -> float:
    return 0.5 * math.erfc(-z / math.sqrt(2))
