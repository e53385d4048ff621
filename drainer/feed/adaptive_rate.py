"""How fast: slow start, a step to just under what was accepted, and a patient search upwards.

In    outcomes of transactions since the last look, the time, the operator's ceiling
Out   the Pace to keep until the next look
Pure  no clock, no throttle
Not here  how many sessions (concurrency.py); whether a share of bad ends is unusual (load_evidence.py)

    START   the rate doubles while it is used and nothing is unusual
    CHECK   something became unusual; the rate was lowered to see whether that helps
    HOLD    the rate stays; the pause before the next search doubles with each search that failed
    SEARCH  the rate grows by a small step a second

What is taken from where, and why:
- Additive increase, multiplicative decrease (RFC 5681), but down to what was accepted instead of to a half. TCP has to
  guess; an MTA that refuses says exactly how much it took. So the accepted rate is the estimate, as the delivery rate is
  in BBR, measured while the rate was really used. BBR's bound is kept as well: no start faster than a multiple of that.
- A loss alone is no reason (see load_evidence.py). The slowdown is an experiment: if the bad share is not lower at the
  lower rate, three times, it is not our load. Then the rate is restored and that share is tolerated from then on.
- Most of what a limiter refuses, it refuses while it is searched for. Postfix's SCHEDULER_README measures 50 % deferred with
  feedback of 1 for each delivery, 24 % with 1/sqrt(N), 16 % with 1/N: the slower the feedback, the less. Here it is slower
  again: a search ends after a handful of refusals, and the pause before the next one grows to SEARCH_LONGEST_S. AWS's
  adaptive retry holds below the rate of the last throttling and then grows ever faster (CUBIC); so does a search here once
  it has passed the old limit.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from drainer.feed.binding import LOSES, REFUSES
from drainer.feed.load_evidence import (
    NOTHING_KNOWN,
    Sample,
    has_helped,
    is_one_domains,
    is_unusual,
)

START_PER_S = 20.0
STARTS_WITH = 0.9
"""Part of what the MTA bore last time that is started with: after an outage it has a backlog of its own."""
SLOWEST_PER_S = 0.2
FASTEST_PER_S = 10_000.0
"""Used where the ceiling is unlimited; above this rate our own host is the limit."""
LOOK_EVERY_S = 0.25
DOUBLE_EVERY_S = 0.5
"""Slow start from 20/s to 500/s takes 2.3 s at least. It goes on only as fast as the MTA answers."""
START_AHEAD = 3.0
"""Slow start goes no further ahead of the rate that is answered than this many times."""
USED_SHARE = 0.6
"""A rate that is used less says nothing about a higher one."""
RECENT_S = 2.0
RECENT_TRANSACTIONS = 20
RECENT_LONGEST_S = 30.0
"""What counts as now: the last RECENT_S, or longer until there are so many transactions."""
SHORTEST_MEASURE_S = 0.5
"""In slow start the accepted rate is the best of this time: over a longer one the rates of before would count as well."""
JUST_UNDER = 0.96
HALF_IF_BELOW = 0.25
"""Where less than this share was accepted, half of the rate is tried first: it may not be our load at all."""
LOST_STEP = 0.8
"""A further step down for losses goes no lower than this: lost sessions have to be opened again, so in the short time of a
check less is accepted than the MTA takes."""
SETTLE_S = 0.4
"""After a step down: transactions begun before it end in this time and are not counted."""
CHECK_BAD_S = 0.5
CHECK_S = 1.5
CHECK_LONGEST_S = 15.0
"""After a step down: bad news is believed after the first time, good news after the second. With few transactions both
wait, at most for the third."""
CHECK_TRANSACTIONS = 12
CHECK_STEPS = 3
SEARCH_FIRST_S = 8.0
SEARCH_LONGEST_S = 60.0
SEARCH_PER_S: tuple[tuple[float, float], ...] = ((0.05, 0.01), (0.25, 0.02), (0.3, 0.1), (math.inf, 0.4))
"""Up to this part above the limit, the rate grows by this share a second: slowly where the limit was, faster above it. A
limiter that saves up one second refuses nothing before the third step is over; its refusals end the search in a second."""
PASSED = 1.3
"""A search that is this far above the old limit has shown that it is gone."""
FORGOTTEN = 2.0
"""And this far above, the next search need not wait long."""


class Phase(StrEnum):
    START = "start"
    CHECK = "check"
    HOLD = "hold"
    SEARCH = "search"


@dataclass(frozen=True, slots=True)
class Heard:
    """Since the last look.

    transactions  ended
    deferred      of these, most of their recipients answered 4xx
    lost          of these, met connection trouble: 421, a hang-up, a timeout
    domains       recipient domain -> recipients answered, and deferred
    reply         the last words of one that was deferred or lost
    seconds       how long the look took; allowed: transactions that the pace allowed in it; both are set by next_pace
    """

    transactions: int = 0
    deferred: int = 0
    lost: int = 0
    domains: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    reply: str = ""
    seconds: float = 0.0
    allowed: float = 0.0

    @property
    def accepted(self) -> int:
        return self.transactions - self.deferred - self.lost


@dataclass(frozen=True, slots=True)
class Check:
    """An experiment under way.

    kind      "deferred" or "lost"
    from_per_s, from_phase  where to return to if the trouble is not our load
    before    the sample that was unusual
    steps     how often the rate was lowered
    """

    kind: str
    from_per_s: float
    from_phase: Phase
    before: Sample
    steps: int = 1


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast to go, in transactions per second.

    per_s        for the throttle, beside the operator's ceiling
    since_s      when the phase began, monotonic seconds; in CHECK: the last step
    recent       what was heard lately, oldest first
    usual        per kind of trouble: the share that is as likely at any rate, as far as is known
    limit_per_s  what was accepted when the MTA last had too much; inf: that never happened
    pause_s      before the next search
    reason       why the rate is held; "" while nothing holds it down
    """

    per_s: float
    looked_at_s: float
    phase: Phase = Phase.START
    since_s: float = -math.inf
    recent: tuple[Heard, ...] = ()
    usual: Mapping[str, Sample] = field(default_factory=lambda: {"deferred": NOTHING_KNOWN, "lost": NOTHING_KNOWN})
    limit_per_s: float = math.inf
    pause_s: float = SEARCH_FIRST_S
    check: Check | None = None
    reason: str = ""


