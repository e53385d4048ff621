"""What the length of the MTA's own queue allows.

In    the number of messages each time it was counted, and how many we have handed over until then
Out   a guard: between queue_low and queue_high it says slow and allows a rate, above queue_high it says stop until below
      queue_low
Pure  nothing is counted here (destinations/queue_reader.py)

A stop alone would let the queue swing between its marks: filled at full speed, then left to itself until it is short. So
from queue_low on the MTA gets what it passes on, and a little more or less that brings its queue to SETTLES_AT between the
marks within BRING_WITHIN_S. What it passes on is what it was given less what its queue grew by: it falls by itself when
providers refuse, and when others feed the same MTA.

A long queue that does not grow is no reason to be slower: it may be mail that no provider takes, past which all other mail
goes. Then the rate is raised step by step, until the queue grows.

The rate stays in force when the queue becomes shorter than queue_low, until it holds nothing back: the MTA would be flooded
again otherwise. It never becomes zero below queue_high.
"""

from __future__ import annotations

from dataclasses import dataclass

from drainer.guards.verdict import Guard, between_limits, unknown
from drainer.text.wording import rate

NAME = "mta_queue"
NOT_WATCHED = Guard(name=NAME, verdict="go", reason="not watched (mta.queue)")

SETTLES_AT = 0.6
"""Where the queue settles: this part of the way from queue_low to queue_high. The rest is for providers that refuse all at
once: it is seen only at the next look."""

BRING_WITHIN_S = 60.0
"""In which the queue is brought there. Looks are seconds apart: within less, it would swing."""

LOOK_AHEAD_S = 15.0
"""A queue that grows so fast that it is too long by then is slowed down before it has reached queue_low."""

REMEMBERED_S = 15.0
"""What the MTA passes on, and what its queue grows by, is averaged over about this time."""

RAISED_BY = 1.1
"""By which the rate is raised, from look to look, while a long queue does not grow."""

HOLDS_BACK = 0.7
"""A rate of which less than this part is used holds nothing back."""

FREE_AFTER_LOOKS = 3


@dataclass(frozen=True, slots=True)
class _Count:
    at_s: float
    messages: int
    fed: int


class MtaQueue:
    """high, low: messages, settings mta.queue_high and mta.queue_low; stopped: feeding is stopped because of the length."""

    def __init__(self, high: int, low: int, *, stopped: bool = False) -> None:
        self.high = high
        self.low = low
        self.stopped = stopped
        self._last: _Count | None = None
        self._guard = Guard(name=NAME, verdict="go")
        self._passed_on_per_s: float | None = None
        self._grows_per_s = 0.0
        self._allowed_per_s: float | None = None
        self._looks_free = 0

    def judge(self, messages: int, at_s: float, fed: int) -> Guard:
        """at_s: when they were counted, monotonic seconds; fed: messages that we have handed over until then, in all."""
        last, now = self._last, _Count(at_s, messages, fed)
        if last is not None and at_s <= last.at_s:
            return self._guard
        self._last = now
        fed_per_s, grows_per_s = self._learn(last, now)
        self._guard = between_limits(NAME, messages, self.high, self.low, "messages in the MTA's queue:", self.stopped)
        self.stopped = self._guard.verdict == "stop"
        self._allowed_per_s = self._allows(now, fed_per_s, grows_per_s)
        if not self.stopped and self._allowed_per_s is not None:
            self._guard = self._slow(messages, self._allowed_per_s)
        return self._guard

    def _learn(self, last: _Count | None, now: _Count) -> tuple[float, float]:
        """Messages per second that we handed over, and by which the queue grew; 0 at the first look."""
        if last is None:
            return 0.0, 0.0
        elapsed_s = now.at_s - last.at_s
        fed_per_s, grows_per_s = (now.fed - last.fed) / elapsed_s, (now.messages - last.messages) / elapsed_s
        passed_on, before = max(0.0, fed_per_s - grows_per_s), self._passed_on_per_s
        weight = 1.0 if before is None else min(1.0, elapsed_s / REMEMBERED_S)
        # A fall counts at once.
        self._passed_on_per_s = min(passed_on, weight * passed_on + (1.0 - weight) * (before or 0.0))
        self._grows_per_s = weight * grows_per_s + (1.0 - weight) * self._grows_per_s
        return fed_per_s, grows_per_s

    def _allows(self, now: _Count, fed_per_s: float, grows_per_s: float) -> float | None:
        """Messages per second; None: any rate, and before it is known what the MTA passes on."""
        settles_at = self.low + SETTLES_AT * (self.high - self.low)
        is_long = now.messages >= self.low or now.messages + grows_per_s * LOOK_AHEAD_S >= settles_at
        if self._passed_on_per_s is None or not self._holds_back(fed_per_s, is_long):
            return None
        wanted = self._passed_on_per_s + (settles_at - now.messages) / BRING_WITHIN_S
        if now.messages > settles_at and self._grows_per_s <= 0.0:
            wanted = max(wanted, self._passed_on_per_s * RAISED_BY)
        return max(wanted, (self.high - now.messages) / (4 * BRING_WITHIN_S), 0.0)

    def _holds_back(self, fed_per_s: float, is_long: bool) -> bool:
        """Whether a rate has to be in force: the queue is long, or the rate allowed until now still holds something back."""
        allowed = self._allowed_per_s
        is_free = allowed is not None and not is_long and not self.stopped and fed_per_s < HOLDS_BACK * allowed
        self._looks_free = self._looks_free + 1 if is_free else 0
        return is_long or (allowed is not None and self._looks_free < FREE_AFTER_LOOKS)

    def _slow(self, messages: int, allowed_per_s: float) -> Guard:
        passed_on = rate(self._passed_on_per_s or 0.0)
        reason = (
            f"messages in the MTA's queue: {messages:,}, stops at {self.high:,}; it passes on {passed_on}, "
            f"and gets at most {rate(allowed_per_s)}"
        )
        return Guard(
            name=NAME, verdict="slow", reason=reason, value=messages, limit=self.high, at_most_per_s=allowed_per_s
        )


def uncounted(why: str, *, was_stopped: bool = False) -> Guard:
    """The length could not be had: slow, or still stop if it was too long when it was counted last, with the reason."""
    if was_stopped:
        return unknown(NAME, "stop", f"the MTA's queue was too long when it was counted last; now {why}")
    return unknown(NAME, "slow", why)
