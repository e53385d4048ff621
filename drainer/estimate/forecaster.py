"""What was observed of a drain so far, and the model of its end. The service and the back-test share this core.

In    cumulative counts, one observation per interval, with the work left and the ceilings at that moment
Out   a DrainModel (completion.py) for any work left; whether the present gap is unusually long
Pure  the observer brings the monotonic time; only sums and filters are kept, so memory does not grow

Rates are smoothed here. The estimate made from them is never smoothed: after a change it would show the past. A gap in which
nothing was settled is either one long transaction or an interruption. It is an interruption if, at the usual rate, far more
work would have been done in the gap than was settled right after it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from drainer.estimate.ahead import LIFTED_OFF, RAISED_OFF, Ahead
from drainer.estimate.arrivals import Arrivals
from drainer.estimate.ceilings import Ceilings
from drainer.estimate.completion import Completion, DrainModel, Expected, completion
from drainer.estimate.interruptions import Interruptions, LostTime
from drainer.estimate.mixture import NOTHING, Units
from drainer.estimate.rates import Counts
from drainer.estimate.scheduled_work import Schedule
from drainer.estimate.service_rate import RateForecast, Scenario, ServiceRate

STALLED_AFTER_S = 30.0
_INTERRUPTED_AFTER_S = 5.0
"""A gap at least this long can count as an interruption once it is over, even if it is too short to be a stall."""
_MISSED_MESSAGES = 8.0
"""If fewer messages than this were missed in a gap, the gap may be chance."""
_HOLE = 10.0
"""A span this many times the usual length is a hole, if little was done in it."""
_LARGEST_COUNTS = 0.02
"""A gap may be one huge transaction, of at most this part of what was settled so far."""
_FORGOTTEN_AFTER_S = 600.0
"""After this long without a backlog, the next backlog is a new drain."""
_NEARLY = 0.9
"""If a limit accounts for more than this part of the time left, it is the limit that held the rate down."""
_LOWERED_OFF, _SEEN_OFF = 0.03, 0.15
"""Relative standard deviation of the rate after a limit is lowered, or removed where it was seen without one."""
_FREE_OVER_S = 300.0
_PARTS_OF_CAP = 10
"""A cap with less room than this part of it is as good as used up."""
_RATE_AT_FIRST = 5.0
"""Recipients per second, where none was sent in this run."""
_DOUBT = 0.6
"""DrainModel.doubt. No site lives long with more mail coming in than going out, so we believe less than the arithmetic says
that arrivals keep a drain from ending. With 0, the forecasts of simulated drains with many arrivals were too late."""
_LEAST_NET = 0.25


@dataclass(frozen=True, slots=True)
class Left:
    """The work still to do.

    messages  transactions; None: in proportion to the recipients
    octets    that these carry; 0: not known
    """

    messages: float | None
    recipients: float
    octets: float = 0.0


class Forecaster:
    """`observe` each interval; `model` gives the model of the drain now."""

    def __init__(self) -> None:
        self._before: Counts | None = None
        self._ceilings: Ceilings | None = None
        self._last: tuple[Ahead, Ceilings, float, Schedule] | None = None
        self._forecast: RateForecast | None = None
        self._completed: list[tuple[DrainModel, Completion]] = []
        self._begin()

    def _begin(self) -> None:
        self._service_rate = ServiceRate()
        self._arrivals = Arrivals()
        self._interruptions = Interruptions()
        self._worked_s = self._idle_s = self._halted_s = self._empty_s = 0.0
        self._done = NOTHING
        self._largest = 0.0
        self._free_per_s: float | None = None
        self._spans = 0
        self._span_s = 0.0

    def observe(self, counts: Counts, left: Left, ceilings: Ceilings) -> None:
        """Add an observation, with the work left and the limits in force at that moment.

        An observation that is not later than the one before is ignored; the next one covers its time.
        """
        before = self._before
        if before is not None and counts.at_s <= before.at_s:
            return
        self._before = counts
        self._follow(ceilings, left)
        self._forget_forecast()
        if before is None:
            return
        seconds = self._span_s = counts.at_s - before.at_s
        recipients = max(0, counts.serviced_recipients - before.serviced_recipients)
        messages = max(0, counts.serviced_messages - before.serviced_messages)
        octets = max(0, counts.serviced_octets - before.serviced_octets)
        each = left.recipients / left.messages if left.messages else self.recipients_per_message or 1.0
        arrived = max(0, counts.arrived_recipients - before.arrived_recipients)
        served_per_s = self._done.recipients / self._worked_s if self._worked_s else 0.0
        self._arrivals.observe(seconds, arrived, max(1.0, each), served_per_s)
        if counts.nothing_due and not recipients:
            self._rest(seconds, left)
        elif not counts.feeding and not recipients:
            self._halted_s += seconds
        elif not recipients:
            self._idle_s += seconds
        else:
            self._work(seconds, Units(messages, recipients, octets), left)

    @property
    def idle_s(self) -> float:
        """Seconds of feeding since a recipient was last settled."""
        return self._idle_s

    @property
    def has_worked(self) -> bool:
        return self._worked_s > 0

    @property
    def is_gap_unusual(self) -> bool:
        """Whether the idle time is longer than chance or one huge transaction explains."""
        if not self._worked_s:
            return False
        missed = self._idle_s / self._worked_s
        largest = min(self._largest, _LARGEST_COUNTS * self._done.recipients)
        return missed * self._done.messages >= _MISSED_MESSAGES and missed * self._done.recipients >= largest

    @property
    def forecast(self) -> RateForecast | None:
        """None while too little was observed. The same object until something is observed again."""
        if self._forecast is None:
            self._forecast = self._service_rate.forecast()
        return self._forecast

    def completion(self, model: DrainModel) -> Completion:
        """As completion(model). Computed once for all that ask between two observations: status, page and metrics may be
        asked many times a second, and each list needs the completion of a part of the work."""
        for nearly, found in self._completed:
            if model.is_nearly(nearly):
                return found.times(model.left / nearly.left)
        found = completion(model)
        if model.forecast is self._forecast:
            self._completed.append((model, found))
        return found

    def _forget_forecast(self) -> None:
        self._forecast, self._completed = None, []

    @property
    def recipients_per_message(self) -> float | None:
        """In all transactions so far; None before the first."""
        return self._done.recipients / self._done.messages if self._done.messages else None

    @property
    def noticed_after_s(self) -> float:
        """How late, on average, an observer with this interval notices the end."""
        return self._span_s / 2

    def arriving(self, seconds: float) -> tuple[float, float]:
        """Mean and variance of the recipients that arrive in the next `seconds` (> 0)."""
        return self._arrivals.expected(seconds)

    def model(
        self, left: Left, deviation: float, ceilings: Ceilings, at: RateForecast | None = None
    ) -> DrainModel | None:
        """The model of the drain from now on; None while too little was observed.

        left       more than nothing
        deviation  standard deviation of left.recipients
        at         another forecast, in recipients per second, to use in place of the observed rate, without ceilings and
                   interruptions; caps hold all the same
        """
        if at is not None:
            caps = ceilings.ahead.only_caps
            schedule = Schedule(caps, left.recipients, None, None) if caps else None
            return DrainModel(left.recipients, deviation, at, self.arriving, LostTime(), schedule=schedule)
        units = self._units(left)
        work = self._service_rate.work(units)
        forecast = self.forecast or self._of_cap(work / units.recipients, ceilings)
        if forecast is None:
            return None
        least_s = ceilings.least_s(units.messages, units.recipients)
        return DrainModel(
            work,
            deviation * self._service_rate.recipient_share,
            forecast,
            # Arrivals are known in recipients only.
            _scaled(self.arriving, work / left.recipients),
            self._interruptions.lost(work / forecast.rate),
            work / least_s if least_s else None,
            _DOUBT,
            self._schedule_of(work, units, ceilings) if ceilings.ahead else None,
        )

    def _schedule_of(self, work: float, units: Units, ceilings: Ceilings) -> Schedule:
        """The last one, if nothing has changed: a snapshot asks for several models of one moment."""
        if self._last is None or self._last[0] is not ceilings.ahead or self._last[1:3] != (ceilings, work):
            ahead = ceilings.ahead_in_work(work, units.messages, units.recipients)
            limit = ceilings.work_per_s(work, units.messages, units.recipients)
            free = self._free_per_s * work / units.recipients if self._free_per_s else None
            self._last = (ceilings.ahead, ceilings, work, Schedule(ahead, work, limit, free))
        return self._last[3]

    def _work(self, seconds: float, done: Units, left: Left) -> None:
        if self._halted_s:
            self._interruptions.interrupted(self._halted_s)
            self._halted_s = 0.0
        self._empty_s = 0.0
        if not self._worked_s:
            self._idle_s = 0.0  # Reading the queue and opening sessions was no work, and does not happen again.
        worth_s = done.recipients * self._worked_s / self._done.recipients if self._done.recipients else 0.0
        if self._idle_s >= _INTERRUPTED_AFTER_S and self.is_gap_unusual and worth_s < self._idle_s / 2:
            self._interruptions.interrupted(self._idle_s)
        elif self._is_hole(seconds, worth_s):
            self._interruptions.interrupted(seconds - worth_s)
            seconds = worth_s
        else:
            seconds += self._idle_s
        self._idle_s = 0.0
        self._learn_free(seconds, done)
        self._worked_s += seconds
        self._spans += 1
        self._interruptions.worked(seconds)
        self._done += done
        self._largest = max(self._largest, done.recipients / max(1.0, done.messages))
        self._service_rate.observe(seconds, done, self._done + self._units(left), self._left_s(left))

    def _of_cap(self, worth: float, ceilings: Ceilings) -> RateForecast | None:
        """Where a cap is used up before the rate is measured, the cap decides when the drain ends, and the rate hardly
        matters. worth: work per recipient."""
        if not any(cap.room < cap.most / _PARTS_OF_CAP for cap in ceilings.ahead.caps):
            return None
        per_s = self._done.recipients / self._worked_s if self._worked_s else _RATE_AT_FIRST
        rate = per_s * worth
        return RateForecast((Scenario(1.0, rate, rate_variance=(LIFTED_OFF * rate) ** 2),), 0.0)

    def _learn_free(self, seconds: float, done: Units) -> None:
        """The rate where no limit holds it down, in recipients per second: what a window without a limit will give."""
        ceilings = self._ceilings
        if ceilings is None or seconds <= 0 or ceilings.least_s(done.messages, done.recipients) > _NEARLY * seconds:
            return
        per_s, weight = done.recipients / seconds, 1 - math.exp(-seconds / _FREE_OVER_S)
        self._free_per_s = per_s if self._free_per_s is None else self._free_per_s + weight * (per_s - self._free_per_s)

    def _is_hole(self, seconds: float, worth_s: float) -> bool:
        """Whether the span is far too long for what was done in it: the host slept, or a trace lacks rows."""
        usual_s = self._worked_s / self._spans if self._spans else seconds
        missed = seconds / self._worked_s * self._done.messages if self._worked_s else 0.0
        return seconds > _HOLE * usual_s and 0 < worth_s < seconds / 2 and missed >= _MISSED_MESSAGES

    def _units(self, left: Left) -> Units:
        """The work left in all units. A unit that is not known is taken in proportion to the work done."""
        messages = left.messages
        if messages is None:
            messages = left.recipients * self._done.messages / self._done.recipients if self._done.recipients else 0.0
        # While Mailman's runner delivers, octets are known of the work left only, and cannot be compared with work done.
        return Units(messages, left.recipients, left.octets if self._done.octets else 0.0)

    def _left_s(self, left: Left) -> float:
        """Seconds that the work left takes, roughly."""
        rate = self._service_rate.rate
        if rate is None:
            return left.recipients * self._worked_s / self._done.recipients
        net = max(rate - self._arrivals.per_s, _LEAST_NET * rate)
        return self._service_rate.work(self._units(left)) / net

    def _rest(self, seconds: float, left: Left) -> None:
        self._empty_s += seconds
        if self._empty_s >= _FORGOTTEN_AFTER_S and left.recipients <= 0 and self._worked_s:
            self._begin()

    def _follow(self, ceilings: Ceilings, left: Left) -> None:
        """After a change of a limit, the new limit says more about the rate than the measurements before."""
        before = self._ceilings
        if before is not None and ceilings.ahead and ceilings.are_zero_now and not ceilings.are_zero:
            return  # A window that sends nothing says nothing about the rate of the next one.
        self._ceilings = ceilings
        if before is None or before == ceilings:
            return
        forecast = self._service_rate.forecast()
        if forecast is None:
            return
        units = self._units(left)
        old_s, new_s = (one.least_s(units.messages, units.recipients) for one in (before, ceilings))
        left_s = self._service_rate.work(units) / forecast.rate
        if old_s == new_s or math.isinf(new_s):
            return
        if math.isfinite(old_s) and left_s * _NEARLY < old_s:
            if new_s == 0 and self._free_per_s:
                worth = self._service_rate.work(units) / units.recipients
                self._service_rate.scale(max(1.0, self._free_per_s * worth / forecast.rate), _SEEN_OFF)
            elif new_s == 0:
                self._service_rate.scale(1.0, LIFTED_OFF)
            else:
                self._service_rate.scale(old_s / new_s, RAISED_OFF if new_s < old_s else _LOWERED_OFF)
        elif new_s > left_s:
            self._service_rate.scale(left_s / new_s, _LOWERED_OFF)


def _scaled(expected: Expected, factor: float) -> Expected:
    def scaled(seconds: float) -> tuple[float, float]:
        mean, variance = expected(seconds)
        return mean * factor, variance * factor**2

    return scaled
