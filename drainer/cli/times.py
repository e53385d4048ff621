"""Times as an operator writes them: `--by` a time to come, `--since` a time past.

In    the text, and now with its zone; a time without zone is this machine's
Out   a datetime with its zone
Not here  reading the clock: `now` is handed in
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta

from drainer.cli.options import parse_duration
from drainer.errors import UsageError

CLOCK = re.compile(
    r"(?:(today|tomorrow|yesterday)\s+)?([01]?[0-9]|2[0-3]):([0-5][0-9])(?::([0-5][0-9]))?\Z", re.IGNORECASE
)
_DAYS = {"yesterday": -1, "today": 0, "tomorrow": 1}


def coming(text: str, now: datetime, option: str = "--by") -> datetime:
    """The time meant by "18:00" (the next one), "tomorrow 06:00", "2026-01-31T18:00" or "+2h". Raises UsageError"""
    text = text.strip()
    if text.startswith("+"):
        return now + timedelta(seconds=parse_duration(text[1:].strip()))
    if then := _at_clock(text, now):
        return (then + timedelta(days=1) if _is_bare(text) and then <= now.replace(tzinfo=None) else then).astimezone()
    return _written_out(text, option, '"18:00", "tomorrow 06:00", "2026-01-31T18:00" or "+2h"')


def past(text: str, now: datetime, option: str = "--since") -> datetime:
    """The time meant by "18:00" (the last one), "yesterday 06:00", "2026-01-31 18:00", or "2h" for two hours ago.

    Raises UsageError, also for a time that is still to come
    """
    text = text.strip()
    if then := _at_clock(text, now):
        meant = (then - timedelta(days=1) if _is_bare(text) and then > now.replace(tzinfo=None) else then).astimezone()
    elif text[-1:].isalpha() and text[:1].isdecimal() and "T" not in text and not text.endswith("Z"):
        meant = now - timedelta(seconds=parse_duration(text))
    else:
        meant = _written_out(text, option, '"18:00", "yesterday 06:00", "2026-01-31 18:00" or "2h"')
    if meant > now:
        raise UsageError(f"{option} {text} is still to come")
    return meant


def _at_clock(text: str, now: datetime) -> datetime | None:
    """On the day named, or today; without zone, so that 18:00 is 18:00 on the day the clocks change as well."""
    if not (clock := CLOCK.match(text)):
        return None
    today = now.replace(tzinfo=None, hour=int(clock[2]), minute=int(clock[3]), second=int(clock[4] or 0), microsecond=0)
    return today + timedelta(days=_DAYS[(clock[1] or "today").lower()])


def _is_bare(text: str) -> bool:
    """Without a day."""
    return text[:1].isdecimal()


def _written_out(text: str, option: str, right: str) -> datetime:
    try:
        return datetime.fromisoformat(text).astimezone()
    except (ValueError, OverflowError, OSError) as exc:
        raise UsageError(f"{option} {text!r} is not a time; right would be {right}") from exc
