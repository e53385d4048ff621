"""An operator's command comes between the final dot and the reply: what the reply says is heeded all the same."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from drainer.control.messages.pauses_and_rates import PauseRequest, ResumeRequest
from drainer.demo.misbehaviour import Behaviour, Rule, SinkStep
from drainer.demo.sample_queue import write_plain
from drainer.demo.sink import Sink
from tests.stages.inside import ME, Inside, inside


class Withheld:
    """Script: the first reply to a final dot waits for so long; `begun` is set when the dot has come."""

    def __init__(self, behaviour: Behaviour) -> None:
        self.begun = asyncio.Event()
        self._behaviour = behaviour

    def __call__(self, step: SinkStep) -> Behaviour | None:
        if step.stage != "dot" or self.begun.is_set():
            return None
        self.begun.set()
        return self._behaviour


async def paused_in_the_middle(run: Inside, withheld: Withheld) -> None:
    """A pause between the final dot and its reply; when all is put back, it is ended."""
    await withheld.begun.wait()
    await run.asks.pause(PauseRequest(), ME)
    await run.until("nothing is in delivery", lambda: not run.service.pipeline.feed.active)
    await run.asks.resume(ResumeRequest(), ME)


async def test_doubt_that_arises_while_paused_is_resolved(tmp_path: Path) -> None:
    """`drainer pause; systemctl restart postfix; drainer resume`: nothing else shows that there is a doubt."""
    outage = write_plain(tmp_path, 1, 3)
    lost = Withheld(Behaviour(b"", "hang_up", delay_s=0.3))
    settings: dict[str, dict[str, Any]] = {"ledger": {"in_doubt": "resend"}, "mta": {"sessions": 1}}
    async with Sink(None, lost) as sink, inside(tmp_path, outage, sink, until_empty=True, **settings) as run:
        await paused_in_the_middle(run, lost)
        assert await run.ended() == 0
        assert run.taken() == run.owed()


async def test_dsn_for_who_was_refused_while_paused_is_sent(tmp_path: Path) -> None:
    outage = write_plain(tmp_path, 1, 3)
    slow = Withheld(Behaviour(delay_s=0.3))
    refusing = Rule.parse("rcpt 550 5.1.1 no such user recipient=*0.*")
    mta = {"sessions": 1}
    async with Sink(None, slow, refusing) as sink, inside(tmp_path, outage, sink, until_empty=True, mta=mta) as run:
        await paused_in_the_middle(run, slow)
        assert await run.ended() == 0
        assert [one.reverse_path for one in sink.taken].count("") == 1
