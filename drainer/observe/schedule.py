"""Windows and caps as they stand, for the snapshot.

In    the rate in force, the throttle's caps, the time
Out   WindowInForce, CapUsed
Not here  what they allow (schedule/); what follows for the finish time (outlook.py)
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from drainer.feed.scheduled import Scheduled
from drainer.report.snapshot import CapUsed, WindowInForce
from drainer.schedule.caps import CapInForce
from drainer.schedule.words import cap_words, window_words


def window_in_force(schedule: Scheduled, now_s: float) -> WindowInForce | None:
    """None: the settings have no windows."""
    if not schedule.has_windows:
        return None
    window, change = schedule.window, schedule.next_change
    name, per_s = window.text if window else "", schedule.per_s_in(window)
    until_s = change.at_s if change else None
    return WindowInForce(
        name=name,
        messages_per_s=per_s,
        until=until_s,
        then_messages_per_s=schedule.per_s_in(change.window) if change else None,
        overruled=schedule.is_overruled,
        text=window_words(name, per_s, until_s, now_s, schedule.zone),
    )


def caps_used(caps: Sequence[CapInForce], schedule: Scheduled, now_s: float) -> list[CapUsed]:
    return [
        CapUsed(
            name=cap.name,
            limit=cap.most,
            used=cap.used,
            next_at=now_s + cap.next_s if 0 < cap.next_s < math.inf else None,
            text=cap_words(cap, now_s, schedule.zone),
        )
        for cap in caps
    ]
