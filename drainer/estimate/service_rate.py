"""How fast the backlog is worked off, and what that will be: a belief, with how sure it is.

In    spans of feeding: seconds, and the transactions, recipients and octets finished in them
Out   RateForecast: weighed scenarios of the rate, each with mean and variance of the work of the next h seconds
Pure  values only

A service rate may stay, wander, sway about its mean, or have a trend. Each is a Kalman filter on the same rows; and since
at every row the rate may have jumped as well, for good or for a while, each is started anew there with a small prior
weight. Bayes' rule weighs them by how well they foretold every next row, and the unlikely are dropped: a step is believed
within a few rows, and after a long even drain the interval is narrow. Rows grow with the time that was seen, so that what
scatters from second to second averages out in them, and the noise measured between rows is the noise that lasts.

Source  West and Harrison, Bayesian Forecasting and Dynamic Models (multi-process models); Adams and MacKay, Bayesian
        Online Changepoint Detection (2007). Constants: chosen on simulated drains (tests/estimate/make_traces.py),
        judged on others.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from drainer.estimate.mixture import NOTHING, REMEMBERED_ROWS, Mixture, Units

_ROWS_PER_LIFE = 40
"""A row spans the fortieth part of the feeding seen so far, if that is longer than the shortest."""
_ROWS_TO_COME = 20
"""Nor does it span more than a twentieth of what is left: a step near the end has to be seen before the end."""
_SHORTEST_ROW_S = 5.0
_WARM_UP_S = 10.0
"""A first row that is shorter is forgotten as soon as there is a second."""
_FEWEST_MESSAGES = 5
"""In a row, unless they take longer than _PATIENCE_S: the time one of them took is no rate."""
_PATIENCE_S = 60.0

_STAYS, _WANDERS, _TREND, _LOOSE_TREND, _SWAYS_BRIEFLY, _SWAYS_LONG = range(6)
_PRIOR = {_STAYS: 0.36, _WANDERS: 0.18, _SWAYS_BRIEFLY: 0.12, _SWAYS_LONG: 0.12, _TREND: 0.11, _LOOSE_TREND: 0.11}
_SWAY_LASTS = {_SWAYS_BRIEFLY: 0.02, _SWAYS_LONG: 0.1}
"""Part of a drain in which a deviation from the mean fades to 1/e."""
_WANDERED = {_STAYS: 0.0, _WANDERS: 0.4, _TREND: 0.1, _LOOSE_TREND: 0.3, _SWAYS_BRIEFLY: 0.2, _SWAYS_LONG: 0.2}
"""Relative deviation: of a sway, from its mean; of the others, reached by a random walk over one drain."""
_WANDERS_ON = {_TREND: (_WANDERED[_LOOSE_TREND] / _WANDERED[_TREND]) ** 2}
"""A close trend is learnt as if the rate hardly wandered about it; what is to come wanders as about a loose one."""
_TREND_PER_DRAIN = 0.9
"""Prior deviation of a trend: relative change of the rate over one drain."""
_BENDS = 0.5
"""Relative deviation of what a trend will be from what it was."""
_JUMP = 0.7
"""Prior deviation of the logarithm of a jump."""
_LEAST_JUMP = 1e-3
"""A row in which less than this part of the usual was done is told from no other."""
_JUMPS_PER_DRAIN = 1.5
_LEAST = 1e-9
"""There may be nothing of what is counted: recipients who bounced without a transaction, where those are."""
_PASSES = 0.1
"""Of the jumps: the rate comes back to what it was, as after a trickle in which the MTA nearly stood."""
_FIRST_ROW_OFF = 0.245
"""How far the first row may be off, relatively, before any noise is known."""

_KEPT = 16
_NEGLIGIBLE = 1e-4
_NOT_TOLD = 0.003
"""Weight below which a scenario is not worth reckoning with."""
_FREEDOM = 5.0
"""Of Student's t, by which a row is judged: one odd row is no jump."""
_NOISE_AT_FIRST = 0.04
_NOISE_AT_FIRST_ROWS = 1.5
_LEAST_NOISE = 1e-6
_FAR = 12.0
"""A difference counts at most so many times the usual noise: a step is no noise."""
_SLOWEST = 0.15
"""A falling trend is not believed beyond this part of the rate now, on average over what is left."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """One way the rate may go.

    weight    among all scenarios of a forecast; their sum is 1
    rate      now, of work per second; for a sway, its mean
    change    of the rate per second (trend); or the deviation from the mean now (sway, where sway_s > 0)
    rate_variance, covariance, change_variance   of the two
    wander    variance the rate gains per second; for a sway, that of its deviation
    """

    weight: float
    rate: float
    change: float = 0.0
    rate_variance: float = 0.0
    covariance: float = 0.0
    change_variance: float = 0.0
    wander: float = 0.0
    sway_s: float = 0.0

    def work(self, seconds: float) -> tuple[float, float]:
        """Mean and variance of the work done in so many seconds (> 0) of feeding, but for the noise."""
        if self.sway_s:
            times = seconds / self.sway_s
            lever = (1 - math.exp(-times)) / times
            gained = self.wander * min(1.0, 2 / times) * min(1.0, times / 3)
        else:
            lever = seconds / 2
            gained = self.wander * seconds / 3
        mean = max(self.rate + self.change * lever, _SLOWEST * self.rate)
        change_variance = self.change_variance if self.sway_s else self.change_variance + (_BENDS * self.change) ** 2
        variance = self.rate_variance + 2 * self.covariance * lever + change_variance * lever**2 + gained
        return mean * seconds, max(variance, 0.0) * seconds**2


@dataclass(frozen=True, slots=True)
class RateForecast:
    """scenarios  likeliest first
    noise    variance of the work done in one second, relative to the rate squared; in h seconds, noise / h
    """

    scenarios: tuple[Scenario, ...]
    noise: float

    @property
    def rate(self) -> float:
        return sum(scenario.weight * scenario.rate for scenario in self.scenarios)


@dataclass(slots=True)
class _Filter:
    """State (rate, change) with covariance p11, p12, p22, as in Scenario."""

    kind: int
    weight: float
    rate: float
    change: float
    p11: float
    p12: float
    p22: float

    def copy(self) -> _Filter:
        return _Filter(self.kind, self.weight, self.rate, self.change, self.p11, self.p12, self.p22)

    def wander(self, drain_s: float) -> float:
        variance = (_WANDERED[self.kind] * self.rate) ** 2
        return variance if self.kind in _SWAY_LASTS else variance / drain_s

    def advance(self, seconds: float, drain_s: float) -> None:
        if self.kind in _SWAY_LASTS:
            keep = math.exp(-seconds / (_SWAY_LASTS[self.kind] * drain_s))
            self.change *= keep
            self.p12 *= keep
            self.p22 = self.p22 * keep**2 + (1 - keep**2) * self.wander(drain_s)
            return
        self.rate = max(self.rate + self.change * seconds, 0.02 * self.rate)
        self.p11 += 2 * self.p12 * seconds + self.p22 * seconds**2 + self.wander(drain_s) * seconds
        self.p12 += self.p22 * seconds

    def learn(self, rate: float, noise: float) -> None:
        """From a row's rate; its relative variance is `noise`. The weight falls by how badly the row was foretold."""
        sways = self.kind in _SWAY_LASTS
        foretold = self.rate + self.change if sways else self.rate
        first, second = (self.p11 + self.p12, self.p12 + self.p22) if sways else (self.p11, self.p12)
        variance = (first + second if sways else first) + noise * max(foretold, 0.3 * rate) ** 2
        off = rate - foretold
        self.weight *= _density(off, variance)
        gain1, gain2 = first / variance, second / variance
        self.rate = max(self.rate + gain1 * off, _LEAST)
        self.change += gain2 * off
        # Rounding makes no variance negative, and no covariance larger than they allow.
        self.p11, self.p22 = max(0.0, self.p11 - gain1 * first), max(0.0, self.p22 - gain2 * second)
        most = math.sqrt(self.p11 * self.p22)
        self.p12 = min(most, max(-most, self.p12 - gain1 * second))

    def scale(self, factor: float, deviation: float) -> None:
        self.rate *= factor
        self.change *= factor
        self.p11 = self.p11 * factor**2 + (deviation * self.rate) ** 2
        self.p12 *= factor**2
        self.p22 *= factor**2


