"""One suite, run on every Ledger. `ledger` is open; a second open after close finds what was written."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest

from drainer.clock import StoppedClock
from drainer.ledger.contract import Ledger
from drainer.ledger.evidence import Ended, Event, Evidence, Fate
from drainer.ledger.records import (
    Deferral,
    DsnRecipient,
    Hold,
    MessageRecord,
    NewAttempt,
    NewDsn,
    Outcome,
    Queue,
)
from drainer.ledger.sqlite import SqliteLedger
from drainer.ledger.states import State
from tests.ledger.memory import MemoryLedger

Opened = Callable[[Path], AbstractAsyncContextManager[Ledger]]

NEIGHBOUR = Queue("99" * 8, "/queue", "neighbour:1")
AT = 1_700_000_100.75


@asynccontextmanager
async def memory(path: Path) -> AsyncIterator[Ledger]:
    """The model."""
    yield MemoryLedger(StoppedClock())


@asynccontextmanager
async def sqlite(path: Path) -> AsyncIterator[Ledger]:
    ledger = SqliteLedger(path / "ledger.sqlite", StoppedClock())
    await ledger.open()
    yield ledger
    await ledger.close()


@asynccontextmanager
async def shared(path: Path) -> AsyncIterator[Ledger]:
    """SQLite, with another drainer on the same file: in its queue much is in flight, under the names the tests use."""
    ledger, neighbour = (SqliteLedger(path / "ledger.sqlite", StoppedClock(), is_alone=False) for _ in "12")
    await ledger.open()
    await ledger.claim(Queue("11" * 8, "/queue", "tested:1"), known_as="")
    await neighbour.open()
    await neighbour.claim(NEIGHBOUR)
    await busy(neighbour)
    await ledger.claim(Queue("11" * 8, "/queue", "tested:1"))
    yield ledger
    await ledger.close()
    await neighbour.close()


async def busy(ledger: Ledger) -> None:
    """Some of everything that belongs to a queue."""
    message = MessageRecord((b"\x7f" + b"n" * 15,), "list.example.org", "<neighbour@example.org>")
    await ledger.keep({"name": b"neighbour", "before": b"neighbour"})
    for name in ("1700000000.5+" + "1" * 40, "1700000099.25+" + "2" * 40):
        people = [f"{number}@{name[-3:]}.example.org" for number in range(6)]
        await ledger.open_attempt(NewAttempt(name, message, "b@l", (people[0],), AT))
        outcomes = [
            Outcome(state, (address,), "neighbour", AT)
            for address, state in zip(
                people[1:], (State.FAILED, State.SKIPPED, State.HELD, State.DEFERRED, State.IN_DOUBT), strict=True
            )
        ]
        failed = (DsnRecipient(people[1], people[1], "550"),)
        await ledger.record(name, message, outcomes, [NewDsn(name, message, "b@l", failed, b"A: b\r\n", "", AT)])
        await ledger.hold([Hold(name, "operator", "neighbour", "ann", AT)])
        await ledger.defer(Deferral(name, 1, AT, AT + 5, 1, "450"))
        dropped = Evidence(Fate.DROPPED, name, AT, "list.example.org", "<one@example.org>", 1)
        await ledger.finish_entry(name + "9", {"delivered_entries": 7}, Ended(Fate.DELIVERED, "list"), [dropped])
        await ledger.write_event(Event(AT, "run", "started"))
    await ledger.write_baseline(AT)


@pytest.fixture(params=[memory, sqlite, shared], ids=["memory", "sqlite", "shared"])
async def ledger(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Ledger]:
    opened: Opened = request.param
    async with opened(tmp_path) as one:
        yield one
