"""How things stand at this moment: the state with its reason, and the snapshot for status, page, metrics and report.

In    the pipeline, the host (surroundings.py), the work left (outlook.py), the operator's pauses and rates
Out   Snapshot, Incident, the answer to `drainer eta`
Not here  how it is shown (report/, cli/); how the state is derived (report/service_state.py)
"""

from __future__ import annotations

import dataclasses
import logging
import math
import os
from collections.abc import Collection, Mapping

from drainer import __version__
from drainer.backlog.selection import Selectors
from drainer.backlog.values import BacklogTotals
from drainer.clock import Clock
from drainer.compose.mailman3 import Mailman3Composer
from drainer.control.messages.finish import EtaReply
from drainer.estimate.eta import ServiceState
from drainer.estimate.per_list import ListFinish
from drainer.estimate.rates import Measured
from drainer.feed.binding import DOMAINS, Kind, kind_of, with_sessions
from drainer.guards.mailman import Mailman
from drainer.ledger.records import INTAKE, OperatorState, Totals
from drainer.observe.domains import Domains
from drainer.observe.finish import answer
from drainer.observe.outlook import Outlook
from drainer.observe.schedule import caps_used, window_in_force
from drainer.observe.side_tasks import SideTasks
from drainer.observe.standing import standing
from drainer.observe.surroundings import Surroundings
from drainer.pipeline import Pipeline
from drainer.queuedir.entry import Flavour
from drainer.report.burn_down import observed
from drainer.report.incident.document import LINES, Incident
from drainer.report.incident.facts import make_incident
from drainer.report.inventory import HELD_KEPT, HeldEntry, Inventory, Waiting, known_resends
from drainer.report.record_writer import RecordWriter
from drainer.report.service_state import service_state, state_since_s
from drainer.report.snapshot import Backlog, ListBacklog, Mta, PauseInForce, Rate, Snapshot, Stop, done_of
from drainer.report.words import held_back
from drainer.settings import Settings
from drainer.text.logfmt import logfmt

log = logging.getLogger("drainer")


_NAMED = 5
_DOES_NOTHING = frozenset({"idle", "paused"})
"""States that end only by news."""


