"""How much mail arrives while the drain goes on, and how much that will be.

In    spans of time with the recipients that arrived in them
Out   mean and variance of what arrives in the next h seconds
Pure  values only

A mean and a daily wave about it, whose height and hour are learnt (Bayesian regression, slowly forgetting): with little
history the wave is a possibility that makes far forecasts less sure; with more, it is foreseen.
"""

from __future__ import annotations

import math

_DAY_S = 86400.0
_TURN = math.tau / _DAY_S
_ROWS_PER_LIFE = 40
_LONGEST_ROW_S = 1800.0
_WAVE = 0.5
"""Prior deviation of either coefficient of the wave, relative to the mean."""
_MEAN_OFF = 0.22
"""How far the first row may be off the mean, relatively, besides its noise and the wave."""
_WANDER_PER_DAY = 0.3
_NOISE_REMEMBERED_ROWS = 25
_FAR = 12.0
_LEAST_PART = 0.1
"""Arrivals are not foreseen below this part of their mean so far."""

_Three = tuple[float, float, float]


class Arrivals:
    """Regression on (1, cos, sin) of the day; memory is bounded: its mean, its covariance, one open row."""

    def __init__(self) -> None:
        self._now_s = self._count = 0.0
        self._row_s = self._row_count = 0.0
        self._mean: _Three = (0.0, 0.0, 0.0)
        self._covariance: list[list[float]] | None = None
        self._noise_sum = self._noise_rows = 0.0

    def observe(self, seconds: float, recipients: float) -> None:
        """What arrived in a span of time (> 0), whether feeding went on or not."""
        self._now_s += seconds
        self._count += recipients
        self._row_s += seconds
        self._row_count += recipients
        if self._row_s >= min(_LONGEST_ROW_S, self._now_s / _ROWS_PER_LIFE) and self._count:
            self._learn()

    @property
    def per_s(self) -> float:
        """Recipients per second now, smoothed."""
        if self._covariance is None:
            return 0.0
        return max(0.0, _dot(self._mean, _at(self._now_s)))

    def expected(self, seconds: float) -> tuple[float, float]:
        """Mean and variance of the recipients that arrive in the next `seconds` (> 0)."""
        if self._covariance is None:
            return 0.0, 0.0
        begin, end = _TURN * self._now_s, _TURN * (self._now_s + seconds)
        summed = (seconds, (math.sin(end) - math.sin(begin)) / _TURN, (math.cos(begin) - math.cos(end)) / _TURN)
        level = self._count / self._now_s
        variance = _dot(summed, _times(self._covariance, summed))
        variance += (_WANDER_PER_DAY * level) ** 2 * seconds**3 / _DAY_S / 3 + self._noise * seconds
        return max(_dot(self._mean, summed), _LEAST_PART * level * seconds), max(variance, 0.0)

    @property
    def _noise(self) -> float:
        return self._noise_sum / self._noise_rows

    def _learn(self) -> None:
        """Close the row."""
        seconds, rate = self._row_s, self._row_count / self._row_s
        self._row_s = self._row_count = 0.0
        level = self._count / self._now_s
        if self._covariance is None:
            self._mean = (rate, 0.0, 0.0)
            self._noise_sum, self._noise_rows = level * max(level * seconds * 0.1, 1.0), 1.0
            wave = (_WAVE * level) ** 2
            first = self._noise / seconds + (_MEAN_OFF * level) ** 2 + wave
            self._covariance = [[first, 0.0, 0.0], [0.0, wave, 0.0], [0.0, 0.0, wave]]
            return
        covariance = self._covariance
        covariance[0][0] += (_WANDER_PER_DAY * level) ** 2 * seconds / _DAY_S
        design = _at(self._now_s - seconds / 2)
        projected = _times(covariance, design)
        variance = _dot(design, projected) + self._noise / seconds
        off = rate - _dot(self._mean, design)
        self._mean = (
            self._mean[0] + projected[0] / variance * off,
            self._mean[1] + projected[1] / variance * off,
            self._mean[2] + projected[2] / variance * off,
        )
        for row in range(3):
            for column in range(3):
                covariance[row][column] -= projected[row] * projected[column] / variance
        keep = 1 - 1 / _NOISE_REMEMBERED_ROWS
        self._noise_sum = keep * self._noise_sum + min(off**2 * seconds, _FAR * self._noise)
        self._noise_rows = keep * self._noise_rows + 1


def _at(moment_s: float) -> _Three:
    return 1.0, math.cos(_TURN * moment_s), math.sin(_TURN * moment_s)


def _dot(one: _Three, other: _Three) -> float:
    return one[0] * other[0] + one[1] * other[1] + one[2] * other[2]


def _times(matrix: list[list[float]], vector: _Three) -> _Three:
    first, second, third = ((row[0], row[1], row[2]) for row in matrix)
    return _dot(first, vector), _dot(second, vector), _dot(third, vector)
