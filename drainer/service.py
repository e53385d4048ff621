"""The service: starts, supervises and stops the tasks; signals; the order of shutdown.

Start     custody (lock) > ledger > what earlier runs left > composers > control socket > READY
Run       the pipeline's three tasks, doubts, the tick (guards, rates, the operator's pauses, systemd) until a signal,
          or with --until-empty until nothing is left but held entries
Stop      the gate closes > transactions past DATA finish > sessions QUIT > composers > control socket > ledger > lock
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import errno
import logging
import math
import os
import pwd
import shutil
import signal
from collections import Counter
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import psutil
import uvloop

from drainer import __version__
from drainer.belonging import Belonging
from drainer.clock import Clock, SystemClock
from drainer.compose import Composer
from drainer.compose.left_to_mailman import LeftToMailman
from drainer.compose.list_decorations import ListDecorations
from drainer.compose.mailman2_composer import Mailman2Composer
from drainer.compose.mailman3 import Mailman3Composer
from drainer.control.messages import EtaReply, Selectors
from drainer.control.server import ControlServer
from drainer.control.web import StatusListener
from drainer.durable import make_directories
from drainer.errors import (
    CustodyRefused,
    DrainerError,
    EntryError,
    LedgerNotDurable,
    LedgerUnusable,
    NoRoomForSocket,
    SettingsError,
    UsageError,
)
from drainer.estimate.answer import Drain, answer
from drainer.estimate.backlog import Expected, Work, amount, expected_by_list
from drainer.estimate.ceilings import Ceilings, slowest_domain_s
from drainer.estimate.forecaster import Forecaster, Left
from drainer.estimate.per_list import ListLeft, Through
from drainer.estimate.rates import Counts, RateSeries
from drainer.feed.gate import Gate
from drainer.feed.password import password_warnings
from drainer.feed.rate_in_force import RateInForce
from drainer.feed.release import Release
from drainer.feed.session_pool import SessionPool
from drainer.feed.throttle import Throttle
from drainer.guards.disk import disk_guards, load_guard
from drainer.guards.mailman_processes import MailmanProcesses, mailman_processes
from drainer.guards.mta_queue import MtaQueue
from drainer.guards.verdict import strictest
from drainer.in_doubt import InDoubt
from drainer.ledger.records import INTAKE, JournalLine, OperatorState, Totals
from drainer.ledger.sqlite import SqliteLedger
from drainer.operations import ServiceOperations
from drainer.pipeline import Pipeline
from drainer.queuedir.custody import Custody
from drainer.queuedir.entry import Flavour
from drainer.queuedir.index import BacklogIndex, BacklogTotals
from drainer.queuedir.loan import Loan
from drainer.queuedir.read import read_entry
from drainer.queuedir.scan import QueueCensus, scan_queue
from drainer.queuedir.survey import Surveyor
from drainer.report import systemd
from drainer.report.history import observed
from drainer.report.incident import LINES, Incident
from drainer.report.incident_facts import incident
from drainer.report.logfmt import logfmt
from drainer.report.notify import Notifier
from drainer.report.present import HELD_KEPT, HeldEntry, Present, Waiting, known_resends
from drainer.report.recorder import Recorder
from drainer.report.service_state import service_state, state_since_s
from drainer.report.snapshot import (
    Backlog,
    Done,
    Guard,
    ListBacklog,
    Mailman,
    Mta,
    PauseInForce,
    QueueCount,
    Rate,
    ServiceState,
    Snapshot,
    Stop,
)
from drainer.report.status_text import status_line
from drainer.report.wording import count, duration
from drainer.settings import Settings
from drainer.stages.conclusion import LOOK_AGAIN_S
from drainer.stages.parts import Parts

log = logging.getLogger("drainer")

TICK_S = 1.0
LOOK_AROUND_S = 5.0
"""How often guards, Mailman's processes and its queues are looked at."""
CLOCK_JUMP_S = 2.0
"""Set back by less, a clock is only being corrected."""
LEDGER_PROBE_S = 5.0
SOCKET_AGAIN_S = 2.0
"""How soon the control socket is tried again when its directory was full."""
EXPIRE_S = 3600.0
_LOOKED_AT_FOR_FLAVOUR = 50
_LEDGER_DIRECTORY_MODE = 0o750


def run(settings: Settings, until_empty: bool = False, reread: Callable[[], Settings] | None = None) -> int:
    """Run the service until a signal, or until nothing is left. Returns the exit status.

    reread  gives the settings anew at SIGHUP
    Raises  CustodyRefused, LedgerUnusable, ComposerUnavailable and the like: the start failed and nothing was touched
    """
    logging.basicConfig(level=settings.log.level.upper(), format="%(message)s" if _under_systemd() else _LINE)
    return uvloop.run(Service(settings, until_empty, reread).main())


_LINE = "%(asctime)s %(levelname)s %(message)s"


def _under_systemd() -> bool:
    return "JOURNAL_STREAM" in os.environ


