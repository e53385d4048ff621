"""Entries given back to Mailman: all copies of one mail together, or none of them.

In    entries an operator wants back in Mailman's queue
Out   each there, untouched or with only the recipients it still owes; or still here, with the reason
Not here  turning the intake off meanwhile; the words for the operator (operate/selected_entries.py)

A mail may be here several times. If Mailman had one copy and drainer another, both would send it: neither knows of the
other. So all copies that have a recipient in common go back together. All of them stay if one has to stay: because it is
in doubt, Mailman has it, or it was not asked for.

INVARIANT held-before-hand-back: of copies, every one is durably held here before the first is Mailman's.
  1 those that are part-delivered are written anew, in custody  Crash: all are ours, and owe the same recipients.
  2 the ledger holds all of them                                Crash: all are ours, and held (intake.py, recover).
  3 one rename each, then its hold is forgotten                 Crash: what is not Mailman's is held, and sends nothing.
  Leans on the ledger's commits, and on the intake pausing: what is in out/ stays there. Held by
  tests/scenarios/test_mistakes_handback.py.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from drainer.backlog.states import EntryState
from drainer.duplicates.decision import Claim, Decision, NextStep
from drainer.errors import CustodyRefused, EntryError, EntryVanished, RequestRefused
from drainer.ledger.actions import Before, StepKind
from drainer.ledger.evidence import Evidence, Fate
from drainer.ledger.records import Hold, MessageRecord, RecipientKey, recipient_key
from drainer.ledger.states import State
from drainer.queuedir.entry import QueueEntry
from drainer.queuedir.narrow import with_recipients
from drainer.stages.decide import Decide
from drainer.stages.entry_facts import EntryFacts
from drainer.stages.feed import Feed
from drainer.stages.hold_reasons import DUPLICATE, HANDED_BACK, why_held
from drainer.stages.intake import Intake
from drainer.stages.operator_actions import Doing
from drainer.stages.resources import Resources
from drainer.stages.settle import Settle
from drainer.text.logfmt import logfmt

log = logging.getLogger("drainer")

LOOK_S = 0.05
NOTHING_READ_S = 10.0
"""After so long without another entry read, the rest cannot be read now."""


@dataclass(slots=True)
class GivenBack:
    """What became of the entries asked for. `skipped`: filebase and reason; `gone`: they owe no recipient any more, and why
    (SelectReply of control/)."""

    changed: int = 0
    gone: int = 0
    gone_why: Counter[str] = field(default_factory=Counter)
    skipped: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Owed:
    """An entry, and what the ledger says of it. `going`: the recipients it has to name in Mailman's queue; (): settled."""

    entry: QueueEntry
    record: MessageRecord
    decision: Decision
    going: tuple[str, ...]

    @property
    def goes_with_a_copy(self) -> bool:
        """Whether another copy of the mail takes the recipients that this one owes."""
        return not self.going and any(claim.state is State.PENDING for claim in self.decision.skip)

    @property
    def is_narrowed(self) -> bool:
        return len(self.going) < len(self.entry.recipients)


