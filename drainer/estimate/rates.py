"""The rates that are shown: how fast recipients and messages are settled and arrive, smoothed, with their uncertainty.

In    cumulative counts, one observation every second or so
Out   Measured: service rate and arrival rate with their variances; None while too little was observed
Pure  the observer brings the monotonic time

Time in which feeding is not allowed (paused, a guard, no MTA) does not lower the service rate. The rate answers "how fast
while we may send"; drain_time.py has a word for the time in which we may not.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

HORIZON_S = 60.0
"""Age at which an observation weighs 1/e. Long compared with one transaction of some hundred recipients, short compared with
the hours of a drain."""

MEASURED_AFTER_S = 5.0
_BIN_S = 1.0
_KEPT_S = 10 * HORIZON_S
_BATCHES = 10
_FASTEST_OVER_S = 10.0
_SUSTAINED_OVER_S = 300.0


@dataclass(frozen=True, slots=True)
class Counts:
    """Cumulative counts at `at_s`, from any fixed beginning.

    at_s                 monotonic seconds
    serviced_recipients  settled by work: delivered or bounced; suppressed ones took no work
    serviced_messages    transactions that this took
    arrived_recipients   of entries that came after the drain began; those of the first scan are no arrivals
    feeding              whether sending was allowed since the observation before
    nothing_due          nothing could be sent: there was no backlog, or none of it was due
    serviced_octets      that the transactions carried, an entry's size each; 0 in all observations: not known
    """

    at_s: float
    serviced_recipients: int
    serviced_messages: int
    arrived_recipients: int = 0
    feeding: bool = True
    nothing_due: bool = False
    serviced_octets: int = 0


@dataclass(frozen=True, slots=True)
class Measured:
    """Smoothed rates per second, each with the variance of that mean (the standard error squared).

    feeding_s   seconds of feeding that were observed
    worth_s     seconds after which an unweighted mean would be as certain; about two horizons once these have passed
    idle_s      seconds of feeding since a recipient was last settled
    fastest_recipients_per_s    over the best ten seconds since the beginning
    sustained_recipients_per_s  over the best five minutes; None before five minutes have passed
    """

    service_recipients_per_s: float
    service_messages_per_s: float
    service_variance: float
    arrival_recipients_per_s: float
    arrival_variance: float
    feeding_s: float
    idle_s: float
    worth_s: float = 2 * HORIZON_S
    fastest_recipients_per_s: float | None = None
    sustained_recipients_per_s: float | None = None

    @property
    def recipients_per_message(self) -> float | None:
        if self.service_messages_per_s <= 0:
            return None
        return self.service_recipients_per_s / self.service_messages_per_s


@dataclass(slots=True)
class _Bin:
    seconds: float = 0.0
    feeding_s: float = 0.0
    recipients: int = 0
    messages: int = 0
    arrived: int = 0


class RateSeries:
    """Observations of the last ten horizons, in bins of about a second. Memory is bounded."""

    def __init__(self, horizon_s: float = HORIZON_S) -> None:
        self._horizon_s = horizon_s
        self._bins: deque[_Bin] = deque(maxlen=math.ceil(_KEPT_S / HORIZON_S * horizon_s / _BIN_S))
        self._before: Counts | None = None
        self._idle_s = 0.0
        self._fastest: float | None = None
        self._sustained: float | None = None
        self._measured: tuple[Measured | None] | None = None

    def observe(self, counts: Counts) -> None:
        """Add an observation. If it is not later than the one before, it is ignored, and the next one covers its time."""
        before = self._before
        if before is not None and counts.at_s <= before.at_s:
            return
        self._before = counts
        self._measured = None
        if before is None:
            return
        if not self._bins or self._bins[-1].seconds >= _BIN_S:
            self._bins.append(_Bin())
        last = self._bins[-1]
        seconds = counts.at_s - before.at_s
        settled = max(0, counts.serviced_recipients - before.serviced_recipients)
        last.seconds += seconds
        last.recipients += settled
        last.messages += max(0, counts.serviced_messages - before.serviced_messages)
        last.arrived += max(0, counts.arrived_recipients - before.arrived_recipients)
        if counts.feeding:
            last.feeding_s += seconds
        self._idle_s = 0.0 if settled else self._idle_s + (seconds if counts.feeding else 0.0)
        if settled or self._fastest is None or self._sustained is None:
            self._note_fastest()  # otherwise no span that ends now can be faster than one that ended before

    def restart(self) -> None:
        """Forget the service rate after a change that makes it useless (a new limit, another MTA)."""
        self._bins.clear()
        self._idle_s = 0.0
        self._measured = None

    def measured(self) -> Measured | None:
        """The rates now; None before MEASURED_AFTER_S of feeding. Computed once between two observations."""
        if self._measured is None:
            self._measured = (self._smoothed(),)
        return self._measured[0]

    def _smoothed(self) -> Measured | None:
        feeding_s = sum(one.feeding_s for one in self._bins)
        if feeding_s < MEASURED_AFTER_S:
            return None
        newest_first = list(reversed(self._bins))
        fed = [one for one in newest_first if one.feeding_s > 0]
        per_batch_s = max(_BIN_S, min(feeding_s, self._horizon_s) / _BATCHES)
        service, variance = smoothed(
            batched(((one.feeding_s, one.recipients) for one in fed), per_batch_s), self._horizon_s
        )
        messages, _ = smoothed(batched(((one.feeding_s, one.messages) for one in fed), per_batch_s), self._horizon_s)
        arrivals, arrival_variance = smoothed(
            batched(((one.seconds, one.arrived) for one in newest_first), per_batch_s), self._horizon_s
        )
        return Measured(
            service_recipients_per_s=service,
            service_messages_per_s=messages,
            service_variance=variance,
            arrival_recipients_per_s=arrivals,
            arrival_variance=arrival_variance,
            feeding_s=feeding_s,
            idle_s=self._idle_s,
            worth_s=min(feeding_s, 2 * self._horizon_s),
            fastest_recipients_per_s=self._fastest,
            sustained_recipients_per_s=self._sustained,
        )

    def _note_fastest(self) -> None:
        seconds, recipients = 0.0, 0
        fastest_is_known = False
        for one in reversed(self._bins):
            seconds += one.seconds
            recipients += one.recipients
            if seconds >= _FASTEST_OVER_S and not fastest_is_known:
                self._fastest = max(self._fastest or 0.0, recipients / seconds)
                fastest_is_known = True
            if seconds >= _SUSTAINED_OVER_S:
                self._sustained = max(self._sustained or 0.0, recipients / seconds)
                return


def batched(bins: Iterable[tuple[float, int]], at_least_s: float) -> list[tuple[float, int]]:
    """Neighbouring (seconds, amount) added up to batches of at least `at_least_s`; a shorter rest joins the last batch.

    One transaction settles hundreds of recipients at once, so neighbouring seconds are correlated, and their scatter
    understates the uncertainty of the mean. Longer batches understate it less.
    """
    batches: list[tuple[float, int]] = []
    seconds, amount = 0.0, 0
    for more_s, more in bins:
        seconds, amount = seconds + more_s, amount + more
        if seconds >= at_least_s:
            batches.append((seconds, amount))
            seconds, amount = 0.0, 0
    if seconds and batches:
        batches[-1] = (batches[-1][0] + seconds, batches[-1][1] + amount)
    elif seconds:
        batches.append((seconds, amount))
    return batches


def smoothed(newest_first: Sequence[tuple[float, int]], horizon_s: float) -> tuple[float, float]:
    """Mean rate and its variance, each batch weighing exp(-age / horizon_s).

    newest_first  (seconds > 0, amount) of neighbouring spans
    Returns  (per second, variance of that mean); of a single batch, whose variance is unknown, the rate squared
    """
    if not newest_first:
        return 0.0, 0.0
    # The newest batch always weighs its seconds. Otherwise all weights would vanish after hours without an observation.
    weights, rates, age_s = [], [], -newest_first[0][0] / 2
    for seconds, amount in newest_first:
        weights.append(seconds * math.exp(-(age_s + seconds / 2) / horizon_s))
        rates.append(amount / seconds)
        age_s += seconds
    total = sum(weights)
    mean = sum(weight * rate for weight, rate in zip(weights, rates, strict=True)) / total
    effective = total**2 / sum(weight**2 for weight in weights)
    if effective < 1.5:
        return mean, mean**2
    scatter = sum((weight * (rate - mean)) ** 2 for weight, rate in zip(weights, rates, strict=True)) / total**2
    return mean, scatter * effective / (effective - 1)
