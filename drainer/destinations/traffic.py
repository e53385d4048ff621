"""How much comes into the MTA's queue for a recipient domain, and how much of it is taken or deferred, in the last minute.

In    each look behind the MTA
Out   Traffic of some domains together, per second
Pure  no clock

The MTA names no arrivals by domain, so they are counted from the other end: what left its queue, and what the queue grew by.
A mail that comes and goes between two looks is counted too, because the log names it. Without the log nothing is known.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from drainer.destinations.seen import DestinationsSeen

WINDOW_S = 60.0
STEP_S = 10.0
LEAST_S = 10.0
"""Less than this is too short to say anything per second."""


@dataclass(frozen=True, slots=True)
class Traffic:
    """Per second, on average over the last WINDOW_S. None: not known.

    arrivals   recipients that came into the MTA's queue, from us and from others; known if queue and log are read
    accepted   recipients that the provider took
    deferrals  deferrals, by the provider or by the MTA itself
    reply      of the last one of them; "" if there was none
    """

    arrivals_per_s: float | None = None
    accepted_per_s: float | None = None
    deferrals_per_s: float | None = None
    reply: str = ""


@dataclass(slots=True)
class _Step:
    """queued: in the MTA's queue at its beginning; None: not read. refused: for good, and so out of the queue."""

    began_s: float
    queued: Mapping[str, int] | None
    accepted: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    deferrals: Counter[str] = field(default_factory=Counter)
    replies: dict[str, str] = field(default_factory=dict)


class TrafficBehind:
    """Fed looks in the order of their time. What it keeps grows with the domains of a minute."""

    def __init__(self) -> None:
        self._steps: list[_Step] = []
        self._last_s = 0.0
        self._queued: Mapping[str, int] | None = None

    def see(self, seen: DestinationsSeen) -> None:
        if not seen.log_read:
            self._steps = []  # a gap in the log: the counts begin anew
            return
        self._last_s, self._queued = seen.at_s, _queued(seen)
        if self._steps:
            self._count(self._steps[-1], seen)
        if not self._steps or seen.at_s - self._steps[-1].began_s >= STEP_S:
            self._steps = [one for one in self._steps if seen.at_s - one.began_s <= WINDOW_S]
            self._steps.append(_Step(seen.at_s, self._queued))

    def of(self, domains: Collection[str]) -> Traffic:
        """Of these together."""
        lasted_s = self._last_s - self._steps[0].began_s if self._steps else 0.0
        if not lasted_s or lasted_s < LEAST_S:
            return Traffic()
        accepted = sum(step.accepted[name] for step in self._steps for name in domains)
        refused = sum(step.refused[name] for step in self._steps for name in domains)
        deferrals = sum(step.deferrals[name] for step in self._steps for name in domains)
        before, now = self._steps[0].queued, self._queued
        arrivals = None
        if before is not None and now is not None:
            more_queued = sum(now.get(name, 0) - before.get(name, 0) for name in domains)
            # Queue and log are not read at the same moment, and an operator may delete mail: never below zero.
            arrivals = max(0, more_queued + accepted + refused) / lasted_s
        replies = [step.replies[name] for step in self._steps for name in domains if name in step.replies]
        return Traffic(arrivals, accepted / lasted_s, deferrals / lasted_s, replies[-1] if replies else "")

    def _count(self, step: _Step, seen: DestinationsSeen) -> None:
        for domain, one in seen.domains.items():
            if one.accepted or one.refused or one.deferred:
                step.accepted[domain] += one.accepted
                step.refused[domain] += one.refused
                step.deferrals[domain] += one.deferred
            if one.deferred and one.reply:
                step.replies[domain] = one.reply


def _queued(seen: DestinationsSeen) -> Mapping[str, int] | None:
    if seen.messages is None:
        return None
    return {domain: one.queued for domain, one in seen.domains.items() if one.queued}
