"""Bytes and inodes free on the filesystems of the ledger and of the queue, and the machine's load.

In    paths and limits
Out   guards

Too little room for the ledger stops feeding: an attempt that cannot be recorded must not be made. Too little room for the
queue is shown and stops nothing: draining only renames and unlinks there, and so makes room.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from drainer.guards.verdict import Guard, not_above, not_below, unknown


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
    while not path.exists() and path != path.parent:
        path = path.parent
    status = os.statvfs(path)
    return FreeSpace(
        bytes=status.f_bavail * status.f_frsize,
        inodes=status.f_favail if status.f_files else None,
        of_bytes=status.f_blocks * status.f_frsize,
        of_inodes=status.f_files,
    )


def disk_guards(ledger_path: Path, queue_dir: Path, min_free_bytes: int, min_free_inodes: int) -> list[Guard]:
    """Guards ledger_bytes and ledger_inodes, which can say stop; queue_bytes and queue_inodes, which only inform."""
    return [
        *_ledger(ledger_path, min_free_bytes, min_free_inodes),
        *_queue(queue_dir, min_free_bytes, min_free_inodes),
    ]


def load_guard(max_load: float) -> Guard:
    """slow while the 1-minute load is above max_load; max_load 0: always go."""
    load = os.getloadavg()[0]
    if not max_load:
        return Guard(name="load", verdict="go", value=load)
    return not_above("load", load, max_load, "load", "slow")


def _ledger(path: Path, min_free_bytes: int, min_free_inodes: int) -> list[Guard]:
    try:
        free = free_space(path)
    except OSError as exc:
        return [unknown("ledger_bytes", "stop", f"filesystem of {path}: {exc.strerror}")]
    guards = [not_below("ledger_bytes", free.bytes, min_free_bytes, f"bytes free for {path}", "stop")]
    if free.inodes is not None:
        guards.append(not_below("ledger_inodes", free.inodes, min_free_inodes, f"inodes free for {path}", "stop"))
    return guards


def _queue(directory: Path, min_free_bytes: int, min_free_inodes: int) -> list[Guard]:
    try:
        free = free_space(directory)
    except OSError as exc:
        return [unknown("queue_bytes", "go", f"filesystem of {directory}: {exc.strerror}")]
    guards = [not_below("queue_bytes", free.bytes, min_free_bytes, f"bytes free under {directory}", "go")]
    if free.inodes is not None:
        guards.append(not_below("queue_inodes", free.inodes, min_free_inodes, f"inodes free under {directory}", "go"))
    return guards
