"""Every few seconds: what the MTA's queue and log say of recipient domains.

In    destinations/looking.py
Out   DestinationsSeen, handed on; trouble as that of any side task: in the log once in a while, in status, counted

Its own timer: a queue of 100,000 messages takes a while to list, and guards do not wait for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from drainer.destinations.looking import BehindTheMta
from drainer.destinations.seen import DestinationsSeen
from drainer.errors import MtaError
from drainer.observe.side_tasks import SideTasks

LOOK_BEHIND_S = 5.0


class LookingBehindTheMta:
    """`run` for ever. takers: each is given each look."""

    def __init__(
        self, behind: BehindTheMta, side_tasks: SideTasks, *takers: Callable[[DestinationsSeen], None]
    ) -> None:
        self._behind = behind
        self._side_tasks = side_tasks
        self._takers = takers

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
        """Raises MtaError for what could not be read, once the rest is handed on."""
        for take in self._takers:
            take(seen)
        if seen.trouble:
            raise MtaError(seen.trouble)
