"""The service: starts, supervises and stops its tasks; signals; the order of shutdown.

Start     custody (its lock) > ledger > index > composers > what earlier runs left > control socket, web > READY
Run       thirteen tasks until a signal, or with --until-empty until nothing is left but held entries. Nine belong to the
          drain, and one of them that fails ends the service; four stand beside it, and are begun again (side_tasks.py).
Stop      the gate closes > tasks end > transactions that have sent DATA are finished > sessions QUIT > web, control socket
          > readers, composers, index > ledger > custody's lock
Not here  how the parts are made (start/assembly.py); what the tasks do (pipeline.py, rounds/)
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import signal
from collections.abc import Callable, Coroutine
from typing import Any

import uvloop

from drainer import __version__
from drainer.clock import Clock, SystemClock
from drainer.errors import DrainerError
from drainer.exit_deadline import LastResort
from drainer.host_check.not_used import not_used
from drainer.host_check.values import exposed
from drainer.observe.runner_beside import RunnerBeside
from drainer.observe.side_tasks import SideTasks
from drainer.observe.situation import Situation
from drainer.operate.operations import ServiceOperations
from drainer.operate.pauses_and_rates import PausesAndRates
from drainer.pipeline import Pipeline
from drainer.report import systemd
from drainer.report.log_lines import to_standard_error
from drainer.report.notify import Notifier
from drainer.rounds.behind_the_mta import LookingBehindTheMta
from drainer.rounds.clock_jumps import ClockJumps
from drainer.rounds.each_second import EachSecond
from drainer.rounds.ledger_upkeep import LedgerUpkeep
from drainer.rounds.looking_around import LookingAround
from drainer.secret_files import password_warnings
from drainer.settings import Settings
from drainer.start.assembly import Assembled, assemble, recover
from drainer.start.build_in_use import build_in_use
from drainer.start.listening import listen_to_operators, show_to_browsers
from drainer.start.reloading import reloaded
from drainer.start.site import out_of_reach, refuse_root_for_others
from drainer.text.logfmt import logfmt

log = logging.getLogger("drainer")

STOP_MARGIN_S = 30.0
"""A stop takes no longer than the last reply to a final dot may, and this; TimeoutStopSec of the unit is longer still."""
THREADS_END_WITHIN_S = 10.0

_Work = dict[str, Callable[[], Coroutine[Any, Any, None]]]


def run(settings: Settings, until_empty: bool = False, reread: Callable[[], Settings] | None = None) -> int:
    """Run the service until a signal, or until nothing is left. Returns the exit status.

    reread  gives the settings anew at SIGHUP
    Raises  BuildMixed, CustodyRefused, LedgerUnusable, ComposerUnavailable and the like: the start failed and nothing was
            touched
    """
    last_resort = LastResort()
    with to_standard_error(settings.log.level.upper(), with_time=not _under_systemd()):
        try:
            service = Service(settings, until_empty, reread, last_resort=last_resort, once_ready=_collect_less)
            return uvloop.run(_to_the_end(service, last_resort))
        finally:
            last_resort.cancel()


async def _to_the_end(service: Service, last_resort: LastResort) -> int:
    """The service's run, and a limit on what follows: asyncio waits for its threads, which may never end."""
    status = 1
    try:
        status = await service.main()
        return status
    finally:
        last_resort.within(THREADS_END_WITHIN_S, status, "a thread, after all was written down")


