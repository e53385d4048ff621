"""A service that does nothing makes no snapshot each second, and still shows at once whatever changes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from drainer.backlog.selection import Selectors
from drainer.control.messages.domains import DomainRequest
from drainer.control.messages.entries import SelectRequest
from drainer.control.messages.pauses_and_rates import PauseRequest, RateRequest, ResumeRequest
from drainer.demo.sample_queue import write_plain
from drainer.demo.sink import Sink
from drainer.guards.verdict import Guard
from drainer.observe.situation import Situation
from drainer.report.snapshot import Snapshot
from drainer.rounds import each_second
from tests.stages.inside import ME, Inside, inside

TICK_S = 0.01


class Still:
    """A paused service with two entries. looks: the snapshots that were made; stood_still: ticks at which none was."""

    def __init__(self, run: Inside, looks: list[Snapshot]) -> None:
        self.run = run
        self.looks = looks
        self.stood_still = 0

    async def until_still(self) -> None:
        """Ten ticks in a row without a look."""
        since, before = self.stood_still, len(self.looks)

        def is_still() -> bool:
            nonlocal since, before
            if len(self.looks) != before:
                since, before = self.stood_still, len(self.looks)
            return self.stood_still >= since + 10

        await self.run.until("nothing changes any more", is_still)


@asynccontextmanager
async def still(tmp_path: Path, patch: pytest.MonkeyPatch) -> AsyncIterator[Still]:
    patch.setattr(each_second, "TICK_S", TICK_S)
    patch.setattr(each_second, "SHOWN_AT_LEAST_EVERY_S", 1e6)
    looks: list[Snapshot] = []
    look, stands_still = Situation.look, Situation.stands_still

    async def counted(situation: Situation) -> Snapshot:
        looks.append(await look(situation))
        return looks[-1]

    async def tick(situation: Situation) -> bool:
        found = await stands_still(situation)
        if service is not None:
            service.stood_still += found
        return found

    service: Still | None = None
    patch.setattr(Situation, "look", counted)
    patch.setattr(Situation, "stands_still", tick)
    outage = write_plain(tmp_path, 2, 3)
    async with Sink() as sink, inside(tmp_path, outage, sink, feed={"messages": 0}) as run:
        service = Still(run, looks)
        await run.asks.pause(PauseRequest(), ME)
        await run.until("both are read", lambda: run.resources.index.totals.overall().recipients == 6)
        await run.until("it is paused", lambda: looks and looks[-1].state == "paused")
        await service.until_still()
        yield service


async def pause_of_a_list(run: Inside) -> None:
    await run.asks.pause(PauseRequest(list="announce"), ME)


async def resume(run: Inside) -> None:
    await run.asks.resume(ResumeRequest(), ME)


async def a_rate(run: Inside) -> None:
    await run.asks.set_rate(RateRequest(messages="7/s"), ME)


async def a_hold(run: Inside) -> None:
    await run.asks.hold(SelectRequest(selectors=Selectors(list="announce"), yes=True), ME)


async def a_ceiling(run: Inside) -> None:
    await run.asks.order_domain(DomainRequest(domain="example.com", rate="3/s"), ME)


async def a_mail(run: Inside) -> None:
    file = next((run.custody / "backlog").iterdir())
    when, _, digest = file.name.partition("+")
    run.arrive(run.outage.queue_dir / "out" / f"{float(when) + 1!r}+{digest}", file.read_bytes())


async def a_guard(run: Inside) -> None:
    run.resources.gate.close("guard", "load: 99")


async def a_warning(run: Inside) -> None:
    stands = run.service._assembled.surroundings.guards
    stands.append(Guard(name="disk", verdict="slow", reason="little room"))


async def a_failure(run: Inside) -> None:
    with run.service.side_tasks.guarded("record"):
        raise OSError("no room")


@pytest.mark.parametrize(
    "change", [pause_of_a_list, resume, a_rate, a_hold, a_ceiling, a_mail, a_guard, a_warning, a_failure]
)
async def test_whatever_changes_while_the_service_does_nothing_is_shown_at_the_next_tick(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[[Inside], Awaitable[None]]
) -> None:
    async with still(tmp_path, monkeypatch) as service:
        before = len(service.looks)
        await change(service.run)
        await service.run.until("it is seen", lambda: len(service.looks) > before)


async def test_status_of_a_service_that_does_nothing_is_of_its_own_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with still(tmp_path, monkeypatch) as service:
        asked = await service.run.status()
        assert asked.at > service.looks[-1].at
        assert asked.backlog.oldest_age_s is not None and service.looks[-1].backlog.oldest_age_s is not None
        assert asked.backlog.oldest_age_s > service.looks[-1].backlog.oldest_age_s
