"""After a crash, or a lost reply: what to do with each attempt whose outcome nobody knows.

In    unresolved attempts, the policy, and what the MTA's log says of each recipient
Out   one Resolution per attempt: the states it is to be moved through, and why
Pure  no ledger, no log file, no clock

An attempt found ATTEMPTING was cut short with its content perhaps out: it goes IN_DOUBT first, always, and only from
there by a resolution (states.py). A resolution is per attempt, because one final dot accepts or refuses all its recipients.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from drainer.ledger.records import OpenAttempt
from drainer.ledger.states import State
from drainer.mta_log.answer import Answer, MtaEvidence
from drainer.via_mailman.whereabouts import handover_mark

InDoubt = Literal["ask", "resend", "hold"]
Fallback = Literal["resend", "hold"]


@dataclass(frozen=True, slots=True)
class Told:
    """What the MTA's log answers for the recipients of one attempt; if it cannot say, why."""

    answers: frozenset[Answer]
    why: str = ""


Ask = Callable[[OpenAttempt], Told]


def asking(evidence: MtaEvidence) -> Ask:
    """Ask the MTA's log.

    A reverse-path may be unknown: of a .bak, of an entry handed over to Mailman (its mark stands in that place). It may be
    null, since the ledger has nothing else for these. Then the log is never taken to say no.
    """

    def ask(attempt: OpenAttempt) -> Told:
        reverse_path = None if handover_mark(attempt.reverse_path) else attempt.reverse_path or None
        answers = frozenset(
            evidence.answers(attempt.message_id, reverse_path, attempt.recipients, attempt.at_s).values()
        )
        if Answer.CANNOT_SAY not in answers:
            return Told(answers)
        if not attempt.message_id:
            return Told(answers, "the mail has no Message-ID")
        if reverse_path is None:
            return Told(answers, "the reverse-path is not known")
        return Told(
            answers, evidence.why_silent(attempt.message_id, attempt.at_s) or "it has mail that may be this one"
        )

    return ask


@dataclass(frozen=True, slots=True)
class Resolution:
    """What becomes of one attempt.

    steps  states to move it through with Ledger.resolve, in order; the last is PENDING (to be sent again), DELIVERED or
           HELD
    why    for the ledger, the log line and the operator
    final  False: for want of a better answer, which the log may have later
    """

    attempt: OpenAttempt
    steps: tuple[State, ...]
    why: str
    final: bool = True

    @property
    def outcome(self) -> State:
        return self.steps[-1]


def resolutions(
    attempts: Sequence[OpenAttempt], in_doubt: InDoubt, fallback: Fallback, ask: Ask | None, unreadable: str = ""
) -> list[Resolution]:
    """A resolution of each attempt that is ATTEMPTING or IN_DOUBT.

    in_doubt    ledger.in_doubt: "ask" the MTA's log, "resend" or "hold" without asking
    fallback    ledger.in_doubt_fallback: when it is asked and cannot say, or there is no log
    ask         the log; None if none is configured or it cannot be read
    unreadable  why it cannot be read; "" if none is configured
    Source      DESIGN §5; RFC 5321 §6.1 and RFC 1047: without knowledge, resending is what the standard has
    """
    return [_resolved(attempt, in_doubt, fallback, ask, unreadable) for attempt in attempts]


def _resolved(
    attempt: OpenAttempt, in_doubt: InDoubt, fallback: Fallback, ask: Ask | None, unreadable: str
) -> Resolution:
    if in_doubt != "ask":
        return _by_policy(attempt, in_doubt, f"policy {in_doubt}")
    if ask is None:
        why = unreadable or "no MTA log to ask"
        return _by_policy(attempt, fallback, f"{why}: {fallback}", final=not unreadable)
    told = ask(attempt)
    if told.answers == {Answer.YES}:
        return _resolution(attempt, State.DELIVERED, "the MTA's log shows it accepted")
    if told.answers == {Answer.NO}:
        return _resolution(attempt, State.PENDING, "the MTA's log covers that moment and does not have it")
    if Answer.YES in told.answers:
        # Some recipients of one transaction are in the log: it was accepted, or the log mixes it up with another.
        # Sending again would make second copies for certain, so no policy of resending applies.
        final = Answer.CANNOT_SAY not in told.answers
        return _resolution(attempt, State.HELD, "the MTA's log shows some of its recipients only", final)
    return _by_policy(attempt, fallback, f"the MTA's log cannot say ({told.why}): {fallback}", final=False)


def _by_policy(attempt: OpenAttempt, policy: Fallback, why: str, final: bool = True) -> Resolution:
    return _resolution(attempt, State.PENDING if policy == "resend" else State.HELD, why, final)


def _resolution(attempt: OpenAttempt, outcome: State, why: str, final: bool = True) -> Resolution:
    first = (State.IN_DOUBT,) if attempt.state is State.ATTEMPTING else ()
    return Resolution(attempt, (*first, outcome), why, final)
