"""A ledger looked at without its service: its file is copied, with its write-ahead log, and the copy is opened.

In    the path of a ledger
Out   the path of the copy, and when the ledger was last written
Not here  what is read from it (without_service/, report/incident/from_ledger.py)

Opened where it lies, SQLite would make files beside it that belong to whoever looked, and might lock out a service that
starts. So whoever may read the ledger may look, root and the user the service runs as; the ledger stays as it is.

INVARIANT copied-whole: the copy is what some moment had. A checkpoint writes the file and only then may the log begin anew;
  so if the file did not change while both were copied, it and a beginning of the log belong together.
"""

from __future__ import annotations

import contextlib
import errno
import os
import pwd
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from drainer.errors import LedgerUnusable, SiteUnreadable
from drainer.files.regular_file import kind_of
from drainer.ledger.sqlite_file import APPLICATION_ID, translated

_TRIES = 5
_OTHER_PLACES = ("/dev/shm", "/var/tmp")
"""Where the copy goes if the usual directory for temporary files is full, as it may be in an outage."""


@dataclass(frozen=True, slots=True)
class CopiedLedger:
    """path: of the copy; its directory is for this reader alone. written_s: when the original was last written, in seconds
    since the epoch."""

    path: Path
    written_s: float


@contextmanager
def copied_ledger(path: Path) -> Iterator[CopiedLedger]:
    """The copy is there as long as the block runs.

    Raises  SiteUnreadable: there is no ledger, it cannot be read or copied; LedgerUnusable: it is no ledger of ours, damaged
    """
    with contextlib.ExitStack() as stack:
        copied = _first_with_room(path, stack)
        _require_ours(copied.path, path)
        yield copied


def _first_with_room(path: Path, stack: contextlib.ExitStack) -> CopiedLedger:
    places = [tempfile.gettempdir(), *(place for place in _OTHER_PLACES if os.access(place, os.W_OK))]
    for place in places:
        directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="drainer-look-", dir=place))
        copy = Path(directory) / "ledger.sqlite"
        try:
            return CopiedLedger(copy, _copy(path, copy))
        except FileNotFoundError as exc:
            raise SiteUnreadable(f"{path}: there is no ledger; was drainer ever run with these settings?") from exc
        except PermissionError as exc:
            raise SiteUnreadable(f"{path} cannot be read by this user{_who_may(path)}") from exc
        except OSError as exc:
            if exc.errno not in (errno.ENOSPC, errno.EDQUOT) or place == places[-1]:
                raise SiteUnreadable(f"{path} cannot be copied to {directory}: {exc.strerror}") from exc
            copy.unlink(missing_ok=True)
            copy.with_name(f"{copy.name}-wal").unlink(missing_ok=True)
    raise AssertionError("unreachable: the last place returns or raises")


def _who_may(path: Path) -> str:
    """ "; right would be to ask as root, or as user list"."""
    for place in (path, *path.parents):
        with contextlib.suppress(OSError, KeyError):
            return f"; right would be to ask as root, or as user {pwd.getpwuid(place.stat().st_uid).pw_name}"
    return "; right would be to ask as root, or as the user drainer runs as"


def _copy(path: Path, copy: Path) -> float:
    """Returns when the original was last written."""
    log = path.with_name(f"{path.name}-wal")
    copied_log = copy.with_name(f"{copy.name}-wal")
    for _ in range(_TRIES):
        before = path.stat()
        if kind := kind_of(before.st_mode):
            raise LedgerUnusable(f"{path} is {kind}, and no ledger")
        shutil.copyfile(path, copy)
        logged_s = 0.0
        try:
            if log.stat().st_size:
                logged_s = log.stat().st_mtime
            shutil.copyfile(log, copied_log)
        except FileNotFoundError:
            copied_log.unlink(missing_ok=True)
        after = path.stat()
        if (before.st_mtime_ns, before.st_size, before.st_ino) == (after.st_mtime_ns, after.st_size, after.st_ino):
            return max(before.st_mtime, logged_s)
    raise SiteUnreadable(f"{path} is being written too fast to be copied; ask the service on its host")


def _require_ours(copy: Path, path: Path) -> None:
    try:
        with closing(sqlite3.connect(copy, isolation_level=None)) as reader:
            (application_id,) = reader.execute("PRAGMA application_id").fetchone()
    except sqlite3.Error as exc:
        raise translated(exc, path) from exc
    if application_id != APPLICATION_ID:
        raise LedgerUnusable(f"{path} is not a drainer ledger")
