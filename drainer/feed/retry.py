"""When a deferred recipient is tried again.

Pure  arithmetic only
"""

from __future__ import annotations


def retry_delay_s(attempts: int, first_s: float, longest_s: float) -> float:
    """Seconds to wait before the next attempt at a deferred recipient.

    attempts            attempts already made, >= 1
    first_s, longest_s  bounds of the wait in seconds, 0 < first_s <= longest_s
    Returns  first_s doubled once per further attempt, never above longest_s
    Raises   ValueError for arguments outside these bounds
    Source   RFC 5321 §4.5.4.1 (sending strategy: variable retry intervals)
    """
    if attempts < 1 or not 0 < first_s <= longest_s:
        raise ValueError(f"attempts={attempts}, first_s={first_s}, longest_s={longest_s}")
    doublings = min(attempts - 1, 64)
    return float(min(first_s * 2.0**doublings, longest_s))
