"""How the MTA stands, for the snapshot.

Pure  values only
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class MtaState:
    """What is known of the MTA.

    state       up, down, or unknown (no session was tried yet)
    reason      why it is down, or why it gets fewer sessions than the settings allow; "" if neither
    sessions    open now
    allowed     most that may be open now
    allowed_why, allowed_since_s  why no more than that, and since when (seconds since the epoch); "" and None: nothing
                speaks against more than the settings allow
    final_dot_s, unloaded_s  time from final dot to reply, now and with little to do; None: not known
    is_bound    every session that is allowed has work, and more tasks wait for one
    next_try_s  when down: next attempt to open a session, seconds since the epoch
    """

    state: Literal["up", "down", "unknown"]
    reason: str
    sessions: int
    next_try_s: float | None
    allowed: int = 0
    allowed_why: str = ""
    allowed_since_s: float | None = None
    final_dot_s: float | None = None
    unloaded_s: float | None = None
    is_bound: bool = False
