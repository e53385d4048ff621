"""What holds the rate down is named so that an operator knows where to look."""

from __future__ import annotations

import pytest

from drainer.clock import StoppedClock, SystemClock
from drainer.feed.binding import MTA_PACE, REFUSES, SLOW_START, kind_of, with_sessions
from drainer.feed.rate_in_force import RateInForce
from drainer.feed.throttle import Throttle
from drainer.feed.transaction import Transaction
from drainer.guards.verdict import Guard, between_limits
from drainer.ledger.records import Outcome
from drainer.ledger.states import State
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
    rate.slow()
    run_in_virtual_time(monkeypatch, granted(throttle, 3))
    assert rate.binding == "limit on messages"


def test_the_mtas_limit_is_named_with_the_reply_that_showed_it() -> None:
    clock = StoppedClock()
    rate = RateInForce(FeedSettings(messages=None), throttle := Throttle(None, None, clock), clock)
    rate.begin_with(100.0)
    deferred = Outcome(State.DEFERRED, ("ann@example.org",), "451 4.7.1 too much mail", clock.now_s())
    taken = Outcome(State.DELIVERED, ("ann@example.org",), "250 ok", clock.now_s())
    for number in range(300):
        clock.advance(0.01)
        rate.heard(Transaction((deferred if number > 200 and number % 2 else taken,)))
    assert rate.pace.reason.startswith(REFUSES) and rate.pace.reason.endswith(": 451 4.7.1 too much mail")
    assert throttle.messages_per_s is not None and throttle.messages_per_s < 100


def test_without_adaptation_nothing_but_the_limits_counts() -> None:
    clock = StoppedClock()
    rate = RateInForce(FeedSettings(messages=None, adaptive=False), throttle := Throttle(None, None, clock), clock)
    for _ in range(100):
        clock.advance(0.1)
        rate.heard(Transaction((), trouble="421 too much"))
    assert throttle.messages_per_s is None


def test_each_binding_has_a_kind_and_sessions_are_named_where_they_are_the_limit() -> None:
    said = with_sessions(MTA_PACE, 8, 20, "the MTA takes no more: 421 4.7.0 too many sessions", is_bound=True)
    assert said == "sessions: 8 of 20, the MTA takes no more: 421 4.7.0 too many sessions"
    assert kind_of(with_sessions(MTA_PACE, 20, 20, "", is_bound=True)) == kind_of(said) == "sessions"
    assert with_sessions(SLOW_START, 8, 20, "why", is_bound=True) == SLOW_START
    assert kind_of(with_sessions(MTA_PACE, 8, 20, "why", is_bound=False)) == "mta_pace"
    assert kind_of("") == "nothing" and kind_of("the tide") == "other"


def test_a_guard_that_allows_a_rate_limits_one_that_is_unlimited_and_is_named_with_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    throttle = Throttle(None, None)
    rate = RateInForce(FeedSettings(messages=None, adaptive=False), throttle, SystemClock())
    queue = Guard(name="mta_queue", verdict="slow", reason="it is long", at_most_per_s=30.0)
    rate.slow(queue)
    assert throttle.messages_per_s == 30.0
    run_in_virtual_time(monkeypatch, granted(throttle, 3))
    assert rate.binding == "the guard mta_queue, which allows 30/s: it is long"


def test_each_guard_that_slows_counts_and_the_one_that_leaves_least_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    throttle = Throttle(100, None)
    rate = RateInForce(FeedSettings(messages=100, adaptive=False), throttle, SystemClock())
    queue = Guard(name="mta_queue", verdict="slow", reason="it is long", at_most_per_s=70.0)
    load = Guard(name="load", verdict="slow", reason="load 12, limit 8")
    for guards, per_s, named in (((queue,), 70.0, "mta_queue"), ((queue, load), 50.0, "load"), ((), 100.0, "limit on")):
        rate.slow(*guards)
        assert throttle.messages_per_s == per_s
        run_in_virtual_time(monkeypatch, granted(throttle, 3))
        assert named in rate.binding
    rate.slow(queue.model_copy(update={"at_most_per_s": 150.0}))
    run_in_virtual_time(monkeypatch, granted(throttle, 3))
    assert rate.binding == "limit on messages", "a guard that allows more than the limit holds nothing back"
