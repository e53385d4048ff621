"""Every few seconds: the guards, Mailman's processes and its queues; what the strictest guard says is done.

In    observe/surroundings.py
Out   the gate closed or opened, the rate slowed; a line in the journal when Mailman's outgoing runner comes or goes
"""

from __future__ import annotations

import asyncio
import contextlib

from drainer.errors import LedgerNotDurable
from drainer.observe.runner_beside import RunnerBeside
from drainer.observe.side_tasks import SideTasks
from drainer.observe.situation import Situation
from drainer.observe.surroundings import Surroundings
from drainer.stages.resources import Resources

LOOK_AROUND_S = 5.0


class LookingAround:
    """`run` for ever."""

    def __init__(
        self,
        resources: Resources,
        surroundings: Surroundings,
        situation: Situation,
        runner_beside: RunnerBeside,
        side_tasks: SideTasks,
    ) -> None:
        self._resources = resources
        self._surroundings = surroundings
        self._situation = situation
        self._runner_beside = runner_beside
        self._side_tasks = side_tasks

    async def run(self) -> None:
        while True:
            with self._side_tasks.guarded("guards"):
                await self._follow_guards()
            with self._side_tasks.guarded("queues"):
                await self._surroundings.count_queues()
            with self._side_tasks.guarded("intruder"), contextlib.suppress(LedgerNotDurable):
                await self._runner_beside.note(self._situation.mailman())
            await asyncio.sleep(LOOK_AROUND_S)

    async def _follow_guards(self) -> None:
        totals = self._situation.totals
        fed = totals.get("delivered_entries" if self._resources.settings.feed.via == "mailman" else "transactions")
        worst = await self._surroundings.look(fed)
        if worst.verdict == "stop":
            self._resources.gate.close("guard", f"{worst.name}: {worst.reason}")
        else:
            self._resources.gate.open("guard")
        self._resources.rate.slow(*(guard for guard in self._surroundings.guards if guard.verdict == "slow"))
