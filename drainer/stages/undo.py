"""Take back what operators did to entries, one entry after the other.

In    the steps of an action (ledger/actions.py)
Out   each entry as it was before, as far as that is possible; the others by the reason why not
Not here  which action is meant, and what it did beside entries (operate/journal.py)

Taking back is a step as well, written in the commit that does it. After a crash, undoing the same action goes on with the
steps that are left; undoing the undo takes back those that were done.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

from drainer.backlog.states import EntryState
from drainer.errors import CustodyRefused, EntryError, EntryUnreadable, EntryVanished, RequestRefused
from drainer.ledger.actions import Before, PutBack, Step, StepKind, Waiting
from drainer.ledger.evidence import Ended, Fate
from drainer.ledger.records import Coverage, MessageRecord, Outcome, RecipientKey, recipient_key
from drainer.ledger.states import State
from drainer.queuedir.entry import QueueEntry
from drainer.queuedir.filebase import QueueFile, parse_name
from drainer.shielded import carried_through
from drainer.stages.entry_facts import EntryFacts
from drainer.stages.feed import Feed
from drainer.stages.hold_reasons import why_held
from drainer.stages.intake import batched
from drainer.stages.operator_actions import Doing, EntryActions
from drainer.stages.resources import Resources
from drainer.stages.set_aside import SetAside
from drainer.text.logfmt import logfmt
from drainer.text.wording import duration

log = logging.getLogger("drainer")

RESTORED_AT_A_TIME = 250
"""So many files are brought back together: their directories are made durable once for all of them."""

COPIES_LOOKED_AT = 1000

FINISHED = "finished since: delivered, failed for good, or had by a copy"
RELEASED_SINCE = "released since"
HELD_SINCE = "held since, for another reason"
DEFERRED_SINCE = "tried since, and deferred again"
MAILMANS = "given back to Mailman; those it has not delivered are taken again once nothing stops that"


@dataclass(slots=True)
class TakenBack:
    """Entries that are as before; and by reason those that are not."""

    changed: list[str] = field(default_factory=list)
    left: dict[str, list[str]] = field(default_factory=dict)

    def leave(self, filebase: str, why: str) -> None:
        self.left.setdefault(why, []).append(filebase)


@dataclass(frozen=True, slots=True)
class _Dropped:
    """A dropped entry whose file is in custody again, and the ledger does not know yet.

    entry  None: it cannot be read, and was held for that
    """

    step: Step
    file: QueueFile
    size_bytes: int
    entry: QueueEntry | None


@dataclass(frozen=True, slots=True)
class _Since:
    """What other actions have done since the one that is taken back.

    later  entries they have done something to, each with the last of them
    given  entries that are Mailman's since, and not here again
    """

    later: Mapping[str, int]
    given: frozenset[str]


class Undo:
    """`possible` looks, `take_back` does it."""

    def __init__(
        self, resources: Resources, facts: EntryFacts, set_aside: SetAside, actions: EntryActions, feed: Feed
    ) -> None:
        self._resources = resources
        self._facts = facts
        self._set_aside = set_aside
        self._actions = actions
        self._feed = feed

    async def possible(self, steps: Sequence[Step], later: Mapping[str, int]) -> TakenBack:
        """What `take_back` would do now.

        later  entries other actions have done something to since, each with the last of them
        """
        found, since = TakenBack(), await self._since(later)
        for step in steps:
            if why := await self._obstacle(step, self._resources.index.state_of(step.filebase), since):
                found.leave(step.filebase, why)
            else:
                found.changed.append(step.filebase)
        return found

    async def take_back(self, steps: Sequence[Step], later: Mapping[str, int], doing: Doing) -> TakenBack:
        """Raises LedgerNotDurable: what was not taken back by then is as it was."""
        done, since = TakenBack(), await self._since(later)
        away = [
            step
            for step in steps
            if step.kind is StepKind.DROP and self._resources.index.state_of(step.filebase) is None
        ]
        for some in batched(away, RESTORED_AT_A_TIME):
            await self._restore(some, since, doing, done)
        brought_back = {step.filebase for step in away}
        for step in steps:
            if step.filebase not in brought_back:
                await self._one(step, since, doing, done)
        self._resources.signals.unread.set()
        self._resources.signals.wake()
        return done

    async def _since(self, later: Mapping[str, int]) -> _Since:
        away = {name: number for name, number in later.items() if self._resources.index.state_of(name) is None}
        steps = [step for number in set(away.values()) for step in await self._resources.ledger.steps(number)]
        given = (step.filebase for step in steps if step.kind is StepKind.HANDBACK and step.filebase in away)
        return _Since(later, frozenset(given))

    async def _sent_by_mailman(self, filebase: str, given: Collection[str]) -> str:
        """Why a dropped entry is not owed again: Mailman has been given a copy of it since, and its recipients are not
        known; "" if it has been given none."""
        if not given:
            return ""
        try:
            entry = self._facts.read(filebase)
            record = await self._record(entry)
        except EntryError:
            return ""  # the next reading finds out what is wrong with it
        recipients = frozenset(map(recipient_key, entry.recipients))
        coverage = (await self._resources.ledger.history(record.identity)).coverage
        for line in await self._resources.ledger.evidence_of(record.message_id, COPIES_LOOKED_AT):
            if line.fate is not Fate.HANDED_BACK or line.list_id != record.list_id or line.filebase not in given:
                continue
            if not recipients <= _not_given(coverage, line.filebase, filebase):
                return f"Mailman was given {line.filebase}, a copy of it, since, and may have sent it"
        return ""

    async def _one(self, step: Step, since: _Since, doing: Doing, done: TakenBack) -> None:
        if why := await self._obstacle(step, self._resources.index.state_of(step.filebase), since):
            done.leave(step.filebase, why)
            return
        try:
            async with self._feed.taken_out(step.filebase) as state:
                if why := await self._obstacle(step, state, since):
                    raise RequestRefused(why)
                await carried_through(self._reverse(step, state, doing))
            done.changed.append(step.filebase)
        except EntryVanished:
            if step.kind is StepKind.DROP:  # its drop was cut off, and was completed a moment ago
                await self._restore([step], since, doing, done)
            else:
                done.leave(step.filebase, _gone(step.filebase, since.later))
        except (RequestRefused, EntryError, CustodyRefused) as exc:
            done.leave(step.filebase, str(exc))

    async def _reverse(self, step: Step, state: EntryState, doing: Doing) -> None:
        match step.kind:
            case StepKind.DROP:
                await self._owe_again_here(step, doing)
            case StepKind.HOLD:
                await self._unhold(step, state, doing)
            case StepKind.RELEASE:
                await self._hold_again(step, state, doing)
            case StepKind.RESTORE:
                await self._actions.drop(step.filebase, f"dropped by {doing.by}, again", state, doing)

    async def _obstacle(self, step: Step, state: EntryState | None, since: _Since) -> str:
        """Why the step cannot be taken back now; "" if it can."""
        filebase = step.filebase
        if step.kind is StepKind.HANDBACK:
            return MAILMANS
        if step.kind is StepKind.DROP:
            if state is not None:
                return ""  # a crash cut the drop off before its file went, or the undo of it after its file came back
            keep = duration(self._resources.settings.duplicates.keep)
            is_kept = self._resources.custody.kept(filebase) is not None
            if not is_kept:
                return f"their files are gone: dropped ones are kept for {keep} (duplicates.keep)"
            return await self._sent_by_mailman(filebase, since.given)
        if state is None:
            return _gone(filebase, since.later)
        if step.kind is StepKind.HOLD and step.hold is None:
            return "" if state is EntryState.DEFERRED else "not deferred any more"
        if step.kind is StepKind.HOLD:
            if state is not EntryState.HELD:
                return RELEASED_SINCE
            return "" if await self._resources.ledger.hold_of(filebase) == step.hold else HELD_SINCE
        if step.kind is StepKind.RELEASE and state is EntryState.HELD:
            # Without a hold it lies in held/ because the release was cut off before its file was moved.
            return HELD_SINCE if await self._resources.ledger.hold_of(filebase) else ""
        if step.kind is StepKind.RELEASE and not step.before.is_held and state is EntryState.DEFERRED:
            return DEFERRED_SINCE
        return ""

    async def _unhold(self, step: Step, state: EntryState, doing: Doing) -> None:
        """Its file moves first. Crash before the commit: the ledger holds it, and the next start moves it back."""
        filebase, before = step.filebase, step.before
        stands = await self._actions.before(filebase, state)
        record, waiting = await self._waiting_before(filebase, before)
        if state is EntryState.HELD:
            self._resources.custody.release(filebase)
        try:
            how = PutBack(filebase, False, before.hold, before.deferral)
            await self._resources.ledger.put_back(how, record, waiting, doing.step(StepKind.RELEASE, stands, filebase))
        except BaseException:
            with contextlib.suppress(EntryVanished, CustodyRefused):
                if state is EntryState.HELD:
                    self._resources.custody.hold(filebase)
            raise
        if before.waiting:  # only they were refused: its turn finds the others
            self._resources.index.set_state(filebase, EntryState.WAITING)
        else:
            self._goes_on(filebase, before)
        log.info(logfmt(outcome="released", filebase=filebase, by=doing.by))

    async def _hold_again(self, step: Step, state: EntryState, doing: Doing) -> None:
        """Hold it with the reason it had, and with its recipients that were held and not sent to since."""
        filebase, before = step.filebase, step.before
        stands = await self._actions.before_hold(filebase, state)
        record, waiting = await self._waiting_before(filebase, before)
        hold = before.hold if before.is_held else None
        if before.is_held and hold is None:
            raise RequestRefused("why it was held is not known")
        how = PutBack(filebase, before.is_held, before.hold, before.deferral)
        again = doing.step(StepKind.HOLD, stands, filebase, hold)
        await self._resources.ledger.put_back(how, record, waiting, again)
        self._overrule(filebase, before)
        if hold is not None:
            self._set_aside.has_been_held(hold)
        else:
            self._goes_on(filebase, before)

    async def _waiting_before(self, filebase: str, before: Before) -> tuple[MessageRecord | None, list[Outcome]]:
        """Recipients to be put back. Raises EntryError if there are any, and the entry cannot be read."""
        if not before.waiting:
            return None, []
        entry = self._facts.read(filebase)
        return await self._record(entry), _outcomes(entry, before.waiting)

    async def _restore(self, steps: Sequence[Step], since: _Since, doing: Doing, done: TakenBack) -> None:
        # INVARIANT file-before-owed: of a dropped entry the file is durably back before the ledger owes its recipients.
        #   Crash before the commit: no recipient is owed, so the next start finishes it, into duplicates/ again, and
        #   undoing the drop goes on with it. Crash after: it waits, or is held, as before the drop.
        #   The other way round the ledger would owe an entry in duplicates/, whose file goes after duplicates.keep.
        #   Leans on stages/settle.py (_finish, SKIPPED). Held by tests/crash/test_undo.py.
        back: list[_Dropped] = []
        for step in steps:
            if why := await self._obstacle(step, self._resources.index.state_of(step.filebase), since):
                done.leave(step.filebase, why)
                continue
            try:
                back.append(self._file_back(step))
            except EntryVanished:
                done.leave(step.filebase, "their files are gone")
            except (EntryError, CustodyRefused) as exc:
                done.leave(step.filebase, str(exc))
        left = list(back)
        try:
            await asyncio.to_thread(self._resources.custody.sync)
            while left:
                await carried_through(self._owe_next(left, doing, done))
        finally:
            for one in left:  # as it was: dropped, its file kept
                with contextlib.suppress(EntryVanished, CustodyRefused):
                    self._resources.custody.drop(one.step.filebase)

    async def _owe_next(self, left: list[_Dropped], doing: Doing, done: TakenBack) -> None:
        """Not interrupted: an entry that the ledger owes must not go back to duplicates/."""
        await self._owe_again(left[0], doing)
        done.changed.append(left.pop(0).step.filebase)

    async def _owe_again_here(self, step: Step, doing: Doing) -> None:
        """Owe an entry again whose file is in custody, although the ledger has it as dropped."""
        custody, filebase = self._resources.custody, step.filebase
        entry = self._read(step)
        path = custody.path(filebase)
        file = parse_name(path.name)
        if not isinstance(file, QueueFile):
            raise EntryVanished(f"{path.name} is no name of an entry")
        await self._owe_again(_Dropped(step, file, path.stat().st_size, entry), doing)
        if step.before.is_held:
            custody.hold(filebase)

    def _file_back(self, step: Step) -> _Dropped:
        """Raises EntryVanished, EntryError where it cannot be read any more (it stays where it is), CustodyRefused."""
        custody, filebase = self._resources.custody, step.filebase
        entry = self._read(step)
        custody.restore(filebase, hold=step.before.is_held)
        path = custody.path(filebase)
        file = parse_name(path.name)
        if not isinstance(file, QueueFile):
            raise EntryVanished(f"{path.name} is no name of an entry")
        return _Dropped(step, file, path.stat().st_size, entry)

    async def _owe_again(self, one: _Dropped, doing: Doing) -> None:
        """The ledger owes its recipients, and the index has it."""
        step, filebase, before = one.step, one.step.filebase, one.step.before
        self._overrule(filebase, before)
        how = PutBack(filebase, before.is_held, before.hold, before.deferral, frozenset(before.skipped))
        counts = {"undropped_entries": 1, "undropped_recipients": len(before.skipped)}
        await self._resources.ledger.put_back(
            how,
            await self._record(one.entry) if one.entry else None,
            _outcomes(one.entry, before.waiting) if one.entry else (),
            doing.step(StepKind.RESTORE, Before(), filebase),
            counts,
            _uncounted(step.ended),
        )
        index = self._resources.index
        index.remove(filebase)  # where it was known as an entry that owes no recipient
        index.add_listed([(one.file, one.size_bytes)], EntryState.HELD if before.is_held else EntryState.LISTED)
        if before.is_held and before.hold is not None:
            index.set_state(filebase, EntryState.HELD, why_held(before.hold.reason, before.hold.detail))
        elif not before.is_held:
            self._goes_on(filebase, before)
        if one.entry is None:
            self._facts.illegible.add(filebase)
        log.info(logfmt(outcome="restored", filebase=filebase, by=doing.by))

    def _read(self, step: Step) -> QueueEntry | None:
        """None: it could not be read when it was dropped either. Raises EntryError."""
        before = step.before
        try:
            return self._facts.read(step.filebase)
        except EntryUnreadable:
            if before.is_held and not (before.skipped or before.waiting):
                return None
            raise

    async def _record(self, entry: QueueEntry) -> MessageRecord:
        return self._facts.record(await self._facts.summarised(entry))

    def _overrule(self, filebase: str, before: Before) -> None:
        """The policies that an operator had overruled for it then, and no others."""
        if before.overruled:
            self._facts.released[filebase] = before.overruled
        else:
            self._facts.released.pop(filebase, None)

    def _goes_on(self, filebase: str, before: Before) -> None:
        """It waits, or is due when it was."""
        index, deferral = self._resources.index, before.deferral
        if deferral is None:
            index.set_state(filebase, EntryState.WAITING)
            return
        latest_s = self._resources.clock.now_s() + self._resources.settings.feed.retry_longest
        index.set_state(filebase, EntryState.DEFERRED, deferral.reply, min(deferral.due_s, latest_s))


def _not_given(coverage: Sequence[Coverage], copy: str, dropped: str) -> frozenset[RecipientKey]:
    """Recipients to whom Mailman sends nothing by the copy it was given, or to whom the dropped entry sends nothing: each is
    settled here. Whether that was before or after the copy was given does not matter, and no clock has to tell."""
    own = {(copy, State.FAILED), (copy, State.SKIPPED), (dropped, State.FAILED)}
    settled = (
        part.recipients for part in coverage if part.state is State.DELIVERED or (part.filebase, part.state) in own
    )
    return frozenset[RecipientKey]().union(*settled)


def _gone(filebase: str, later: Mapping[str, int]) -> str:
    return f"changed since by action {later[filebase]}" if filebase in later else FINISHED


def _outcomes(entry: QueueEntry, waiting: Sequence[Waiting]) -> list[Outcome]:
    """With addresses in place of keys, as the entry has them."""
    by_key = {recipient_key(address): address for address in entry.recipients}
    return [
        Outcome(part.state, tuple(by_key[key] for key in part.keys if key in by_key), part.reply, part.at_s)
        for part in waiting
    ]


def _uncounted(ended: Ended | None) -> Ended | None:
    """The same with negative counts: it takes the entry out of the sum again."""
    if ended is None:
        return None
    return replace(ended, entries=-ended.entries, recipients=-ended.recipients, bytes=-ended.bytes)
