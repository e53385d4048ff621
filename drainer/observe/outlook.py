"""The work left, and when it ends, as the pipeline stands now.

In    the index's totals, what the feed has learnt about transactions, limits, the ledger's counters
Out   the backlog, and a Drain to be asked for its finish time
Not here  how the finish time is computed (estimate/); the snapshot (situation.py)
"""

from __future__ import annotations

import dataclasses

from drainer.backlog.values import BacklogTotals
from drainer.backlog.work import Expected, Work, amount, expected_by_list, without_unserved
from drainer.clock import Clock
from drainer.destinations.limits import domains_of
from drainer.estimate.ahead import LONGEST_S, Ahead, CapAhead
from drainer.estimate.ceilings import Ceilings, slowest_domain_s
from drainer.estimate.eta import ServiceState
from drainer.estimate.forecaster import Forecaster, Left
from drainer.estimate.per_list import ListLeft
from drainer.estimate.rates import Counts, RateSeries
from drainer.ledger.records import Totals
from drainer.observe.finish import Drain
from drainer.pipeline import Pipeline
from drainer.queuedir.loan import Loan
from drainer.settings import Settings


class Outlook:
    """Call `observe` every second or so: the more often, the sooner it sees a change of pace."""

    def __init__(self, settings: Settings, clock: Clock, pipeline: Pipeline, loan: Loan) -> None:
        self.settings = settings
        self._clock = clock
        self._pipeline = pipeline
        self._loan = loan
        self._rates = RateSeries()
        self._forecaster = Forecaster()
        self._latest: tuple[Counts, Left, Ceilings] | None = None

    def reconfigure(self, settings: Settings) -> None:
        """Settings read again."""
        self.settings = settings

    def backlog(self) -> BacklogTotals:
        """The index's totals, and the entries that the first listing has still to take, or had no room for.

        Entries held because they cannot be read do not count as unread: they stay so until an operator acts.
        """
        totals, outside = self._pipeline.resources.index.totals.overall(), self._pipeline.progress.outside
        to_read = totals.unread_entries - len(self._pipeline.facts.left_unread())
        totals = dataclasses.replace(totals, unread_entries=to_read)
        if unlisted := len(self._loan.entries()) + self._pipeline.progress.on_the_way:
            outside = dataclasses.replace(outside, entries=outside.entries + unlisted)
        if not outside.entries:
            return totals
        oldest = [when_s for when_s in (totals.oldest_s, outside.oldest_s) if when_s is not None]
        return dataclasses.replace(
            totals,
            entries=totals.entries + outside.entries,
            unread_entries=totals.unread_entries + outside.entries,
            bytes=totals.bytes + outside.bytes,
            oldest_s=min(oldest, default=None),
        )

    def observe(self, totals: Totals, state: ServiceState) -> None:
        """Give the rates and the estimate the counters as they are now."""
        backlog, expected = self.backlog(), self._expected()
        counts, work = self._counts(totals, state, backlog, expected[0]), self._work_left(backlog, expected)
        left = amount(work)
        of = Left(None, work.recipients) if left is None else Left(left.messages or None, left.recipients, left.octets)
        self._latest = counts, of, self._ceilings()
        self._take_latest()

    def nothing_has_changed(self) -> None:
        """Since the last `observe`, which stands until now."""
        if self._latest is not None:
            counts, of, ceilings = self._latest
            self._latest = dataclasses.replace(counts, at_s=self._clock.monotonic_s()), of, ceilings
            self._take_latest()

    def _take_latest(self) -> None:
        assert self._latest is not None
        counts, of, ceilings = self._latest
        self._rates.observe(counts)
        self._forecaster.observe(counts, of, ceilings)

    def _counts(self, totals: Totals, state: ServiceState, backlog: BacklogTotals, going: Expected) -> Counts:
        delivered = totals.get("delivered_recipients") + totals.get("bounced_recipients")
        return Counts(
            at_s=self._clock.monotonic_s(),
            serviced_recipients=delivered,
            # Mailman's runner delivers whole entries: only these can be counted.
            serviced_messages=totals.get("delivered_entries" if self.via_mailman else "transactions"),
            arrived_recipients=self._pipeline.progress.arrived_recipients,
            feeding=state in ("draining", "scanning", "idle"),
            nothing_due=self._is_nothing_due(backlog, going),
            serviced_octets=self._pipeline.transmit.splits.octets,
        )

    def _is_nothing_due(self, totals: BacklogTotals, going: Expected) -> bool:
        """Every waiting entry is held, paused, deferred until later, or waits for the ceiling of a domain; or a window or a
        cap lets nothing go now."""
        if self._pipeline.resources.rate.waits:
            return True
        return not (totals.unread_entries or totals.active_entries) and (
            going.recipients <= going.deferred_recipients + going.parked_recipients
        )

    @property
    def via_mailman(self) -> bool:
        return self.settings.feed.via == "mailman"

    def _expected(self) -> tuple[Expected, Expected, float]:
        """Still to be sent to: on open lists, on paused ones; and the recipients that are not served."""
        resources = self._pipeline.resources
        # A resend waits to be held or suppressed; those that an operator released are few, and soon gone.
        by_list = expected_by_list(
            resources.index.totals.to_send(),
            self._pipeline.transmit.splits,
            with_resends=self.settings.duplicates.resend == "deliver",
            whole=self.via_mailman,
        )
        unserved, gate = resources.named_lists.unserved, resources.gate
        going, paused, left_out = Expected(), Expected(), 0.0
        for name, one in by_list.items():
            if name in unserved:
                left_out += one.recipients
            elif name in gate.paused_lists:
                paused += one
            else:
                going += one
        in_domains = self._in_unserved_domains(going)
        waiting = sum(self._pipeline.domains.waiting_unserved().values())
        entries = sum(line.entries for line in resources.index.totals.per_list()) if in_domains else 0
        return without_unserved(going, in_domains, entries - waiting), paused, left_out + in_domains

    def _in_unserved_domains(self, going: Expected) -> float:
        """Recipients on open lists in domains that are not served, as far as they are counted."""
        served = self._pipeline.domains.limits.served
        if not served.otherwise:
            return 0.0
        if served.only:
            return max(0.0, going.recipients - sum(map(self._in_domain, served.only - served.withheld)))
        return min(going.recipients, sum(map(self._in_domain, served.withheld)))

    def _in_domain(self, domain: str) -> float:
        resources, with_resends = self._pipeline.resources, self.settings.duplicates.resend == "deliver"
        return float(resources.index.totals.in_domain(domain, with_resends, resources.gate.closed_lists))

    def _work_left(self, totals: BacklogTotals, expected: tuple[Expected, Expected, float]) -> Work:
        going, paused, unserved = expected
        latest = self._pipeline.resources.index.order.last_due_s()
        last_due_in_s = 0.0 if latest is None else max(0.0, latest - self._clock.now_s())
        return Work(
            recipients=round(going.recipients),
            deferred_recipients=round(going.deferred_recipients),
            last_due_in_s=last_due_in_s,
            retry_wait_s=self.settings.feed.retry_first,
            paused_recipients=round(paused.recipients),
            unread_entries=totals.unread_entries,
            sizes=self._pipeline.progress.sizes,
            messages=going.messages,
            octets=going.octets,
            paused_messages=paused.messages,
            paused_octets=paused.octets,
            unserved_recipients=round(unserved),
        )

    def _ceilings(self) -> Ceilings:
        earliest_s = max(map(self._least_s, self._pipeline.domains.in_force), default=0.0)
        rate = self._pipeline.resources.rate
        return Ceilings(rate.messages_per_s, rate.recipients_per_s, earliest_s, self._ahead())

    def _least_s(self, destination: str) -> float:
        """Seconds that its ceiling needs at least for what is left of it, a pause that ends by itself included."""
        left = self._left_for(destination)
        if not left:
            return 0.0
        paused_s, per_s = self._pipeline.domains.from_now_on(destination)
        return paused_s + slowest_domain_s([(left, per_s)])

    def _ahead(self) -> Ahead:
        """Windows and caps from now on."""
        schedule, now_s = self._pipeline.resources.rate.schedule, self._clock.now_s()
        windows: tuple[tuple[float, float | None], ...] = ()
        if schedule.has_windows and not schedule.is_overruled:
            coming = schedule.coming(now_s, LONGEST_S)
            later = (
                (change.at_s - now_s, schedule.per_s_in(change.window)) for change in coming if change.at_s > now_s
            )
            windows = ((0.0, schedule.messages_per_s), *later)
        caps = (
            CapAhead(cap.most, cap.window_s, cap.leaving, cap.used - sum(number for _, number in cap.leaving))
            for cap in self._pipeline.resources.throttle.caps
        )
        return Ahead(windows, tuple(caps))

    def _left_for(self, destination: str) -> float:
        """Recipients on open lists that are still to be sent to in a destination, as far as they are counted."""
        served = self._pipeline.domains.limits.served
        return sum(map(self._in_domain, filter(served.has, domains_of(destination, self.settings.feed.domain_groups))))

    def drain(self, totals: BacklogTotals, state: ServiceState, now_s: float) -> Drain:
        feed, resources = self.settings.feed, self._pipeline.resources
        return Drain(
            work=self._work_left(totals, self._expected()),
            seen=self._forecaster,
            measured=self._rates.measured(),
            ceilings=self._ceilings(),
            state=state,
            now_s=now_s,
            lists={
                line.list_id: ListLeft(
                    line.entries,
                    line.recipients,
                    line.deferred_recipients,
                    0.0 if line.last_due_s is None else line.last_due_s - now_s,
                )
                for line in resources.index.totals.per_list()
                if line.entries
            },
            paused_lists=resources.gate.paused_lists,
            unserved_lists=frozenset(resources.named_lists.unserved),
            order=feed.order,
            priority=resources.named_lists.priority,
            weights=resources.named_lists.weights,
            has_fresh_lane=feed.has_fresh_lane,
        )
