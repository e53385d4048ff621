"""The ledger while it is in use: whether its file is still there, whether it can commit again, what it may forget.

In    the ledger, the mark that binds it to this queue
Out   sending stopped or let go on; the mark renewed; old rows and old duplicates removed
Raises  LedgerUnusable, which ends the service: the ledger's file was deleted or replaced
"""

from __future__ import annotations

import asyncio
import contextlib
import logging

from drainer.clock import Clock
from drainer.errors import CustodyRefused, LedgerNotDurable, LedgerUnusable
from drainer.ledger.contract import Ledger
from drainer.ledger.open import place_of
from drainer.ledger.records import JournalLine
from drainer.observe.side_tasks import SideTasks
from drainer.observe.situation import Situation
from drainer.stages.resources import Resources
from drainer.start.ledger_check import LedgerCheck
from drainer.text.logfmt import logfmt

log = logging.getLogger("drainer")

LEDGER_PROBE_S = 5.0
EXPIRE_S = 3600.0


class LedgerUpkeep:
    """`run` and `expire` for ever, each as a task of its own."""

    def __init__(
        self,
        ledger: Ledger,
        check: LedgerCheck,
        resources: Resources,
        situation: Situation,
        side_tasks: SideTasks,
        clock: Clock,
    ) -> None:
        self._ledger = ledger
        self._check = check
        self._resources = resources
        self._situation = situation
        self._side_tasks = side_tasks
        self._clock = clock

    async def run(self) -> None:
        while True:
            self._require_in_place()
            if "ledger" in self._resources.gate.reasons:
                await self.probe()
            with self._side_tasks.guarded("belonging"), contextlib.suppress(LedgerNotDurable):
                await self._check.renew(self._situation.totals.get("transactions"))
            await asyncio.sleep(LEDGER_PROBE_S)

    def _require_in_place(self) -> None:
        """Raises LedgerUnusable if the ledger's file was deleted or replaced while it is open."""
        path = place_of(self._resources.settings.ledger)
        if not self._ledger.is_in_place:
            # Sending stops at once; what is in flight is finished and written down, then closing writes the file anew.
            self._resources.gate.close("ledger", f"{path} was deleted or replaced while in use")
            raise LedgerUnusable(
                f"{path} was deleted or replaced while in use. Sending has stopped; a deleted one was written anew as the "
                "service ended, nothing of it is lost: right would be to leave it there and start drainer again"
            )

    async def probe(self) -> None:
        """Sending stopped because the ledger could not commit. A commit that succeeds lets sending go on."""
        with contextlib.suppress(LedgerNotDurable):
            line = JournalLine(self._clock.now_s(), "drainer", "ledger", "can commit again: sending goes on")
            await self._resources.ledger.write_journal(line)
            self._resources.gate.open("ledger")
            log.info(logfmt(event="ledger_ok"))

    async def expire(self) -> None:
        """Every hour: forget what is older than `duplicates.keep` and `ledger.keep`."""
        while True:
            resources = self._resources
            try:
                resources.custody.expire_duplicates(resources.settings.duplicates.keep)
            except CustodyRefused as exc:
                log.error(logfmt(outcome="not_removed", detail=exc))
            with contextlib.suppress(LedgerNotDurable):
                await resources.ledger.expire(self._clock.now_s() - resources.settings.ledger.keep)
            await asyncio.sleep(EXPIRE_S)
