"""The law of one destination: how fast its provider lets us, by what MTA and provider say.

In    a Look every few seconds: what was fed, what the provider took, deferred and said, what waits behind the MTA
Out   a DomainPace: the ceiling until the next look, and the reply that caused it; no ceiling while there is no trouble
Pure  no clock; a value follows from a value

Which signs, and why
  refusals that say "too fast"  They are the provider's own word, and come within seconds (log, or replies to us). A few of
                 them, less than FEW of what was tried, are what a provider says at the very edge: the pace holds.
  growth behind the MTA  A provider that only delays says nothing. What waits for it in the MTA's queue grows and gets old.
                 Greylisting looks the same for some minutes, and no slower pace helps against it: it does not count.
  accepted       The capacity is what the provider took while it refused, measured over MEASURE_S: the delivery rate as in
                 BBR (Cardwell et al., ACM Queue 14(5), 2016), not half of what was tried as in TCP: a ceiling of half the
                 capacity wastes half of it, and the next answer comes only seconds later. Without a log it is what was fed
                 less what the queue grew by.
  all refused    For BAN_AFTER_S nobody was taken: a ban. More speed prolongs it with some providers, so single recipients
                 probe it, after pauses that double up to LONGEST_PAUSE_S. What the MTA itself tries counts as a probe too.

Down  at once to STEP of the capacity. Up: nothing for HOLD_S, then slowly around the capacity that is known, and faster
the longer it is calm, as CUBIC does (RFC 9438). A ceiling that has not bound for HEAL_S goes away.

A destination of which nothing is known yet is on probation: it starts at PROBATION_PER_S and doubles with each look that
shows no queue, as TCP's slow start does. So what is fed before the first sign of trouble stays small.

What waits behind the MTA goes first: what the MTA itself brings to the provider again is taken off our pace, so both
together stay under the capacity, and the queue drains. What lies there until its time has come takes nothing off: the
provider would stand idle. Where only the queue is known, the pace falls beyond QUEUE_CALM recipients. From QUEUE_FULL on
nothing is fed while the queue still grows.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

MEASURE_S = 15.0
FEW = 0.05
STEP = 0.95
HOLD_S = 30.0
QUEUE_CALM, QUEUE_FULL = 60, 140
LEAST_SHARE, WITH_DEFERRED = 0.1, 0.85
GROWTH_S, GROWN_BY, OLD_S = 10.0, 20, 10.0
BAN_AFTER_S = 60.0
FEWEST_REFUSED = 3
USED, USED_S = 0.5, 30.0
"""A ceiling of which less than this part is used does not rise."""
FIRST_PAUSE_S, LONGEST_PAUSE_S = 30.0, 240.0
HEAL_S = 300.0
SLOWEST_PER_S = 0.05
AFTER_BAN = 0.5
FORGOTTEN_S = 3600.0
"""A ban that nobody waits for any more is not probed. After so long nothing is known of it."""
PROBATION_PER_S, PROVEN_PER_S, KEEPS_UP = 25.0, 800.0, 0.7

_WINDOW_S = 90.0
_GREYLISTED = re.compile(r"gr[ae]y-?list", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Look:
    """What was seen of a destination since the look before.

    at_s       monotonic seconds; lasted_s: since the look before, or since the destination was first fed
    fed        recipients that the MTA took from us
    bound      somebody waited for the ceiling
    accepted   recipients that the provider took; None: not known
    refused    deferrals, and refusals that say "too fast", which the provider itself gave
    too_fast   of these, the ones that say so
    queued     recipients of it behind the MTA; None: not known
    waiting    of these, the ones that were deferred already; waiting_too_fast: with a reply that says "too fast"
    oldest_age_s  of the oldest of them; None: not known
    reply      the reply to show
    """

    at_s: float
    lasted_s: float
    fed: int = 0
    bound: bool = False
    accepted: int | None = None
    refused: int = 0
    too_fast: int = 0
    queued: int | None = None
    waiting: int = 0
    waiting_too_fast: int = 0
    oldest_age_s: float | None = None
    reply: str = ""


@dataclass(frozen=True, slots=True)
class _Interval:
    """Between two looks. refused: that say "too fast", or have to be taken for it; log_read: they were counted."""

    at_s: float
    lasted_s: float
    fed: float
    took: float
    refused: float
    tried: float
    queued: int | None
    waiting: int
    log_read: bool


@dataclass(frozen=True, slots=True)
class DomainPace:
    """What is known of a destination.

    open_per_s    the ceiling while little waits behind the MTA, recipients per second; None: no ceiling
    takes_per_s   what the provider took while it refused some; None: never measured
    queued        behind the MTA at the last look
    cause         the reply, or what was seen, that caused the ceiling; since_s: when it first did; told_s: last, monotonic
    probation_per_s  as fast as is allowed before more is known; PROVEN_PER_S: any speed
    pause_s       the ban is probed after pauses of this length; 0: no ban
    """

    open_per_s: float | None = None
    takes_per_s: float | None = None
    queued: int | None = None
    cause: str = ""
    since_s: float = 0.0
    told_s: float = 0.0
    bound_s: float = 0.0
    pause_s: float = 0.0
    paused_s: float = 0.0
    taken_s: float | None = None
    probation_per_s: float = PROBATION_PER_S
    last: Look | None = None
    intervals: tuple[_Interval, ...] = ()

    @property
    def per_s(self) -> float | None:
        """The ceiling; None: there is none."""
        if self.open_per_s is None:
            return None
        if self.pause_s:
            return 1 / self.pause_s
        return self.open_per_s * self._share_left

    @property
    def _share_left(self) -> float:
        """Part of the pace that what waits behind the MTA leaves us."""
        last = self.intervals[-1] if self.intervals else None
        if last is None or self.open_per_s is None:
            return 1.0
        queued = last.queued or 0
        recent = _of_last(self.intervals, MEASURE_S)
        grows = len(self.intervals) > 1 and queued > (self.intervals[-2].queued or 0)
        if queued >= QUEUE_FULL and (grows or not any(one.took for one in recent)):
            return 0.0
        if last.log_read:
            again = sum(one.took - one.fed for one in recent) / sum(one.lasted_s for one in recent)
            return min(1.0, max(LEAST_SHARE, 1 - again / self.open_per_s))
        # Without a log: what was not deferred yet is at work; what was comes back some time.
        at_work = queued - last.waiting
        share = min(1.0, max(LEAST_SHARE, (QUEUE_FULL - at_work) / (QUEUE_FULL - QUEUE_CALM)))
        return share if last.waiting <= QUEUE_CALM else share * WITH_DEFERRED

    @property
    def is_idle(self) -> bool:
        """Nothing was fed, taken or refused lately, and there is no ceiling."""
        return self.open_per_s is None and not any(one.fed or one.took or one.tried for one in self.intervals)

    @property
    def is_banned(self) -> bool:
        return self.pause_s > 0


def next_pace(before: DomainPace, look: Look) -> DomainPace:
    """The pace to keep after this look. Looks come in the order of their time."""
    seen = _with(before, look)
    last = seen.intervals[-1]
    trouble = _trouble(seen, look)
    if last.took > 0:
        seen = replace(seen, taken_s=look.at_s)
    if seen.is_banned:
        return _in_ban(seen, last, look, trouble)
    if trouble:
        return _slower(seen, look, trouble)
    return _calm(seen, last, look)


def _with(before: DomainPace, look: Look) -> DomainPace:
    """The same pace, with the new look in its memory."""
    last = before.last or Look(look.at_s - look.lasted_s, 0.0, queued=None if look.queued is None else 0)
    bound_s = look.at_s if look.bound else before.bound_s
    more_queued = look.queued - last.queued if look.queued is not None and last.queued is not None else None
    refused: float = look.too_fast
    if look.accepted is not None:
        took: float = look.accepted
    elif more_queued is not None:
        # The log is not read: what was fed and does not wait was taken.
        took = max(0.0, look.fed - more_queued)
        refused = max(refused, look.waiting_too_fast - last.waiting_too_fast)
    else:
        took = look.fed
    tried = took + max(refused, look.refused)
    log_read = look.accepted is not None
    interval = _Interval(look.at_s, look.lasted_s, look.fed, took, refused, tried, look.queued, look.waiting, log_read)
    kept = tuple(one for one in before.intervals if look.at_s - one.at_s < _WINDOW_S)
    return replace(before, last=look, queued=look.queued, bound_s=bound_s, intervals=(*kept, interval))


def _trouble(seen: DomainPace, look: Look) -> str:
    """What says that we are too fast now; "" if nothing does."""
    last = seen.intervals[-1]
    if last.refused > 0:
        recent = _of_last(seen.intervals, MEASURE_S)
        refused, tried = sum(one.refused for one in recent), sum(one.tried for one in recent)
        if refused > FEW * tried:
            return look.reply or "too fast"
    if _grows(seen.intervals, look) and not _GREYLISTED.search(look.reply):
        what = f"{look.queued} recipients wait behind the MTA, and their number grows"
        return f"{what}: {look.reply}" if look.reply else what
    return ""


def _grows(intervals: Sequence[_Interval], look: Look) -> bool:
    """Much waits behind the MTA, for long, and ever more."""
    if look.queued is None or look.queued < QUEUE_CALM or (look.oldest_age_s or 0.0) < OLD_S:
        return False
    earlier = [one.queued for one in intervals if one.at_s <= look.at_s - GROWTH_S and one.queued is not None]
    return bool(earlier) and look.queued - earlier[-1] >= GROWN_BY


def _of_last(intervals: Sequence[_Interval], seconds: float) -> list[_Interval]:
    """The intervals of the last so many seconds, one at least."""
    end_s = intervals[-1].at_s
    return [one for one in intervals if one.at_s > end_s - seconds] or [intervals[-1]]


def _slower(seen: DomainPace, look: Look, cause: str) -> DomainPace:
    """A step down to just under what was taken, or into a ban."""
    recent = _of_last(seen.intervals, MEASURE_S)
    took_per_s = _took_per_s(seen)
    before = seen.open_per_s
    if took_per_s > 0:
        open_per_s = max(SLOWEST_PER_S, STEP * took_per_s)
        if before is not None:
            open_per_s = min(before, open_per_s)
    else:
        fed_per_s = sum(one.tried for one in recent) / sum(one.lasted_s for one in recent)
        open_per_s = max(SLOWEST_PER_S, 0.5 * min(fed_per_s, math.inf if before is None else before))
    since_s = look.at_s if before is None else seen.since_s
    slower = replace(
        seen,
        open_per_s=open_per_s,
        takes_per_s=took_per_s if took_per_s > 0 else seen.takes_per_s,
        cause=cause,
        since_s=since_s,
        told_s=look.at_s,
        bound_s=look.at_s,
    )
    if _refuses_all(slower, look):
        return replace(slower, pause_s=FIRST_PAUSE_S, paused_s=look.at_s)
    return slower


def _refuses_all(seen: DomainPace, look: Look) -> bool:
    """Nobody was taken for BAN_AFTER_S, and some were tried."""
    recent = [one for one in seen.intervals if one.at_s > look.at_s - BAN_AFTER_S]
    began_s = seen.intervals[0].at_s - seen.intervals[0].lasted_s
    long_enough = look.at_s - max(began_s, seen.taken_s or -math.inf) >= BAN_AFTER_S
    return long_enough and not any(one.took for one in recent) and sum(one.refused for one in recent) >= FEWEST_REFUSED


def _in_ban(seen: DomainPace, last: _Interval, look: Look, trouble: str) -> DomainPace:
    if last.took > 0:
        open_per_s = max(SLOWEST_PER_S, AFTER_BAN * (seen.takes_per_s or 0.0))
        return replace(seen, pause_s=0.0, open_per_s=open_per_s, told_s=look.at_s - HOLD_S)
    if last.refused > 0 and look.at_s - seen.paused_s >= seen.pause_s:
        pause_s = min(2 * seen.pause_s, LONGEST_PAUSE_S)
        return replace(seen, pause_s=pause_s, paused_s=look.at_s, told_s=look.at_s, cause=trouble or seen.cause)
    if look.at_s - max(seen.bound_s, seen.told_s) >= FORGOTTEN_S:
        return DomainPace(last=seen.last, queued=seen.queued, intervals=seen.intervals)
    return seen


def _calm(seen: DomainPace, last: _Interval, look: Look) -> DomainPace:
    """Nothing is wrong: the ceiling rises while it binds, and goes away once it has not bound for long."""
    if seen.open_per_s is None:
        asked = look.fed >= 0.5 * seen.probation_per_s * last.lasted_s
        # A log that does not name the domain says nothing of it, as where the MTA delivers locally: the queue alone counts.
        is_silent = last.took <= 0 and look.queued is not None
        keeps_up = is_silent or last.took >= KEEPS_UP * look.fed
        if asked and keeps_up and (look.queued or 0) < QUEUE_CALM and not last.refused:
            return replace(seen, probation_per_s=min(PROVEN_PER_S, 2 * seen.probation_per_s))
        return seen
    if look.at_s - seen.bound_s >= HEAL_S:
        return replace(seen, open_per_s=None, cause="", since_s=0.0, probation_per_s=PROVEN_PER_S)
    if not look.bound:
        return seen
    calm_s = look.at_s - seen.told_s
    growth = _growth_per_s(calm_s, seen.open_per_s, seen.takes_per_s or 0.0)
    if last.refused > 0 or not _is_used(seen):
        growth = 0.0  # a few refusals: this is the edge
    shown_per_s = STEP * _took_per_s(seen)  # what the MTA tried again was taken too
    return replace(seen, open_per_s=max(shown_per_s, seen.open_per_s * (1 + growth) ** last.lasted_s))


def _is_used(seen: DomainPace) -> bool:
    """Whether the ceiling is what holds the destination back. A pause, a cap or an operator's lower rate may do it instead:
    then nothing shows that the provider would take more (RFC 7661)."""
    recent = _of_last(seen.intervals, USED_S)
    lasted_s = sum(one.lasted_s for one in recent)
    return sum(one.tried for one in recent) + 1 >= USED * (seen.per_s or 0.0) * lasted_s


def _took_per_s(seen: DomainPace) -> float:
    recent = _of_last(seen.intervals, MEASURE_S)
    return sum(one.took for one in recent) / sum(one.lasted_s for one in recent)


def _growth_per_s(calm_s: float, open_per_s: float, takes_per_s: float) -> float:
    """Share by which the ceiling rises in a second. takes_per_s: 0 if that was never measured."""
    if not takes_per_s or open_per_s < 0.9 * STEP * takes_per_s:
        return 0.03  # below a capacity that is known, or there may be any
    if calm_s < HOLD_S:
        return 0.0
    return 0.002 if calm_s < 90 else 0.01 if calm_s < 180 else 0.03
