"""Messages in memory: never more than the budget allows, but one that is larger alone; in order, and all of them."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drainer.feed.memory_budget import MemoryBudget, MemoryByLane

LIMIT = 100


@given(st.lists(st.integers(1, 250), max_size=40), st.sets(st.integers(0, 39)))
def test_no_more_than_the_budget_is_used_except_by_one_alone_and_each_gets_a_turn(
    sizes: list[int], cancelled: set[int]
) -> None:
    async def story() -> list[int]:
        budget = MemoryBudget(LIMIT)
        users, order = 0, []

        async def use(number: int, size: int) -> None:
            nonlocal users
            await budget.take(size)
            users += 1
            order.append(number)
            try:
                assert budget.used_bytes <= LIMIT or users == 1
                await asyncio.sleep(0)
            finally:
                users -= 1
                budget.give(size)

        tasks = [asyncio.create_task(use(number, size)) for number, size in enumerate(sizes)]
        await asyncio.sleep(0)
        for number in cancelled & set(range(len(tasks))):
            tasks[number].cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(result is None or isinstance(result, asyncio.CancelledError) for result in results)
        served = {number for number, result in enumerate(results) if result is None}
        assert served >= set(range(len(sizes))) - cancelled
        return order

    order = asyncio.run(story())
    assert order == sorted(order)


async def test_more_room_lets_the_next_in_at_once() -> None:
    budget = MemoryBudget(LIMIT)
    await budget.take(90)
    second = asyncio.create_task(budget.take(20))
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(asyncio.shield(second), 0.01)
    budget.resize(2 * LIMIT)
    await second
    assert budget.used_bytes == 110


@pytest.mark.parametrize("has_fresh_lane", [True, False])
async def test_fresh_mail_has_room_whatever_the_backlog_keeps_and_both_keep_to_the_limit(has_fresh_lane: bool) -> None:
    memory = MemoryByLane(LIMIT, has_fresh_lane=has_fresh_lane)
    backlog = memory.of(is_fresh=False)
    await backlog.take(1)
    large = asyncio.create_task(backlog.take(10 * LIMIT))
    await asyncio.sleep(0)
    if has_fresh_lane:
        await memory.of(is_fresh=True).take(LIMIT // 4)
    limits = [memory.of(is_fresh=is_fresh).limit_bytes for is_fresh in (False, True)]
    assert sum(limits) == LIMIT if has_fresh_lane else limits[0] == LIMIT
    assert not large.done()
    large.cancel()
    await asyncio.gather(large, return_exceptions=True)
