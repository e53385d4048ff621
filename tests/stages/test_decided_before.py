"""What was decided, or done, before holds over a restart, other settings, and whoever comes in between."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from drainer.control.messages.pauses_and_rates import PauseRequest, ResumeRequest
from drainer.demo.misbehaviour import Rule
from drainer.demo.sample_queue import write_plain
from drainer.demo.sink import Sink
from drainer.errors import LedgerNotDurable
from tests.stages.inside import ME, inside
from tests.stages.test_taken_out import copied, only

LATER: dict[str, Any] = {"retry_first": "1h", "retry_longest": "1h"}


@pytest.mark.parametrize("again", ["deferred", "held"])
async def test_duplicate_released_a_second_time_is_released_over_a_restart_too(tmp_path: Path, again: str) -> None:
    """It was refused for now, or held by the operator himself, since he released it first."""
    outage = write_plain(tmp_path, 1, 3)
    original = only(outage)
    copy = copied(original)
    settings: dict[str, Any] = {"feed": LATER, "duplicates": {"exact": "hold"}, "mta": {"sessions": 1}}
    async with Sink(None, Rule.parse("rcpt 450 4.2.0 later after=3 first=3")) as sink:
        async with inside(tmp_path, outage, sink, **settings) as run:
            await run.until("the copy is held", lambda: run.state_of(copy) == "held")
            await run.asks.release(run.of(copy), ME)
            await run.until("it is refused", lambda: run.state_of(copy) == "deferred")
            await run.asks.pause(PauseRequest(), ME)
            if again == "held":
                await run.asks.hold(run.of(copy), ME)
            assert (await run.asks.release(run.of(copy), ME)).changed == 1
        async with inside(tmp_path, outage, sink, until_empty=True, **settings) as run:
            await run.asks.resume(ResumeRequest(), ME)
            assert await run.ended() == 0
            assert run.taken() == run.owed() + run.owed() and not run.files("held")


@pytest.mark.parametrize("policies", [("suppress", "deliver"), ("deliver", "suppress")])
async def test_part_delivered_entry_sends_no_second_copy_after_duplicates_settings_change(
    tmp_path: Path, policies: tuple[str, str]
) -> None:
    """Its own deliveries are known under another identity then."""
    outage = write_plain(tmp_path, 1, 3)
    file = only(outage)
    async with Sink(None, Rule.parse("rcpt 450 4.2.0 later first=1")) as sink:
        async with inside(tmp_path, outage, sink, feed=LATER, duplicates={"exact": policies[0]}) as run:
            await run.until("somebody is refused", lambda: run.state_of(file) == "deferred")
            assert 0 < run.taken().total() < run.owed().total()
        async with inside(
            tmp_path, outage, sink, until_empty=True, feed=LATER, duplicates={"exact": policies[1]}
        ) as run:
            await run.until("it is read", lambda: not run.resources.index.totals.overall().unread_entries)
            await run.asks.release(run.of(file), ME)
            assert await run.ended() == 0
            assert run.taken() == run.owed()


async def test_entry_kept_for_its_refusals_as_they_are_undone_is_tried_again(tmp_path: Path) -> None:
    """`drainer resume` comes while it is being written down that it is kept."""
    outage = write_plain(tmp_path, 1, 3)
    file = only(outage)
    async with Sink() as sink, inside(tmp_path, outage, sink, feed={"messages": "0"}) as run:
        await run.until("it is taken", lambda: file.name in run.files("backlog"))
        refused, now_s = run.service.pipeline.failures, run.resources.clock.now_s()
        with run.held_up("keep") as writing:
            keeping = asyncio.create_task(refused.keep(file.stem, [now_s]))
            await writing.reached.wait()
            trying = asyncio.create_task(refused.try_again(now_s - 60))
            await asyncio.sleep(0)
            writing.go_on()
            await asyncio.gather(keeping, trying)
        (again,) = run.files("backlog")
        assert again != file.name and run.state_of(Path(again)) is not None
        assert refused.entries == 0


async def test_entries_tried_again_are_known_though_the_ledger_cannot_be_written(tmp_path: Path) -> None:
    outage = write_plain(tmp_path, 1, 3)
    file = only(outage)
    async with Sink() as sink, inside(tmp_path, outage, sink, feed={"messages": "0"}) as run:
        await run.until("it is taken", lambda: file.name in run.files("backlog"))
        refused, now_s = run.service.pipeline.failures, run.resources.clock.now_s()
        await refused.keep(file.stem, [now_s])
        with run.refusing("undo_failures", LedgerNotDurable("disk full")), pytest.raises(LedgerNotDurable):
            await refused.try_again(now_s - 60)
        (again,) = run.files("backlog")
        assert run.state_of(Path(again)) is not None


async def test_restart_finds_as_many_owed_as_there_were(tmp_path: Path) -> None:
    """A part-delivered entry: recipients that it reached must not be counted as waiting again."""
    outage = write_plain(tmp_path, 1, 3)
    file = only(outage)
    found: list[tuple[int, int, int]] = []
    async with Sink(None, Rule.parse("rcpt 450 4.2.0 later first=1")) as sink:
        for _ in range(2):
            async with inside(tmp_path, outage, sink, feed=LATER) as run:
                await run.until("it is deferred", lambda: run.state_of(file) == "deferred")
                await run.until("it is read", lambda: not run.resources.index.totals.overall().unread_entries)
                backlog = (await run.status()).backlog
                found.append((backlog.entries, backlog.recipients, backlog.deferred_recipients))
    assert found == [(1, 1, 1)] * 2
