"""What becomes of attempts whose outcome is not known."""

from __future__ import annotations

import pytest

from drainer.in_doubt.policy import Fallback, InDoubt, LogAnswer, resolutions
from drainer.ledger.records import OpenAttempt, new_attempt_id
from drainer.ledger.states import State, check_resolve
from drainer.mta_log.answer import Answer

OPEN = OpenAttempt(new_attempt_id(), State.ATTEMPTING, "1.5+a", "list", "<1@x>", "b@x", ("ann@x", "bob@x"), 1000.0)
DOUBT = OpenAttempt(new_attempt_id(), State.IN_DOUBT, "1.5+b", "list", "<2@x>", "b@x", ("ann@x",), 1000.0)
YES, NO, CANNOT_SAY = Answer.YES, Answer.NO, Answer.CANNOT_SAY


@pytest.mark.parametrize(
    ("policy", "fallback", "answers", "outcome"),
    [
        ("ask", "resend", (YES, YES), State.DELIVERED),
        ("ask", "hold", (NO, NO), State.PENDING),
        ("ask", "resend", (CANNOT_SAY, CANNOT_SAY), State.PENDING),
        ("ask", "hold", (CANNOT_SAY, CANNOT_SAY), State.HELD),
        ("ask", "resend", (YES, CANNOT_SAY), State.HELD),
        ("ask", "resend", (YES, NO), State.HELD),
        ("ask", "hold", (NO, CANNOT_SAY), State.HELD),
        ("ask", "resend", None, State.PENDING),
        ("ask", "hold", None, State.HELD),
        ("resend", "hold", (YES, YES), State.PENDING),
        ("hold", "resend", (NO, NO), State.HELD),
    ],
)
@pytest.mark.parametrize("attempt", [OPEN, DOUBT], ids=["attempting", "in_doubt"])
def test_policy_and_log_decide(
    attempt: OpenAttempt, policy: InDoubt, fallback: Fallback, answers: tuple[Answer, ...] | None, outcome: State
) -> None:
    (resolution,) = resolutions(
        [attempt], policy, fallback, None if answers is None else lambda _: LogAnswer(frozenset(answers))
    )
    assert resolution.outcome is outcome
    assert resolution.why
    before = attempt.state
    for step in resolution.steps:
        check_resolve(before, step)
        before = step