class Situation:
    """`look` each second; `snapshot` for each question.

    state     what the service is doing
    operator  the pauses and rates in force
    totals    the ledger's counters when they were last read
    """

    def __init__(
        self,
        settings: Settings,
        clock: Clock,
        pipeline: Pipeline,
        outlook: Outlook,
        surroundings: Surroundings,
        side_tasks: SideTasks,
    ) -> None:
        self.settings = settings
        self.operator = OperatorState()
        self.state: ServiceState = "starting"
        self.totals = Totals()
        self.record_writer = RecordWriter(pipeline.resources.ledger, clock, self.present)
        self._clock = clock
        self._pipeline = pipeline
        self._outlook = outlook
        self._surroundings = surroundings
        self._side_tasks = side_tasks
        self._domains = Domains(pipeline)
        self._reason = ""
        self._since_s = clock.now_s()
        self._before: tuple[ServiceState, float] = (self.state, self._since_s)
        self._in_doubt_recipients = 0
        self._dsns_owed = 0
        self._bound_by: Kind = "nothing"
        self._bound_since_s = self._since_s
        self._needs_restart: tuple[str, ...] = ()
        self._looked_at: tuple[object, ...] | None = None

    def reconfigure(self, settings: Settings, needs_restart: tuple[str, ...]) -> None:
        """Settings read again. needs_restart: names of those that changed in the file and are not in force."""
        self.settings = settings
        self._outlook.reconfigure(settings)
        self._needs_restart = needs_restart

    def follow(self, operator: OperatorState) -> None:
        """Pauses and rates as the operator set them, from now on."""
        self.operator = operator

    def clock_was_set_back(self) -> None:
        self._since_s = min(self._since_s, self._clock.now_s())
        self._bound_since_s = min(self._bound_since_s, self._clock.now_s())

    async def look(self) -> Snapshot:
        """Note what has happened since the last look, for the rates and the estimate."""
        self.totals = await self._pipeline.resources.ledger.totals()
        self._in_doubt_recipients = await self._pipeline.in_doubt.recipients()
        self._dsns_owed = (await self._pipeline.resources.ledger.dsn_backlog()).owed
        self._outlook.observe(self.totals, self.state)
        backlog, mailman = self._outlook.backlog(), self.mailman()
        self._update_state(backlog, mailman)
        self._looked_at = self._standing()
        return self._snapshot(backlog, mailman)

    async def stands_still(self) -> bool:
        """Whether the last look stands: the service does nothing by itself, and nothing has changed since but for the time.
        Much cheaper than a look."""
        if self.state not in _DOES_NOTHING or self._looked_at is None:
            return False
        if await self._pipeline.resources.ledger.totals() != self.totals or self._standing() != self._looked_at:
            return False
        self._outlook.nothing_has_changed()
        return True

    def _standing(self) -> tuple[object, ...]:
        own = self.state, self.operator, self.settings, self._needs_restart
        return own, standing(self._pipeline, self._surroundings, self._side_tasks)

    def _update_state(self, totals: BacklogTotals, mailman: Mailman) -> None:
        resources, surroundings = self._pipeline.resources, self._surroundings
        resources.leave_out_unserved()
        waiting = {line.list_id: line.entries for line in resources.index.totals.per_list() if line.entries}
        paused_lists = [name for name in waiting if name in resources.gate.paused_lists]
        in_unserved_domains = self._pipeline.domains.waiting_unserved()
        state, reason = service_state(
            reasons=resources.gate.reasons,
            intake_on=self._pipeline.intake.is_on,
            listed=self._pipeline.progress.listed,
            entries=totals.entries,
            unread=totals.unread_entries,
            active=self._pipeline.feed.active,
            mta_down=resources.pool.state.reason if resources.pool.state.state == "down" else "",
            dsns_owed=self._dsns_owed,
            intake_reason=next((pause.reason for pause in self.operator.pauses if pause.list_id == INTAKE), ""),
            paused_lists=paused_lists,
            others_wait=any(
                entries > in_unserved_domains.get(name, 0)
                for name, entries in waiting.items()
                if name not in resources.gate.closed_lists
            ),
            not_served=self._not_served(waiting, in_domains=bool(in_unserved_domains)),
            mailman_stands_still=self._nobody_composes()
            or (surroundings.mailman.why_nothing_is_delivered if surroundings.guards and self._releases() else ""),
            intruder=mailman.intruder,
            rate_is_zero=totals.entries > 0
            and not resources.rate.waits
            and 0 in (resources.rate.messages_per_s, resources.rate.recipients_per_s),
            waits=resources.rate.waits,
            at_ceilings=self._only_domains_wait(),
        )
        self.set_state(state, reason)

    def _not_served(self, waiting: Collection[str], *, in_domains: bool) -> str:
        """Which of the lists that have entries the settings leave out, and which domains; with the settings' names."""
        unserved = self._pipeline.resources.named_lists.unserved
        lists = [f"list {name} ({why})" for name, why in unserved.items() if name in waiting]
        others = [f"{len(lists) - _NAMED} more lists"] if len(lists) > _NAMED else []
        domains = self._pipeline.domains.limits.served.otherwise if in_domains else ""
        return ", ".join([*lists[:_NAMED], *others, *filter(None, [domains])])

    def mailman(self) -> Mailman:
        """As it was when it was last looked at."""
        at_mailman = self._pipeline.at_mailman
        return self._surroundings.of_mailman(
            released_entries=at_mailman.entries,
            retrying_recipients=at_mailman.retrying_recipients,
            taken_by_runner_entries=self._pipeline.progress.taken_by_runner,
            skipped=list(self._pipeline.progress.skipped.values()),
        )

    def _nobody_composes(self) -> str:
        """Why Mailman 3 cannot be started to compose; "" while it can."""
        composer = self._pipeline.resources.composers.get(Flavour.MAILMAN3)
        return composer.trouble if isinstance(composer, Mailman3Composer) else ""

    def _releases(self) -> bool:
        """Whether something waits in out/ for Mailman's runner, or all of it is to."""
        return self._outlook.via_mailman or self._pipeline.at_mailman.entries > 0

    def set_state(self, state: ServiceState, reason: str) -> None:
        if state != self.state:
            latest, now_s = (self.state, self._since_s), self._clock.now_s()
            self._since_s = state_since_s(state, now_s, latest, self._before)
            self._before = latest
            log.info(logfmt(event="state", state=state, reason=reason or None))
        self.state, self._reason = state, reason

    def limits_set(self) -> tuple[float | None, float | None]:
        """Messages and recipients per second, as the settings and the operator have them; None: unlimited."""
        asked = (self.operator.messages_per_s, self.operator.recipients_per_s)
        configured = (self.settings.feed.messages, self.settings.feed.recipients)
        set_ = [own if one is None else one for one, own in zip(asked, configured, strict=True)]
        messages, recipients = (None if one is None or math.isinf(one) else one for one in set_)
        return messages, recipients

    async def incident(self, since_s: float | None) -> Incident:
        account = await self._pipeline.resources.ledger.account(LINES, since_s)
        present = self.present(await self.snapshot())
        history, now_s = observed(self.record_writer.burn_down, present.snapshot), self._clock.now_s()
        return make_incident(account, present, history, version=__version__, now_s=now_s, live=True, since_s=since_s)

    def present(self, snapshot: Snapshot) -> Inventory:
        """The snapshot, and beside its figures the entries that wait and those that are held."""
        index = self._pipeline.resources.index
        held = index.lines.select(Selectors(state="held"), snapshot.at, HELD_KEPT).lines
        return Inventory(
            snapshot=snapshot,
            waiting=known_resends(
                [
                    Waiting(list=name, kind=kind, entries=entries, recipients=recipients, bytes=octets)
                    for name, kind, entries, recipients, octets in index.totals.by_list_and_class()
                ],
                held,
            ),
            held=[HeldEntry.model_validate(line.model_dump(exclude={"of"}) | {"of": line.of or ""}) for line in held],
        )

    async def estimate(self, at_recipients_per_s: float | None, by_s: float | None, list_name: str) -> EtaReply:
        """list_name: one that has entries waiting, or ""."""
        found = answer(
            self._outlook.drain(self._outlook.backlog(), self.state, self._clock.now_s()),
            at_recipients_per_s,
            by_s,
            list_name,
        )
        return found.model_copy(update={"held_back": tuple(held_back(self._domains.largest()))})

    async def snapshot(self) -> Snapshot:
        """All figures, of this moment."""
        resources = self._pipeline.resources
        self.totals = await resources.ledger.totals()
        self._dsns_owed = (await resources.ledger.dsn_backlog()).owed
        backlog, mailman = self._outlook.backlog(), self.mailman()
        if self.state not in ("starting", "stopping"):
            self._update_state(backlog, mailman)  # as old as the figures beside it: never "idle" over a backlog
        return self._snapshot(backlog, mailman)

    def _snapshot(self, totals: BacklogTotals, mailman: Mailman) -> Snapshot:
        resources, surroundings = self._pipeline.resources, self._surroundings
        now_s = self._clock.now_s()
        drain = self._outlook.drain(totals, self.state, now_s)
        eta = drain.eta
        return Snapshot(
            version=__version__,
            at=now_s,
            pid=os.getpid(),
            state=self.state,
            reason=self._reason,
            since=self._since_s,
            backlog=self._backlog(totals, now_s, drain.work.unserved_recipients),
            done=done_of(self.totals),
            rate=self._rate(drain.measured),
            eta=eta,
            if_resumed=drain.if_resumed,
            guards=surroundings.guards,
            mta=self._mta(),
            mailman=mailman,
            lists=self._lists(drain.list_finishes(eta), now_s),
            domains=self._domains.largest(),
            pauses=self._pauses(),
            stops=[Stop(name=name, reason=reason) for name, reason in resources.gate.reasons.items()],
            side_failures=list(self._side_tasks.failures.values()),
            forecasts=self.record_writer.forecasts,
            needs_restart=list(self._needs_restart),
        )

    def _backlog(self, totals: BacklogTotals, now_s: float, unserved_recipients: int) -> Backlog:
        index = self._pipeline.resources.index
        lists = [line.list_id for line in index.totals.per_list() if line.entries] if unserved_recipients else []
        return Backlog(
            not_served_recipients=unserved_recipients,
            not_served=self._not_served(lists, in_domains=True) if unserved_recipients else "",
            entries=totals.entries,
            recipients=totals.recipients,
            bytes=totals.bytes,
            oldest_age_s=_age_s(totals.oldest_s, now_s),
            deferred_recipients=totals.deferred_recipients,
            in_doubt_recipients=self._in_doubt_recipients,
            held_entries=totals.held_entries,
            unread_entries=totals.unread_entries,
            duplicate_entries=totals.duplicate_entries,
            duplicate_recipients=totals.duplicate_recipients,
            dsns_owed=self._dsns_owed,
            next_due_s=self._pipeline.resources.index.order.next_due_s(),
        )

    def _rate(self, measured: Measured | None) -> Rate:
        rate, now_s = self._pipeline.resources.rate, self._clock.now_s()
        return Rate(
            limit_messages_per_s=rate.messages_per_s,
            limit_recipients_per_s=rate.recipients_per_s,
            messages_per_s=measured.service_messages_per_s if measured else None,
            recipients_per_s=measured.service_recipients_per_s if measured else None,
            arrivals_recipients_per_s=measured.arrival_recipients_per_s if measured else None,
            binding=(binding := self._binding()),
            binding_since=self._bound_since_s if binding else None,
            window=window_in_force(rate.schedule, now_s),
            caps=caps_used(self._pipeline.resources.throttle.caps, rate.schedule, now_s),
            waits_for=kind_of(rate.waits) if rate.waits and self.state == "draining" and not self._is_sending() else "",
        )

    def _is_sending(self) -> bool:
        """Whether the MTA or Mailman has something of ours in hands now."""
        return bool(self._pipeline.transmit.in_flight or self._pipeline.at_mailman.entries)

    def _binding(self) -> str:
        """What limits the rate now; notes since when it is of this kind."""
        resources = self._pipeline.resources
        mta = resources.pool.state
        binding = with_sessions(
            resources.rate.binding, mta.allowed, self.settings.mta.sessions, mta.allowed_why, is_bound=mta.is_bound
        )
        if domains := self._only_domains_wait():
            binding = DOMAINS + domains
        binding = binding if self.state == "draining" else ""
        if (kind := kind_of(binding)) != self._bound_by:
            self._bound_by, self._bound_since_s = kind, self._clock.now_s()
        return binding

    def _only_domains_wait(self) -> str:
        """The domains whose ceilings hold all that waits, those with most recipients first; "" if anything else could go."""
        resources = self._pipeline.resources
        totals, unserved = resources.index.totals, self._pipeline.domains.limits.served.otherwise
        lanes = {name: waiting for name, waiting in totals.lanes().items() if name != unserved}
        if not lanes or any(name not in resources.gate.closed_lists for name in totals.in_lane("")):
            return ""
        return ", ".join(sorted(lanes, key=lambda name: -lanes[name])[:_NAMED])

    def _mta(self) -> Mta:
        state = self._pipeline.resources.pool.state
        return Mta(
            host=self.settings.mta.host,
            port=self.settings.mta.port,
            state=state.state,
            reason=state.reason,
            sessions=state.sessions,
            next_try_s=state.next_try_s,
            recipient_limit=self._pipeline.limits.most,
            sessions_allowed=state.allowed,
            sessions_why=state.allowed_why,
            sessions_since=state.allowed_since_s,
            final_dot_s=state.final_dot_s,
            unloaded_s=state.unloaded_s,
            session_limit=self._pipeline.session_limits.most,
        )

    def _lists(self, finishes: Mapping[str, ListFinish], now_s: float) -> list[ListBacklog]:
        resources = self._pipeline.resources
        return [
            ListBacklog(
                list=line.list_id,
                entries=line.entries,
                recipients=line.recipients,
                oldest_age_s=_age_s(line.oldest_s, now_s),
                paused=line.list_id in resources.gate.paused_lists,
                not_served=resources.named_lists.unserved.get(line.list_id, ""),
                **_when(finishes.get(line.list_id), now_s),
            )
            for line in resources.index.totals.per_list()
            if line.entries
        ]

    def _pauses(self) -> list[PauseInForce]:
        return [
            PauseInForce(list=pause.list_id, by=pause.by, reason=pause.reason, since=pause.since_s, until=pause.until_s)
            for pause in self.operator.pauses
            if pause.list_id != INTAKE
        ]


def _age_s(oldest_s: float | None, now_s: float) -> float | None:
    return None if oldest_s is None else max(0.0, now_s - oldest_s)


def _when(finish: ListFinish | None, now_s: float) -> dict[str, float]:
    """The fields of ListBacklog that say when a list is finished."""
    if finish is None:
        return {}
    return {"finish": now_s + finish.seconds, **dataclasses.asdict(finish)}