class Service:
    """One run of the service.

    deciding  whoever makes a new OperatorState of the one in force does so in turn: of two at once the second would undo
              what the first had decided
    """

    def __init__(
        self,
        settings: Settings,
        until_empty: bool = False,
        reread: Callable[[], Settings] | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.settings = settings
        self.operator = OperatorState()
        self.deciding = asyncio.Lock()
        self._until_empty = until_empty
        self._reread = reread
        self._clock = clock or SystemClock()
        self._stop = asyncio.Event()
        self._state: ServiceState = "starting"
        self._state_reason = ""
        self._state_since_s = self._clock.now_s()
        self._state_before: tuple[ServiceState, float] = (self._state, self._state_since_s)
        self._clock_ahead_s = self._clock.now_s() - self._clock.monotonic_s()
        self._rates = RateSeries()
        self._forecaster = Forecaster()
        self._guards: list[Guard] = []
        self._mailman = MailmanProcesses(())
        self._queues: list[QueueCount] = []
        self._totals = Totals()
        self._in_doubt_recipients = 0
        self._dsns_owed = 0
        self._until: asyncio.TimerHandle | None = None
        self._loan: Loan | None = None
        self._notifier = Notifier(settings.notify)
        self._why_stopped = ""
        self._recorder: Recorder
        self._belonging: Belonging
        self._ledger: SqliteLedger
        self.pipeline: Pipeline

    # -- start and stop ------------------------------------------------------------------------------------------------

    async def main(self) -> int:
        async with contextlib.AsyncExitStack() as stack:
            await self._start(stack)
            stop = asyncio.create_task(self._stop.wait())
            tasks = [asyncio.create_task(work, name=name) for name, work in self._work().items()]
            systemd.notify_ready()
            log.info(logfmt(event="ready", version=__version__, queue_dir=self.settings.mailman.queue_dir))
            done, _ = await asyncio.wait([stop, *tasks], return_when=asyncio.FIRST_COMPLETED)
            await self._wind_down(tasks)
            stop.cancel()
            for task in done - {stop}:
                task.result()
        return 0

    def _work(self) -> dict[str, Coroutine[Any, Any, None]]:
        return {
            "intake": self.pipeline.intake.run(),
            "survey": self.pipeline.survey.run(),
            "bring_back": self.pipeline.intake.bring_back(),
            "feed": self.pipeline.feed.run(),
            "follow": self.pipeline.parts.release.follow(),
            "in_doubt": self.pipeline.parts.in_doubt.run(),
            "bounces": self.pipeline.bounces.run(),
            "tick": self._tick(),
            "look_around": self._look_around(),
            "expire": self._expire(),
            "notify": self._notifier.run(),
            "record": self._recorder.run(),
        }

    async def _start(self, stack: contextlib.AsyncExitStack) -> None:
        settings, clock = self.settings, self._clock
        refuse_root_for_others(settings.mailman.queue_dir)
        _warn(settings)
        custody = Custody(
            settings.mailman.queue_dir,
            clock=clock,
            queues=settings.custody.queues,
            scope=settings.custody.scope,
            bak_age_s=settings.custody.bak_age,
        )
        loan = Loan(settings.mailman.queue_dir, settings.ledger.path.with_name(f"{settings.ledger.path.name}-loan"))
        _prepare(custody, loan)
        stack.callback(custody.close)
        loan.settle()
        _make_parent(settings.ledger.path)
        ledger = self._ledger = SqliteLedger(settings.ledger.path, clock)
        await ledger.open()
        stack.push_async_callback(ledger.close)
        self._belonging = Belonging(custody, ledger, settings.ledger.path, clock)
        await self._belonging.recognise()
        self._totals = await ledger.totals()
        directory = _index_directory(settings.ledger.path)
        stack.callback(shutil.rmtree, directory, ignore_errors=True)
        index = BacklogIndex(directory / "backlog-index.sqlite")
        stack.callback(index.close)
        composers = await self._composers(stack)
        decorations = None
        if Flavour.MAILMAN2 in composers:
            decorations = ListDecorations(settings.mailman.lists_dir, settings.mailman.settings)
        limited_domains = tuple(settings.feed.domains)
        surveyor = stack.enter_context(Surveyor(decoration_of=decorations, limited_domains=limited_domains))
        gate = Gate()
        throttle = Throttle(settings.feed.messages, settings.feed.recipients)
        pool = SessionPool(settings.mta, clock)
        rate = RateInForce(settings.feed, throttle, clock)
        parts = Parts(
            settings=settings,
            clock=clock,
            custody=custody,
            index=index,
            ledger=ledger,
            composers=composers,
            surveyor=surveyor,
            pool=pool,
            throttle=throttle,
            gate=gate,
            in_doubt=InDoubt(settings, ledger, clock),
            rate=rate,
            release=Release(
                settings,
                clock,
                custody,
                ledger,
                index,
                throttle,
                rate,
                lambda: mailman_processes(settings.mailman.queue_dir, settings.mailman.config).runner_lives("out"),
                psutil.boot_time,
            ),
            limited_domains=limited_domains,
            decoration_of=decorations,
        )
        self.pipeline = Pipeline(parts)
        self.pipeline.intake.loan = self._loan = loan
        self._recorder = Recorder(ledger, clock, self._present)
        await self._recorder.start(__version__)
        await parts.in_doubt.recover()
        await self.pipeline.bounces.recover()
        await self.pipeline.refused.recover()
        await self.pipeline.intake.recover()
        self.apply(await ledger.operator_state())
        # What is finished before the first tick was backlog too.
        self._notifier.observe(await self.snapshot())
        control = ControlServer(settings.control.socket, ServiceOperations(self), settings.control.group)
        stack.push_async_callback(control.stop)
        if not await self._listens(control):
            listening = asyncio.create_task(self._listen_when_there_is_room(control), name="listen")
            stack.callback(listening.cancel)
        if settings.web.listen:
            listener = StatusListener(settings.web, self.snapshot, clock, lambda: self._recorder.history)
            await listener.start()
            stack.push_async_callback(listener.stop)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop, signal.Signals(number).name)
        loop.add_signal_handler(signal.SIGHUP, self.reload)

    async def _listens(self, control: ControlServer) -> bool:
        try:
            await control.start()
        except NoRoomForSocket as exc:
            # Mail matters more than the socket: it drains, and an operator finds out from the log why nobody answers.
            log.error(logfmt(event="no_control_socket", detail=exc, next_try_s=SOCKET_AGAIN_S))
            return False
        log.info(logfmt(event="listening", socket=self.settings.control.socket))
        return True

    async def _listen_when_there_is_room(self, control: ControlServer) -> None:
        while True:
            await asyncio.sleep(SOCKET_AGAIN_S)
            if await self._listens(control):
                return

    async def _composers(self, stack: contextlib.AsyncExitStack) -> dict[Flavour, Composer]:
        mailman, most = self.settings.mailman, self.settings.feed.max_recipients
        found = await asyncio.to_thread(self._flavours, "drainer/backlog", "out", "retry")
        flavour = (
            Flavour(mailman.flavour) if mailman.flavour != "auto" else await asyncio.to_thread(self._flavour, found)
        )
        if self.settings.feed.via == "smtp":
            self._object_to_others(flavour, found)
        composer: Composer
        if self.settings.feed.via == "mailman":
            composer = LeftToMailman()
        elif flavour is Flavour.MAILMAN2:
            composer = Mailman2Composer(mailman.lists_dir, mailman.settings, most)
        else:
            composer = Mailman3Composer(mailman.python, mailman.config, mailman.coprocesses, most, mailman.remember)
        stack.push_async_callback(composer.close)
        await composer.start()
        if isinstance(composer, Mailman3Composer):
            composer.require_queue_dir(mailman.queue_dir)
        return {flavour: composer}

    def _flavours(self, *directories: str) -> Counter[Flavour]:
        """Which Mailman wrote the first entries in these directories of the queue, as far as they can be read."""
        queue_dir, found, looked_at = self.settings.mailman.queue_dir, Counter[Flavour](), 0
        for name in directories:
            directory = queue_dir / name
            for listed in scan_queue(directory) if directory.is_dir() else ():
                with contextlib.suppress(EntryError, OSError):
                    found[read_entry(directory / listed.file.name).flavour] += 1
                looked_at += 1
                if looked_at >= _LOOKED_AT_FOR_FLAVOUR:
                    return found
        return found

    def _flavour(self, found: Counter[Flavour]) -> Flavour:
        """As most entries say; of an empty queue, as the site looks."""
        if found := found or self._flavours("drainer/held", "shunt"):
            return found.most_common(1)[0][0]
        return Flavour.MAILMAN2 if self.settings.mailman.lists_dir.is_dir() else Flavour.MAILMAN3

    def _object_to_others(self, flavour: Flavour, found: Counter[Flavour]) -> None:
        """Raises SettingsError where nothing of what waits could be composed."""
        others = found.total() - found[flavour]
        other = next((one for one in found if one is not flavour), None)
        if other is None:
            return
        what = (
            f"{others} of the first {count(found.total(), 'entry', 'entries')} in {self.settings.mailman.queue_dir} were "
            f"written by {other.product}"
        )
        if others == found.total():
            raise SettingsError(
                f'mailman.flavour = "{flavour}", but {what}; right would be "{other}", with what that needs '
                "([mailman] lists_dir for 2.1; python and config for 3)"
            )
        detail = f"{what}, the others by {flavour.product}: those will be held, since only the others can be composed"
        log.warning(logfmt(event="flavour", detail=detail))

    async def _wind_down(self, tasks: list[asyncio.Task[None]]) -> None:
        systemd.notify_stopping()
        self._set_state("stopping", "")
        self.pipeline.parts.gate.close("stopping", "the service is stopping")
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.pipeline.feed.settle()
        await self._notifier.last_words()
        await self.pipeline.parts.pool.close()
        self.pipeline.parts.custody.sync()
        with contextlib.suppress(DrainerError):
            await self._recorder.end(await self.snapshot(), self._why_stopped)
        log.info(logfmt(event="stopped", backlog_entries=self.pipeline.parts.index.totals().entries))

    def stop(self, why: str) -> None:
        log.info(logfmt(event="stopping", why=why))
        self._why_stopped = self._why_stopped or why
        self._stop.set()

    def reload(self) -> None:
        """SIGHUP: read the settings again; what is wrong with them is logged, and the old ones stay in force."""
        if self._reread is None:
            return
        systemd.notify_reloading()
        try:
            settings = self._reread()
            _warn(settings)
        except DrainerError as exc:
            log.error(logfmt(event="reload_refused", detail=exc))
        else:
            fixed = [name for name in ("mailman", "custody", "ledger", "control", "web") if
                     getattr(settings, name) != getattr(self.settings, name)]  # fmt: skip
            kept = {name: getattr(self.settings, name) for name in fixed}
            if settings.feed.via != self.settings.feed.via:
                fixed.append("feed.via")
                kept["feed"] = settings.feed.model_copy(update={"via": self.settings.feed.via})
            self.settings = settings.model_copy(update=kept)
            self.pipeline.reconfigure(self.settings)
            self._notifier.settings = self.settings.notify
            self.apply(self.operator)
            logging.getLogger().setLevel(self.settings.log.level.upper())
            operator = self.operator
            overruled = [name for name, rate in (("feed.messages", operator.messages_per_s),
                         ("feed.recipients", operator.recipients_per_s)) if rate is not None]  # fmt: skip
            log.info(
                logfmt(
                    event="reloaded",
                    needs_restart=",".join(fixed) or None,
                    overruled_by_drainer_rate=",".join(overruled) or None,
                )
            )
        systemd.notify_ready()

    # -- the operator's decisions --------------------------------------------------------------------------------------

    def apply(self, operator: OperatorState) -> None:
        """Put pauses and rates into force."""
        self.operator = operator
        gate, now_s = self.pipeline.parts.gate, self._clock.now_s()
        in_force = {pause.list_id: pause for pause in operator.pauses if pause.until_s is None or pause.until_s > now_s}
        self.pipeline.intake.is_on = INTAKE not in in_force
        gate.close_lists(frozenset(name for name in in_force if name not in ("", INTAKE)))
        if everything := in_force.get(""):
            by = f"by {everything.by}" if everything.by else ""
            gate.close("paused", ": ".join(filter(None, [by, everything.reason])))
        else:
            gate.open("paused")
        self.pipeline.parts.rate.limit(self.settings.feed, operator.messages_per_s, operator.recipients_per_s)
        self.pipeline.standing.wake()

    async def _follow_clock(self) -> None:
        """A clock that was set back: what waits waits no longer for it. (Set forward, it waits less.)"""
        jump_s = self._clock.now_s() - self._clock.monotonic_s() - self._clock_ahead_s
        if jump_s >= -CLOCK_JUMP_S:
            self._clock_ahead_s += max(0.0, jump_s)
            if jump_s > CLOCK_JUMP_S:
                self.pipeline.standing.wake()  # what is due now was to be looked at when the time was up
            return
        pauses = tuple(
            pause
            if pause.until_s is None
            else dataclasses.replace(pause, since_s=pause.since_s + jump_s, until_s=pause.until_s + jump_s)
            for pause in self.operator.pauses
        )
        state = dataclasses.replace(self.operator, pauses=pauses)
        detail = f"was set back by {duration(-jump_s)}: deferrals and pauses end as if it had not been"
        log.warning(logfmt(event="clock", detail=detail))
        line = JournalLine(self._clock.now_s(), "drainer", "clock", detail)
        await self.pipeline.parts.ledger.set_operator_state(state, line)
        self._clock_ahead_s += jump_s
        self.pipeline.parts.index.shift_due(jump_s)
        self.pipeline.standing.set_back_s -= jump_s
        self._state_since_s = min(self._state_since_s, self._clock.now_s())
        self.apply(state)

    async def _end_pauses(self) -> None:
        """Pauses whose time is over."""
        now_s = self._clock.now_s()
        over = [pause for pause in self.operator.pauses if pause.until_s is not None and pause.until_s <= now_s]
        if over:
            kept = tuple(pause for pause in self.operator.pauses if pause not in over)
            lists = ", ".join(pause.list_id or "everything" for pause in over)
            state = dataclasses.replace(self.operator, pauses=kept)
            await self.pipeline.parts.ledger.set_operator_state(
                state, JournalLine(now_s, "drainer", "resume", f"time is over: {lists}")
            )
            self.apply(state)

    # -- what is done now and then -------------------------------------------------------------------------------------

    async def _tick(self) -> None:
        """Each second: rates, state, pauses that end, systemd; and the end of --until-empty."""
        watchdog = systemd.Watchdog()
        while True:
            parts = self.pipeline.parts
            with contextlib.suppress(LedgerNotDurable):
                async with self.deciding:
                    await self._follow_clock()
                    await self._end_pauses()
            self._totals = await parts.ledger.totals()
            self._in_doubt_recipients = await parts.in_doubt.recipients()
            parts.rate.look()
            self._observe()
            self._update_state()
            snapshot = await self.snapshot()
            systemd.notify_status(status_line(snapshot))
            watchdog.alive()
            # DSNs are asked for last: one is owed before its entry is gone.
            is_over = self._until_empty and self._is_empty() and not (await parts.ledger.dsn_backlog()).owed
            notices = self._notifier.observe(snapshot, is_last=is_over)
            self._recorder.observe(snapshot, self._limits_set(), notices)
            if is_over:
                parts.custody.end_drain()
                self.stop("nothing is left but held entries")
                return
            await asyncio.sleep(TICK_S)

    async def _look_around(self) -> None:
        """Now and then: guards, Mailman's processes and queues, and whether the ledger can commit again."""
        settings, parts = self.settings, self.pipeline.parts
        census, competing = QueueCensus(settings.mailman.queue_dir), ""
        mta_queue = MtaQueue(settings.mta.queue, settings.mta.queue_high, settings.mta.queue_low)
        while True:
            guards = self.settings.guards
            found = await asyncio.to_thread(
                disk_guards,
                settings.ledger.path,
                settings.mailman.queue_dir,
                guards.min_free_bytes,
                guards.min_free_inodes,
            )
            self._mailman = await asyncio.to_thread(
                mailman_processes, settings.mailman.queue_dir, settings.mailman.config
            )
            mailman = self._mailman.guard(
                delivers_for_us=settings.feed.via == "mailman", has_fresh_mail=settings.custody.scope == "backlog"
            )
            if mailman.reason not in (competing, "") and self._competes():
                log.warning(logfmt(event="competing_runner", detail=mailman.reason))
            competing = mailman.reason
            self._guards = [*found, load_guard(guards.max_load), await mta_queue.look(), mailman]
            worst = strictest(self._guards)
            if worst.verdict == "stop":
                parts.gate.close("guard", f"{worst.name}: {worst.reason}")
            else:
                parts.gate.open("guard")
            parts.rate.slow(worst.verdict == "slow")
            now_s = self._clock.now_s()
            with contextlib.suppress(OSError):
                counted = await asyncio.to_thread(census.count, now_s)
                self._queues = [
                    QueueCount(
                        name=queue.name,
                        entries=queue.entries,
                        oldest_age_s=None if queue.oldest_s is None else max(0.0, now_s - queue.oldest_s),
                    )
                    for queue in counted
                ]
            self._require_ledger_in_place()
            if "ledger" in parts.gate.reasons:
                await self._probe_ledger()
            with contextlib.suppress(LedgerNotDurable):
                await self._belonging.renew(self._totals.get("transactions"))
            await asyncio.sleep(LOOK_AROUND_S)

    def _require_ledger_in_place(self) -> None:
        """Raises LedgerUnusable, which ends the service, if the ledger's file was deleted or replaced under us."""
        path = self.settings.ledger.path
        if not self._ledger.is_in_place:
            # Sending stops at once; what is in flight is finished and written down, then closing writes the file anew.
            self.pipeline.parts.gate.close("ledger", f"{path} was deleted or replaced while in use")
            raise LedgerUnusable(
                f"{path} was deleted or replaced while in use. Sending has stopped; a deleted one was written anew as the "
                "service ended, nothing of it is lost: right would be to leave it there and start drainer again"
            )

    async def _probe_ledger(self) -> None:
        """Sending stopped because the ledger could not commit: a commit that succeeds lets it go on."""
        parts = self.pipeline.parts
        with contextlib.suppress(LedgerNotDurable):
            line = JournalLine(self._clock.now_s(), "drainer", "ledger", "can commit again: sending goes on")
            await parts.ledger.write_journal(line)
            parts.gate.open("ledger")
            log.info(logfmt(event="ledger_ok"))

    async def _expire(self) -> None:
        """Now and then: forget what is older than `duplicates.keep` and `ledger.keep`."""
        while True:
            parts = self.pipeline.parts
            with contextlib.suppress(LedgerNotDurable, CustodyRefused):
                parts.custody.expire_duplicates(self.settings.duplicates.keep)
                await parts.ledger.expire(self._clock.now_s() - self.settings.ledger.keep)
            await asyncio.sleep(EXPIRE_S)

    def _is_empty(self) -> bool:
        totals = self.pipeline.parts.index.totals()
        lent = self._loan is not None and self._loan.entries()
        return self.pipeline.progress.listed and not (totals.entries or self.pipeline.feed.active or lent)

    # -- what we say of ourselves --------------------------------------------------------------------------------------

    def _backlog(self) -> BacklogTotals:
        """The index's totals, and what the first listing has still to take, or there was no room for yet."""
        totals, outside = self.pipeline.parts.index.totals(), self.pipeline.progress.outside
        if self._loan and (lent := self._loan.entries()):
            outside = dataclasses.replace(outside, entries=outside.entries + len(lent))
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

    def _observe(self) -> None:
        """Tell the rates and the estimate what has happened by now."""
        counts, work = self._counts(), self._work_left(self._backlog())
        self._rates.observe(counts)
        left = amount(work)
        of = Left(None, work.recipients) if left is None else Left(left.messages or None, left.recipients, left.octets)
        self._forecaster.observe(counts, of, self._ceilings())

    def _counts(self) -> Counts:
        delivered = self._totals.get("delivered_recipients") + self._totals.get("bounced_recipients")
        return Counts(
            at_s=self._clock.monotonic_s(),
            serviced_recipients=delivered,
            # Of what Mailman's runner delivers, only whole entries are known.
            serviced_messages=self._totals.get("delivered_entries" if self._via_mailman else "transactions"),
            arrived_recipients=self.pipeline.progress.arrived_recipients,
            feeding=self._state in ("draining", "scanning", "idle"),
            nothing_due=self._is_nothing_due(),
            serviced_octets=self.pipeline.feed.splits.octets,
        )

    def _is_nothing_due(self) -> bool:
        """Nothing waits but what is held, paused, or deferred until later."""
        totals, going = self._backlog(), self._expected()[0]
        return not (totals.unread_entries or totals.active_entries) and going.recipients <= going.deferred_recipients

    @property
    def _via_mailman(self) -> bool:
        return self.settings.feed.via == "mailman"

    def _expected(self) -> tuple[Expected, Expected]:
        """What is still to be sent: on lists that may go, and on those that the operator paused."""
        parts = self.pipeline.parts
        # A resend waits to be held or suppressed; those that an operator released are few, and soon gone.
        by_list = expected_by_list(
            parts.index.to_send(),
            self.pipeline.feed.splits,
            with_resends=self.settings.duplicates.resend == "deliver",
            whole=self._via_mailman,
        )
        going, paused = Expected(), Expected()
        for name, one in by_list.items():
            if name in parts.gate.closed_lists:
                paused += one
            else:
                going += one
        return going, paused

    def _update_state(self) -> None:
        parts, totals = self.pipeline.parts, self._backlog()
        waiting = [line.list_id for line in parts.index.per_list() if line.entries]
        paused_lists = [name for name in waiting if name in parts.gate.closed_lists]
        state, reason = service_state(
            reasons=parts.gate.reasons,
            intake_on=self.pipeline.intake.is_on,
            listed=self.pipeline.progress.listed,
            entries=totals.entries,
            unread=totals.unread_entries,
            active=self.pipeline.feed.active,
            mta_down=parts.pool.state.reason if parts.pool.state.state == "down" else "",
            dsns_owed=self._dsns_owed,
            intake_reason=next((pause.reason for pause in self.operator.pauses if pause.list_id == INTAKE), ""),
            paused_lists=paused_lists,
            others_wait=len(paused_lists) < len(waiting),
            nobody_delivers=self._nobody_composes()
            or (self._mailman.nobody_delivers if self._guards and self._releases() else ""),
            rate_is_zero=totals.entries > 0 and 0 in (parts.rate.messages_per_s, parts.rate.recipients_per_s),
        )
        self._set_state(state, reason)

    def _nobody_composes(self) -> str:
        """Why Mailman 3 cannot be started to compose; "" while it can."""
        composer = self.pipeline.parts.composers.get(Flavour.MAILMAN3)
        return composer.trouble if isinstance(composer, Mailman3Composer) else ""

    def _competes(self) -> bool:
        """Whether Mailman's outgoing runner takes what we would; not what is left to it."""
        settings = self.settings
        return (
            self._mailman.outgoing_runner_competes and settings.feed.via == "smtp" and settings.custody.scope == "all"
        )

    def _releases(self) -> bool:
        """Whether something waits in out/ for Mailman's runner, or all of it is to."""
        return self._via_mailman or self.pipeline.parts.release.entries > 0

    def _set_state(self, state: ServiceState, reason: str) -> None:
        if state != self._state:
            latest, now_s = (self._state, self._state_since_s), self._clock.now_s()
            self._state_since_s = state_since_s(state, now_s, latest, self._state_before)
            self._state_before = latest
            log.info(logfmt(event="state", state=state, reason=reason or None))
        self._state, self._state_reason = state, reason

    def _work_left(self, totals: BacklogTotals) -> Work:
        going, paused = self._expected()
        latest = self.pipeline.parts.index.last_due_s()
        last_due_in_s = 0.0 if latest is None else max(0.0, latest - self._clock.now_s())
        deferred = going.deferred_recipients
        if last_due_in_s <= LOOK_AGAIN_S:
            # Put off for the ceiling of a domain is at work, at the domain's pace.
            deferred -= going.limited_recipients
        return Work(
            recipients=round(going.recipients),
            deferred_recipients=round(deferred),
            last_due_in_s=last_due_in_s,
            retry_wait_s=self.settings.feed.retry_first,
            paused_recipients=round(paused.recipients),
            unread_entries=totals.unread_entries,
            sizes=self.pipeline.progress.sizes,
            messages=going.messages,
            octets=going.octets,
            paused_messages=paused.messages,
            paused_octets=paused.octets,
        )

    def _limits_set(self) -> tuple[float | None, float | None]:
        """Messages and recipients per second, as the settings and the operator have them; None: unlimited."""
        asked = (self.operator.messages_per_s, self.operator.recipients_per_s)
        configured = (self.settings.feed.messages, self.settings.feed.recipients)
        set_ = [own if one is None else one for one, own in zip(asked, configured, strict=True)]
        messages, recipients = (None if one is None or math.isinf(one) else one for one in set_)
        return messages, recipients

    async def incident(self, since_s: float | None) -> Incident:
        account = await self.pipeline.parts.ledger.account(LINES, since_s)
        present = self._present(await self.snapshot())
        history, now_s = observed(self._recorder.history, present.snapshot), self._clock.now_s()
        return incident(account, present, history, version=__version__, now_s=now_s, live=True, since_s=since_s)

    def _present(self, snapshot: Snapshot) -> Present:
        """What is here beside the figures of this snapshot."""
        index = self.pipeline.parts.index
        held = index.select(Selectors(state="held"), snapshot.at, HELD_KEPT).lines
        return Present(
            snapshot=snapshot,
            waiting=known_resends(
                [
                    Waiting(list=name, kind=kind, entries=entries, recipients=recipients, bytes=octets)
                    for name, kind, entries, recipients, octets in index.by_list_and_class()
                ],
                held,
            ),
            held=[HeldEntry.model_validate(line.model_dump(exclude={"of"}) | {"of": line.of or ""}) for line in held],
        )

    def _ceilings(self) -> Ceilings:
        parts, domains = self.pipeline.parts, self.settings.feed.domains
        limited = zip(parts.limited_domains, self._expected()[0].limited, strict=False) if domains else ()
        earliest_s = slowest_domain_s((recipients, domains.get(name)) for name, recipients in limited)
        return Ceilings(parts.rate.messages_per_s, parts.rate.recipients_per_s, earliest_s)

    def _drain(self, totals: BacklogTotals, now_s: float) -> Drain:
        feed, parts = self.settings.feed, self.pipeline.parts
        return Drain(
            work=self._work_left(totals),
            seen=self._forecaster,
            measured=self._rates.measured(),
            ceilings=self._ceilings(),
            state=self._state,
            now_s=now_s,
            lists={
                line.list_id: ListLeft(
                    line.entries,
                    line.recipients,
                    line.deferred_recipients,
                    0.0 if line.last_due_s is None else line.last_due_s - now_s,
                )
                for line in parts.index.per_list()
                if line.entries
            },
            paused_lists=frozenset(parts.gate.closed_lists),
            order=feed.order,
            priority=feed.priority,
        )

    async def estimate(self, at_recipients_per_s: float | None, by_s: float | None, list_name: str) -> EtaReply:
        """list_name: one that has entries waiting, or ""."""
        return answer(self._drain(self._backlog(), self._clock.now_s()), at_recipients_per_s, by_s, list_name)

    async def snapshot(self) -> Snapshot:
        parts = self.pipeline.parts
        self._totals = done = await parts.ledger.totals()
        self._dsns_owed = (await parts.ledger.dsn_backlog()).owed
        if self._state not in ("starting", "stopping"):
            self._update_state()  # as old as the figures beside it: never "idle" over a backlog
        totals, now_s = self._backlog(), self._clock.now_s()
        drain = self._drain(totals, now_s)
        measured, eta = drain.measured, drain.eta
        lists_through = drain.lists_through(eta)
        mta = parts.pool.state
        return Snapshot(
            version=__version__,
            at=now_s,
            pid=os.getpid(),
            state=self._state,
            reason=self._state_reason,
            since=self._state_since_s,
            backlog=Backlog(
                entries=totals.entries,
                recipients=totals.recipients,
                bytes=totals.bytes,
                oldest_age_s=None if totals.oldest_s is None else max(0.0, now_s - totals.oldest_s),
                deferred_recipients=totals.deferred_recipients,
                in_doubt_recipients=self._in_doubt_recipients,
                held_entries=totals.held_entries,
                unread_entries=totals.unread_entries,
                duplicate_entries=totals.duplicate_entries,
                duplicate_recipients=totals.duplicate_recipients,
                dsns_owed=self._dsns_owed,
                next_due_s=parts.index.next_due_s(),
            ),
            done=Done(
                delivered_entries=done.get("delivered_entries"),
                delivered_recipients=done.get("delivered_recipients"),
                suppressed_entries=done.get("suppressed_entries"),
                suppressed_recipients=done.get("suppressed_recipients"),
                bounced_recipients=done.get("bounced_recipients"),
                dropped_entries=done.get("dropped_entries"),
                unreadable_entries=done.get("unreadable_entries"),
                transactions=done.get("transactions"),
                dsns_sent=done.get("dsns_sent"),
                dsns_dropped=done.get("dsns_dropped"),
                since=done.since_s or None,
            ),
            rate=Rate(
                limit_messages_per_s=parts.rate.messages_per_s,
                limit_recipients_per_s=parts.rate.recipients_per_s,
                messages_per_s=measured.service_messages_per_s if measured else None,
                recipients_per_s=measured.service_recipients_per_s if measured else None,
                arrivals_recipients_per_s=measured.arrival_recipients_per_s if measured else None,
                binding=parts.rate.binding if self._state == "draining" else "",
            ),
            eta=eta,
            if_resumed=drain.if_resumed,
            guards=self._guards,
            mta=Mta(
                host=self.settings.mta.host,
                port=self.settings.mta.port,
                state=mta.state,
                reason=mta.reason,
                sessions=mta.sessions,
                next_try_s=mta.next_try_s,
            ),
            mailman=Mailman(
                flavour=next(iter(parts.composers)).value,
                queue_dir=str(self.settings.mailman.queue_dir),
                runners=self._mailman.runners,
                queues=self._queues,
                outgoing_runner_competes=self._competes(),
                released_entries=parts.release.entries,
                retrying_recipients=parts.release.retrying_recipients,
                master_running=self._mailman.master_lives,
                missing_runners=list(self._mailman.missing),
            ),
            lists=[
                ListBacklog(
                    list=line.list_id,
                    entries=line.entries,
                    recipients=line.recipients,
                    oldest_age_s=None if line.oldest_s is None else max(0.0, now_s - line.oldest_s),
                    paused=line.list_id in parts.gate.closed_lists,
                    **_when(lists_through.get(line.list_id), now_s),
                )
                for line in parts.index.per_list()
                if line.entries
            ],
            pauses=[
                PauseInForce(
                    list=pause.list_id, by=pause.by, reason=pause.reason, since=pause.since_s, until=pause.until_s
                )
                for pause in self.operator.pauses
                if pause.list_id != INTAKE
            ],
            stops=[Stop(name=name, reason=reason) for name, reason in parts.gate.reasons.items()],
            forecasts=self._recorder.forecasts,
        )


