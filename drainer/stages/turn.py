"""One entry's turn, from reading it to its ending: read > decide > pick recipients > compose > throttle > deliver > settle.

In    an entry that the feed has picked (feed.py)
Out   its transactions carried out, their outcomes in the ledger; one Ending, which settle.py carries out

The decision that counts is made here, for each recipient, against the ledger. It is made again after sending, since the
ledger may have learnt more meanwhile: an outcome, a doubt that was resolved, what an operator did.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Sequence

from drainer.backlog.values import WaitingEntry
from drainer.duplicates.decision import Decision
from drainer.feed.memory_budget import ENTRY_COPIES, MemoryByLane
from drainer.feed.outcome import ContentRefused
from drainer.feed.pick import deliver_after_s, one_per_recipient
from drainer.feed.shaping import Shaped
from drainer.feed.transaction import Transaction
from drainer.ledger.records import MessageRecord
from drainer.ledger.states import State
from drainer.queuedir.entry import QueueEntry
from drainer.settings import Settings
from drainer.stages.decide import Decide, why_held_back
from drainer.stages.domain_ceilings import DomainCeilings
from drainer.stages.ending import ENDS_TURN, Decided, Ending, Held, LookAgain, NotBefore, Parked, WithMailman, ending_of
from drainer.stages.entry_facts import EntryFacts
from drainer.stages.last_outcome import LastOutcome
from drainer.stages.resources import Resources
from drainer.stages.settle import Settle
from drainer.stages.transmit import Transmit
from drainer.via_mailman.handover import Handover
from drainer.via_mailman.whereabouts import is_released_list

PUT_OFF = "some recipients were deferred"
LOSSES_IN_A_ROW = 3
"""Sessions lost with the same entry before it is put off: one the MTA always hangs up on must not go first for ever."""


class Turn:
    """`take` for each entry that is picked; several at a time."""

    def __init__(
        self,
        resources: Resources,
        facts: EntryFacts,
        decide: Decide,
        domains: DomainCeilings,
        transmit: Transmit,
        settle: Settle,
        handover: Handover,
    ) -> None:
        self._resources = resources
        self._facts = facts
        self._decide = decide
        self._domains = domains
        self._transmit = transmit
        self._settle = settle
        self._handover = handover
        # Apart from the budget for content, or entries that wait for that could keep all the room themselves.
        feed = resources.settings.feed
        self._memory = MemoryByLane(feed.memory // 2, has_fresh_lane=feed.has_fresh_lane)
        self._losses: dict[str, int] = {}

    def reconfigure(self, settings: Settings) -> None:
        """Settings read again: another bound on memory."""
        self._memory.resize(settings.feed.memory // 2, has_fresh_lane=settings.feed.has_fresh_lane)

    async def take(self, waiting: WaitingEntry) -> None:
        """The whole turn. Raises CancelledError if it was interrupted before anything was sent."""
        budget, octets = self._memory.of(is_fresh=waiting.is_fresh), 0
        try:
            try:
                size = ENTRY_COPIES * self._resources.custody.status(waiting.filebase).st_size
                await budget.take(size)
                octets = size
                ending = await self._carry_out(waiting)
            except ENDS_TURN as exc:
                ending = ending_of(exc)
            await self._settle.conclude(waiting.filebase, ending)
        finally:
            budget.give(octets)
        if self._losses and self._resources.index.state_of(waiting.filebase) is None:
            self._losses.pop(waiting.filebase, None)

    async def _carry_out(self, waiting: WaitingEntry) -> Ending:
        """Everything but the settling: one entry, as far as it goes now."""
        filebase, resources = waiting.filebase, self._resources
        entry = self._facts.read(filebase)
        if (not_before_s := deliver_after_s(entry.metadata)) > resources.clock.now_s():
            return NotBefore(not_before_s, "deliver_after")
        record = MessageRecord(self._facts.identity(filebase, waiting.identity), waiting.list_id, waiting.message_id)
        decide = functools.partial(self._decide.now, entry, record, waiting.duplicate, waiting.identity)
        decision = await decide()
        put_off, put_off_until_s = await self._put_off(decision, waiting)
        if decision.deliver and self._is_for_mailman(entry):
            if put_off_until_s is not None:
                return NotBefore(put_off_until_s, PUT_OFF, len(decision.deliver) + len(decision.wait))
            return await self._hand_over(entry, record, decision, waiting.is_fresh)
        if decision.deliver and not decision.deferred and (lane := resources.index.lane_of_original(filebase)):
            # The original will deliver to them. If both did so in turns, neither would be suppressed.
            owed = len(decision.deliver) + len(decision.wait)
            return Parked(lane, owed, self._domains.counts(decision.deliver, lane))
        going = self._domains.pick([one for one in decision.deliver if one not in put_off], waiting)
        sent: list[Transaction] = []
        interrupted = False
        if going.ready:
            last = LastOutcome(decision, filebase, functools.partial(self._settle.finished, entry, record))
            sent, interrupted = await self._send(entry, record, going.ready, waiting.is_fresh, last)
            if last.finished is not None:
                decision, finished = last.finished
                return Decided(entry, record, decision, blameless=interrupted, finished=finished)
            decision = (None if interrupted else last.settled) or await decide()
            if decision.deliver and (
                reply := next((done.message_refused for done in sent if done.message_refused), "")
            ):
                raise ContentRefused(f"{reply} ({len(decision.deliver)} recipients have not had it)")
        return self._left(entry, record, decision, going, put_off_until_s, sent, interrupted=interrupted)

    def _left(
        self,
        entry: QueueEntry,
        record: MessageRecord,
        decision: Decision,
        going: Shaped,
        put_off_until_s: float | None,
        sent: Sequence[Transaction],
        *,
        interrupted: bool,
    ) -> Ending:
        """What becomes of the recipients that are left: each waits for its own reason only.

        decision  after sending; going, put_off_until_s: of this turn
        """
        owed = len(decision.deliver) + len(decision.wait)
        refused = self._refused(decision).difference(going.later)
        waits = [address for address in one_per_recipient(decision.deliver) if address not in refused]
        parked = None
        if waits and set(waits) <= {*going.later, *decision.deferred}:
            lane = going.lane or self._domains.limits.of_recipient(waits[0])
            parked = Parked(lane, owed, self._domains.counts(decision.deliver, lane), put_off_until_s)
            if not refused:
                return parked
        if refused and put_off_until_s is not None and (parked or not waits):
            # Those who are refused meanwhile join the ones who were refused before: that is no further attempt.
            return parked or NotBefore(put_off_until_s, PUT_OFF, owed)
        blameless = interrupted or not self._is_to_blame(entry.filebase, decision, sent)
        return Decided(entry, record, decision, blameless, parked)

    def _refused(self, decision: Decision) -> set[str]:
        """Recipients that the entry has deferred, for another reason than the pace of their destination."""
        return {address for address, reply in decision.deferred.items() if not self._domains.is_limited(address, reply)}

    async def _put_off(self, decision: Decision, waiting: WaitingEntry) -> tuple[set[str], float | None]:
        """Recipients that the entry has deferred and whose time has not come, and when it comes, seconds since the epoch.

        An entry has its turn before that for its other recipients: their lane has room, or they were not refused and the
        service was started again, or an operator or a copy has woken it.
        """
        refused = self._refused(decision)
        deferral = await self._resources.ledger.deferral(waiting.filebase) if refused else None
        if deferral is None:
            return set(), None
        now_s = self._resources.clock.now_s()
        # The ledger's time is by the clock as it was then; the index's follows a clock that was set back.
        known_s = deferral.due_s if waiting.due_s is None else min(deferral.due_s, waiting.due_s)
        due_s = min(known_s, now_s + self._resources.settings.feed.retry_longest)
        return (refused, due_s) if due_s > now_s else (set(), None)

    def _is_for_mailman(self, entry: QueueEntry) -> bool:
        """Whether Mailman's own runner is to deliver it."""
        settings = self._resources.settings
        return settings.feed.via == "mailman" or is_released_list(
            entry.list_id, entry.flavour, settings.mailman.release_lists
        )

    async def _hand_over(self, entry: QueueEntry, record: MessageRecord, decision: Decision, is_fresh: bool) -> Ending:
        """To Mailman, with all recipients it owes at once, since there is one file. It waits while one of them cannot be
        settled yet."""
        if decision.hold:
            return Held(*why_held_back(entry.filebase, decision))
        if decision.wait:
            claim = decision.wait[0]
            return LookAgain(f"{claim.state} by {claim.filebase}")
        why_not = await self._handover.hand_over(entry, record, one_per_recipient(decision.deliver), is_fresh=is_fresh)
        return LookAgain(why_not) if why_not else WithMailman()

    async def _send(
        self, entry: QueueEntry, record: MessageRecord, recipients: Sequence[str], is_fresh: bool, last: LastOutcome
    ) -> tuple[list[Transaction], bool]:
        """Compose, throttle, deliver. Returns the transactions, and whether the turn was interrupted: then what was in
        flight has been finished, and the ledger says where the entry stands."""
        try:
            return await self._transmit.send(entry, record, recipients, is_fresh=is_fresh, last=last), False
        except asyncio.CancelledError:
            if task := asyncio.current_task():
                task.uncancel()
            return [], True

    def _is_to_blame(self, filebase: str, decision: Decision, sent: Sequence[Transaction]) -> bool:
        """Whether the entry has to wait longer each time: recipients of it were refused, or the MTA hangs up on it.

        A recipient whose doubt was resolved meanwhile is owed, not refused.
        """
        untouched = {address for transaction in sent for address in transaction.untouched}
        refused = {
            address
            for transaction in sent
            for outcome in transaction.outcomes
            if outcome.state is State.DEFERRED
            for address in outcome.recipients
            if not self._domains.is_limited(address, outcome.reply)
        } - untouched
        return bool(refused & set(decision.deliver)) or self._is_poison(filebase, sent)

    def _is_poison(self, filebase: str, sent: Sequence[Transaction]) -> bool:
        """Whether session after session was lost with this entry, while it is not known to be the MTA's state."""
        if any(
            transaction.trouble
            and not all(self._domains.is_limited(address, transaction.trouble) for address in transaction.untouched)
            for transaction in sent
        ):
            self._losses[filebase] = self._losses.get(filebase, 0) + 1
        elif sent:
            self._losses.pop(filebase, None)
        return self._losses.get(filebase, 0) >= LOSSES_IN_A_ROW
