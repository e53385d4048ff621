"""After a crash, or a lost reply: what to do with each attempt whose outcome nobody knows.

In    unresolved attempts, the policy, and what the MTA's log says of each recipient
Out   one Decision per attempt: the states it is to be moved through, and why
Pure  no ledger, no log file, no clock

An attempt found ATTEMPTING was cut short with its content perhaps out: it goes IN_DOUBT first, always, and only from
there by a decision (states.py). A decision is per attempt, because one final dot accepts or refuses all its recipients.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Literal

from drainer.ledger.mta_log import Answer, MtaEvidence
from drainer.ledger.records import OpenAttempt
from drainer.ledger.states import State

InDoubt = Literal["ask", "resend", "hold"]
Fallback = Literal["resend", "hold"]
Ask = Callable[[OpenAttempt], Collection[Answer]]
"""The MTA log's answer for each recipient of an attempt."""


def asking(evidence: MtaEvidence) -> Ask:
    """Ask the MTA's log. An empty reverse-path may be null or unknown (record of a .bak), and is taken as unknown."""
    return lambda attempt: evidence.answers(
        attempt.message_id, attempt.reverse_path or None, attempt.recipients, attempt.at_s
    ).values()


@dataclass(frozen=True, slots=True)
class Decision:
    """What becomes of one attempt.

    steps  states to move it through with Ledger.resolve, in order; the last is PENDING (to be sent again), DELIVERED or
           HELD
    why    for the ledger, the log line and the operator
    """

    attempt: OpenAttempt
    steps: tuple[State, ...]
    why: str

    @property
    def outcome(self) -> State:
        return self.steps[-1]


def decide(
    attempts: Sequence[OpenAttempt], in_doubt: InDoubt, fallback: Fallback, ask: Ask | None = None
) -> list[Decision]:
    """A decision for each attempt that is ATTEMPTING or IN_DOUBT.

    in_doubt   ledger.in_doubt: "ask" the MTA's log, "resend" or "hold" without asking
    fallback   ledger.in_doubt_fallback: when it is asked and cannot say, or there is no log
    ask        the log; None if none is configured or it cannot be read
    Source     DESIGN §5; RFC 5321 §6.1 and RFC 1047: without knowledge, resending is what the standard has
    """
    return [_decide(attempt, in_doubt, fallback, ask) for attempt in attempts]


def _decide(attempt: OpenAttempt, in_doubt: InDoubt, fallback: Fallback, ask: Ask | None) -> Decision:
    if in_doubt != "ask":
        return _by_policy(attempt, in_doubt, f"policy {in_doubt}")
    if ask is None:
        return _by_policy(attempt, fallback, f"no MTA log to ask: {fallback}")
    answers = set(ask(attempt))
    if answers == {Answer.YES}:
        return _decision(attempt, State.DELIVERED, "the MTA's log shows it accepted")
    if answers == {Answer.NO}:
        return _decision(attempt, State.PENDING, "the MTA's log covers that moment and does not have it")
    if Answer.YES in answers:
        # Some recipients of one transaction are in the log: it was accepted, or the log mixes it up with another.
        # Sending again would make second copies for certain, so no policy of resending applies.
        return _decision(attempt, State.HELD, "the MTA's log shows some of its recipients only")
    return _by_policy(attempt, fallback, f"the MTA's log cannot say: {fallback}")


def _by_policy(attempt: OpenAttempt, policy: Fallback, why: str) -> Decision:
    return _decision(attempt, State.PENDING if policy == "resend" else State.HELD, why)


def _decision(attempt: OpenAttempt, outcome: State, why: str) -> Decision:
    first = (State.IN_DOUBT,) if attempt.state is State.ATTEMPTING else ()
    return Decision(attempt, (*first, outcome), why)
