"""The ETA: when the backlog is drained, with an interval that holds in four cases of five, or a word for why there is none.

In    Work (backlog/work.py), what was observed of the drain (forecaster.py), the ceilings in force, the state of the service
Out   Eta: seconds with an interval, or a word; "what if"; the rate needed to end by a given time
Pure  the time of day is an argument

A number is given only if it can be kept: never while paused, stalled, growing or measuring. The drain never ends before its
last deferred recipient is due, whatever the rate.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from drainer.backlog.work import Amount, Work, amount
from drainer.estimate.ahead import Ahead
from drainer.estimate.ceilings import Ceilings
from drainer.estimate.completion import DrainModel
from drainer.estimate.eta import Eta, EtaState, ServiceState
from drainer.estimate.forecaster import STALLED_AFTER_S, Forecaster, Left
from drainer.estimate.service_rate import steady

CONFIDENCE = 0.8
_STALLED_AFTER_TURNS = 5
_GROWS = 0.3
"""If the drain ends with less than this chance, the backlog is growing."""
_SURELY = 0.9
_LONGEST_S = 1e9
"""Thirty years. A rate that leads to more is no rate of a drain."""
_WHOLE = 1.2
"""The interval covers the whole delay before the end is noticed, and more: an entry may just miss a look. The delay is the
same for all forecasts of one drain, so an interval for nine of ten delays would hold for all of them or for none."""
_DOMAIN_LAG = 0.07
"""A domain with a ceiling takes this much longer than its ceiling alone demands: its recipients go in batches, and an
entry put off for the ceiling is looked at again only now and then. Measured with tests/estimate/real_drains.py."""
_LEAST = 0.0015
"""No interval is narrower than this part of the time left, on each side. Limits are rounded figures and apply to whole
messages, so a rate held by a limit is steady, but not exactly the limit."""
_MIX = 0.05
"""As _LEAST, under a limit on messages: how many recipients the next messages have is not known. Without it the interval of
real drains at 8 and 10 messages/s held in 34 % and 63 % of cases."""

_STANDSTILL: dict[ServiceState, EtaState] = {
    "paused": "paused",
    "stopped_by_guard": "stalled",
    "mta_down": "stalled",
    "stopping": "stalled",
    "starting": "measuring",
}


Feasibility = Literal["likely", "possible", "unproven", "impossible", "unknown"]


@dataclass(frozen=True, slots=True)
class ByTime:
    """Whether the drain can end by a given time.

    needed_recipients_per_s     None: no rate is enough, or the work is unknown
    chance                      that it ends by then at the present rate; None while there is no forecast
    sustained_recipients_per_s  the best rate of the MTA over five minutes; None before five minutes have passed
    feasibility  "likely": the chance is nine in ten; "possible": less, but the MTA has sustained the needed rate;
                 "unproven": the MTA has not sustained it, or five minutes have not passed; "impossible": no rate is enough,
                 or a limit in force forbids it; "unknown": how much is left is not known yet
    """

    needed_recipients_per_s: float | None
    chance: float | None
    sustained_recipients_per_s: float | None
    feasibility: Feasibility


def drain_time(work: Work, seen: Forecaster, ceilings: Ceilings, state: ServiceState, now_s: float) -> Eta:
    """When the drain ends.

    state    of the service; each kind of standstill has a word of its own
    now_s    seconds since the epoch
    Returns  state "draining" with low_s <= seconds <= high_s, all >= 0, and finish; "done" with zeros; else only a word
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
    return _of_model(work, seen, model, ceilings, seen.noticed_after_s, now_s)


def drain_model(work: Work, seen: Forecaster, ceilings: Ceilings) -> DrainModel | None:
    """The model of all work left, deferred recipients included; None while too little is known, or if nothing is left."""
    left = amount(work)
    if left is None or left.recipients <= 0:
        return None
    return seen.model(_left(left), left.deviation, ceilings)


def drain_model_at(
    work: Work, seen: Forecaster, at_recipients_per_s: float, ceilings: Ceilings | None = None
) -> DrainModel | None:
    """The model at this rate (> 0), without interruptions, and of the ceilings with their caps alone."""
    left = amount(work)
    if left is None or left.recipients <= 0 or at_recipients_per_s <= 0:
        return None
    return seen.model(_left(left), left.deviation, ceilings or Ceilings(), at=steady(at_recipients_per_s))


def if_resumed(work: Work, seen: Forecaster, ceilings: Ceilings, now_s: float) -> Eta:
    """As drain_time, if everything that is paused were resumed now, lists with a pause of their own included."""
    return drain_time(work.resumed, seen, ceilings.lifted_from_zero, "draining", now_s)


