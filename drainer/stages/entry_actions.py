"""What an operator does to single entries: release, drop. Each needs the entry to itself (Feed.taken_out).

In    a filebase
Out   the entry waiting again, or kept in duplicates/; the ledger knows first
Not here  giving back to Mailman (handback.py)
"""

from __future__ import annotations

import logging

from drainer.duplicates.classes import DuplicateClass
from drainer.duplicates.decision import Decision
from drainer.errors import (
    RequestRefused,
)
from drainer.feed.release import SHUNTED
from drainer.ledger.evidence import Evidence, Fate
from drainer.ledger.records import Hold, MessageRecord, Outcome
from drainer.ledger.states import State
from drainer.queuedir.entry import QueueEntry
from drainer.queuedir.index_values import EntryState
from drainer.stages.conclusion import Conclusion
from drainer.stages.parts import DUPLICATE, IN_DOUBT, RELEASED, RESEMBLES, RESEND, UNDECIDED, Parts, Standing

log = logging.getLogger("drainer")


class EntryActions:
    """Raises RequestRefused where it cannot be done now, EntryError where the entry cannot be read."""

    def __init__(self, parts: Parts, standing: Standing, conclusion: Conclusion) -> None:
        self._parts = parts
        self._standing = standing
        self._conclusion = conclusion

    async def release(self, filebase: str, state: EntryState) -> None:
        """A held or deferred entry goes next. Raises RequestRefused if it is neither, which `state` says."""
        ledger, index = self._parts.ledger, self._parts.index
        if state not in (EntryState.HELD, EntryState.DEFERRED):
            raise RequestRefused("its turn has come already" if state is EntryState.ACTIVE else "it waits already")
        why = await ledger.hold_of(filebase)
        # Whoever is HELD in it may have it already. A person has said "send again" only where that, or Mailman's shunting,
        # is what holds it; released from his own hold, or from a deferral, it goes to the others and is held again by those.
        is_about_them = why is not None and why.reason in (IN_DOUBT, SHUNTED)
        # Each crash leaves the file in held/: before the next line's commit with its hold; after it without, to be released
        # once more; after RELEASED, recover() (intake.py) does the rename. Nothing is sent from held/.
        await ledger.release([filebase], held_recipients=is_about_them)
        # What he overruled once stays so, when it was refused, or held by himself, and is released a second time.
        overruled = (
            why.reason
            if why and why.reason in (RESEND, DUPLICATE, UNDECIDED)
            else self._standing.released.get(filebase)
        )
        if overruled:
            by = why.by if why else "drainer"
            await ledger.hold([Hold(filebase, RELEASED, overruled, by, self._parts.clock.now_s())])
            self._standing.released[filebase] = overruled
        elif filebase in self._standing.resembling:
            await ledger.hold([Hold(filebase, RESEMBLES, "", "drainer", self._parts.clock.now_s())])
        if index.state_of(filebase) is EntryState.HELD:
            self._parts.custody.release(filebase)
        index.set_state(filebase, EntryState.WAITING)
        self._standing.unread.set()  # one that could not be read may be readable now

    async def drop(self, filebase: str, why: str) -> None:
        """Deliver to nobody any more; the file is kept in duplicates/ for a while. Raises RequestRefused, EntryError."""
        entry, record, decision = await self._owed(filebase)
        owed = (*decision.deliver, *(claim.recipient for claim in (*decision.hold, *decision.wait)))
        if owed:
            outcome = Outcome(State.SKIPPED, owed, why, self._parts.clock.now_s())
            await self._parts.ledger.record(filebase, record, [outcome])
            self._conclusion.log(entry, record, outcome)
        # INVARIANT settled-before-drop: nobody is owed any more before the file goes, and it goes to duplicates/ only.
        #   Crash before the rename: it is in backlog/ or held/, owes nobody, and finish() moves it (conclusion.py).
        #   Crash after: it is in duplicates/, and out of the count. Held by tests/torture/.
        self._parts.custody.drop(filebase)
        evidence = Evidence(
            Fate.DROPPED, filebase, self._parts.clock.now_s(), record.list_id, record.message_id, len(owed), detail=why
        )
        ended = self._parts.index.ended_as(filebase, Fate.DROPPED, len(entry.recipients))
        await self._parts.ledger.finish_entry(
            filebase, {"dropped_entries": 1, "dropped_recipients": len(owed)}, ended, [evidence]
        )
        self._parts.index.remove(filebase)

    async def owed(self, filebase: str) -> list[str]:
        """Recipients nothing is settled about yet, in the entry's order. Raises EntryError."""
        entry, _, decision = await self._decided(filebase)
        waits = {*decision.deliver, *(claim.recipient for claim in (*decision.hold, *decision.wait))}
        return [address for address in entry.recipients if address in waits]

    async def _decided(self, filebase: str) -> tuple[QueueEntry, MessageRecord, Decision]:
        entry = self._standing.read(filebase)
        summary = await self._standing.summarised(entry)
        record = self._standing.record(summary)
        decision = await self._conclusion.decide(entry, record, DuplicateClass.NONE, summary.fingerprint.identity)
        return entry, record, decision

    async def _owed(self, filebase: str) -> tuple[QueueEntry, MessageRecord, Decision]:
        """Raises RequestRefused while any recipient is in doubt by this very entry."""
        entry, record, decision = await self._decided(filebase)
        doubtful = [c for c in decision.wait if c.filebase == filebase and c.state is State.IN_DOUBT]
        if doubtful:
            raise RequestRefused(f"{len(doubtful)} recipients are in doubt; they have to be resolved first")
        return entry, record, decision
