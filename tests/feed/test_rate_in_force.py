"""What holds the rate down is named so that an operator knows where to look."""

from __future__ import annotations

import pytest

from drainer.clock import SystemClock
from drainer.feed.rate_in_force import RateInForce
from drainer.feed.throttle import Throttle
from drainer.guards.verdict import between_limits
from drainer.report.metrics import exposition
from drainer.report.snapshot import Rate
from drainer.settings.feed import FeedSettings
from tests.feed.test_throttle import granted
from tests.feed.virtual_time import run_in_virtual_time
from tests.promtool import series
from tests.report.test_metrics import snapshot


def test_a_guard_that_slows_is_named_with_its_reason_and_counted_as_guard(monkeypatch: pytest.MonkeyPatch) -> None:
    throttle = Throttle(20, None)
    rate = RateInForce(FeedSettings(messages=20, adaptive=False), throttle, SystemClock())
    guard = between_limits("mta_queue", 6000, 10_000, 5000, "messages in the MTA's queue", was_stopped=False)
    rate.slow(guard)
    run_in_virtual_time(monkeypatch, granted(throttle, 3))
    assert rate.binding == (
        "the guard mta_queue, which halves the rate: messages in the MTA's queue 6000, stops at 10000"
    )
    found = series(exposition(snapshot(rate=Rate(binding=rate.binding))))
    assert {key[1][0][1] for key, value in found.items() if key[0] == "drainer_rate_bound_by" and value} == {"guard"}
    rate.slow(None)
    run_in_virtual_time(monkeypatch, granted(throttle, 3))
    assert rate.binding == "limit on messages"
