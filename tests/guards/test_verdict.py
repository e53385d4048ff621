"""Several guards speak with one voice, the strictest; marks that differ keep feeding from fluttering."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drainer.guards.verdict import (
    Guard,
    Marks,
    Verdict,
    between_limits,
    judged,
    not_below,
    strictest,
    unknown,
)


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
    assert judged("load", 5.0, Marks(4.0), "load").reason == "load 5, limit 4"
    assert judged("load", 3.5, Marks(4.0), "load", "slow").reason == "load 3.5, ends below 3.2"
    assert judged("ledger_bytes", 110, Marks(200, 100), "bytes free", "stop", is_scarce=True).reason == (
        "110 bytes free, ends from 125"
    )
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


def test_marks_slow_then_stop_and_each_ends_a_fifth_below_itself() -> None:
    seen: list[Verdict] = ["go"]
    for value in (9, 11, 9, 7, 21, 17, 15, 9, 7, 11):
        seen.append(judged("load", value, Marks(10, 20), "load", seen[-1]).verdict)
    assert seen[1:] == ["go", "slow", "slow", "go", "stop", "stop", "slow", "slow", "go", "slow"]


def test_what_must_not_run_out_is_judged_the_other_way_round() -> None:
    seen: list[Verdict] = ["go"]
    for value in (200, 190, 210, 250, 99, 110, 130, 249, 250):
        seen.append(judged("ledger_bytes", value, Marks(200, 100), "free", seen[-1], is_scarce=True).verdict)
    assert seen[1:] == ["go", "slow", "slow", "go", "stop", "stop", "slow", "slow", "go"]


@given(
    st.floats(1, 1e12),
    st.lists(st.floats(0.91, 1.09), min_size=2, max_size=30),
    st.booleans(),
    st.sampled_from(["slow", "stop"]),
)
def test_value_that_hovers_around_a_mark_changes_the_verdict_once(
    mark: float, shares: list[float], is_scarce: bool, acts: Verdict
) -> None:
    marks = Marks(mark) if acts == "slow" else Marks(0.0, mark)
    verdicts: list[Verdict] = ["go"]
    for share in shares:
        verdicts.append(judged("load", mark * share, marks, "load", verdicts[-1], is_scarce=is_scarce).verdict)
    assert sum(one != other for one, other in itertools.pairwise(verdicts)) <= 1


@given(st.floats(0, 1e12), st.sampled_from(["go", "slow", "stop"]), st.booleans())
def test_without_marks_a_guard_never_acts(value: float, before: Verdict, is_scarce: bool) -> None:
    guard = judged("io_pressure", value, Marks(), "io", before, is_scarce=is_scarce)
    assert (guard.verdict, guard.reason, guard.limit) == ("go", "", None)
