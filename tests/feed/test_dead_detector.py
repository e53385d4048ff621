"""Which sessions lost in a row are a dead MTA, and which are not."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drainer.feed.dead_detector import DEAD_AFTER, DOUBTS_AT_MOST, Losses


def after(*lost_in_doubt: bool, apart_s: float = 1.0) -> Losses:
    """Sessions lost one after the other."""
    losses = Losses()
    for number, in_doubt in enumerate(lost_in_doubt):
        losses = losses.lost(number * apart_s, number * apart_s + 0.5, in_doubt=in_doubt)
    return losses


@pytest.mark.parametrize(("standing", "losses"), [(1, 2), (2, 2), (4, 4), (20, 5)])
def test_dead_after_a_cohort_of_lost_sessions(standing: int, losses: int) -> None:
    assert not after(*[False] * (losses - 1)).are_of_dead_mta(standing)
    assert after(*[False] * losses).are_of_dead_mta(standing)


def test_second_mail_in_doubt_is_a_dead_mta_however_many_sessions_stand() -> None:
    first = after(True)
    assert first.one_at_a_time and not first.are_of_dead_mta(20)
    assert after(True, True).are_of_dead_mta(20) and after(True, False, True).are_of_dead_mta(20)


def test_mails_in_doubt_that_were_under_way_together_count_once() -> None:
    losses = Losses()
    for _ in range(DEAD_AFTER - 1):
        losses = losses.lost(10.0, 11.0, in_doubt=True)
    assert losses.doubts == 1 and not losses.are_of_dead_mta(20)
    assert losses.lost(11.0, 12.0, in_doubt=True).are_of_dead_mta(20)


def test_refusal_proves_that_the_mta_lives_and_not_that_it_answers_a_final_dot() -> None:
    refused = after(True).went_through(is_answered=False)
    assert refused.in_a_row == 0 and refused.one_at_a_time
    assert refused.lost(5.0, 6.0, in_doubt=True).are_of_dead_mta(20)
    assert refused.went_through(is_answered=True) == Losses()


@given(st.lists(st.sampled_from(["in doubt", "lost", "refused", "answered"]), max_size=40), st.integers(1, 30))
def test_never_more_than_two_mails_in_doubt_without_an_answered_one_between(ends: Sequence[str], standing: int) -> None:
    losses, doubts = Losses(), 0
    for number, end in enumerate(ends):
        if end in ("in doubt", "lost"):
            losses = losses.lost(number, number + 0.5, in_doubt=end == "in doubt")
        else:
            losses = losses.went_through(is_answered=end == "answered")
        doubts = 0 if end == "answered" else doubts + (end == "in doubt")
        assert losses.one_at_a_time == (doubts > 0)
        assert doubts < DOUBTS_AT_MOST or losses.are_of_dead_mta(standing)