class ServiceRate:
    """The belief, fed span by span. Memory is bounded: 16 filters and one open row."""

    def __init__(self) -> None:
        self._filters: list[_Filter] = []
        self._drain_s = 1.0
        self._seconds = 0.0
        self._row_s = 0.0
        self._row = NOTHING
        self._before: tuple[float, Units] | None = None
        self._noise_sum = self._noise_rows = 0.0
        self._mixture = Mixture()
        self._done, self._worth = NOTHING, 0.0
        self._is_warming_up = False

    @property
    def recipient_share(self) -> float:
        return self._mixture.shares[1]

    def observe(self, seconds: float, done: Units, whole: Units, left_s: float) -> None:
        """A span of feeding and what was finished in it.

        whole   of the drain, done and left
        left_s  seconds it may still take, roughly: wandering and jumps are reckoned per drain
        """
        self._mixture.whole = whole
        self._seconds += seconds
        self._row_s += seconds
        self._row += done
        few = self._row.messages < _FEWEST_MESSAGES and self._row_s < _PATIENCE_S
        long_s = max(_SHORTEST_ROW_S, min(self._seconds / _ROWS_PER_LIFE, left_s / _ROWS_TO_COME))
        if few or self._row_s < long_s or not self._row.recipients:
            return
        self._drain_s = max(self._seconds + left_s, self._row_s)
        self._learn()

    @property
    def rate(self) -> float | None:
        """As it was believed to be when the last row was closed: cheaper than a forecast, and a little older."""
        return sum(one.weight * one.rate for one in self._filters) if self._filters else None

    def work(self, units: Units) -> float:
        """In the unit of the forecast's rates; more than nothing."""
        return max(self._mixture.of(units), _LEAST)

    def forecast(self) -> RateForecast | None:
        """None before the first row. The open row counts, so that a step is not told of only when its row is closed."""
        told = [one for one in self._with_open_row() if one.weight > _NOT_TOLD]
        total = sum(one.weight for one in told)
        scenarios = tuple(
            Scenario(
                weight=one.weight / total,
                rate=one.rate,
                change=one.change,
                rate_variance=one.p11,
                covariance=one.p12,
                change_variance=one.p22,
                wander=one.wander(self._drain_s) * _WANDERS_ON.get(one.kind, 1.0),
                sway_s=_SWAY_LASTS.get(one.kind, 0.0) * self._drain_s,
            )
            for one in told
        )
        return RateForecast(scenarios, self._noise) if scenarios else None

    def scale(self, factor: float, deviation: float) -> None:
        """The rate is now `factor` times what it was, give or take `deviation` of that: the limit was changed."""
        for one in self._filters:
            one.scale(factor, deviation)
        self._row_s, self._row = 0.0, NOTHING
        self._before = None

    @property
    def _noise(self) -> float:
        return max(_LEAST_NOISE, self._noise_sum / self._noise_rows)

    def _learn(self) -> None:
        """Close the row."""
        seconds = self._row_s
        rates = self._row.per(seconds)
        self._row_s, self._row = 0.0, NOTHING
        self._measure_noise(seconds, rates)
        self._keep_measure(rates)
        rate = self.work(rates)
        if not self._filters or self._is_warming_up:
            # Better than nothing, but of a few seconds in which sessions were opened and the rate rose: the next is better.
            self._is_warming_up = not self._filters and seconds < _WARM_UP_S
            self._filters = self._started(rate, (_FIRST_ROW_OFF * rate) ** 2, 1.0)
            return
        self._filters = self._weighed(self._filters, rate, seconds)

    def _keep_measure(self, rates: Units) -> None:
        """What is believed of the rate was learnt in another mixture; the same work is more or less in this one."""
        if self._done.recipients and self._worth > 0:
            factor = self.work(self._done) / self._worth
            for one in self._filters:
                one.scale(factor, 0.0)
        self._done += rates
        self._worth = self.work(self._done)

    def _with_open_row(self) -> list[_Filter]:
        if not self._filters or self._row.messages < _FEWEST_MESSAGES or self._row_s < _SHORTEST_ROW_S:
            return self._filters
        rate = self.work(self._row.per(self._row_s))
        return self._weighed([one.copy() for one in self._filters], rate, self._row_s)

    def _weighed(self, filters: list[_Filter], rate: float, seconds: float) -> list[_Filter]:
        """The filters after a row: each has learnt from it, the unlikely are dropped, and those that would hold if the rate
        had jumped at this row are added."""
        level = max(_LEAST, sum(one.weight * one.rate for one in filters))
        noise = self._noise / seconds
        for one in filters:
            one.advance(seconds, self._drain_s)
            one.learn(rate, noise)
        hazard = min(0.2, _JUMPS_PER_DRAIN * seconds / self._drain_s)
        # Judged as a ratio: five times as fast is as likely as a fifth, and is believed as soon.
        seen, prior = max(rate, _LEAST_JUMP * level), _JUMP**2
        off = math.log(seen / level)
        jumped = hazard * _density(off, prior + noise) / seen
        total = sum(one.weight for one in filters) * (1 - hazard) + jumped
        for one in filters:
            one.weight *= (1 - hazard) / total
        gain = prior / (prior + noise)
        now = max(level * math.exp(gain * off), _LEAST)
        variance = prior * (1 - gain) * now**2
        filters = filters + self._started(now, variance, jumped / total * (1 - _PASSES))
        filters += self._disturbed(level, now, variance, jumped / total * _PASSES)
        filters.sort(key=lambda one: -one.weight)
        kept = [one for one in filters[:_KEPT] if one.weight > _NEGLIGIBLE]
        total = sum(one.weight for one in kept)
        for one in kept:
            one.weight /= total
        return kept

    def _started(self, rate: float, variance: float, weight: float) -> list[_Filter]:
        change = dict.fromkeys(_SWAY_LASTS, (_WANDERED[_SWAYS_LONG] * rate) ** 2)
        change[_TREND] = change[_LOOSE_TREND] = (_TREND_PER_DRAIN * rate / self._drain_s) ** 2
        return [
            _Filter(kind, weight * share, rate, 0.0, variance, 0.0, change.get(kind, 0.0))
            for kind, share in _PRIOR.items()
        ]

    def _disturbed(self, level: float, now: float, variance: float, weight: float) -> list[_Filter]:
        """The rate is off, and will come back: what jumped is the deviation of a sway, not its mean."""
        share = weight / len(_SWAY_LASTS)
        known = (_WANDERED[_SWAYS_BRIEFLY] * level / 2) ** 2
        return [_Filter(kind, share, level, now - level, known, 0.0, variance) for kind in _SWAY_LASTS]

    def _measure_noise(self, seconds: float, rates: Units) -> None:
        """From the differences of neighbouring rows, which no trend and no step of long ago can spoil."""
        before, self._before = self._before, (seconds, rates)
        if not self._noise_rows:
            self._noise_rows = _NOISE_AT_FIRST_ROWS
            self._noise_sum = _NOISE_AT_FIRST * seconds * _NOISE_AT_FIRST_ROWS
        if before is None:
            return
        keep = 1 - 1 / REMEMBERED_ROWS
        mixed = self._mixture.learn(before[1], rates)
        squared = min(mixed**2 / (1 / before[0] + 1 / seconds), _FAR * self._noise)
        self._noise_sum = keep * self._noise_sum + squared
        self._noise_rows = keep * self._noise_rows + 1


def steady(rate: float) -> RateForecast:
    """Nothing but this rate, which is known exactly: for "what if"."""
    return RateForecast((Scenario(1.0, rate),), 0.0)


def _density(off: float, variance: float) -> float:
    """Student's t, but for a constant."""
    return math.pow(1 + off * off / variance / _FREEDOM, -(_FREEDOM + 1) / 2) / math.sqrt(variance)
