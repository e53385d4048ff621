"""Numbers, times and foreign text in words.

Pure  values in, text out; the local time zone alone is read from outside, and only where no zone is given
"""

from __future__ import annotations

import math
from datetime import datetime, tzinfo

from drainer.text.foreign import printable

_LATEST_S = 253_402_000_000.0
"""In December 9999, the end of what a datetime can hold. A backlog at a rate near zero would end later."""


def shown(text: str) -> str:
    """`text` without control characters: for text that no model has cleaned, such as a file name."""
    return printable(text)


def shortened(text: str, width: int) -> str:
    """`text` in at most `width` characters; dots show that it was cut."""
    if len(text) <= width:
        return text
    return text[: max(0, width - 2)] + ".."[: max(0, width)]


def count(number: int, noun: str = "", nouns: str = "") -> str:
    """ "12,345", or with its noun: "1 entry", "12,345 entries"."""
    if not noun:
        return f"{number:,}"
    return f"{number:,} {noun if number == 1 else nouns or noun + 's'}"


def recipients_of(recipients: int, unread_entries: int) -> str:
    """Recipients of entries some of which are not read yet, so that their recipients are not known.

    "5,072 recipients", "at least 12 recipients", "recipients not counted yet"
    """
    if not unread_entries:
        return count(recipients, "recipient")
    return f"at least {count(recipients, 'recipient')}" if recipients else "recipients not counted yet"


def backlog_left(entries: int, recipients: int, unread_entries: int) -> str:
    """ "509 entries, 5,072 recipients left"; while some are unread "509 entries left, at least 12 recipients"."""
    of_entries, of_recipients = count(entries, "entry", "entries"), recipients_of(recipients, unread_entries)
    return f"{of_entries} left, {of_recipients}" if unread_entries else f"{of_entries}, {of_recipients} left"


def skipped_files(directory: str, files: int, name: str, reason: str) -> str:
    """Files in a queue directory that are no entries, for status and report."""
    others = f", and {count(files - 1, 'other')}" if files > 1 else ""
    return f"no entries in {directory}: {shown(name)} ({reason}){others}; drainer leaves them there, look what they are"


def duration(seconds: float) -> str:
    """ "42 s", "5 min 10 s", "25 min", "2 h 05 min", "3 d 04 h"."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 600:
        return f"{whole // 60} min {whole % 60:02d} s" if whole % 60 else f"{whole // 60} min"
    minutes = round(whole / 60)
    if minutes < 60:
        return f"{minutes} min"
    if minutes < 24 * 60:
        return f"{minutes // 60} h {minutes % 60:02d} min"
    hours = round(whole / 3600)
    return f"{hours // 24} d {hours % 24:02d} h"


def quantised_s(seconds: float) -> float:
    """An estimate rounded to 10 s, 1, 5, 15 or 60 minutes: more digits would be false precision, and would flicker."""
    step = rounded_to_s(seconds)
    return max(step, round(seconds / step) * step)


def rounded_to_s(seconds: float) -> float:
    """The step to which an estimate of this size is rounded."""
    steps = ((120.0, 10.0), (3600.0, 60.0), (6 * 3600.0, 300.0), (86400.0, 900.0))
    return next((step for below, step in steps if seconds < below), 3600.0)


def rate(per_s: float) -> str:
    """ "1,820/s", "18.4/s", "0.25/s"; below one in ten seconds, per hour: "90/h"."""
    if per_s >= 100:
        return f"{per_s:,.0f}/s"
    if per_s >= 10:
        return f"{per_s:.1f}".removesuffix(".0") + "/s"
    if per_s >= 0.1 or per_s == 0:
        return f"{per_s:.2f}".rstrip("0").rstrip(".") + "/s"
    per_h = per_s * 3600
    return (f"{per_h:,.1f}".removesuffix(".0") if per_h >= 1 else f"{per_h:.2g}") + "/h"


def limit(per_s: float | None) -> str:
    return "unlimited" if per_s is None else rate(per_s)


def size(number: int) -> str:
    """ "812 B", "4.2 KiB", "64 MiB"."""
    amount = float(number)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if amount < 1000:
            return f"{amount:.1f}".removesuffix(".0") + f" {unit}" if amount < 10 else f"{amount:.0f} {unit}"
        amount /= 1024
    return f"{amount:,.1f} TiB"


def finish_time(finish_s: float, now_s: float, zone: tzinfo | None = None) -> str:
    """The clock time of an estimate, rounded to 1, 5 or 15 minutes, and never in the past."""
    step = next((step for below, step in ((3600.0, 60.0), (6 * 3600.0, 300.0)) if finish_s - now_s < below), 900.0)
    rounded = round(finish_s / step) * step
    return clock_time(rounded if rounded > now_s else math.ceil(finish_s / 60.0) * 60.0, now_s, zone)


def short_time(at_s: float, now_s: float, zone: tzinfo | None = None) -> str:
    """For a table, at most 11 characters: "18:40", "Tue 18:40", "3 Mar 18:40", "3 Mar 2027"."""
    at, now = (datetime.fromtimestamp(min(moment, _LATEST_S), zone) for moment in (at_s, now_s))
    if at.date() == now.date():
        return f"{at:%H:%M}"
    if at.year != now.year:
        return f"{at.day} {at:%b %Y}"
    return f"{at:%a %H:%M}" if 0 < (at.date() - now.date()).days < 7 else f"{at.day} {at:%b %H:%M}"


def clock_time(at_s: float, now_s: float, zone: tzinfo | None = None) -> str:
    """ "18:40 CET" today, "Tue 3 Mar 18:40 CET" on another day. zone None: the machine's own."""
    at_s = min(at_s, _LATEST_S)
    at, now = (datetime.fromtimestamp(moment, zone).astimezone(zone) for moment in (at_s, now_s))
    day = "" if at.date() == now.date() else f"{at:%a} {at.day} {at:%b} "
    year = f"{at.year} " if at.year != now.year else ""
    return f"{day}{year}{at:%H:%M} {at.tzname() or ''}".rstrip()
