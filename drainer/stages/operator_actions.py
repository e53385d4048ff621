"""What an operator does to single entries: hold, release, drop. Each needs the entry to itself (Feed.taken_out).

In    a filebase, and which action it is done for
Out   the entry held, waiting again, or kept in duplicates/; the ledger knows first, with how the entry stood before
Not here  giving back to Mailman (handback.py); undoing any of it (undo.py)
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace

from drainer.backlog.states import EntryState
from drainer.duplicates.decision import Decision
from drainer.errors import (
    EntryError,
    RequestRefused,
)
from drainer.ledger.actions import Before, Step, StepKind, Waiting
from drainer.ledger.evidence import Evidence, Fate
from drainer.ledger.records import Hold, MessageRecord, Outcome, RecipientKey, recipient_key
from drainer.ledger.states import State
from drainer.queuedir.entry import QueueEntry
from drainer.stages.decide import Decide
from drainer.stages.entry_facts import EntryFacts
from drainer.stages.hold_reasons import DUPLICATE, IN_DOUBT, RELEASED, RESEMBLES, RESEND, UNDECIDED
from drainer.stages.outcome_log import log_outcome
from drainer.stages.resources import Resources
from drainer.stages.set_aside import SetAside
from drainer.via_mailman.follow import SHUNTED

log = logging.getLogger("drainer")


@dataclass(frozen=True, slots=True)
class Doing:
    """The action that a step belongs to. takes_back: the action whose step on the entry it reverses."""

    number: int
    by: str
    takes_back: int | None = None

    def step(self, kind: StepKind, before: Before, filebase: str, hold: Hold | None = None) -> Step:
        return Step(self.number, filebase, kind, before, hold, takes_back=self.takes_back)


@dataclass(frozen=True, slots=True)
class _HeldElsewhere:
    """Recipients of an entry that others of the same mail have HELD. identity: of the mail, as the ledger knows it."""

    identity: tuple[bytes, ...]
    waiting: tuple[Waiting, ...]

    @property
    def recipients(self) -> frozenset[RecipientKey]:
        return frozenset(key for part in self.waiting for key in part.keys)


class EntryActions:
    """Raises RequestRefused where it cannot be done now, EntryError where the entry cannot be read."""

    def __init__(self, resources: Resources, facts: EntryFacts, decide: Decide, set_aside: SetAside) -> None:
        self._resources = resources
        self._facts = facts
        self._decide = decide
        self._set_aside = set_aside

    async def hold(self, filebase: str, state: EntryState, reason: str, doing: Doing) -> None:
        """Set aside until it is released. Raises RequestRefused if it is held, EntryVanished, CustodyRefused."""
        if state is EntryState.HELD:
            raise RequestRefused("it is held already")
        before = await self.before_hold(filebase, state)
        hold = Hold(filebase, "operator", reason, doing.by, self._resources.clock.now_s())
        step = doing.step(StepKind.HOLD, before, filebase, hold)
        await self._set_aside.hold(filebase, hold.reason, hold.detail, by=hold.by, step=step)

    async def before(self, filebase: str, state: EntryState, waiting: tuple[Waiting, ...] = ()) -> Before:
        """What is to be put back if the action is undone. state: as taken_out gave it."""
        ledger = self._resources.ledger
        return Before(
            is_held=state is EntryState.HELD,
            hold=await ledger.hold_of(filebase),
            deferral=await ledger.deferral(filebase) if state is not EntryState.HELD else None,
            overruled=self._facts.released.get(filebase, ""),
            waiting=waiting,
        )

    async def before_hold(self, filebase: str, state: EntryState) -> Before:
        """The same for a hold, after which the ledger does not know any more who was refused for now."""
        before = await self.before(filebase, state)
        if before.deferral is None or state is EntryState.DEFERRED:
            return before
        return replace(before, waiting=await self._own_in(filebase, State.DEFERRED))  # the others wait for a ceiling

    async def release(self, filebase: str, state: EntryState, doing: Doing) -> None:
        """A held or deferred entry goes next. Raises RequestRefused if it is neither, which `state` says."""
        ledger, index = self._resources.ledger, self._resources.index
        if state not in (EntryState.HELD, EntryState.DEFERRED):
            raise RequestRefused("its turn has come already" if state is EntryState.ACTIVE else "it waits already")
        why = await ledger.hold_of(filebase)
        # Its HELD recipients may have the mail already. The operator says "send it again" only if the entry is held for
        # them, or was shunted by Mailman. Released from another hold, or from a deferral, it goes to the other recipients
        # and is held again for these. Held for recipients that another entry has HELD, which may be gone: as if its own.
        is_about_them = why is not None and why.reason in (IN_DOUBT, SHUNTED)
        elsewhere = await self._held_elsewhere(filebase) if why is not None and why.reason == IN_DOUBT else None
        # Each crash leaves the file in held/, and nothing is sent from there. Crash before the next commit: it has its hold.
        # Crash after it: it has no hold, and is to be released once more. Crash after RELEASED: recover() (intake.py)
        # does the rename.
        waiting = await self._own_in(filebase, State.HELD) if is_about_them else ()
        before = await self.before(filebase, state, (*waiting, *(elsewhere.waiting if elsewhere else ())))
        step = doing.step(StepKind.RELEASE, before, filebase)
        await ledger.release(
            [filebase],
            held_recipients=is_about_them,
            step=step,
            held_elsewhere=(elsewhere.identity, elsewhere.recipients) if elsewhere else None,
        )
        # A policy that was overruled once stays overruled when the entry is held again, or deferred, and released again.
        overruled = (
            why.reason if why and why.reason in (RESEND, DUPLICATE, UNDECIDED) else self._facts.released.get(filebase)
        )
        if overruled:
            by = why.by if why else "drainer"
            await ledger.hold([Hold(filebase, RELEASED, overruled, by, self._resources.clock.now_s())])
            self._facts.released[filebase] = overruled
        elif filebase in self._facts.resembling:
            await ledger.hold([Hold(filebase, RESEMBLES, "", "drainer", self._resources.clock.now_s())])
        if index.state_of(filebase) is EntryState.HELD:
            self._resources.custody.release(filebase)
        index.set_state(filebase, EntryState.WAITING)
        self._resources.signals.unread.set()  # one that could not be read may be readable now

    async def _own_in(self, filebase: str, state: State) -> tuple[Waiting, ...]:
        """Its recipients in this state; none if it cannot be read."""
        try:
            record = self._facts.record(await self._facts.summarised(self._facts.read(filebase)))
        except EntryError:
            return ()
        return await self._waiting(filebase, record, state)

    async def _held_elsewhere(self, filebase: str) -> _HeldElsewhere | None:
        """Its recipients that other entries of the mail have HELD; None if there are none, or it cannot be read."""
        try:
            entry = self._facts.read(filebase)
            identity = self._facts.known_as(self._facts.record(await self._facts.summarised(entry)))
        except EntryError:
            return None
        own = frozenset(map(recipient_key, entry.recipients))
        waiting = tuple(
            Waiting(part.state, tuple(sorted(part.recipients & own)), part.reply, part.at_s)
            for part in (await self._resources.ledger.history(identity)).coverage
            if part.state is State.HELD and part.filebase != filebase and part.recipients & own
        )
        return _HeldElsewhere(identity, waiting) if waiting else None

    async def may_have_it(self, filebase: str) -> int:
        """Recipients that a release of an entry held for them sends to again, though the MTA may have accepted the mail."""
        elsewhere = await self._held_elsewhere(filebase)
        if elsewhere is None:
            return await self._resources.ledger.held_recipients([filebase])
        own = (key for part in await self._own_in(filebase, State.HELD) for key in part.keys)
        return len(elsewhere.recipients.union(own))

    async def _waiting(self, filebase: str, record: MessageRecord, *states: State) -> tuple[Waiting, ...]:
        history = await self._resources.ledger.history(record.identity)
        return tuple(
            Waiting(part.state, tuple(sorted(part.recipients)), part.reply, part.at_s)
            for part in history.coverage
            if part.filebase == filebase and part.state in states
        )

    async def drop(self, filebase: str, why: str, state: EntryState, doing: Doing) -> None:
        """Skip all recipients it owes; its file is kept in duplicates/ for a while. Raises RequestRefused, EntryError.

        Recipients that were in doubt and are held are not sent to by a copy either: it is held for them.
        """
        if filebase in self._facts.left_unread():
            await self._drop_unread(filebase, why, state, doing)
            return
        entry, record, decision = await self._owed(filebase)
        owed = (*decision.deliver, *(claim.recipient for claim in (*decision.hold, *decision.wait)))
        waiting = await self._waiting(filebase, record, State.HELD, State.DEFERRED)
        before = replace(await self.before(filebase, state, waiting), skipped=tuple(map(recipient_key, owed)))
        ended = self._resources.index.ended_as(filebase, Fate.DROPPED, len(entry.recipients))
        step = replace(doing.step(StepKind.DROP, before, filebase), ended=ended)
        if owed:
            outcome = Outcome(State.SKIPPED, owed, why, self._resources.clock.now_s())
            await self._resources.ledger.record(filebase, record, [outcome], step=step)
            log_outcome(entry, record, outcome)
        # INVARIANT settled-before-drop: no recipient is owed any more before the file goes, and it goes to duplicates/ only.
        #   Crash before the rename: it is in backlog/ or held/, owes nobody, and _finish() moves it (settle.py).
        #   Crash after: it is in duplicates/, and out of the count. Held by tests/torture/.
        self._resources.custody.drop(filebase)
        evidence = Evidence(
            Fate.DROPPED,
            filebase,
            self._resources.clock.now_s(),
            record.list_id,
            record.message_id,
            len(owed),
            detail=why,
        )
        await self._resources.ledger.finish_entry(
            filebase, {"dropped_entries": 1, "dropped_recipients": len(owed)}, ended, [evidence], None if owed else step
        )
        self._resources.index.remove(filebase)

    async def _drop_unread(self, filebase: str, why: str, state: EntryState, doing: Doing) -> None:
        """One that is held because it cannot be read: its recipients are not known, and none of them is settled.

        Crash before the rename: it is held as before. Crash after: its file is in duplicates/, and out of the count.
        """
        ended = self._resources.index.ended_as(filebase, Fate.DROPPED, 0)
        step = replace(doing.step(StepKind.DROP, await self.before(filebase, state), filebase), ended=ended)
        self._resources.custody.drop(filebase)
        evidence = Evidence(Fate.DROPPED, filebase, self._resources.clock.now_s(), "", "", 0, detail=why)
        await self._resources.ledger.finish_entry(filebase, {"dropped_entries": 1}, ended, [evidence], step)
        self._resources.index.remove(filebase)

    async def owed(self, filebase: str) -> list[str]:
        """Recipients nothing is settled about yet, in the entry's order. Raises EntryError."""
        entry, _, decision = await self._decide.of_file(filebase)
        waits = {*decision.deliver, *(claim.recipient for claim in (*decision.hold, *decision.wait))}
        return [address for address in entry.recipients if address in waits]

    async def _owed(self, filebase: str) -> tuple[QueueEntry, MessageRecord, Decision]:
        """Raises RequestRefused while any recipient is in doubt by this very entry."""
        entry, record, decision = await self._decide.of_file(filebase)
        doubtful = [c for c in decision.wait if c.filebase == filebase and c.state is State.IN_DOUBT]
        if doubtful:
            raise RequestRefused(f"{len(doubtful)} recipients are in doubt; they have to be resolved first")
        return entry, record, decision