def first_pace(now_s: float, ceiling_per_s: float | None, borne_per_s: float = 0.0, *, is_limit: bool = False) -> Pace:
    """Where to start after an outage.

    borne_per_s  what this MTA bore last time; 0: not known
    is_limit     it refused more than that. Otherwise it may bear any rate above, and slow start goes on from there
    """
    per_s = STARTS_WITH * borne_per_s
    if not is_limit or not per_s:
        return Pace(_bounded(max(START_PER_S, per_s), _ceiling(ceiling_per_s)), now_s, since_s=now_s)
    reason = f"{REFUSES} {borne_per_s:.3g} messages/s, as it did last time"
    per_s = _bounded(per_s, _ceiling(ceiling_per_s))
    return Pace(per_s, now_s, Phase.HOLD, since_s=now_s, limit_per_s=borne_per_s, reason=reason)


def next_pace(pace: Pace, heard: Heard, now_s: float, ceiling_per_s: float | None) -> Pace:
    """The pace after a look at its outcomes.

    now_s          monotonic seconds, not before pace.looked_at_s
    ceiling_per_s  the operator's; None unlimited; 0 paused: nothing is learnt then and the pace stays
    Returns  per_s between SLOWEST_PER_S and the ceiling (FASTEST_PER_S when unlimited)
    """
    ceiling = _ceiling(ceiling_per_s)
    elapsed_s = max(0.0, now_s - pace.looked_at_s)
    if ceiling == 0:
        return replace(pace, looked_at_s=now_s, since_s=pace.since_s + elapsed_s, recent=())
    # Until the first transaction has ended, nothing shows how much of the pace is used: sessions have to be opened.
    is_first = pace.phase is Phase.START and not any(one.transactions for one in pace.recent)
    allowed = heard.transactions if is_first else _bounded(pace.per_s, ceiling) * elapsed_s
    heard = replace(heard, seconds=elapsed_s, allowed=allowed)
    if pace.check is not None and now_s - pace.since_s <= SETTLE_S:
        return replace(pace, looked_at_s=now_s, per_s=_bounded(pace.per_s, ceiling))
    pace = _with(replace(pace, looked_at_s=now_s, per_s=_bounded(pace.per_s, ceiling)), heard)
    if pace.check is not None:
        return _checked(pace, pace.check, now_s, ceiling)
    if kind := _trouble(pace):
        return _troubled(pace, kind, now_s, ceiling)
    if pace.phase is Phase.HOLD:
        is_over = now_s - pace.since_s >= pace.pause_s or _is_below(pace)
        return replace(pace, phase=Phase.SEARCH, since_s=now_s) if is_over else pace
    used = _used(pace)
    if used < USED_SHARE:
        return pace
    if pace.phase is Phase.START:
        return _started(pace, elapsed_s * used, ceiling)
    return _searched(pace, elapsed_s, ceiling)


