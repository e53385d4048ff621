"""What cannot be read, or is not there any more when it has been, costs no more than itself."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

from drainer.backlog.readers import CANNOT_READ, EntryRead
from drainer.backlog.selection import Selectors
from drainer.cli.hold import _lines as hold_lines
from drainer.control.messages.entries import SelectRequest
from drainer.control.messages.journal import UndoRequest
from drainer.demo.sample_queue import write_plain
from drainer.demo.sink import Sink
from drainer.report.terminal.status import status_lines
from drainer.report.words import status_line
from tests.stages.inside import ME, inside
from tests.stages.test_taken_out import only


async def test_entry_that_may_not_be_read_is_held_once_and_read_when_released(tmp_path: Path) -> None:
    outage = write_plain(tmp_path, 1, 3)
    file = only(outage)
    content = file.read_bytes()
    file.unlink()
    async with Sink() as sink, inside(tmp_path, outage, sink) as run:
        reads: list[str | Path] = []

        def refused(paths: Sequence[str | Path]) -> list[EntryRead]:
            reads.extend(paths)
            return [EntryRead(str(path), None, CANNOT_READ, "Permission denied") for path in paths]

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(run.resources.readers, "read", refused)
            run.arrive(file, content)
            await run.until("it is held", lambda: run.state_of(file) == "held")
            await run.until("nothing is left to do", lambda: run.service.situation.state == "idle")
            assert len(reads) == 1
            said = await run.status()
            assert (said.backlog.held_entries, said.backlog.unread_entries, said.eta.state) == (1, 0, "done")
            assert "not read yet" not in "".join(status_lines(said, 200))
        await run.asks.release(run.of(file), ME)
        await run.until("all is delivered", lambda: run.taken() == run.owed())


async def test_held_unreadable_entry_is_dropped_and_brought_back_like_any_other(tmp_path: Path) -> None:
    outage = write_plain(tmp_path, 1, 3)
    async with Sink() as sink, inside(tmp_path, outage, sink) as run:
        odd = next((Path(__file__).parents[1] / "samples" / "odd" / "no-recipient-key").iterdir())
        file = outage.queue_dir / "out" / odd.name
        run.arrive(file, odd.read_bytes())
        await run.until("it is held", lambda: run.state_of(file) == "held")
        reply = await run.asks.drop(run.of(file), ME)
        assert (reply.changed, reply.skipped) == (1, [])
        assert (run.custody / "duplicates" / odd.name).read_bytes() == odd.read_bytes()
        said = await run.status()
        assert (said.backlog.held_entries, said.done.dropped_entries) == (0, 1)
        undone = await run.asks.undo(UndoRequest(yes=True), ME)
        assert (undone.done, undone.changed, undone.left) == (True, 1, [])
        assert (run.custody / "held" / odd.name).read_bytes() == odd.read_bytes()
        hold = await run.resources.ledger.hold_of(file.stem)
        assert hold is not None and hold.reason == "no_recipient_list"
        said = await run.status()
        assert (said.backlog.held_entries, said.backlog.unread_entries) == (1, 0)
        await run.until("all is delivered", lambda: run.taken() == run.owed())


async def test_while_entries_are_unread_no_answer_says_that_they_have_no_recipients(tmp_path: Path) -> None:
    outage = write_plain(tmp_path, 2, 3)
    files = {file: file.read_bytes() for file in (outage.queue_dir / "out").iterdir()}
    for file in files:
        file.unlink()
    async with Sink() as sink, inside(tmp_path, outage, sink, feed={"messages": "0/s"}) as run:
        with run.not_reading() as reading:
            for file, content in files.items():
                run.arrive(file, content)
            await run.until("they are listed", lambda: run.resources.index.totals.overall().unread_entries == 2)
            assert "; 2 entries left, recipients not counted yet; " in status_line(await run.status())
            everything = SelectRequest(selectors=Selectors(), yes=False)
            reply = await run.asks.handback(everything, ME)
            assert (reply.matched, reply.recipients, reply.unread) == (2, 0, 2)
            assert "hold 2 entries, recipients not counted yet" in " ".join(hold_lines("hold", reply))
            assert (await run.asks.eta(None, None, "")).unread_entries == 2
            reading.go_on()
            await run.until("they are read", lambda: not run.resources.index.totals.overall().unread_entries)
        assert "; 2 entries, 6 recipients left; " in status_line(await run.status())
        reply = await run.asks.handback(everything, ME)
        assert (reply.recipients, reply.unread) == (6, 0)


async def test_unreadable_entry_removed_by_hand_before_it_is_set_aside_ends_nothing(
    tmp_path: Path,
) -> None:
    outage = write_plain(tmp_path, 1, 3)
    file = only(outage)
    content = file.read_bytes()
    file.unlink()
    async with Sink() as sink, inside(tmp_path, outage, sink) as run:
        broken = file.with_name(f"1700000000.5+{'ab' * 20}.pck")
        with run.not_reading(after=True) as reading:
            run.arrive(broken, b"no pickle")
            await reading.reached.wait()
            (run.custody / "backlog" / broken.name).unlink()
            reading.go_on()
            await run.until("it is forgotten", lambda: run.state_of(broken) is None)
        run.arrive(file, content)
        await run.until("all is delivered", lambda: run.taken() == run.owed())


async def test_entry_that_is_taken_and_not_listed_yet_is_backlog(tmp_path: Path) -> None:
    """Making it durably ours takes a moment, in which `run --until-empty` would have ended."""
    outage = write_plain(tmp_path, 2, 3)
    first, second = sorted((outage.queue_dir / "out").iterdir())
    content = second.read_bytes()
    second.unlink()
    begun, may_end = threading.Event(), threading.Event()
    async with Sink() as sink, inside(tmp_path, outage, sink, feed={"messages": "0"}, until_empty=True) as run:
        await run.until("it is read", lambda: run.state_of(first) == "active")
        sync = run.resources.custody.sync

        def slowly() -> None:
            begun.set()
            may_end.wait()
            sync()

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(run.resources.custody, "sync", slowly)
            run.arrive(second, content)
            await run.until("it is taken", begun.is_set)
            run.resources.rate.limit(run.service.settings.feed.model_copy(update={"messages": None}), None, None)
            try:
                await run.until("the other is finished", lambda: run.state_of(first) is None)
                assert (await run.status()).backlog.entries == 1
                assert not run.service._each_second.is_empty()
            finally:
                may_end.set()
        assert await run.ended() == 0
        assert run.service._why_stopped == "nothing is left"
        assert run.taken() == run.owed()
