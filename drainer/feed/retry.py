"""When a deferred recipient is tried again, and when it is given up.

Pure  arithmetic only
"""

from __future__ import annotations


def waited_s(attempts: int, first_s: float, longest_s: float) -> float:
    """Seconds that a recipient had to wait between so many attempts; feed.give_up_after is compared with it.

    The waits, not the time since the first attempt: the recipient has no part in an MTA that was down for days, a pause, or
    a clock set forward. Arguments and errors as for retry_delay_s; 0.0 before the second attempt
    """
    return sum(retry_delay_s(attempt, first_s, longest_s) for attempt in range(1, attempts))


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
