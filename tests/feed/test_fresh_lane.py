"""The lane of fresh mail: what is fresh, and how the rate is shared, counted in transactions."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drainer.feed.fresh_lane import (
    AHEAD_S,
    MOST_CREDIT_S,
    SHARE,
    STARTED_AGAIN_S,
    YOUNG_S,
    LaneCredit,
    cost_s,
    fresh_between_s,
)
from drainer.feed.lane_queue import LaneQueue
from drainer.feed.throttle import Throttle
from tests.feed.virtual_time import run_in_virtual_time

STARTED_S = 1_000_000.0


@pytest.mark.parametrize(
    ("received_s", "now_s", "is_fresh"),
    [
        (STARTED_S + 5, STARTED_S + 6, True),
        (STARTED_S - 86_400, STARTED_S + 6, False),  # of the outage, or back from a backup
        (STARTED_S - STARTED_AGAIN_S + 1, STARTED_S, True),  # it came just before a restart
        (STARTED_S + 5, STARTED_S + 6 + YOUNG_S, False),  # it waited so long that it is backlog
        (STARTED_S + 2 * AHEAD_S, STARTED_S, False),  # a time that cannot be
        (STARTED_S + 1, STARTED_S, True),  # clocks differ a little
    ],
)
def test_fresh_is_what_was_received_since_the_start_and_lately(received_s: float, now_s: float, is_fresh: bool) -> None:
    since_s, until_s = fresh_between_s(STARTED_S, now_s)
    assert (since_s <= received_s <= until_s) is is_fresh


@given(st.lists(st.tuples(st.booleans(), st.booleans(), st.floats(0.001, 5.0)), max_size=300), st.integers(0, 100))
@settings(deadline=None)
def test_the_backlog_keeps_four_fifths_whatever_comes(waiting: list[tuple[bool, bool, float]], since: int) -> None:
    """At each step one transaction goes, of the lane that is next; which lanes wait, and what it costs, is arbitrary."""
    credit, gone, largest = LaneCredit(), [], max((cost for *_, cost in waiting), default=0.0)
    for fresh_waits, backlog_waits, cost in waiting:
        if fresh_waits or backlog_waits:
            is_fresh = fresh_waits and (credit.goes_first or not backlog_waits)
            credit.went(cost, is_fresh=is_fresh, backlog_waits=backlog_waits)
            gone.append((is_fresh, backlog_waits, cost))
    ahead = sum(cost for is_fresh, backlog_waits, cost in gone[since:] if is_fresh and backlog_waits)
    of_backlog = sum(cost for is_fresh, _, cost in gone[since:] if not is_fresh)
    assert ahead <= of_backlog * SHARE / (1 - SHARE) + MOST_CREDIT_S + largest + 1e-6


def test_a_transaction_costs_what_it_uses_up_of_the_rate_in_force() -> None:
    assert cost_s(10, 20.0, None) == 0.05
    assert cost_s(10, 20.0, 10.0) == 1.0
    assert cost_s(10, 0.0, 0.0) == 0.0
    assert cost_s(1, None, None) < cost_s(500, None, None)


@dataclass
class Feeding:
    """An MTA of some sessions behind the throttle, in virtual time.

    gone  of each transaction: whether it is fresh, how long it waited, when it asked
    """

    throttle: Throttle
    sessions: int
    takes_s: float
    gone: list[tuple[bool, float, float]] = field(default_factory=list)

    async def transaction(self, slots: LaneQueue, is_fresh: bool, recipients: int) -> None:
        asked_s = time.monotonic()
        await self.throttle.acquire(recipients, is_fresh=is_fresh, places=slots)
        try:
            self.gone.append((is_fresh, time.monotonic() - asked_s, asked_s))
            await asyncio.sleep(self.takes_s)
        finally:
            slots.leave()

    async def run(self, seconds: float, fresh_per_s: float, recipients: int = 1) -> None:
        """A backlog that never ends, of as many entries as are begun ahead, and fresh mail that comes evenly."""
        slots = LaneQueue(self.sessions, self.throttle.lanes)

        async def backlog() -> None:
            while True:
                await self.transaction(slots, False, recipients)

        tasks = [asyncio.create_task(backlog()) for _ in range(self.sessions + 5)]
        for _ in range(round(seconds * fresh_per_s)):
            tasks.append(asyncio.create_task(self.transaction(slots, True, recipients)))
            await asyncio.sleep(1 / fresh_per_s)
        if not fresh_per_s:
            await asyncio.sleep(seconds)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def count(self, is_fresh: bool) -> int:
        return sum(1 for fresh, *_ in self.gone if fresh is is_fresh)


LIMITS = [
    (20.0, None, 20, 0.1),
    (None, 100.0, 20, 0.1),
    (1.0, None, 4, 0.5),
    (None, None, 3, 0.1),
    (500.0, None, 2, 0.1),
]
"""Limits on messages and recipients, sessions, and what a transaction takes the MTA."""


@pytest.mark.parametrize(("messages", "recipients", "sessions", "takes_s"), LIMITS)
def test_fresh_mail_below_a_fifth_of_the_rate_does_not_wait_and_costs_the_backlog_no_more_than_itself(
    monkeypatch: pytest.MonkeyPatch, messages: float | None, recipients: float | None, sessions: int, takes_s: float
) -> None:
    alone = Feeding(Throttle(messages, recipients), sessions, takes_s)
    run_in_virtual_time(monkeypatch, alone.run(100, 0, 5))
    both = Feeding(Throttle(messages, recipients), sessions, takes_s)
    per_s = 0.15 * len(alone.gone) / 100
    run_in_virtual_time(monkeypatch, both.run(100, per_s, 5))
    waited = sorted(waited for is_fresh, waited, _ in both.gone if is_fresh)
    assert len(waited) >= 0.95 * 100 * per_s
    assert waited[int(0.95 * len(waited))] <= 10.0
    assert both.count(False) >= 0.8 * alone.count(False)


@pytest.mark.parametrize(("messages", "recipients", "sessions", "takes_s"), LIMITS)
def test_a_flood_of_fresh_mail_leaves_the_backlog_four_fifths(
    monkeypatch: pytest.MonkeyPatch, messages: float | None, recipients: float | None, sessions: int, takes_s: float
) -> None:
    flood = Feeding(Throttle(messages, recipients), sessions, takes_s)
    run_in_virtual_time(monkeypatch, flood.run(120, 20 if messages != 1 else 2, 5))
    total = len(flood.gone)
    assert flood.count(True) >= 0.15 * total, "and the lane has its part"
    burst = MOST_CREDIT_S / cost_s(5, messages, recipients)
    assert flood.count(False) >= 0.8 * (total - burst) - sessions


def test_overtaking_makes_no_burst_and_large_transactions_wait_at_the_front(monkeypatch: pytest.MonkeyPatch) -> None:
    async def overtaken() -> list[tuple[str, float]]:
        throttle, went = Throttle(None, 10), list[tuple[str, float]]()

        async def go(name: str, recipients: int, is_fresh: bool = False) -> None:
            await throttle.acquire(recipients, is_fresh=is_fresh)
            went.append((name, time.monotonic() - 1000))

        tasks = [asyncio.create_task(go(name, 10)) for name in ("one", "two", "three")]
        await asyncio.sleep(0.5)  # "two" is at the head and waits for its time
        tasks.append(asyncio.create_task(go("fresh", 5, True)))
        await asyncio.gather(*tasks)
        return went

    assert run_in_virtual_time(monkeypatch, overtaken()) == [
        ("one", 0.0), ("fresh", pytest.approx(1.0, abs=0.01)), ("two", pytest.approx(1.5, abs=0.01)),
        ("three", pytest.approx(2.5, abs=0.01)),
    ]  # fmt: skip


def test_fresh_mail_does_not_wait_with_a_transaction_that_a_cap_has_no_room_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def capped() -> tuple[float, bool]:
        throttle = Throttle(None, None)
        throttle.cap(100, 0)
        with await throttle.acquire(60) as permit:
            permit.sent(60)
        large = asyncio.create_task(throttle.acquire(60))
        await asyncio.sleep(1)
        with await throttle.acquire(2, is_fresh=True):
            went_s = time.monotonic() - 1000
        still_waits = not large.done()
        large.cancel()
        await asyncio.gather(large, return_exceptions=True)
        return went_s, still_waits

    assert run_in_virtual_time(monkeypatch, capped()) == (1.0, True)


def test_one_of_the_backlog_that_waits_for_a_cap_leaves_its_place_to_fresh_mail_and_keeps_its_turn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """All places are taken by those that wait; some room is left, too little for them."""

    async def capped() -> tuple[list[float], list[int]]:
        throttle, slots = Throttle(None, None), LaneQueue(2, LaneCredit())
        throttle.cap(100, 0)
        with await throttle.acquire(60) as permit:
            permit.sent(60)
        order = list[int]()

        async def large(number: int) -> None:
            with await throttle.acquire(60, places=slots) as permit:
                order.append(number)
                permit.sent(1)
                slots.leave()

        async def fresh() -> float:
            began_s = time.monotonic()
            with await throttle.acquire(2, is_fresh=True, places=slots) as permit:
                permit.sent(2)
                slots.leave()
            return time.monotonic() - began_s

        backlog = [asyncio.create_task(large(number)) for number in range(4)]
        await asyncio.sleep(1)
        waited = [await fresh() for _ in range(3)] + list(await asyncio.gather(*(fresh() for _ in range(3))))
        assert not order
        await asyncio.gather(*backlog)
        async with slots.place(True), slots.place(True):
            return waited, order

    waited, order = run_in_virtual_time(monkeypatch, capped())
    assert waited == [0.0] * 6
    assert order == [0, 1, 2, 3]


def test_a_place_is_not_lost_with_a_waiter_that_gives_up(monkeypatch: pytest.MonkeyPatch) -> None:
    async def given_up() -> list[int]:
        queue, order = LaneQueue(2, LaneCredit()), list[int]()

        async def work(number: int) -> None:
            async with queue.place(number % 3 == 0):
                order.append(number)
                await asyncio.sleep(1)

        tasks = [asyncio.create_task(work(number)) for number in range(12)]
        await asyncio.sleep(0.5)
        for number in (3, 4, 0, 11):
            tasks[number].cancel()
        await asyncio.sleep(0.6)
        tasks[6].cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        queue.resize(1)
        async with queue.place(False):
            assert not queue.backlog_waits
        return order

    assert run_in_virtual_time(monkeypatch, given_up()) == [0, 1, 6, 9, 2, 5, 7, 8, 10]
