"""Rates from cumulative counts."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drainer.estimate.rates import Counts, Measured, RateSeries, batched, smoothed


def fed(
    series: RateSeries, seconds: int, per_s: int, start: Counts, *, feeding: bool = True, arriving: int = 0
) -> Counts:
    """Observe `seconds` steady seconds that follow `start`; returns the last observation."""
    series.observe(start)
    for _ in range(seconds):
        start = Counts(
            at_s=start.at_s + 1,
            serviced_recipients=start.serviced_recipients + per_s,
            serviced_messages=start.serviced_messages + per_s // 10,
            arrived_recipients=start.arrived_recipients + arriving,
            feeding=feeding,
        )
        series.observe(start)
    return start


BEGINNING = Counts(at_s=1000.0, serviced_recipients=5_000_000, serviced_messages=70_000)


def measured(series: RateSeries) -> Measured:
    found = series.measured()
    assert found is not None
    return found


def test_nothing_is_measured_before_five_seconds_of_feeding() -> None:
    series = RateSeries()
    last = fed(series, 4, 100, BEGINNING)
    assert series.measured() is None
    fed(series, 1, 100, last)
    assert measured(series).service_recipients_per_s == pytest.approx(100)


def test_what_was_counted_before_the_first_observation_is_no_rate() -> None:
    series = RateSeries()
    fed(series, 10, 0, BEGINNING)
    assert measured(series).service_recipients_per_s == 0


def test_steady_rates_are_exact_and_their_variance_zero() -> None:
    series = RateSeries()
    fed(series, 100, 50, BEGINNING, arriving=7)
    now = measured(series)
    assert now.service_recipients_per_s == pytest.approx(50)
    assert now.service_messages_per_s == pytest.approx(5)
    assert now.recipients_per_message == pytest.approx(10)
    assert now.arrival_recipients_per_s == pytest.approx(7)
    assert now.service_variance == pytest.approx(0, abs=1e-9)


def test_paused_time_lowers_neither_the_service_rate_nor_hides_arrivals() -> None:
    series = RateSeries()
    last = fed(series, 60, 50, BEGINNING)
    fed(series, 120, 0, last, feeding=False, arriving=30)
    now = measured(series)
    assert now.service_recipients_per_s == pytest.approx(50)
    assert now.arrival_recipients_per_s > 20
    assert now.idle_s == 0


def test_change_of_rate_is_followed_within_two_horizons() -> None:
    series = RateSeries(horizon_s=60)
    last = fed(series, 600, 100, BEGINNING)
    last = fed(series, 60, 20, last)
    assert 40 < measured(series).service_recipients_per_s < 60
    fed(series, 120, 20, last)
    assert measured(series).service_recipients_per_s < 26


def test_standstill_while_feeding_shows_as_idle_time() -> None:
    series = RateSeries()
    last = fed(series, 60, 50, BEGINNING)
    last = fed(series, 45, 0, last)
    assert measured(series).idle_s == pytest.approx(45)
    fed(series, 1, 50, last)
    assert measured(series).idle_s == 0


def test_restart_forgets_the_old_rate() -> None:
    series = RateSeries()
    last = fed(series, 60, 50, BEGINNING)
    series.restart()
    assert series.measured() is None
    fed(series, 6, 500, last)
    assert measured(series).service_recipients_per_s == pytest.approx(500)


def test_fastest_ten_seconds_are_remembered_after_they_left_the_horizon() -> None:
    series = RateSeries()
    last = fed(series, 20, 300, BEGINNING)
    fed(series, 1000, 10, last)
    assert measured(series).fastest_recipients_per_s == pytest.approx(300)


def test_observations_out_of_order_are_ignored_and_lose_no_counts() -> None:
    series = RateSeries()
    last = fed(series, 10, 50, BEGINNING)
    series.observe(Counts(at_s=last.at_s, serviced_recipients=last.serviced_recipients + 25, serviced_messages=0))
    series.observe(Counts(at_s=last.at_s - 5, serviced_recipients=0, serviced_messages=0))
    fed(series, 5, 50, last)
    assert measured(series).service_recipients_per_s == pytest.approx(50)


def test_lumps_of_many_recipients_make_the_rate_less_sure() -> None:
    even, lumpy = RateSeries(), RateSeries()
    fed(even, 120, 50, BEGINNING)
    lumpy.observe(BEGINNING)
    for second in range(1, 121):
        lumpy.observe(
            Counts(
                at_s=BEGINNING.at_s + second,
                serviced_recipients=BEGINNING.serviced_recipients + 2500 * (second // 50),
                serviced_messages=BEGINNING.serviced_messages + second // 50,
            )
        )
    assert measured(lumpy).service_variance > 100 > measured(even).service_variance


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(
            st.floats(0.001, 30.0), st.integers(0, 5000), st.integers(0, 100), st.integers(0, 5000), st.booleans()
        ),
        max_size=60,
    )
)
def test_rates_and_variances_are_never_negative(steps: list[tuple[float, int, int, int, bool]]) -> None:
    series = RateSeries()
    now = BEGINNING
    series.observe(now)
    for seconds, recipients, messages, arrived, feeding in steps:
        now = Counts(
            now.at_s + seconds,
            now.serviced_recipients + recipients,
            now.serviced_messages + messages,
            now.arrived_recipients + arrived,
            feeding,
        )
        series.observe(now)
    found = series.measured()
    if found is not None:
        fastest_step = max((step[1] / min(step[0], 0.001) for step in steps), default=0.0)
        assert 0 <= found.service_recipients_per_s <= fastest_step * 1.001
        assert found.service_messages_per_s >= 0
        assert found.service_variance >= 0
        assert found.arrival_recipients_per_s >= 0
        assert found.arrival_variance >= 0
        assert found.idle_s >= 0


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(0.01, 10.0), st.integers(0, 1000)), max_size=50), st.floats(0.5, 20.0))
def test_batches_lose_neither_time_nor_counts(bins: list[tuple[float, int]], at_least_s: float) -> None:
    batches = batched(bins, at_least_s)
    assert sum(seconds for seconds, _ in batches) == pytest.approx(sum(seconds for seconds, _ in bins))
    assert sum(amount for _, amount in batches) == sum(amount for _, amount in bins)
    assert all(seconds >= at_least_s for seconds, _ in batches) or len(batches) == 1


def test_single_batch_tells_nothing_about_its_variance() -> None:
    assert smoothed([(10.0, 50)], 60.0) == (5.0, 25.0)
