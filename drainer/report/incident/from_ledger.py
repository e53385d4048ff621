"""The incident report without a running service: from a copy of the ledger's file, which stays untouched.

In    the settings of a ledger
Out   an Incident
Not here  the contents of a report (facts.py); the report of a running service (operate/); the copy (ledger/copied.py)
"""

from __future__ import annotations

import sqlite3
from contextlib import closing

from drainer import __version__
from drainer.ledger.account import account
from drainer.ledger.evidence import Account
from drainer.ledger.open import copy_of
from drainer.ledger.queue_rows import claimed_last
from drainer.ledger.sqlite_file import migrate, migrations, translated
from drainer.report.burn_down import BurnDown
from drainer.report.incident.document import LINES, Incident
from drainer.report.incident.facts import make_incident
from drainer.report.inventory import Inventory
from drainer.report.record_writer import HISTORY, PRESENT, unpacked
from drainer.report.snapshot import SilentState
from drainer.settings.ledger import LedgerSettings


def incident_of(
    settings: LedgerSettings, now_s: float, since_s: float | None = None, silent: SilentState = "not_running"
) -> Incident:
    """The report.

    since_s  as for Ledger.account
    silent   why the service was not asked

    Raises   DrainerError: there is no ledger, or it cannot be read or copied; LedgerUnusable: not a ledger, damaged, newer
    """
    found = read_account(settings, since_s)
    inventory = unpacked(found.kept.get(PRESENT), Inventory)
    burn_down = unpacked(found.kept.get(HISTORY), BurnDown) or BurnDown()
    return make_incident(
        found, inventory, burn_down, version=__version__, now_s=now_s, live=False, since_s=since_s, silent=silent
    )


def read_account(settings: LedgerSettings, since_s: float | None) -> Account:
    """The account of a ledger's file. Raises as incident_of."""
    with copy_of(settings) as copied:
        try:
            with closing(sqlite3.connect(copied.path, isolation_level=None)) as reader:
                migrate(reader, migrations(), settings.path)
                return account(reader, claimed_last(reader).number, LINES, since_s)
        except sqlite3.Error as exc:
            raise translated(exc, settings.path) from exc