def _with(pace: Pace, heard: Heard) -> Pace:
    """What was heard joins what is recent; what is no longer recent becomes usual. An experiment keeps all it has; and a
    search near the limit forgets, or what it meets would become usual before it is noticed."""
    recent = (*pace.recent, heard)
    if pace.check is not None:
        return replace(pace, recent=recent)
    seconds, transactions, first = 0.0, 0, len(recent)
    while first and (seconds < RECENT_S or transactions < RECENT_TRANSACTIONS) and seconds < RECENT_LONGEST_S:
        first -= 1
        seconds += recent[first].seconds
        transactions += recent[first].transactions
    if not first or (pace.phase is Phase.SEARCH and not _is_past(pace)):
        return replace(pace, recent=recent[first:])
    usual = {kind: (known + _sample(recent[:first], kind)).remembered() for kind, known in pace.usual.items()}
    return replace(pace, recent=recent[first:], usual=usual)


def _trouble(pace: Pace) -> str:
    """The kind of trouble that is unusual now; "" if none is."""
    for kind in ("deferred", "lost"):
        if is_unusual(_sample(pace.recent, kind), pace.usual[kind]):
            if kind == "deferred" and is_one_domains(_domains(pace.recent), pace.usual[kind]):
                continue
            return kind
    return ""


def _troubled(pace: Pace, kind: str, now_s: float, ceiling: float) -> Pace:
    """Step down, and see whether it helps."""
    accepted_per_s = _best_per_s(pace.recent) if pace.phase is Phase.START else _per_s(pace.recent, "accepted")
    check = Check(kind, pace.per_s, pace.phase, _sample(pace.recent, kind))
    failed = pace.phase is Phase.SEARCH
    return replace(
        pace,
        per_s=_stepped_down(pace.per_s, accepted_per_s, ceiling),
        phase=Phase.CHECK,
        since_s=now_s,
        recent=(),
        pause_s=min(2 * pace.pause_s, SEARCH_LONGEST_S) if failed else pace.pause_s,
        check=check,
        reason=_words(kind, accepted_per_s, pace.recent),
    )


def _checked(pace: Pace, check: Check, now_s: float, ceiling: float) -> Pace:
    """What the experiment shows, once it has gone on for long enough."""
    after = _sample(pace.recent, check.kind)
    age_s = now_s - pace.since_s - SETTLE_S
    is_bad = is_unusual(after, pace.usual[check.kind])
    if age_s < CHECK_LONGEST_S and (age_s < (CHECK_BAD_S if is_bad else CHECK_S) or after.tried < CHECK_TRANSACTIONS):
        return pace
    accepted_per_s = _best_per_s(pace.recent)
    if check.kind == "lost" and accepted_per_s >= HALF_IF_BELOW * pace.per_s:
        accepted_per_s = max(accepted_per_s, LOST_STEP * pace.per_s)
    if not is_bad:
        return replace(pace, phase=Phase.HOLD, since_s=now_s, recent=(), check=None, limit_per_s=pace.per_s)
    if check.steps >= CHECK_STEPS and not has_helped(check.before, after):
        usual = dict(pace.usual) | {check.kind: (check.before + after).remembered()}
        return replace(
            pace, per_s=_bounded(check.from_per_s, ceiling), phase=check.from_phase, since_s=now_s, recent=(),
            usual=usual, check=None, reason="" if math.isinf(pace.limit_per_s) else pace.reason,
        )  # fmt: skip
    return replace(
        pace,
        per_s=_stepped_down(pace.per_s, accepted_per_s, ceiling),
        since_s=now_s,
        recent=(),
        check=replace(check, steps=check.steps + 1),
        reason=_words(check.kind, accepted_per_s, pace.recent),
    )


def borne_per_s(pace: Pace, before_per_s: float) -> float:
    """Transactions per second that the MTA was seen to bear: its limit if there is one, or else the most it accepted.

    before_per_s  the same, after the look before
    """
    if not math.isinf(pace.limit_per_s) and not _is_past(pace):
        return pace.limit_per_s
    seconds = sum(one.seconds for one in pace.recent)
    if pace.check is not None or seconds < RECENT_S:
        return before_per_s
    return max(before_per_s, _per_s(pace.recent, "accepted"))


