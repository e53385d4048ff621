"""What of ours is in Mailman's hands now: every open handover, and the places in out/ that they take.

In    handovers as they begin and end
Out   which entries Mailman has, and where; a place in the window for the next one; each outcome in the ledger
Not here  when an entry is handed over (handover.py); how an outcome is found out (follow.py)
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from collections.abc import Collection, Sequence
from pathlib import Path

from drainer.clock import Clock
from drainer.feed.lane_queue import LaneQueue
from drainer.feed.permit import Permit
from drainer.ledger.contract import Ledger
from drainer.ledger.records import AttemptId, Outcome, new_attempt_id
from drainer.mta_log.mailman_smtp_log import SmtpLog
from drainer.queuedir.filebase import HOME_QUEUE, Suffix
from drainer.text.logfmt import logfmt
from drainer.via_mailman.whereabouts import OpenHandover

log = logging.getLogger("drainer")


class OpenHandovers:
    """smtp_log  what Mailman wrote of deliveries; it remembers the messages of open handovers only
    window    places in out/: an entry of ours takes one there, and one that is about to be put there
    begun     set when a handover has begun
    """

    def __init__(self, ledger: Ledger, clock: Clock, queue_dir: Path, smtp_log: SmtpLog, window: LaneQueue) -> None:
        self.begun = asyncio.Event()
        self.window = window
        self._ledger = ledger
        self._clock = clock
        self._out = queue_dir / HOME_QUEUE
        self._smtp_log = smtp_log
        self._open: dict[AttemptId, OpenHandover] = {}
        self._in_out: set[str] = set()
        self._permits: dict[str, Permit] = {}

    @property
    def all(self) -> list[OpenHandover]:
        return list(self._open.values())

    @property
    def entries(self) -> int:
        """Of ours in out/ now."""
        return len(self._in_out)

    @property
    def retrying_recipients(self) -> int:
        """Handed over, and in Mailman's retry/."""
        return sum(len(handover.recipients) for handover in self._open.values() if handover.retrying)

    @property
    def is_waited_for(self) -> bool:
        """Whether an entry waits for a place in the window."""
        return self.window.is_waited_for

    def has(self, filebase: str) -> bool:
        """Whether the entry is in Mailman's hands."""
        return any(handover.filebase == filebase for handover in self._open.values())

    def path(self, filebase: str) -> Path | None:
        """Where in out/ the entry was put; None if it is not in Mailman's hands."""
        for handover in self._open.values():
            if handover.filebase == filebase:
                return self._out / (handover.mark.name + Suffix.WAITING)
        return None

    def is_open(self, handover: OpenHandover) -> bool:
        return handover.attempt_id in self._open

    @property
    def names(self) -> Collection[str]:
        """The filebases they were put into out/ under."""
        return {handover.mark.name for handover in self._open.values()}

    @property
    def since_s(self) -> float:
        """When the oldest began."""
        return min((handover.at_s for handover in self._open.values()), default=self._clock.now_s())

    def add(self, handover: OpenHandover) -> None:
        """It begins, or goes on with what is known now."""
        self._open[handover.attempt_id] = handover
        self._smtp_log.wanted.add(handover.record.message_id)
        self.begun.set()

    def keep(self, name: str, permit: Permit) -> None:
        """The recipients of this file in out/ are about to be sent to until Mailman is done with all of it."""
        self._permits[name] = permit

    def is_in_out(self, handover: OpenHandover) -> None:
        """It takes a place in out/."""
        if handover.mark.name not in self._in_out:
            self._in_out.add(handover.mark.name)
            self.window.occupy()

    def leaves_out(self, handover: OpenHandover) -> None:
        if handover.mark.name in self._in_out:
            self._in_out.remove(handover.mark.name)
            self.window.leave()

    def forget(self, handover: OpenHandover) -> None:
        """It has ended."""
        self._open.pop(handover.attempt_id, None)
        self.leaves_out(handover)
        if handover.mark.name not in self.names and (permit := self._permits.pop(handover.mark.name, None)):
            permit.end()
        self._smtp_log.forget({other.record.message_id for other in self._open.values()})

    async def split(self, handover: OpenHandover, some: Sequence[str]) -> tuple[OpenHandover, OpenHandover | None]:
        """`some` and the others, each with an attempt of its own."""
        if set(some) == set(handover.recipients):
            return handover, None
        attempt_id = new_attempt_id()
        await self._ledger.split_attempt(handover.attempt_id, some, attempt_id)
        part = dataclasses.replace(handover, attempt_id=attempt_id, recipients=tuple(some))
        others = tuple(address for address in handover.recipients if address not in some)
        rest = dataclasses.replace(handover, recipients=others)
        self._open[attempt_id] = part
        self._open[rest.attempt_id] = rest
        return part, rest

    async def close(self, handover: OpenHandover, outcome: Outcome) -> None:
        # INVARIANT outcome-after-evidence: called only once the files say so (follow.py); it is called again if the ledger
        # refuses.
        await self._ledger.close_attempt(handover.attempt_id, outcome.state, outcome.reply, outcome.at_s)
        self.forget(handover)
        log_handover(outcome.state.value, handover, outcome.reply)


def log_handover(outcome: str, handover: OpenHandover, reply: str = "") -> None:
    """One line per handover that begins, changes or ends."""
    log.info(
        logfmt(
            outcome=outcome, via="mailman", filebase=handover.filebase, list=handover.record.list_id,
            message_id=handover.record.message_id, recipients=len(handover.recipients), reply=reply or None,
        )
    )  # fmt: skip
