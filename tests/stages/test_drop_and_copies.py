"""A drop is not undone where Mailman may have sent a copy of the mail since, whatever the clock says of what came first."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from drainer.clock import SystemClock
from drainer.control.messages.domains import DomainRequest
from drainer.control.messages.journal import UndoRequest
from drainer.control.messages.pauses_and_rates import RateRequest, ResumeRequest
from drainer.demo.sample_queue import write_plain
from drainer.demo.sink import Sink
from drainer.errors import RequestRefused
from tests.stages.inside import ME, Inside, inside

WAITS, GOES = "gmail.com", "example.net"


@asynccontextmanager
async def given_in_part(
    home: Path, monkeypatch: pytest.MonkeyPatch, ahead_s: float
) -> AsyncIterator[tuple[Inside, Path, int | None]]:
    """A mail for two is dropped; a copy of it goes to one of them, and to Mailman for the other one. Then the clock, by now
    ahead, is set right. Out: the run, the copy's file, the number of the drop."""
    off_s = [ahead_s]
    monkeypatch.setattr(SystemClock, "now_s", lambda _: time.time() + off_s[0])
    outage = write_plain(home, 1, 2, domains=(WAITS, GOES))
    feed, resends = {"messages": "0/s"}, {"resend": "deliver"}
    async with Sink() as sink, inside(home, outage, sink, feed=feed, duplicates=resends) as run:
        await run.until("it is read", lambda: run.resources.index.totals.by_domain(False))
        (name,) = run.files("backlog")
        dropped, copy = run.custody / "backlog" / name, outage.queue_dir / "out" / f"1700009999.7+{'7' * 40}.pck"
        content = dropped.read_bytes()
        number = (await run.asks.drop(run.of(dropped), ME)).number
        await run.asks.order_domain(DomainRequest(domain=WAITS, pause_s=0.0), ME)
        run.arrive(copy, content)
        await run.asks.set_rate(RateRequest(messages="unlimited"), ME)
        await run.until("one of the two has it", lambda: sum(run.taken().values()) == 1)
        await run.until("the other one waits", lambda: run.resources.index.totals.lanes() == {WAITS: 1})
        off_s[0] = 0.0
        assert (await run.asks.handback(run.of(copy), ME)).changed == 1
        yield run, copy, number


@pytest.mark.parametrize("ahead_s", [0.0, 10_800.0], ids=["clock_right", "clock_set_back"])
async def test_drop_is_not_undone_if_mailman_has_its_copy_for_somebody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ahead_s: float
) -> None:
    async with given_in_part(tmp_path, monkeypatch, ahead_s) as (run, copy, number):
        copy.unlink()  # Mailman has sent it to the other one
        with pytest.raises(RequestRefused, match=r"Mailman was given 1700009999\.7\S+, a copy of it, since"):
            await run.asks.undo(UndoRequest(number=number, yes=True), ME)


async def test_drop_is_undone_if_its_copy_came_back_from_mailman_and_was_delivered_here_and_nobody_gets_it_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with given_in_part(tmp_path, monkeypatch, 10_800.0) as (run, _, number):
        await run.asks.resume(ResumeRequest(), ME)
        await run.asks.order_domain(DomainRequest(domain=WAITS, auto=True), ME)
        await run.until("both have it, and it is gone", lambda: run.taken() == run.owed() and not run.files("backlog"))
        assert (await run.asks.undo(UndoRequest(number=number, yes=True), ME)).changed == 1
        await run.until("it is gone again", lambda: not run.files("backlog"))
        assert run.taken() == run.owed()
