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
import logging
import os
import shutil
import signal
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import psutil
import uvloop

from drainer import __version__
from drainer.backlog.index import BacklogIndex
from drainer.backlog.readers import Surveyor
from drainer.clock import Clock, SystemClock
from drainer.compose import Composer
from drainer.compose.left_to_mailman import LeftToMailman
from drainer.compose.list_decorations import ListDecorations
from drainer.compose.mailman2_composer import Mailman2Composer
from drainer.compose.mailman3 import Mailman3Composer
from drainer.compose.mailman3_decorations import Mailman3Decorations
from drainer.control.server import ControlServer
from drainer.control.web import StatusListener
from drainer.errors import (
    CustodyRefused,
    DrainerError,
    LedgerNotDurable,
    LedgerUnusable,
    NoRoomForSocket,
)
from drainer.exit_deadline import LastResort
from drainer.feed.gate import Gate
from drainer.feed.rate_in_force import RateInForce
from drainer.feed.session_pool import SessionPool
from drainer.feed.throttle import Throttle
from drainer.guards.mailman_processes import mailman_processes
from drainer.host_check.values import exposed
from drainer.in_doubt.resolve import InDoubt
from drainer.ledger.records import INTAKE, JournalLine, OperatorState
from drainer.ledger.sqlite import SqliteLedger
from drainer.observe.outlook import Outlook
from drainer.observe.runner_beside import RunnerBeside
from drainer.observe.side_tasks import SideTasks
from drainer.observe.situation import Situation
from drainer.observe.surroundings import Surroundings
from drainer.operate.operations import ServiceOperations
from drainer.pipeline import Pipeline
from drainer.queuedir.custody import Custody
from drainer.queuedir.entry import Flavour
from drainer.queuedir.loan import Loan
from drainer.report import systemd
from drainer.report.notices import Notice
from drainer.report.notify import Notifier
from drainer.report.terminal.status import status_line
from drainer.secret_files import password_warnings
from drainer.settings import Settings
from drainer.stages.parts import Parts
from drainer.start.ledger_check import Belonging
from drainer.start.reloading import reloaded
from drainer.start.site import (
    flavour_of,
    index_directory,
    make_parent,
    out_of_reach,
    prepare,
    refuse_beside_runner,
    refuse_root_for_others,
)
from drainer.text.logfmt import logfmt
from drainer.text.wording import duration
from drainer.via_mailman.handover import Release

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
STOP_MARGIN_S = 30.0
"""A stop takes no longer than the last reply to a final dot may, and this; TimeoutStopSec of the unit is longer still."""
THREADS_END_WITHIN_S = 10.0


def run(settings: Settings, until_empty: bool = False, reread: Callable[[], Settings] | None = None) -> int:
    """Run the service until a signal, or until nothing is left. Returns the exit status.

    reread  gives the settings anew at SIGHUP
    Raises  CustodyRefused, LedgerUnusable, ComposerUnavailable and the like: the start failed and nothing was touched
    """
    logging.basicConfig(level=settings.log.level.upper(), format="%(message)s" if _under_systemd() else _LINE)
    last_resort = LastResort()
    try:
        return uvloop.run(_to_the_end(Service(settings, until_empty, reread, last_resort=last_resort), last_resort))
    finally:
        last_resort.cancel()


