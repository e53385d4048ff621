"""The report of a drain whose service is not there to ask: from the ledger's file alone, which is not touched.

In    the path of a ledger
Out   an Incident
Not here  what a report says (incident.py); how a running service makes one (operations.py)

The file is copied, with its write-ahead log, into a directory of its own, and the copy is opened: looking at a ledger must
neither lock out a service that starts, nor leave files of the user who looked, nor bring a ledger up to date.

INVARIANT copied-whole: the copy is what some moment had. A checkpoint writes the file and only then may the log begin anew;
  so as long as the file did not change while both were copied, it and a beginning of the log belong together.
"""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path

from drainer import __version__
from drainer.errors import DrainerError, LedgerUnusable
from drainer.ledger.account import account
from drainer.ledger.evidence import Account
from drainer.ledger.sqlite_file import APPLICATION_ID, migrate, migrations, translated
from drainer.report.history import History
from drainer.report.incident import LINES, Incident
from drainer.report.incident_facts import incident
from drainer.report.present import Present
from drainer.report.recorder import HISTORY, PRESENT, unpacked

_TRIES = 5


def incident_of(path: Path, now_s: float, since_s: float | None = None) -> Incident:
    """since_s: as Ledger.account.

    Raises DrainerError: there is no ledger, it cannot be read or copied; LedgerUnusable: not a ledger, damaged, newer
    """
    found = read_account(path, since_s)
    present = unpacked(found.kept.get(PRESENT), Present)
    history = unpacked(found.kept.get(HISTORY), History) or History()
    return incident(found, present, history, version=__version__, now_s=now_s, live=False, since_s=since_s)


def read_account(path: Path, since_s: float | None) -> Account:
    """Raises as incident_of."""
    with tempfile.TemporaryDirectory(prefix="drainer-report-") as directory:
        copy = Path(directory) / "ledger.sqlite"
        try:
            _copy(path, copy)
        except FileNotFoundError as exc:
            raise DrainerError(f"{path}: there is no ledger; was drainer ever run with these settings?") from exc
        except OSError as exc:
            raise DrainerError(f"{path} cannot be copied to {directory}: {exc.strerror}") from exc
        try:
            with closing(sqlite3.connect(copy, isolation_level=None)) as reader:
                (application_id,) = reader.execute("PRAGMA application_id").fetchone()
                if application_id != APPLICATION_ID:
                    raise LedgerUnusable(f"{path} is not a drainer ledger")
                migrate(reader, migrations(), path)
                return account(reader, LINES, since_s)
        except sqlite3.Error as exc:
            raise translated(exc, path) from exc


def _copy(path: Path, copy: Path) -> None:
    log = path.with_name(f"{path.name}-wal")
    for _ in range(_TRIES):
        before = path.stat()
        shutil.copyfile(path, copy)
        try:
            shutil.copyfile(log, copy.with_name(f"{copy.name}-wal"))
        except FileNotFoundError:
            copy.with_name(f"{copy.name}-wal").unlink(missing_ok=True)
        after = path.stat()
        if (before.st_mtime_ns, before.st_size, before.st_ino) == (after.st_mtime_ns, after.st_size, after.st_ino):
            return
    raise DrainerError(f"{path} is being written too fast to be copied; ask the service: `drainer report` on its host")
