"""An entry is dropped whose recipients may have the mail: no copy of it goes to them before an operator says so."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from drainer.backlog.selection import Selectors
from drainer.control.messages.journal import UndoRequest
from drainer.control.messages.pauses_and_rates import PauseRequest, ResumeRequest
from drainer.demo.misbehaviour import Rule
from drainer.demo.sample_queue import write_plain
from drainer.demo.sink import Sink
from tests.stages.inside import ME, Inside, inside
from tests.stages.test_taken_out import copied, only

LOST = "dot take-and-hang-up first=1"
HOLD = {"in_doubt": "hold"}
ALONE = {"sessions": 1}
TWICE_BY_ORDER = [1, 2, 2]
"""Copies a recipient has: two of the three were in doubt, and the operator said "send again"."""


async def both_held(run: Inside, original: Path, copy: Path) -> None:
    await run.until("both are held", lambda: (run.state_of(original), run.state_of(copy)) == ("held", "held"))


async def test_copy_of_a_dropped_entry_is_held_for_those_who_were_in_doubt(tmp_path: Path) -> None:
    """Dropped at the moment the doubt is held, while the copy still waits for it."""
    outage = write_plain(tmp_path, 1, 3)
    original = only(outage)
    copy = copied(original)
    async with Sink(None, Rule.parse(LOST)) as sink:
        async with inside(tmp_path, outage, sink, ledger=HOLD, mta=ALONE) as run:
            with run.held_up("resolve", after=True) as resolving:
                await resolving.reached.wait()
                dropping = asyncio.create_task(run.asks.drop(run.of(original), ME))
                resolving.go_on()
                assert (await dropping).changed == 1
            await run.until("the copy is held", lambda: run.state_of(copy) == "held")
            (line,) = (await run.asks.entries(Selectors(entry=copy.stem), 1)).entries
            assert line.reason == f"in_doubt: 2 recipients, by {original.stem}"
            assert run.taken() == run.owed()
        async with inside(tmp_path, outage, sink, ledger=HOLD, mta=ALONE) as run:
            assert (run.state_of(original), run.state_of(copy)) == (None, "held")
            released = await run.asks.release(run.of(copy), ME)
            assert (released.changed, released.may_have_it) == (1, 2)
            await run.until("it is sent", lambda: run.state_of(copy) is None)
            assert sorted(run.taken().values()) == TWICE_BY_ORDER


@pytest.mark.parametrize("what", ["drop", "release"])
async def test_undoing_leaves_those_in_doubt_held(tmp_path: Path, what: str) -> None:
    """Whether the drop of the original is undone or the release of the copy."""
    outage = write_plain(tmp_path, 1, 3)
    original = only(outage)
    copy = copied(original)
    async with Sink(None, Rule.parse(LOST)) as sink:
        async with inside(tmp_path, outage, sink, ledger=HOLD, mta=ALONE) as run:
            await both_held(run, original, copy)
            dropped = await run.asks.drop(run.of(original), ME)
            if what == "drop":
                await run.asks.undo(UndoRequest(number=dropped.number, yes=True), ME)
                await both_held(run, original, copy)
            else:
                await run.asks.pause(PauseRequest(), ME)  # it is not sent before the release is undone
                released = await run.asks.release(run.of(copy), ME)
                undone = await run.asks.undo(UndoRequest(number=released.number, yes=True), ME)
                assert undone.changed == 1
                await run.asks.resume(ResumeRequest(), ME)
                await run.until("the copy is held again", lambda: run.state_of(copy) == "held")
            assert (await run.asks.release(run.of(copy), ME)).may_have_it == 2
            await run.until("the copy is sent", lambda: run.state_of(copy) is None)
            assert sorted(run.taken().values()) == TWICE_BY_ORDER
        async with inside(tmp_path, outage, sink, ledger=HOLD, mta=ALONE) as run:
            assert run.state_of(original) == ("held" if what == "drop" else None)
            if what == "drop":
                await run.asks.release(run.of(original), ME)
            await run.until("nothing is left", lambda: run.state_of(original) is None)
            assert sorted(run.taken().values()) == TWICE_BY_ORDER, "the copy has settled them"
