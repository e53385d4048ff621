"""A forecast before the drain begins, from the speed of Mailman's own deliveries so far.

In    deliveries from Mailman's smtp log: recipients, and the seconds they took
Out   Eta for a backlog
Pure  values only; reading the log is mta_log/mailman_smtp_log.py's

Only the time spent delivering counts: a quiet list server is not a slow one. Mailman delivers one message at a time; we feed
the MTA over several sessions, and `sessions` says how much faster that is.
"""

from __future__ import annotations

from collections.abc import Iterable

from drainer.estimate.ahead import Ahead
from drainer.estimate.arrivals import Arrivals
from drainer.estimate.ceilings import Ceilings
from drainer.estimate.completion import DrainModel, completion
from drainer.estimate.drain_time import CONFIDENCE
from drainer.estimate.eta import Eta
from drainer.estimate.interruptions import Interruptions
from drainer.estimate.mixture import Units
from drainer.estimate.scheduled_work import Schedule
from drainer.estimate.service_rate import ServiceRate
from drainer.mta_log.mailman_smtp_log import PastDelivery

_SHORTEST_S = 0.001
_FEWEST = 20
"""Deliveries; from fewer, no rate is computed."""


def forecast_from_log(
    past: Iterable[PastDelivery],
    entries: int,
    recipients: int,
    now_s: float,
    ceilings: Ceilings | None = None,
    sessions: float = 1.0,
) -> Eta:
    """When a backlog would be drained if the drain began now.

    past      oldest first
    sessions  how many times faster than one delivery after the other, > 0
    Returns   "measuring" if the log holds too few deliveries, "paused" under a limit of zero, "done" if nothing is left
    """
    if recipients <= 0:
        return Eta(state="done", finish=now_s, seconds=0.0, low_s=0.0, high_s=0.0, confidence=CONFIDENCE)
    ceilings = ceilings or Ceilings()
    if ceilings.are_zero:
        return Eta(state="paused")
    service_rate, interruptions = ServiceRate(), Interruptions()
    deliveries = sent = 0
    worked_s = 0.0
    for one in past:
        took_s = max(_SHORTEST_S, one.took_s) / sessions
        deliveries += 1
        sent += one.recipients
        worked_s += took_s
        left_s = recipients * worked_s / max(1, sent)
        service_rate.observe(took_s, Units(1, one.recipients), Units(max(1, entries), recipients), left_s)
        interruptions.worked(took_s)
    forecast = service_rate.forecast()
    if forecast is None or deliveries < _FEWEST:
        return Eta(state="measuring")
    work = service_rate.work(Units(entries, recipients))
    lost = interruptions.lost(work / forecast.rate)
    limit = ceilings.work_per_s(work, entries, recipients)
    ahead, schedule = ceilings.ahead_in_work(work, entries, recipients), None
    if ahead:
        # Mailman's log was written without our limits: its rate is that of the MTA.
        schedule = Schedule(Ahead(ahead.windows or ((0.0, limit),), ahead.caps), work, None, None)
    found = completion(DrainModel(work, 0.0, forecast, Arrivals().expected, lost, limit, schedule=schedule))
    return Eta(
        state="draining",
        finish=now_s + found.seconds,
        seconds=found.seconds,
        low_s=found.low_s,
        high_s=found.high_s,
        confidence=CONFIDENCE,
    )
