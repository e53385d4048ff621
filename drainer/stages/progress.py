"""Counts since the start of the process that no file and no ledger keeps."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field

from drainer.backlog.work import EntrySizes
from drainer.guards.mailman import SkippedFiles
from drainer.queuedir.scan import QueueScan
from drainer.text.logfmt import logfmt

log = logging.getLogger("drainer")


@dataclass(frozen=True, slots=True)
class Outside:
    """What the first listing is going to take and has not taken yet: so the backlog is known before it is ours.

    oldest_s  least received time, seconds since the epoch; None if there is nothing
    """

    entries: int = 0
    bytes: int = 0
    oldest_s: float | None = None


@dataclass(slots=True)
class Progress:
    """arrived_recipients  of entries taken after the first listing
    listed              the first listing of every queue is done: the backlog's entries and bytes are known
    outside             still in Mailman's queues while that goes on
    on_the_way          taken since, and not in the index before they are durably ours
    taken_by_runner     entries that Mailman's outgoing runner took before us
    skipped             directory to the files there that are no entries, as of its last listing
    sizes               recipients per entry, as far as entries were read
    """

    arrived_recipients: int = 0
    listed: bool = False
    outside: Outside = field(default_factory=Outside)
    on_the_way: int = 0
    taken_by_runner: int = 0
    skipped: dict[str, SkippedFiles] = field(default_factory=dict)
    sizes: EntrySizes = field(default_factory=EntrySizes)

    def note_skipped(self, directory: str, scan: QueueScan) -> None:
        """What a whole listing passed over. A change of it is logged."""
        found, before = scan.skipped, self.skipped.pop(directory, None)
        if not found:
            return
        now = SkippedFiles(directory=directory, files=scan.skipped_count, name=found[0].name, reason=found[0].reason)
        self.skipped[directory] = now
        if now != before:
            log.warning(logfmt(event="not_entries", directory=directory, files=now.files, name=now.name,
                               reason=now.reason))  # fmt: skip
