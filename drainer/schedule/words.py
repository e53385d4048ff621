"""Windows and caps in words, alike in status, page, log and `drainer rate`.

Pure  values in, text out
"""

from __future__ import annotations

import math
from datetime import tzinfo

from drainer.schedule.caps import CapInForce
from drainer.schedule.windows import ELSE
from drainer.text.wording import clock_time, count, limit


def window_words(name: str, per_s: float | None, until_s: float | None, now_s: float, zone: tzinfo | None) -> str:
    """ "window 22:00-06:00 in force: 20/s until 06:00 CET".

    name     Window.text; "": no window covers the moment
    per_s    messages; None: unlimited
    until_s  None: for ever
    """
    what = {"": "no window in force", ELSE: 'window "else" in force'}.get(name, f"window {name} in force")
    allowed = "nothing is sent" if per_s == 0 else limit(per_s)
    until = "" if until_s is None else f" until {clock_time(until_s, now_s, zone)}"
    return f"{what}: {allowed}{until}"


def cap_words(cap: CapInForce, now_s: float, zone: tzinfo | None) -> str:
    """ "hourly cap: 300 of 300 used, next at 14:05 CET"; while there is room, without a time."""
    used = f"{cap.name} cap: {count(cap.used)} of {count(cap.most)} used"
    if not cap.next_s:
        return used
    if math.isinf(cap.next_s):
        return f"{used}, all of them being sent now"
    return f"{used}, next at {clock_time(now_s + cap.next_s, now_s, zone)}"
