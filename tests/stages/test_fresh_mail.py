"""New mail of a live list does not wait behind the backlog, and a backup that is put back does not go ahead with it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from drainer.control.messages.pauses_and_rates import PauseRequest, ResumeRequest
from drainer.demo.sample_queue import write_plain
from drainer.demo.sink import Sink
from tests.stages.inside import ME, inside

BACKLOG, FRESH = 60, 5
RESTORED = BACKLOG + FRESH
"""The last mail: a day old, and written anew while the backlog drains."""


async def order_of_delivery(tmp_path: Path, **feed: object) -> list[int]:
    """Serial numbers of the mails that went after the last ones had come. They come while feeding is paused, so that what
    goes when does not depend on how fast this machine is."""
    outage = write_plain(tmp_path, RESTORED + 1, 2, start_s=time.time() - 10 * 86_400)
    out = outage.queue_dir / "out"
    files = sorted(out.iterdir(), key=lambda path: float(path.name.partition("+")[0]))
    contents = [path.read_bytes() for path in files]
    for path in files[BACKLOG:]:
        path.unlink()
    settings: dict[str, dict[str, Any]] = {
        "feed": {"messages": "unlimited", "adaptive": False, **feed},
        "mta": {"sessions": 2},
    }
    async with Sink(None) as sink, inside(tmp_path, outage, sink, until_empty=False, **settings) as run:
        await run.asks.pause(PauseRequest(), ME)
        for serial in range(BACKLOG, RESTORED + 1):
            received_s = time.time() - (86_400 if serial == RESTORED else 0)
            run.arrive(out / f"{received_s!r}+{files[serial].name.partition('+')[2]}", contents[serial])
        index, feed_stage = run.resources.index, run.service.pipeline.feed
        await run.until(
            "all are known",
            lambda: (
                not feed_stage.active
                and not any(out.iterdir())
                and not (totals := index.totals.overall()).unread_entries
                and totals.recipients == (run.owed() - run.taken()).total()
            ),
        )
        before = len(sink.taken)
        assert before < BACKLOG // 2, "most of the backlog is still here"
        await run.asks.resume(ResumeRequest(), ME)
        await run.until("all is gone", lambda: index.totals.overall().entries == 0)
        assert run.taken() == run.owed()
        return [int(one.message_id[1:7]) for one in sink.taken[before:]]


@pytest.mark.parametrize("feed", [{"order": "fresh"}, {"order": "fair", "fresh_lane": True}], ids=["fresh", "fair"])
async def test_fresh_mail_goes_ahead_of_the_backlog_and_a_restored_mail_does_not(
    tmp_path: Path, feed: dict[str, object]
) -> None:
    order = await order_of_delivery(tmp_path, **feed)
    fresh = [order.index(serial) for serial in range(BACKLOG, RESTORED)]
    assert max(fresh) < len(order) // 2
    assert order.index(RESTORED) >= len(order) - 4, "behind all that is older"


async def test_without_a_lane_mail_goes_by_its_age(tmp_path: Path) -> None:
    order = await order_of_delivery(tmp_path, order="oldest")
    assert min(order.index(serial) for serial in range(BACKLOG, RESTORED)) > len(order) // 2
