"""The law of one destination at simulated providers: it takes what they allow, and little waits behind the MTA."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drainer.destinations.domain_pace import (
    HEAL_S,
    LONGEST_PAUSE_S,
    PROBATION_PER_S,
    PROVEN_PER_S,
    DomainPace,
    Look,
    next_pace,
)
from tests.destinations.provider_simulated import TOO_FAST, Bucket, Simulated

HOUR_S = 3600.0


def always(per_s: float) -> Callable[[float], float]:
    return lambda at_s: per_s


def banned(at_s: float) -> float:
    return 0.0 if 300 <= at_s < 900 else 5.0


@dataclass(frozen=True)
class Aim:
    """accepted: least share of what the provider allows; queued: most recipients behind the MTA at any time."""

    simulated: Callable[[], Simulated]
    accepted: float = 0.85
    queued: int = 200
    seconds: float = 1200.0


AIMS = {
    "token_bucket": Aim(lambda: Simulated(Bucket(always(5.0))), 0.9),
    "token_bucket_that_the_mta_retries_soon": Aim(lambda: Simulated(Bucket(always(5.0)), retry_s=5), 0.9),
    "token_bucket_that_the_mta_retries_late": Aim(lambda: Simulated(Bucket(always(5.0)), retry_s=300)),
    "slow_bucket": Aim(lambda: Simulated(Bucket(always(0.5))), 0.8),
    "fast_bucket": Aim(lambda: Simulated(Bucket(always(20.0))), 0.95),
    "bucket_with_a_reserve": Aim(lambda: Simulated(Bucket(always(5.0), burst=60, tokens=60)), 0.95),
    "we_are_much_faster": Aim(lambda: Simulated(Bucket(always(5.0)), wish_per_s=100, look_s=1.0), 0.9),
    "capacity_that_rises": Aim(lambda: Simulated(Bucket(lambda at_s: 5.0 if at_s < 600 else 15.0)), 0.85, 200, 1800),
    "capacity_that_falls": Aim(lambda: Simulated(Bucket(lambda at_s: 15.0 if at_s < 600 else 3.0)), 0.9, 200, 1800),
    "ban_of_ten_minutes": Aim(lambda: Simulated(Bucket(banned)), 0.85, 200, HOUR_S),
    "only_the_queue_tells": Aim(lambda: Simulated(Bucket(always(5.0)), log_read=False), 0.85),
    "only_the_log_tells": Aim(lambda: Simulated(Bucket(always(5.0)), queue_read=False), 0.9),
    "provider_that_only_delays": Aim(
        lambda: Simulated(Bucket(always(5.0)), delays_only=True, reply="", look_s=1.0), 0.95, 400
    ),
    "replies_to_ourselves": Aim(lambda: Simulated(Bucket(always(5.0)), direct=True), 0.95, 0),
    "ban_told_to_ourselves": Aim(lambda: Simulated(Bucket(banned), direct=True), 0.8, 0, HOUR_S),
}


@pytest.mark.parametrize("aim", AIMS.values(), ids=AIMS.keys())
def test_provider_gets_what_it_allows_and_little_waits_behind_the_mta(aim: Aim) -> None:
    ran = aim.simulated().run(aim.seconds)
    assert ran.accepted >= aim.accepted * ran.allowed
    assert ran.most_queued <= aim.queued


def test_few_are_refused_once_the_capacity_is_known() -> None:
    ran = Simulated(Bucket(always(5.0)), direct=True).run(300)
    refused, tried = ran.refused, ran.tried
    ran.run(900)
    assert ran.refused - refused <= 0.03 * (ran.tried - tried)


def test_ban_is_probed_rarely_and_with_growing_pauses() -> None:
    ran = Simulated(Bucket(lambda at_s: 5.0 if at_s < 300 else 0.0), direct=True).run(HOUR_S)
    probes = [at_s for at_s in ran.probes if at_s > 500]
    pauses = [later - earlier for earlier, later in itertools.pairwise(probes)]
    assert ran.pace.is_banned and pauses[-1] == pytest.approx(LONGEST_PAUSE_S, rel=0.1) and len(probes) < 20


def test_ceiling_goes_away_once_it_has_not_bound_for_some_time() -> None:
    ran = Simulated(Bucket(lambda at_s: 5.0 if at_s < 300 else 100.0)).run(300)
    limited = ran.pace
    assert limited.per_s and limited.cause == TOO_FAST
    healed = ran.run(600 + HEAL_S).pace
    assert healed.per_s is None and healed.cause == ""


def test_ceiling_does_not_rise_while_something_else_lets_nothing_go() -> None:
    pace = Simulated(Bucket(always(5.0))).run(300).pace
    before, at_s = pace.per_s, pace.intervals[-1].at_s
    assert before is not None
    for look in range(1, 721):  # an hour of pause, or of a cap, over a backlog
        pace = next_pace(pace, Look(at_s + 5.0 * look, 5.0, fed=0, bound=True, accepted=0, queued=0))
    assert pace.per_s is not None and before <= pace.per_s < 3 * before


def test_provider_that_takes_all_is_never_slowed_down() -> None:
    assert Simulated(Bucket(always(100.0), burst=500)).run(600).pace.per_s is None


def test_greylisting_is_no_reason_to_slow_down() -> None:
    pace = DomainPace()
    for at in range(1, 60):
        reply = "450 4.2.0 Greylisted, try again later"
        look = Look(at * 5.0, 5.0, fed=50, accepted=0, refused=50, queued=50 * at, waiting=50 * at, reply=reply)
        pace = next_pace(pace, look)
    assert pace.per_s is None


def test_destination_on_probation_is_fed_faster_with_each_look_at_which_its_provider_keeps_up() -> None:
    def fed(pace: DomainPace, at_s: float, share: float, queued: int) -> DomainPace:
        recipients = round(pace.probation_per_s)
        return next_pace(pace, Look(at_s, 1.0, fed=recipients, accepted=round(share * recipients), queued=queued))

    first = DomainPace()
    assert fed(first, 1, 1.0, 3).probation_per_s == 2 * PROBATION_PER_S
    assert fed(first, 1, 0.3, 3).probation_per_s == fed(first, 1, 1.0, 99).probation_per_s == PROBATION_PER_S
    pace = first
    for at_s in range(1, 9):
        pace = fed(pace, at_s, 1.0, 3)
    assert pace.probation_per_s == PROVEN_PER_S and pace.per_s is None


def test_probation_ends_by_the_queue_alone_where_the_log_does_not_name_the_domain() -> None:
    silent = Look(1.0, 1.0, fed=round(PROBATION_PER_S), accepted=0, queued=0)
    assert next_pace(DomainPace(), silent).probation_per_s == 2 * PROBATION_PER_S
    assert next_pace(DomainPace(), replace(silent, queued=99)).probation_per_s == PROBATION_PER_S


def test_single_refusal_among_many_accepted_changes_nothing() -> None:
    look = Look(5.0, 5.0, fed=100, accepted=99, refused=1, too_fast=1, reply=TOO_FAST)
    assert next_pace(DomainPace(), look).per_s is None
    assert next_pace(DomainPace(), Look(5.0, 5.0, fed=100, accepted=90, refused=10, too_fast=10)).per_s is not None


@given(
    looks=st.lists(
        st.builds(
            lambda fed, accepted, refused, queued: (fed, accepted, refused, queued),
            st.integers(0, 500),
            st.none() | st.integers(0, 500),
            st.integers(0, 500),
            st.none() | st.integers(0, 500),
        ),
        max_size=60,
    )
)
def test_whatever_is_seen_a_ceiling_is_a_rate_and_has_a_cause(
    looks: list[tuple[int, int | None, int, int | None]],
) -> None:
    pace = DomainPace()
    for at, (fed, accepted, refused, queued) in enumerate(looks, 1):
        look = Look(at * 5.0, 5.0, fed, True, accepted, refused, refused, queued, queued or 0, 0, 99.0, TOO_FAST)
        pace = next_pace(pace, look)
        assert pace.per_s is None or 0 <= pace.per_s < 1e6
        assert (pace.per_s is None) == (pace.cause == "")


def test_ban_that_nobody_waits_for_is_forgotten() -> None:
    pace = DomainPace(open_per_s=1.0, takes_per_s=5.0, cause="421 no", pause_s=30.0, bound_s=0.0, told_s=0.0)
    at_s = 0.0
    while at_s < 2 * HOUR_S and pace.is_banned:
        at_s += 60.0
        pace = next_pace(pace, Look(at_s, 60.0, bound=at_s <= 600))
    assert 600 + HOUR_S <= at_s < 600 + 1.1 * HOUR_S
    assert pace.per_s is None and pace.probation_per_s == PROBATION_PER_S, "what comes then starts slowly"
