"""An operator's action holds an entry for moments: nothing else takes it, and it is neither lost nor counted twice."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from drainer.control.messages.pauses_and_rates import PauseRequest, ResumeRequest
from drainer.demo.misbehaviour import Rule
from drainer.demo.sample_queue import Outage, write_plain
from drainer.demo.sink import Sink
from drainer.errors import LedgerNotDurable
from tests.stages.inside import ME, inside


def only(outage: Outage) -> Path:
    (file,) = (outage.queue_dir / "out").iterdir()
    return file


def copied(original: Path) -> Path:
    """The same mail a second time, a second later."""
    received_s, _, digest = original.name.partition("+")
    copy = original.with_name(f"{float(received_s) + 1:.6f}+{digest}")
    copy.write_bytes(original.read_bytes())
    return copy


async def test_entry_held_while_it_is_being_read_is_not_sent(tmp_path: Path) -> None:
    outage = write_plain(tmp_path, 1, 3)
    file = only(outage)
    content = file.read_bytes()
    file.unlink()
    async with Sink() as sink, inside(tmp_path, outage, sink) as run:
        with run.not_reading() as reading, run.held_up("hold") as holding:
            run.arrive(file, content)
            await reading.reached.wait()
            asked = asyncio.create_task(run.asks.hold(run.of(file), ME))
            await holding.reached.wait()
            reading.go_on()
            await run.until("it is read", lambda: not run.resources.index.totals.overall().unread_entries)
            for _ in range(10):  # whatever the feed would make of it
                await asyncio.sleep(0)
            holding.go_on()
            assert (await asked).changed == 1
        await run.until("nothing is in delivery", lambda: not run.service.pipeline.feed.active)
        assert (run.state_of(file), run.files("held"), sink.taken) == ("held", {file.name}, [])


async def test_entry_whose_end_an_operator_interrupts_is_counted_once(tmp_path: Path) -> None:
    outage = write_plain(tmp_path, 1, 3)
    copied(only(outage))
    async with Sink() as sink, inside(tmp_path, outage, sink, until_empty=True) as run:
        for write in (
            "close_attempt",
            "finish_entry",
        ):  # of the original, which is delivered; of its copy, which is not
            with run.held_up(write, after=True) as finishing:
                await finishing.reached.wait()
                await run.asks.pause(PauseRequest(), ME)
                finishing.go_on()
                await run.until("nothing is in delivery", lambda: not run.service.pipeline.feed.active)
            await run.asks.resume(ResumeRequest(), ME)
        assert await run.ended() == 0
        done = run.service.situation.totals
        assert (done.get("delivered_entries"), done.get("suppressed_entries")) == (1, 1)
        assert run.taken() == run.owed()


async def test_copy_does_not_wait_for_an_entry_whose_file_was_taken_away(tmp_path: Path) -> None:
    """The original deferred a recipient; no other entry would have tried it again."""
    outage = write_plain(tmp_path, 1, 3)
    original = only(outage)
    copy = copied(original)
    ((_, refused), *_) = ((list_id, name) for list_id, names in outage.owed.items() for name in sorted(names))
    feed = {"retry_first": "1h", "retry_longest": "1h"}
    async with Sink(None, Rule.parse(f"rcpt 450 4.2.0 later recipient={refused} first=1")) as sink:
        async with inside(tmp_path, outage, sink, feed=feed) as run:
            await run.until("both wait", lambda: (run.state_of(original), run.state_of(copy)) == ("deferred",) * 2)
        (run.custody / "backlog" / original.name).unlink()
        async with inside(tmp_path, outage, sink, until_empty=True, feed=feed) as run:
            assert await run.ended() == 0
            assert run.taken() == run.owed()


async def test_entry_that_cannot_be_held_is_held_once_the_ledger_can_be_written(tmp_path: Path) -> None:
    """Its list is gone, and the disk is full at that moment."""
    outage = write_plain(tmp_path, 1, 3)
    file = only(outage)
    for config in outage.lists_dir.rglob("config.pck*"):
        config.unlink()
    async with Sink() as sink, inside(tmp_path, outage, sink, feed={"messages": "0"}) as run:
        with run.refusing("hold", LedgerNotDurable("disk full")):
            run.resources.rate.limit(run.service.settings.feed, float("inf"), None)
            await run.until("sending has stopped", lambda: "ledger" in run.resources.gate.reasons)
            await run.until("it is put back", lambda: not run.service.pipeline.feed.active)
        await run.service._ledger_upkeep.probe()
        await run.until("it is held", lambda: run.state_of(file) == "held")


async def test_entry_that_goes_again_at_once_is_in_one_pair_of_hands(tmp_path: Path) -> None:
    """One that is given up is to be finished at its next turn, which may come before its task is known to have ended."""
    outage = write_plain(tmp_path, 120, 2)
    broken: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: broken.append(context["message"]))
    refusing = Rule.parse("rcpt 450 4.2.0 later recipient=*0.*")
    feed = {"retry_first": "1ms", "retry_longest": "1ms", "give_up_after": "1ms", "dsn": False}
    async with Sink(None, refusing) as sink, inside(tmp_path, outage, sink, until_empty=True, feed=feed) as run:
        assert await run.ended() == 0
        assert run.service.situation.totals.get("delivered_entries") == outage.entries
    assert broken == []


async def test_deferred_entry_an_operator_lets_go_of_is_tried_when_it_is_due(tmp_path: Path) -> None:
    """Nothing came of his wish; meanwhile the feed had looked, found nothing that is due some time, and gone to sleep."""
    outage = write_plain(tmp_path, 1, 3)
    file = only(outage)
    settings: dict[str, Any] = {"feed": {"retry_first": "1s", "retry_longest": "1s"}, "custody": {"poll": "1h"}}
    refusing = Rule.parse("rcpt 450 4.2.0 later first=1")
    async with Sink(None, refusing) as sink, inside(tmp_path, outage, sink, **settings) as run:
        await run.until("it is deferred", lambda: run.state_of(file) == "deferred")
        async with run.service.pipeline.feed.taken_out(file.stem):
            run.service.pipeline.resources.signals.wake()
            for _ in range(10):
                await asyncio.sleep(0)
        await run.until("all is delivered", lambda: run.taken() == run.owed())
