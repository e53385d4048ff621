"""Writes to the ledger what only the report needs: the course of the drain, moment by moment.

In    snapshots, as the service takes them; notices
Out   the burn-down, our forecasts and the inventory, each replaced now and then; changes of state as events; marks
Not here  what the burn-down and the forecasts keep (burn_down.py, estimate/forecast_record.py); what a report makes of them
          (incident/facts.py)

INVARIANT never-in-the-way: `observe` returns at once; a task of its own writes. What the ledger cannot take now is written
later, at most MOST_WAITING events: a full disk costs the report some lines, and the drain nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import zlib
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from drainer.clock import Clock
from drainer.errors import LedgerNotDurable
from drainer.estimate.accuracy import ForecastAccuracy
from drainer.estimate.forecast_record import ForecastRecord, accuracy, interrupted, noted
from drainer.ledger.contract import Ledger
from drainer.ledger.evidence import Event
from drainer.report.burn_down import BurnDown, observed, resumed
from drainer.report.inventory import Inventory
from drainer.report.notices import Notice
from drainer.report.snapshot import Snapshot

SAVED_EVERY_S = 60.0
SAVED_AFTER_CHANGE_S = 5.0
"""After a change of state the record is saved sooner, at most this often."""
MARKED_EVERY_S = 1800.0
"""How often the counters are marked. A burn-down begins after an hour without backlog, so a mark always lies before it."""
_OVER_AFTER_S = SAVED_EVERY_S + 5.0
"""A killed run ended at most this long after its last save."""
MOST_WAITING = 100
HISTORY, FORECASTS, PRESENT = "history", "forecasts", "present"
"""Names under which the ledger keeps the burn-down, the forecasts and the inventory."""

_Model = TypeVar("_Model", bound=BaseModel)


class RecordWriter:
    """Call `start` once, `observe` with each snapshot, `end` at the end; `run` is the task that writes."""

    def __init__(self, ledger: Ledger, clock: Clock, inventory: Callable[[Snapshot], Inventory]) -> None:
        """inventory  makes the inventory that goes with a snapshot"""
        self._ledger = ledger
        self._clock = clock
        self._inventory = inventory
        self._burn_down = BurnDown()
        self._record = ForecastRecord()
        self._accuracy = ForecastAccuracy()
        self._latest: Snapshot | None = None
        self._state = ""
        self._waiting: deque[Event] = deque(maxlen=MOST_WAITING)
        self._saved_s = -SAVED_EVERY_S
        self._marked_s = -MARKED_EVERY_S
        self._has_changed = False
        self._changing: list[str] = []
        self._news = asyncio.Event()

    @property
    def burn_down(self) -> BurnDown:
        return self._burn_down

    @property
    def forecasts(self) -> ForecastAccuracy:
        return self._accuracy

    async def start(self, version: str) -> None:
        """Continue the record of the run before."""
        now_s = self._clock.now_s()
        before = unpacked(await self._ledger.kept(HISTORY), BurnDown)
        record = unpacked(await self._ledger.kept(FORECASTS), ForecastRecord)
        self._burn_down = resumed(before or BurnDown(), now_s)
        self._record = interrupted(record or ForecastRecord(), "a restart")
        self._accuracy = accuracy(self._record)
        self._waiting.append(Event(now_s, "run", "started", f"drainer {version}"))
        # The mark is written before this run counts anything, so that a report since then covers this run alone. It is dated
        # to the certain end of the run before: an outage begins before this service is started.
        over_s = before.points[-1].at + _OVER_AFTER_S if before and before.points else now_s
        with contextlib.suppress(LedgerNotDurable):
            await self._mark(min(now_s, over_s))
        self._news.set()

    def observe(
        self, snapshot: Snapshot, limits: tuple[float | None, float | None], notices: Sequence[Notice] = ()
    ) -> None:
        """Record a snapshot. Returns at once. limits: as in forecast_record.noted."""
        self._burn_down = observed(self._burn_down, snapshot)
        before = self._record
        self._record = noted(
            before, snapshot.at, snapshot.state, snapshot.eta, limits, self._changing[0] if self._changing else ""
        )
        if self._record is not before:
            self._accuracy = accuracy(self._record)
        # A state that continues after a brief interruption began before that interruption: see state_since_s.
        since_s = self._latest.at if self._latest else None
        self._latest = snapshot
        for notice in notices:
            self._waiting.append(Event(notice.at, "notice", notice.event, notice.text))
        if snapshot.state != self._state:
            self._state = snapshot.state
            self._has_changed = True
            at_s = snapshot.since if since_s is None else max(snapshot.since, since_s)
            self._waiting.append(Event(at_s, "state", snapshot.state, snapshot.reason))
        self._news.set()

    def overtaken(self, by: str) -> None:
        """An operator changed the course of the drain: the forecasts made until now cannot be judged."""
        self._record = interrupted(self._record, by)
        self._accuracy = accuracy(self._record)

    @contextlib.contextmanager
    def changed_by(self, what: str) -> Iterator[None]:
        """A context in which an operator changes entries, for example "a drop": no forecast is recorded in it, and none from
        before it is judged."""
        self.overtaken(what)
        self._changing.append(what)
        try:
            yield
        finally:
            self._changing.remove(what)

    async def run(self) -> None:
        """The task that writes; it never returns."""
        while True:
            await self._news.wait()
            self._news.clear()
            with contextlib.suppress(LedgerNotDurable):
                await self._write_events()
                if self._clock.monotonic_s() - self._marked_s >= MARKED_EVERY_S:
                    await self._mark(self._clock.now_s())
                since_s = self._clock.monotonic_s() - self._saved_s
                if since_s > (SAVED_AFTER_CHANGE_S if self._has_changed else SAVED_EVERY_S):
                    await self._save()

    async def end(self, snapshot: Snapshot, why: str) -> None:
        """The service ends: write the last state, for reports made without the service."""
        self._record = interrupted(self._record, "a restart")
        self._accuracy = accuracy(self._record)
        self._burn_down = observed(self._burn_down, snapshot)
        self._latest = snapshot.model_copy(update={"forecasts": self._accuracy})
        self._waiting.append(Event(snapshot.at, "run", "stopped", why))
        with contextlib.suppress(LedgerNotDurable):
            await self._write_events()
            await self._save()
            await self._mark(self._clock.now_s())

    async def _write_events(self) -> None:
        while self._waiting:
            await self._ledger.write_event(self._waiting[0])
            self._waiting.popleft()

    async def _mark(self, at_s: float) -> None:
        await self._ledger.write_baseline(at_s)
        self._marked_s = self._clock.monotonic_s()

    async def _save(self) -> None:
        if self._latest is None:
            return
        self._saved_s, self._has_changed = self._clock.monotonic_s(), False
        await self._ledger.keep(
            {
                HISTORY: packed(self._burn_down),
                FORECASTS: packed(self._record),
                PRESENT: packed(self._inventory(self._latest)),
            }
        )


def packed(value: BaseModel) -> bytes:
    return zlib.compress(value.model_dump_json().encode())


def unpacked(value: bytes | None, kind: type[_Model]) -> _Model | None:
    """The value; None if there is none or it cannot be read: a report without it is better than no report."""
    try:
        return None if value is None else kind.model_validate_json(zlib.decompress(value))
    except (zlib.error, ValidationError):
        return None
