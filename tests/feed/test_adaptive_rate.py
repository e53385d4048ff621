"""The rate finds what an MTA bears, keeps below it, and comes back when the MTA does."""

from __future__ import annotations

import math

from hypothesis import given, settings
from hypothesis import strategies as st

from drainer.feed.adaptive_rate import (
    FASTEST_PER_S,
    SLOWEST_PER_S,
    START_PER_S,
    Heard,
    Pace,
    Phase,
    first_pace,
    next_pace,
)

LOOK_S = 0.25


def driven(pace: Pace, seconds: float, bears_per_s: float, ceiling: float | None = None) -> list[Pace]:
    """A pace each look, against an MTA that defers everything beyond what it bears and is fed as fast as allowed."""
    paces, sent, borne = [], 0.0, 0.0
    for _ in range(round(seconds / LOOK_S)):
        sent += pace.per_s * LOOK_S
        borne = min(borne + bears_per_s * LOOK_S, bears_per_s)
        tried = int(sent)
        sent -= tried
        accepted = min(tried, int(borne))
        borne -= accepted
        seen = Heard(tried, tried - accepted, reply="451 too much")
        pace = next_pace(pace, seen, pace.looked_at_s + LOOK_S, ceiling)
        paces.append(pace)
    return paces


def test_slow_start_reaches_500_per_second_within_ten_seconds() -> None:
    paces = driven(first_pace(0, None), 10, bears_per_s=10_000)
    assert paces[0].per_s < 2 * START_PER_S and paces[-1].per_s >= 500 and not paces[-1].reason


def test_slow_start_ends_at_the_operators_ceiling() -> None:
    assert driven(first_pace(0, 200), 10, bears_per_s=1_000, ceiling=200)[-1].per_s == 200


def test_slow_start_waits_for_an_mta_that_answers_slowly() -> None:
    pace = first_pace(0, None)
    for look in range(1, 41):
        pace = next_pace(pace, Heard(round(30 * LOOK_S)), look * LOOK_S, None)
    assert pace.per_s <= 3.5 * 30


def test_rate_steps_down_to_just_under_what_was_accepted_and_not_to_a_half() -> None:
    paces = driven(Pace(70.0, 0.0, Phase.SEARCH, limit_per_s=70), 15, bears_per_s=60)
    held = next(pace for pace in paces if pace.phase is Phase.HOLD)
    assert 0.9 * 60 <= held.per_s < 60 and "451 too much" in held.reason


def test_few_are_refused_once_the_limit_is_found() -> None:
    settled = [pace.per_s for pace in driven(first_pace(0, None), 600, bears_per_s=100)[200:]]
    assert sum(settled) / len(settled) > 0.93 * 100 and max(settled) < 1.2 * 100
    assert sum(max(0, per_s - 100) for per_s in settled) < 0.02 * sum(settled)


def test_rate_comes_back_at_once_when_a_ceiling_below_a_known_limit_is_lifted() -> None:
    held_down = driven(first_pace(0, 2, 100.0, is_limit=True), 30, bears_per_s=100, ceiling=2)[-1]
    assert held_down.per_s == 2
    back = driven(held_down, 10, bears_per_s=100)
    assert back[-1].per_s >= 90 and all(pace.per_s <= 100 for pace in back)


def test_rate_comes_back_after_an_overload_has_passed() -> None:
    overloaded = driven(first_pace(0, 100), 60, bears_per_s=10, ceiling=100)[-1]
    assert overloaded.per_s < 12 and overloaded.reason
    back = driven(overloaded, 120, bears_per_s=1_000, ceiling=100)[-1]
    assert back.per_s == 100 and not back.reason


def flaky(pace: Pace, seconds: float, deferred: float = 0.0, lost: float = 0.0) -> Pace:
    """After an MTA that fails in the same share of transactions, whatever the rate."""
    sent = bad = gone = 0.0
    for _ in range(round(seconds / LOOK_S)):
        sent += pace.per_s * LOOK_S
        tried = int(sent)
        sent -= tried
        bad += tried * deferred
        gone += tried * lost
        pace = next_pace(pace, Heard(tried, int(bad), int(gone)), pace.looked_at_s + LOOK_S, 200)
        bad -= int(bad)
        gone -= int(gone)
    return pace


def test_losses_that_are_as_likely_at_any_rate_do_not_slow_the_feed() -> None:
    assert flaky(first_pace(0, 200), 10, lost=0.045).per_s == 200


def test_greylisting_of_everybody_does_not_slow_the_feed_once_it_is_known() -> None:
    pace = flaky(first_pace(0, 200), 25, deferred=1.0)
    assert pace.per_s == 200 and not pace.reason


def test_a_trouble_that_a_lower_rate_does_not_cure_restores_the_rate_and_is_tolerated() -> None:
    calm = flaky(first_pace(0, 200), 10)
    troubled = flaky(calm, 1, lost=0.3)
    assert troubled.phase is Phase.CHECK and troubled.per_s < calm.per_s
    restored = flaky(troubled, 15, lost=0.3)
    assert restored.per_s == calm.per_s and restored.usual["lost"].share > 0.2


def test_one_domain_that_is_deferred_slows_nobody_else() -> None:
    pace = Pace(80.0, 0.0)
    domains = {"bad.example": (5, 5), "a.example": (8, 0), "b.example": (7, 0)}
    for look in range(1, 20):
        pace = next_pace(pace, Heard(20, 5, domains=domains), look * LOOK_S, 80)
    assert pace.per_s == 80 and pace.check is None


def test_rate_that_is_not_used_does_not_grow() -> None:
    assert next_pace(first_pace(0, None), Heard(1), 10, None).per_s == START_PER_S


def test_rate_starts_from_what_this_mta_bore_last_time() -> None:
    assert 250 < first_pace(0, None, borne_per_s=300).per_s < 300 and first_pace(0, 50, borne_per_s=300).per_s == 50
    assert first_pace(0, None, borne_per_s=1).per_s == START_PER_S, "it had no more to do"
    known = first_pace(0, None, borne_per_s=5, is_limit=True)
    assert 4 < known.per_s < 5 and known.phase is Phase.HOLD and "last time" in known.reason


def test_pausing_teaches_nothing() -> None:
    pace = Pace(80.0, 0.0)
    assert next_pace(pace, Heard(5, lost=5), 60, 0).per_s == 80


heard = st.integers(0, 10_000).flatmap(
    lambda tried: st.integers(0, tried).flatmap(
        lambda deferred: st.builds(Heard, st.just(tried), st.just(deferred), st.integers(0, tried - deferred))
    )
)


@settings(max_examples=60)
@given(st.lists(st.tuples(heard, st.floats(0, 100), st.one_of(st.none(), st.floats(SLOWEST_PER_S, 1e6))), max_size=30))
def test_rate_never_leaves_its_bounds(looks: list[tuple[Heard, float, float | None]]) -> None:
    pace = first_pace(0, None)
    now_s = 0.0
    for seen, elapsed_s, ceiling in looks:
        now_s += elapsed_s
        pace = next_pace(pace, seen, now_s, ceiling)
        assert SLOWEST_PER_S <= pace.per_s <= min(FASTEST_PER_S, FASTEST_PER_S if ceiling is None else ceiling)
        assert all(one.seconds >= 0 for one in pace.recent) and not math.isnan(pace.per_s)
