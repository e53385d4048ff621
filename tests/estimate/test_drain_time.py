"""The ETA: numbers that can be honoured, or the word that says why there is none."""

from __future__ import annotations

from copy import deepcopy
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drainer.backlog.work import EntrySizes, Work
from drainer.estimate.ahead import Ahead, CapAhead
from drainer.estimate.ceilings import Ceilings, slowest_domain_s
from drainer.estimate.drain_time import by_time, drain_time, if_resumed, needed_rate, what_if
from drainer.estimate.eta import Eta, ServiceState
from drainer.estimate.forecaster import Forecaster, Left
from drainer.estimate.rates import Counts

NOW_S = 1_772_500_000.0
UNLIMITED = Ceilings()


def watched(
    per_s: int = 100,
    *,
    seconds: int = 600,
    arriving: int = 0,
    idle: int = 0,
    uneven: int = 0,
    ceilings: Ceilings = UNLIMITED,
    left: int = 60_000,
) -> Forecaster:
    """One that saw `per_s` recipients a second, ten to an entry and a message, and nothing for the last `idle` seconds.

    uneven  recipients more in one second and fewer in the next
    """
    seen = Forecaster()
    done = arrived = 0
    for at in range(seconds + idle + 1):
        if at:
            done += 0 if at > seconds else per_s + (uneven if at // 20 % 2 else -uneven)
            arrived += arriving
        counts = Counts(
            at_s=1000.0 + at,
            serviced_recipients=done,
            serviced_messages=done // 10,
            arrived_recipients=arrived,
        )
        seen.observe(counts, Left(left / 10, left), ceilings)
    return seen


STEADY = watched()
BUSY = watched(arriving=20)
UNEVEN = watched(uneven=30)


def eta(work: Work, seen: Forecaster = STEADY, ceilings: Ceilings = UNLIMITED, state: ServiceState = "draining") -> Eta:
    return drain_time(work, seen, ceilings, state, NOW_S)


def seconds(estimate: Eta) -> float:
    assert estimate.seconds is not None, estimate
    return estimate.seconds


def interval(estimate: Eta) -> tuple[float, float]:
    assert estimate.low_s is not None, estimate
    assert estimate.high_s is not None, estimate
    return estimate.low_s, estimate.high_s


def test_remaining_over_service_minus_arrivals() -> None:
    found = eta(Work(60_000), BUSY)
    assert found.state == "draining"
    assert seconds(found) == pytest.approx(750, rel=0.05)
    assert found.finish == NOW_S + seconds(found)
    assert found.confidence == 0.8
    low, high = interval(found)
    assert 500 < low < 750 < high < 1100


@pytest.mark.parametrize(
    ("state", "word"),
    [
        ("paused", "paused"),
        ("stopped_by_guard", "stalled"),
        ("mta_down", "stalled"),
        ("stopping", "stalled"),
        ("starting", "measuring"),
    ],
)
def test_standstill_has_its_word_and_no_number(state: ServiceState, word: str) -> None:
    assert eta(Work(1000), state=state) == Eta.model_validate({"state": word})


def test_limit_of_zero_is_paused() -> None:
    assert eta(Work(1000), ceilings=Ceilings(messages_per_s=0.0)).state == "paused"
    assert eta(Work(1000), ceilings=Ceilings(recipients_per_s=0.0)).state == "paused"


def test_more_arrivals_than_service_is_growing() -> None:
    assert eta(Work(1000), watched(arriving=130)) == Eta(state="growing")
    assert eta(Work(1000), watched(arriving=500)) == Eta(state="growing")


def test_fewer_arrivals_than_service_is_not_growing() -> None:
    assert eta(Work(60_000), watched(arriving=70)).state == "draining"


def test_nothing_measured_is_measuring() -> None:
    assert eta(Work(1000), Forecaster()) == Eta(state="measuring")


def test_five_seconds_of_work_are_enough_for_a_forecast() -> None:
    assert eta(Work(60_000), watched(seconds=6)).state == "draining"


def test_nothing_settled_for_half_a_minute_is_stalled() -> None:
    assert eta(Work(1000), watched(idle=29)).state == "draining"
    assert eta(Work(1000), watched(idle=31)) == Eta(state="stalled")


def test_nothing_settled_from_the_start_is_measuring_then_stalled() -> None:
    assert eta(Work(1000), watched(seconds=0, idle=20)).state == "measuring"
    assert eta(Work(1000), watched(seconds=0, idle=31)).state == "stalled"
    slow = Ceilings(messages_per_s=1 / 60)
    assert eta(Work(1000), watched(seconds=0, idle=31, ceilings=slow), slow).state == "measuring"


def test_slow_limit_is_no_stall() -> None:
    slow = Ceilings(messages_per_s=1 / 60)
    seen = Forecaster()
    for at in range(1200):
        done = at // 60
        seen.observe(Counts(float(at), 12 * done, done), Left(100, 1200), slow)
    assert seen.idle_s > 30
    assert eta(Work(1200, messages=100), seen, slow).state == "draining"


def test_nothing_left_is_done_even_while_paused() -> None:
    for state in ("idle", "draining", "paused", "mta_down"):
        found = eta(Work(0), Forecaster(), state=state)
        assert (found.state, found.seconds, found.low_s, found.high_s) == ("done", 0.0, 0.0, 0.0)


def test_nothing_found_yet_is_not_done() -> None:
    assert eta(Work(0), Forecaster(), state="starting").state == "measuring"
    assert eta(Work(0), Forecaster(), state="scanning").state == "measuring"
    assert eta(Work(0, unread_entries=10), state="draining").state == "measuring"


def test_only_what_is_not_served_left_is_paused_not_done() -> None:
    assert eta(Work(0, unserved_recipients=10)).state == "paused"


def test_only_paused_lists_left_is_paused_not_done() -> None:
    assert eta(Work(0, paused_recipients=10)).state == "paused"


def test_lower_limit_holds_the_estimate_down_before_it_is_measured() -> None:
    assert seconds(eta(Work(60_000), ceilings=Ceilings(recipients_per_s=10.0))) == pytest.approx(6000, rel=0.05)
    assert seconds(eta(Work(60_000), ceilings=Ceilings(messages_per_s=2.0))) == pytest.approx(3000, rel=0.05)
    loose = Ceilings(messages_per_s=1000.0, recipients_per_s=2000.0)
    assert seconds(eta(Work(60_000), ceilings=loose)) == pytest.approx(600, rel=0.05)


def test_no_interval_promises_more_than_the_limit_allows() -> None:
    low, _ = interval(eta(Work(60_000), UNEVEN, Ceilings(recipients_per_s=100.0)))
    assert low >= 599


def test_the_rate_after_a_limit_was_changed_is_foreseen_at_once() -> None:
    seen = watched(ceilings=Ceilings(recipients_per_s=100.0))
    half = Ceilings(recipients_per_s=50.0)
    seen.observe(Counts(1601.0, 60_050, 6005), Left(6000, 60_000), half)
    assert seconds(eta(Work(60_000), seen, half)) == pytest.approx(1200, rel=0.05)
    double = Ceilings(recipients_per_s=200.0)
    seen.observe(Counts(1602.0, 60_250, 6025), Left(6000, 60_000), double)
    found = eta(Work(60_000), seen, double)
    assert 290 < seconds(found) < 400
    assert interval(found)[1] > 330


def test_domains_with_a_ceiling_of_their_own_bound_the_answer() -> None:
    earliest_s = slowest_domain_s([(5000, 1.0), (100, 50.0)])
    assert earliest_s == 5000
    low, _ = interval(eta(Work(60_000), ceilings=Ceilings(earliest_s=earliest_s)))
    assert low >= 5000


def test_a_narrow_interval_after_an_even_run_a_wide_one_after_an_uneven_one() -> None:
    even, uneven = interval(eta(Work(60_000))), interval(eta(Work(60_000), UNEVEN))
    assert even[1] - even[0] < 60
    assert uneven[1] - uneven[0] > 2 * (even[1] - even[0])


def test_pauses_seen_make_more_of_them_expected() -> None:
    seen, done = Forecaster(), 0
    for at in range(1201):
        halted = at % 200 > 150
        done += 0 if halted else 100
        seen.observe(Counts(float(at), done, done // 10, 0, not halted), Left(6000, 60_000), UNLIMITED)
    assert seconds(eta(Work(60_000), seen)) == pytest.approx(600 * 200 / 150, rel=0.1)


def test_a_huge_entry_is_no_outage() -> None:
    """Ten recipients to an entry, and now and then one of ten thousand that takes a hundred seconds."""
    seen, done, entries = Forecaster(), 0, 0
    for at in range(3001):
        busy = at % 200 >= 100
        if not busy:
            done, entries = done + 100, entries + 10
        elif at % 200 == 199:
            done, entries = done + 10_000, entries + 1
        seen.observe(Counts(float(at), done, entries), Left(3000, 60_000), UNLIMITED)
    assert seconds(eta(Work(60_000, messages=3000), seen)) == pytest.approx(600, rel=0.15)


def test_unread_entries_add_their_mean_and_widen_the_interval() -> None:
    sizes = EntrySizes().plus(1).plus(20).plus(9)
    known, guessed = eta(Work(8000)), eta(Work(0, unread_entries=800, sizes=sizes))
    assert seconds(guessed) == pytest.approx(seconds(known), rel=0.02)
    assert interval(guessed)[0] < interval(known)[0]
    assert interval(guessed)[1] > interval(known)[1]


def test_deferred_recipients_are_not_through_before_they_are_due() -> None:
    found = eta(Work(1000, deferred_recipients=5, last_due_in_s=3600.0, retry_wait_s=7200.0))
    assert seconds(found) == 3600
    assert interval(found) == (3600, 10800)


def test_only_deferred_ones_left_need_no_rate() -> None:
    found = eta(Work(5, deferred_recipients=5, last_due_in_s=120.0, retry_wait_s=240.0), Forecaster())
    assert (found.state, found.seconds, found.low_s, found.high_s) == ("draining", 120.0, 120.0, 360.0)


def test_waiting_for_deferred_ones_is_neither_stall_nor_slow_service() -> None:
    seen = watched()
    for at in range(1, 301):
        seen.observe(Counts(1600.0 + at, 60_000, 6000, nothing_due=True), Left(1, 5), UNLIMITED)
    assert seen.idle_s == 0
    assert seconds(eta(Work(60_000), seen)) == pytest.approx(600, rel=0.05)


def test_what_if_reckons_with_the_rate_asked_about() -> None:
    assert seconds(what_if(Work(60_000), BUSY, 220.0, NOW_S)) == pytest.approx(300, rel=0.02)
    assert seconds(what_if(Work(60_000), Forecaster(), 100.0, NOW_S)) == pytest.approx(600, rel=0.02)
    assert what_if(Work(60_000), BUSY, 5.0, NOW_S).state == "growing"
    assert what_if(Work(60_000), BUSY, 0.0, NOW_S).state == "paused"
    assert what_if(Work(0), BUSY, 10.0, NOW_S).state == "done"


def test_if_resumed_says_what_would_be_without_the_pause() -> None:
    zero = Ceilings(messages_per_s=0.0)
    paused = Work(30_000, paused_recipients=30_000)
    assert eta(paused, STEADY, zero, "paused") == Eta(state="paused")
    assert seconds(if_resumed(paused, STEADY, zero, NOW_S)) == pytest.approx(600, rel=0.05)


def test_needed_rate_finishes_in_time() -> None:
    needed = needed_rate(Work(36_000), BUSY, 3600.0)
    assert needed == pytest.approx(30, rel=0.1)
    assert needed is not None
    assert seconds(what_if(Work(36_000), BUSY, needed, NOW_S)) == pytest.approx(3600, rel=0.05)


def test_no_rate_reaches_the_past_or_hurries_a_deferral() -> None:
    assert needed_rate(Work(10), STEADY, 0.0) is None
    assert needed_rate(Work(10, deferred_recipients=1, last_due_in_s=600.0), STEADY, 60.0) is None
    assert needed_rate(Work(0, unread_entries=4), STEADY, 60.0) is None
    assert needed_rate(Work(0), STEADY, 60.0) == 0


def test_by_a_time_says_whether_the_mta_has_shown_that_it_can() -> None:
    limited = Ceilings(recipients_per_s=100.0)
    assert by_time(Work(60_000), STEADY, UNLIMITED, 900.0, 100.0).feasibility == "likely"
    assert by_time(Work(60_000), STEADY, UNLIMITED, 400.0, 160.0).feasibility == "possible"
    assert by_time(Work(60_000), STEADY, UNLIMITED, 400.0, 100.0).feasibility == "unproven"
    assert by_time(Work(60_000), STEADY, UNLIMITED, 400.0, None).feasibility == "unproven"
    assert by_time(Work(60_000), STEADY, limited, 400.0, 160.0).feasibility == "impossible"
    assert by_time(Work(60_000), STEADY, UNLIMITED, -5.0, 160.0).feasibility == "impossible"
    assert by_time(Work(0, unread_entries=3), STEADY, UNLIMITED, 400.0, 160.0).feasibility == "unknown"
    found = by_time(Work(60_000), STEADY, UNLIMITED, 400.0, 160.0)
    assert found.needed_recipients_per_s == 150
    assert found.chance is not None
    assert found.chance < 0.1


amounts = st.integers(0, 10**9)
rates = st.floats(0, 1e6, allow_subnormal=False)
spans = st.floats(0, 1e7, allow_subnormal=False)
works = st.builds(
    Work,
    recipients=amounts,
    deferred_recipients=amounts,
    last_due_in_s=spans,
    retry_wait_s=spans,
    paused_recipients=amounts,
    unread_entries=st.integers(0, 10**6),
    sizes=st.lists(st.integers(0, 10**5), max_size=5).map(
        lambda found: EntrySizes(len(found), sum(found), sum(one**2 for one in found))
    ),
)
spells = st.lists(
    st.tuples(st.floats(0.5, 900.0), st.integers(0, 50), st.integers(0, 10**5), st.integers(0, 10**5), st.booleans()),
    max_size=40,
)


def seen_in(spells: list[tuple[float, int, int, int, bool]], ceilings: Ceilings) -> Forecaster:
    seen, at_s = Forecaster(), 0.0
    entries = recipients = arrived = 0
    seen.observe(Counts(at_s, 0, 0), Left(1, 1), ceilings)
    for spell_s, more_entries, more, arriving, feeding in spells:
        at_s, entries, recipients, arrived = (
            at_s + spell_s,
            entries + more_entries,
            recipients + more,
            arrived + arriving,
        )
        counts = Counts(at_s, recipients, entries, arrived, feeding)
        seen.observe(counts, Left(max(1, 1000 - entries), 10_000), ceilings)
    return seen


limits = st.builds(Ceilings, messages_per_s=st.none() | rates, recipients_per_s=st.none() | rates)


@settings(deadline=None)
@given(works, spells, limits, st.sampled_from(get_args(ServiceState)))
def test_every_estimate_is_a_number_in_its_interval_or_a_word(
    work: Work, spells: list[tuple[float, int, int, int, bool]], ceilings: Ceilings, state: ServiceState
) -> None:
    found = drain_time(work, seen_in(spells, ceilings), ceilings, state, NOW_S)
    numbers = (found.seconds, found.low_s, found.high_s, found.finish, found.confidence)
    if found.state in ("draining", "done"):
        low, high = interval(found)
        assert 0 <= low <= seconds(found) <= high < float("inf")
        assert found.finish == NOW_S + seconds(found)
        assert (found.state == "done") == (work.recipients == work.unread_entries == 0)
        assert found.state == "done" or state not in ("paused", "stopped_by_guard", "mta_down", "starting", "stopping")
    else:
        assert numbers == (None,) * 5


@settings(deadline=None)
@given(works, spells, rates)
def test_what_if_and_needed_rate_never_leave_their_range(
    work: Work, spells: list[tuple[float, int, int, int, bool]], per_s: float
) -> None:
    seen = seen_in(spells, UNLIMITED)
    found = what_if(work, seen, per_s, NOW_S)
    if found.state == "draining":
        low, high = interval(found)
        assert 0 <= low <= seconds(found) <= high
    needed = needed_rate(work, seen, 3600.0)
    assert needed is None or needed >= 0


@pytest.mark.parametrize("seen", [STEADY, BUSY, UNEVEN])
@pytest.mark.parametrize("settled", [0, 50, 550, 650, 5000])
def test_between_two_looks_the_finish_time_follows_the_work_as_if_it_were_computed_anew(
    seen: Forecaster, settled: int
) -> None:
    asked_before, anew = deepcopy(seen), deepcopy(seen)
    eta(Work(60_000, messages=6_000), asked_before)
    left = Work(60_000 - settled, messages=6_000 - settled / 10)
    remembered, computed = eta(left, asked_before), eta(left, anew)
    for one in ("seconds", "low_s", "high_s"):
        assert getattr(remembered, one) == pytest.approx(getattr(computed, one), rel=0.002)


def test_a_limit_that_changes_between_two_looks_is_in_the_next_answer() -> None:
    seen, work = deepcopy(STEADY), Work(60_000, messages=6_000)
    unlimited, limited = eta(work, seen), eta(work, seen, Ceilings(recipients_per_s=50.0))
    capped = eta(work, seen, Ceilings(ahead=Ahead(caps=(CapAhead(36_000.0, 3600.0),))))
    assert limited.seconds == pytest.approx(1200.0, rel=0.05) and unlimited.seconds == pytest.approx(600.0, rel=0.05)
    assert capped.seconds is not None and capped.seconds > 3600.0
    assert eta(work, seen) == unlimited
