"""The language of `feed.windows`: "22:00-06:00 unlimited", "Mon-Fri 08:00-18:00 5/s", "Sat,Sun unlimited", "else 20/s".

In    one text for each window
Out   Windows, in order; ValueError with the text and what would be right
Pure  values only; when a window is in force is timetable.py's

A window is days, times, or both, and a rate of messages as `feed.messages` has it. The first window that covers the moment
is in force. "else" covers what is left; without it that time belongs to `feed.messages`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from drainer.text.quantities import rate_per_s

DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
ELSE = "else"
DAY_MIN = 24 * 60
_RIGHT = 'right would be "22:00-06:00 unlimited", "Mon-Fri 08:00-18:00 5/s", "Sat,Sun unlimited" or "else 20/s"'
_TIMES = re.compile(r"([0-9]{1,2}):([0-9]{2})-([0-9]{1,2}):([0-9]{2})\Z")
_EVERY_DAY = frozenset(range(len(DAYS)))


@dataclass(frozen=True, slots=True)
class Window:
    """A part of the week, and the rate for it.

    text            as it is shown: the text without its rate, such as "Mon-Fri 22:00-06:00" or "else"
    messages_per_s  None: unlimited; 0: nothing is sent
    days            on which it begins; Monday is 0
    from_min        minutes of the day, 0 to 1439, at which it begins
    to_min          at which it ends, 1 to 1440; not after from_min: on the day after
    """

    text: str
    messages_per_s: float | None
    days: frozenset[int] = _EVERY_DAY
    from_min: int = 0
    to_min: int = DAY_MIN

    def covers(self, day: int, minute: int) -> bool:
        """Whether it is in force at this minute of this day of the week, as the clock on the wall shows them."""
        if self.from_min < self.to_min:
            return day in self.days and self.from_min <= minute < self.to_min
        if minute >= self.from_min:
            return day in self.days
        return minute < self.to_min and (day - 1) % len(DAYS) in self.days


def windows_of(texts: Sequence[str]) -> tuple[Window, ...]:
    """Raises ValueError for the first text that is no window, or that can never apply."""
    windows: list[Window] = []
    for text in texts:
        if windows and windows[-1].text == ELSE:
            raise ValueError(
                f'{text!r} never applies, since "else" stands before it; right would be "else" as the last'
            )
        windows.append(window_of(text))
    return tuple(windows)


def window_of(text: str) -> Window:
    """Raises ValueError."""
    *when, rate = text.split() or [""]
    if not when:
        raise ValueError(f"{text!r} is not a window with its rate; {_RIGHT}")
    per_s = _rate(text, rate)
    shown = " ".join(when)
    if [word.lower() for word in when] == [ELSE]:
        return Window(ELSE, per_s)
    days, times = _EVERY_DAY, (0, DAY_MIN)
    if when[-1][:1].isdigit():
        times = _times(text, when.pop())
    if when:
        days = _days(text, "".join(when))
    return Window(shown, per_s, days, *times)


def _rate(text: str, rate: str) -> float | None:
    if rate.lower() in ("pause", "paused"):
        return 0.0
    try:
        return rate_per_s(rate.lower())
    except ValueError as exc:
        raise ValueError(f'{text!r} ends with {rate!r}, which is {exc}; "pause" would send nothing') from exc


def _times(text: str, word: str) -> tuple[int, int]:
    match = _TIMES.match(word)
    if match is None:
        raise ValueError(f'{text!r} has {word!r} for its times; right would be "22:00-06:00"')
    from_h, from_m, to_h, to_m = map(int, match.groups())
    from_min, to_min = from_h * 60 + from_m, to_h * 60 + to_m
    if from_m > 59 or to_m > 59 or from_min >= DAY_MIN or to_min > DAY_MIN:
        raise ValueError(f"{text!r} has {word!r} for its times; right would be 00:00 to 23:59, or 24:00 for its end")
    if from_min == to_min:
        raise ValueError(f'{text!r} ends when it begins; right would be "00:00-24:00" for the whole day')
    return from_min, to_min or DAY_MIN


def _days(text: str, words: str) -> frozenset[int]:
    found: set[int] = set()
    for part in words.split(","):
        first, dash, last = part.partition("-")
        start = _day(text, first)
        end = _day(text, last) if dash else start
        found |= {day % len(DAYS) for day in range(start, end + 1 if end >= start else end + len(DAYS) + 1)}
    return frozenset(found)


def _day(text: str, word: str) -> int:
    name = word.strip().capitalize()
    if name not in DAYS:
        raise ValueError(f"{text!r} has {word!r} for a day; right would be one of {', '.join(DAYS)}")
    return DAYS.index(name)
