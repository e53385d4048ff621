"""One suite, run on every Ledger. `ledger` is open; a second open after close finds what was written."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from drainer.clock import StoppedClock
from drainer.ledger.contract import Ledger
from drainer.ledger.memory import MemoryLedger
from drainer.ledger.sqlite import SqliteLedger


def memory(path: Path) -> Ledger:
    return MemoryLedger(StoppedClock())


def sqlite(path: Path) -> Ledger:
    return SqliteLedger(path / "ledger.sqlite", StoppedClock())


@pytest.fixture(params=[memory, sqlite], ids=["memory", "sqlite"])
async def ledger(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Ledger]:
    opened: Ledger = request.param(tmp_path)
    await opened.open()
    yield opened
    await opened.close()
