"""What the service writes down of itself: it survives a restart, and a ledger that cannot commit."""

from __future__ import annotations

import asyncio
import contextlib
import zlib
from collections.abc import AsyncIterator, Mapping

import pytest

from drainer.clock import StoppedClock
from drainer.errors import LedgerNotDurable
from drainer.ledger.evidence import Event
from drainer.report.inventory import Inventory
from drainer.report.record_writer import FORECASTS, HISTORY, MOST_WAITING, PRESENT, RecordWriter, unpacked
from drainer.report.snapshot import Snapshot
from tests.ledger.memory import MemoryLedger
from tests.report.staged import NOW_S, moment

SOON_S = 60.0
UNLIMITED = (None, None)


class FullAtTimes(MemoryLedger):
    """No event and nothing kept can be written while it is full."""

    is_full = False

    async def write_event(self, event: Event) -> None:
        if self.is_full:
            raise LedgerNotDurable("no space left on device")
        await super().write_event(event)

    async def keep(self, values: Mapping[str, bytes]) -> None:
        if self.is_full:
            raise LedgerNotDurable("no space left on device")
        await super().keep(values)


def recorder(ledger: MemoryLedger, now_s: float = NOW_S - 70) -> RecordWriter:
    return RecordWriter(ledger, StoppedClock(now_s), lambda snapshot: Inventory(snapshot=snapshot))


@contextlib.asynccontextmanager
async def at_work(kept: RecordWriter) -> AsyncIterator[None]:
    await kept.start("1.0")
    task = asyncio.create_task(kept.run())
    yield
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def states(ledger: MemoryLedger, wanted: int) -> list[str]:
    """What the ledger has of them, once there are so many."""
    async with asyncio.timeout(SOON_S):
        while len(events := (await ledger.account(1)).events) < wanted:  # noqa: ASYNC110 (a ledger has no notification)
            await asyncio.sleep(0)
    return [event.what for event in events]


async def test_burn_down_and_present_go_on_after_a_restart() -> None:
    ledger = MemoryLedger()
    first = recorder(ledger)
    async with at_work(first):
        first.observe(moment(at=NOW_S - 60, since=NOW_S - 60), UNLIMITED)
        await states(ledger, 2)
        await first.end(moment(at=NOW_S + 50, state="stopping"), "SIGTERM")
    kept = (await ledger.account(1)).kept
    present = unpacked(kept[PRESENT], Inventory)
    assert present is not None and present.snapshot.forecasts.overtaken == {"a restart": 1}
    second = recorder(ledger, NOW_S + 60)
    await second.start("1.0")
    assert [point.at for point in second.burn_down.points] == [NOW_S - 60, NOW_S + 50]
    assert second.burn_down.changes[-1].state == "not_running"
    assert [event.what for event in (await ledger.account(1)).events] == ["started", "draining", "stopped"]


@pytest.mark.parametrize(
    "kept", [b"", b"{", zlib.compress(b'{"points": [{"at": "x"}]}')], ids=["empty", "torn", "wrong"]
)
async def test_record_that_cannot_be_read_is_begun_anew(kept: bytes) -> None:
    ledger = MemoryLedger()
    await ledger.keep({HISTORY: kept, FORECASTS: kept})
    again = recorder(ledger)
    await again.start("1.0")
    assert again.burn_down.points == () and again.forecasts.made == 0


async def test_while_the_ledger_is_full_events_wait_bounded_and_in_order() -> None:
    ledger = FullAtTimes()
    kept = recorder(ledger)
    async with at_work(kept):
        await states(ledger, 1)
        ledger.is_full = True
        said: list[Snapshot] = []
        for step in range(MOST_WAITING + 10):
            state = "stopped_by_guard" if step % 2 == 0 else "draining"
            said.append(moment(at=NOW_S + step, since=NOW_S + step, state=state))
            kept.observe(said[-1], UNLIMITED)
            await asyncio.sleep(0)
        ledger.is_full = False
        kept.observe(moment(at=NOW_S + 500, since=NOW_S + 500, state="idle"), UNLIMITED)
        found = await states(ledger, 1 + MOST_WAITING)
    assert found[-1] == "idle"
    times = [event.at_s for event in (await ledger.account(1)).events]
    assert times == sorted(times) and len(times) == 1 + MOST_WAITING
