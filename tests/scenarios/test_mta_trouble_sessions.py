"""An MTA that closes idle sessions, and one that refuses further sessions: the drain goes on, and no entry is blamed."""

from __future__ import annotations

from pathlib import Path

from drainer.demo.misbehaviour import Rule
from drainer.demo.sink import SinkOptions, SinkThread
from tests.scenarios.troubled import given, once, outbreak


def test_sessions_that_the_mta_closes_between_transactions_are_replaced_and_blame_no_entry(tmp_path: Path) -> None:
    """Slow enough that every session is idle for longer than the MTA likes: 421 and the end, unasked."""
    capture = tmp_path / "capture.jsonl"
    with SinkThread(SinkOptions(capture=capture, idle_s=0.05)) as sink:
        site = outbreak(tmp_path / "site", sink.port, 5, members_each=3, feed={"messages": "8/s"}, mta={"sessions": 2})
        site.drain()
        assert sink.closed_idle > 2
    once("closed while idle", site.owed(), given(capture))
    assert not site.outcomes("deferred") and not site.outcomes("in_doubt")
    assert "mta_down" not in {line.get("state") for line in site.lines()}


def test_mta_that_refuses_sessions_is_fed_through_fewer_and_status_says_why(tmp_path: Path) -> None:
    capture = tmp_path / "capture.jsonl"
    with SinkThread(SinkOptions(capture=capture, session_limit=2), Rule.parse("dot delay=0.05")) as sink:
        site = outbreak(tmp_path / "site", sink.port, 30, members_each=3, mta={"sessions": 8})
        with site.run() as service:
            said = site.status_when("fewer sessions are shown", lambda said: "421 4.7.0 too many" in said.mta.reason)
            assert said.mta.state == "up" and said.state != "mta_down" and said.mta.sessions <= 3
            site.status_when("all is done", lambda said: said.state == "idle")
            assert service.terminate() == 0
        assert sink.most_sessions == 2
    once("two sessions", site.owed(), given(capture))
    assert not site.outcomes("deferred")