def what_if(
    work: Work,
    seen: Forecaster,
    at_recipients_per_s: float,
    now_s: float,
    state: ServiceState = "draining",
    ceilings: Ceilings | None = None,
) -> Eta:
    """When the drain would end at this rate from now on; arrivals as they are. A rate that is set overrules windows, but no
    cap: of the ceilings in force, caps count.

    state  only "starting" matters: of a paused service an operator asks this to know what happens after resuming
    """
    left = amount(work)
    asked = Ceilings(recipients_per_s=at_recipients_per_s, ahead=ceilings.ahead.only_caps if ceilings else Ahead())
    word = _word_before_rates(work, left, asked, "starting" if state == "starting" else "draining")
    if word is not None or left is None or _all_deferred(work):
        return drain_time(work, seen, asked, "starting" if state == "starting" else "draining", now_s)
    model = drain_model_at(work, seen, at_recipients_per_s, asked)
    return Eta(state="measuring") if model is None else _of_model(work, seen, model, asked, 0.0, now_s)


def needed_rate(work: Work, seen: Forecaster, within_s: float) -> float | None:
    """Recipients per second needed to end within that time, arrivals included; 0 if nothing is left.

    Returns  None if no rate is enough (the time has passed, or deferred recipients are due later), or the work is unknown
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
    """Whether the drain can end within that time, and at which rate.

    sustained_recipients_per_s  Measured.sustained_recipients_per_s, of this drain or of an earlier one
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
    feasibility: Feasibility = "unproven"
    recipients = needed * within_s
    per_message = recipients_per_message(work, seen)
    least_s = ceilings.least_s(recipients / per_message if per_message else None, recipients)
    allowed = ceilings.most_by(within_s, per_message, recipients)
    if max(least_s if not ceilings.ahead.windows else 0.0, ceilings.earliest_s) > within_s or allowed < recipients:
        feasibility = "impossible"
    elif sustained_recipients_per_s is not None and needed <= sustained_recipients_per_s:
        feasibility = "possible"
    return ByTime(needed, chance, sustained_recipients_per_s, feasibility)


def recipients_per_message(work: Work, seen: Forecaster) -> float | None:
    """Of the work left or, if that is not known, of the work done; None: neither is known."""
    left = amount(work)
    if left is not None and left.messages:
        return left.recipients / left.messages
    return seen.recipients_per_message


def _word_before_rates(work: Work, left: Amount | None, ceilings: Ceilings, state: ServiceState) -> EtaState | None:
    """The word that does not depend on the rates; None if there is none."""
    if state == "starting" or (state == "scanning" and left is not None and left.recipients <= 0):
        return "measuring"
    if left is not None and left.recipients <= 0 and not work.unread_entries:
        return "paused" if work.paused_recipients or work.unserved_recipients else "done"
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
    """Under a limit of one message a minute, a minute without a message is no stall."""
    slowest = ceilings.slowest_per_s
    return STALLED_AFTER_S if slowest is None else max(STALLED_AFTER_S, _STALLED_AFTER_TURNS / slowest)


def _of_model(
    work: Work, seen: Forecaster, model: DrainModel, ceilings: Ceilings, noticed_after_s: float, now_s: float
) -> Eta:
    if model.left > _LONGEST_S * min(model.forecast.rate, model.ceiling or model.forecast.rate):
        return Eta(state="measuring")
    found = seen.completion(model)
    if found.chance < _GROWS:
        return Eta(state="growing")
    earliest_s = ceilings.earliest_s
    low_s, seconds = max(found.low_s, earliest_s), max(found.seconds, earliest_s * (1 + _DOMAIN_LAG))
    high_s = max(found.high_s, earliest_s * (1 + 2 * _DOMAIN_LAG), seconds)
    # The end is noticed at the next look, which comes between at once and one interval later.
    is_mixed = ceilings.messages_per_s is not None or ceilings.ahead
    open_s = seconds * (_MIX if is_mixed else _LEAST)
    unsure_s = math.hypot(_WHOLE * noticed_after_s, open_s)
    return _eta(
        work,
        seconds + noticed_after_s,
        max(earliest_s, seconds + noticed_after_s - math.hypot(seconds - low_s, unsure_s)),
        seconds + noticed_after_s + math.hypot(high_s - seconds, unsure_s),
        now_s,
    )


def _eta(work: Work, seconds: float, low_s: float, high_s: float, now_s: float) -> Eta:
    """The estimate, never before the last deferred recipient is due. high_s allows for one more deferral."""
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
