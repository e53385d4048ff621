"""Every second: what the MTA's queue and log say of recipient domains.

In    destinations/looking.py
Out   DestinationsSeen, handed on; trouble as that of any side task: in the log once in a while, in status, counted

Its own timer: a queue of 100,000 messages takes a while to list, and guards do not wait for it.

The log is read on twice a second, and a look is taken at once when a provider says there that we are too fast. At the speed
of a local MTA, what goes to one domain between two looks is hundreds of mails, and all of them would wait in its queue.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable

from drainer.destinations.looking import BehindTheMta
from drainer.destinations.seen import DestinationsSeen
from drainer.errors import MtaError
from drainer.observe.side_tasks import SideTasks
from drainer.text.logfmt import logfmt

log = logging.getLogger("drainer")

LOOK_BEHIND_S = 1.0
"""A domain that is new is fed faster with each look at which its provider keeps up (destinations/domain_pace.py)."""
AT_ONCE_S = 0.5
"""Between two looks, when a provider says that we are too fast."""
GLANCE_S, LONGEST_GLANCE_S = 0.5, 5.0
PATIENCE = 4.0
"""So many times what a glance took is the least time until the next one: journalctl costs more than a file."""


class LookingBehindTheMta:
    """`run` for ever. takers: each is given each look."""

    def __init__(
        self, behind: BehindTheMta, side_tasks: SideTasks, *takers: Callable[[DestinationsSeen], None]
    ) -> None:
        self._behind = behind
        self._side_tasks = side_tasks
        self._takers = takers
        self._knows_name = True

    async def run(self) -> None:
        time_s = asyncio.get_running_loop().time
        looked_s = -math.inf
        try:
            while True:
                began_s, wait_s = time_s(), LOOK_BEHIND_S
                with self._side_tasks.guarded("behind_the_mta"):
                    if self._behind.follows_a_log:
                        is_told = await self._behind.glance()
                        wait_s = glance_again_s(time_s() - began_s)
                    else:
                        is_told = False
                        if not self._behind.is_watching:
                            wait_s = LONGEST_GLANCE_S
                    if self._behind.is_watching:
                        since_s = time_s() - looked_s
                        if look_is_due(since_s, is_told):
                            looked_s = time_s()
                            self._see(await self._behind.look(at_once=since_s < LOOK_BEHIND_S))
                await asyncio.sleep(wait_s)
        finally:
            await self._behind.close()

    def _see(self, seen: DestinationsSeen) -> None:
        """Raises MtaError for what could not be read, once the rest is handed on."""
        for take in self._takers:
            take(seen)
        self._say_whose_lines_count(seen)
        if seen.trouble:
            raise MtaError(seen.trouble)

    def _say_whose_lines_count(self, seen: DestinationsSeen) -> None:
        """In the log once, and once more when the MTA's name is known."""
        before, self._knows_name = self._knows_name, not seen.name_trouble
        if before and seen.name_trouble:
            log.warning(logfmt(event="mta_name_unknown", detail=seen.name_trouble))
        elif not before and self._knows_name and seen.log_read:
            log.info(logfmt(event="mta_name_known"))


def look_is_due(since_s: float, is_told: bool) -> bool:
    """since_s: seconds since the last look; is_told: a provider has said since then that we are too fast."""
    return since_s >= (AT_ONCE_S if is_told else LOOK_BEHIND_S)


def glance_again_s(took_s: float) -> float:
    """Seconds until the log is read on again, after a glance that took so long."""
    return min(max(GLANCE_S, PATIENCE * took_s), LONGEST_GLANCE_S)
