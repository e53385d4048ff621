"""The answer of a forecast: when the drain ends, with an interval, or a word for why there is no number.

Pure  values only
"""

from __future__ import annotations

from typing import Literal

from drainer.text.clean_model import CleanModel

ServiceState = Literal["starting", "scanning", "draining", "paused", "stopped_by_guard", "mta_down", "idle", "stopping"]
"""What the service does. Forecasts depend on it: while the service stands still, the drain does not end."""

EtaState = Literal["draining", "done", "paused", "stalled", "growing", "measuring"]


class Eta(CleanModel):
    """finish: seconds since the epoch. low_s..high_s: the interval that holds the end with the probability `confidence`."""

    state: EtaState
    finish: float | None = None
    seconds: float | None = None
    low_s: float | None = None
    high_s: float | None = None
    confidence: float | None = None
