"""Even spacing, counted in the event loop's own time."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from drainer.feed.lane_queue import LaneQueue
from drainer.feed.throttle import CATCH_UP_S, Throttle
from tests.feed.virtual_time import run_in_virtual_time


async def granted(throttle: Throttle, transactions: int, recipients: int = 1, waiters: int = 1) -> list[float]:
    """Times at which each transaction was let go."""
    times: list[float] = []

    async def work(share: int) -> None:
        for _ in range(share):
            await throttle.acquire(recipients)
            times.append(time.monotonic())

    await asyncio.gather(*(work(transactions // waiters) for _ in range(waiters)))
    return times


def gaps(times: list[float]) -> list[float]:
    return [later - earlier for earlier, later in itertools.pairwise(times)]


@pytest.mark.parametrize("waiters", [1, 20])
def test_messages_are_spaced_evenly_from_the_first_on(monkeypatch: pytest.MonkeyPatch, waiters: int) -> None:
    times = run_in_virtual_time(monkeypatch, granted(Throttle(20, None), 100, waiters=waiters))
    assert times[0] == 1000.0
    assert gaps(times) == pytest.approx([0.05] * 99, abs=0.002)


def test_recipients_are_counted_where_they_bind(monkeypatch: pytest.MonkeyPatch) -> None:
    throttle = Throttle(20, 100)
    times = run_in_virtual_time(monkeypatch, granted(throttle, 10, recipients=50))
    assert gaps(times) == pytest.approx([0.5] * 9, abs=0.002)
    assert throttle.binding == "recipients"


def test_binding_names_messages_or_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    limited, unlimited = Throttle(20, 1000), Throttle(None, None)

    async def both() -> None:
        await granted(limited, 3)
        await granted(unlimited, 3)

    run_in_virtual_time(monkeypatch, both())
    assert (limited.binding, unlimited.binding) == ("messages", "")


def test_unlimited_lets_go_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    times = run_in_virtual_time(monkeypatch, granted(Throttle(None, None), 1_000, recipients=500, waiters=10))
    assert set(times) == {1000.0}


@given(
    rate=st.floats(0.5, 5_000),
    naps=st.lists(st.floats(0, 0.5), min_size=2, max_size=40),
    recipients=st.integers(1, 50),
)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_window_holds_more_than_the_rate_allows(
    monkeypatch: pytest.MonkeyPatch, rate: float, naps: list[float], recipients: int
) -> None:
    async def irregular() -> list[float]:
        throttle = Throttle(None, rate * recipients)
        times = []
        for nap in naps:
            await asyncio.sleep(nap)
            await throttle.acquire(recipients)
            times.append(time.monotonic())
        return times

    with monkeypatch.context() as patched:
        times = run_in_virtual_time(patched, irregular())
    for first, last in itertools.combinations(range(len(times)), 2):
        assert last - first <= rate * (times[last] - times[first] + CATCH_UP_S) + 1e-6


def change(monkeypatch: pytest.MonkeyPatch, before: float | None, turn: Callable[[Throttle], None]) -> list[float]:
    """Times of three grants when the ceiling is changed 5 s after the start."""

    async def changed() -> list[float]:
        throttle = Throttle(before, None)
        waiting = asyncio.create_task(granted(throttle, 3))
        await asyncio.sleep(5)
        turn(throttle)
        return await waiting

    return run_in_virtual_time(monkeypatch, changed())


def test_raised_ceiling_is_noticed_by_who_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    times = change(monkeypatch, 0.001, lambda throttle: throttle.set(10, None))
    assert times == pytest.approx([1000.0, 1005.0, 1005.1], abs=0.002)


def test_lowered_ceiling_is_noticed_by_who_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    times = change(monkeypatch, 0.1, lambda throttle: throttle.set(0.01, None))
    assert times == pytest.approx([1000.0, 1100.0, 1200.0], abs=0.002)


def test_zero_pauses_until_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    times = change(monkeypatch, 0, lambda throttle: throttle.set(None, None))
    assert times == [1005.0] * 3


def test_pausing_holds_back_who_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    async def paused() -> list[float]:
        throttle = Throttle(0.1, None)
        waiting = asyncio.create_task(granted(throttle, 2))
        await asyncio.sleep(5)
        throttle.set(0, None)
        await asyncio.sleep(1_000)
        assert not waiting.done()
        throttle.set(0.1, None)
        return await waiting

    assert run_in_virtual_time(monkeypatch, paused()) == pytest.approx([1000.0, 2005.0], abs=0.002)


def test_waiters_are_served_in_the_order_they_came_even_when_one_gives_up(monkeypatch: pytest.MonkeyPatch) -> None:
    async def queue() -> list[int]:
        throttle = Throttle(1, None)
        order: list[int] = []

        async def wait(number: int) -> None:
            await throttle.acquire(1)
            order.append(number)

        tasks = [asyncio.create_task(wait(number)) for number in range(6)]
        await asyncio.sleep(1.5)
        tasks[2].cancel()  # the one at the head, waiting for its time
        tasks[4].cancel()  # one behind it
        await asyncio.gather(*tasks, return_exceptions=True)
        return order

    assert run_in_virtual_time(monkeypatch, queue()) == [0, 1, 3, 5]


@pytest.mark.parametrize("ceiling", [1.0, None])
@pytest.mark.parametrize("has_fresh", [False, True])
def test_whoever_comes_while_others_wait_goes_behind_those_of_its_lane(
    monkeypatch: pytest.MonkeyPatch, ceiling: float | None, has_fresh: bool
) -> None:
    """For the rate, although a session is free; or for a session, although the rate allows it."""

    async def queue() -> list[tuple[bool, int]]:
        throttle = Throttle(ceiling, None)
        places = LaneQueue(1 if ceiling is None else 9, throttle.lanes)
        order: list[tuple[bool, int]] = []

        async def work(number: int, is_fresh: bool) -> None:
            for _ in range(3):
                with await throttle.acquire(1, is_fresh=is_fresh, places=places):
                    order.append((is_fresh, number))
                    await asyncio.sleep(0.3)
                places.leave()

        await asyncio.gather(*(work(number, has_fresh and number % 2 == 0) for number in range(6)))
        return order

    order = run_in_virtual_time(monkeypatch, queue())
    for lane in (False, True):
        numbers = [number for is_fresh, number in order if is_fresh is lane]
        first = numbers[: len(numbers) // 3]
        assert numbers == first * 3 and first == sorted(first)


def test_permission_that_nothing_delays_comes_without_a_turn_of_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    async def first_step() -> None:
        throttle = Throttle(1, None)
        places = LaneQueue(1, throttle.lanes)
        with pytest.raises(StopIteration) as granted:
            throttle.acquire(5, may_be_cut=True, places=places).send(None)
        assert granted.value.value.recipients == 5 and not places.has_room
        assert throttle.binding == ""

    run_in_virtual_time(monkeypatch, first_step())


@pytest.mark.parametrize("rate", [7.0, 230.0, 1500.0])
def test_waiting_for_the_rate_never_spins_where_sleeps_are_rounded_to_milliseconds(
    monkeypatch: pytest.MonkeyPatch, rate: float
) -> None:
    """As uvloop rounds them. What is shorter than half of one ends at once there."""
    sleep, slept = asyncio.sleep, list[float]()

    async def rounded(delay: float) -> None:
        slept.append(round(delay * 1000) / 1000)
        assert slept[-1] > 0, f"a sleep of {delay} s is none"
        await sleep(slept[-1])

    monkeypatch.setattr(asyncio, "sleep", rounded)
    times = run_in_virtual_time(monkeypatch, granted(Throttle(rate, None), 100))
    assert len(slept) <= len(times)
    assert times[-1] - times[0] == pytest.approx(99 / rate, abs=0.002)


def test_negative_ceiling_is_refused_and_changes_nothing() -> None:
    throttle = Throttle(5, 7)
    with pytest.raises(ValueError, match="right would be"):
        throttle.set(None, -1)
    assert (throttle.messages_per_s, throttle.recipients_per_s) == (5, 7)
