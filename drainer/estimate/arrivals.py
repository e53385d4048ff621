"""How much mail arrives during the drain, and how much more will arrive.

In    spans of time with the recipients that arrived in them
Out   mean and variance of the recipients that arrive in the next h seconds
Pure  values only

The model is a mean with a daily wave, whose height and phase are learnt. After little time the wave is only a possibility,
which widens far forecasts; after more time it is part of the forecast. Mail arrives in lumps, because some entries have very
many recipients. So the scatter of the rows is measured again at every row, with equal weight for all rows: one huge entry in
the first row does not spoil the rest of the drain.

Source  Bayesian linear regression with conjugate sums (Bishop, Pattern Recognition and Machine Learning, 3.3), discounted.
"""

from __future__ import annotations

import math

_DAY_S = 86400.0
_TURN = math.tau / _DAY_S
_ROWS_PER_LIFE = 40
_LONGEST_ROW_S = 1800.0
_REMEMBERED_S = 2 * _DAY_S
_WAVE = 0.5
"""Prior standard deviation of each coefficient of the wave, relative to the mean."""
_TROUGH = 0.3
"""If less arrives than this part of the service rate, it may be the trough of a wave whose mean is higher."""
_WANDER_PER_DAY = 0.3
_ROWS_AT_FIRST = 2.0
"""Before any scatter is measured, this many rows of it are assumed: entries of the usual size that arrive at random."""
_LEAST_PART = 0.1
"""The forecast of arrivals never falls below this part of their mean so far."""

_Three = tuple[float, float, float]


class Arrivals:
    """Regression on (1, cos, sin) of the time of day. Memory is bounded: sums over rows, and one open row."""

    def __init__(self) -> None:
        self._now_s = self._count = 0.0
        self._row_s = self._row_count = 0.0
        self._rows = 0.0
        self._design = [[0.0] * 3 for _ in range(3)]
        self._seen: _Three = (0.0, 0.0, 0.0)
        self._squares = 0.0
        self._belief: tuple[_Three, list[list[float]], float] | None = None

    def observe(self, seconds: float, recipients: float, each: float = 1.0, served_per_s: float = 0.0) -> None:
        """Add what arrived in a span of time (> 0), whether mail was sent in it or not.

        each  recipients of a usual entry, >= 1
        served_per_s  recipients settled per second so far
        """
        self._now_s += seconds
        self._count += recipients
        self._row_s += seconds
        self._row_count += recipients
        if self._row_s >= min(_LONGEST_ROW_S, self._now_s / _ROWS_PER_LIFE) and self._count:
            self._learn(each, served_per_s)

    @property
    def per_s(self) -> float:
        """Recipients per second now, smoothed."""
        if self._belief is None:
            return 0.0
        return max(0.0, _dot(self._belief[0], _at(self._now_s)))

    def expected(self, seconds: float) -> tuple[float, float]:
        """Mean and variance of the recipients that arrive in the next `seconds` (> 0)."""
        if self._belief is None:
            return 0.0, 0.0
        mean, covariance, noise = self._belief
        begin, end = _TURN * self._now_s, _TURN * (self._now_s + seconds)
        summed = (seconds, (math.sin(end) - math.sin(begin)) / _TURN, (math.cos(begin) - math.cos(end)) / _TURN)
        level = self._count / self._now_s
        variance = _dot(summed, _times(covariance, summed))
        variance += (_WANDER_PER_DAY * level) ** 2 * seconds**3 / _DAY_S / 3 + noise * seconds
        return max(_dot(mean, summed), _LEAST_PART * level * seconds), max(variance, 0.0)

    def _learn(self, each: float, served_per_s: float) -> None:
        """Close the row."""
        seconds, count = self._row_s, self._row_count
        self._row_s = self._row_count = 0.0
        at = _at(self._now_s - seconds / 2)
        keep = math.exp(-seconds / _REMEMBERED_S)
        self._design = [
            [keep * old + seconds * one * other for old, other in zip(row, at, strict=True)]
            for row, one in zip(self._design, at, strict=True)
        ]
        first, second, third = (keep * old + count * one for old, one in zip(self._seen, at, strict=True))
        self._seen = first, second, third
        self._squares = keep * self._squares + count**2 / seconds
        self._rows = keep * self._rows + 1
        level = self._count / self._now_s
        scale = _WAVE * level * math.sqrt(max(1.0, _TROUGH * served_per_s / level))
        # Twice the mean size: entries differ, and most recipients belong to the larger ones.
        assumed = level * max(2 * each, 0.1 * level * seconds)
        scatter = self._squares - first**2 / self._design[0][0]
        noise = (scatter + _ROWS_AT_FIRST * assumed) / (self._rows - 1 + _ROWS_AT_FIRST)
        for _ in range(2):
            mean, covariance = self._posterior(scale, noise)
            off = self._squares - 2 * _dot(mean, self._seen) + _dot(mean, _times(self._design, mean))
            noise = (max(0.0, off) + _ROWS_AT_FIRST * assumed) / (self._rows - 1 + _ROWS_AT_FIRST)
        self._belief = mean, covariance, noise

    def _posterior(self, wave: float, noise: float) -> tuple[_Three, list[list[float]]]:
        """Mean and covariance of the coefficients."""
        precision = [[one / noise for one in row] for row in self._design]
        for at in (1, 2):
            precision[at][at] += wave**-2
        covariance = _inverse(precision)
        first, second, third = _times(covariance, self._seen)
        return (first / noise, second / noise, third / noise), covariance


def _at(moment_s: float) -> _Three:
    return 1.0, math.cos(_TURN * moment_s), math.sin(_TURN * moment_s)


def _dot(one: _Three, other: _Three) -> float:
    return one[0] * other[0] + one[1] * other[1] + one[2] * other[2]


def _times(matrix: list[list[float]], vector: _Three) -> _Three:
    first, second, third = ((row[0], row[1], row[2]) for row in matrix)
    return _dot(first, vector), _dot(second, vector), _dot(third, vector)


def _inverse(matrix: list[list[float]]) -> list[list[float]]:
    """The inverse of a symmetric positive definite matrix, by its cofactors."""
    (a, b, c), (_, d, e), (_, _, f) = matrix
    first, second, third = d * f - e * e, c * e - b * f, b * e - c * d
    whole = a * first + b * second + c * third
    return [
        [first / whole, second / whole, third / whole],
        [second / whole, (a * f - c * c) / whole, (b * c - a * e) / whole],
        [third / whole, (b * c - a * e) / whole, (a * d - b * b) / whole],
    ]
