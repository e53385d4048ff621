"""The next run starts from what this MTA bore in the last one, and writes down what it bore in this one."""

from __future__ import annotations

from pathlib import Path

from drainer.demo.sample_queue import write_plain
from drainer.demo.sink import Sink
from drainer.feed.adaptive_rate import START_PER_S
from drainer.feed.borne import KEPT_AS, Bore, known_from, octets_of
from drainer.feed.concurrency import START_SESSIONS
from drainer.stages.what_mta_bore import WhatMtaBore
from tests.stages.inside import inside


async def test_a_run_starts_from_what_this_mta_bore_and_from_nothing_that_another_bore(tmp_path: Path) -> None:
    outage = write_plain(tmp_path / "site", 1, 1)
    feed = {"messages": "unlimited", "adaptive": True}
    async with Sink() as sink, inside(tmp_path, outage, sink, feed=feed) as run:
        resources = run.resources
        await run.until("the entry is gone", lambda: sink.taken)
        assert resources.rate.pace.per_s >= START_PER_S and resources.pool.limit == START_SESSIONS
        bore = Bore(80.0, True, 7, 0.05, resources.clock.now_s())
        for mta, per_s, sessions in (
            ("elsewhere:25", START_PER_S, START_SESSIONS),
            (f"127.0.0.1:{sink.port}", 72.0, 7),
        ):
            await resources.ledger.keep({KEPT_AS: octets_of({mta: bore})})
            await WhatMtaBore(resources).recover()
            assert resources.rate.pace.per_s == per_s and resources.pool.limit == sessions
        assert "last time" in resources.rate.pace.reason


async def test_what_a_drain_showed_is_in_the_ledger_when_it_is_over(tmp_path: Path) -> None:
    outage = write_plain(tmp_path / "site", 120, 1)
    feed = {"messages": "unlimited", "adaptive": True}
    async with Sink() as sink, inside(tmp_path, outage, sink, feed=feed) as run:
        await run.until("all are delivered", lambda: len(sink.taken) == 120)
        await run.until("a rate is known", lambda: run.resources.rate.borne_per_s)
        await run.service.pipeline.bore.keep()
        known = known_from(await run.resources.ledger.kept(KEPT_AS))
        assert known[f"127.0.0.1:{sink.port}"].per_s > 1
