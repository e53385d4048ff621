"""The window that is in force now, and the limit on messages that follows from operator, window and settings.

In    the feed's settings, what the operator decided, the clock
Out   the limit on messages; which window it is of, and until when
Not here  which windows there are (schedule/timetable.py); the caps (throttle.py)

What the operator decided (`drainer rate`) overrules every window, until `drainer rate --auto` gives the limit back to the
settings.
"""

from __future__ import annotations

import math
from datetime import tzinfo

from drainer.clock import Clock
from drainer.schedule.timetable import Change, Timetable, timetable_of
from drainer.schedule.windows import Window
from drainer.settings.feed import FeedSettings


class Scheduled:
    """`follow` the settings and the operator; then ask. What is asked is of this moment."""

    def __init__(self, settings: FeedSettings, clock: Clock) -> None:
        self._clock = clock
        self.follow(settings, None)

    def follow(self, settings: FeedSettings, operator_per_s: float | None) -> None:
        """operator_per_s: None: as the settings say; inf: unlimited."""
        self._own_per_s = settings.messages
        self._operator_per_s = operator_per_s
        self._timetable = timetable_of(settings.windows, settings.time_zone)
        self._next: tuple[float, Change | None] | None = None
        self._coming: tuple[float, tuple[Change, ...]] | None = None

    @property
    def timetable(self) -> Timetable:
        return self._timetable

    @property
    def zone(self) -> tzinfo | None:
        return self._timetable.zone

    @property
    def has_windows(self) -> bool:
        return bool(self._timetable.windows)

    @property
    def is_overruled(self) -> bool:
        """Whether the operator's limit stands in the place of windows."""
        return self.has_windows and self._operator_per_s is not None

    @property
    def messages_per_s(self) -> float | None:
        """The limit in force; None: unlimited, 0: nothing is sent."""
        if self._operator_per_s is not None:
            return None if math.isinf(self._operator_per_s) else self._operator_per_s
        return self.per_s_in(self.window)

    @property
    def window(self) -> Window | None:
        """The window that covers this moment, whether the operator overrules it or not."""
        return self._timetable.at(self._clock.now_s())

    @property
    def next_change(self) -> Change | None:
        """When another window, or none, is in force. None: never."""
        now_s = self._clock.now_s()
        if self._next is None or not self._is_as_of(now_s, *self._next):
            self._next = (now_s, self._timetable.next_change(now_s))
        return self._next[1]

    def coming(self, now_s: float, within_s: float) -> tuple[Change, ...]:
        """The changes from now on, and some that are over: they are looked up once an hour."""
        if self._coming is None or not 0 <= now_s - self._coming[0] < _LOOK_UP_EVERY_S:
            self._coming = (now_s, tuple(self._timetable.changes(now_s, now_s + within_s)))
        return self._coming[1]

    @property
    def goes_on(self) -> Change | None:
        """If the schedule lets nothing go now: when it does again. None: it lets mail go, or never will."""
        if self._operator_per_s is not None or self.messages_per_s != 0:
            return None
        change = self.next_change
        if change is None or self.per_s_in(change.window) != 0:
            return change
        now_s = self._clock.now_s()
        coming = self._timetable.changes(change.at_s, now_s + _LOOK_AHEAD_S)
        return next((later for later in coming if self.per_s_in(later.window) != 0), None)

    def per_s_in(self, window: Window | None) -> float | None:
        """The limit while a window is in force; None: `feed.messages` stands, since no window covers the moment."""
        return window.messages_per_s if window is not None else self._own_per_s

    def _is_as_of(self, now_s: float, asked_s: float, change: Change | None) -> bool:
        """Whether the answer is good still; a clock that was set back makes it wrong, too."""
        return asked_s <= now_s and (now_s < change.at_s if change is not None else now_s < asked_s + _LOOK_AHEAD_S / 2)


_LOOK_UP_EVERY_S = 3600.0
_LOOK_AHEAD_S = 15 * 86_400.0