def is_used(pace: Pace) -> bool:
    """Whether so much was sent lately that the rate is what limits it."""
    return _used(pace) >= USED_SHARE


def _used(pace: Pace) -> float:
    """Part of what the pace allowed in the last second that was sent, at most 1. A pace that grows allowed less than now."""
    allowed = sum(one.allowed for one in pace.recent[-4:])
    return min(1.0, sum(one.transactions for one in pace.recent[-4:]) / allowed) if allowed else 0.0


def _started(pace: Pace, used_s: float, ceiling: float) -> Pace:
    ahead = START_AHEAD * _per_s(pace.recent[-4:], "transactions")
    grown = pace.per_s * 2 ** min(1.0, used_s / DOUBLE_EVERY_S)
    return replace(pace, per_s=_bounded(max(pace.per_s, min(grown, ahead)), ceiling))


def _searched(pace: Pace, elapsed_s: float, ceiling: float) -> Pace:
    if _is_below(pace):
        grown = pace.per_s * 2 ** min(1.0, elapsed_s / DOUBLE_EVERY_S)
        return replace(pace, per_s=_bounded(min(grown, STARTS_WITH * pace.limit_per_s), ceiling))
    above = pace.per_s / pace.limit_per_s - 1
    share = next(share for most, share in SEARCH_PER_S if above < most)
    return replace(
        pace,
        per_s=_bounded(pace.per_s * (1 + share * min(1.0, elapsed_s)), ceiling),
        pause_s=SEARCH_FIRST_S if above >= FORGOTTEN - 1 else pace.pause_s,
        reason="" if _is_past(pace) else pace.reason,
    )


def _is_below(pace: Pace) -> bool:
    """A ceiling held the rate down to less than what the MTA is known to bear."""
    return not math.isinf(pace.limit_per_s) and pace.per_s < STARTS_WITH * pace.limit_per_s


def _is_past(pace: Pace) -> bool:
    """The limit that was found once is gone."""
    return pace.per_s > PASSED * pace.limit_per_s


def _stepped_down(per_s: float, accepted_per_s: float, ceiling: float) -> float:
    if accepted_per_s < HALF_IF_BELOW * per_s:
        return _bounded(per_s / 2, ceiling)
    return _bounded(min(per_s, accepted_per_s) * JUST_UNDER, ceiling)


def _sample(heard: Iterable[Heard], kind: str) -> Sample:
    tried = bad = 0
    for one in heard:
        tried += one.transactions
        bad += one.deferred if kind == "deferred" else one.lost
    return Sample(tried, bad)


def _domains(heard: Iterable[Heard]) -> dict[str, tuple[int, int]]:
    found: dict[str, tuple[int, int]] = {}
    for one in heard:
        for name, (answered, deferred) in one.domains.items():
            before = found.get(name, (0, 0))
            found[name] = (before[0] + answered, before[1] + deferred)
    return found


def _per_s(heard: Iterable[Heard], what: str) -> float:
    count, seconds = 0, 0.0
    for one in heard:
        count += one.accepted if what == "accepted" else one.transactions
        seconds += one.seconds
    return count / seconds if seconds > 0 else 0.0


def _best_per_s(recent: tuple[Heard, ...]) -> float:
    """The highest accepted rate over SHORTEST_MEASURE_S."""
    best, first, accepted, seconds = 0.0, 0, 0, 0.0
    for one in recent:
        accepted += one.accepted
        seconds += one.seconds
        while seconds - recent[first].seconds >= SHORTEST_MEASURE_S:
            accepted -= recent[first].accepted
            seconds -= recent[first].seconds
            first += 1
        if seconds >= SHORTEST_MEASURE_S:
            best = max(best, accepted / seconds)
    return best or _per_s(recent, "accepted")


def _words(kind: str, accepted_per_s: float, recent: tuple[Heard, ...]) -> str:
    reply = next((one.reply for one in reversed(recent) if one.reply), "")
    what = REFUSES if kind == "deferred" else LOSES
    return f"{what} {accepted_per_s:.3g} messages/s" + (f": {reply}" if reply else "")


def _ceiling(ceiling_per_s: float | None) -> float:
    return FASTEST_PER_S if ceiling_per_s is None else min(ceiling_per_s, FASTEST_PER_S)


def _bounded(per_s: float, ceiling: float) -> float:
    return min(max(per_s, SLOWEST_PER_S), ceiling)