class HandBack:
    """One hand-back at a time: of two operators the second finds what the first has left."""

    def __init__(
        self, resources: Resources, facts: EntryFacts, decide: Decide, settle: Settle, intake: Intake, feed: Feed
    ) -> None:
        self._resources = resources
        self._facts = facts
        self._decide = decide
        self._settle = settle
        self._intake = intake
        self._feed = feed
        self.turn = asyncio.Lock()

    async def settled_down(self) -> None:
        """Wait until nothing is being taken, and all that was taken has been read. Only then all copies are known, and an
        entry given back is not taken again. The operator has turned the intake off."""
        await self._intake.pausing.wait()
        left, clock = -1, self._resources.clock
        since_s = clock.monotonic_s()
        while unread := self._resources.index.totals.overall().unread_entries - len(self._facts.left_unread()):
            if unread != left:
                left, since_s = unread, clock.monotonic_s()
            elif clock.monotonic_s() - since_s > NOTHING_READ_S:
                return
            await asyncio.sleep(LOOK_S)

    async def give_back(self, wanted: Sequence[str], doing: Doing) -> GivenBack:
        """wanted: filebases, oldest first. The caller syncs custody."""
        result, chosen, done = GivenBack(), frozenset(wanted), set[str]()
        # Entries in delivery come last: their MTA may take minutes to answer.
        in_delivery = {name for name in wanted if self._resources.index.state_of(name) is EntryState.ACTIVE}
        for filebase in sorted(wanted, key=in_delivery.__contains__):
            if filebase in done:
                continue
            copies = self._copies(filebase)
            asked_for = [name for name in wanted if name in copies] if len(copies) > 1 else [filebase]
            done.update(asked_for)
            if others := sorted(copies - chosen):
                why = (
                    f"{others[0]} is a copy of it and would stay here: both would send it; give back both, or drop one"
                )
                result.skipped += [f"{name}: {why}" for name in asked_for]
                continue
            await self._together(asked_for, doing, result)
        return result

    def _copies(self, filebase: str) -> frozenset[str]:
        """Entries that have to go with it, itself among them. One that is treated as no copy (entry_facts.py) goes alone."""
        if self._is_its_own(filebase):
            return frozenset([filebase])
        return frozenset(
            name for name in self._resources.index.related.copies_of(filebase) if not self._is_its_own(name)
        )

    def _is_its_own(self, filebase: str) -> bool:
        return self._facts.released.get(filebase) == DUPLICATE or self._resources.settings.duplicates.exact == "deliver"

    async def _together(self, filebases: Sequence[str], doing: Doing, result: GivenBack) -> None:
        """All of them or none; what happened is added to `result`."""
        reasons: dict[str, str] = {}
        async with contextlib.AsyncExitStack() as stack:
            owed: list[_Owed] = []
            for filebase in filebases:
                try:
                    await stack.enter_async_context(self._feed.taken_out(filebase))
                    owed.append(await self._owed(filebase))
                except EntryVanished as exc:
                    result.gone += 1
                    result.gone_why[exc.reason] += 1
                except (RequestRefused, EntryError) as exc:
                    reasons[filebase] = str(exc)
            if not reasons:
                try:
                    await self._give(_each_once(owed, self._resources.clock.now_s()), doing, result)
                    return
                except (CustodyRefused, EntryError) as exc:
                    left = [one.entry.filebase for one in owed if self._resources.index.state_of(one.entry.filebase)]
                    reasons = dict.fromkeys(left, str(exc))
        stays = next(iter(reasons))
        for filebase in filebases:
            if self._resources.index.state_of(filebase) is not None:
                why = reasons.get(filebase, f"{stays} is a copy of it and has to stay: both would send it")
                result.skipped.append(f"{filebase}: {why}")

    async def _owed(self, filebase: str) -> _Owed:
        """Raises RequestRefused while recipients are in doubt, or held because they were: Mailman could only send to all of
        them again, or to none; EntryError where it cannot be read."""
        entry, record, decision = await self._decide.of_file(filebase)
        if doubtful := [claim for claim in decision.wait if claim.state is not State.DEFERRED]:
            of_others = {claim.filebase for claim in doubtful} - {filebase}
            by_whom = f", by {min(of_others)}" if of_others else ""
            raise RequestRefused(f"{len(doubtful)} recipients are in doubt{by_whom}; they have to be resolved first")
        if undecided := [claim for claim in decision.hold if claim.is_undecided]:
            raise RequestRefused(
                f"{len(undecided)} recipients had {undecided[0].filebase}, which may be the same mail; `drainer drop` gives "
                "this one up, `drainer release` says that it is another"
            )
        if doubtful := [claim for claim in decision.hold if claim.filebase]:
            raise RequestRefused(
                f"{len(doubtful)} recipients may have it already (they were in doubt and are held); `drainer drop` gives "
                "them up, `drainer release` sends to them again once the entry is held for them alone"
            )
        settled = {recipient_key(claim.recipient) for claim in decision.skip}
        going = tuple(address for address in entry.recipients if recipient_key(address) not in settled)
        return _Owed(entry, record, decision, going)

    async def _give(self, owed: Sequence[_Owed], doing: Doing, result: GivenBack) -> None:
        """Raises CustodyRefused: what was not given back is as it was, or, if a copy of it was, held."""
        if len(owed) > 1:
            await self._give_copies(owed, doing, result)
            return
        for one in owed:
            if one.going and one.is_narrowed:
                self._resources.custody.hand_back_rewritten(one.entry.filebase, with_recipients(one.entry, one.going))
            elif one.going:
                self._resources.custody.hand_back(one.entry.filebase)
            await self._has_gone(one, doing, result)

    async def _give_copies(self, owed: Sequence[_Owed], doing: Doing, result: GivenBack) -> None:
        custody = self._resources.custody
        for one in owed:
            if one.going and one.is_narrowed:
                custody.rewrite(one.entry.filebase, with_recipients(one.entry, one.going))
        why = f"one of {len(owed)} copies of a mail that were being given back to Mailman"
        now_s = self._resources.clock.now_s()
        await self._resources.ledger.hold([Hold(one.entry.filebase, HANDED_BACK, why, doing.by, now_s) for one in owed])
        try:
            for one in sorted(owed, key=lambda one: not one.going):
                if one.going:
                    custody.hand_back(one.entry.filebase)
                await self._has_gone(one, doing, result)
        except BaseException:
            self._hold_what_is_left(owed, why)
            raise

    async def _has_gone(self, one: _Owed, doing: Doing, result: GivenBack) -> None:
        # INVARIANT intake-off-before-hand-back: the pause of the intake was committed before the first entry went
        # (operate/selected_entries.py). Crash before the rename: it is ours, unchanged or narrowed to the recipients it
        # owes. Crash after: it is Mailman's, and a deferral left in the ledger is of no entry here. Held by
        # tests/torture/.
        entry = one.entry
        if not one.going:
            await self._settle.apply(entry, one.record, one.decision, blameless=True)
            result.gone += 1
            result.gone_why["copy_goes" if one.goes_with_a_copy else "settled"] += 1
            return
        ended = self._resources.index.ended_as(entry.filebase, Fate.HANDED_BACK, len(entry.recipients))
        step = doing.step(StepKind.HANDBACK, Before(), entry.filebase)
        evidence = Evidence(
            Fate.HANDED_BACK, entry.filebase, self._resources.clock.now_s(), one.record.list_id, one.record.message_id,
            len(one.going),
        )  # fmt: skip
        await self._resources.ledger.finish_entry(entry.filebase, {}, ended, [evidence], step)
        self._resources.index.remove(entry.filebase)
        result.changed += 1
        log.info(logfmt(outcome="handed_back", filebase=entry.filebase, list=entry.list_id, recipients=len(one.going)))

    def _hold_what_is_left(self, owed: Sequence[_Owed], why: str) -> None:
        """The ledger holds them; their files follow as far as the filesystem allows it."""
        for one in owed:
            filebase = one.entry.filebase
            if self._resources.index.state_of(filebase) is None:
                continue
            self._resources.index.set_state(filebase, EntryState.HELD, why_held(HANDED_BACK, why))
            try:
                self._resources.custody.hold(filebase)
            except EntryVanished:  # Mailman has it: what came after its rename failed
                self._resources.index.remove(filebase)
            except CustodyRefused as exc:
                log.warning(logfmt(outcome="not_moved", filebase=filebase, detail=exc))


def _each_once(owed: Sequence[_Owed], now_s: float) -> Sequence[_Owed]:
    """Copies as they came, if none of them was delivered in part. Else Mailman gets each recipient by one copy only, and a
    copy without recipients left is suppressed for the one that goes."""
    if not any(one.is_narrowed or one.decision.wait for one in owed):
        return owed
    given: dict[RecipientKey, str] = {}
    found = []
    for one in owed:
        going = tuple(address for address in one.going if recipient_key(address) not in given)
        decision = one.decision
        if one.going and not going:
            by_others = [Claim(name, given[recipient_key(name)], State.PENDING, now_s) for name in one.going]
            decision = Decision(NextStep.SUPPRESS, skip=(*one.decision.skip, *by_others))
        given |= {recipient_key(address): one.entry.filebase for address in going}
        found.append(_Owed(one.entry, one.record, decision, going))
    return found
