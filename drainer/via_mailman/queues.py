"""Looks into Mailman's queues for entries handed over: out/, retry/, shunt/ and bad/ at one and the same moment.

In    queue_dir; since when entries are wanted
Out   a QueueListing, or None when Mailman moved something meanwhile: look again
Not here  what it means (whereabouts.py)

INVARIANT one-moment: a QueueListing shows every file that was there throughout.
  An entry that Mailman is about to rename could be missed under both names, and be taken for finished. So a listing counts
  only if no directory changed from before the first one until after the last one: every rename and unlink sets the mtime
  of its directory. An mtime advances by kernel ticks, so it also has to be a tick older than the first listing.
Held by tests/via_mailman/test_queues.py.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from drainer.clock import Clock
from drainer.duplicates.summary import summarise
from drainer.errors import EntryError, EntryUnreadable
from drainer.files.regular_file import open_regular
from drainer.mta_log.mailman_smtp_log import ENDS_21, SmtpLog
from drainer.queuedir.filebase import HOME_QUEUE
from drainer.queuedir.read import read_entry
from drainer.queuedir.scan import ListedFile, scan_queue
from drainer.via_mailman.whereabouts import WRITTEN_EARLIER_S, SeenEntry, enqueued_digest, was_handled

FOLLOWED_QUEUES = ("out", "retry", "shunt", "bad")
_READ_FOR_THEIR_CONTENT = ("out", "retry", "shunt")
TICK_S = 0.012
"""A little more than the longest kernel tick (HZ=100)."""


@dataclass(frozen=True, slots=True)
class QueueListing:
    """files: per queue, name to what the listing saw. seen: entries written since then, except those handed over."""

    files: Mapping[str, Mapping[str, ListedFile]]
    seen: tuple[SeenEntry, ...]


class MailmanQueues:
    """For one thread at a time."""

    def __init__(self, queue_dir: Path, clock: Clock) -> None:
        self._queue_dir = queue_dir
        self._clock = clock
        self._listed: dict[str, tuple[int, dict[str, ListedFile]]] = {}
        self._read: dict[tuple[str, str], SeenEntry | None] = {}

    def look(self, since_s: float, ours: Collection[str]) -> QueueListing | None:
        """Everything at one moment, or None.

        since_s   when the oldest handover began; Mailman made no entry of it that was written earlier
        ours      filebases in out/ that were handed over
        """
        before = self._changes()
        if max(before.values()) / 1e9 > self._clock.now_s() - TICK_S:
            return None
        files = {queue: self._list(queue, changed_ns) for queue, changed_ns in before.items()}
        seen = []
        for queue in _READ_FOR_THEIR_CONTENT:
            for listed in files.get(queue, {}).values():
                if listed.written_s < since_s - WRITTEN_EARLIER_S or listed.file.filebase in ours:
                    continue
                try:
                    found = self.read(queue, listed)
                except EntryError:
                    return None
                if found is not None:
                    seen.append(found)
        if self._changes() != before:
            return None
        present = {(queue, listed.file.filebase) for queue, listing in files.items() for listed in listing.values()}
        self._read = {place: found for place, found in self._read.items() if place in present}
        return QueueListing(files, tuple(seen))

    def read(self, queue: str, listed: ListedFile) -> SeenEntry | None:
        """What an entry is; None if it cannot be read: then Mailman did not make it. Raises EntryVanished."""
        place = (queue, listed.file.filebase)
        if place not in self._read:
            self._read[place] = self._read_file(queue, listed)
        found = self._read[place]
        if found is None or found.file == listed.file:
            return found
        return replace(found, file=listed.file)

    def _read_file(self, queue: str, listed: ListedFile) -> SeenEntry | None:
        try:
            entry = read_entry(self._queue_dir / queue / listed.file.name)
            summary = summarise(entry)
        except (EntryUnreadable, OSError):
            return None
        return SeenEntry(
            queue, listed.file, listed.size_bytes, listed.written_s, summary.list_id, summary.message_id,
            enqueued_digest(entry.metadata), summary.fingerprint.identity, entry.recipients,
            was_handled(entry.metadata),
        )  # fmt: skip

    def _changes(self) -> dict[str, int]:
        """mtime of each queue there is, in nanoseconds."""
        found = {}
        for queue in FOLLOWED_QUEUES:
            try:
                found[queue] = (self._queue_dir / queue).stat().st_mtime_ns
            except FileNotFoundError:
                if queue == HOME_QUEUE:
                    raise
        return found

    def _list(self, queue: str, changed_ns: int) -> dict[str, ListedFile]:
        known = self._listed.get(queue)
        if known is not None and known[0] == changed_ns:
            return known[1]
        files = {listed.file.name: listed for listed in scan_queue(self._queue_dir / queue)}
        self._listed[queue] = (changed_ns, files)
        return files


class SmtpLogFile:
    """Mailman's smtp log, read on from where it was left; 2.1 writes how a delivery ended to two files beside it."""

    def __init__(self, path: Path | None) -> None:
        self.log = SmtpLog()
        self._places: dict[Path, tuple[int, int]] = {}
        if path is not None:
            self._places = dict.fromkeys((path, *(path.with_name(name) for name in ENDS_21)), (0, 0))

    def read(self) -> None:
        """Read what was written since. A log that cannot be read says nothing; a rotated one is read from its start."""
        for path, (inode, offset) in self._places.items():
            try:
                with open_regular(path) as lines:
                    status = os.fstat(lines.fileno())
                    if status.st_ino == inode and status.st_size >= offset:
                        lines.seek(offset)
                    else:
                        offset = 0
                    whole, _, _ = lines.read().rpartition(b"\n")
                    if whole:
                        self.log.feed(whole.decode("utf-8", "surrogateescape").split("\n"))
                        offset += len(whole) + 1
                    self._places[path] = (status.st_ino, offset)
            except OSError:
                continue
