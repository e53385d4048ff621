"""Which window is in force at a moment, and when that changes.

In    windows in order, a time zone, moments in seconds since the epoch
Out   the window in force, or None: no window covers that moment; the changes to come
Pure  but for the zone's own file

Windows go by the clock on the wall. Where it jumps ahead (summer time begins), the times it leaves out do not come, and a
window that lies in them does not either. Where it is set back, those times come twice, and so does a window that lies in
them. A day whose midnight is left out begins at the first moment that it has.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import tzinfo

from drainer.schedule.time_zone import offset_s, zone_of
from drainer.schedule.windows import Window, windows_of

DAY_S = 86_400
_STEP_S = 6 * 3600
"""No zone changes its offset there and back within this time."""
_FURTHEST_S = 15 * DAY_S
"""A window on one day of the week comes at least every second week: the clock may leave it out once."""
_EPOCH_DAY = 3
"""1 January 1970 was a Thursday."""


@dataclass(frozen=True, slots=True)
class Change:
    """at_s: seconds since the epoch. window: in force from then on; None: none."""

    at_s: float
    window: Window | None


@dataclass(frozen=True, slots=True)
class Timetable:
    """zone: None for the system's own."""

    windows: tuple[Window, ...] = ()
    zone: tzinfo | None = None

    def at(self, at_s: float) -> Window | None:
        """The window in force."""
        if not self.windows:
            return None
        return self._by_wall(at_s + offset_s(at_s, self.zone))

    def changes(self, after_s: float, until_s: float) -> Iterator[Change]:
        """Every change after one moment and up to another, in order."""
        if not self.windows:
            return
        now = self.at(after_s)
        for at_s in self._candidates(after_s, until_s):
            window = self.at(at_s)
            if window is not now:
                yield Change(at_s, window)
                now = window

    def next_change(self, after_s: float) -> Change | None:
        """None: what is in force then is in force for ever."""
        return next(self.changes(after_s, after_s + _FURTHEST_S), None)

    def _by_wall(self, wall_s: float) -> Window | None:
        days, seconds = divmod(math.floor(wall_s), DAY_S)
        day, minute = (days + _EPOCH_DAY) % 7, seconds // 60
        return next((window for window in self.windows if window.covers(day, minute)), None)

    def _candidates(self, after_s: float, until_s: float) -> Iterator[float]:
        """Moments after one and up to another at which the window in force may change, in order."""
        minutes = sorted({0} | {minute for one in self.windows for minute in (one.from_min, one.to_min)})
        start = math.floor(after_s)
        before = offset_s(start, self.zone)
        while start <= until_s:
            end = start + _STEP_S
            after = offset_s(end, self.zone)
            found: set[int] = set()
            for offset in {before, after}:
                for day in range((start + offset) // DAY_S, (end + offset) // DAY_S + 1):
                    found.update(day * DAY_S + minute * 60 - offset for minute in minutes)
            if before != after:
                found.add(self._set_at(start, end, before))
            yield from sorted(at_s for at_s in found if start < at_s <= end and after_s < at_s <= until_s)
            start, before = end, after

    def _set_at(self, before_s: int, after_s: int, offset: int) -> int:
        """The first second with another offset than this one, which is that of before_s."""
        while after_s - before_s > 1:
            middle_s = (before_s + after_s) // 2
            if offset_s(middle_s, self.zone) == offset:
                before_s = middle_s
            else:
                after_s = middle_s
        return after_s


def timetable_of(texts: Sequence[str], zone: str) -> Timetable:
    """Of `feed.windows` and `feed.time_zone`. Raises ValueError."""
    return Timetable(windows_of(texts), zone_of(zone))
