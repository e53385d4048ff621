"""Windows at work: the limit follows the clock on the wall; the operator overrules it, and can give it back."""

from __future__ import annotations

import math
from datetime import datetime
from zoneinfo import ZoneInfo

import pytest

from drainer.clock import StoppedClock
from drainer.feed.rate_in_force import RateInForce
from drainer.feed.throttle import Throttle
from drainer.observe.schedule import caps_used, window_in_force
from drainer.report.metrics import exposition
from drainer.report.snapshot import Rate
from drainer.report.words import schedule_lines
from drainer.settings.feed import FeedSettings
from tests.promtool import series
from tests.report.test_metrics import snapshot

BERLIN = ZoneInfo("Europe/Berlin")
HOURS = 3600.0


def clock_at(text: str) -> StoppedClock:
    return StoppedClock(datetime.fromisoformat(text).replace(tzinfo=BERLIN).timestamp())


def limit_of(throttle: Throttle) -> float | None:
    return throttle.messages_per_s


def feed(*windows: str, messages: str | None = "7/s", **more: int) -> FeedSettings:
    values = {"windows": windows, "time_zone": "Europe/Berlin", "messages": messages, "adaptive": False, **more}
    return FeedSettings.model_validate(values)


def test_limit_follows_the_windows_and_without_one_it_is_that_of_the_settings() -> None:
    clock, throttle = clock_at("2026-11-30T21:59:59"), Throttle(None, None)
    rate = RateInForce(feed("22:00-06:00 unlimited", "12:00-13:00 2/s"), throttle, clock)
    assert (rate.messages_per_s, throttle.messages_per_s) == (7.0, 7.0)
    clock.advance(1)
    rate.look()
    assert (rate.messages_per_s, throttle.messages_per_s) == (None, None)
    clock.advance(14.5 * HOURS)
    rate.look()
    assert throttle.messages_per_s == 2.0


def test_operator_overrules_the_windows_until_the_limit_is_given_back() -> None:
    clock, throttle = clock_at("2026-11-30T23:00"), Throttle(None, None)
    settings = feed("22:00-06:00 unlimited", "else 1/s")
    rate = RateInForce(settings, throttle, clock)
    rate.limit(settings, 3.0, None)
    clock.advance(8 * HOURS)
    rate.look()
    assert limit_of(throttle) == 3.0
    shown = window_in_force(rate.schedule, clock.now_s())
    assert list(schedule_lines(shown, [])) == [
        'window "else" in force: 1/s until 22:00 CET, overruled by `drainer rate`; `drainer rate --auto` goes back to it'
    ]
    rate.limit(settings, math.inf, None)
    assert limit_of(throttle) is None
    rate.limit(settings, None, None)
    assert limit_of(throttle) == 1.0


def test_windows_read_again_at_sighup_are_in_force_at_once() -> None:
    clock, throttle = clock_at("2026-11-30T23:00"), Throttle(None, None)
    rate = RateInForce(feed("22:00-06:00 5/s"), throttle, clock)
    rate.limit(feed("22:00-06:00 6/s", hourly=40), None, None)
    assert throttle.messages_per_s == 6.0
    assert [cap.text for cap in caps_used(throttle.caps, rate.schedule, clock.now_s())] == ["hourly cap: 0 of 40 used"]


@pytest.mark.parametrize("else_", ["0", "pause"])
def test_window_that_sends_nothing_says_until_when(else_: str) -> None:
    clock, throttle = clock_at("2026-11-30T18:00"), Throttle(None, None)
    settings = feed("22:00-23:00 4/s", "20:00-22:00 pause", f"else {else_}")
    rate = RateInForce(settings, throttle, clock)
    assert throttle.messages_per_s == 0
    assert rate.waits == 'window "else" in force: nothing is sent until 22:00 CET'
    assert rate.binding == rate.waits
    found = series(exposition(snapshot(rate=Rate(binding=rate.binding))))
    assert {key[1][0][1] for key, value in found.items() if key[0] == "drainer_rate_bound_by" and value} == {"window"}
    rate.limit(settings, 0.0, None)
    assert rate.waits == "", "the operator's zero is a pause: it ends when the operator ends it"


def test_limit_of_zero_that_no_window_ever_lifts_is_no_wait() -> None:
    rate = RateInForce(feed("else 0"), Throttle(None, None), clock_at("2026-11-30T18:00"))
    assert rate.waits == ""


def test_clock_that_is_set_back_gives_the_window_of_the_time_it_shows() -> None:
    clock, throttle = clock_at("2026-11-30T22:00"), Throttle(None, None)
    rate = RateInForce(feed("22:00-06:00 5/s", "else 1/s"), throttle, clock)
    until = window_in_force(rate.schedule, clock.now_s())
    clock.advance(-2 * HOURS)
    rate.look()
    now = window_in_force(rate.schedule, clock.now_s())
    assert throttle.messages_per_s == 1.0
    assert until is not None
    assert now is not None
    assert now.until == clock.now_s() + 2 * HOURS
    assert until.until == clock.now_s() + 10 * HOURS
