"""Hourly and daily caps at the throttle, in the event loop's own time: never exceeded, and fully used."""

from __future__ import annotations

import asyncio
import time

import pytest

from drainer.feed.throttle import Throttle
from tests.feed.virtual_time import run_in_virtual_time

HOUR_S = 3600.0


def within(times: list[tuple[float, int]], window_s: float) -> int:
    """The most recipients that any window holds."""
    return max(sum(number for at_s, number in times if end_s - window_s < at_s <= end_s) for end_s, _ in times)


def test_transactions_go_at_the_rate_until_the_cap_is_reached_and_then_as_the_first_ones_leave_the_window(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    throttle, times = Throttle(1, None), list[tuple[float, int]]()
    throttle.cap(300, 0)

    async def work() -> None:
        for _ in range(40):
            with await throttle.acquire(10) as permit:
                await asyncio.sleep(2.0)
                permit.sent(10)
                times.append((time.monotonic(), 10))

    async def all_of_them() -> None:
        await asyncio.gather(*(work() for _ in range(3)))

    run_in_virtual_time(monkeypatch, all_of_them())
    assert within(times, HOUR_S) == 300
    assert times[29][0] - 1000.0 < 60.0, "30 transactions at one a second: no need to spread them over the hour"
    assert times[-1][0] - 1000.0 < 3 * HOUR_S + 200.0, "1,200 recipients, 300 an hour: full use is made of the cap"


def test_transaction_that_does_not_fit_is_cut_and_one_larger_than_the_cap_goes_in_pieces(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    throttle, pieces = Throttle(None, None), list[tuple[float, int]]()
    throttle.cap(300, 0)

    async def work() -> None:
        for recipients in (100, 500, 250):
            left = recipients
            while left:
                with await throttle.acquire(left, may_be_cut=True) as permit:
                    permit.sent(permit.recipients)
                    pieces.append((time.monotonic() - 1000.0, permit.recipients))
                    left -= permit.recipients

    run_in_virtual_time(monkeypatch, work())
    assert [(round(at_s / HOUR_S), number) for at_s, number in pieces] == [(0, 100), (0, 200), (1, 300), (2, 250)]


def test_recipients_that_the_mta_refused_before_data_are_given_back_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    throttle = Throttle(None, None)
    throttle.cap(10, 0)

    async def refused_then_sent() -> float:
        async def refused() -> None:
            with await throttle.acquire(10) as permit:
                await asyncio.sleep(5.0)
                permit.sent(4)

        first = asyncio.create_task(refused())
        await asyncio.sleep(1.0)
        assert [(cap.name, cap.used, cap.most) for cap in throttle.caps] == [("hourly", 10, 10)]
        with await throttle.acquire(6):
            await first
            return time.monotonic()

    assert run_in_virtual_time(monkeypatch, refused_then_sent()) == pytest.approx(1005.0, abs=0.01)


def test_all_that_is_reserved_and_then_sent_lets_the_next_one_go_an_hour_later(monkeypatch: pytest.MonkeyPatch) -> None:
    throttle = Throttle(None, None)
    throttle.cap(10, 0)

    async def next_one() -> float:
        async def first() -> None:
            with await throttle.acquire(10) as permit:
                permit.sent(10)
                await asyncio.sleep(60.0)

        begun = asyncio.create_task(first())
        await asyncio.sleep(1.0)
        await throttle.acquire(1)
        await begun
        return time.monotonic()

    assert run_in_virtual_time(monkeypatch, next_one()) == pytest.approx(1060.0 + HOUR_S, abs=0.01)


def test_cap_that_is_raised_or_lifted_lets_go_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    throttle = Throttle(None, None)
    throttle.cap(10, 0)

    async def lifted() -> float:
        with await throttle.acquire(10) as permit:
            permit.sent(10)
        waiting = asyncio.create_task(throttle.acquire(5))
        await asyncio.sleep(30.0)
        assert throttle.waits_for == "hourly"
        throttle.cap(20, 0)
        await waiting
        return time.monotonic()

    assert run_in_virtual_time(monkeypatch, lifted()) == pytest.approx(1030.0, abs=0.01)
