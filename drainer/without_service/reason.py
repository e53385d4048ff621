"""Why the service does not answer, and since when, as far as the ledger has it.

In    the copy of the ledger, custody's lock
Out   a WithoutService, as the snapshot shows it
"""

from __future__ import annotations

import contextlib
import time
from contextlib import closing
from pathlib import Path

from drainer.files.regular_file import read_regular
from drainer.ledger.account import latest_event
from drainer.ledger.copied import CopiedLedger
from drainer.ledger.evidence import Event
from drainer.ledger.queue_rows import claimed_last
from drainer.ledger.sqlite_file import open_reader
from drainer.queuedir.scan import CUSTODY_DIRECTORY
from drainer.report.snapshot import SilentState, Snapshot, WithoutService
from drainer.settings import Settings

KILLED = "it was killed or crashed, or the machine went down"
_MOST_LOCK_BYTES = 4096


def why_silent(
    settings: Settings, state: SilentState, reason: str, copied: CopiedLedger, recorded: Snapshot | None
) -> WithoutService:
    asked_s = time.time()
    as_of_s = min(copied.written_s, asked_s)
    found = WithoutService(
        state=state,
        reason=reason,
        since=as_of_s,
        as_of=as_of_s,
        recorded_at=recorded.at if recorded else None,
        recorded_recipients=recorded.backlog.recipients if recorded else None,
    )
    if state == "not_answering":
        return found.model_copy(update={"since": asked_s})
    if pid := lock_holder(settings.mailman.queue_dir / CUSTODY_DIRECTORY / "lock"):
        listens = f"process {pid} has the queue, but does not listen on {settings.control.socket} (yet)"
        return found.model_copy(update={"state": "not_answering", "reason": listens, "since": asked_s})
    with closing(open_reader(copied.path)) as reader:
        last = latest_event(reader, claimed_last(reader).number, "run")
    if last is None:
        return found
    if last.what == "stopped":
        return found.model_copy(update={"reason": _ended(last), "since": last.at_s})
    return found.model_copy(update={"reason": KILLED})


def _ended(last: Event) -> str:
    return {
        "SIGTERM": "it was stopped",
        "SIGINT": "it was stopped by Ctrl-C",
        "": "it ended by an error: see its log",
    }.get(last.detail, last.detail)


def lock_holder(lock: Path) -> int:
    """The process that has custody's lock, 0 if none has: read from /proc/locks, since to try the lock is to take it."""
    with contextlib.suppress(OSError, ValueError):
        inode, pid = lock.stat().st_ino, int(read_regular(lock, _MOST_LOCK_BYTES, follow=False)[:16].split(b"\n")[0])
        for line in Path("/proc/locks").read_text("ascii").splitlines():
            fields = line.split()
            if "FLOCK" in fields and str(pid) in fields and any(field.endswith(f":{inode}") for field in fields):
                return pid
    return 0
