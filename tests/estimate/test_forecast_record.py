"""Our own forecasts are right or wrong only where they can be compared with the real end of the drain."""

from __future__ import annotations

import pytest

from drainer.estimate.eta import Eta, ServiceState
from drainer.estimate.forecast_record import ANEW_AFTER_S, MOST_SAMPLES, ForecastRecord, accuracy, interrupted, noted
from drainer.report.words import forecasts_text
from tests.report.staged import NOW_S

LIMITS = (10.0, None)


def after(
    record: ForecastRecord,
    at_s: float,
    seconds: float | None,
    state: ServiceState = "draining",
    limits: tuple[float | None, float | None] = LIMITS,
) -> ForecastRecord:
    """The record with a forecast made at_s: the end comes in `seconds`, give or take 20 %; None: the drain is done."""
    eta = Eta(state="done")
    if seconds is not None:
        eta = Eta(state="draining", seconds=seconds, low_s=0.8 * seconds, high_s=1.2 * seconds, confidence=0.8)
    if state == "paused":
        eta = Eta(state="paused")
    return noted(record, NOW_S + at_s, state, eta, limits)


def test_forecasts_are_judged_when_the_drain_is_through_and_by_how_far_off_the_end_was() -> None:
    record = after(after(after(ForecastRecord(), 0, 2000), 4000, 1500), 5000, None)
    found = accuracy(record)
    assert (found.made, found.judged, found.held, found.open) == (2, 2, 0, 0)
    assert found.median_error_s == (3000 + 500) / 2
    record = after(after(after(ForecastRecord(), 0, 4500), 4900, 110), 5000, None)
    found = accuracy(record)
    assert [(one.up_to_s, one.judged, one.held) for one in found.by_horizon] == [(600.0, 1, 1), (4 * 3600.0, 1, 1)]


@pytest.mark.parametrize(
    ("state", "limits", "why"),
    [
        ("paused", LIMITS, "a pause"),
        ("stopped_by_guard", LIMITS, "a stop by a guard"),
        ("draining", (20.0, None), "a change of rate"),
    ],
    ids=["pause", "guard", "rate"],
)
def test_forecast_made_before_somebody_changed_the_course_is_overtaken_and_not_wrong(
    state: ServiceState, limits: tuple[float | None, float | None], why: str
) -> None:
    record = after(after(ForecastRecord(), 0, 100), 10, 90, state, limits)
    found = accuracy(after(after(record, 3000, 50, limits=limits), 3050, None, limits=limits))
    assert found.overtaken == {why: 1}
    # After the change of rate the drain went on at once with a new forecast: that one can be judged, and was wrong.
    went_on = int(state == "draining")
    assert (found.judged, found.held) == (1 + went_on, 1)


def test_drain_that_an_operator_ends_judges_no_forecast() -> None:
    """Entries that he drops, holds or hands back are not delivered by us: the end is his doing."""
    record = after(after(ForecastRecord(), 0, 3000), 10, 2990)
    ended = noted(record, NOW_S + 20, "idle", Eta(state="done"), LIMITS, "a drop")
    assert (accuracy(ended).judged, accuracy(ended).overtaken) == (0, {"a drop": 2})
    draining = Eta(state="draining", seconds=10.0, low_s=8.0, high_s=12.0, confidence=0.8)
    meanwhile = noted(record, NOW_S + 15, "draining", draining, LIMITS, "a drop")
    assert accuracy(meanwhile).made == 2, "a forecast made during a drop is not kept"
    assert "set aside, not judged: 2 by a drop" in forecasts_text(accuracy(after(after(ended, 30, 100), 130, None)))


def test_forecast_that_a_restart_cut_off_is_overtaken_and_what_was_judged_before_stays() -> None:
    record = after(after(ForecastRecord(), 0, 100), 100, None)
    record = interrupted(after(record, 200, 100), "a restart")
    again = ForecastRecord.model_validate_json(record.model_dump_json())
    assert again == record
    found = accuracy(after(again, 900, None))
    assert (found.judged, found.held, found.overtaken) == (1, 1, {"a restart": 1})


def test_mta_that_is_down_does_not_excuse_a_forecast() -> None:
    record = after(after(ForecastRecord(), 0, 100), 50, 60, "mta_down")
    found = accuracy(after(record, 9000, None))
    assert (found.judged, found.held, found.overtaken) == (2, 0, {})


def test_record_of_a_long_drain_is_bounded_and_spread_over_all_of_it() -> None:
    record = ForecastRecord()
    for second in range(0, 6_000, 2):
        record = after(record, second, 6_000 - second)
        assert len(record.samples) < MOST_SAMPLES
    found = accuracy(after(record, 6_000, None))
    assert found.judged == found.held == found.made >= MOST_SAMPLES // 4
    gaps = [later.at - earlier.at for earlier, later in zip(record.samples, record.samples[1:], strict=False)]
    assert max(gaps) <= 4 * min(gaps)


def test_next_outage_begins_a_record_of_its_own_and_a_straggler_does_not() -> None:
    record = after(after(ForecastRecord(), 0, 100), 100, None)
    straggler = after(record, 200, 10)
    assert accuracy(straggler).judged == 1 and accuracy(straggler).open == 1
    assert accuracy(after(record, 100 + ANEW_AFTER_S + 1, 500)).judged == 0


def test_clock_set_back_leaves_nothing_to_compare() -> None:
    assert accuracy(after(after(ForecastRecord(), 500, 100), 10, 90)).made == 0
