"""The report of a drain whose service is not there to ask: from the ledger's file alone, which is not touched.

In    the path of a ledger
Out   an Incident
Not here  what a report says (incident.py); how a running service makes one (operate/operations.py); how the file is copied
          (ledger/copied.py)
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from drainer import __version__
from drainer.ledger.account import account
from drainer.ledger.copied import copied_ledger
from drainer.ledger.evidence import Account
from drainer.ledger.sqlite_file import migrate, migrations, translated
from drainer.report.burn_down import BurnDown
from drainer.report.incident.document import LINES, Incident
from drainer.report.incident.facts import incident
from drainer.report.inventory import Inventory
from drainer.report.record_writer import HISTORY, PRESENT, unpacked
from drainer.report.snapshot import SilentState


def incident_of(
    path: Path, now_s: float, since_s: float | None = None, silent: SilentState = "not_running"
) -> Incident:
    """since_s: as Ledger.account. silent: why the service was not asked.

    Raises DrainerError: there is no ledger, it cannot be read or copied; LedgerUnusable: not a ledger, damaged, newer
    """
    found = read_account(path, since_s)
    present = unpacked(found.kept.get(PRESENT), Inventory)
    history = unpacked(found.kept.get(HISTORY), BurnDown) or BurnDown()
    return incident(
        found, present, history, version=__version__, now_s=now_s, live=False, since_s=since_s, silent=silent
    )


def read_account(path: Path, since_s: float | None) -> Account:
    """Raises as incident_of."""
    with copied_ledger(path) as copied:
        try:
            with closing(sqlite3.connect(copied.path, isolation_level=None)) as reader:
                migrate(reader, migrations(), path)
                return account(reader, LINES, since_s)
        except sqlite3.Error as exc:
            raise translated(exc, path) from exc
