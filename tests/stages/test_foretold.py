"""Whatever an operator changes overtakes what was foretold before: it is set aside with the reason, and not judged."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from drainer.backlog.selection import Selectors
from drainer.control.messages.entries import SelectRequest
from drainer.control.messages.pauses_and_rates import PauseRequest, RateRequest, ResumeRequest
from drainer.demo.sample_queue import write_plain
from drainer.demo.sink import Sink
from drainer.estimate.eta import Eta
from tests.scenarios.running import site_settings
from tests.stages.inside import ME, Inside, inside

SLOW: dict[str, Any] = {"messages": "1/h"}


class Foretold:
    """Forecasts made of a drain, one after the other, as if it had long been going on."""

    def __init__(self, run: Inside) -> None:
        self._run = run
        self._made = 0

    async def one(self) -> None:
        self._made += 1
        snapshot = await self._run.status()
        eta = Eta(state="draining", seconds=3000.0, low_s=2000.0, high_s=4000.0, confidence=0.8)
        changes = {"at": snapshot.at - 1000 + 10 * self._made, "state": "draining", "eta": eta}
        situation = self._run.service.situation
        situation.record_writer.observe(snapshot.model_copy(update=changes), situation.limits_set())
        assert situation.record_writer.forecasts.open == 1

    @property
    def set_aside(self) -> dict[str, int]:
        found = self._run.service.situation.record_writer.forecasts
        assert found.judged == 0
        return found.overtaken


async def test_every_change_of_an_operator_sets_aside_what_was_foretold_before_it(tmp_path: Path) -> None:
    outage = write_plain(tmp_path, 4, 3)
    one = sorted((outage.queue_dir / "out").iterdir())[-1]
    list_name = next(iter(outage.owed))[0]
    async with Sink() as sink, inside(tmp_path, outage, sink, feed=SLOW) as run:
        totals = run.resources.index.totals.overall
        await run.until("all is read", lambda: totals().entries and not totals().unread_entries)
        foretold = Foretold(run)
        expected: dict[str, int] = {}
        entry, everything = run.of(one), SelectRequest(selectors=Selectors(), yes=True)
        changes: dict[str, Callable[[], Awaitable[object]]] = {
            "a hold": lambda: run.asks.hold(entry, ME),
            "a release": lambda: run.asks.release(entry, ME),
            "a drop": lambda: run.asks.drop(entry, ME),
            "a pause": lambda: run.asks.pause(PauseRequest(list=list_name), ME),
            "the end of a pause": lambda: run.asks.resume(ResumeRequest(list=list_name), ME),
            "a handback": lambda: run.asks.handback(everything, ME),
        }
        for why, change in changes.items():
            await foretold.one()
            await change()
            expected[why] = 1
            assert foretold.set_aside == expected
        last = await run.status()
        assert last.eta.state == "done"
        run.service.situation.record_writer.observe(last, run.service.situation.limits_set())
        assert foretold.set_aside == expected, "the end that came was the handback's"


async def test_new_settings_or_another_rate_set_aside_what_was_foretold_before(tmp_path: Path) -> None:
    outage = write_plain(tmp_path, 2, 3)
    async with Sink() as sink, inside(tmp_path, outage, sink, feed=SLOW) as run:
        foretold = Foretold(run)
        await foretold.one()
        mailman = {"flavour": "mailman2", "queue_dir": outage.queue_dir, "lists_dir": outage.lists_dir}
        feed = {**SLOW, "domains": {"example.com": "1/h"}}
        site_settings(tmp_path, sink.port, mailman, custody={"poll": "20ms"}, feed=feed)
        run.service.reload()
        assert foretold.set_aside == {"changed settings": 1}
        await foretold.one()
        run.service.reload()
        nothing = await run.asks.hold(SelectRequest(selectors=Selectors(subject="no such subject"), yes=True), ME)
        assert (nothing.changed, foretold.set_aside) == (0, {"changed settings": 1}), "nothing was changed"
        await run.asks.set_rate(RateRequest(messages=0.5), ME)
        await run.until("it is seen", lambda: foretold.set_aside == {"a change of rate": 1, "changed settings": 1})
