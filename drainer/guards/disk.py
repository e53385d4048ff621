"""Bytes and inodes free on the filesystems of the ledger, of its other files, of the MTA's spool and of the queue.

In    paths, limits, the verdicts of the last look
Out   guards

Too little room for the ledger stops feeding: an attempt that cannot be recorded must not be made. The MTA's spool stops it
as well: what is fed goes there, and an MTA without room refuses mail or, worse, loses time on it. Both slow feeding from
twice the limit. Too little room for the queue is shown and stops nothing: draining only renames and unlinks there, and so
makes room.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from drainer.guards.verdict import Guard, Marks, Verdict, judged, not_below, unknown

SLOW_FROM = 2.0
"""Feeding slows where less is free than the limit so many times."""


@dataclass(frozen=True, slots=True)
class FreeSpace:
    """Free and in all, for users other than root.

    inodes  None: the filesystem makes them as needed (btrfs, some NFS)
    """

    bytes: int
    inodes: int | None
    of_bytes: int
    of_inodes: int


def free_space(path: Path) -> FreeSpace:
    """Of the filesystem of `path`, or of its nearest parent that exists. Raises OSError."""
    status = os.statvfs(_existing(path))
    return FreeSpace(
        bytes=status.f_bavail * status.f_frsize,
        inodes=status.f_favail if status.f_files else None,
        of_bytes=status.f_blocks * status.f_frsize,
        of_inodes=status.f_files,
    )


@dataclass(frozen=True, slots=True)
class Places:
    """What to look at.

    state_dir  of the index, the loan and the locks (ledger.state_dir); None: beside the ledger
    spool      of the MTA; None: it has none here
    """

    ledger: Path
    queue_dir: Path
    state_dir: Path | None = None
    spool: Path | None = None


def disk_guards(
    places: Places, min_free_bytes: int, min_free_inodes: int, before: Mapping[str, Verdict] | None = None
) -> list[Guard]:
    """Guards ledger_*, state_* and mta_spool_*, which can slow and stop; queue_*, which only inform. Those of a filesystem
    that the ledger is on too are left out: the ledger's own speak for it.

    before  verdicts of the last look, by name
    """
    verdicts = before or {}
    guards = _acting("ledger", places.ledger, min_free_bytes, min_free_inodes, verdicts)
    for name, path in (("state", places.state_dir), ("mta_spool", places.spool)):
        if path is not None and not _is_same_filesystem(path, places.ledger):
            guards += _acting(name, path, min_free_bytes, min_free_inodes, verdicts)
    return [*guards, *_queue(places.queue_dir, min_free_bytes, min_free_inodes)]


def _acting(
    name: str, path: Path, min_free_bytes: int, min_free_inodes: int, before: Mapping[str, Verdict]
) -> list[Guard]:
    try:
        free = free_space(path)
    except OSError as exc:
        # A spool that the service's user may not look at says nothing about its room; the ledger's filesystem has to answer.
        verdict: Verdict = "go" if name == "mta_spool" else "stop"
        return [unknown(f"{name}_bytes", verdict, f"filesystem of {path}: {exc.strerror}")]
    found = []
    for unit, amount, least in (("bytes", free.bytes, min_free_bytes), ("inodes", free.inodes, min_free_inodes)):
        if amount is not None:
            of, marks = f"{name}_{unit}", Marks(SLOW_FROM * least, least)
            what = f"{unit} free for {path}"
            found.append(judged(of, amount, marks, what, before.get(of, "go"), is_scarce=True))
    return found


def _queue(directory: Path, min_free_bytes: int, min_free_inodes: int) -> list[Guard]:
    try:
        free = free_space(directory)
    except OSError as exc:
        return [unknown("queue_bytes", "go", f"filesystem of {directory}: {exc.strerror}")]
    guards = [not_below("queue_bytes", free.bytes, min_free_bytes, f"bytes free under {directory}", "go")]
    if free.inodes is not None:
        guards.append(not_below("queue_inodes", free.inodes, min_free_inodes, f"inodes free under {directory}", "go"))
    return guards


def _is_same_filesystem(one: Path, other: Path) -> bool:
    try:
        return _existing(one).stat().st_dev == _existing(other).stat().st_dev
    except OSError:
        return False


def _existing(path: Path) -> Path:
    """It, or its nearest parent that exists. Raises OSError where that cannot be known."""
    while path != path.parent:
        try:
            path.stat()
        except (FileNotFoundError, NotADirectoryError):
            path = path.parent
        else:
            break
    return path
