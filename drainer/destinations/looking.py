"""One look behind the MTA: its queue and what its log says since the last look.

In    the settings of [mta]; queue_reader.py and mta_log/follow.py
Out   DestinationsSeen; what cannot be read is said in it, and is never taken for zero
Not here  when a look is taken (rounds/behind_the_mta.py); what follows from it (the law)
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from drainer.blocking import InTime
from drainer.clock import Clock
from drainer.destinations.log_tally import DomainLogged, LogTally, may_be_a_delivery
from drainer.destinations.own_name import OwnName
from drainer.destinations.put_together import put_together
from drainer.destinations.queue_reader import QueueReader
from drainer.destinations.seen import DestinationsSeen
from drainer.destinations.too_fast import TooFastReplies
from drainer.errors import MtaLogUnreadable
from drainer.mta_log.follow import LogFollower, follower
from drainer.settings.mta import MtaSettings

LOG_WITHIN_S = 30.0
QUEUE_WITHIN_S = 1.0
_OF_QUEUE = frozenset({"queue", "queue_config", "queue_command"})
_OF_LOG = frozenset({"log_file", "log_name", "too_fast", *_OF_QUEUE})
"""Of a Postfix here, its own configuration says its name in the log."""


class BehindTheMta:
    """Looks when it is asked to.

    queue  may be asked by others as well, and is looked at once for all
    last   the last look; None before the first
    """

    def __init__(self, mta: MtaSettings, clock: Clock) -> None:
        self._mta = mta
        self._clock = clock
        self.queue = QueueReader(mta, clock)
        self.last: DestinationsSeen | None = None
        self._too_fast = TooFastReplies(mta.too_fast)
        self._log = _Log(mta, clock, self._too_fast) if mta.log_file is not None else None

    @property
    def is_watching(self) -> bool:
        """Whether the settings name a queue or a log."""
        return self.queue.is_watching or self._log is not None

    def reconfigure(self, mta: MtaSettings) -> None:
        """Settings read again. What did not change goes on: a follower made anew would miss what was written meanwhile."""
        changed = {name for name in _OF_QUEUE | _OF_LOG if getattr(mta, name) != getattr(self._mta, name)}
        self._mta = mta
        if changed & _OF_QUEUE:
            self.queue = QueueReader(mta, self._clock)  # a look under way ends by itself
        if changed & _OF_LOG:
            if self._log is not None:
                self._log.close()  # a postconf under way ends by itself
            self._too_fast = TooFastReplies(mta.too_fast)
            self._log = _Log(mta, self._clock, self._too_fast) if mta.log_file is not None else None

    @property
    def follows_a_log(self) -> bool:
        return self._log is not None

    async def glance(self) -> bool:
        """Read on in the log, which costs little; what is counted is in the next look. Returns whether a provider says there
        that we are too fast, since the last look."""
        return self._log is not None and await self._log.read_on()

    async def look(self, at_once: bool = False) -> DestinationsSeen:
        """Of the queue, the last look counts while the next one is not due (queue_reader.py), and while that one goes on: a
        queue of 200,000 messages takes a minute to list, and the log has news each second.

        at_once  if it is due, it is not waited for
        """
        queue = self.queue.last
        if self.queue.is_watching and not (at_once and queue):
            with suppress(TimeoutError):
                async with asyncio.timeout(QUEUE_WITHIN_S if queue else None):
                    queue = await self.queue.look()
        logged, log_trouble = await self._log.since_last() if self._log else ({}, "")
        has_queue = queue is not None and not queue.trouble
        troubles = filter(None, (queue.trouble if queue else "", log_trouble))
        listed = queue.queue if queue and has_queue else None
        # In a thread: thousands of domains take a while, and delivery goes on meanwhile.
        domains = await asyncio.to_thread(put_together, listed, logged, self._too_fast)
        self.last = DestinationsSeen(
            at_s=self._clock.monotonic_s(),
            domains=domains,
            log_read=self._log is not None and not log_trouble,
            trouble="; ".join(troubles),
            messages=listed.messages if listed else None,
            others=listed.others if listed else 0,
            took_s=queue.took_s if queue else 0.0,
            name_trouble=self._log.own_name.trouble if self._log else "",
        )
        return self.last

    async def close(self) -> None:
        await self.queue.close()
        if self._log is not None:
            await self._log.own_name.close()
            self._log.close()


class _Log:
    def __init__(self, mta: MtaSettings, clock: Clock, too_fast: TooFastReplies) -> None:
        assert mta.log_file is not None
        self.own_name = OwnName(mta, clock)
        self._path: Path = mta.log_file
        self._clock = clock
        self._follower: LogFollower = follower(self._path, may_be_a_delivery, clock.now_s())
        self._tally = LogTally(too_fast)
        self._reading = InTime[None](LOG_WITHIN_S)
        self._trouble = ""

    async def read_on(self) -> bool:
        self._tally.count_only(await self.own_name.names())
        now_s = self._clock.now_s()
        try:
            await self._reading.ask(f"new lines of {self._path}", lambda: self._read(now_s))
        except (MtaLogUnreadable, TimeoutError) as exc:
            self._trouble = f"mta.log_file: {exc}"
            if isinstance(exc, MtaLogUnreadable):
                self._tally.take()
        return not self._trouble and self._tally.says_too_fast

    async def since_last(self) -> tuple[Mapping[str, DomainLogged], str]:
        """What was counted since the last call, and "" or why that is not all there was."""
        await self.read_on()
        trouble, self._trouble = self._trouble, ""
        return ({}, trouble) if trouble else (self._tally.take(), "")

    def close(self) -> None:
        self._follower.close()

    def _read(self, now_s: float) -> None:
        for line in self._follower.new_lines(now_s):
            self._tally.feed(line)
