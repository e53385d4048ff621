"""Keeps in the ledger what the report needs and nothing else writes down: how it went, moment by moment.

In    snapshots, as the service takes them; notices
Out   the burn-down, our forecasts and the present, each replaced now and then; changes of state as events; marks
Not here  what is kept of them (history.py, forecasts.py); what a report makes of it (report/incident/facts.py)

INVARIANT never-in-the-way: `observe` returns at once; a task of its own writes. What the ledger cannot take now is written
later, at most MOST_WAITING events of it: a disk that is full costs the report some lines, and the drain nothing.
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
from drainer.ledger.contract import Ledger
from drainer.ledger.evidence import Event
from drainer.report.burn_down import BurnDown, observed, resumed
from drainer.report.forecasts import ForecastRecord, interrupted, noted, scored
from drainer.report.inventory import Inventory
from drainer.report.notices import Notice
from drainer.report.snapshot import Forecasts, Snapshot

SAVED_EVERY_S = 60.0
SAVED_AFTER_CHANGE_S = 5.0
"""A change of state is worth saving sooner; flapping costs no more than this."""
MARKED_EVERY_S = 1800.0
"""How often what has been counted is marked: a burn-down that begins after an hour without backlog has a mark before it."""
_OVER_AFTER_S = SAVED_EVERY_S + 5.0
"""A run that was killed was over so long after the last that it saved."""
MOST_WAITING = 100
HISTORY, FORECASTS, PRESENT = "history", "forecasts", "present"
"""Names under which the ledger keeps them."""

_Model = TypeVar("_Model", bound=BaseModel)


class RecordWriter:
    """`start` once, `observe` each snapshot, `run` for ever, `end` at the end."""

    def __init__(self, ledger: Ledger, clock: Clock, present: Callable[[Snapshot], Inventory]) -> None:
        """present  describes what is here, beside this snapshot"""
        self._ledger = ledger
        self._clock = clock
        self._present = present
        self._history = BurnDown()
        self._record = ForecastRecord()
        self._scored = Forecasts()
        self._latest: Snapshot | None = None
        self._state = ""
        self._waiting: deque[Event] = deque(maxlen=MOST_WAITING)
        self._saved_s = -SAVED_EVERY_S
        self._marked_s = -MARKED_EVERY_S
        self._has_changed = False
        self._changing: list[str] = []
        self._news = asyncio.Event()

    @property
    def history(self) -> BurnDown:
        return self._history

    @property
    def forecasts(self) -> Forecasts:
        return self._scored

    async def start(self, version: str) -> None:
        """Go on where an earlier run ended."""
        now_s = self._clock.now_s()
        history = unpacked(await self._ledger.kept(HISTORY), BurnDown)
        record = unpacked(await self._ledger.kept(FORECASTS), ForecastRecord)
        self._history = resumed(history or BurnDown(), now_s)
        self._record = interrupted(record or ForecastRecord(), "a restart")
        self._scored = scored(self._record)
        self._waiting.append(Event(now_s, "run", "started", f"drainer {version}"))
        # Before this run counts anything, so that a report since then is of this run alone; as of when the last one was
        # surely over, since an outage begins before somebody starts this service.
        over_s = history.points[-1].at + _OVER_AFTER_S if history and history.points else now_s
        with contextlib.suppress(LedgerNotDurable):
            await self._mark(min(now_s, over_s))
        self._news.set()

    def observe(
        self, snapshot: Snapshot, limits: tuple[float | None, float | None], notices: Sequence[Notice] = ()
    ) -> None:
        """Note how it stands. Returns at once. limits: as in forecasts.noted."""
        self._history = observed(self._history, snapshot)
        before = self._record
        self._record = noted(before, snapshot, limits, self._changing[0] if self._changing else "")
        if self._record is not before:
            self._scored = scored(self._record)
        # A state that goes on after a brief interruption has an older beginning than the interruption.
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
        """An operator changed the course: what was foretold until now is not to be compared with what comes."""
        self._record = interrupted(self._record, by)
        self._scored = scored(self._record)

    @contextlib.contextmanager
    def changed_by(self, what: str) -> Iterator[None]:
        """Within it an operator does something to entries, such as "a drop": no forecast is made meanwhile, and none from
        before is judged."""
        self.overtaken(what)
        self._changing.append(what)
        try:
            yield
        finally:
            self._changing.remove(what)

    async def run(self) -> None:
        """Write what is new; for ever."""
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
        """The service ends: as things stand, for a report that is made without it."""
        self._record = interrupted(self._record, "a restart")
        self._scored = scored(self._record)
        self._history = observed(self._history, snapshot)
        self._latest = snapshot.model_copy(update={"forecasts": self._scored})
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
        await self._ledger.write_mark(at_s)
        self._marked_s = self._clock.monotonic_s()

    async def _save(self) -> None:
        if self._latest is None:
            return
        self._saved_s, self._has_changed = self._clock.monotonic_s(), False
        await self._ledger.keep(
            {
                HISTORY: packed(self._history),
                FORECASTS: packed(self._record),
                PRESENT: packed(self._present(self._latest)),
            }
        )


def packed(value: BaseModel) -> bytes:
    return zlib.compress(value.model_dump_json().encode())


def unpacked(value: bytes | None, kind: type[_Model]) -> _Model | None:
    """None if there is none, or none that can be read: a report without it is better than none."""
    try:
        return None if value is None else kind.model_validate_json(zlib.decompress(value))
    except (zlib.error, ValidationError):
        return None
