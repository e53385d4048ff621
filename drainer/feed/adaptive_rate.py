"""Outcomes fed back into the rate: slow start, back off on trouble, creep up while it is calm.

In    the outcomes of transactions since the last look, the time, the operator's ceiling
Out   the Pace to keep until the next look
Pure  no clock, no throttle

Additive increase, multiplicative decrease, as in TCP (RFC 5681). The question is the same: how much can the other side
bear, when all it says is "too much"? Hysteresis: trouble is more than TROUBLE_SHARE of recipients deferred, or any
connection trouble; calm is less than CALM_SHARE; between the two the rate stays. One trouble halves the rate once: more
trouble within HALVE_AT_MOST_EVERY_S comes from transactions that were under way already.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

START_PER_S = 5.0
SLOWEST_PER_S = 0.2
DOUBLE_EVERY_S = 2.0
"""Slow start: a calm rate that is used doubles in this time, until the first trouble or the ceiling."""
CREEP_SHARE_PER_S = 0.02
"""After trouble: a calm rate grows by this share of the last good rate per second, so half is won back in 25 s."""
CALM_BEFORE_CREEP_S = 10.0
HALVE_AT_MOST_EVERY_S = 5.0
TROUBLE_SHARE = 0.2
CALM_SHARE = 0.05
FEWEST_RECIPIENTS = 10
"""Fewer deferrals than this in one look say nothing: greylisting and full mailboxes are normal."""
USED_SHARE = 0.5
"""A rate that is not even half used says nothing about a higher one."""
FASTEST_PER_S = 10_000.0
"""Used where the ceiling is unlimited; above this rate our own host is the limit."""


@dataclass(frozen=True, slots=True)
class Outcomes:
    """Since the last look.

    transactions  begun
    answered      recipients that got an answer of any kind
    deferred      of these, answered 4xx
    lost          transactions that met connection trouble: 421, a hang-up, a timeout, an MTA that was down
    """

    transactions: int = 0
    answered: int = 0
    deferred: int = 0
    lost: int = 0


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast to go, in transactions per second.

    per_s        for the throttle, beside the operator's ceiling
    slow_start   no trouble was met yet
    good_per_s   the rate at which the last trouble was met
    looked_at_s, halved_at_s, calm_since_s   monotonic seconds
    reason       why the rate was last lowered; "" while nothing holds it down
    """

    per_s: float
    looked_at_s: float
    slow_start: bool = True
    good_per_s: float = FASTEST_PER_S
    halved_at_s: float = -math.inf
    calm_since_s: float = -math.inf
    reason: str = ""


def first_pace(now_s: float, ceiling_per_s: float | None) -> Pace:
    """Where to start after an outage."""
    return Pace(min(START_PER_S, _ceiling(ceiling_per_s)), now_s)


def next_pace(pace: Pace, seen: Outcomes, now_s: float, ceiling_per_s: float | None) -> Pace:
    """The pace after a look at its outcomes.

    now_s          monotonic seconds, not before pace.looked_at_s
    ceiling_per_s  the operator's; None unlimited; 0 paused: nothing is learnt then and the pace stays
    Returns  per_s between SLOWEST_PER_S and the ceiling (FASTEST_PER_S when unlimited)
    """
    ceiling = _ceiling(ceiling_per_s)
    if ceiling == 0:
        return replace(pace, looked_at_s=now_s)
    elapsed_s = max(0.0, now_s - pace.looked_at_s)
    pace = replace(pace, looked_at_s=now_s, per_s=_bounded(pace.per_s, ceiling))
    if trouble := _trouble(seen):
        return _backed_off(pace, trouble, now_s, ceiling)
    if seen.answered and seen.deferred > CALM_SHARE * seen.answered and seen.deferred >= FEWEST_RECIPIENTS:
        return replace(pace, calm_since_s=now_s)
    if seen.transactions < USED_SHARE * pace.per_s * elapsed_s:
        return pace
    if pace.slow_start:
        return replace(pace, per_s=_bounded(pace.per_s * 2 ** min(1.0, elapsed_s / DOUBLE_EVERY_S), ceiling))
    if now_s - pace.calm_since_s < CALM_BEFORE_CREEP_S:
        return pace
    crept = _bounded(pace.per_s + CREEP_SHARE_PER_S * pace.good_per_s * elapsed_s, ceiling)
    return replace(pace, per_s=crept, reason="" if crept >= min(pace.good_per_s, ceiling) else pace.reason)


def _trouble(seen: Outcomes) -> str:
    if seen.lost:
        return "connection trouble"
    if seen.deferred >= FEWEST_RECIPIENTS and seen.deferred > TROUBLE_SHARE * seen.answered:
        return f"{100 * seen.deferred // seen.answered} % of recipients deferred"
    return ""


def _backed_off(pace: Pace, trouble: str, now_s: float, ceiling: float) -> Pace:
    if now_s - pace.halved_at_s < HALVE_AT_MOST_EVERY_S:
        return replace(pace, calm_since_s=now_s)
    return Pace(
        per_s=_bounded(pace.per_s / 2, ceiling),
        looked_at_s=now_s,
        slow_start=False,
        good_per_s=pace.per_s,
        halved_at_s=now_s,
        calm_since_s=now_s,
        reason=trouble,
    )


def _ceiling(ceiling_per_s: float | None) -> float:
    return FASTEST_PER_S if ceiling_per_s is None else min(ceiling_per_s, FASTEST_PER_S)


def _bounded(per_s: float, ceiling: float) -> float:
    return min(max(per_s, SLOWEST_PER_S), ceiling)
