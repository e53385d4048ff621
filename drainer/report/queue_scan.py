"""What `drainer scan` found in a queue directory, as values, and as JSON for scripts.

In    entries as they were read and classified, oldest first; counts of the queues that were not read
Out   ScanReport; its JSON object
Pure  values only; cli/scan.py reads the files, terminal/scan.py has the text for people
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from drainer import __version__
from drainer.duplicates.classes import Classification, DuplicateClass
from drainer.duplicates.summary import EntrySummary
from drainer.queuedir.filebase import ForeignName

_AGES_S = (("under 1 h", 3600.0), ("1 to 6 h", 21_600.0), ("6 to 24 h", 86_400.0), ("1 to 3 d", 259_200.0))
_OLDEST_AGES = "over 3 d"


@dataclass(frozen=True, slots=True)
class ScannedEntry:
    """One readable file. file: its name in `queue`; of_queue: the queue of the entry that it repeats (found.of)."""

    queue: str
    file: str
    summary: EntrySummary
    found: Classification
    covered: tuple[str, ...]
    of_queue: str | None = None

    @property
    def to_send(self) -> int:
        return self.summary.recipients - len(self.covered)


@dataclass(frozen=True, slots=True)
class Unreadable:
    """is_for_bad: no program can read it, and it goes to bad/; otherwise it would be held for a person."""

    queue: str
    file: str
    reason: str
    detail: str
    is_for_bad: bool


@dataclass(frozen=True, slots=True)
class Foreign:
    """A file whose name is not that of an entry."""

    queue: str
    name: ForeignName


@dataclass(frozen=True, slots=True)
class QueueSize:
    """A queue whose entries were counted, not read. oldest_s: seconds since the epoch."""

    name: str
    entries: int
    oldest_s: float | None


@dataclass(slots=True)
class Tally:
    """Entries and recipients of one kind. to_send: recipients that no earlier entry covers."""

    entries: int = 0
    recipients: int = 0
    to_send: int = 0
    bytes: int = 0
    oldest_s: float | None = None

    def add(self, entry: ScannedEntry) -> None:
        self.entries += 1
        self.recipients += entry.summary.recipients
        self.to_send += entry.to_send
        self.bytes += entry.summary.size_bytes
        self.oldest_s = min(entry.summary.when_s, self.oldest_s or entry.summary.when_s)


@dataclass(slots=True)
class ScanReport:
    """What was found.

    directory        of the first queue that was read
    queue_dir        holds Mailman's queues; None if the directory of one queue was given
    queues           those that were read, in this order
    taken            those of them from which drainer takes entries (custody.queues)
    others, custody  Mailman's other queues; drainer's own directories
    entries          only with --entries
    settings_left_out  why the settings were not used; "" if they were
    """

    directory: Path
    queue_dir: Path | None
    queues: tuple[str, ...]
    at_s: float
    taken: tuple[str, ...] = ()
    total: Tally = field(default_factory=Tally)
    by_queue: dict[str, Tally] = field(default_factory=dict)
    lists: dict[str, Tally] = field(default_factory=dict)
    classes: dict[DuplicateClass, Tally] = field(default_factory=lambda: {kind: Tally() for kind in DuplicateClass})
    ages: dict[str, Tally] = field(
        default_factory=lambda: {name: Tally() for name in (*(name for name, _ in _AGES_S), _OLDEST_AGES)}
    )
    flavours: set[str] = field(default_factory=set)
    unreadable: list[Unreadable] = field(default_factory=list)
    foreign: list[Foreign] = field(default_factory=list)
    foreign_count: int = 0
    claimed: int = 0
    preserved: int = 0
    vanished: int = 0
    entries: list[ScannedEntry] = field(default_factory=list)
    others: tuple[QueueSize, ...] = ()
    custody: tuple[QueueSize, ...] = ()
    settings_left_out: str = ""

    def add(self, entry: ScannedEntry, with_entries: bool) -> None:
        self.total.add(entry)
        self.by_queue.setdefault(entry.queue, Tally()).add(entry)
        self.lists.setdefault(entry.summary.list_id, Tally()).add(entry)
        self.classes[entry.found.kind].add(entry)
        self.ages[self._age(entry.summary.when_s)].add(entry)
        self.flavours.add(entry.summary.flavour.value)
        if with_entries:
            self.entries.append(entry)

    @property
    def entries_to_send(self) -> int:
        """Entries that are not suppressed as a whole."""
        repeats = (DuplicateClass.EXACT, DuplicateClass.RESTORED)
        return self.total.entries - sum(self.classes[kind].entries for kind in repeats)

    @property
    def not_taken(self) -> tuple[str, ...]:
        """Queues whose entries drainer would leave to Mailman."""
        return tuple(name for name in self.queues if name in self.by_queue and name not in self.taken)

    def _age(self, when_s: float) -> str:
        age_s = self.at_s - when_s
        return next((name for name, below_s in _AGES_S if age_s < below_s), _OLDEST_AGES)


def as_object(report: ScanReport, with_entries: bool) -> dict[str, object]:
    """The report as JSON values. Names are public, fields are only ever added."""
    at_s = report.at_s
    document: dict[str, object] = {
        "version": __version__,
        "at": at_s,
        "directory": str(report.directory),
        "queue_dir": str(report.queue_dir) if report.queue_dir else None,
        "queue": report.queues[0],
        "queues_scanned": list(report.queues),
        "by_queue": [
            {
                "queue": name,
                **_counts(report.by_queue.get(name, Tally()), at_s),
                "bytes": report.by_queue.get(name, Tally()).bytes,
                "is_taken": name in report.taken,
            }
            for name in report.queues
        ],
        "settings_left_out": report.settings_left_out,
        "flavours": sorted(report.flavours),
        "backlog": {
            **_counts(report.total, at_s),
            "bytes": report.total.bytes,
            "claimed_entries": report.claimed,
            "unreadable_entries": len(report.unreadable),
            "foreign_files": report.foreign_count,
            "preserved_files": report.preserved,
            "vanished_files": report.vanished,
        },
        "classes": {kind.value: _counts(tally, at_s) for kind, tally in report.classes.items()},
        "ages": [{"age": name, **_counts(tally, at_s)} for name, tally in report.ages.items()],
        "lists": [{"list": name, **_counts(tally, at_s)} for name, tally in by_size(report.lists)],
        "unreadable": [
            {
                "file": file.file,
                "queue": file.queue,
                "reason": file.reason,
                "detail": file.detail,
                "goes_to": "bad" if file.is_for_bad else "held",
            }
            for file in report.unreadable
        ],
        "foreign": [
            {"file": f.name.name, "queue": f.queue, "reason": f.name.reason, "kills_runner": f.name.kills_runner}
            for f in report.foreign
        ],
        "looks_at_ledger": False,
        "custody": [{"name": q.name, "entries": q.entries} for q in report.custody],
        "queues": [
            {"name": q.name, "entries": q.entries, "oldest_age_s": None if q.oldest_s is None else at_s - q.oldest_s}
            for q in report.others
        ],
    }
    if with_entries:
        document["entries"] = [_entry_object(entry) for entry in report.entries]
    return document


def by_size(lists: dict[str, Tally]) -> list[tuple[str, Tally]]:
    """Lists with the most recipients first."""
    return sorted(lists.items(), key=lambda item: (-item[1].recipients, item[0]))


def _counts(tally: Tally, at_s: float) -> dict[str, object]:
    return {
        "entries": tally.entries,
        "recipients": tally.recipients,
        "recipients_to_send": tally.to_send,
        "oldest_age_s": None if tally.oldest_s is None else at_s - tally.oldest_s,
    }


def _entry_object(entry: ScannedEntry) -> dict[str, object]:
    summary = entry.summary
    return {
        "file": entry.file,
        "queue": entry.queue,
        "list": summary.list_id,
        "message_id": summary.message_id,
        "recipients": summary.recipients,
        "size": summary.size_bytes,
        "received": summary.when_s,
        "class": entry.found.kind.value,
        "of": entry.found.of,
        "of_queue": entry.of_queue,
        "covered": list(entry.covered),
        "sender": summary.sender,
        "subject": summary.subject,
    }
