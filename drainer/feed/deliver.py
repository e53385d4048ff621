"""One transaction: MAIL, RCPT; attempt to ledger; DATA, content, final dot; outcome to ledger.

In    a ComposedMessage, the entry's filebase and MessageRecord, a Session
Out   a Transaction: what became of every recipient, durable in the ledger before it is returned
Not here  what replies mean for the recipients (answers.py); which recipients are still owed (duplicates/); when to try again
          (stages/); how a known outcome is written to a ledger that refuses (outcome_writes.py)

Each step begins when the one before has its answer, from the MTA or from the ledger, in a callback: no task, no timer and no
future of its own, but one for the caller.

Refusals at MAIL and RCPT are written after the attempt, together with its outcome, in one group commit. A crash before that
forgets them, which costs one more RCPT and nothing else: a refused recipient got nothing. Written earlier, they would cost
a commit while the MTA holds the transaction open.

Cancelling stops a transaction while its envelope is under way, never after that: then it is finished first.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Sequence
from typing import Any

from drainer.clock import Clock
from drainer.compose.wire import ComposedMessage
from drainer.errors import EntryError, LedgerNotDurable
from drainer.feed.answers import Answers, ToRcpt
from drainer.feed.dsn import owed_dsn
from drainer.feed.outcome import Meaning, Reply, SessionLost, Stage
from drainer.feed.outcome_writes import Attempts, OutcomeWrites, Write, begun
from drainer.feed.session import Session
from drainer.feed.smtp_client import Answer
from drainer.feed.smtp_commands import UnsafeAddress, mail_command, rcpt_commands, unsafe_recipients
from drainer.feed.transaction import Transaction
from drainer.ledger.evidence import Finish
from drainer.ledger.records import AttemptId, MessageRecord, NewAttempt, NewDsn, Outcome
from drainer.ledger.states import State


class TooLargeForMta(EntryError):
    """The content is larger than the MTA says it takes: it would refuse it at MAIL, for ever."""

    reason = "too_large_for_mta"


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
    finish_with: Callable[[Sequence[Outcome]], Finish | None] = lambda outcomes: None,
    on_end: Callable[[Transaction], None] = lambda transaction: None,
) -> Transaction:
    """Carry out one transaction and write its outcome.

    on_refusal   called each time the ledger cannot commit the outcome; the write is then tried again
    is_stopping  asked once cancelled: only a service that stops may give up writing a known outcome; one that pauses, or
                 halts because of that very ledger, has all the time it takes
    owes_dsns    the reverse-path is owed a DSN for recipients that fail; it is written with the failure
    holds_refused  a refusal of the message itself (5xx at MAIL, DATA or the final dot) fails no recipient: they are
                 DEFERRED, and the caller holds the entry
    finish_with  asked when the outcomes are known, unless they take two writes: the end of the entry, if they settle it.
                 It is written in the commit of the outcomes
    on_end       called as soon as the transaction is in the ledger, also if the caller gets only a cancellation
    Raises   UnsafeAddress   the reverse-path or a MAIL parameter must not reach the wire: hold the entry
             TooLargeForMta  nothing was sent: hold the entry
             LedgerNotDurable   the attempt could not be written and nothing was sent; or, cancelled while the ledger
                                refuses the outcome, the attempt stays open there and the log has the outcome
             IllegalTransition, LedgerUnusable   from the ledger
             CancelledError  after the transaction was finished, if it had begun its attempt
    """
    writes = OutcomeWrites(message.message_id, on_refusal, is_stopping)
    delivery = _Delivery(
        composed, filebase, message, ledger, session, clock, writes, owes_dsns, holds_refused, finish_with, on_end
    )
    delivery.begin()
    interruption: asyncio.CancelledError | None = None
    while not delivery.is_over:
        try:
            await delivery.end()
        except asyncio.CancelledError as exc:
            if delivery.stop():
                raise
            writes.cancelled()
            interruption = exc
    done = delivery.result()
    if interruption is not None:
        raise interruption
    return done


class _Delivery:
    """The steps. `begin`, then callbacks until it `is_over`."""

    def __init__(
        self,
        composed: ComposedMessage,
        filebase: str,
        message: MessageRecord,
        ledger: Attempts,
        session: Session,
        clock: Clock,
        writes: OutcomeWrites,
        owes_dsns: bool,
        holds_refused: bool,
        finish_with: Callable[[Sequence[Outcome]], Finish | None],
        on_end: Callable[[Transaction], None],
    ) -> None:
        self._composed = composed
        self._filebase = filebase
        self._message = message
        self._ledger = ledger
        self._session = session
        self._clock = clock
        self._writes = writes
        self._owes_dsns = owes_dsns
        self._finish_with = finish_with
        self._on_end = on_end
        self._answers = Answers(
            composed.owed_for, carried=session.transactions, mails=session.mails, holds_refused=holds_refused
        )
        self._unsafe: dict[int, UnsafeAddress] = {}
        self._accepted: tuple[str, ...] = ()
        self._is_in_envelope = True
        self._waiter: asyncio.Future[None] | None = None
        self._done: Transaction | None = None
        self._error: BaseException | None = None

    @property
    def is_over(self) -> bool:
        return self._done is not None or self._error is not None

    def end(self) -> asyncio.Future[None]:
        """Done once it is over. Cancelling it cancels nothing else."""
        self._waiter = asyncio.get_running_loop().create_future()
        return self._waiter

    def result(self) -> Transaction:
        if self._done is None:
            raise self._error or asyncio.InvalidStateError("a transaction was asked for its end before it had one")
        return self._done

    def stop(self) -> bool:
        """Stop at once, if its envelope is under way; the session ends with it. False: it comes to its end."""
        if self._is_in_envelope:
            self._session.close()
        return self._is_in_envelope

    def begin(self) -> None:
        """MAIL and RCPT, in one write where the MTA takes that. Raises UnsafeAddress, TooLargeForMta (nothing was sent)."""
        session, envelope = self._session, self._composed.envelope
        size = len(self._composed.content)
        if session.largest_bytes is not None and max(size, envelope.size or 0) > session.largest_bytes:
            # Held rather than failed: the limit is the MTA's, and often only a default (message_size_limit).
            raise TooLargeForMta(
                f"{max(size, envelope.size or 0)} octets, and the MTA takes {session.largest_bytes}; right would be a "
                "higher limit there, then `drainer release`"
            )
        recipients: Sequence[str] = envelope.recipients
        if unsafe := unsafe_recipients(recipients, session.offered):
            self._unsafe = unsafe
            recipients = [address for place, address in enumerate(recipients) if place not in unsafe]
        if not recipients:
            # Before MAIL: under VERP the address is in the reverse-path too, and a refusal there would blame the entry.
            self._answers.to_recipients(list(unsafe.values()))
            self._envelope_is_over()
            return
        mail = mail_command(envelope, size, session.offered)
        if "pipelining" in session.offered:
            stages = [Stage.MAIL] + [Stage.RCPT] * len(recipients)
            session.ask(mail + rcpt_commands(recipients), stages, self._step(self._all_answered))
        else:
            session.ask(mail, (Stage.MAIL,), self._step(self._mail_answered))

    def _all_answered(self, answer: Answer) -> None:
        """MAIL and every RCPT were sent at once."""
        if isinstance(answer, SessionLost):
            self._answers.lost(answer)
        elif self._answers.to_mail(answer[0]):
            self._answers.to_recipients(self._in_place(answer[1:]) if self._unsafe else answer[1:])
        self._envelope_is_over()

    def _in_place(self, replies: Sequence[Reply]) -> Sequence[ToRcpt]:
        """The replies, and between them the recipients for which no RCPT was sent."""
        came: list[ToRcpt] = list(replies)
        for place, unsafe in self._unsafe.items():
            came.insert(place, unsafe)
        return came

    def _mail_answered(self, answer: Answer) -> None:
        if isinstance(answer, SessionLost):
            self._answers.lost(answer)
        elif self._answers.to_mail(answer[0]):
            self._ask_for_next()
            return
        self._envelope_is_over()

    def _ask_for_next(self) -> None:
        """RCPT for the next recipient, where the MTA takes them one by one."""
        recipients = self._composed.envelope.recipients
        while (place := self._answers.asked) < len(recipients):
            if place not in self._unsafe:
                command = rcpt_commands((recipients[place],))
                self._session.ask(command, (Stage.RCPT,), self._step(self._rcpt_answered))
                return
            self._answers.to_recipients((self._unsafe[place],))
        self._envelope_is_over()

    def _rcpt_answered(self, answer: Answer) -> None:
        if isinstance(answer, SessionLost):
            self._answers.lost(answer)
        elif self._answers.to_recipients(answer):
            if not self._answers.limit_is_met:
                self._ask_for_next()
                return
            self._answers.others_are_not_asked()
        self._envelope_is_over()

    def _envelope_is_over(self) -> None:
        self._is_in_envelope = False
        self._answers.envelope_is_over()
        self._see_session_limit()
        self._accepted = self._answers.accepted
        if self._accepted:
            self._write_attempt()
        else:
            self._session.reset(self._step(self._finish))

    def _write_attempt(self) -> None:
        envelope = self._composed.envelope
        attempt = NewAttempt(self._filebase, self._message, envelope.reverse_path, self._accepted, self._clock.now_s())
        # INVARIANT attempt-before-DATA: the attempt is on disk before DATA is sent.
        #   Crash before: the MTA saw MAIL and RCPT only and owns nothing; the entry is read again.
        #   Crash after:  the row stays ATTEMPTING; in_doubt/policy.py makes it IN_DOUBT, not PENDING.
        #   Leans on the ledger's promise that begin_attempt is done only when durable. Held by tests/feed/test_deliver.py.
        opening = begun(self._ledger.begin_attempt(attempt))
        opening.add_done_callback(self._step(self._attempt_is_written))

    def _attempt_is_written(self, opening: asyncio.Future[AttemptId]) -> None:
        if (error := _error_of(opening)) is not None:
            self._session.reset(self._step(self._fail, error))
            return
        self._attempt_id = opening.result()
        self._session.ask(b"DATA\r\n", (Stage.DATA,), self._step(self._data_answered))

    def _data_answered(self, answer: Answer) -> None:
        if isinstance(answer, SessionLost):
            self._content_answered(answer)
        elif refusal := self._answers.to_data(answer[0]):
            self._session.reset(self._step(self._finish, refusal))
        else:
            self._session.carry(self._composed.content, self._step(self._content_answered))

    def _content_answered(self, answer: Answer) -> None:
        self._finish(self._answers.to_content(answer if isinstance(answer, SessionLost) else answer[0]))

    def _finish(self, meaning: Meaning | None = None) -> None:
        """Write what became of the attempt, if there was one, and of those refused before it."""
        self._see_session_limit()
        at_s = self._clock.now_s()
        refusals = self._answers.refusals(at_s)
        outcome = content = None
        if meaning is not None:
            outcome = Outcome(meaning.state, self._accepted, meaning.reply, at_s, self._attempt_id)
            content = self._attempt_id, outcome, meaning
        done = self._answers.transaction(content, refusals)
        # Only with a single write: of two that the ledger refuses, one may become durable long before the other.
        is_one_write = (outcome is not None) != bool(refusals)
        finish = self._finish_with(done.outcomes) if is_one_write else None
        writes: list[Write] = []
        if outcome is not None:
            writes.append(
                functools.partial(
                    self._ledger.close_attempt, self._attempt_id, outcome.state, outcome.reply, at_s,
                    self._dsns((outcome,), at_s), finish=finish,
                )
            )  # fmt: skip
        if refusals:
            writes.append(
                functools.partial(
                    self._ledger.record, self._filebase, self._message, refusals, self._dsns(refusals, at_s),
                    finish=finish,
                )
            )  # fmt: skip
        # INVARIANT outcome-before-anything: the outcome is on disk before the caller learns it, so the entry is finished,
        # deferred or bounced only on what the ledger says too.
        #   Crash before: the row stays ATTEMPTING although the MTA answered; in_doubt/policy.py makes it IN_DOUBT, and the
        #                 MTA's log, where there is one, settles it. A second copy is possible only by the in-doubt policy.
        #   Crash after:  DELIVERED and FAILED are final, DEFERRED is tried again. The end of an entry is in the write of its
        #                 last outcome: both are durable, or neither is. The file goes after that.
        #   The ledger refuses: the outcome is known here only, so this writes again until it is durable.
        self._writes.begin(writes, done.outcomes, self._step(self._is_written, done))

    def _is_written(self, done: Transaction, error: BaseException | None) -> None:
        if error is not None:
            self._fail(error)
            return
        self._on_end(done)
        self._done = done
        self._wake()

    def _dsns(self, outcomes: Sequence[Outcome], at_s: float) -> tuple[NewDsn, ...]:
        # INVARIANT dsn-with-failure: the DSN is owed from the commit on that makes its recipients FAILED, which is final.
        #   Crash before: neither is known, the recipient is tried again.  Crash after: both are.
        #   Held by tests/contract/test_dsns.py and tests/crash/test_dsns.py.
        failed = {r: o.reply for o in outcomes if o.state is State.FAILED for r in o.recipients}
        if not failed or not self._owes_dsns:
            return ()
        return owed_dsn(self._composed, self._filebase, self._message, failed, at_s)

    def _see_session_limit(self) -> None:
        if self._answers.session_has_enough != "no":
            self._session.carried_enough(is_said=self._answers.session_has_enough == "said")

    def _step(self, step: Callable[..., None], *known: Any) -> Callable[..., None]:
        """A step as a callback. An error in it is the caller's, and not that of the transport or the loop that calls it."""
        return functools.partial(self._take, step, *known)

    def _take(self, step: Callable[..., None], *known: Any) -> None:
        try:
            step(*known)
        except Exception as exc:  # noqa: BLE001 - it goes to the caller; the session is in the middle of a transaction
            self._session.close()
            self._fail(exc)

    def _fail(self, error: BaseException) -> None:
        self._error = error
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


def _error_of(future: asyncio.Future[Any]) -> BaseException | None:
    return asyncio.CancelledError() if future.cancelled() else future.exception()
