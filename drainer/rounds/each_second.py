"""Each second: pauses that end, rates, what is shown, systemd's watchdog; and the end of `run --until-empty`.

In    the pipeline, the operator's pauses and rates
Out   the snapshot as it is shown and recorded; notices; datagrams to systemd; the reason to end
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Callable, Sequence

from drainer.errors import LedgerNotDurable, OperatorStateChanged
from drainer.observe.side_tasks import SideTasks
from drainer.observe.situation import Situation
from drainer.operate.pauses_and_rates import PausesAndRates
from drainer.pipeline import Pipeline
from drainer.queuedir.loan import Loan
from drainer.report import systemd
from drainer.report.notices import Notice
from drainer.report.notify import Notifier
from drainer.report.words import status_line
from drainer.rounds.clock_jumps import ClockJumps

TICK_S = 1.0
SHOWN_AT_LEAST_EVERY_S = 5.0
"""While the service does nothing and nothing changes, what is shown is made anew only so often. A status asked for is always
of its own moment."""


class EachSecond:
    """`run` until the queue is empty, if the service is to end then; else for ever."""

    def __init__(
        self,
        pipeline: Pipeline,
        situation: Situation,
        limits: PausesAndRates,
        clock_jumps: ClockJumps,
        loan: Loan,
        notifier: Notifier,
        side_tasks: SideTasks,
        stop: Callable[[str], None],
        *,
        until_empty: bool,
    ) -> None:
        """stop  called with the reason to end, once nothing is left; only with `until_empty`"""
        self._pipeline = pipeline
        self._situation = situation
        self._limits = limits
        self._clock_jumps = clock_jumps
        self._loan = loan
        self._notifier = notifier
        self._side_tasks = side_tasks
        self._stop = stop
        self._until_empty = until_empty
        self._shown_s = -math.inf

    async def run(self) -> None:
        watchdog = systemd.Watchdog()
        while True:
            with contextlib.suppress(LedgerNotDurable, OperatorStateChanged):
                async with self._limits.turn:
                    await self._clock_jumps.follow()
                    await self._limits.end_pauses()
            resources = self._pipeline.resources
            resources.rate.look()
            self._pipeline.bore.look()
            self._pipeline.domains.look()
            # DSNs are asked for last: one is owed before its entry is gone.
            is_over = self._until_empty and self.is_empty() and not (await resources.ledger.dsn_backlog()).owed
            with self._side_tasks.guarded("show"):
                await self._show(is_last=is_over)
            watchdog.alive()
            if is_over:
                await self._pipeline.bore.keep()
                resources.custody.premises.end_drain()
                held = resources.index.totals.overall().held_entries
                self._stop("nothing is left but held entries" if held else "nothing is left")
                return
            await asyncio.sleep(TICK_S)

    async def _show(self, *, is_last: bool) -> None:
        """What is seen from outside, as of now."""
        now_s = asyncio.get_running_loop().time()
        is_recent = now_s - self._shown_s < SHOWN_AT_LEAST_EVERY_S
        if is_recent and not is_last and await self._situation.stands_still():
            return
        self._shown_s = now_s
        snapshot = await self._situation.look()
        notices: Sequence[Notice] = ()
        with self._side_tasks.guarded("notify"):
            notices = self._notifier.observe(snapshot, is_last=is_last)
        with self._side_tasks.guarded("record"):
            self._situation.record_writer.observe(snapshot, self._situation.limits_set(), notices)
        systemd.notify_status(status_line(snapshot))

    def is_empty(self) -> bool:
        """Whether nothing is left but held entries, as far as all queues were listed."""
        totals, progress = self._pipeline.resources.index.totals.overall(), self._pipeline.progress
        return progress.listed and not (
            totals.entries or progress.on_the_way or self._pipeline.feed.active or self._loan.entries()
        )
