"""The ETA: when the backlog is through, with the interval that holds it four times in five, or the word that says why not.

In    Work (backlog/work.py), what was seen of the drain (forecaster.py), the ceilings in force, the state of the service
Out   Eta: seconds with an interval, or a word; "what if"; the rate needed to be through by some time
Pure  the time of day comes along as a number

A number is given only when it can be honoured: never while paused, stalled, growing or measuring. Deferred recipients
are not through before they are due, whatever the rate.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from drainer.backlog.work import Amount, Work, amount
from drainer.estimate.ceilings import Ceilings
from drainer.estimate.completion import DrainModel, completion
from drainer.estimate.eta import Eta, EtaState, ServiceState
from drainer.estimate.forecaster import STALLED_AFTER_S, Forecaster, Left
from drainer.estimate.service_rate import steady

CONFIDENCE = 0.8
_STALLED_AFTER_TURNS = 5
_GROWS = 0.3
"""A chance of ending below which the backlog is said to grow."""
_SURELY = 0.9
_LONGEST_S = 1e9
"""Thirty years: whatever was measured, it is no rate of a drain."""
_WHOLE = 1.2
"""The interval holds all of the delay with which the end is noticed, and an entry that just misses a look: the delay is the
same for all forecasts of a drain, so nine in ten of it would be all or nothing."""
_DOMAIN_LAG = 0.07
"""A domain with a ceiling is through so much later than the ceiling alone would have it: its recipients go in batches, and
an entry put off for it is looked at again now and then. Measured with tests/estimate/real_drains.py."""
_LEAST = 0.0015
"""Of the time left, that no interval is narrower than, either way: limits are told in rounded figures and kept by whole
messages, so a rate that is held by one is even, and yet not exactly what it says."""
_MIX = 0.05
"""Part of the time left by which a limit on messages leaves the end open: it says nothing of how many recipients the
messages to come have. Without it the interval of real drains at 8 and 10 messages/s held in 34 % and 63 % of cases."""

_STANDSTILL: dict[ServiceState, EtaState] = {
    "paused": "paused",
    "stopped_by_guard": "stalled",
    "mta_down": "stalled",
    "stopping": "stalled",
    "starting": "measuring",
}


ByVerdict = Literal["likely", "possible", "unproven", "impossible", "unknown"]


@dataclass(frozen=True, slots=True)
class ByTime:
    """Whether it can be through by some time.

    needed_recipients_per_s     None: no rate would do, or the work is unknown
    chance                      of being through by then as things go; None while there is no forecast
    sustained_recipients_per_s  the most the MTA has been seen to take over five minutes; None before those have passed
    verdict  "likely": nine times in ten as things go; "possible": not as things go, but the MTA has taken that rate;
             "unproven": it has not, or not for five minutes yet; "impossible": no rate would do, or the limit in force
             forbids it; "unknown": how much is left is not known yet
    """

    needed_recipients_per_s: float | None
    chance: float | None
    sustained_recipients_per_s: float | None
    verdict: ByVerdict


def drain_time(work: Work, seen: Forecaster, ceilings: Ceilings, state: ServiceState, now_s: float) -> Eta:
    """When it ends.

    state    of the service; a standstill has its word
    now_s    seconds since the epoch
    Returns  state "draining" with low_s <= seconds <= high_s, all >= 0, and finish; "done" with zeros; else a word only
    """
    left = amount(work)
    word = _word_before_rates(work, left, ceilings, state)
    if word == "done":
        return Eta(state="done", finish=now_s, seconds=0.0, low_s=0.0, high_s=0.0, confidence=CONFIDENCE)
    if word is not None or left is None:
        return Eta(state=word or "measuring")
    if _all_deferred(work):
        return _eta(work, 0.0, 0.0, 0.0, now_s)
    if seen.idle_s > _stalled_after_s(ceilings) and (seen.is_gap_unusual or not seen.has_worked):
        return Eta(state="stalled")
    model = drain_model(work, seen, ceilings)
    if model is None:
        return Eta(state="measuring")
    return _of_model(work, model, ceilings, seen.noticed_after_s, now_s)


def drain_model(work: Work, seen: Forecaster, ceilings: Ceilings) -> DrainModel | None:
    """All that is left, deferred recipients included, against time; None while too little is known, or nothing is left."""
    left = amount(work)
    if left is None or left.recipients <= 0:
        return None
    return seen.model(_left(left), left.deviation, ceilings)


def drain_model_at(work: Work, seen: Forecaster, at_recipients_per_s: float) -> DrainModel | None:
    """The same at that rate (> 0), which stands for itself: no ceiling, no interruptions."""
    left = amount(work)
    if left is None or left.recipients <= 0 or at_recipients_per_s <= 0:
        return None
    return seen.model(_left(left), left.deviation, Ceilings(), at=steady(at_recipients_per_s))


def if_resumed(work: Work, seen: Forecaster, ceilings: Ceilings, now_s: float) -> Eta:
    """What drain_time would say if whatever is paused went on now, lists with a pause of their own included."""
    return drain_time(work.resumed, seen, ceilings.lifted_from_zero, "draining", now_s)


def what_if(
    work: Work, seen: Forecaster, at_recipients_per_s: float, now_s: float, state: ServiceState = "draining"
) -> Eta:
    """When it would end if recipients were serviced at that rate from now on; arrivals as they are.

    state  only "starting" matters: an operator who asks this of a paused service means "if I let it go on"
    """
    left = amount(work)
    asked = Ceilings(recipients_per_s=at_recipients_per_s)
    word = _word_before_rates(work, left, asked, "starting" if state == "starting" else "draining")
    if word is not None or left is None or _all_deferred(work):
        return drain_time(work, seen, asked, "starting" if state == "starting" else "draining", now_s)
    model = drain_model_at(work, seen, at_recipients_per_s)
    return Eta(state="measuring") if model is None else _of_model(work, model, asked, 0.0, now_s)


def needed_rate(work: Work, seen: Forecaster, within_s: float) -> float | None:
    """Recipients per second that would finish within that time, arrivals included; 0 when nothing is left.

    Returns  None when no rate would do (the time is past, or deferred recipients are due later) or the work is unknown
    """
    left = amount(work)
    if left is None:
        return None
    if left.recipients <= 0:
        return 0.0
    if within_s <= 0 or (work.deferred_recipients and work.last_due_in_s > within_s):
        return None
    return (left.recipients + seen.arriving(within_s)[0]) / within_s


def by_time(
    work: Work,
    seen: Forecaster,
    ceilings: Ceilings,
    within_s: float,
    sustained_recipients_per_s: float | None,
) -> ByTime:
    """Whether it can be through within so many seconds, and what that takes.

    sustained_recipients_per_s  Measured.sustained_recipients_per_s, or of an earlier drain
    """
    needed = needed_rate(work, seen, within_s)
    left = amount(work)
    if needed is None:
        return ByTime(None, None, sustained_recipients_per_s, "unknown" if left is None else "impossible")
    if left is None or left.recipients <= 0:
        return ByTime(needed, 1.0, sustained_recipients_per_s, "likely")
    model = None if ceilings.are_zero else drain_model(work, seen, ceilings)
    chance = None if model is None else model.chance_by(within_s)
    if chance is not None and chance >= _SURELY:
        return ByTime(needed, chance, sustained_recipients_per_s, "likely")
    verdict: ByVerdict = "unproven"
    recipients = needed * within_s
    per_message = recipients_per_message(work, seen)
    least_s = ceilings.least_s(recipients / per_message if per_message else None, recipients)
    if max(least_s, ceilings.earliest_s) > within_s:
        verdict = "impossible"
    elif sustained_recipients_per_s is not None and needed <= sustained_recipients_per_s:
        verdict = "possible"
    return ByTime(needed, chance, sustained_recipients_per_s, verdict)


def recipients_per_message(work: Work, seen: Forecaster) -> float | None:
    """Of what is left; as it was so far, where that is not known; None: neither is."""
    left = amount(work)
    if left is not None and left.messages:
        return left.recipients / left.messages
    return seen.recipients_per_message


def _word_before_rates(work: Work, left: Amount | None, ceilings: Ceilings, state: ServiceState) -> EtaState | None:
    """The word that holds whatever the rates are, if one does."""
    if state == "starting" or (state == "scanning" and left is not None and left.recipients <= 0):
        return "measuring"
    if left is not None and left.recipients <= 0 and not work.unread_entries:
        return "paused" if work.paused_recipients else "done"
    if ceilings.are_zero:
        return "paused"
    if math.isinf(ceilings.earliest_s) and state not in _STANDSTILL:
        return "stalled"
    return _STANDSTILL.get(state)


def _left(left: Amount) -> Left:
    return Left(left.messages or None, left.recipients, left.octets)


def _all_deferred(work: Work) -> bool:
    return not work.unread_entries and work.deferred_recipients >= work.recipients


def _stalled_after_s(ceilings: Ceilings) -> float:
    """A limit of one message a minute leaves minutes without one; that is no stall."""
    slowest = ceilings.slowest_per_s
    return STALLED_AFTER_S if slowest is None else max(STALLED_AFTER_S, _STALLED_AFTER_TURNS / slowest)


def _of_model(work: Work, model: DrainModel, ceilings: Ceilings, noticed_after_s: float, now_s: float) -> Eta:
    if model.left > _LONGEST_S * min(model.forecast.rate, model.ceiling or model.forecast.rate):
        return Eta(state="measuring")
    found = completion(model)
    if found.chance < _GROWS:
        return Eta(state="growing")
    earliest_s = ceilings.earliest_s
    low_s, seconds = max(found.low_s, earliest_s), max(found.seconds, earliest_s * (1 + _DOMAIN_LAG))
    high_s = max(found.high_s, earliest_s * (1 + 2 * _DOMAIN_LAG), seconds)
    # The end is noticed at the first look after it, which may come at once or a whole interval later.
    open_s = seconds * (_LEAST if ceilings.messages_per_s is None else _MIX)
    unsure_s = math.hypot(_WHOLE * noticed_after_s, open_s)
    return _eta(
        work,
        seconds + noticed_after_s,
        max(earliest_s, seconds + noticed_after_s - math.hypot(seconds - low_s, unsure_s)),
        seconds + noticed_after_s + math.hypot(high_s - seconds, unsure_s),
        now_s,
    )


def _eta(work: Work, seconds: float, low_s: float, high_s: float, now_s: float) -> Eta:
    """The estimate, not before the last deferred recipient is due; it may be deferred once more."""
    due_s, again_s = 0.0, 0.0
    if work.deferred_recipients:
        due_s = max(0.0, work.last_due_in_s)
        again_s = due_s + max(0.0, work.retry_wait_s)
    seconds = max(seconds, due_s)
    if not math.isfinite(seconds):
        return Eta(state="measuring")
    return Eta(
        state="draining",
        finish=now_s + seconds,
        seconds=seconds,
        low_s=min(seconds, max(low_s, due_s, 0.0)),
        high_s=max(seconds, high_s, again_s),
        confidence=CONFIDENCE,
    )
