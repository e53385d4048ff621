"""The time zone of the windows: `feed.time_zone`.

In    the name of a zone, "" for the system's own
Out   a tzinfo; None stands for the system's, as datetime has it
Pure  but for the zone's own file, which zoneinfo reads
"""

from __future__ import annotations

import difflib
import zoneinfo
from datetime import datetime, tzinfo


def zone_of(name: str) -> tzinfo | None:
    """Raises ValueError for a name that no zone on this host has."""
    if not name:
        return None
    try:
        return zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        known = sorted(zoneinfo.available_timezones())
        if not known:
            raise ValueError(f"this host knows no time zone ({name!r}): install tzdata") from None
        lower = {one.lower(): one for one in known}
        near = difflib.get_close_matches(name.lower(), lower, n=1, cutoff=0.5)
        example = lower[near[0]] if near else "Europe/Berlin"
        raise ValueError(
            f'no time zone of that name; right would be "{example}", or "" for the system\'s own'
        ) from None


def offset_s(at_s: float, zone: tzinfo | None) -> int:
    """Seconds by which the clock on the wall is ahead of UTC at this moment (seconds since the epoch)."""
    offset = datetime.fromtimestamp(at_s, zone).astimezone(zone).utcoffset()
    return round(offset.total_seconds()) if offset is not None else 0
