"""The ETA: remaining recipients / (service rate - arrival rate), with the interval that holds it four times in five.

In    Work (backlog.py), Measured (rates.py), the ceilings in force, the state of the service
Out   Eta: seconds with an interval, or the word that says why there is none
Pure  the time of day comes along as a number

A number is given only when it can be honoured: never while paused, stalled, growing or measuring. Deferred recipients
are not through before they are due, whatever the rate.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from drainer.estimate.backlog import Amount, Work, amount
from drainer.estimate.rates import Measured
from drainer.report.snapshot import Eta, EtaState, ServiceState

CONFIDENCE = 0.8
_Z = 1.2816
"""Quantile of the normal distribution that leaves a tenth on either side."""

STALLED_AFTER_S = 30.0
_STALLED_AFTER_TURNS = 5
_DRIFT = 0.05
_DRIFT_AT_MOST = 0.20
"""Spread added for what the rate will do later: 5 % for a forecast as long as what was measured, growing with the
square root of its length (a random walk), at most 20 %. Chosen, not measured."""

_WIDEST = 1.0
"""Relative spread of the net rate above which arrivals and service cannot be told apart."""

_STANDSTILL: dict[ServiceState, EtaState] = {
    "paused": "paused",
    "stopped_by_guard": "stalled",
    "mta_down": "stalled",
    "stopping": "stalled",
    "starting": "measuring",
}


@dataclass(frozen=True, slots=True)
class Ceilings:
    """Limits in force per second; None: unlimited, 0: paused."""

    messages_per_s: float | None = None
    recipients_per_s: float | None = None

    @property
    def are_zero(self) -> bool:
        return 0 in (self.messages_per_s, self.recipients_per_s)

    def as_recipients_per_s(self, recipients_per_message: float | None) -> float | None:
        """The stricter of both, in recipients; the one on messages counts once a message's size is known."""
        known = [self.recipients_per_s] if self.recipients_per_s is not None else []
        if self.messages_per_s is not None and recipients_per_message is not None:
            known.append(self.messages_per_s * recipients_per_message)
        return min(known, default=None)


def drain_time(work: Work, measured: Measured | None, ceilings: Ceilings, state: ServiceState, now_s: float) -> Eta:
    """When it ends.

    measured  None: too little was seen to know a rate
    state     of the service; a standstill has its word
    now_s     seconds since the epoch
    Returns   state "draining" with low_s <= seconds <= high_s, all >= 0, and finish; "done" with zeros; else a word only
    """
    left = amount(work)
    word = _word_before_rates(work, left, ceilings, state)
    if word == "done":
        return Eta(state="done", finish=now_s, seconds=0.0, low_s=0.0, high_s=0.0, confidence=CONFIDENCE)
    if word is not None or left is None:
        return Eta(state=word or "measuring")
    if _all_deferred(work):
        return _eta(work, 0.0, 0.0, 0.0, now_s)
    if measured is None:
        return Eta(state="measuring")
    if measured.idle_s > _stalled_after_s(ceilings):
        return Eta(state="stalled")
    if measured.service_recipients_per_s <= 0:
        return Eta(state="measuring")
    ceiling = ceilings.as_recipients_per_s(measured.recipients_per_message)
    return _at_rate(work, left, measured, ceiling, now_s)


def what_if(
    work: Work, measured: Measured | None, at_recipients_per_s: float, now_s: float, state: ServiceState = "draining"
) -> Eta:
    """When it would end if recipients were serviced at that rate from now on; arrivals as they are.

    state  only "starting" matters: an operator who asks this of a paused service means "if I let it go on"
    """
    left = amount(work)
    asked = Ceilings(recipients_per_s=at_recipients_per_s)
    word = _word_before_rates(work, left, asked, "starting" if state == "starting" else "draining")
    if word is not None or left is None:
        return drain_time(work, measured, asked, "starting" if state == "starting" else "draining", now_s)
    if _all_deferred(work):
        return _eta(work, 0.0, 0.0, 0.0, now_s)
    seen = measured or Measured(0.0, 0.0, 0.0, 0.0, 0.0, math.inf, 0.0)
    exact = replace(seen, service_recipients_per_s=at_recipients_per_s, service_variance=0.0)
    return _at_rate(work, left, exact, at_recipients_per_s, now_s)


def needed_rate(work: Work, measured: Measured | None, within_s: float) -> float | None:
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
    return left.recipients / within_s + (measured.arrival_recipients_per_s if measured else 0.0)


def _word_before_rates(work: Work, left: Amount | None, ceilings: Ceilings, state: ServiceState) -> EtaState | None:
    """The word that holds whatever the rates are, if one does."""
    if state == "starting" or (state == "scanning" and left is not None and left.recipients <= 0):
        return "measuring"
    if left is not None and left.recipients <= 0 and not work.unread_entries:
        return "paused" if work.paused_recipients else "done"
    if ceilings.are_zero:
        return "paused"
    return _STANDSTILL.get(state)


def _all_deferred(work: Work) -> bool:
    return not work.unread_entries and work.deferred_recipients >= work.recipients


def _stalled_after_s(ceilings: Ceilings) -> float:
    """A limit of one message a minute leaves minutes without one; that is no stall."""
    slowest = min((limit for limit in (ceilings.messages_per_s, ceilings.recipients_per_s) if limit), default=None)
    return STALLED_AFTER_S if slowest is None else max(STALLED_AFTER_S, _STALLED_AFTER_TURNS / slowest)


def _at_rate(work: Work, left: Amount, measured: Measured, ceiling: float | None, now_s: float) -> Eta:
    service = measured.service_recipients_per_s
    if ceiling is not None:
        service = min(service, ceiling)
    net = service - measured.arrival_recipients_per_s
    deviation = math.sqrt(measured.service_variance + measured.arrival_variance)
    if net <= 0 or deviation > _WIDEST * net:
        return Eta(state="growing" if measured.arrival_recipients_per_s >= service / 2 else "measuring")
    if left.recipients <= 0:
        return Eta(state="measuring")
    seconds = left.recipients / net
    drift = min(_DRIFT_AT_MOST, _DRIFT * math.sqrt(seconds / measured.feeding_s))
    # The rates still to come scatter about their mean as those seen did: the shorter the time left, the more.
    to_come = 1 + measured.worth_s / max(1.0, seconds)
    spread = math.sqrt(to_come * (deviation / net) ** 2 + (left.deviation / left.recipients) ** 2 + drift**2)
    # On a ratio scale: a rate that may be half may as well be double, and no interval reaches below zero.
    factor = math.exp(min(_Z * spread, 50.0))
    low_s = seconds / factor
    if ceiling is not None:
        fewest = max(float(work.recipients), left.recipients - _Z * left.deviation)
        low_s = max(low_s, fewest / ceiling)
    return _eta(work, seconds, low_s, seconds * factor, now_s)


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
        low_s=min(seconds, max(low_s, due_s)),
        high_s=max(seconds, high_s, again_s),
        confidence=CONFIDENCE,
    )
