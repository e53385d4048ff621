"""After a crash or a lost reply: what becomes of each attempt whose outcome is unknown.

In    unresolved attempts, the policy, and what the MTA's log says of each recipient
Out   one Resolution per attempt: the states it is to be moved through, and why
Pure  no ledger, no log file, no clock

An attempt found ATTEMPTING was cut short, and its content may be out. It always goes IN_DOUBT first, and from there by a
resolution (states.py). A resolution is per attempt, because one final dot accepts or refuses all its recipients.
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
class LogAnswer:
    """What the MTA's log says about the recipients of one attempt. why: the reason if it cannot say."""

    answers: frozenset[Answer]
    why: str = ""


Ask = Callable[[OpenAttempt], LogAnswer]


def asking(evidence: MtaEvidence) -> Ask:
    """Ask the MTA's log.

    The reverse-path of a .bak is unknown (the ledger has the null one), and so is that of an entry handed over to Mailman
    (the ledger has the handover's mark). Then the log is never taken to say no.
    """

    def ask(attempt: OpenAttempt) -> LogAnswer:
        reverse_path = None if handover_mark(attempt.reverse_path) else attempt.reverse_path or None
        answers = frozenset(
            evidence.answers(attempt.message_id, reverse_path, attempt.recipients, attempt.at_s).values()
        )
        if Answer.CANNOT_SAY not in answers:
            return LogAnswer(answers)
        if not attempt.message_id:
            return LogAnswer(answers, "the mail has no Message-ID")
        if reverse_path is None:
            return LogAnswer(answers, "the reverse-path is not known")
        return LogAnswer(
            answers, evidence.why_silent(attempt.message_id, attempt.at_s) or "it has mail that may be this one"
        )

    return ask


@dataclass(frozen=True, slots=True)
class Resolution:
    """What becomes of one attempt.

    steps  states to move it through with Ledger.resolve, in order; the last is PENDING (to be sent again), DELIVERED or
           HELD
    why    for the ledger, the log line and the operator
    final  False: the log may have a better answer later
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
    fallback    ledger.in_doubt_fallback: the log cannot say, or there is none
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
    found = ask(attempt)
    if found.answers == {Answer.YES}:
        return _resolution(attempt, State.DELIVERED, "the MTA's log shows it accepted")
    if found.answers == {Answer.NO}:
        return _resolution(attempt, State.PENDING, "the MTA's log covers that moment and does not have it")
    if Answer.YES in found.answers:
        # The log has some recipients of the transaction: the MTA accepted it, or the log mixes it up with another one.
        # Resending would certainly make second copies, so the fallback "resend" does not apply.
        final = Answer.CANNOT_SAY not in found.answers
        return _resolution(attempt, State.HELD, "the MTA's log shows some of its recipients only", final)
    return _by_policy(attempt, fallback, f"the MTA's log cannot say ({found.why}): {fallback}", final=False)


def _by_policy(attempt: OpenAttempt, policy: Fallback, why: str, final: bool = True) -> Resolution:
    return _resolution(attempt, State.PENDING if policy == "resend" else State.HELD, why, final)


def _resolution(attempt: OpenAttempt, outcome: State, why: str, final: bool = True) -> Resolution:
    first = (State.IN_DOUBT,) if attempt.state is State.ATTEMPTING else ()
    return Resolution(attempt, (*first, outcome), why, final)
