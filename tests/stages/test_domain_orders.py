"""What an operator orders for a recipient domain holds at once and over a restart, is written down, and can be undone."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

import pytest

from drainer.clock import SystemClock
from drainer.control.messages.domains import DomainRequest
from drainer.control.messages.journal import UndoRequest
from drainer.control.messages.pauses_and_rates import PauseRequest
from drainer.demo.sample_queue import Outage, write_plain
from drainer.demo.sink import Sink
from drainer.errors import RequestRefused
from drainer.feed.binding import kind_of
from drainer.ledger.records import DomainOrder
from drainer.report.snapshot import DomainStanding
from tests.scenarios.running import site_settings
from tests.stages.inside import ME, Inside, inside
from tests.stages.test_taken_out import copied, only

HELD, OTHER = "gmail.com", "example.net"
GROUPS = {"google": [HELD, "googlemail.com"]}
FEED: dict[str, Any] = {"messages": "unlimited", "domain_groups": GROUPS}


def site(home: Path) -> Outage:
    return write_plain(home, 6, 2, domains=(HELD, OTHER))


async def order(run: Inside, **what: Any) -> str:
    reply = await run.asks.order_domain(DomainRequest(domain=HELD, **what), ME)
    return reply.message


def ordered(run: Inside) -> tuple[DomainOrder, ...]:
    return run.service.limits.state.domains


async def standing(run: Inside, name: str = HELD) -> DomainStanding:
    return (await run.asks.domains(name, 1)).domains[0]


async def test_domain_held_back_waits_over_a_restart_while_the_others_have_their_mail(tmp_path: Path) -> None:
    outage = site(tmp_path)
    stopped = {**FEED, "messages": "0/s"}
    async with Sink() as sink:
        async with inside(tmp_path, outage, sink, feed=stopped) as run:
            await run.until("all is read", lambda: run.resources.index.totals.by_domain(False))
            assert "google: held back for 30 min" in await order(run, pause_s=1800.0, reason="they told us")
        async with inside(tmp_path, outage, sink, feed=FEED) as run:
            await run.until("the others have it", lambda: len(run.taken()) == 6)
            await run.until("the rest is parked", lambda: run.resources.index.totals.lanes() == {"google": 6})
            await run.until("nothing is in delivery", lambda: not run.service.pipeline.feed.active)
            assert {recipient.partition("@")[2] for _, recipient in run.taken()} == {OTHER}
            held = await standing(run)
            assert (held.domain, held.group, held.set_by, held.by) == ("google", GROUPS["google"], "operator", ME.user)
            assert (held.limit_recipients_per_s, held.cause, held.waiting_recipients) == (0.0, "they told us", 6)
            status = await run.status()
            assert status.reason == "waiting for the ceilings of google"
            assert status.rate.binding == "ceilings of recipient domains: google"
            assert kind_of(status.rate.binding) == "domains"
            eta = status.eta
            assert eta.seconds is None or eta.seconds > 1700.0, "it ends after the pause"
            assert eta.state not in ("done", "stalled") and (await run.status()).domains[0] == held
            line = (await run.asks.journal(1)).actions[-1]
            assert (line.action, line.by, line.undoable) == ("domain", ME.user, True)
            assert line.detail == "google: held back for 30 min: they told us"
            await run.asks.undo(UndoRequest(yes=True), ME)
            await run.until("all have it", lambda: run.taken() == run.owed())
            assert (await standing(run)).set_by == ""


async def test_rate_of_an_operator_stands_beside_that_of_the_settings_and_the_stricter_holds(tmp_path: Path) -> None:
    feed = {"messages": "0/s", "domains": {HELD: "2/s"}}
    outage = site(tmp_path)
    async with Sink() as sink, inside(tmp_path, outage, sink, feed=feed) as run:
        assert (await standing(run)).set_by == "settings"
        assert "feed.domains holds it at 2/s" in await order(run, rate=5.0)
        assert "gmail.com: 1/s" in await order(run, rate=1.0)
        found = await standing(run)
        assert (found.limit_recipients_per_s, found.set_by) == (1.0, "operator")
        await order(run, pause_s=0.0)
        paused = await standing(run)
        assert (paused.limit_recipients_per_s, paused.until) == (0.0, None)
        assert ordered(run)[0].per_s == 1.0, "the rate is in force again after the pause"
        await run.until("all is read", lambda: run.resources.index.totals.by_domain(False))
        assert (await run.asks.eta(None, None, "")).held_back == (HELD,)
        await order(run, auto=True)
        assert (await standing(run)).set_by == "settings" and not ordered(run)
        assert "nothing was ordered" in await order(run, auto=True)
        await order(run, rate="unlimited")
        assert ordered(run)[0].per_s == math.inf


async def test_domain_that_nobody_knows_is_said_to_be_so_and_a_word_is_refused(tmp_path: Path) -> None:
    outage = site(tmp_path)
    async with Sink() as sink, inside(tmp_path, outage, sink, feed={**FEED, "messages": "0/s"}) as run:
        reply = await run.asks.order_domain(DomainRequest(domain="Not-Yet.Example.", rate=1.0), ME)
        assert reply.domain.domain == "not-yet.example" and "no recipient of it is known to wait" in reply.message
        for wrong in ("gmail", "ann@gmail.com", "*.com", "a b.example"):
            with pytest.raises(RequestRefused, match="groups are google"):
                await run.asks.order_domain(DomainRequest(domain=wrong, rate=1.0), ME)
        assert (await run.asks.domains("GOOGLE", 1)).domains[0].domain == "google"


async def test_pause_of_a_domain_ends_by_itself(tmp_path: Path) -> None:
    outage = site(tmp_path)
    async with Sink() as sink, inside(tmp_path, outage, sink, until_empty=True, feed=FEED) as run:
        await order(run, pause_s=0.3)
        assert await run.ended() == 0
        assert run.taken() == run.owed()
        assert ordered(run) == ()


async def test_order_for_a_domain_that_came_into_a_group_is_taken_back_by_the_groups_name(tmp_path: Path) -> None:
    outage = site(tmp_path)
    async with Sink() as sink:
        async with inside(tmp_path, outage, sink, feed={"messages": "0/s"}) as run:
            assert f"{HELD}: held back" in await order(run, pause_s=0.0)
        async with inside(tmp_path, outage, sink, feed={**FEED, "messages": "0/s"}) as run:
            assert (await standing(run)).set_by == "operator"
            assert "google" in await order(run, auto=True)
            assert ordered(run) == () and (await standing(run)).set_by == ""


def set_feed(home: Path, outage: Outage, sink: Sink, **feed: Any) -> None:
    """The settings file anew, as `inside` wrote it."""
    mailman = {"flavour": "mailman2", "queue_dir": outage.queue_dir, "lists_dir": outage.lists_dir}
    site_settings(home, sink.port, mailman, custody={"poll": "20ms"}, feed=feed)


async def test_order_for_a_group_that_is_taken_out_of_the_settings_holds_nobody_and_is_said_to_until_it_is_lifted(
    tmp_path: Path,
) -> None:
    outage, named = site(tmp_path), {"Google": GROUPS["google"]}
    with_group = {**FEED, "domain_groups": named}
    async with Sink() as sink:
        async with inside(tmp_path, outage, sink, feed={**with_group, "messages": "0/s"}) as run:
            await order(run, pause_s=0.0, reason="they told us")
        await taken_out_and_back(tmp_path, outage, sink, with_group)


async def taken_out_and_back(tmp_path: Path, outage: Outage, sink: Sink, with_group: dict[str, Any]) -> None:
    async with inside(tmp_path, outage, sink, feed=with_group) as run:
        await run.until("they wait for the group", lambda: run.resources.index.totals.lanes() == {"Google": 6})
        set_feed(tmp_path, outage, sink, messages="unlimited")
        run.service.reload()
        await run.until("all have it", lambda: run.taken() == run.owed())
        (said,) = [one for one in (await run.status()).domains if one.domain == "Google"]
        assert (said.limit_recipients_per_s, said.set_by) == (None, "")
        assert said.not_in_force == f"held back by {ME.user}: they told us"
        assert (await standing(run, "google")) == said
        reply = await run.asks.order_domain(DomainRequest(domain="google", rate=1.0), ME)
        assert "it limits nothing until one has" in reply.message
        set_feed(tmp_path, outage, sink, **with_group)
        run.service.reload()
        await run.until("it is a group again", lambda: "Google" in run.service.pipeline.domains.in_force)
        assert (await standing(run)).limit_recipients_per_s == 1.0
        set_feed(tmp_path, outage, sink, messages="unlimited")
        run.service.reload()
        await run.until("it is none again", lambda: "Google" not in run.service.pipeline.domains.in_force)
        lifted = await run.asks.order_domain(DomainRequest(domain="GOOGLE", auto=True), ME)
        assert lifted.domain.not_in_force == "" and ordered(run) == ()
        assert lifted.message == "Google: as it was learnt, and as the settings say", (
            "nothing holds for those that come"
        )
        with pytest.raises(RequestRefused, match="neither a domain nor a group"):
            await run.asks.domains("google", 1)


@pytest.mark.parametrize("left", [{}, {"google": ["googlemail.com"]}], ids=["the_group_is_gone", "the_domain_left_it"])
async def test_copy_that_waits_with_its_original_for_a_group_goes_on_too_when_their_domain_leaves_it(
    tmp_path: Path, left: dict[str, list[str]]
) -> None:
    outage = write_plain(tmp_path, 1, 4, domains=(HELD,))
    copied(only(outage))
    async with Sink() as sink:
        async with inside(tmp_path, outage, sink, feed={**FEED, "messages": "0/s"}) as run:
            await order(run, pause_s=0.0)
        async with inside(tmp_path, outage, sink, feed=FEED) as run:
            totals = run.resources.index.totals
            await run.until("both wait for the group", lambda: totals.lanes() == {"google": 8})
            set_feed(tmp_path, outage, sink, messages="unlimited", domain_groups=left)
            run.service.reload()
            await run.until("both are done", lambda: not totals.overall().entries)
            assert run.taken() == run.owed() and not totals.lanes()


async def test_orders_and_pauses_are_undone_after_the_clock_was_set_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ahead_s = [10_800.0]
    monkeypatch.setattr(SystemClock, "now_s", lambda _: time.time() + ahead_s[0])
    outage = site(tmp_path)
    async with Sink() as sink, inside(tmp_path, outage, sink, feed={"messages": "0/s"}) as run:
        await order(run, rate=5.0)
        await order(run, pause_s=1800.0)
        await run.asks.pause(PauseRequest(for_s=1800.0), ME)
        ahead_s[0] = 0.0
        await run.until("the clock is followed", lambda: ordered(run)[0].since_s < time.time() + 1.0)
        for _ in range(3):
            assert (await run.asks.undo(UndoRequest(yes=True), ME)).kept == []
        assert run.service.limits.state.pauses == () and ordered(run) == ()
