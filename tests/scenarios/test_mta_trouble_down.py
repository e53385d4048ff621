"""An MTA that is dead, dies, or refuses sessions: no recipient fails for that; once it is back, all get their mail once."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from drainer.demo.misbehaviour import Rule
from drainer.demo.sink import SinkOptions, SinkThread
from drainer.report.snapshot import Snapshot
from tests.scenarios.running import running_sink
from tests.scenarios.troubled import given, once, outbreak


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def is_down(said: Snapshot) -> bool:
    return said.state == "mta_down" and said.backlog.unread_entries == 0


def assert_nobody_is_blamed(said: Snapshot) -> None:
    assert said.reason and said.mta.reason == said.reason and said.mta.next_try_s is not None
    # Only copies are deferred: they wait until a doubt about the first one is resolved.
    assert said.backlog.deferred_recipients <= said.backlog.duplicate_recipients and said.done.bounced_recipients == 0
    assert said.eta.state != "draining", "no finish time is given while nothing can be delivered"


def test_mta_dead_at_the_start_is_waited_for(tmp_path: Path) -> None:
    port = free_port()
    site = outbreak(tmp_path, port, 20, members_each=3)
    with site.run("--until-empty") as service:
        said = site.status_when("the MTA is down", is_down)
        assert_nobody_is_blamed(said)
        assert said.backlog.entries == site.outage.entries and str(port) in said.reason
        with running_sink(tmp_path / "sink", "--port", str(port)) as sink:
            assert service.wait() == 0, service.log_text()[-4000:]
    once("dead at the start", site.owed(), given(sink.capture))
    assert not site.outcomes("deferred")


def test_mta_killed_in_the_middle_and_back_on_its_port_delivers_the_rest_once(tmp_path: Path) -> None:
    slow = ("--rule", "dot delay=0.02")
    with running_sink(tmp_path / "sink", *slow) as first:
        log = {"log_file": first.log}
        site = outbreak(tmp_path, first.port, 60, mta=log, ledger={"in_doubt": "ask", "in_doubt_wait": "500ms"})
        with site.run("--until-empty") as service:
            site.until("some are delivered", lambda: len(first.capture.read_text().splitlines()) > 40)
            first.kill_between_mails()
            first.process.wait()
            assert_nobody_is_blamed(site.status_when("the MTA is down", is_down))
            with running_sink(tmp_path / "sink", "--port", str(first.port), *slow) as second:
                assert service.wait() == 0, service.log_text()[-4000:]
    once("killed in the middle", site.owed(), given(second.capture))
    assert not site.outcomes("failed")


@pytest.mark.parametrize("rule", ["connect 421 4.3.2 not now first=3", "mail 421 4.3.2 closing every=7"])
def test_421_closes_sessions_and_costs_no_entry_an_attempt(tmp_path: Path, rule: str) -> None:
    capture = tmp_path / "capture.jsonl"
    with SinkThread(SinkOptions(capture=capture), Rule.parse(rule)) as sink:
        site = outbreak(tmp_path, sink.port, 20, members_each=3)
        site.drain()
    once(rule, site.owed(), given(capture))
    assert not site.outcomes("deferred")


def test_mta_with_enough_sessions_gets_as_many_as_it_takes(tmp_path: Path) -> None:
    capture = tmp_path / "capture.jsonl"
    slow = Rule.parse("dot delay=0.02")
    with SinkThread(SinkOptions(capture=capture, session_limit=3), slow) as sink:
        site = outbreak(tmp_path, sink.port, 60, members_each=6)
        site.drain()
        assert sink.most_sessions == 3
    once("three sessions", site.owed(), given(capture))
    assert not site.outcomes("deferred")
