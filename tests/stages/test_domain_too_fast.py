"""A provider that we feed directly says that we are too fast for one domain: that domain slows down, and no other does."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, Literal

import pytest

import drainer.stages.domain_paces
import drainer.stages.turn
from drainer.backlog.states import EntryState
from drainer.control.messages.pauses_and_rates import PauseRequest, ResumeRequest
from drainer.demo.misbehaviour import Behaviour, Rule, SinkStep, answer
from drainer.demo.sample_queue import write_plain
from drainer.demo.sink import Sink
from drainer.stages.domain_ceilings import DomainCeilings
from drainer.stages.domain_paces import SEVERAL
from tests.stages.inside import ME, Inside, inside

BAD, GOOD = "gmail.com", "example.net"
FEED: dict[str, Any] = {"messages": "unlimited", "retry_first": "1s", "retry_longest": "2s"}
REPLY = "4.7.28 Gmail has detected an unusual rate of mail; slow down for gmail.com"


class TooFast:
    """Takes `per_s` recipients of the bad domain in a second, and refuses the others at this stage."""

    def __init__(self, stage: Literal["rcpt", "dot"], code: int, per_s: float) -> None:
        self.stage, self.code, self.per_s = stage, code, per_s
        self.tokens, self.at_s = per_s, 0.0
        self.refused = 0

    def __call__(self, step: SinkStep) -> Behaviour | None:
        if step.stage != self.stage:
            return None
        names = [step.recipient] if self.stage == "rcpt" else [*step.recipients]
        bad = sum(name.endswith(BAD) for name in names)
        if not bad:
            return None
        now_s = asyncio.get_running_loop().time()
        self.tokens = min(self.per_s, self.tokens + (now_s - (self.at_s or now_s)) * self.per_s)
        self.at_s = now_s
        if self.tokens >= bad:
            self.tokens -= bad
            return None
        self.refused += 1
        return answer(f"{self.code} {REPLY}")


@pytest.mark.parametrize(("stage", "code"), [("rcpt", 421), ("dot", 451)])
async def test_one_domain_slows_down_and_everybody_has_every_mail_once(
    tmp_path: Path, stage: Literal["rcpt", "dot"], code: int
) -> None:
    outage = write_plain(tmp_path, 25, 2, domains=(BAD, GOOD))
    too_fast = TooFast(stage, code, 8.0)
    async with Sink(None, too_fast) as sink, inside(tmp_path, outage, sink, until_empty=True, feed=FEED) as run:
        ceilings = run.service.pipeline.domains
        await run.until("it has slowed down", lambda: BAD in ceilings.in_force)
        assert (ceilings.in_force[BAD].set_by, set(ceilings.in_force)) == ("learnt", {BAD})
        assert REPLY in ceilings.in_force[BAD].cause
        assert await run.ended() == 0
        assert run.taken() == run.owed()


async def test_log_that_says_nothing_of_a_domain_slows_nobody_down(tmp_path: Path) -> None:
    outage, log = write_plain(tmp_path, 150, 1, domains=(GOOD,)), tmp_path / "mail.log"
    log.touch()
    ceilings: list[DomainCeilings] = []
    slowed: list[str] = []

    def noted(_: SinkStep) -> None:
        for known in ceilings:
            known.renew()
            slowed.extend(known.limits.per_s)

    settings: dict[str, Any] = {"feed": FEED, "mta": {"log_file": log}}
    async with Sink(None, noted) as sink, inside(tmp_path, outage, sink, until_empty=True, **settings) as run:
        ceilings.append(run.service.pipeline.domains)
        assert await run.ended() == 0
        assert run.taken() == run.owed()
    assert slowed == []


async def test_domain_that_closes_our_sessions_does_not_make_the_mta_dead(tmp_path: Path) -> None:
    outage, states = write_plain(tmp_path, 8, 1, domains=(BAD,)), set[str]()
    refused = 0

    def six_times(step: SinkStep) -> Behaviour | None:
        nonlocal refused
        if runs:
            states.add(runs[0].resources.pool.state.state)
        if step.stage != "rcpt" or refused >= 6:
            return None
        refused += 1
        return answer(f"421 {REPLY}")

    runs: list[Inside] = []
    feed = FEED | {"domains": {BAD: "1000/s"}}  # so that it is tried again and again before a pace is learnt
    async with Sink(None, six_times) as sink, inside(tmp_path, outage, sink, until_empty=True, feed=feed) as run:
        runs.append(run)
        assert await run.ended() == 0
        assert run.taken() == run.owed() and refused == 6
        assert "down" not in states and not any(heard.lost for heard in run.resources.rate.pace.recent)


async def test_entry_whose_domain_closes_our_sessions_waits_for_its_ceiling_and_is_not_put_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drainer.stages.turn, "LOSSES_IN_A_ROW", 1)
    monkeypatch.setattr(drainer.stages.domain_paces, "AT_ONCE_S", 0.0)
    outage = write_plain(tmp_path, 1, 1, domains=(BAD,))
    async with Sink(None, Rule.parse(f"rcpt 421 {REPLY}")) as sink, inside(tmp_path, outage, sink, feed=FEED) as run:
        index = run.resources.index
        await run.until("it was refused", lambda: BAD in run.service.pipeline.domains.in_force)
        await run.until("it waits", lambda: index.totals.lanes() == {BAD: 1} or index.order.last_due_s() is not None)
        (file,) = (outage.queue_dir / "drainer" / "backlog").glob("*.pck")
        assert run.state_of(file) == EntryState.WAITING


async def test_mta_that_closes_sessions_for_every_domain_is_in_trouble_itself(tmp_path: Path) -> None:
    domains = tuple(f"d{number}.example" for number in range(8))
    outage = write_plain(tmp_path, 2, 8, domains=domains)
    feed = FEED | {"max_recipients": 1}
    all_refused = Rule.parse("rcpt 421 4.7.0 you are sending too fast")
    async with Sink(None, all_refused) as sink, inside(tmp_path, outage, sink, feed=feed) as run:
        await run.until("it is noticed", lambda: run.resources.pool.state.state == "down")
        assert len(run.service.pipeline.paces.learnt) < SEVERAL


async def test_place_under_a_ceiling_is_free_again_if_the_turn_is_interrupted_before_anything_was_sent(
    tmp_path: Path,
) -> None:
    outage = write_plain(tmp_path, 2, 1, domains=(BAD,))
    contents = {file: file.read_bytes() for file in (outage.queue_dir / "out").glob("*.pck")}
    for file in contents:
        file.unlink()
    feed = FEED | {"domains": {BAD: "1/h"}}
    async with Sink() as sink, inside(tmp_path, outage, sink, feed=feed) as run:
        with run.held_up("history") as held:
            for file, content in contents.items():
                run.arrive(file, content)
            await held.reached.wait()
            await run.asks.pause(PauseRequest(), ME)
            await run.until("nothing is in delivery", lambda: not run.service.pipeline.feed.active)
        await run.asks.resume(ResumeRequest(), ME)
        await run.until("one of them has gone", lambda: sink.taken)
        assert run.resources.index.totals.lanes() == {BAD: 1}, "and the other one waits for its hour"
