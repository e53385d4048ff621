"""How good our own forecasts were, as status and report show it.

Pure  values only; forecast_record.py computes them
"""

from __future__ import annotations

from drainer.text.clean_model import CleanModel


class HorizonAccuracy(CleanModel):
    """Of forecasts made when at most `up_to_s` was really left, and more than the horizon before; null: all beyond."""

    up_to_s: float | None
    judged: int
    held: int
    median_error_s: float | None


class ForecastAccuracy(CleanModel):
    """Of the forecasts of this drain, or of the last one.

    made       forecasts kept
    judged     those of them that can be compared with the real end
    held       those of `judged` whose interval held the real end
    overtaken  number of forecasts that cannot be compared, by the reason
    open       those whose drain has not ended yet
    """

    made: int = 0
    judged: int = 0
    held: int = 0
    open: int = 0
    overtaken: dict[str, int] = {}
    median_error_s: float | None = None
    median_relative_error: float | None = None
    by_horizon: list[HorizonAccuracy] = []
    since: float | None = None
