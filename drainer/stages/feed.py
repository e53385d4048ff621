"""pick > read > decision > compose > throttle > deliver: the entries whose turn it is, each a task of its own.

In    entries that wait in the index
Out   transactions carried out, their outcomes in the ledger; the entry concluded (stages/settle.py)

Feeding does not wait for the survey to end: the decision that counts is made here, per recipient, against the ledger.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import math
from collections.abc import AsyncIterator, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from weakref import WeakValueDictionary

from drainer.backlog.splits import Splits
from drainer.backlog.states import EntryState
from drainer.backlog.values import WaitingEntry
from drainer.compose.wire import ComposedMessage, is_nobody, why_unfit
from drainer.duplicates.decision import Claim, Decision, NextStep
from drainer.errors import (
    ComposeDeferred,
    ComposeError,
    ComposerUnavailable,
    CustodyRefused,
    EntryError,
    EntryFinished,
    EntryUnreadable,
    EntryVanished,
    HaltError,
    IllegalTransition,
    MtaError,
    RequestRefused,
)
from drainer.feed.deliver import Transaction, deliver
from drainer.feed.memory import CONTENT_COPIES, ENTRY_COPIES, Budget
from drainer.feed.outcome import ContentRefused
from drainer.feed.refusals import Refusals, after_transaction
from drainer.feed.shaping import Shaping, Split, after_sending, split
from drainer.ledger.records import Deferral, MessageRecord, Outcome, recipient_key
from drainer.ledger.states import SETTLED, State
from drainer.queuedir.domains import in_domains
from drainer.queuedir.entry import Flavour, QueueEntry
from drainer.settings import Settings
from drainer.stages.bounces import Bounces
from drainer.stages.parts import Parts, Standing
from drainer.stages.recipient_limits import RecipientLimits
from drainer.stages.refused import Refused
from drainer.stages.settle import LOOK_AGAIN_S, Conclusion, why_held_back
from drainer.text.logfmt import logfmt
from drainer.via_mailman.whereabouts import is_released_list

log = logging.getLogger("drainer")

REFUSALS = "refusals"
"""The gate's reason while the MTA refuses everybody (feed/refusals.py): until an operator resumes, or a restart."""

_YEAR_10000_S = 253_402_300_800.0

LOSSES_IN_A_ROW = 3
"""Sessions lost with the same entry before it is put off: one the MTA always hangs up on must not go first for ever."""


@dataclass(slots=True)
class _Work:
    """An entry whose turn it is."""

    list_id: str
    task: asyncio.Task[None]