async def _to_the_end(service: Service, last_resort: LastResort) -> int:
    """The service's run. What comes behind it, asyncio waiting for its threads, may never end."""
    status = 1
    try:
        status = await service.main()
        return status
    finally:
        last_resort.within(THREADS_END_WITHIN_S, status, "a thread, after all was written down")


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
        last_resort: LastResort | None = None,
    ) -> None:
        self.settings = settings
        self.operator = OperatorState()
        self.deciding = asyncio.Lock()
        self._until_empty = until_empty
        self._reread = reread
        self._clock = clock or SystemClock()
        self._last_resort = last_resort
        self._stop = asyncio.Event()
        self._clock_ahead_s = self._clock.now_s() - self._clock.monotonic_s()
        self._notifier = Notifier(settings.notify)
        self.side_tasks = SideTasks(self._clock)
        self._why_stopped = ""
        self._surroundings = Surroundings(settings, self._clock)
        self._loan: Loan
        self._belonging: Belonging
        self._beside: RunnerBeside
        self._ledger: SqliteLedger
        self.pipeline: Pipeline
        self.situation: Situation

    async def main(self) -> int:
        async with contextlib.AsyncExitStack() as stack:
            await self._start(stack)
            stop = asyncio.create_task(self._stop.wait())
            tasks = [asyncio.create_task(work(), name=name) for name, work in self._work().items()]
            side = [
                asyncio.create_task(self.side_tasks.kept_going(name, work), name=name)
                for name, work in self._side_work().items()
            ]
            systemd.notify_ready()
            log.info(logfmt(event="ready", version=__version__, queue_dir=self.settings.mailman.queue_dir))
            done, _ = await asyncio.wait([stop, *tasks], return_when=asyncio.FIRST_COMPLETED)
            await self._wind_down([*tasks, *side])
            stop.cancel()
            for task in done - {stop}:
                task.result()
        return 0

    def _work(self) -> dict[str, Callable[[], Coroutine[Any, Any, None]]]:
        """The tasks of supervised.MAY_END."""
        return {
            "intake": self.pipeline.intake.run,
            "survey": self.pipeline.survey.run,
            "bring_back": self.pipeline.intake.bring_back,
            "feed": self.pipeline.feed.run,
            "follow": self.pipeline.parts.release.follow,
            "in_doubt": self.pipeline.parts.in_doubt.run,
            "bounces": self.pipeline.bounces.run,
            "operator": self._tick,
            "ledger": self._keep_ledger,
        }

    def _side_work(self) -> dict[str, Callable[[], Coroutine[Any, Any, None]]]:
        """Those tasks of supervised.SIDE_TASKS that run for ever; the others are steps of one of these or of `operator`."""
        return {
            "guards": self._look_around,
            "expire": self._expire,
            "notify": self._notifier.run,
            "record": self.situation.recorder.run,
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
        custody.check()
        flavour = await asyncio.to_thread(flavour_of, settings.mailman, settings.feed.via == "smtp")
        await asyncio.to_thread(refuse_beside_runner, settings, flavour)
        self._surroundings.flavour = flavour.value
        loan = self._loan = Loan(
            settings.mailman.queue_dir, settings.ledger.path.with_name(f"{settings.ledger.path.name}-loan")
        )
        prepare(custody, loan)
        stack.callback(custody.close)
        loan.settle()
        make_parent(settings.ledger.path)
        ledger = self._ledger = SqliteLedger(settings.ledger.path, clock)
        await ledger.open()
        stack.push_async_callback(ledger.close)
        self._belonging = Belonging(custody, ledger, settings.ledger.path, clock)
        await self._belonging.recognise()
        self._beside = RunnerBeside(ledger, clock)
        directory = index_directory(settings.ledger.path)
        stack.callback(shutil.rmtree, directory, ignore_errors=True)
        index = BacklogIndex(directory / "backlog-index.sqlite")
        stack.callback(index.close)
        composers = await self._composers(stack, flavour)
        decorations = None
        if Flavour.MAILMAN2 in composers:
            decorations = ListDecorations(settings.mailman.lists_dir, settings.mailman.settings)
        mailman3_decorations = self._mailman3_decorations(stack, composers)
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
            mailman3_decorations=mailman3_decorations,
        )
        self.pipeline = Pipeline(parts)
        self.pipeline.intake.loan = loan
        outlook = Outlook(settings, clock, self.pipeline, loan)
        self.situation = Situation(settings, clock, self.pipeline, outlook, self._surroundings, self.side_tasks)
        with self.side_tasks.guarded("record"):
            await self.situation.recorder.start(__version__)
        await parts.in_doubt.recover()
        await self.pipeline.bounces.recover()
        await self.pipeline.refused.recover()
        await self.pipeline.limits.recover()
        await self.pipeline.intake.recover()
        self.apply(await ledger.operator_state())
        # What is finished before the first tick was backlog too.
        with self.side_tasks.guarded("show"):
            self._notifier.observe(await self.situation.snapshot())
        operations = ServiceOperations(self)
        await operations.undoing.recover()
        for trouble in await operations.selection.trouble_in_settings(settings):
            log.warning(logfmt(event="settings", detail=trouble))
        control = ControlServer(settings.control.socket, operations, settings.control.group)
        stack.push_async_callback(control.stop)
        if not await self._listens(control):
            again = self.side_tasks.kept_going("listen", lambda: self._listen_when_there_is_room(control))
            listening = asyncio.create_task(again, name="listen")
            stack.callback(listening.cancel)
        if settings.web.listen:
            situation = self.situation
            listener = StatusListener(settings.web, situation.snapshot, clock, lambda: situation.recorder.history)
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

    async def _composers(self, stack: contextlib.AsyncExitStack, flavour: Flavour) -> dict[Flavour, Composer]:
        mailman, most = self.settings.mailman, self.settings.feed.max_recipients
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

    def _mailman3_decorations(
        self, stack: contextlib.AsyncExitStack, composers: dict[Flavour, Composer]
    ) -> Mailman3Decorations | None:
        """Where nothing is composed, a co-process of its own is started when it is first asked."""
        composer, mailman = composers.get(Flavour.MAILMAN3), self.settings.mailman
        if composer is None:
            return None
        if not isinstance(composer, Mailman3Composer):
            composer = Mailman3Composer(mailman.python, mailman.config, 1, 0, mailman.remember)
            stack.push_async_callback(composer.close)
        return Mailman3Decorations(composer, mailman.queue_dir, self._clock)

    async def _wind_down(self, tasks: list[asyncio.Task[None]]) -> None:
        systemd.notify_stopping()
        self.situation.set_state("stopping", "")
        self.pipeline.parts.gate.close("stopping", "the service is stopping")
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.pipeline.feed.settle()
        with self.side_tasks.guarded("parting"):
            await self._notifier.last_words()
        await self.pipeline.parts.pool.close()
        self.pipeline.parts.custody.sync()
        with self.side_tasks.guarded("parting"), contextlib.suppress(DrainerError):
            await self.situation.recorder.end(await self.situation.snapshot(), self._why_stopped)
        log.info(logfmt(event="stopped", backlog_entries=self.pipeline.parts.index.totals().entries))

    def stop(self, why: str) -> None:
        log.info(logfmt(event="stopping", why=why))
        self._why_stopped = self._why_stopped or why
        if self._last_resort is not None:
            end_s = self.settings.mta.final_dot_timeout + STOP_MARGIN_S
            self._last_resort.within(end_s, 1, "the end of what was in delivery")
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
            before = self.settings
            self.settings, needs_restart = reloaded(self.settings, settings)
            self.pipeline.reconfigure(self.settings)
            self.situation.reconfigure(self.settings, needs_restart)
            self._surroundings.reconfigure(self.settings)
            self._notifier.settings = self.settings.notify
            self.apply(self.operator)
            if any(
                getattr(before, name) != getattr(self.settings, name)
                for name in ("feed", "mta", "duplicates", "guards")
            ):
                self.situation.recorder.overtaken("changed settings")
            logging.getLogger().setLevel(self.settings.log.level.upper())
            operator = self.operator
            overruled = [name for name, rate in (("feed.messages", operator.messages_per_s),
                         ("feed.recipients", operator.recipients_per_s)) if rate is not None]  # fmt: skip
            limited = self.pipeline.parts.limited_domains
            unforeseen = [domain for domain in self.settings.feed.domains if domain not in limited]
            log.log(
                logging.WARNING if needs_restart else logging.INFO,
                logfmt(
                    event="reloaded",
                    needs_restart=",".join(needs_restart) or None,
                    overruled_by_drainer_rate=",".join(overruled) or None,
                    # Counted by the survey alone, when it reads an entry: the ceiling is in force all the same.
                    finish_time_without_ceiling_of=",".join(unforeseen) or None,
                ),
            )
        systemd.notify_ready()

    def apply(self, operator: OperatorState) -> None:
        """Put pauses and rates into force."""
        before, after = ({pause.list_id for pause in state.pauses} for state in (self.operator, operator))
        if before != after:
            self.situation.recorder.overtaken("a pause" if after - before else "the end of a pause")
        self.operator = self.situation.operator = operator
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
        self.pipeline.bounces.clock_was_set_back(-jump_s)
        self.situation.clock_was_set_back()
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

    async def _tick(self) -> None:
        """Each second: pauses that end, rates, what is shown, systemd; and the end of --until-empty."""
        watchdog = systemd.Watchdog()
        while True:
            parts = self.pipeline.parts
            with contextlib.suppress(LedgerNotDurable):
                async with self.deciding:
                    await self._follow_clock()
                    await self._end_pauses()
            parts.rate.look()
            # DSNs are asked for last: one is owed before its entry is gone.
            is_over = self._until_empty and self._is_empty() and not (await parts.ledger.dsn_backlog()).owed
            with self.side_tasks.guarded("show"):
                await self._show(is_over)
            watchdog.alive()
            if is_over:
                parts.custody.end_drain()
                held = parts.index.totals().held_entries
                self.stop("nothing is left but held entries" if held else "nothing is left")
                return
            await asyncio.sleep(TICK_S)

    async def _show(self, is_over: bool) -> None:
        """What is seen from outside, as of now. is_over: nobody will look again."""
        snapshot = await self.situation.look()
        notices: Sequence[Notice] = ()
        with self.side_tasks.guarded("notify"):
            notices = self._notifier.observe(snapshot, is_last=is_over)
        with self.side_tasks.guarded("record"):
            self.situation.recorder.observe(snapshot, self.situation.limits_set(), notices)
        systemd.notify_status(status_line(snapshot))

    async def _look_around(self) -> None:
        """Now and then: guards, Mailman's processes and queues."""
        parts = self.pipeline.parts
        while True:
            with self.side_tasks.guarded("guards"):
                worst = await self._surroundings.look()
                if worst.verdict == "stop":
                    parts.gate.close("guard", f"{worst.name}: {worst.reason}")
                else:
                    parts.gate.open("guard")
                parts.rate.slow(worst if worst.verdict == "slow" else None)
            with self.side_tasks.guarded("queues"):
                await self._surroundings.count_queues()
            with self.side_tasks.guarded("intruder"), contextlib.suppress(LedgerNotDurable):
                await self._beside.note(self.situation.mailman())
            await asyncio.sleep(LOOK_AROUND_S)

    async def _keep_ledger(self) -> None:
        """Now and then: whether the ledger's file is still there, and whether it can commit again."""
        while True:
            self._require_ledger_in_place()
            if "ledger" in self.pipeline.parts.gate.reasons:
                await self._probe_ledger()
            with self.side_tasks.guarded("belonging"), contextlib.suppress(LedgerNotDurable):
                await self._belonging.renew(self.situation.totals.get("transactions"))
            await asyncio.sleep(LEDGER_PROBE_S)

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
            try:
                parts.custody.expire_duplicates(self.settings.duplicates.keep)
            except CustodyRefused as exc:
                log.error(logfmt(outcome="not_removed", detail=exc))
            with contextlib.suppress(LedgerNotDurable):
                await parts.ledger.expire(self._clock.now_s() - self.settings.ledger.keep)
            await asyncio.sleep(EXPIRE_S)

    def _is_empty(self) -> bool:
        totals, progress = self.pipeline.parts.index.totals(), self.pipeline.progress
        return progress.listed and not (
            totals.entries or progress.on_the_way or self.pipeline.feed.active or self._loan.entries()
        )


def _warn(settings: Settings) -> None:
    """Say what is unwise in the settings. Raises SettingsError for what is worse than that."""
    warnings = password_warnings(settings.mta)
    if open_to_all := exposed(settings.web.listen):
        warnings.append(f"web.listen: {open_to_all}")
    for warning in warnings:
        log.warning(logfmt(event="settings", detail=warning))
    for warning in out_of_reach(settings):
        log.warning(logfmt(event="out_of_reach", detail=warning))
