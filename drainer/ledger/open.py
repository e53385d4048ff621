"""The ledger of the settings: the only place that knows which implementation it is and where it lies.

In    the settings of [ledger]
Out   a ledger that is not open yet; an empty one for a dry run; a copy to look at
Not here  which queue it belongs to (start/ledger_check.py); where index, loan and locks lie (LedgerSettings.state_directory)
"""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from drainer.clock import Clock
from drainer.ledger.contract import Ledger
from drainer.ledger.copied import CopiedLedger, copied_ledger
from drainer.ledger.sqlite import SqliteLedger
from drainer.settings.ledger import LedgerSettings


def ledger_of(settings: LedgerSettings, clock: Clock | None = None) -> Ledger:
    """The ledger that one drainer writes."""
    return SqliteLedger(settings.path, clock)


def is_there(settings: LedgerSettings) -> bool:
    """Whether there is a ledger; to open one that is not there makes it."""
    return settings.path.exists()


def place_of(settings: LedgerSettings) -> str:
    """Where it is, in words."""
    return str(settings.path)


@asynccontextmanager
async def empty_ledger(clock: Clock | None = None) -> AsyncIterator[Ledger]:
    """An open ledger that knows nothing and is gone afterwards: for a dry run where none may be made."""
    with tempfile.TemporaryDirectory(prefix="drainer-dry-run-") as directory:
        ledger = SqliteLedger(Path(directory) / "ledger.sqlite", clock)
        await ledger.open()
        try:
            yield ledger
        finally:
            await ledger.close()


@contextmanager
def copy_of(settings: LedgerSettings) -> Iterator[CopiedLedger]:
    """A copy of the ledger, to look at without a lock. Raises as copied_ledger."""
    with copied_ledger(settings.path) as copied:
        yield copied


def ledger_of_copy(copied: CopiedLedger) -> Ledger:
    return SqliteLedger(copied.path)
