"""Durations, rates, sizes and TCP addresses, as settings and the command line write them.

In    a text such as "30s", "20/s", "64MiB" or "127.0.0.1:8025", or a number
Out   seconds, events per second, bytes, host and port; ValueError with what would be right
Pure  values only
"""

from __future__ import annotations

import math
import re

_DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*(ms|s|m|h|d)\Z")
_DURATION_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_RATE = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*/\s*(s|m|h)\Z")
_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*(B|KiB|MiB|GiB|TiB|kB|MB|GB|TB)?\Z")
_SIZE_BYTES = {
    None: 1, "B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40,
    "kB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12,
}  # fmt: skip

# A value beyond these is a typing error, and more than timers, SQLite and statvfs can count.
LONGEST_S = 36_500 * 86_400.0
SLOWEST_PER_S, FASTEST_PER_S = 1e-6, 1e9
LARGEST_BYTES = 2**60


def duration_s(value: object) -> float:
    """Seconds, from "30s", "5m", "24h", "7d", "500ms" or a number of seconds. Raises ValueError."""
    seconds = math.nan
    if isinstance(value, int | float) and not isinstance(value, bool):
        seconds = value
    elif isinstance(value, str) and (match := _DURATION.match(value.strip())):
        seconds = float(match[1]) * _DURATION_S[match[2]]
    if not 0 <= seconds < math.inf:
        raise ValueError('not a duration; right would be "30s", "5m", "24h" or "7d"')
    if seconds > LONGEST_S:
        raise ValueError('longer than a hundred years; right would be "30s", "5m", "24h" or "7d"')
    return float(seconds)


def rate_per_s(value: object) -> float | None:
    """Events per second, from "20/s", "600/m", "5000/h", a number per second, or "unlimited" (None).

    Zero means paused. Raises ValueError.
    """
    if value is None or value == "unlimited":
        return None
    per_s = math.nan
    if isinstance(value, int | float) and not isinstance(value, bool):
        per_s = value
    elif isinstance(value, str) and value.strip() == "0":
        per_s = 0
    elif isinstance(value, str) and (match := _RATE.match(value.strip())):
        per_s = float(match[1]) / _DURATION_S[match[2]]
    if not 0 <= per_s < math.inf:
        raise ValueError('not a rate; right would be "20/s", "600/m", "5000/h" or "unlimited"')
    if per_s and not SLOWEST_PER_S <= per_s <= FASTEST_PER_S:
        raise ValueError('slower or faster than can be timed; right would be "20/s", "1/h", "0" or "unlimited"')
    return float(per_s)


def size_bytes(value: object) -> int:
    """Bytes, from "64MiB", "1GB" or a number of bytes. Raises ValueError."""
    octets = math.nan
    if isinstance(value, int) and not isinstance(value, bool):
        octets = value
    elif isinstance(value, str) and (match := _SIZE.match(value.strip())):
        octets = float(match[1]) * _SIZE_BYTES[match[2]]
    if not 0 <= octets <= LARGEST_BYTES:
        raise ValueError('not a size; right would be "64MiB" or "2GiB"')
    return int(octets)


def tcp_address(value: str) -> tuple[str, int]:
    """Host and port, from "127.0.0.1:8025", "[::1]:8025", or a port alone (on the loopback). Raises ValueError."""
    host, _, port = value.strip().rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if not (port.isascii() and port.isdigit() and int(port) <= 65535) or (":" in host and not bracketed):
        raise ValueError('not an address; right would be "127.0.0.1:8025", "[::1]:8025" or "" for none')
    return (host[1:-1] if bracketed else host) or "127.0.0.1", int(port)
