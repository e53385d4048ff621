"""When a list is finished, and what a forecast before the drain says."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drainer.estimate.ahead import Ahead, CapAhead
from drainer.estimate.before_drain import forecast_from_log
from drainer.estimate.ceilings import Ceilings
from drainer.estimate.completion import Completion, DrainModel, completion
from drainer.estimate.interruptions import LostTime
from drainer.estimate.per_list import ListFinish, ListLeft, list_finishes, not_before_due, share_done
from drainer.estimate.service_rate import steady
from drainer.mta_log.mailman_smtp_log import PastDelivery

LISTS = {
    "choir": ListLeft(10, 100),
    "board": ListLeft(10, 50),
    "all": ListLeft(200, 20_000),
    "news": ListLeft(50, 5000),
    "none": ListLeft(0, 0),
}


WEIGHTS = {"all": 8.0, "news": 0.5}


def simulated_shares(lists: dict[str, ListLeft], weights: dict[str, float]) -> dict[str, float]:
    """Recipients done when each list is finished: entry by entry, the list that has had least for its weight."""
    left = {name: one.entries for name, one in lists.items() if one.entries}
    had, done, through_at = dict.fromkeys(left, 0.0), 0.0, {}
    while left:
        name = min(left, key=lambda name: had[name])
        recipients = lists[name].recipients / lists[name].entries
        done += recipients
        had[name] += recipients / weights.get(name, 1.0)
        left[name] -= 1
        if not left[name]:
            del left[name]
            through_at[name] = done
    return through_at


@pytest.mark.parametrize("weights", [{}, WEIGHTS])
def test_fair_feeding_has_lists_through_by_recipients_and_weight_as_in_a_simulation(weights: dict[str, float]) -> None:
    total = sum(one.recipients for one in LISTS.values())
    shares = share_done(LISTS, "fair", weights=weights)
    for name, done in simulated_shares(LISTS, weights).items():
        assert shares[name] == pytest.approx(done / total, abs=0.02), name
    assert shares["none"] == 0
    if not weights:
        assert shares["board"] < shares["choir"] < shares["news"] < shares["all"] == 1
    else:
        assert shares["all"] < shares["news"], "a heavy list is through before a light one with fewer recipients"


def test_priority_has_the_named_lists_through_one_after_the_other() -> None:
    shares = share_done(LISTS, "priority", ["news", "gone", "choir"])
    assert shares["news"] == pytest.approx(5000 / 25_150)
    assert shares["choir"] == pytest.approx(5100 / 25_150)
    assert shares["all"] == shares["board"] == 1


def test_by_age_no_list_is_through_before_all_are() -> None:
    assert {share for name, share in share_done(LISTS, "oldest").items() if name != "none"} == {1.0}


def test_no_list_is_through_before_its_last_deferred_recipient_is_due() -> None:
    lists = {
        "calm": ListLeft(10, 100),
        "some": ListLeft(10, 100, deferred_recipients=3, last_due_in_s=900.0),
        "soon": ListLeft(10, 100, deferred_recipients=3, last_due_in_s=30.0),
        "waits": ListLeft(2, 5, deferred_recipients=5, last_due_in_s=400.0),
    }
    alike = ListFinish(100.0, 80.0, 130.0)
    assert not_before_due(dict.fromkeys(lists, alike), lists, retry_wait_s=60.0) == {
        "calm": alike,
        "some": ListFinish(900.0, 900.0, 960.0),
        "soon": alike,
        "waits": ListFinish(400.0, 400.0, 460.0),
    }
    # Of a list that waits for nothing else it is known without a rate.
    assert not_before_due({}, lists, retry_wait_s=60.0) == {"waits": ListFinish(400.0, 400.0, 460.0)}


def test_a_list_is_through_when_its_part_of_the_work_is_done() -> None:
    model = DrainModel(10_000.0, 0.0, steady(10.0), lambda _: (0.0, 0.0), LostTime())
    found = list_finishes({"small": 0.03, "half": 0.5, "whole": 1.0, "none": 0.0}, model)
    assert [round(found[name].seconds) for name in ("none", "small", "half", "whole")] == [0, 30, 500, 1000]
    assert all(one.low_s <= one.seconds <= one.high_s for one in found.values())


def test_fresh_mail_that_goes_first_makes_a_small_list_later_and_the_whole_no_later() -> None:
    model = DrainModel(10_000.0, 0.0, steady(10.0), lambda seconds: (1.5 * seconds, 1.0), LostTime())
    shares = {"small": 0.1, "whole": 1.0}
    behind, ahead = list_finishes(shares, model), list_finishes(shares, model, arrivals_first=True)
    assert behind["small"].seconds == pytest.approx(0.1 * 10_000 / (10 - 0.15), rel=0.02)
    assert ahead["small"].seconds == pytest.approx(0.1 * 10_000 / (10 - 1.5), rel=0.02)
    assert ahead["whole"].seconds == pytest.approx(behind["whole"].seconds)


@given(st.lists(st.floats(0.0, 1.0), min_size=1, max_size=8), st.floats(0.0, 12.0), st.booleans())
def test_the_time_of_a_list_does_not_depend_on_which_others_are_asked_for(
    shares: list[float], arriving_per_s: float, arrivals_first: bool
) -> None:
    model = DrainModel(10_000.0, 50.0, steady(10.0), lambda seconds: (arriving_per_s * seconds, seconds), LostTime())
    asked = {str(number): share for number, share in enumerate(shares)}
    found = list_finishes(asked, model, arrivals_first=arrivals_first)
    for name, share in asked.items():
        alone = list_finishes({name: share}, model, arrivals_first=arrivals_first)
        assert alone == {one: finish for one, finish in found.items() if one == name}


def test_lists_that_are_through_with_everything_cost_one_computation_and_a_thousand_others_nine() -> None:
    asked: list[float] = []

    def counted(model: DrainModel) -> Completion:
        asked.append(model.left)
        return completion(model)

    model = DrainModel(10_000.0, 0.0, steady(10.0), lambda _: (0.0, 0.0), LostTime())
    assert len(list_finishes({"choir": 1.0, "board": 1.0}, model, completion_of=counted)) == 2
    assert asked == [10_000.0]
    asked.clear()
    assert len(list_finishes({str(at): at / 1000 for at in range(1001)}, model, completion_of=counted)) == 1001
    assert len(asked) == 9


def test_lists_that_arrivals_outgrow_have_no_time() -> None:
    model = DrainModel(10_000.0, 0.0, steady(10.0), lambda seconds: (20.0 * seconds, 1.0), LostTime())
    assert "whole" not in list_finishes({"whole": 1.0}, model)


def test_forecast_before_the_drain_goes_by_the_time_spent_delivering() -> None:
    chance = random.Random(1)
    past = [PastDelivery(20, 0.5 * chance.uniform(0.6, 1.4)) for _ in range(2000)]
    found = forecast_from_log(past, 1000, 20_000, 1_772_500_000.0)
    assert found.state == "draining"
    assert found.seconds == pytest.approx(500, rel=0.1)
    assert found.low_s is not None
    assert found.high_s is not None
    assert 400 < found.low_s < 500 < found.high_s < 800
    twice = forecast_from_log(past, 1000, 20_000, 1_772_500_000.0, sessions=2.0)
    assert twice.seconds == pytest.approx(250, rel=0.1)
    limited = forecast_from_log(past, 1000, 20_000, 1_772_500_000.0, Ceilings(recipients_per_s=10.0))
    assert limited.seconds == pytest.approx(2000, rel=0.1)


def test_forecast_before_the_drain_goes_by_windows_and_caps() -> None:
    past = [PastDelivery(20, 0.5)] * 200
    capped = Ceilings(ahead=Ahead(caps=(CapAhead(3000.0, 3600.0),)))
    assert forecast_from_log(past, 1000, 20_000, 0.0, capped).seconds == pytest.approx(6 * 3600 + 50, rel=0.02)
    later = Ceilings(0.0, None, ahead=Ahead(((0.0, 0.0), (7200.0, None))))
    assert forecast_from_log(past, 1000, 20_000, 0.0, later).seconds == pytest.approx(7200 + 500, rel=0.02)


def test_a_short_log_tells_no_rate() -> None:
    assert forecast_from_log([], 10, 100, 0.0).state == "measuring"
    assert forecast_from_log([PastDelivery(3, 1.0)] * 10, 10, 100, 0.0).state == "measuring"
    assert forecast_from_log([], 10, 100, 0.0, Ceilings(messages_per_s=0.0)).state == "paused"
    assert forecast_from_log([], 0, 0, 0.0).state == "done"
