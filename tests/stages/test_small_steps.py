"""However much there is to do, the event loop does a little of it in each turn: questions are answered meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from drainer.demo.sample_queue import write_plain
from drainer.demo.sink import Sink
from drainer.queuedir.entry import QueueEntry
from drainer.queuedir.read import read_entry
from drainer.stages import feed, survey
from drainer.stages.giving_way import TURNS_FOR_OTHERS, FewInATurn
from tests.stages.inside import Inside, inside


@asynccontextmanager
async def steps_of(count: Callable[[], int]) -> AsyncIterator[list[int]]:
    """By how much it changes in each turn of the event loop, while the block runs."""
    steps, before = list[int](), count()

    def look() -> None:
        nonlocal before
        now = count()
        steps.append(abs(now - before))
        before = now

    async def look_in_each_turn() -> None:
        while True:
            await asyncio.sleep(0)
            look()

    looking = asyncio.create_task(look_in_each_turn())
    try:
        yield steps
    finally:
        looking.cancel()
        look()


def unread(run: Inside) -> int:
    return run.resources.index.totals.overall().unread_entries


async def test_a_lot_that_was_read_is_made_known_some_entries_in_a_turn(tmp_path: Path) -> None:
    outage = write_plain(tmp_path, 150, 1)
    out, elsewhere = outage.queue_dir / "out", tmp_path / "elsewhere"
    out.rename(elsewhere)
    out.mkdir()
    async with Sink() as sink, inside(tmp_path, outage, sink) as run:
        with run.not_reading() as held:
            for file in elsewhere.iterdir():
                file.rename(out / file.name)
            await run.until("all are listed", lambda: unread(run) == 150)
            async with steps_of(lambda: unread(run)) as steps:
                held.go_on()
                await run.until("all are read", lambda: not unread(run))
    assert sum(steps) == 150
    assert max(steps) <= survey.DESCRIBED_AT_A_TIME
    (first, *_, last) = (turn for turn, step in enumerate(steps) if step)
    busy = sum(step > 0 for step in steps[first : last + 1])
    assert last - first + 1 >= (busy - 1) * TURNS_FOR_OTHERS, "most turns have no part of it"


async def test_whoever_comes_goes_through_in_order_a_few_in_a_turn_and_a_cancelled_one_holds_up_nobody() -> None:
    few, through = FewInATurn(3), list[int]()

    async def one(number: int) -> None:
        await few.pass_one()
        through.append(number)

    async with steps_of(lambda: len(through)) as steps:
        tasks = [asyncio.create_task(one(number)) for number in range(10)]
        tasks[4].cancel()
        await asyncio.sleep(0)
        tasks[8].cancel()
        later = [asyncio.create_task(one(number)) for number in range(10, 30)]
        await asyncio.gather(*tasks, *later, return_exceptions=True)
    assert through == [number for number in range(30) if number not in (4, 8)]
    assert 3 <= max(steps) < 6


async def test_entries_that_may_all_go_at_once_begin_a_few_in_a_turn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outage, read = write_plain(tmp_path, 60, 1), list[str]()

    def reading(path: str) -> QueueEntry:
        read.append(path)
        return read_entry(path)

    monkeypatch.setattr("drainer.stages.entry_facts.read_entry", reading)
    async with (
        Sink() as sink,
        steps_of(lambda: len(read)) as steps,
        inside(tmp_path, outage, sink, mta={"sessions": 40}) as run,
    ):
        await run.until("all is delivered", lambda: run.taken() == run.owed())
    assert sum(steps) >= 60
    assert max(steps) < 2 * feed.BEGUN_AT_A_TIME
