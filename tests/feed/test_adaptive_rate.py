"""The rate finds what an MTA bears, keeps below it, and comes back when the MTA does."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from drainer.feed.adaptive_rate import (
    CALM_BEFORE_CREEP_S,
    FASTEST_PER_S,
    SLOWEST_PER_S,
    Outcomes,
    Pace,
    first_pace,
    next_pace,
)


def driven(pace: Pace, seconds: int, bears_per_s: float, ceiling: float | None = None) -> list[Pace]:
    """A pace each second, against an MTA that defers everything beyond what it bears and is fed as fast as allowed."""
    paces = []
    for _ in range(seconds):
        sent = 10 * round(pace.per_s)
        refused = max(0, sent - round(10 * bears_per_s))
        seen = Outcomes(round(pace.per_s), sent, refused)
        pace = next_pace(pace, seen, pace.looked_at_s + 1, ceiling)
        paces.append(pace)
    return paces


def test_slow_start_reaches_a_ceiling_the_mta_bears_within_half_a_minute() -> None:
    paces = driven(first_pace(0, 200), 30, bears_per_s=1_000, ceiling=200)
    assert paces[0].per_s < 10 and paces[-1].per_s == 200 and not paces[-1].reason


def test_rate_settles_around_what_the_mta_bears() -> None:
    settled = [pace.per_s for pace in driven(first_pace(0, None), 600, bears_per_s=100)[120:]]
    assert 60 < sum(settled) / len(settled) < 130 and max(settled) < 160


def test_rate_comes_back_after_an_overload_has_passed() -> None:
    overloaded = driven(first_pace(0, 100), 120, bears_per_s=10, ceiling=100)[-1]
    assert overloaded.per_s < 25 and overloaded.reason
    assert driven(overloaded, 600, bears_per_s=1_000, ceiling=100)[-1].per_s > 40


def test_one_outage_halves_once() -> None:
    pace = Pace(80.0, 0.0, slow_start=False)
    for second in range(1, 5):
        pace = next_pace(pace, Outcomes(80, 800, 0, lost=20), second, None)
    assert pace.per_s == 40 and pace.reason == "connection trouble"


def test_everyday_deferrals_do_not_slow_the_feed() -> None:
    pace = Pace(80.0, 0.0, slow_start=False, calm_since_s=-100)
    assert next_pace(pace, Outcomes(80, 800, 30), 1, None).per_s > 80
    assert next_pace(pace, Outcomes(2, 4, 4), 1, None).per_s == 80


def test_rate_stays_between_calm_and_trouble() -> None:
    pace = Pace(80.0, 0.0, slow_start=False, calm_since_s=-100)
    assert next_pace(pace, Outcomes(80, 800, 100), 1, None).per_s == 80


def test_rate_that_is_not_used_does_not_grow() -> None:
    assert next_pace(first_pace(0, None), Outcomes(1, 1), 10, None).per_s == first_pace(0, None).per_s


def test_pausing_teaches_nothing() -> None:
    pace = Pace(80.0, 0.0)
    assert next_pace(pace, Outcomes(0, 0, 0, lost=5), 60, 0).per_s == 80


outcomes = st.builds(
    lambda transactions, answered, share, lost: Outcomes(transactions, answered, int(answered * share), lost),
    st.integers(0, 10_000),
    st.integers(0, 100_000),
    st.floats(0, 1),
    st.integers(0, 3),
)


@given(
    st.lists(st.tuples(outcomes, st.floats(0, 100), st.one_of(st.none(), st.floats(SLOWEST_PER_S, 1e6))), max_size=50)
)
def test_rate_never_leaves_its_bounds(looks: list[tuple[Outcomes, float, float | None]]) -> None:
    pace = first_pace(0, None)
    now_s = 0.0
    for seen, elapsed_s, ceiling in looks:
        now_s += elapsed_s
        before, pace = pace, next_pace(pace, seen, now_s, ceiling)
        assert SLOWEST_PER_S <= pace.per_s <= min(FASTEST_PER_S, FASTEST_PER_S if ceiling is None else ceiling)
        if seen.lost:
            assert pace.per_s <= before.per_s


@given(st.floats(1, 1_000), st.floats(0, CALM_BEFORE_CREEP_S - 1))
def test_rate_does_not_grow_right_after_trouble(per_s: float, later_s: float) -> None:
    troubled = next_pace(Pace(per_s, 0.0), Outcomes(lost=1), 100, None)
    assert next_pace(troubled, Outcomes(1_000_000, 1_000_000), 100 + later_s, None).per_s == troubled.per_s
