"""Lists what a queue directory holds; opens nothing.

In    a directory of Mailman's, or one of ours beside it
Out   well-formed entries with size and age, streamed in the order of the directory (the index sorts them); names that
      are no entry's, with the reason; how many of each there were
Not here  what is in a file

A million files pass through one at a time, with one stat each, and none is kept in memory.
"""

from __future__ import annotations

import math
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from drainer.files.regular_file import kind_of
from drainer.queuedir.filebase import HALF_WRITTEN, ForeignName, QueueFile, Suffix, parse_name, received_s

FOREIGN_NAMES_KEPT = 1000
"""Foreign names remembered by one listing; more than these are only counted."""

CUSTODY_DIRECTORY = "drainer"
"""Ours, in the directory that holds Mailman's queues."""

_WAITING = Suffix.WAITING.value


@dataclass(frozen=True, slots=True)
class ListedFile:
    """An entry as the listing saw it.

    written_s  when its content was written (mtime), seconds since the epoch
    changed_s  when it was last written or renamed (the later of mtime and ctime): for a .bak, when it was claimed
    """

    file: QueueFile
    size_bytes: int
    written_s: float
    changed_s: float


@dataclass(slots=True)
class QueueScan:
    """One listing of one directory. Iterate it once; the counts grow meanwhile and are complete afterwards.

    foreign        names that are no entry's, at most FOREIGN_NAMES_KEPT of them; foreign_count has them all
    kills_runner   a foreign name on which Mailman's own runner dies, "" if there was none
    waiting, claimed, preserved   entries seen with .pck, .bak, .psv
    vanished       entries gone between the listing and the stat
    Raises  OSError if the directory itself cannot be listed
    """

    directory: Path
    foreign: list[ForeignName] = field(default_factory=list)
    foreign_count: int = 0
    kills_runner: str = ""
    waiting: int = 0
    claimed: int = 0
    preserved: int = 0
    vanished: int = 0

    def __iter__(self) -> Iterator[ListedFile]:
        with os.scandir(self.directory) as listing:
            for found in listing:
                file = parse_name(found.name)
                if isinstance(file, ForeignName):
                    self._note(file)
                    continue
                try:
                    status = found.stat(follow_symlinks=False)
                except FileNotFoundError:
                    self.vanished += 1
                    continue
                if not stat.S_ISREG(status.st_mode):
                    self._note(ForeignName(found.name, f"{kind_of(status.st_mode)}, not a regular file"))
                    continue
                match file.suffix:
                    case Suffix.WAITING:
                        self.waiting += 1
                    case Suffix.CLAIMED:
                        self.claimed += 1
                    case Suffix.PRESERVED:
                        self.preserved += 1
                yield ListedFile(file, status.st_size, status.st_mtime, max(status.st_mtime, status.st_ctime))

    def batches(self, size: int) -> Iterator[list[ListedFile]]:
        """The entries in lists of at most `size`, for a caller that has other things to do in between."""
        files = iter(self)
        while batch := list(islice(files, size)):
            yield batch

    @property
    def skipped(self) -> list[ForeignName]:
        """The part of `foreign` that is not being written just now."""
        return sorted((name for name in self.foreign if not name.name.endswith(HALF_WRITTEN)), key=lambda one: one.name)

    @property
    def skipped_count(self) -> int:
        """How many, also if `foreign` does not hold them all."""
        return self.foreign_count - (len(self.foreign) - len(self.skipped))

    def _note(self, name: ForeignName) -> None:
        self.foreign_count += 1
        if len(self.foreign) < FOREIGN_NAMES_KEPT:
            self.foreign.append(name)
        if name.kills_runner and not self.kills_runner:
            self.kills_runner = name.name


def waiting_in(directory: Path, written_until_s: float = math.inf) -> Iterator[tuple[float, int]]:
    """Received time and size in bytes of every .pck that a scan would list, written no later than that. For sums that are
    wanted first: it takes 60 % of the time of a scan."""
    with os.scandir(directory) as listing:
        for found in listing:
            when_s = received_s(found.name) if found.name.endswith(_WAITING) else None
            if when_s is None:
                continue
            try:
                status = found.stat(follow_symlinks=False)
            except FileNotFoundError:
                continue
            if stat.S_ISREG(status.st_mode) and status.st_mtime <= written_until_s:
                yield when_s, status.st_size


def scan_queue(directory: Path) -> QueueScan:
    """A listing of `directory`, made while it is iterated."""
    return QueueScan(directory)


@dataclass(frozen=True, slots=True)
class QueueCounts:
    """How much one of Mailman's queues holds, without opening anything.

    entries   regular files: .pck, .bak and, in bad/, .psv
    oldest_s  least received time in seconds since the epoch; None if there is no entry
    """

    name: str
    entries: int
    oldest_s: float | None


class QueueCensus:
    """Counts every queue of a queue_dir; a queue whose directory has not changed since is not listed again.

    settled_s  a directory modified less than this before the count is counted again next time: its mtime may be too
               coarse to show a later change (a kernel tick on Linux, up to two seconds elsewhere)
    """

    def __init__(self, queue_dir: Path, settled_s: float = 2.0) -> None:
        self._queue_dir = queue_dir
        self._settled_s = settled_s
        self._known: dict[str, tuple[int, QueueCounts]] = {}

    def count(self, now_s: float) -> list[QueueCounts]:
        """Every Mailman queue, by name. A queue that cannot be listed (vanished, not permitted) is left out.

        Raises  OSError if queue_dir itself cannot be listed
        """
        with os.scandir(self._queue_dir) as listing:
            names = sorted(found.name for found in listing if found.is_dir() and _is_queue(found.name))
        counts: list[QueueCounts] = []
        for name in names:
            directory = self._queue_dir / name
            try:
                modified_ns = directory.stat().st_mtime_ns
                known = self._known.get(name)
                if known and known[0] == modified_ns:
                    counts.append(known[1])
                    continue
                counted = _count(name, directory)
            except (FileNotFoundError, PermissionError):
                continue
            counts.append(counted)
            if modified_ns / 1e9 < now_s - self._settled_s:
                self._known[name] = (modified_ns, counted)
            else:
                self._known.pop(name, None)
        return counts


def queue_counts(queue_dir: Path) -> list[QueueCounts]:
    """Every Mailman queue in queue_dir, counted once. Raises OSError if queue_dir cannot be listed."""
    return QueueCensus(queue_dir).count(0.0)


def _is_queue(name: str) -> bool:
    return name != CUSTODY_DIRECTORY and not name.startswith(".")


def _count(name: str, directory: Path) -> QueueCounts:
    entries = 0
    oldest_s: float | None = None
    with os.scandir(directory) as listing:
        for found in listing:
            when_s = received_s(found.name)
            if when_s is None or not found.is_file(follow_symlinks=False):
                continue
            entries += 1
            if oldest_s is None or when_s < oldest_s:
                oldest_s = when_s
    return QueueCounts(name, entries, oldest_s)