def _collect_less() -> None:
    """Tell Python's garbage collector that what the start made stays, and let it look for cycles more rarely.

    Our own objects go when their last reference goes. At Python's thresholds (700, 10, 10) the collector took 3.6 % of a
    drain's CPU, at these 0.6 %, with pauses of at most 5 ms (4,000 entries of one recipient, measured by gc.callbacks).
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 20)


def _under_systemd() -> bool:
    return "JOURNAL_STREAM" in os.environ


class Service:
    """One run of the service."""

    pipeline: Pipeline
    situation: Situation
    limits: PausesAndRates

    def __init__(
        self,
        settings: Settings,
        until_empty: bool = False,
        reread: Callable[[], Settings] | None = None,
        clock: Clock | None = None,
        last_resort: LastResort | None = None,
        once_ready: Callable[[], None] | None = None,
    ) -> None:
        """once_ready  called when the service has started, before it says so"""
        self.settings = settings
        self._clock = clock or SystemClock()
        self.side_tasks = SideTasks(self._clock)
        self._until_empty = until_empty
        self._reread = reread
        self._last_resort = last_resort
        self._once_ready = once_ready
        self._stop = asyncio.Event()
        self._why_stopped = ""
        self._notifier = Notifier(settings.notify)
        self._assembled: Assembled
        self._each_second: EachSecond
        self._looking_around: LookingAround
        self._looking_behind: LookingBehindTheMta
        self._ledger_upkeep: LedgerUpkeep

    async def main(self) -> int:
        build = build_in_use()
        async with contextlib.AsyncExitStack() as stack:
            await self._start(stack)
            stop = asyncio.create_task(self._stop.wait())
            tasks = [asyncio.create_task(work(), name=name) for name, work in self._work().items()]
            side = [
                asyncio.create_task(self.side_tasks.kept_going(name, work), name=name)
                for name, work in self._side_work().items()
            ]
            if self._once_ready is not None:
                self._once_ready()
            systemd.notify_ready()
            queue_dir = self.settings.mailman.queue_dir
            log.info(logfmt(event="ready", version=__version__, queue_dir=queue_dir, build=build.name))
            done, _ = await asyncio.wait([stop, *tasks], return_when=asyncio.FIRST_COMPLETED)
            await self._wind_down([*tasks, *side])
            stop.cancel()
            for task in done - {stop}:
                task.result()
        return 0

    def _work(self) -> _Work:
        """The tasks of side_tasks.MAY_END."""
        pipeline = self.pipeline
        return {
            "intake": pipeline.intake.run,
            "survey": pipeline.survey.run,
            "bring_back": pipeline.intake.bring_back,
            "feed": pipeline.feed.run,
            "follow": pipeline.follow.run,
            "in_doubt": pipeline.in_doubt.run,
            "bounces": pipeline.bounces.run,
            "operator": self._each_second.run,
            "ledger": self._ledger_upkeep.run,
        }

    def _side_work(self) -> _Work:
        """Those tasks of SIDE_TASKS that run for ever; the others are steps of one of these or of `operator`."""
        return {
            "guards": self._looking_around.run,
            "behind_the_mta": self._looking_behind.run,
            "expire": self._ledger_upkeep.expire,
            "notify": self._notifier.run,
            "record": self.situation.record_writer.run,
        }

    async def _start(self, stack: contextlib.AsyncExitStack) -> None:
        settings = self.settings
        refuse_root_for_others(settings.mailman.queue_dir)
        _warn(settings)
        self._use(await assemble(settings, self._clock, self.side_tasks, stack))
        await recover(self._assembled, self.side_tasks)
        # Before the first tick: entries finished until then were backlog too, and a notice counts them.
        with self.side_tasks.guarded("show"):
            self._notifier.observe(await self.situation.snapshot())
        operations = ServiceOperations(self.pipeline, self.situation, self.limits)
        await operations.recover()
        await listen_to_operators(stack, settings, operations, self.side_tasks)
        await show_to_browsers(stack, settings, self.situation, self._clock)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop, signal.Signals(number).name)
        loop.add_signal_handler(signal.SIGHUP, self.reload)

    def _use(self, assembled: Assembled) -> None:
        """The parts, and the rounds that are made of them."""
        clock, side_tasks = self._clock, self.side_tasks
        self._assembled = assembled
        pipeline = self.pipeline = assembled.pipeline
        situation = self.situation = assembled.situation
        limits = self.limits = assembled.limits
        self._each_second = EachSecond(
            pipeline,
            situation,
            limits,
            ClockJumps(pipeline, situation, limits, clock),
            assembled.loan,
            self._notifier,
            side_tasks,
            self.stop,
            until_empty=self._until_empty,
        )
        self._looking_around = LookingAround(
            pipeline.resources, assembled.surroundings, situation, RunnerBeside(assembled.ledger, clock), side_tasks
        )
        self._looking_behind = LookingBehindTheMta(
            assembled.surroundings.behind_the_mta, side_tasks, pipeline.domains.see
        )
        self._ledger_upkeep = LedgerUpkeep(
            assembled.ledger, assembled.ledger_check, pipeline.resources, situation, side_tasks, clock
        )

    async def _wind_down(self, tasks: list[asyncio.Task[None]]) -> None:
        systemd.notify_stopping()
        self.situation.set_state("stopping", "")
        self.pipeline.resources.gate.close("stopping", "the service is stopping")
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.pipeline.feed.idle()
        with self.side_tasks.guarded("parting"):
            await self._notifier.last_words()
        await self.pipeline.resources.pool.close()
        self.pipeline.resources.custody.sync()
        with self.side_tasks.guarded("parting"), contextlib.suppress(DrainerError):
            await self.situation.record_writer.end(await self.situation.snapshot(), self._why_stopped)
        log.info(logfmt(event="stopped", backlog_entries=self.pipeline.resources.index.totals.overall().entries))

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
            read = self._reread()
            _warn(read)
            in_force, needs_restart = reloaded(self.settings, read)
        except DrainerError as exc:
            log.error(logfmt(event="reload_refused", detail=exc))
        else:
            self._put_in_force(in_force, needs_restart)
        systemd.notify_ready()

    def _put_in_force(self, settings: Settings, needs_restart: tuple[str, ...]) -> None:
        before, self.settings = self.settings, settings
        self.pipeline.reconfigure(self.settings)
        self.situation.reconfigure(self.settings, needs_restart)
        self._assembled.surroundings.reconfigure(self.settings)
        self._notifier.reconfigure(self.settings.notify)
        self.limits.apply(self.limits.state)
        if any(
            getattr(before, name) != getattr(self.settings, name) for name in ("feed", "mta", "duplicates", "guards")
        ):
            self.situation.record_writer.overtaken("changed settings")
        logging.getLogger().setLevel(self.settings.log.level.upper())
        limits = self.limits.state
        set_rates = {"feed.messages": limits.messages_per_s, "feed.recipients": limits.recipients_per_s}
        overruled = [name for name, rate in set_rates.items() if rate is not None]
        log.log(
            logging.WARNING if needs_restart else logging.INFO,
            logfmt(
                event="reloaded",
                needs_restart=",".join(needs_restart) or None,
                overruled_by_drainer_rate=",".join(overruled) or None,
            ),
        )


def _warn(settings: Settings) -> None:
    """Log what is unwise in the settings. Raises SettingsError for what is dangerous."""
    warnings = password_warnings(settings.mta)
    if open_to_all := exposed(settings.web.listen):
        warnings.append(f"web.listen: {open_to_all}")
    warnings += [f"{one.about}: {one.text}" for one in not_used(settings)]
    for warning in warnings:
        log.warning(logfmt(event="settings", detail=warning))
    for warning in out_of_reach(settings):
        log.warning(logfmt(event="out_of_reach", detail=warning))
