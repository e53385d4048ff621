"""The service stops while an undo waits for the ledger: exactly what the ledger has is done."""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager, suppress
from pathlib import Path
from typing import Any

import pytest

from drainer.backlog.selection import Selectors
from drainer.backlog.states import EntryState
from drainer.control.messages.entries import SelectRequest
from drainer.control.messages.journal import UndoRequest
from drainer.control.messages.pauses_and_rates import RateRequest
from drainer.demo.sample_queue import write_plain
from drainer.demo.sink import Sink
from drainer.errors import CustodyRefused
from tests.stages.inside import ME, Inside, inside

STOPPED: dict[str, Any] = {"messages": 0, "recipients": "unlimited"}
EVERYTHING = SelectRequest(selectors=Selectors(), yes=True)


async def undo_cut_off(run: Inside) -> None:
    """As aiohttp does it when the service stops: in the moment between the commit and whoever waits for it."""
    with run.held_up("put_back", after=True) as held:
        undo = asyncio.create_task(run.asks.undo(UndoRequest(yes=True), ME))
        await held.reached.wait()
        undo.cancel()
        await asyncio.sleep(0)
        held.go_on()
        with suppress(asyncio.CancelledError):
            await undo


@pytest.mark.parametrize("verb", ["drop", "hold"])
async def test_entry_the_ledger_has_put_back_is_where_the_ledger_says_and_is_delivered_once(
    tmp_path: Path, verb: str
) -> None:
    outage = write_plain(tmp_path, 3, 2)
    async with Sink(None) as sink:
        async with inside(tmp_path, outage, sink, feed=STOPPED) as run:
            await run.until("all are read", lambda: run.resources.index.totals.overall().entries == 3)
            await getattr(run.asks, verb)(EVERYTHING, ME)
            await undo_cut_off(run)
        async with inside(tmp_path, outage, sink) as run:
            held = run.resources.index.totals.overall().held_entries
            assert held == len(run.files("held")) == (2 if verb == "hold" else 0)
            assert len(run.files("duplicates")) == (2 if verb == "drop" else 0)
            number = (await run.asks.journal(100)).actions[-2].number
            assert (await run.asks.undo(UndoRequest(number=number, yes=True), ME)).changed == 2
            await run.until("all is delivered", lambda: not run.resources.index.totals.overall().entries)
            assert run.taken() == run.owed()


async def test_drop_that_was_cut_off_and_comes_to_its_end_under_the_undo_is_taken_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outage = write_plain(tmp_path, 1, 2)
    async with Sink(None) as sink, inside(tmp_path, outage, sink, feed=STOPPED) as run:
        await run.until("it is read", lambda: run.resources.index.totals.overall().recipients == 2)
        with run.held_up("finish_entry") as held:
            with monkeypatch.context() as patch:
                patch.setattr(run.resources.custody, "drop", refusing)
                assert (await run.asks.drop(EVERYTHING, ME)).changed == 0
            await run.asks.set_rate(RateRequest(messages="unlimited"), ME)
            await run.until("its recipients were given up, and its file follows", held.reached.is_set)
            feed, asked_for = run.service.pipeline.feed, list[str]()
            taken_out = feed.taken_out

            def noted(filebase: str) -> AbstractAsyncContextManager[EntryState]:
                asked_for.append(filebase)
                return taken_out(filebase)

            monkeypatch.setattr(feed, "taken_out", noted)
            undo = asyncio.create_task(run.asks.undo(UndoRequest(number=1, yes=True), ME))
            await run.until("the undo waits for its turn to end", lambda: asked_for)
            held.go_on()
            assert (await undo).changed == 1
        await run.until("it is delivered", lambda: not run.resources.index.totals.overall().entries)
        assert run.taken() == run.owed()


def refusing(filebase: str) -> str:
    raise CustodyRefused(f"cannot move {filebase}: no room for one more name")
