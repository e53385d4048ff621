"""What the length of the MTA's own queue allows.

In    the number of messages, each time it was counted
Out   a guard that stops feeding above queue_high until below queue_low
Pure  nothing is counted here (destinations/queue_reader.py)
"""

from __future__ import annotations

from drainer.guards.verdict import Guard, between_limits, unknown

NAME = "mta_queue"
NOT_WATCHED = Guard(name=NAME, verdict="go", reason="not watched (mta.queue)")


class MtaQueue:
    """Remembers whether it has stopped feeding.

    high, low  messages; see settings mta.queue_high, mta.queue_low
    stopped    feeding is stopped because of the length
    """

    def __init__(self, high: int, low: int, *, stopped: bool = False) -> None:
        self.high = high
        self.low = low
        self.stopped = stopped

    def judge(self, messages: int) -> Guard:
        """go, slow or stop."""
        guard = between_limits(NAME, messages, self.high, self.low, "messages in the MTA's queue:", self.stopped)
        self.stopped = guard.verdict == "stop"
        return guard


def uncounted(why: str) -> Guard:
    """slow, with the reason: the length could not be had."""
    return unknown(NAME, "slow", why)
