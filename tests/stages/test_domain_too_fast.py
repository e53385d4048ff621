"""A provider that we feed directly says that we are too fast for one domain: that domain slows down, and no other does."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, Literal

import pytest

from drainer.demo.misbehaviour import Behaviour, SinkStep, answer
from drainer.demo.sample_queue import write_plain
from drainer.demo.sink import Sink
from drainer.stages.domain_ceilings import DomainCeilings
from tests.stages.inside import inside

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