def refuse_root_for_others(queue_dir: Path) -> None:
    """Raises UsageError for root on the queue of another user.

    What we make would be root's (ledger, lock, socket), and what Mailman's own code makes in the co-process too: its
    logs and locks, which its runners could not write any more.
    """
    with contextlib.suppress(OSError):
        owner = queue_dir.stat().st_uid
        if os.geteuid() == 0 and owner != 0:
            try:
                name = pwd.getpwuid(owner).pw_name
            except KeyError:
                name = f"#{owner}"
            raise UsageError(
                f"{queue_dir} belongs to user {name}, and files made by root would be in Mailman's way; right would be to "
                f"run drainer as that user (User={name} in the unit, or: setpriv --reuid {owner} --regid "
                f"{queue_dir.stat().st_gid} --init-groups drainer run)"
            )


def _warn(settings: Settings) -> None:
    """Say what is unwise in the settings. Raises SettingsError for what is worse than that."""
    for warning in password_warnings(settings.mta):
        log.warning(logfmt(event="settings", detail=warning))


def _when(through: Through | None, now_s: float) -> dict[str, float]:
    """The fields of ListBacklog that say when a list is through."""
    if through is None:
        return {}
    return {"finish": now_s + through.seconds, **dataclasses.asdict(through)}


def _prepare(custody: Custody, loan: Loan) -> None:
    """Custody, also where the queue's filesystem has no inode left for our directories. Raises CustodyRefused."""
    try:
        custody.prepare()
    except CustodyRefused as exc:
        has_no_room = isinstance(exc.__cause__, OSError) and exc.__cause__.errno in (errno.ENOSPC, errno.EDQUOT)
        if not has_no_room:
            raise
        _make_parent(loan.place)
        if not (lent := loan.make_room()):
            raise
        log.warning(logfmt(event="loan", entries=lent, place=loan.place, why=exc))
        custody.prepare()


def _index_directory(ledger: Path) -> Path:
    """Beside the ledger, 0700. The same at every start, so that a killed service's index is replaced, not added to: one that
    the kernel kills again and again would else fill the ledger's disk. The ledger's lock keeps others out of it."""
    directory = ledger.with_name(f"drainer-{ledger.name}.index")
    directory.mkdir(mode=0o700, exist_ok=True)
    directory.chmod(0o700)
    return directory


def _make_parent(path: Path) -> None:
    """The ledger's directory, if it is missing; durable, or the ledger would be lost with it. Raises SettingsError."""
    try:
        make_directories(path.parent, _LEDGER_DIRECTORY_MODE)
    except OSError as exc:
        raise SettingsError(
            f"ledger.path = {str(path)!r}: cannot make {path.parent}: {exc.strerror}; right would be a directory that "
            "the user drainer runs as may write"
        ) from exc
