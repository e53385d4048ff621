"""How good forecasts were, once the end of the drain is known.

In    forecasts with an interval; the moment at which the drain ended
Out   Score: error of the point, pinball loss of (low, seconds, high) as the 10, 50 and 90 % quantiles, coverage
Pure  values only
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from drainer.estimate.completion import QUANTILES


@dataclass(frozen=True, slots=True)
class Forecast:
    """Made at t_s: low_s <= seconds <= high_s, counted from then."""

    t_s: float
    seconds: float
    low_s: float
    high_s: float


@dataclass(frozen=True, slots=True)
class Score:
    """Over all forecasts; errors in seconds, or relative to the time really left. None: there was no forecast.

    pinball_loss_s  mean over forecasts and the three quantiles
    coverage        part of the forecasts whose interval held the truth
    """

    forecasts: int
    median_abs_error_s: float | None = None
    mean_abs_error_s: float | None = None
    median_relative_error: float | None = None
    pinball_loss_s: float | None = None
    coverage: float | None = None


def score(forecasts: Sequence[Forecast], end_s: float) -> Score:
    """end_s: the end of the drain, on the clock of t_s; every forecast was made before it."""
    if not forecasts:
        return Score(0)
    errors = [abs(one.seconds - (end_s - one.t_s)) for one in forecasts]
    return Score(
        forecasts=len(forecasts),
        median_abs_error_s=statistics.median(errors),
        mean_abs_error_s=statistics.fmean(errors),
        median_relative_error=statistics.median(
            error / (end_s - one.t_s) for error, one in zip(errors, forecasts, strict=True)
        ),
        pinball_loss_s=statistics.fmean(pinball_s(one, end_s) for one in forecasts),
        coverage=statistics.fmean(one.low_s <= end_s - one.t_s <= one.high_s for one in forecasts),
    )


def pinball_s(forecast: Forecast, end_s: float) -> float:
    """Mean pinball loss of the three quantiles, in seconds. On average the true quantiles have the least."""
    left_s = end_s - forecast.t_s
    losses = (
        max(quantile * (left_s - guess_s), (1 - quantile) * (guess_s - left_s))
        for quantile, guess_s in zip(QUANTILES, (forecast.low_s, forecast.seconds, forecast.high_s), strict=True)
    )
    return statistics.fmean(losses)
