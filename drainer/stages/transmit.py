"""compose > throttle > deliver: what an entry owes, in as many transactions as it takes.

In    an entry, and the recipients that go now
Out   a Transaction for each ComposedMessage, all of them in the ledger; rate, splits, limits and trust learn from each
Not here  who is owed (decide.py); the steps of one transaction (feed/deliver.py)
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from dataclasses import replace

from drainer.backlog.splits import Splits
from drainer.compose.wire import ComposedMessage, is_empty_address, why_unfit
from drainer.feed.deliver import deliver
from drainer.feed.lane_queue import LaneQueue
from drainer.feed.memory_budget import CONTENT_COPIES, MemoryBudget, MemoryByLane
from drainer.feed.permit import Permit
from drainer.feed.session import Session
from drainer.feed.transaction import Transaction
from drainer.ledger.records import MessageRecord, Outcome
from drainer.ledger.states import SETTLED, State
from drainer.queuedir.entry import Flavour, QueueEntry
from drainer.settings import Settings
from drainer.stages.background import Background
from drainer.stages.domain_ceilings import DomainCeilings
from drainer.stages.last_outcome import LastOutcome
from drainer.stages.mta_trust import MtaTrust
from drainer.stages.outcome_log import log_outcome
from drainer.stages.recipient_limits import RecipientLimits
from drainer.stages.resources import Resources
from drainer.stages.session_limits import SessionLimits


class Transmit:
    """splits  how many transactions the entries of a list take, learnt from each one"""

    def __init__(
        self,
        resources: Resources,
        limits: RecipientLimits,
        of_sessions: SessionLimits,
        domains: DomainCeilings,
        trust: MtaTrust,
    ) -> None:
        self._resources = resources
        self._limits = limits
        self._of_sessions = of_sessions
        self._domains = domains
        self._trust = trust
        self._sessions = resources.settings.mta.sessions
        self._slots = LaneQueue(self._sessions, resources.throttle.lanes)
        feed = resources.settings.feed
        self._content = MemoryByLane(feed.memory // 2, has_fresh_lane=feed.has_fresh_lane)
        self._in_flight = 0
        self._background = Background()
        self.splits = Splits()

    @property
    def in_flight(self) -> int:
        """Transactions that have a session."""
        return self._in_flight

    def reconfigure(self, settings: Settings) -> None:
        """Settings read again: more sessions, another bound on memory."""
        self._content.resize(settings.feed.memory // 2, has_fresh_lane=settings.feed.has_fresh_lane)
        self._sessions = settings.mta.sessions
        self._slots.resize(self._sessions)

    async def send(
        self,
        entry: QueueEntry,
        record: MessageRecord,
        recipients: Sequence[str],
        last: LastOutcome,
        *,
        is_fresh: bool = False,
    ) -> list[Transaction]:
        """Compose and deliver to these recipients; returns each transaction, all of them in the ledger.

        last      learns each outcome, and writes the end of the entry with the last one
        is_fresh  it goes in the lane of fresh mail
        Raises  CancelledError, EntryError, HaltError, once nothing of this entry is in flight any more
        """
        resources = self._resources
        recipients = await self._without_unfit(entry, record, recipients)
        if not recipients:
            return []
        self.splits.begun(entry.filebase, record.list_id, len(entry.raw), len(recipients))
        deliveries: list[asyncio.Task[list[Transaction]]] = []
        covered: set[str] = set()
        last_piece: tuple[ComposedMessage, _Share] | None = None
        try:
            async with contextlib.aclosing(resources.composer_of(entry).compose(entry, recipients)) as transactions:
                async for composed in transactions:
                    left: ComposedMessage | None
                    for left in composed.cut(self._limits.most):
                        while left is not None:
                            # Before the next one is composed, or an entry of many large copies would have them all in
                            # memory.
                            share = await self._share_of(left, is_fresh)
                            piece, left = left.parted(share.recipients)
                            covered.update(piece.owed_for)
                            if len(covered) == len(recipients) and last_piece is None:
                                last_piece = piece, share
                            else:
                                whole = self._deliver_whole(piece, entry, record, last, is_fresh, share)
                                deliveries.append(asyncio.create_task(whole))
                                # Also if it is cancelled before it begins.
                                deliveries[-1].add_done_callback(share.given_back)
            skipped = tuple(address for address in recipients if address not in covered)
            if skipped:
                reply = "Mailman delivers nothing to such an address"
                outcome = Outcome(State.SKIPPED, skipped, reply, resources.clock.now_s())
                await self._record(entry, record, [outcome])
            # The last one, as most entries have no other, needs no task of its own.
            done = []
            if last_piece is not None:
                done = await self._deliver_whole(last_piece[0], entry, record, last, is_fresh, last_piece[1])
            return [*(one for each in await asyncio.gather(*deliveries) for one in each), *done] if deliveries else done
        finally:
            if last_piece is not None:
                last_piece[1].given_back()
            for delivery in deliveries:
                delivery.cancel()
            if deliveries:
                await asyncio.gather(*deliveries, return_exceptions=True)

    async def _share_of(self, piece: ComposedMessage, is_fresh: bool) -> _Share:
        """Room in memory; then a session, and what the rate and the caps allow."""
        content, octets = self._content.of(is_fresh=is_fresh), CONTENT_COPIES * len(piece.content)
        await content.take(octets)
        try:
            permit = await self._permit_for(piece, is_fresh)
        except BaseException:
            content.give(octets)
            raise
        return _Share(permit, self._leave_slot, content, octets)

    async def _permit_for(self, piece: ComposedMessage, is_fresh: bool) -> Permit:
        """Wait for a session, for the rate and the caps. The place is to be left, and the permit to be ended."""
        self._follow_pool()
        return await self._resources.throttle.acquire(
            len(piece.envelope.recipients), is_fresh=is_fresh, may_be_cut=True, places=self._slots
        )

    def _leave_slot(self) -> None:
        self._follow_pool()
        self._slots.leave()

    def _follow_pool(self) -> None:
        """As many places as the MTA gets sessions just now, and one: those who wait for a session itself are not sorted by
        lane."""
        self._slots.resize(min(self._sessions, self._resources.pool.limit + 1))

    async def _without_unfit(self, entry: QueueEntry, record: MessageRecord, owed: Sequence[str]) -> Sequence[str]:
        """Fail addresses that cannot appear in an SMTP command before anything is composed: Mailman's own code, and ours,
        would refuse the entry as a whole. Returns the others."""
        now_s = self._resources.clock.now_s()
        empty = tuple(address for address in owed if is_empty_address(address))
        unfit = {address: why for address in owed if address not in empty and (why := why_unfit(address))}
        outcomes = [
            Outcome(State.FAILED, tuple(a for a in unfit if unfit[a] == why), f"553 5.1.3 the address {why}", now_s)
            for why in dict.fromkeys(unfit.values())
        ]
        if empty:
            outcomes.append(Outcome(State.SKIPPED, empty, "the entry names an empty address", now_s))
        if not outcomes:
            return owed
        await self._record(entry, record, outcomes)
        return [address for address in owed if address not in unfit and address not in empty]

    async def _record(self, entry: QueueEntry, record: MessageRecord, outcomes: Sequence[Outcome]) -> None:
        """Outcomes that need no transaction."""
        await self._resources.ledger.record(entry.filebase, record, outcomes)
        for outcome in outcomes:
            log_outcome(entry, record, outcome)

    async def _deliver_whole(
        self,
        composed: ComposedMessage,
        entry: QueueEntry,
        record: MessageRecord,
        last: LastOutcome,
        is_fresh: bool,
        share: _Share,
    ) -> list[Transaction]:
        """To all its recipients, in as many transactions as the MTA's limits make of it. It ends: each that is followed by
        others offers or delivers to one recipient at least, or ends a session that had carried mail before.

        share  its place is the first transaction's. Each that follows takes one anew, as it may have to wait for the rate or
               for a cap
        """
        try:
            done = [await self._deliver(composed, entry, record, last, share.permit)]
        finally:
            share.place_left()
        for at, transaction in enumerate(done):
            if following := _following(transaction):
                left: ComposedMessage | None
                for left in composed.only(following).cut(self._limits.most):
                    while left is not None:
                        following_share = _Share(await self._permit_for(left, is_fresh), self._leave_slot)
                        try:
                            piece, left = left.parted(following_share.recipients)
                            done.append(await self._deliver(piece, entry, record, last, following_share.permit))
                        finally:
                            following_share.place_left()
                # Untouched no more: the transactions that followed say what became of them.
                done[at] = replace(transaction, untouched=()) if transaction.session_limit else transaction
        return done

    async def _deliver(
        self, composed: ComposedMessage, entry: QueueEntry, record: MessageRecord, last: LastOutcome, permit: Permit
    ) -> Transaction:
        resources = self._resources
        async with resources.pool.session() as session:
            self._in_flight += 1
            # What lies beyond a limit that the MTA announces is not offered to it.
            first, *beyond = composed.cut(session.recipient_max)
            try:
                transaction = await deliver(
                    first, entry.filebase, record, permit.counting(resources.ledger), session, resources.clock,
                    on_refusal=lambda exc: resources.gate.close("ledger", str(exc)),
                    is_stopping=lambda: "stopping" in resources.gate.reasons,
                    owes_dsns=resources.settings.feed.dsn,
                    holds_refused=entry.flavour is Flavour.MAILMAN2,
                    finish_with=last.finish_with,
                    on_end=lambda transaction: self._heard(first, entry, record, last, transaction, session),
                )  # fmt: skip
            finally:
                self._in_flight -= 1
        self._of_sessions.look()
        later = tuple(owed for piece in beyond for owed in piece.owed_for)
        return replace(transaction, not_offered=later) if later else transaction

    def _heard(
        self,
        composed: ComposedMessage,
        entry: QueueEntry,
        record: MessageRecord,
        last: LastOutcome,
        transaction: Transaction,
        session: Session,
    ) -> None:
        """The MTA's answers, once they are in the ledger. The entry's own task may be cancelled by then; a doubt is to be
        resolved and a DSN to be sent all the same."""
        signals = self._resources.signals
        last.durable(transaction.outcomes)
        for outcome in transaction.outcomes:
            log_outcome(entry, record, outcome)
        if transaction.has(State.FAILED):
            signals.owing.set()
        if transaction.has(State.IN_DOUBT):
            signals.doubt.set()
        if transaction.session_limit:  # says nothing about the MTA's pace, nor about this mail
            return
        self._resources.rate.heard(self._domains.heard(transaction, session, entry.filebase))
        settled = sum(len(outcome.recipients) for outcome in transaction.outcomes if outcome.state in SETTLED)
        self.splits.sent(entry.filebase, len(composed.owed_for) - len(transaction.over_limit), settled)
        if transaction.over_limit and transaction.accepted:
            self._limits.met(transaction.accepted)
            self._background.begin(self._limits.keep())
        self._trust.heard(entry.filebase, transaction)


def _following(transaction: Transaction) -> tuple[str, ...]:
    """Recipients that a limit of the transaction or of the session left over, and that go at once."""
    if transaction.session_limit:
        return (*transaction.untouched, *transaction.over_limit, *transaction.not_offered)
    beyond = transaction.over_limit if transaction.has(State.DELIVERED) else ()
    # What became of others says nothing about them, unless it was the MTA's state, or the mail itself.
    return beyond if transaction.trouble or transaction.message_refused else (*beyond, *transaction.not_offered)


class _Share:
    """What one piece of an entry holds: a permit, a place, and room in memory. Each is given back once.

    permit  of the throttle; recipients: how many may go
    """

    def __init__(
        self, permit: Permit, leave: Callable[[], None], content: MemoryBudget | None = None, octets: int = 0
    ) -> None:
        self.permit = permit
        self._leave: Callable[[], None] | None = leave
        self._content = content
        self._octets = octets

    @property
    def recipients(self) -> int:
        return self.permit.recipients

    def place_left(self) -> None:
        """Its transaction is over."""
        if self._leave is not None:
            leave, self._leave = self._leave, None
            self.permit.end()
            leave()

    def given_back(self, _: object = None) -> None:
        """Nothing of the piece is in flight any more."""
        self.place_left()
        if self._content is not None:
            self._content.give(self._octets)
            self._content = None
