"""What the work is counted in: transactions, recipients or octets, whichever flows most evenly."""

from __future__ import annotations

import random

import pytest

from drainer.backlog.work import Work
from drainer.estimate.ceilings import Ceilings, slowest_domain_s
from drainer.estimate.drain_time import drain_time
from drainer.estimate.eta import Eta
from drainer.estimate.forecaster import Forecaster, Left
from drainer.estimate.rates import Counts

NOW_S = 1_772_500_000.0
LEFT = Work(recipients=12_000, messages=3_000, octets=600_000_000)


def seen(flowing: str, ceilings: Ceilings | None = None) -> Forecaster:
    """Ten minutes in which every ten seconds brought the same amount of one unit, and of the others what it happened to be:
    on average 10 messages, 40 recipients and 200 KB a second."""
    chance, forecaster = random.Random(3), Forecaster()
    messages = recipients = octets = 0
    for at in range(0, 610, 10):
        forecaster.observe(
            Counts(1000.0 + at, recipients, messages, serviced_octets=octets),
            Left(LEFT.messages, LEFT.recipients, LEFT.octets),
            ceilings or Ceilings(),
        )
        uneven = [chance.lognormvariate(-0.08, 0.4) for _ in range(3)]
        messages += 100 if flowing == "messages" else int(100 * uneven[0])
        recipients += 400 if flowing == "recipients" else int(400 * uneven[1])
        octets += 2_000_000 if flowing == "octets" else int(2_000_000 * uneven[2])
    return forecaster


def seconds(eta: Eta) -> float:
    assert eta.seconds is not None, eta
    return eta.seconds


@pytest.mark.parametrize(("flowing", "needed_s"), [("messages", 300), ("recipients", 300), ("octets", 3000)])
def test_what_flows_evenly_says_how_long_it_takes(flowing: str, needed_s: float) -> None:
    assert seconds(drain_time(LEFT, seen(flowing), Ceilings(), "draining", NOW_S)) == pytest.approx(needed_s, rel=0.1)


def test_the_messages_that_are_left_are_set_against_the_limit_on_messages() -> None:
    """Few recipients to a message are left, after many."""
    limited = Ceilings(messages_per_s=10.0)
    personal = Work(recipients=12_000, messages=12_000.0)
    found = drain_time(personal, seen("messages", limited), limited, "draining", NOW_S)
    assert seconds(found) == pytest.approx(1200, rel=0.1)


def test_a_domain_with_a_ceiling_is_waited_for() -> None:
    of_domain = slowest_domain_s([(3000, 2.0), (50, None), (0, 0.0)])
    assert of_domain == 1500
    found = drain_time(LEFT, seen("messages"), Ceilings(earliest_s=of_domain), "draining", NOW_S)
    assert found.low_s is not None
    assert 1500 <= found.low_s <= seconds(found) <= 1700


def test_a_domain_that_is_held_back_stalls_the_drain_and_says_so() -> None:
    never = Ceilings(earliest_s=slowest_domain_s([(3, 0.0)]))
    assert drain_time(LEFT, seen("messages"), never, "draining", NOW_S) == Eta(state="stalled")
    assert drain_time(LEFT, seen("messages"), never, "paused", NOW_S) == Eta(state="paused")


def test_seconds_without_a_look_are_not_a_slow_pace() -> None:
    """The host slept for an hour and a half."""
    forecaster = seen("messages")
    forecaster.observe(Counts(7000.0, 24_400, 6_100), Left(3_000, 12_000), Ceilings())
    forecaster.observe(Counts(7010.0, 24_800, 6_200), Left(3_000, 12_000), Ceilings())
    found = drain_time(Work(12_000, messages=3_000.0), forecaster, Ceilings(), "draining", NOW_S)
    assert found.low_s is not None
    assert found.low_s < 350


def test_time_before_the_first_delivery_is_no_slow_pace() -> None:
    """The queue is read and sessions are opened for twenty seconds; then it goes at 40 a second."""
    forecaster = Forecaster()
    for at in range(31):
        done = 40 * max(0, at - 20)
        forecaster.observe(Counts(1000.0 + at, done, done // 4), Left(1_000, 4_000), Ceilings())
    found = drain_time(Work(4_000, messages=1_000.0), forecaster, Ceilings(), "draining", NOW_S)
    assert seconds(found) == pytest.approx(100, rel=0.1)