class Feed:
    """`run` for ever. What the gate forbids is put back; what is past DATA is finished first (feed/deliver.py)."""

    def __init__(
        self,
        parts: Parts,
        standing: Standing,
        conclusion: Conclusion,
        bounces: Bounces,
        refused: Refused,
        limits: RecipientLimits,
    ) -> None:
        self._parts = parts
        self._standing = standing
        self._conclusion = conclusion
        self._bounces = bounces
        self._refused = refused
        self._limits = limits
        self._works: dict[str, _Work] = {}
        self._slots = asyncio.Semaphore(parts.settings.mta.sessions)
        self._in_flight = 0
        self._taken_out: set[str] = set()
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._holding: set[asyncio.Task[None]] = set()
        # Apart, or entries that wait for room for their content could keep all the room themselves.
        self._read = Budget(parts.settings.feed.memory // 2)
        self._content = Budget(parts.settings.feed.memory // 2)
        self._shaping = Shaping()
        self.splits = Splits()
        self._refusals = Refusals()
        self._losses: dict[str, int] = {}
        parts.gate.on_close = self.put_back_what_may_not_go_on
        conclusion.mta_is_doubted = lambda: REFUSALS in parts.gate.reasons or self._refusals.are_doubtful

    @property
    def active(self) -> int:
        """Entries in delivery."""
        return len(self._works)

    @property
    def in_flight(self) -> int:
        """Transactions that have a session."""
        return self._in_flight

    async def run(self) -> None:
        """For ever: as many entries in delivery as there are sessions, each a task of its own."""
        parts = self._parts
        while True:
            await parts.gate.opened()
            settings = parts.settings
            # Some more than there are sessions, asked for together: the index is asked as long for one as for ten.
            ahead = max(1, settings.mta.sessions // 4)
            room = settings.mta.sessions + ahead - len(self._works)
            room = room if room >= ahead else 0
            now_s = parts.clock.now_s()
            picked = (
                parts.index.order.next_waiting(
                    settings.feed.order, now_s, parts.gate.closed_lists, room, parts.priority
                )
                if room
                else []
            )
            for waiting in picked:
                # One that put itself back may be here before its task is known to have ended.
                if waiting.filebase not in self._works:
                    self._begin(waiting)
            if not picked:
                self._standing.news.clear()
                next_due_s = parts.index.order.next_due_s() if room else None
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(None if next_due_s is None else max(0.05, next_due_s - now_s)):
                        await self._standing.news.wait()
            await asyncio.sleep(0)

    def _begin(self, waiting: WaitingEntry) -> None:
        filebase = waiting.filebase
        self._parts.index.set_state(filebase, EntryState.ACTIVE)
        task = asyncio.create_task(self._work(waiting), name=f"entry {filebase}")
        self._works[filebase] = _Work(waiting.list_id, task)
        task.add_done_callback(lambda _: self._ended(filebase))

    def _ended(self, filebase: str) -> None:
        task = self._works.pop(filebase).task
        self.splits.ended(filebase)
        if not task.cancelled() and (error := task.exception()):
            # A bug that one entry brought to light must not stop the others, nor come back with it at each turn.
            log.error(logfmt(outcome="internal_error", filebase=filebase), exc_info=error)
            self._aside(self._set_aside(filebase, error))
        elif (
            filebase not in self._taken_out
            and not self._parts.release.has(filebase)
            and self._parts.index.state_of(filebase) is EntryState.ACTIVE
        ):
            self._parts.index.set_state(filebase, EntryState.WAITING)
        if self._parts.index.state_of(filebase) is None:
            self._losses.pop(filebase, None)
        self._standing.wake()

    async def _set_aside(self, filebase: str, error: BaseException) -> None:
        try:
            await self._conclusion.hold(filebase, "internal_error", repr(error), by="drainer")
        except EntryVanished as exc:
            await self._conclusion.forget(filebase, exc)
        except (HaltError, CustodyRefused) as exc:
            self._conclusion.later(filebase, str(exc))

    def _aside(self, work: Coroutine[None, None, None]) -> None:
        """Done beside the entries' tasks, which may be cancelled now."""
        task = asyncio.create_task(work)
        self._holding.add(task)
        task.add_done_callback(self._holding.discard)

    def put_back_what_may_not_go_on(self) -> None:
        """Interrupt the entries the gate no longer allows; transactions past DATA are finished first (feed/deliver.py)."""
        for work in self._works.values():
            if not self._parts.gate.allows(work.list_id):
                work.task.cancel()

    async def settle(self) -> None:
        """Wait until nothing is in delivery any more."""
        while self._works:
            await asyncio.wait([work.task for work in self._works.values()])

    @contextlib.asynccontextmanager
    async def taken_out(self, filebase: str) -> AsyncIterator[EntryState]:
        """The entry is in nobody else's hands: its delivery is interrupted first, and it is not picked meanwhile. Of two
        who ask for one entry the second waits, and finds what the first has made of it.

        Yields  its state; ACTIVE: it was in delivery
        Raises  RequestRefused if it was released to Mailman, EntryVanished if it was settled meanwhile
        """
        turn = self._turns.setdefault(filebase, asyncio.Lock())
        async with turn, self._interrupted(filebase) as state:
            yield state

    @contextlib.asynccontextmanager
    async def _interrupted(self, filebase: str) -> AsyncIterator[EntryState]:
        index, release = self._parts.index, self._parts.release
        deferral: Deferral | None = None
        self._taken_out.add(filebase)
        try:
            if work := self._works.get(filebase):
                work.task.cancel()
                await asyncio.wait([work.task])
            state = index.state_of(filebase)
            if state is None:
                raise EntryFinished(f"{filebase} was settled meanwhile")
            if release.has(filebase):
                raise RequestRefused("Mailman has it: it was released to out/ for Mailman's runner to deliver")
            await self._require_file(filebase)
            # Also one that is just being read: it would be picked as soon as that is done.
            if state in (EntryState.LISTED, EntryState.WAITING, EntryState.DEFERRED):
                index.set_state(filebase, EntryState.ACTIVE)
            if state is EntryState.DEFERRED:
                deferral = await self._parts.ledger.deferral(filebase)
            yield state
        finally:
            self._taken_out.discard(filebase)
            in_hands = filebase in self._works or release.has(filebase)
            if index.state_of(filebase) is EntryState.ACTIVE and not in_hands:
                if deferral is None:
                    index.set_state(filebase, EntryState.WAITING)
                else:  # nothing came of it: it waits as long as before
                    latest_s = self._parts.clock.now_s() + self._parts.settings.feed.retry_longest
                    index.set_state(filebase, EntryState.DEFERRED, deferral.reply, min(deferral.due_s, latest_s))
                self._standing.wake()

    async def _require_file(self, filebase: str) -> None:
        """Raises EntryVanished where somebody has taken the file away; then it is forgotten."""
        try:
            self._parts.custody.path(filebase)
        except EntryVanished as exc:
            await self._conclusion.forget(filebase, exc)
            raise

    async def trust_mta_again(self) -> int | None:
        """An operator says that the MTA may be tried again after it refused everybody. Returns how many entries are tried
        again that failed for it, None if it had not."""
        if REFUSALS not in self._parts.gate.reasons:
            return None
        entries = await self._refused.try_again(self._refusals.doubtful_since_s)
        self._refusals = self._bounces.refusals = Refusals()
        self._parts.gate.open(REFUSALS)
        self._bounces.trust_again()
        self._standing.wake()
        return entries

    def reconfigure(self, settings: Settings) -> None:
        """Settings read again: more sessions, another bound on memory."""
        self._read.limit_bytes = self._content.limit_bytes = settings.feed.memory // 2
        self._more_slots(max(0, settings.mta.sessions - self._parts.settings.mta.sessions))

    def _more_slots(self, sessions: int) -> None:
        for _ in range(sessions):
            self._slots.release()

    async def _work(self, waiting: WaitingEntry) -> None:
        """A turn; and what becomes of the entry where not even what its end asks for can be done."""
        filebase = waiting.filebase
        try:
            await self._take_turn(waiting)
        except EntryVanished as exc:
            await self._conclusion.forget(filebase, exc)
        except HaltError as exc:
            self._conclusion.halt(filebase, exc)
        except CustodyRefused as exc:
            # The ledger has it all; the file follows when the filesystem lets it. Nothing is sent again meanwhile.
            self._conclusion.later(filebase, str(exc))
            log.error(logfmt(outcome="put_back", filebase=filebase, detail=exc))
        except OSError as exc:
            self._conclusion.later(filebase, f"cannot be read: {exc.strerror}")
            log.error(logfmt(outcome="put_back", filebase=filebase, detail=exc))

    async def _take_turn(self, waiting: WaitingEntry) -> None:
        filebase = waiting.filebase
        try:
            size = self._parts.custody.path(filebase).stat().st_size
            await self._read.take(ENTRY_COPIES * size)
            try:
                await self._drain(waiting)
            finally:
                self._read.give(ENTRY_COPIES * size)
        except EntryVanished:
            raise
        except EntryUnreadable as exc:
            if exc.belongs_in_bad:
                await self._conclusion.set_aside_unreadable(filebase, exc.reason, exc.detail)
            else:
                await self._conclusion.hold(filebase, exc.reason, exc.detail, by="drainer")
        except (ComposeDeferred, ComposerUnavailable) as exc:
            self._conclusion.later(filebase, str(exc))
            log.warning(logfmt(outcome="put_back", filebase=filebase, detail=exc))
        except EntryError as exc:
            await self._conclusion.hold(filebase, exc.reason, exc.detail, by="drainer")
        except IllegalTransition as exc:
            # A bug, and one that concerns this entry only: the ledger wrote nothing, and nothing was sent.
            await self._conclusion.hold(filebase, "illegal_transition", str(exc), by="drainer")
        except MtaError as exc:
            log.info(logfmt(outcome="put_back", filebase=filebase, detail=exc))

    async def _drain(self, waiting: WaitingEntry) -> None:
        """One entry, as far as it goes now."""
        filebase, parts = waiting.filebase, self._parts
        entry = self._standing.read(filebase)
        if (not_before_s := deliver_after_s(entry.metadata)) > parts.clock.now_s():
            parts.index.set_state(filebase, EntryState.DEFERRED, "deliver_after", not_before_s)
            return
        record = MessageRecord(self._standing.identity(filebase, waiting.identity), waiting.list_id, waiting.message_id)
        decision = await self._conclusion.decide(entry, record, waiting.duplicate, waiting.identity)
        if decision.deliver and self._is_for_mailman(entry):
            await self._release(entry, record, decision)
            return
        sent: list[Transaction] = []
        interrupted = False
        shaped = split(
            self._shaping, one_per_recipient(decision.deliver), parts.settings.feed.domains, parts.clock.monotonic_s()
        )
        if shaped.ready:
            self._shaping = after_sending(
                self._shaping, shaped.ready, parts.settings.feed.domains, parts.clock.monotonic_s()
            )
            try:
                sent = await self._transmit(entry, record, shaped.ready)
            except asyncio.CancelledError:
                # Put back, not killed: what is in flight was finished, and the ledger says below where the entry stands.
                interrupted = True
                if task := asyncio.current_task():
                    task.uncancel()
            if not interrupted and (settled := _settled_by(decision, sent, filebase)):
                await self._conclusion.finish(entry, record, settled)
                return
            decision = await self._conclusion.decide(entry, record, waiting.duplicate, waiting.identity)
            if decision.deliver and (reply := next((done.refused for done in sent if done.refused), "")):
                raise ContentRefused(f"{reply} ({len(decision.deliver)} recipients have not had it)")
        if decision.deliver and set(one_per_recipient(decision.deliver)) <= set(shaped.later):
            self._put_off(filebase, decision, shaped)
            return
        # Only who was refused makes the entry wait. Whose doubt was resolved meanwhile is owed, and was not refused.
        untouched = {address for transaction in sent for address in transaction.untouched}
        refused = {address for transaction in sent for address in transaction.recipients(State.DEFERRED)} - untouched
        blameless = interrupted or not (refused & set(decision.deliver) or self._is_poison(filebase, sent))
        await self._conclusion.conclude(entry, record, decision, blameless)

    def _is_poison(self, filebase: str, sent: Sequence[Transaction]) -> bool:
        """Whether session after session was lost with this entry, while it is not known to be the MTA's state."""
        if any(transaction.trouble and transaction.untouched for transaction in sent):
            self._losses[filebase] = self._losses.get(filebase, 0) + 1
        elif sent:
            self._losses.pop(filebase, None)
        return self._losses.get(filebase, 0) >= LOSSES_IN_A_ROW

    def _is_for_mailman(self, entry: QueueEntry) -> bool:
        """Whether Mailman's own runner is to deliver it."""
        settings = self._parts.settings
        return settings.feed.via == "mailman" or is_released_list(
            entry.list_id, entry.flavour, settings.mailman.release_lists
        )

    async def _release(self, entry: QueueEntry, record: MessageRecord, decision: Decision) -> None:
        """Into Mailman's hands with all it owes at once, since there is one file: whoever cannot be settled yet is waited
        for."""
        if decision.hold:
            await self._conclusion.hold(entry.filebase, *why_held_back(decision), by="drainer")
        elif decision.wait:
            claim = decision.wait[0]
            self._conclusion.later(entry.filebase, f"{claim.state} by {claim.filebase}")
        elif why_not := await self._parts.release.release(entry, record, one_per_recipient(decision.deliver)):
            self._conclusion.later(entry.filebase, why_not)

    def _put_off(self, filebase: str, decision: Decision, shaped: Split) -> None:
        """What is left waits for the ceilings of its domains."""
        wait_s = min(shaped.due_s - self._parts.clock.monotonic_s(), LOOK_AGAIN_S)
        limited = in_domains(decision.deliver, self._parts.limited_domains)
        self._parts.index.set_owed(filebase, len(decision.deliver) + len(decision.wait), limited)
        due_s = self._parts.clock.now_s() + max(0.0, wait_s)
        self._parts.index.set_state(filebase, EntryState.DEFERRED, "ceiling of a recipient domain", due_s)

    async def _transmit(self, entry: QueueEntry, record: MessageRecord, owed: Sequence[str]) -> list[Transaction]:
        """Compose and deliver to those owed; returns what became of each transaction, all of them in the ledger.

        Raises  CancelledError, EntryError, HaltError, once nothing of this entry is in flight any more
        """
        parts = self._parts
        owed = await self._without_unfit(entry, record, owed)
        if not owed:
            return []
        self.splits.begun(entry.filebase, record.list_id, len(entry.raw), len(owed))
        deliveries: list[asyncio.Task[list[Transaction]]] = []
        covered: set[str] = set()
        try:
            async with contextlib.aclosing(parts.composer_of(entry).compose(entry, owed)) as transactions:
                async for composed in transactions:
                    for piece in composed.cut(self._limits.most):
                        # Before the next one is composed, or an entry of many large copies would have them all in memory.
                        with contextlib.ExitStack() as place:
                            octets = CONTENT_COPIES * len(piece.content)
                            await self._content.take(octets)
                            place.callback(self._content.give, octets)
                            await self._slots.acquire()
                            place.callback(self._slots.release)
                            await parts.throttle.acquire(len(piece.envelope.recipients))
                            covered.update(piece.owed_for)
                            deliveries.append(asyncio.create_task(self._deliver_whole(piece, entry, record)))
                            deliveries[-1].add_done_callback(functools.partial(_leave, place.pop_all()))
            skipped = tuple(address for address in owed if address not in covered)
            if skipped:
                reply = "Mailman delivers nothing to such an address"
                outcome = Outcome(State.SKIPPED, skipped, reply, parts.clock.now_s())
                await parts.ledger.record(entry.filebase, record, [outcome])
                self._conclusion.log(entry, record, outcome)
            return [transaction for done in await asyncio.gather(*deliveries) for transaction in done]
        finally:
            for delivery in deliveries:
                delivery.cancel()
            await asyncio.gather(*deliveries, return_exceptions=True)

    async def _without_unfit(self, entry: QueueEntry, record: MessageRecord, owed: Sequence[str]) -> Sequence[str]:
        """Settle addresses that cannot appear in an SMTP command before anything is composed: Mailman's own code, and ours,
        would refuse the entry as a whole. Returns the others."""
        now_s = self._parts.clock.now_s()
        nobody = tuple(address for address in owed if is_nobody(address))
        unfit = {address: why for address in owed if address not in nobody and (why := why_unfit(address))}
        outcomes = [
            Outcome(State.FAILED, tuple(a for a in unfit if unfit[a] == why), f"553 5.1.3 the address {why}", now_s)
            for why in dict.fromkeys(unfit.values())
        ]
        if nobody:
            outcomes.append(Outcome(State.SKIPPED, nobody, "the entry names an empty address", now_s))
        if not outcomes:
            return owed
        await self._parts.ledger.record(entry.filebase, record, outcomes)
        for outcome in outcomes:
            self._conclusion.log(entry, record, outcome)
        return [address for address in owed if address not in unfit and address not in nobody]

    async def _deliver_whole(
        self, composed: ComposedMessage, entry: QueueEntry, record: MessageRecord
    ) -> list[Transaction]:
        """To all its recipients, in as many transactions as the MTA's limit on recipients makes of it. Each that is followed
        by others delivers to one recipient at least, so it ends."""
        done = [await self._deliver(composed, entry, record)]
        for transaction in done:
            if transaction.over_limit and transaction.recipients(State.DELIVERED):
                for piece in composed.only(transaction.over_limit).cut(self._limits.most):
                    await self._parts.throttle.acquire(len(piece.owed_for))
                    done.append(await self._deliver(piece, entry, record))
        return done

    async def _deliver(self, composed: ComposedMessage, entry: QueueEntry, record: MessageRecord) -> Transaction:
        parts = self._parts
        async with parts.pool.session() as session:
            self._in_flight += 1
            try:
                return await deliver(
                composed, entry.filebase, record, parts.ledger, session, parts.clock,
                refused=lambda exc: parts.gate.close("ledger", str(exc)),
                is_stopping=lambda: "stopping" in parts.gate.reasons,
                owes_dsns=parts.settings.feed.dsn,
                holds_refused=entry.flavour is Flavour.MAILMAN2,
                ended=lambda transaction: self._heard(composed, entry, record, transaction),
            )  # fmt: skip
            finally:
                self._in_flight -= 1

    def _heard(
        self, composed: ComposedMessage, entry: QueueEntry, record: MessageRecord, transaction: Transaction
    ) -> None:
        """What the MTA said, once it is in the ledger. The entry's own task may be cancelled by then; a doubt is to be
        resolved and a DSN to be sent all the same."""
        parts = self._parts
        parts.rate.heard(transaction)
        self._bounces.heard(transaction)
        settled = sum(len(outcome.recipients) for outcome in transaction.outcomes if outcome.state in SETTLED)
        self.splits.sent(entry.filebase, len(composed.owed_for) - len(transaction.over_limit), settled)
        if transaction.over_limit and transaction.accepted:
            self._limits.met(transaction.accepted)
            self._aside(self._limits.keep())
        for outcome in transaction.outcomes:
            self._conclusion.log(entry, record, outcome)
        if transaction.recipients(State.IN_DOUBT):
            parts.in_doubt.wake()
        self._refusals = after_transaction(self._refusals, entry.filebase, transaction.outcomes, transaction.refused)
        self._bounces.refusals = self._refusals
        if REFUSALS not in parts.gate.reasons and transaction.outcomes:
            if self._refusals.are_too_many:
                log.error(logfmt(event="stopped", reason=self._refusals.text()))
                parts.gate.close(REFUSALS, self._refusals.text())
                self._aside(self._refused.stop())
                self._bounces.distrust(self._refusals.text())
            elif self._refused.entries and not self._refusals.are_doubtful:
                self._aside(self._refused.believe())


def _leave(place: contextlib.ExitStack, _: asyncio.Task[list[Transaction]]) -> None:
    place.close()


def one_per_recipient(addresses: Sequence[str]) -> tuple[str, ...]:
    """The same addresses, in order, without those that are one recipient to the ledger (another case of the domain)."""
    return tuple({recipient_key(address): address for address in reversed(addresses)}.values())[::-1]


def _settled_by(before: Decision, sent: Sequence[Transaction], filebase: str) -> Decision | None:
    """The decision a second look at the ledger would come to, if these transactions left nothing open; None: look again.

    Enough to finish on: what was to be skipped was so by a final state in the ledger, and a Transaction is returned only
    once its outcomes are durable there (deliver.py, INVARIANT outcome-before-anything).
    """
    claims = {
        recipient_key(address): Claim(address, filebase, outcome.state, outcome.at_s)
        for transaction in sent
        for outcome in transaction.outcomes
        if outcome.state in SETTLED
        for address in outcome.recipients
    }
    if before.wait or before.hold or not all(recipient_key(address) in claims for address in before.deliver):
        return None
    return Decision(NextStep.FINISH, skip=(*before.skip, *claims.values()))


def deliver_after_s(metadata: Mapping[str, object]) -> float:
    """When Mailman would deliver it at the earliest, seconds since the epoch, >= 0; 0.0 if it says nothing.

    Raises  ComposeError for a time that never comes: Mailman would put the entry back for ever
    Source  metadata `deliver_after`: a float in Mailman 2.1, a naive datetime in local time in 3
    """
    value = metadata.get("deliver_after")
    try:
        if isinstance(value, datetime):
            due_s = value.timestamp() if value.year > 1970 else 0.0
        else:
            due_s = float(value) if isinstance(value, int | float) and not isinstance(value, bool) else 0.0
    except (OverflowError, ValueError):
        due_s = math.inf
    if due_s > _YEAR_10000_S:
        raise ComposeError(f"metadata 'deliver_after' is {value!r:.60}, a time that never comes")
    return due_s if due_s > 0 else 0.0
