"""Every few seconds: what the MTA's queue and log say of recipient domains.

In    destinations/looking.py
Out   DestinationsSeen, handed on; trouble in the log once, not each time

Its own timer: a queue of 100,000 messages takes a while to list, and guards do not wait for it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from drainer.destinations.looking import BehindTheMta
from drainer.destinations.seen import DestinationsSeen
from drainer.observe.side_tasks import SideTasks
from drainer.text.logfmt import logfmt

log = logging.getLogger("drainer")

LOOK_BEHIND_S = 5.0


class LookingBehindTheMta:
    """`run` for ever. takers: each is given each look."""

    def __init__(
        self, behind: BehindTheMta, side_tasks: SideTasks, *takers: Callable[[DestinationsSeen], None]
    ) -> None:
        self._behind = behind
        self._side_tasks = side_tasks
        self._takers = takers
        self._trouble = ""

    async def run(self) -> None:
        try:
            while True:
                with self._side_tasks.guarded("behind_the_mta"):
                    if self._behind.is_watching:
                        self._see(await self._behind.look())
                await asyncio.sleep(LOOK_BEHIND_S)
        finally:
            await self._behind.close()

    def _see(self, seen: DestinationsSeen) -> None:
        if seen.trouble not in ("", self._trouble):
            log.warning(logfmt(event="behind_the_mta_unread", detail=seen.trouble))
        self._trouble = seen.trouble
        for take in self._takers:
            take(seen)
