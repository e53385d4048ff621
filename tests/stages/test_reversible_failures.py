"""Failures of an MTA that was put right: tried again, also those of an entry that is settled only afterwards."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from drainer.clock import StoppedClock, SystemClock
from drainer.control.messages.pauses_and_rates import RateRequest, ResumeRequest
from drainer.demo.misbehaviour import Rule
from drainer.demo.sample_queue import write_plain
from drainer.demo.sink import Sink
from drainer.ledger.states import DsnState
from drainer.queuedir.custody import Custody
from drainer.stages.mta_trust import REFUSALS
from drainer.stages.reversible_failures import ReversibleFailures
from tests.queuedir.conftest import make_queue_dir
from tests.stages.inside import ME, inside

DOMAINS = (
    "a.example.org",
    "b.example.org",
    "c.example.org",
    "d.example.org",
    "a.example.com",
    "b.example.com",
    "gone.example.com",
)
ENTRY = "1700000360.702018+ee98140ad1a1deb6f63341f114120384d61b6ce9"


async def test_entry_settled_after_the_operator_resumed_is_tried_again_though_the_mta_is_believed_by_then(
    tmp_path: Path,
) -> None:
    clock = StoppedClock()
    with Custody(make_queue_dir(tmp_path / "qfiles"), clock=clock) as custody:
        (custody.backlog / f"{ENTRY}.pck").write_bytes(b"")
        listed: list[Any] = []
        undone: list[str] = []

        async def keep(_: object) -> None:
            await asyncio.sleep(0)

        async def undo_failures(filebases: list[str], at_s: float) -> int:
            undone.extend(filebases)
            return 4

        ledger = SimpleNamespace(keep=keep, undo_failures=undo_failures)
        index = SimpleNamespace(add_listed=listed.extend)
        signals = SimpleNamespace(unread=asyncio.Event())
        resources = SimpleNamespace(clock=clock, custody=custody, ledger=ledger, index=index, signals=signals)
        failures = ReversibleFailures(cast(Any, resources))
        await failures.try_again(clock.now_s() - 1)

        settling = asyncio.create_task(failures.keep(ENTRY, [clock.now_s()]))
        await asyncio.sleep(0)
        await failures.believe()  # a recipient was accepted meanwhile
        await settling

        (again,) = [file for file, _ in listed]
        assert again.filebase != ENTRY and (custody.backlog / again.name).exists()
        assert undone == [ENTRY] and not list(custody.duplicates.iterdir())


@pytest.mark.parametrize("restarts", [0, 1, 2])
async def test_recipient_whom_the_broken_mta_refused_is_tried_again_though_the_repaired_one_refuses_another_of_the_entry(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, restarts: int
) -> None:
    """Their transactions are apart: feeding stopped between the two, and the MTA is put right a minute later. The operator
    resumes, or restarts the service instead, once more before the entry is settled."""
    ahead_s = 0.0
    monkeypatch.setattr(SystemClock, "now_s", lambda _: time.time() + ahead_s)
    outage = write_plain(tmp_path, 30, len(DOMAINS), domains=DOMAINS)
    alone = {"sessions": 1}
    async with Sink(None, Rule.parse("rcpt 550 5.1.1 User unknown")) as sink:
        async with inside(tmp_path, outage, sink, until_empty=not restarts, mta=alone) as run:
            await run.until("it has stopped", lambda: REFUSALS in run.resources.gate.reasons)
            await run.until("nothing is in flight", lambda: not run.service.pipeline.feed.active)
            assert run.resources.index.totals.overall().recipients % len(DOMAINS), (
                "some of an entry, not all, have failed"
            )
            ahead_s = 60.0
            sink.scripts[:] = [Rule.parse("rcpt 550 5.1.1 gone recipient=*@gone.example.com")]
            if not restarts:
                await run.asks.resume(ResumeRequest(), ME)
                assert await run.ended() == 0
        if restarts == 2:
            async with inside(tmp_path, outage, sink, mta=alone, feed={"messages": "0"}):
                ahead_s = 120.0
        if restarts:
            async with inside(tmp_path, outage, sink, until_empty=True, mta=alone) as run:
                assert await run.ended() == 0
        gone = Counter({copy: 1 for copy in run.owed() if copy[1].endswith("@gone.example.com")})
        assert run.taken() == run.owed() - gone
        assert [one.reverse_path for one in sink.taken].count("") == gone.total()


async def test_dsn_that_is_about_to_be_sent_goes_with_its_failure_that_is_undone_and_feeding_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    outage = write_plain(tmp_path, 2, 3)
    first, second = sorted((outage.queue_dir / "out").iterdir())
    mails = {path: path.read_bytes() for path in (first, second)}
    for path in mails:
        path.unlink()
    async with Sink(None, Rule.parse("rcpt 550 5.1.1 gone first=1")) as sink, inside(tmp_path, outage, sink) as run:
        with run.held_up("move_dsns") as begun:
            run.arrive(first, mails[first])
            await begun.reached.wait()
            assert await run.resources.ledger.undo_failures([first.stem], time.time()) == 1
        await run.until("it is not sent", lambda: "outcome=dsn_gone" in caplog.text)
        assert not run.resources.gate.reasons
        run.arrive(second, mails[second])
        await run.until("the next mail is out", lambda: run.taken().total() == 5)
        assert "" not in [one.reverse_path for one in sink.taken]


async def test_dsns_of_a_broken_mta_are_dropped_though_one_of_them_goes_meanwhile_with_its_failure(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    outage = write_plain(tmp_path, 30, 5)
    refusing = Rule.parse("rcpt 550 5.1.1 User unknown")
    async with Sink(None, refusing) as sink, inside(tmp_path, outage, sink, feed={"messages": "0"}) as run:
        await run.until("all are read", lambda: not run.resources.index.totals.overall().unread_entries)
        ledger = run.resources.ledger
        with run.held_up("move_dsns") as dropping:
            await run.asks.set_rate(RateRequest(messages="unlimited"), ME)
            await dropping.reached.wait()
            owed = [dsn.filebase for dsn in await ledger.dsns(DsnState.OWED, 1_000)]
            first, *others = dict.fromkeys(owed)
            assert await ledger.undo_failures([first], time.time())
        dropped = [f"outcome=dsn_dropped filebase={entry}" for entry in others]
        await run.until("the others' are dropped", lambda: all(line in caplog.text for line in dropped))
        assert not sink.taken
