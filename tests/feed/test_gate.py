"""Reasons against feeding, and the tasks that a reason interrupts."""

from __future__ import annotations

import asyncio

from drainer.feed.gate import Gate


async def _forever() -> None:
    await asyncio.Event().wait()


async def _cancelled(task: asyncio.Task[None]) -> bool:
    for _ in range(3):
        await asyncio.sleep(0)
    if task.done():
        return task.cancelled()
    task.cancel()
    await asyncio.wait([task])
    return False


async def test_reason_interrupts_every_task_inside_and_a_closed_list_only_its_own() -> None:
    gate = Gate()
    choir, harbour = asyncio.create_task(_forever()), asyncio.create_task(_forever())
    gate.admit(choir, "choir")
    gate.admit(harbour, "harbour")
    gate.close_lists(frozenset({"choir"}))
    assert await _cancelled(choir)
    assert not harbour.done()
    gate.close("paused", "by ann")
    assert await _cancelled(harbour)
    assert gate.reasons == {"paused": "by ann"} and not gate.allows("harbour")


async def test_task_that_one_reason_stops_goes_on_under_any_other() -> None:
    gate = Gate()
    task = asyncio.create_task(_forever())
    gate.stop_for("refusals", task)
    gate.close("paused", "by ann")
    await asyncio.sleep(0)
    assert not task.done()
    gate.close("refusals", "the MTA refuses everybody")
    assert await _cancelled(task)


async def test_reason_that_is_known_already_interrupts_no_task_again() -> None:
    gate = Gate()
    gate.close("paused", "by ann")
    task = asyncio.create_task(_forever())
    gate.admit(task, "choir")
    gate.close("paused", "by bob")
    assert not await _cancelled(task)


async def test_gate_opens_when_the_last_reason_has_ended() -> None:
    gate = Gate()
    gate.close("paused", "")
    gate.close("guard", "")
    gate.open("paused")
    assert not gate.allows("choir")
    gate.open("guard")
    await gate.opened()
    assert gate.allows("choir")
