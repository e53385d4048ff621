"""What a forecast says: when the drain ends, within which interval, or why that cannot be said.

Pure  values only
"""

from __future__ import annotations

from typing import Literal

from drainer.text.clean_model import CleanModel

ServiceState = Literal["starting", "scanning", "draining", "paused", "stopped_by_guard", "mta_down", "idle", "stopping"]
"""What the service does. A forecast depends on it: nothing ends while it stands still."""

EtaState = Literal["draining", "done", "paused", "stalled", "growing", "measuring"]


class Eta(CleanModel):
    """finish: seconds since the epoch. low_s..high_s is the interval that holds `confidence` of the time."""

    state: EtaState
    finish: float | None = None
    seconds: float | None = None
    low_s: float | None = None
    high_s: float | None = None
    confidence: float | None = None
