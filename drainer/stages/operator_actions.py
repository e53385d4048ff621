"""What an operator does to single entries: hold, release, drop. Each needs the entry to itself (Feed.taken_out).

In    a filebase, and which action it is done for
Out   the entry held, waiting again, or kept in duplicates/; the ledger knows first, with how the entry stood before
Not here  giving back to Mailman (handback.py); taking any of it back (undo.py)
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace

from drainer.backlog.states import EntryState
from drainer.duplicates.classes import DuplicateClass
from drainer.duplicates.decision import Decision
from drainer.errors import (
    EntryError,
    RequestRefused,
)
from drainer.ledger.actions import Before, Step, StepKind, Waiting
from drainer.ledger.evidence import Evidence, Fate
from drainer.ledger.records import Hold, MessageRecord, Outcome, recipient_key
from drainer.ledger.states import State
from drainer.queuedir.entry import QueueEntry
from drainer.stages.parts import DUPLICATE, IN_DOUBT, RELEASED, RESEMBLES, RESEND, UNDECIDED, Parts, Standing
from drainer.stages.settle import Conclusion
from drainer.via_mailman.handover import SHUNTED

log = logging.getLogger("drainer")


@dataclass(frozen=True, slots=True)
class Doing:
    """The action something is done for. takes_back: the one whose step on the entry it reverses."""

    number: int
    by: str
    takes_back: int | None = None

    def step(self, kind: StepKind, before: Before, filebase: str, hold: Hold | None = None) -> Step:
        return Step(self.number, filebase, kind, before, hold, takes_back=self.takes_back)


class EntryActions:
    """Raises RequestRefused where it cannot be done now, EntryError where the entry cannot be read."""

    def __init__(self, parts: Parts, standing: Standing, conclusion: Conclusion) -> None:
        self._parts = parts
        self._standing = standing
        self._conclusion = conclusion

    async def hold(self, filebase: str, state: EntryState, reason: str, doing: Doing) -> None:
        """Set aside until it is released. Raises RequestRefused if it is held, EntryVanished, CustodyRefused."""
        if state is EntryState.HELD:
            raise RequestRefused("it is held already")
        before = await self.before(filebase, state)
        hold = Hold(filebase, "operator", reason, doing.by, self._parts.clock.now_s())
        step = doing.step(StepKind.HOLD, before, filebase, hold)
        await self._conclusion.hold(filebase, hold.reason, hold.detail, by=hold.by, step=step)

    async def before(self, filebase: str, state: EntryState, waiting: tuple[Waiting, ...] = ()) -> Before:
        """How it stands now. state: as taken_out gave it."""
        ledger = self._parts.ledger
        return Before(
            is_held=state is EntryState.HELD,
            hold=await ledger.hold_of(filebase),
            deferral=await ledger.deferral(filebase) if state is EntryState.DEFERRED else None,
            overruled=self._standing.released.get(filebase, ""),
            waiting=waiting,
        )

    async def release(self, filebase: str, state: EntryState, doing: Doing) -> None:
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
        before = await self.before(filebase, state, await self._held_in(filebase) if is_about_them else ())
        step = doing.step(StepKind.RELEASE, before, filebase)
        await ledger.release([filebase], held_recipients=is_about_them, step=step)
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

    async def _held_in(self, filebase: str) -> tuple[Waiting, ...]:
        """Its recipients that are HELD; nobody of one that cannot be read."""
        try:
            record = self._standing.record(await self._standing.summarised(self._standing.read(filebase)))
        except EntryError:
            return ()
        return await self._waiting(filebase, record, State.HELD)

    async def _waiting(self, filebase: str, record: MessageRecord, *states: State) -> tuple[Waiting, ...]:
        history = await self._parts.ledger.history(record.identity)
        return tuple(
            Waiting(part.state, tuple(sorted(part.recipients)), part.reply, part.at_s)
            for part in history.coverage
            if part.filebase == filebase and part.state in states
        )

    async def drop(self, filebase: str, why: str, state: EntryState, doing: Doing) -> None:
        """Deliver to nobody any more; the file is kept in duplicates/ for a while. Raises RequestRefused, EntryError."""
        if filebase in self._standing.left_unread():
            await self._drop_unread(filebase, why, state, doing)
            return
        entry, record, decision = await self._owed(filebase)
        owed = (*decision.deliver, *(claim.recipient for claim in (*decision.hold, *decision.wait)))
        waiting = await self._waiting(filebase, record, State.HELD, State.DEFERRED)
        before = replace(await self.before(filebase, state, waiting), skipped=tuple(map(recipient_key, owed)))
        ended = self._parts.index.ended_as(filebase, Fate.DROPPED, len(entry.recipients))
        step = replace(doing.step(StepKind.DROP, before, filebase), ended=ended)
        if owed:
            outcome = Outcome(State.SKIPPED, owed, why, self._parts.clock.now_s())
            await self._parts.ledger.record(filebase, record, [outcome], step=step)
            self._conclusion.log(entry, record, outcome)
        # INVARIANT settled-before-drop: nobody is owed any more before the file goes, and it goes to duplicates/ only.
        #   Crash before the rename: it is in backlog/ or held/, owes nobody, and finish() moves it (stages/settle.py).
        #   Crash after: it is in duplicates/, and out of the count. Held by tests/torture/.
        self._parts.custody.drop(filebase)
        evidence = Evidence(
            Fate.DROPPED, filebase, self._parts.clock.now_s(), record.list_id, record.message_id, len(owed), detail=why
        )
        await self._parts.ledger.finish_entry(
            filebase, {"dropped_entries": 1, "dropped_recipients": len(owed)}, ended, [evidence], None if owed else step
        )
        self._parts.index.remove(filebase)

    async def _drop_unread(self, filebase: str, why: str, state: EntryState, doing: Doing) -> None:
        """One that is held since nobody can read it: who was to have it is not known, and nothing is settled about them.

        Crash before the rename: it is held as before. Crash after: its file is in duplicates/, and out of the count.
        """
        ended = self._parts.index.ended_as(filebase, Fate.DROPPED, 0)
        step = replace(doing.step(StepKind.DROP, await self.before(filebase, state), filebase), ended=ended)
        self._parts.custody.drop(filebase)
        evidence = Evidence(Fate.DROPPED, filebase, self._parts.clock.now_s(), "", "", 0, detail=why)
        await self._parts.ledger.finish_entry(filebase, {"dropped_entries": 1}, ended, [evidence], step)
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
