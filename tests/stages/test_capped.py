"""`feed.hourly` and windows in a running service: what counts is in the ledger before DATA, so a restart forgets nothing."""

from __future__ import annotations

import time
from math import isfinite
from pathlib import Path
from typing import Any

import pytest

from drainer.clock import SystemClock
from drainer.control.messages.journal import UndoRequest
from drainer.control.messages.pauses_and_rates import RateRequest
from drainer.demo.misbehaviour import Rule
from drainer.demo.sample_queue import write_plain
from drainer.demo.sink import Sink
from drainer.queuedir.narrow import with_recipients
from drainer.queuedir.read import read_entry
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


async def test_mail_in_many_transactions_leaves_its_place_to_fresh_mail_while_it_waits_for_a_cap(
    tmp_path: Path,
) -> None:
    """The cap has room for one more, and the large mail waits for three. There is one place, and it has had that."""
    outage = write_plain(tmp_path, 2, 60)
    large, small = sorted((outage.queue_dir / "out").iterdir())
    entry = read_entry(small)
    content = with_recipients(entry, entry.recipients[:1])
    small.unlink()
    feed = {**FAST, "order": "fresh", "hourly": 41}
    rule = Rule.parse("rcpt 452 4.5.3 Error: too many recipients beyond=5")
    async with Sink(None, rule) as sink, inside(tmp_path, outage, sink, feed=feed, mta={"sessions": 1}) as run:
        transmit, throttle = run.service.pipeline.transmit, run.resources.throttle
        await run.until(
            "the next piece waits", lambda: throttle.waits_for == "hourly" and sent(run) > 35 and not transmit.in_flight
        )
        before = sent(run)
        assert before < 41
        run.arrive(large.with_name(f"{time.time()!r}+{small.name.partition('+')[2]}"), content)
        await run.until("the fresh one goes", lambda: sent(run) == before + 1)
        assert sink.taken[-1].recipients == entry.recipients[:1]


class _SetClock:
    """The system's clock, ahead by so much."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.ahead_s = 0.0
        monkeypatch.setattr(SystemClock, "now_s", lambda _: time.time() + self.ahead_s)


async def test_what_a_clock_that_is_ahead_counted_counts_for_an_hour_and_not_again_at_each_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, outage, feed = _SetClock(monkeypatch), write_plain(tmp_path, 7, 5), {**FAST, "hourly": 17}
    async with Sink() as sink:
        clock.ahead_s = 5 * 86_400.0
        async with inside(tmp_path, outage, sink, feed=feed) as run:
            await run.until("the cap is reached", lambda: sent(run) == 17)
        clock.ahead_s = 0.0
        async with inside(tmp_path, outage, sink, feed=feed) as run:
            await run.until("the next one waits", lambda: run.resources.throttle.waits_for == "hourly")
            assert 3500 < run.resources.throttle.caps[0].next_s < 3620
            assert sent(run) == 17
        clock.ahead_s = 4000.0
        async with inside(tmp_path, outage, sink, feed=feed) as run:
            await run.until("the next ones go", lambda: sent(run) == 34)


@pytest.mark.parametrize("ahead_s", [2 * 3600.0, 3 * 86_400.0], ids=["hours", "days"])
async def test_run_that_begins_with_a_clock_ahead_counts_what_was_sent_before_once_it_is_set_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ahead_s: float
) -> None:
    clock, outage, feed = _SetClock(monkeypatch), write_plain(tmp_path, 9, 5), {**FAST, "hourly": 17}

    def used(run: Inside) -> int:
        return run.resources.throttle.caps[0].used

    async with Sink() as sink:
        async with inside(tmp_path, outage, sink, feed=feed) as run:
            await run.until("the cap is reached", lambda: sent(run) == 17)
        clock.ahead_s = ahead_s
        async with inside(tmp_path, outage, sink, feed=feed) as run:
            await run.until("the cap is reached again", lambda: sent(run) == 34)
            assert used(run) == 17
            clock.ahead_s = 0.0
            await run.until("all counts", lambda: used(run) == 34)
        async with inside(tmp_path, outage, sink, feed=feed) as run:
            await run.until("the next one waits", lambda: run.resources.throttle.waits_for == "hourly")
            assert (used(run), sent(run)) == (34, 34)


async def test_what_was_sent_before_counts_by_its_right_age_once_the_clock_is_set_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, outage, feed = _SetClock(monkeypatch), write_plain(tmp_path, 4, 5), {**FAST, "hourly": 17}
    async with Sink() as sink:
        async with inside(tmp_path, outage, sink, feed=feed) as run:
            await run.until("the cap is reached", lambda: sent(run) == 17)
        clock.ahead_s = 1800.0
        async with inside(tmp_path, outage, sink, feed=feed) as run:
            throttle = run.resources.throttle
            await run.until("the next one waits", lambda: throttle.waits_for == "hourly")
            assert 1700 < throttle.caps[0].next_s < 1820
            clock.ahead_s = 0.0
            await run.until("it waits for longer", lambda: 3500 < throttle.caps[0].next_s < 3620)
            assert sent(run) == 17


async def test_what_mailman_has_still_in_hands_counts_after_a_restart_hours_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its runner does not run, and may send all of it at any moment."""
    clock, outage = _SetClock(monkeypatch), write_plain(tmp_path, 3, 5)
    feed = {**FAST, "via": "mailman", "hourly": 10}
    for clock.ahead_s in (0.0, 7200.0):
        async with Sink() as sink, inside(tmp_path, outage, sink, feed=feed) as run:
            await run.until("the next one waits", lambda: run.resources.throttle.waits_for == "hourly")
            assert [(cap.used, cap.leaving) for cap in run.resources.throttle.caps] == [(10, ())]
            await run.until("two are handed over", lambda: len(list((outage.queue_dir / "out").iterdir())) == 2)


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
