"""A trouble is laid to the load only if it is more likely at a higher rate."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from drainer.feed.load_evidence import (
    FEWEST_BAD,
    NOTHING_KNOWN,
    REMEMBERED,
    Sample,
    deviations,
    has_helped,
    is_one_domains,
    is_unusual,
)

samples = st.integers(0, 10_000).flatmap(lambda tried: st.builds(Sample, st.just(tried), st.integers(0, tried)))


def test_a_share_that_is_the_same_everywhere_is_never_unusual() -> None:
    for tried in (10, 100, 1_000, 10_000):
        assert not is_unusual(Sample(tried, tried * 0.045), Sample(400, 18))
        assert not is_unusual(Sample(tried, tried), Sample(400, 400))


def test_refusals_where_there_were_none_are_unusual_after_a_handful() -> None:
    assert not is_unusual(Sample(8, FEWEST_BAD - 1), Sample(100, 0))
    assert is_unusual(Sample(8, FEWEST_BAD), Sample(100, 0))
    assert is_unusual(Sample(10, 10), NOTHING_KNOWN)


def test_a_slowdown_has_helped_only_if_the_share_fell_for_certain() -> None:
    assert has_helped(Sample(40, 20), Sample(40, 2))
    assert not has_helped(Sample(40, 20), Sample(40, 18)) and not has_helped(Sample(40, 40), Sample(12, 12))


def test_deferrals_of_one_domain_are_its_own_as_long_as_the_others_are_taken() -> None:
    usual = Sample(400, 4)
    assert is_one_domains({"bad.example": (50, 50), "a.example": (100, 1), "b.example": (100, 0)}, usual)
    assert not is_one_domains({"bad.example": (50, 50), "a.example": (100, 40)}, usual)
    assert not is_one_domains({"only.example": (50, 50)}, usual)
    assert not is_one_domains({"bad.example": (50, 50), "a.example": (3, 0)}, usual), "three say nothing"


@given(samples, samples)
def test_the_comparison_is_the_same_from_both_sides(here: Sample, there: Sample) -> None:
    assert abs(deviations(here, there) + deviations(there, here)) < 1e-9
    assert here.remembered().tried <= REMEMBERED and abs(here.remembered().share - here.share) < 1e-9
