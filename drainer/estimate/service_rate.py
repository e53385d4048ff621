"""The service rate: how fast work is done, and how fast it will be done.

In    spans of feeding: seconds, and the transactions, recipients and octets settled in them
Out   RateForecast: weighted scenarios of the rate, each with mean and variance of the work of the next h seconds
Pure  values only

The rate may be constant, do a random walk, return to a mean, or follow a trend. Each of these is a Kalman filter on the same
rows. The rate may also jump at any row, for good or for a while, so at every row each filter starts once more with a small
weight. Bayes' rule weights the filters by how well they predicted the next row, and unlikely ones are dropped. So a step is
followed within a few rows, and the interval is narrow after a long even drain. Rows grow with the time observed: short
scatter averages out within a row, and the noise measured between rows is the noise that lasts.

Source  West and Harrison, Bayesian Forecasting and Dynamic Models (multi-process models); Adams and MacKay, Bayesian
        Online Changepoint Detection (2007). Constants: chosen on simulated drains (tests/estimate/make_traces.py),
        judged on others.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from drainer.estimate.mixture import NOTHING, REMEMBERED_ROWS, Mixture, Units

_ROWS_PER_LIFE = 40
"""A row spans the fortieth part of the feeding observed so far, but at least _SHORTEST_ROW_S."""
_ROWS_TO_COME = 20
"""A row spans at most a twentieth of the time left: a step near the end has to be seen before the end."""
_SHORTEST_ROW_S = 5.0
_WARM_UP_S = 10.0
"""A first row shorter than this is forgotten when the second is closed."""
_FEWEST_MESSAGES = 5
"""A row has at least this many messages, unless they take longer than _PATIENCE_S: the time of one message is no rate."""
_PATIENCE_S = 60.0

_CONSTANT, _RANDOM_WALK, _TREND, _LOOSE_TREND, _RETURNS_FAST, _RETURNS_SLOWLY = range(6)
_PRIOR = {
    _CONSTANT: 0.36,
    _RANDOM_WALK: 0.18,
    _RETURNS_FAST: 0.12,
    _RETURNS_SLOWLY: 0.12,
    _TREND: 0.11,
    _LOOSE_TREND: 0.11,
}
_FADES_IN = {_RETURNS_FAST: 0.02, _RETURNS_SLOWLY: 0.1}
"""The part of a drain in which a deviation from the mean falls to 1/e."""
_SPREAD = {_CONSTANT: 0.0, _RANDOM_WALK: 0.4, _TREND: 0.1, _LOOSE_TREND: 0.3, _RETURNS_FAST: 0.2, _RETURNS_SLOWLY: 0.2}
"""Relative standard deviation: of a rate that returns to a mean, from that mean; of the others, after one drain."""
_DIFFUSION_FACTOR = {_TREND: (_SPREAD[_LOOSE_TREND] / _SPREAD[_TREND]) ** 2}
"""A close trend is learnt as if the rate hardly left it; its future is as uncertain as that of a loose trend."""
_TREND_PER_DRAIN = 0.9
"""Prior standard deviation of a trend: relative change of the rate over one drain."""
_BENDS = 0.5
"""Relative standard deviation of a future trend from the past one."""
_JUMP = 0.7
"""Prior standard deviation of the logarithm of a jump."""
_LEAST_JUMP = 1e-3
"""Rows with less than this part of the usual rate are all alike."""
_JUMPS_PER_DRAIN = 1.5
_LEAST = 1e-9
"""In place of zero: a row may have no work in the unit counted, for example bounces without a transaction."""
_PASSES = 0.1
"""The part of all jumps after which the rate returns to its old level, as after a short near-standstill of the MTA."""
_FIRST_ROW_OFF = 0.245
"""Relative standard deviation of the first row, before any noise is measured."""

_KEPT = 16
_NEGLIGIBLE = 1e-4
_IGNORED = 0.003
"""Scenarios with less weight than this are left out of the forecast."""
_FREEDOM = 5.0
"""Degrees of freedom of Student's t, which judges a row: its heavy tails keep one odd row from being a jump."""
_NOISE_AT_FIRST = 0.04
_NOISE_AT_FIRST_ROWS = 1.5
_LEAST_NOISE = 1e-6
_FAR = 12.0
"""A difference counts at most this many times the usual noise: a step is no noise."""
_SLOWEST = 0.15
"""A falling trend lowers the mean rate over the rest of the drain at most to this part of the rate now."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """One way the rate may go.

    weight    among all scenarios of a forecast; their sum is 1
    rate      work per second now; if the rate returns to a mean, that mean
    change    per second (trend); if the rate returns to a mean (fade_s > 0), its deviation from the mean now
    rate_variance, covariance, change_variance   of rate and change
    diffusion variance that the rate gains per second; if it returns to a mean, the variance of its deviation
    fade_s    seconds in which a deviation from the mean falls to 1/e; 0: the rate does not return to a mean
    """

    weight: float
    rate: float
    change: float = 0.0
    rate_variance: float = 0.0
    covariance: float = 0.0
    change_variance: float = 0.0
    diffusion: float = 0.0
    fade_s: float = 0.0

    def work(self, seconds: float) -> tuple[float, float]:
        """Mean and variance of the work done in this time of feeding (> 0), without the noise."""
        if self.fade_s:
            times = seconds / self.fade_s
            lever = (1 - math.exp(-times)) / times
            gained = self.diffusion * min(1.0, 2 / times) * min(1.0, times / 3)
        else:
            lever = seconds / 2
            gained = self.diffusion * seconds / 3
        mean = max(self.rate + self.change * lever, _SLOWEST * self.rate)
        change_variance = self.change_variance if self.fade_s else self.change_variance + (_BENDS * self.change) ** 2
        variance = self.rate_variance + 2 * self.covariance * lever + change_variance * lever**2 + gained
        return mean * seconds, max(variance, 0.0) * seconds**2


@dataclass(frozen=True, slots=True)
class RateForecast:
    """What the service rate will be.

    scenarios  the likeliest first
    noise      variance of the work done in one second, relative to the rate squared; in h seconds, noise / h
    """

    scenarios: tuple[Scenario, ...]
    noise: float

    @property
    def rate(self) -> float:
        return sum(scenario.weight * scenario.rate for scenario in self.scenarios)


@dataclass(slots=True)
class _Filter:
    """A Kalman filter: state (rate, change) with covariance p11, p12, p22, as in Scenario."""

    kind: int
    weight: float
    rate: float
    change: float
    p11: float
    p12: float
    p22: float

    def copy(self) -> _Filter:
        return _Filter(self.kind, self.weight, self.rate, self.change, self.p11, self.p12, self.p22)

    def diffusion(self, drain_s: float) -> float:
        variance = (_SPREAD[self.kind] * self.rate) ** 2
        return variance if self.kind in _FADES_IN else variance / drain_s

    def advance(self, seconds: float, drain_s: float) -> None:
        if self.kind in _FADES_IN:
            keep = math.exp(-seconds / (_FADES_IN[self.kind] * drain_s))
            self.change *= keep
            self.p12 *= keep
            self.p22 = self.p22 * keep**2 + (1 - keep**2) * self.diffusion(drain_s)
            return
        self.rate = max(self.rate + self.change * seconds, 0.02 * self.rate)
        self.p11 += 2 * self.p12 * seconds + self.p22 * seconds**2 + self.diffusion(drain_s) * seconds
        self.p12 += self.p22 * seconds

    def learn(self, rate: float, noise: float) -> None:
        """Learn from a row's rate, whose relative variance is `noise`. A bad prediction lowers the weight."""
        returns = self.kind in _FADES_IN
        predicted = self.rate + self.change if returns else self.rate
        first, second = (self.p11 + self.p12, self.p12 + self.p22) if returns else (self.p11, self.p12)
        variance = (first + second if returns else first) + noise * max(predicted, 0.3 * rate) ** 2
        off = rate - predicted
        self.weight *= _density(off, variance)
        gain1, gain2 = first / variance, second / variance
        self.rate = max(self.rate + gain1 * off, _LEAST)
        self.change += gain2 * off
        # Rounding must not make a variance negative, nor the covariance larger than the variances allow.
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
    """The rate as learnt so far, span by span. Memory is bounded: 16 filters and one open row."""

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
        """Add a span of feeding and the work done in it.

        whole   work of the whole drain, done and left
        left_s  seconds that the drain may still take, roughly: random walks and jumps are scaled by its length
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
        """The rate when the last row was closed: cheaper than a forecast, and a little older."""
        return sum(one.weight * one.rate for one in self._filters) if self._filters else None

    def work(self, units: Units) -> float:
        """An amount in the unit of the forecast's rates, > 0."""
        return max(self._mixture.of(units), _LEAST)

    def forecast(self) -> RateForecast | None:
        """None before the first row. The open row counts too, so that a step shows before its row is closed."""
        kept = [one for one in self._with_open_row() if one.weight > _IGNORED]
        total = sum(one.weight for one in kept)
        scenarios = tuple(
            Scenario(
                weight=one.weight / total,
                rate=one.rate,
                change=one.change,
                rate_variance=one.p11,
                covariance=one.p12,
                change_variance=one.p22,
                diffusion=one.diffusion(self._drain_s) * _DIFFUSION_FACTOR.get(one.kind, 1.0),
                fade_s=_FADES_IN.get(one.kind, 0.0) * self._drain_s,
            )
            for one in kept
        )
        return RateForecast(scenarios, self._noise) if scenarios else None

    def scale(self, factor: float, deviation: float) -> None:
        """The limit was changed: the rate is now `factor` times the old one, with this relative deviation."""
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
            # A rate of the first seconds, in which sessions opened and the rate rose: good until the next row is closed.
            self._is_warming_up = not self._filters and seconds < _WARM_UP_S
            self._filters = self._started(rate, (_FIRST_ROW_OFF * rate) ** 2, 1.0)
            return
        self._filters = self._weighed(self._filters, rate, seconds)

    def _keep_measure(self, rates: Units) -> None:
        """The filters learnt the rate in the old mixture. Convert it: the same work is another amount in the new one."""
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
        """The filters after a row: each has learnt from it, those for a jump at this row are added, the unlikely dropped."""
        level = max(_LEAST, sum(one.weight * one.rate for one in filters))
        noise = self._noise / seconds
        for one in filters:
            one.advance(seconds, self._drain_s)
            one.learn(rate, noise)
        hazard = min(0.2, _JUMPS_PER_DRAIN * seconds / self._drain_s)
        # Jumps are judged as ratios: five times the rate is as likely as a fifth of it.
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
        change = dict.fromkeys(_FADES_IN, (_SPREAD[_RETURNS_SLOWLY] * rate) ** 2)
        change[_TREND] = change[_LOOSE_TREND] = (_TREND_PER_DRAIN * rate / self._drain_s) ** 2
        return [
            _Filter(kind, weight * share, rate, 0.0, variance, 0.0, change.get(kind, 0.0))
            for kind, share in _PRIOR.items()
        ]

    def _disturbed(self, level: float, now: float, variance: float, weight: float) -> list[_Filter]:
        """Filters for a jump after which the rate returns: the deviation from the mean has jumped, not the mean."""
        share = weight / len(_FADES_IN)
        known = (_SPREAD[_RETURNS_FAST] * level / 2) ** 2
        return [_Filter(kind, share, level, now - level, known, 0.0, variance) for kind in _FADES_IN]

    def _measure_noise(self, seconds: float, rates: Units) -> None:
        """Measured by the differences of neighbouring rows, on which trends and old steps have no influence."""
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
    """This rate, known exactly: for "what if"."""
    return RateForecast((Scenario(1.0, rate),), 0.0)


def _density(off: float, variance: float) -> float:
    """Density of Student's t, without its constant factor."""
    return math.pow(1 + off * off / variance / _FREEDOM, -(_FREEDOM + 1) / 2) / math.sqrt(variance)
