"""`feed.hourly` and windows in a running service: what counts is in the ledger before DATA, so a restart forgets nothing."""

from __future__ import annotations

from math import isfinite
from pathlib import Path
from typing import Any

from drainer.control.messages.journal import UndoRequest
from drainer.control.messages.pauses_and_rates import RateRequest
from drainer.demo.misbehaviour import Rule
from drainer.demo.sample_queue import write_plain
from drainer.demo.sink import Sink
from drainer.settings_file import load_settings
from tests.stages.inside import ME, Inside, inside

FAST: dict[str, Any] = {"messages": "unlimited", "adaptive": False}


def sent(run: Inside) -> int:
    return sum(len(one.recipients) for one in run.sink.taken)


async def test_capped_service_sends_as_many_as_the_cap_says_and_a_restart_sends_no_more(tmp_path: Path) -> None:
    """Of 7 mails to 5 members 17 copies go: the last transaction is cut."""
    outage = write_plain(tmp_path, 7, 5)
    feed = {**FAST, "hourly": 17}
    async with Sink() as sink:
        async with inside(tmp_path, outage, sink, feed=feed) as run:
            await run.until("the cap is reached", lambda: sent(run) == 17)
            await run.until("all of them are settled", lambda: isfinite(run.resources.throttle.caps[0].next_s))
            await run.until("the next one waits", lambda: run.resources.throttle.waits_for == "hourly")
            shown = await run.status()
            assert (shown.state, shown.reason) == ("draining", shown.rate.binding)
            assert shown.rate.binding.startswith("hourly cap: 17 of 17 used, next at ")
            assert shown.eta.state == "draining", "it knows when it goes on, although no rate was measured yet"
            assert 3500 < (shown.eta.seconds or 0) < 7300
            (cap,) = shown.rate.caps
            assert (cap.name, cap.limit, cap.used) == ("hourly", 17, 17)
            assert cap.next_at is not None
            assert 3500 < cap.next_at - shown.at < 3620
        async with inside(tmp_path, outage, sink, feed=feed) as run:
            await run.until("the next one waits", lambda: run.resources.throttle.waits_for == "hourly")
            assert sent(run) == 17
            assert (await run.status()).rate.caps[0].used == 17
        async with inside(tmp_path, outage, sink, until_empty=True, feed=FAST) as run:
            assert await run.ended() == 0
            assert run.taken() == run.owed()


async def test_content_that_is_deferred_counts_and_recipients_refused_before_it_do_not(tmp_path: Path) -> None:
    outage = write_plain(tmp_path, 3, 5)
    rules = [Rule.parse("rcpt 550 5.1.1 no such user recipient=*0.*"), Rule.parse("dot 451 4.3.0 later first=1")]
    feed = {**FAST, "hourly": 1000, "dsn": False}
    async with Sink(None, *rules) as sink, inside(tmp_path, outage, sink, feed=feed, mta={"sessions": 1}) as run:
        # Each of three mails has four members that the MTA takes; those whose content was deferred count too.
        await run.until("it is settled", lambda: run.resources.throttle.caps[0].used == 12)
        assert sent(run) < 12


async def test_windows_and_caps_change_at_sighup_and_the_operators_rate_overrules_and_gives_back(
    tmp_path: Path,
) -> None:
    outage = write_plain(tmp_path, 4, 2)
    feed: dict[str, Any] = {**FAST, "windows": ["00:00-00:01 pause", "00:01-24:00 pause", "else 1/s"]}
    async with Sink() as sink, inside(tmp_path, outage, sink, feed=feed) as run:
        await run.until("an entry waits", lambda: run.service.pipeline.feed.active)
        shown = await run.status()
        assert (shown.state, sent(run)) == ("paused", 0), "the windows never let anything go"
        overruled = await run.asks.set_rate(RateRequest(messages="unlimited", reason="tonight"), ME)
        assert (overruled.messages_by, overruled.messages) == ("operator", None)
        assert overruled.window is not None
        assert overruled.window.overruled
        await run.until("all is sent", lambda: sent(run) == 8)
        back = await run.asks.set_rate(RateRequest(messages="settings"), ME)
        assert (back.messages_by, back.messages) == ("window", 0.0)
        await run.asks.undo(UndoRequest(yes=True), ME)
        assert (await run.asks.rate()).messages_by == "operator"
        details = [action.detail for action in (await run.asks.journal(9)).actions]
        assert any("messages as the settings say" in detail for detail in details)


async def test_reload_that_raises_a_cap_lets_the_next_one_go(tmp_path: Path) -> None:
    outage = write_plain(tmp_path, 4, 5)
    async with Sink() as sink, inside(tmp_path, outage, sink, feed={**FAST, "hourly": 5}) as run:
        await run.until("the cap is reached", lambda: run.resources.throttle.waits_for == "hourly")
        settings = tmp_path / "drainer.toml"
        settings.write_text(settings.read_text().replace("hourly = 5", "hourly = 20"))
        assert load_settings(settings).feed.hourly == 20
        run.service.reload()
        await run.until("all is sent", lambda: sent(run) == 20)
