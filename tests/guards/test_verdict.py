"""Several guards speak with one voice, the strictest; marks that differ keep feeding from fluttering."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drainer.guards.verdict import Guard, Verdict, between_limits, not_above, not_below, strictest, unknown


@pytest.mark.parametrize(
    ("verdicts", "name"),
    [(["go", "slow", "stop", "stop"], "2"), (["slow", "go"], "0"), (["go", "go"], "0"), ([], "none")],
)
def test_strictest_verdict_wins_and_the_first_of_equals_is_named(verdicts: list[Verdict], name: str) -> None:
    guards = [Guard(name=str(number), verdict=verdict) for number, verdict in enumerate(verdicts)]
    assert strictest(guards).name == name


def test_reason_is_given_exactly_when_something_is_wrong() -> None:
    fine, short = (not_below("ledger_bytes", value, 100, "bytes free", "stop") for value in (100, 99))
    assert (fine.verdict, fine.reason) == ("go", "")
    assert (short.verdict, short.reason) == ("stop", "99 bytes free, limit 100")
    assert not_above("load", 5.0, 4.0, "load", "slow").reason == "load 5, limit 4"
    assert unknown("mta_queue", "slow", "no answer").reason == "no answer"


def test_queue_length_stops_above_the_high_mark_until_below_the_low_one() -> None:
    verdicts = []
    stopped = False
    for length in (10, 60, 101, 80, 50, 49, 60, 101):
        verdict = between_limits("mta_queue", length, 100, 50, "messages", stopped).verdict
        stopped = verdict == "stop"
        verdicts.append(verdict)
    assert verdicts == ["go", "slow", "stop", "stop", "stop", "go", "slow", "stop"]


@given(st.integers(0, 200), st.booleans())
def test_length_outside_the_marks_needs_no_memory(length: int, was_stopped: bool) -> None:
    guard = between_limits("mta_queue", length, 100, 50, "messages", was_stopped)
    if length > 100:
        assert guard.verdict == "stop"
    elif length < 50:
        assert guard.verdict == "go"
    else:
        assert guard.verdict == ("stop" if was_stopped else "slow")
