"""feed.only and feed.not: what is left out waits and is owed, everybody says so, and a reload lets it go on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from drainer.backlog.selection import Selectors
from drainer.control.messages.domains import DomainRequest
from drainer.demo.sample_queue import write_plain
from drainer.demo.sink import Sink
from drainer.errors import RequestRefused
from drainer.queuedir.entry import QueueEntry
from drainer.report.snapshot import NOT_SERVED
from tests.scenarios.running import site_settings
from tests.stages.inside import ME, inside

LISTS = ("choir", "board", "choir", "board", "harbour")
MEMBERS, DOMAINS = 6, ("one.example", "slow.example", "two.example")
FEED = {"messages": "unlimited", "adaptive": False}


async def test_lists_and_domains_left_out_wait_until_the_settings_say_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outage = write_plain(tmp_path, len(LISTS), MEMBERS, LISTS, domains=DOMAINS)
    settings: dict[str, dict[str, Any]] = {"feed": {**FEED, "not": ["choir", "@slow.example"]}}
    in_choir, in_slow_domain = 2 * MEMBERS, 3 * MEMBERS // 3
    async with Sink(None) as sink, inside(tmp_path, outage, sink, until_empty=True, **settings) as run:
        facts, read = run.service.pipeline.facts, list[str]()
        reads = facts.read

        def counted(filebase: str) -> QueueEntry:
            read.append(filebase)
            return reads(filebase)

        monkeypatch.setattr(facts, "read", counted)
        await run.until("all that is left is left out", lambda: run.service.situation.state == "paused")
        assert sum(run.taken().values()) == len(LISTS) * MEMBERS - in_choir - in_slow_domain
        assert not [name for (_, name) in run.taken() if name.endswith("@slow.example")]
        once = len(read)

        status = await run.status()
        assert status.reason.startswith("all that is left is not served: list choir (feed.not names choir)")
        assert "feed.not names @slow.example" in status.reason
        assert status.eta.state == "paused" and status.if_resumed is None
        assert status.backlog.not_served_recipients == status.backlog.recipients == in_choir + in_slow_domain
        assert {line.list: bool(line.not_served) for line in status.lists} == {
            "choir": True, "board": False, "harbour": False,
        }  # fmt: skip
        left_out = next(one for one in status.domains if one.domain == NOT_SERVED)
        assert (left_out.limit_recipients_per_s, left_out.cause) == (0.0, "feed.not names @slow.example")
        with pytest.raises(RequestRefused, match=r"slow.example is not served \(feed.not names @slow.example\)"):
            await run.asks.order_domain(DomainRequest(domain="slow.example", rate=5.0), ME)
        listed = await run.asks.entries(Selectors(), 20)
        assert {line.list: line.reason for line in listed.entries} == {
            "choir": "not served: feed.not names choir",
            "board": "not served: feed.not names @slow.example",
            "harbour": "not served: feed.not names @slow.example",
        }
        eta = await run.asks.eta(None, None, "choir")
        assert (
            eta.list is not None
            and eta.list.not_served
            and eta.list.eta.state == "paused"
            and eta.list.if_resumed is None
        )
        assert not run.main.done(), "--until-empty waits, as with a pause"
        assert len(read) == once, "nobody reads over and over what is left out"

        mailman = {"flavour": "mailman2", "queue_dir": outage.queue_dir, "lists_dir": outage.lists_dir}
        site_settings(tmp_path, sink.port, mailman, custody={"poll": "20ms"}, feed={**FEED, "not": ["board"]})
        run.service.reload()
        await run.until("board alone waits", lambda: "list board" in run.service.situation._reason)
        assert run.taken()  # choir has gone
        site_settings(tmp_path, sink.port, mailman, custody={"poll": "20ms"}, feed=FEED)
        run.service.reload()
        assert await run.ended() == 0
        assert run.taken() == run.owed()


async def test_only_serves_what_it_names(tmp_path: Path) -> None:
    outage = write_plain(tmp_path, len(LISTS), MEMBERS, LISTS, domains=DOMAINS)
    settings: dict[str, dict[str, Any]] = {"feed": {**FEED, "only": ["board", "@slow.example", "@two.example"]}}
    async with Sink(None) as sink, inside(tmp_path, outage, sink, until_empty=False, **settings) as run:
        await run.until("all that is left is left out", lambda: run.service.situation.state == "paused")
        assert {name.partition("@")[2] for (_, name) in run.taken()} == {"slow.example", "two.example"}
        assert sum(run.taken().values()) == 2 * MEMBERS * 2 // 3
        status = await run.status()
        assert status.backlog.not_served_recipients == len(LISTS) * MEMBERS - 2 * MEMBERS * 2 // 3
        assert "feed.only does not name it" in status.backlog.not_served
