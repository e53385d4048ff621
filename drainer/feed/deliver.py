"""One transaction: MAIL, RCPT; attempt to ledger; DATA, content, final dot; outcome to ledger.

In    a ComposedMessage, the entry's filebase and MessageRecord, a Session
Out   a Transaction: what became of every recipient, durable in the ledger before it is returned
Not here  what replies mean (outcome.py); which recipients are still owed (duplicates/); when to try again (stages/)

An MTA may limit the recipients of one transaction (RFC 5321 §4.5.3.1.10). The recipients beyond its limit are not at
fault: they are `over_limit`, owed as before. It may limit the transactions of a session: a mail that meets this limit is
`untouched`, and goes in another session. The caller says what a refusal of the message itself means: under Mailman 2.1
no recipient fails for it (`holds_refused`).

Refusals at MAIL and RCPT are written after the attempt, together with its outcome, in one group commit. A crash before that
forgets them, which costs one more RCPT and nothing else: a refused recipient got nothing. Written earlier, they would cost
a commit while the MTA holds the transaction open.

Cancelling stops a transaction while its envelope is under way, never after that: then it is finished first.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Protocol

from drainer.clock import Clock
from drainer.compose.wire import ComposedMessage
from drainer.errors import LedgerNotDurable
from drainer.feed.dsn import owed_dsn
from drainer.feed.outcome import (
    Blame,
    Meaning,
    Reply,
    SessionLost,
    after_data,
    after_final_dot,
    after_loss,
    after_mail,
    after_rcpt,
    is_recipient_limit,
    may_be_recipient_limit,
)
from drainer.feed.session import Session, TooLargeForMta, UnsafeAddress
from drainer.feed.session_limit import is_session_limit, may_be_session_limit
from drainer.feed.transaction import Transaction
from drainer.ledger.records import AttemptId, MessageRecord, NewAttempt, NewDsn, Outcome
from drainer.ledger.states import State
from drainer.shielded import carried_through
from drainer.text.logfmt import logfmt

log = logging.getLogger(__name__)

LEDGER_RETRY_FIRST_S = 0.25
LEDGER_RETRY_LONGEST_S = 5.0
_TRIES_WHEN_STOPPING = 3


class Attempts(Protocol):
    """Where one transaction is written: for mail, the ledger itself (ledger/contract.py has the promises)."""

    async def open_attempt(self, attempt: NewAttempt) -> AttemptId: ...

    async def close_attempt(
        self, attempt_id: AttemptId, state: State, reply: str, at_s: float, dsns: Sequence[NewDsn] = ()
    ) -> None: ...

    async def record(
        self, filebase: str, message: MessageRecord, outcomes: Sequence[Outcome], dsns: Sequence[NewDsn] = ()
    ) -> None: ...


async def deliver(
    composed: ComposedMessage,
    filebase: str,
    message: MessageRecord,
    ledger: Attempts,
    session: Session,
    clock: Clock,
    *,
    on_refusal: Callable[[LedgerNotDurable], None] = lambda exc: None,
    is_stopping: Callable[[], bool] = lambda: True,
    owes_dsns: bool = False,
    holds_refused: bool = False,
    written_with: Callable[[Sequence[Outcome]], Callable[[], Awaitable[None]] | None] = lambda outcomes: None,
    on_end: Callable[[Transaction], None] = lambda transaction: None,
) -> Transaction:
    """Carry out one transaction and write its outcome.

    on_refusal   called each time the ledger cannot commit the outcome; the write is then tried again
    is_stopping  asked once cancelled: only a service that stops may give up writing a known outcome; one that pauses, or
                 halts because of that very ledger, has all the time it takes
    owes_dsns    the reverse-path is owed a DSN for recipients that fail; it is written with the failure
    holds_refused  a refusal of the message itself (5xx at MAIL, DATA or the final dot) fails no recipient: they are
                 DEFERRED, and the caller holds the entry
    written_with  asked when the outcomes are known: what else to write in the same commit; None: nothing
    on_end       called as soon as the transaction is in the ledger, also if the caller gets only a cancellation
    Raises   UnsafeAddress   the reverse-path or a MAIL parameter must not reach the wire: hold the entry
             TooLargeForMta  nothing was sent: hold the entry
             LedgerNotDurable   the attempt could not be written and nothing was sent; or, cancelled while the ledger
                                refuses the outcome, the attempt stays open there and the log has the outcome
             IllegalTransition, LedgerUnusable   from the ledger
             CancelledError  after the transaction was finished, if it had begun its attempt
    """
    transaction = _Transaction(
        composed,
        filebase,
        message,
        ledger,
        session,
        clock,
        on_refusal,
        is_stopping,
        owes_dsns,
        holds_refused,
        written_with,
    )
    accepted = await transaction.envelope()
    # Also if no recipient was accepted: a write to the ledger that has begun may become durable after its caller was
    # cancelled, and the caller would then go by the ledger as it was before.
    rest = transaction.content if accepted else transaction.nothing
    cancelled = asyncio.Event()

    async def to_its_end() -> Transaction:
        done = await rest(accepted, cancelled)
        on_end(done)
        return done

    return await carried_through(to_its_end(), cancelled.set)


class _Transaction:
    """The steps, and what is known of each recipient so far (by its place in owed_for)."""

    def __init__(
        self,
        composed: ComposedMessage,
        filebase: str,
        message: MessageRecord,
        ledger: Attempts,
        session: Session,
        clock: Clock,
        on_refusal: Callable[[LedgerNotDurable], None],
        is_stopping: Callable[[], bool],
        owes_dsns: bool,
        holds_refused: bool,
        written_with: Callable[[Sequence[Outcome]], Callable[[], Awaitable[None]] | None],
    ) -> None:
        self.composed = composed
        self.filebase = filebase
        self.message = message
        self.ledger = ledger
        self.session = session
        self.clock = clock
        self.on_refusal = on_refusal
        self.is_stopping = is_stopping
        self.owes_dsns = owes_dsns
        self.holds_refused = holds_refused
        self.written_with = written_with
        self.refused: dict[str, Meaning] = {}
        self.over_limit: list[str] = []
        self.somebody_accepted = False
        self.trouble = ""
        self.message_refused = ""
        self.session_limit = False
        self.carried = session.transactions

    async def envelope(self) -> tuple[str, ...]:
        """MAIL and RCPT. Returns the recipients accepted, as the entry has them."""
        session, envelope, owed_for = self.session, self.composed.envelope, self.composed.owed_for
        size = len(self.composed.content)
        if session.largest_bytes is not None and max(size, envelope.size or 0) > session.largest_bytes:
            # Held rather than failed: the limit is the MTA's, and often only a default (message_size_limit).
            raise TooLargeForMta(
                f"{max(size, envelope.size or 0)} octets, and the MTA takes {session.largest_bytes}; right would be a "
                "higher limit there, then `drainer release`"
            )
        unsafe = [session.unsafe(recipient) for recipient in envelope.recipients]
        if all(unsafe):
            # Before MAIL: under VERP the address is in the reverse-path too, and a refusal there would blame the entry.
            for owed, exc in zip(owed_for, unsafe, strict=True):
                self._may_go_on((owed,), _after_rcpt(exc))
            return ()
        replies: list[Reply | UnsafeAddress] = []
        try:
            if session.offers("pipelining"):
                first, replies = await session.mail_and_rcpt(envelope, size)
                if self._may_go_on(owed_for, self._after_mail(first)):
                    for owed, reply in zip(owed_for, replies, strict=False):
                        if not self._answered(owed, reply):
                            break
            elif self._may_go_on(owed_for, self._after_mail(await session.mail(envelope, size))):
                for owed, recipient in zip(owed_for, envelope.recipients, strict=True):
                    replies.append(await self._rcpt(recipient))
                    if not self._answered(owed, replies[-1]):
                        break
                    if self.over_limit:  # the next ones would be refused as well
                        self.over_limit += owed_for[len(replies) :]
                        break
        except SessionLost as lost:
            self.over_limit.clear()
            self._refuse(tuple(o for o in owed_for if o not in self.refused), after_loss(lost))
        self._see_bare_limit(replies)
        beyond = frozenset(self.over_limit)
        return tuple(owed for owed in owed_for if owed not in self.refused and owed not in beyond)

    def _after_mail(self, reply: Reply) -> Meaning | None:
        refusal = after_mail(reply)
        return self._unless_session_limit(reply, refusal, at_mail=True) if refusal else None

    def _unless_session_limit(self, reply: Reply, refusal: Meaning, *, at_mail: bool = False) -> Meaning:
        """The same, or that the session has carried enough. One that has carried nothing cannot have."""
        is_said = is_session_limit(reply, at_mail=at_mail)
        may_be = at_mail and self.session.mails > 0 and may_be_session_limit(reply)
        if not self.carried or not (is_said or may_be):
            return refusal
        self.session.carried_enough(is_said=is_said)
        self.session_limit = True
        return Meaning(State.DEFERRED, str(reply), Blame.SESSION)

    def _answered(self, owed: str, reply: Reply | UnsafeAddress) -> bool:
        """Note the reply to a RCPT; False if it ends the transaction."""
        if self.somebody_accepted and isinstance(reply, Reply) and is_recipient_limit(reply):
            self.over_limit.append(owed)
            return True
        refusal = _after_rcpt(reply)
        self.somebody_accepted |= refusal is None
        return self._may_go_on((owed,), refusal)

    def _see_bare_limit(self, replies: Sequence[Reply | UnsafeAddress]) -> None:
        """Several recipients at the end are refused by a 452 or 552 that gives no reason: RFC 5321 §4.5.3.1.10 has these
        codes for one recipient too many. A single one may be a full mailbox."""
        owed_for = self.composed.owed_for
        if self.over_limit or self.trouble or len(replies) != len(owed_for):
            return
        tail = len(replies)
        while tail and isinstance(reply := replies[tail - 1], Reply) and may_be_recipient_limit(reply):
            tail -= 1
        beyond = owed_for[tail:]
        if len(beyond) > 1 and self.somebody_accepted:
            for owed in beyond:
                del self.refused[owed]
            self.over_limit += beyond

    async def _rcpt(self, recipient: str) -> Reply | UnsafeAddress:
        try:
            return await self.session.rcpt(recipient)
        except UnsafeAddress as exc:
            return exc

    def _may_go_on(self, concerned: tuple[str, ...], refusal: Meaning | None) -> bool:
        """Note a refusal; False if it ends the transaction: it was the session's, or everybody's."""
        owed_for = self.composed.owed_for
        if refusal is not None and not refusal.blames_entry:
            concerned = tuple(owed for owed in owed_for if owed not in self.refused)
            self.over_limit.clear()
        if refusal is not None:
            self._refuse(concerned, refusal)
        return refusal is None or (refusal.blames_entry and concerned is not owed_for)

    async def nothing(self, _: tuple[str, ...], cancelled: asyncio.Event) -> Transaction:
        """No recipient was accepted: RSET, and the outcome."""
        await self.session.reset()
        return await self.finished(None, None, cancelled)

    async def content(self, accepted: tuple[str, ...], cancelled: asyncio.Event) -> Transaction:
        """The attempt, DATA, the content and the outcome."""
        attempt = NewAttempt(
            self.filebase, self.message, self.composed.envelope.reverse_path, accepted, self.clock.now_s()
        )
        # INVARIANT attempt-before-DATA: the attempt is on disk before DATA is sent.
        #   Crash before: the MTA saw MAIL and RCPT only and owns nothing; the entry is read again.
        #   Crash after:  the row stays ATTEMPTING; in_doubt/policy.py makes it IN_DOUBT, not PENDING.
        #   Leans on the ledger's promise that open_attempt returns only when durable. Held by tests/feed/test_deliver.py.
        try:
            attempt_id = await self.ledger.open_attempt(attempt)
        except BaseException:
            await self.session.reset()
            raise
        meaning = self._spared(await self._data())
        # INVARIANT outcome-before-anything: the outcome is on disk before the caller learns it, so the entry is finished,
        # deferred or bounced only on what the ledger says too.
        #   Crash before: the row stays ATTEMPTING although the MTA answered; in_doubt/policy.py makes it IN_DOUBT, and the
        #                 MTA's log, where there is one, settles it. A second copy is possible only by the in-doubt policy.
        #   Crash after:  DELIVERED and FAILED are final, DEFERRED is tried again.
        #   The ledger refuses: the outcome is known here only, so this writes again until it is durable.
        return await self.finished((attempt_id, accepted), meaning, cancelled)

    async def _data(self) -> Meaning:
        try:
            reply = await self.session.begin_data()
            refusal = after_data(reply)
            if refusal is None:
                reply = await self.session.send_content(self.composed.content)
                meaning = after_final_dot(reply)
                return self._unless_session_limit(reply, meaning) if meaning.state is State.DEFERRED else meaning
            await self.session.reset()
            return self._unless_session_limit(reply, refusal)
        except SessionLost as lost:
            return after_loss(lost)

    async def finished(
        self,
        attempt: tuple[AttemptId, tuple[str, ...]] | None,
        meaning: Meaning | None,
        cancelled: asyncio.Event | None = None,
    ) -> Transaction:
        """Write what became of the attempt and of those refused before it."""
        at_s = self.clock.now_s()
        refusals = _grouped({owed: refusal for owed, refusal in self.refused.items() if refusal.blames_entry}, at_s)
        outcomes = refusals
        writes: list[Callable[[], Awaitable[None]]] = []
        untouched = tuple(owed for owed, refusal in self.refused.items() if not refusal.blames_entry)
        if attempt is not None and meaning is not None:
            opened, accepted = attempt
            outcome = Outcome(meaning.state, accepted, meaning.reply, at_s)
            dsns = self._dsns((outcome,), at_s)
            writes.append(lambda: self.ledger.close_attempt(opened, meaning.state, meaning.reply, at_s, dsns))
            outcomes = (outcome, *refusals)
            if meaning.state is State.DEFERRED and not meaning.blames_entry:
                untouched += accepted
            if not meaning.blames_entry or meaning.state is State.IN_DOUBT:
                self.trouble = meaning.reply
        if refusals:
            of_refusals = self._dsns(refusals, at_s)
            writes.append(lambda: self.ledger.record(self.filebase, self.message, refusals, of_refusals))
        if writes:
            # All of them are asked for before the next turn of the loop, so they are in one group commit.
            if (also := self.written_with(outcomes)) is not None:
                writes.append(also)
            await asyncio.gather(*(self._until_durable(write, outcomes, cancelled) for write in writes))
        attempt_id, accepted = attempt or (None, ())
        trouble = "" if self.session_limit else self.trouble
        return Transaction(
            outcomes, untouched, trouble, attempt_id, tuple(self.over_limit), len(accepted), self.message_refused,
            self.session_limit,
        )  # fmt: skip

    def _dsns(self, outcomes: Sequence[Outcome], at_s: float) -> tuple[NewDsn, ...]:
        # INVARIANT dsn-with-failure: the DSN is owed from the commit on that makes its recipients FAILED, which is final.
        #   Crash before: neither is known, the recipient is tried again.  Crash after: both are.
        #   Held by tests/contract/test_dsns.py and tests/crash/test_dsns.py.
        failed = {r: o.reply for o in outcomes if o.state is State.FAILED for r in o.recipients}
        return owed_dsn(self.composed, self.filebase, self.message, failed, at_s) if self.owes_dsns else ()

    async def _until_durable(
        self, write: Callable[[], Awaitable[None]], outcomes: tuple[Outcome, ...], cancelled: asyncio.Event | None
    ) -> None:
        """Write to the ledger, again and again while it cannot commit.

        Nothing else is sent meanwhile: every open_attempt fails on the same ledger. Raises LedgerNotDurable only when the
        service stops, with the outcomes in the log.
        """
        wait_s = LEDGER_RETRY_FIRST_S
        tries_left = _TRIES_WHEN_STOPPING
        while True:
            try:
                await write()
                return
            except LedgerNotDurable as exc:
                self.on_refusal(exc)
                stopping = cancelled is not None and cancelled.is_set() and self.is_stopping()
                tries_left -= stopping
                if tries_left <= 0:
                    for outcome in outcomes:
                        log.critical(
                            logfmt(
                                outcome=outcome.state, not_in_ledger="yes", message_id=self.message.message_id,
                                recipients=outcome.recipients, reply=outcome.reply,
                            )
                        )  # fmt: skip
                    raise
                log.error(logfmt(event="outcome_not_written", next_try_s=wait_s, detail=exc))
            await _pause(LEDGER_RETRY_FIRST_S if stopping else wait_s, cancelled)
            wait_s = min(2 * wait_s, LEDGER_RETRY_LONGEST_S)

    def _spared(self, meaning: Meaning) -> Meaning:
        """A refusal of the message for good fails no recipient if the caller holds the entry for it."""
        if meaning.state is not State.FAILED or meaning.blame is not Blame.MESSAGE or not self.holds_refused:
            return meaning
        self.message_refused = meaning.reply
        return replace(meaning, state=State.DEFERRED)

    def _refuse(self, owed: tuple[str, ...], refusal: Meaning) -> None:
        refusal = self._spared(refusal)
        for recipient in owed:
            self.refused[recipient] = refusal
        if not refusal.blames_entry:
            self.trouble = refusal.reply


def _after_rcpt(reply: Reply | UnsafeAddress | None) -> Meaning | None:
    if reply is None:
        return None
    if isinstance(reply, UnsafeAddress):
        return Meaning(State.FAILED, f"553 5.1.3 {reply}")
    return after_rcpt(reply)


def _grouped(meanings: dict[str, Meaning], at_s: float) -> tuple[Outcome, ...]:
    alike: dict[tuple[State, str], list[str]] = {}
    for owed, meaning in meanings.items():
        alike.setdefault((meaning.state, meaning.reply), []).append(owed)
    return tuple(Outcome(state, tuple(owed), reply, at_s) for (state, reply), owed in alike.items())


async def _pause(seconds: float, cancelled: asyncio.Event | None) -> None:
    """Sleep; a cancellation that comes meanwhile ends it early, one that came before does not."""
    if cancelled is None or cancelled.is_set():
        await asyncio.sleep(seconds)
        return
    try:
        await asyncio.wait_for(cancelled.wait(), seconds)
    except TimeoutError:
        return
