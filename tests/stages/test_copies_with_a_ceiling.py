"""A mail and its copy wait for the ceilings of domains: the first one delivers, the copy is suppressed, and so counted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from drainer.demo.sample_queue import write_plain
from drainer.demo.sink import Sink
from tests.stages.inside import inside
from tests.stages.test_taken_out import copied, only

MEMBERS, DOMAINS = 12, ("one.example", "two.example", "free.example")


async def test_copy_that_waits_in_a_lane_delivers_nothing_of_what_its_original_owes(tmp_path: Path) -> None:
    """Two domains have a ceiling: the original and its copy could stand in two lanes, and deliver in turns."""
    outage = write_plain(tmp_path, 1, MEMBERS, domains=DOMAINS)
    copied(only(outage))
    feed: dict[str, Any] = {"messages": "unlimited", "domains": dict.fromkeys(DOMAINS[:2], "2/s")}
    async with Sink(None) as sink, inside(tmp_path, outage, sink, feed=feed) as run:
        totals = run.resources.index.totals
        await run.until("all is done", lambda: run.taken() and not totals.overall().entries)
        assert run.taken() == run.owed()
        done = (await run.status()).done
        assert (done.delivered_entries, done.delivered_recipients) == (1, MEMBERS)
        assert (done.suppressed_entries, done.suppressed_recipients) == (1, MEMBERS)
        assert len(run.files("duplicates")) == 1, "the copy can be brought back"
