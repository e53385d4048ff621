"""An entry that does not go on by itself: held, in Mailman's bad/, gone, put off, or halted with all the others.

In    a filebase and the reason
Out   the ledger first, then the file, then the index
Not here  entries that are finished, suppressed or deferred (settle.py)
"""

from __future__ import annotations

import logging

from drainer.backlog.states import EntryState
from drainer.backlog.waiters import Waiters
from drainer.errors import CustodyRefused, EntryVanished, HaltError
from drainer.ledger.actions import Step
from drainer.ledger.evidence import Evidence, Fate
from drainer.ledger.records import Hold
from drainer.shielded import carried_through
from drainer.stages.entry_facts import EntryFacts
from drainer.stages.hold_reasons import why_held
from drainer.stages.resources import Resources
from drainer.text.logfmt import logfmt

log = logging.getLogger("drainer")

LOOK_AGAIN_S = 15.0
"""How soon an entry is looked at again that waits for another entry of its message, or for a doubt to be resolved."""

UNREADABLE_NAMED = 1000
"""Unreadable files of one run that the ledger names for the report: a backlog may be a million of them."""


class SetAside:
    """For every stage."""

    def __init__(self, resources: Resources, facts: EntryFacts, waiters: Waiters) -> None:
        self._resources = resources
        self._facts = facts
        self._waiters = waiters
        self._unreadable = 0

    def look_again(self, filebase: str, reason: str) -> None:
        """It waits, for something that has no moment of its own."""
        due_s = self._resources.clock.now_s() + LOOK_AGAIN_S
        self._resources.index.set_state(filebase, EntryState.DEFERRED, reason, due_s)

    async def hold(self, filebase: str, reason: str, detail: str, *, by: str, step: Step | None = None) -> None:
        """Set an entry aside for a person. The ledger first: a hold whose rename is lost is done again at the next start.

        step    of an operator's action; its hold is what is written
        Raises  EntryVanished, CustodyRefused, LedgerNotDurable
        """
        written = step.hold if step and step.hold else Hold(filebase, reason, detail, by, self._resources.clock.now_s())
        await carried_through(self._hold(written, step))

    async def _hold(self, hold: Hold, step: Step | None) -> None:
        filebase = hold.filebase
        self._resources.custody.path(filebase)
        # A held entry retries nobody. Drop its deferrals, or copies that wait for them stay stuck until it is released.
        # Crash before the next line: it waits as if it had never been deferred, and is held again for the same reason.
        await self._resources.ledger.finish_entry(filebase)
        await self._resources.ledger.hold([hold], step)
        self.has_been_held(hold)

    def has_been_held(self, hold: Hold) -> None:
        """Move the file and tell the index, once the ledger has the hold."""
        self._resources.custody.hold(hold.filebase)
        self._resources.index.set_state(hold.filebase, EntryState.HELD, why_held(hold.reason, hold.detail))
        self._waiters.wake(hold.filebase)
        log.warning(
            logfmt(outcome="held", filebase=hold.filebase, reason=hold.reason, detail=hold.detail or None, by=hold.by)
        )

    async def after_bug(self, filebase: str, error: BaseException) -> None:
        """Hold an entry that brought a bug to light."""
        try:
            await self.hold(filebase, "internal_error", repr(error), by="drainer")
        except EntryVanished as exc:
            await self.forget(filebase, exc)
        except (HaltError, CustodyRefused) as exc:
            self.look_again(filebase, str(exc))

    async def unreadable(self, filebase: str, reason: str, detail: str) -> None:
        if filebase in self._facts.claimed:
            self._resources.custody.promote_bak(filebase)
            self._facts.claimed.discard(filebase)
        # Renamed before it is counted: a crash in between leaves it whole in bad/ and out of the count.
        kept = self._resources.custody.preserve_bad(filebase)
        ended = self._resources.index.ended_as(filebase, Fate.UNREADABLE, 0)
        self._resources.index.remove(filebase)
        evidence = [Evidence(Fate.UNREADABLE, filebase, self._resources.clock.now_s(), detail=why_held(reason, detail))]
        self._unreadable += 1
        await self._resources.ledger.finish_entry(
            filebase, {"unreadable_entries": 1}, ended, evidence if self._unreadable <= UNREADABLE_NAMED else ()
        )
        log.warning(logfmt(outcome="unreadable", filebase=filebase, reason=reason, detail=detail, kept=kept))

    async def forget(self, filebase: str, exc: EntryVanished) -> None:
        """Its file is gone: something else than drainer has taken it away."""
        self._resources.index.remove(filebase)
        self._waiters.wake(filebase)
        log.warning(logfmt(outcome="vanished", filebase=filebase, detail=exc))
        try:
            # Nothing retries what it deferred: drop its deferrals, so that no copy waits for them.
            await self._resources.ledger.finish_entry(filebase)
        except HaltError as halt:
            self.halt(filebase, halt)

    def halt(self, filebase: str, exc: HaltError) -> None:
        """Send nothing more until the ledger can be written again (rounds/ledger_upkeep.py tries)."""
        self._resources.gate.close("ledger", str(exc))
        log.error(logfmt(outcome="halt", filebase=filebase, detail=exc))
