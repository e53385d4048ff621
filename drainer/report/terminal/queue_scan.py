"""The result of `drainer scan`: as text for people, as JSON values for scripts.

In    entries as they were read and classified, oldest first; counts of the queues that were not read
Out   ScanReport; its lines; its JSON object
Pure  values only; cli/scan.py reads the files
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from drainer import __version__
from drainer.duplicates.classes import Classification, DuplicateClass
from drainer.duplicates.summary import EntrySummary
from drainer.queuedir.filebase import ForeignName
from drainer.text.wording import count, duration, shortened, shown, size

_AGES_S = (("under 1 h", 3600.0), ("1 to 6 h", 21_600.0), ("6 to 24 h", 86_400.0), ("1 to 3 d", 259_200.0))
_OLDEST_AGES = "over 3 d"
_CUSTODY = "drainer"
_LINES_AT_MOST = 20
_WIDEST_LIST = 48

_MEANING = {
    DuplicateClass.NONE: "an original: delivered",
    DuplicateClass.EXACT: "sent again unchanged: suppressed once the earlier copy is out",
    DuplicateClass.RESTORED: "back from a backup: suppressed once the earlier copy is out",
    DuplicateClass.PARTIAL: "an earlier copy goes to some: only the others get this one",
    DuplicateClass.RESEND: "a person sent the text again: held for you to decide",
    DuplicateClass.CONFLICT: "same Message-ID, other content: delivered, flagged",
    DuplicateClass.UNDECIDED: "perhaps a copy of an earlier one: held if that is delivered",
}


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
        "lists": [{"list": name, **_counts(tally, at_s)} for name, tally in _by_size(report.lists)],
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


def as_lines(report: ScanReport) -> list[str]:
    """The report for people."""
    total = report.total
    queues = [f"{name}/" for name in report.queues]
    if report.queue_dir is None:
        what = f"the queue directory {report.directory}"
    elif len(queues) == 1:
        what = f"queue {report.queues[0]!r} of {report.queue_dir}"
    else:
        what = f"{' and '.join(queues)} of {report.queue_dir}"
    lines = [f"Scanned {what} (nothing was changed)", ""]
    if report.settings_left_out:
        lines += [f"Settings left out: {report.settings_left_out}", ""]
    if total.entries:
        lines += [
            f"{count(total.entries, 'entry', 'entries')}, {count(total.recipients, 'recipient')}, {size(total.bytes)},"
            f" oldest {_age(report, total)}",
            f"Written by {' and '.join(_flavour(name) for name in sorted(report.flavours))}",
            f"{count(total.to_send, 'recipient')} still to be sent to if every earlier copy goes out",
        ]
    else:
        lines.append(f"No readable entries in {' or '.join(queues)}." if report.queue_dir else "No readable entries.")
    if report.claimed:
        lines.append(f"{count(report.claimed, 'entry', 'entries')} claimed by a runner (.bak)")
    if total.entries:
        if report.by_queue.keys() - {report.queues[0]}:
            lines += _table("Queue", [(f"{name}/", tally) for name, tally in report.by_queue.items()], report)
        if report.queue_dir and report.not_taken:
            lines += ["", *_not_taken(report)]
        lines += _table("Class", [(kind.value, tally) for kind, tally in report.classes.items()], report)
        lines += [
            f"  {kind.value + ':':<10} {_MEANING[kind]}" for kind, tally in report.classes.items() if tally.entries
        ]
        lines += _table("Age", list(report.ages.items()), report)
        lines += _table("List", _by_size(report.lists), report)
    lines += _without_summary(report, "unreadable file", "", [file for file in report.unreadable if file.is_for_bad])
    would_be_held = [file for file in report.unreadable if not file.is_for_bad]
    lines += _without_summary(report, "entry", " to be held for a person", would_be_held)
    if report.foreign_count:
        lines += ["", f"{count(report.foreign_count, 'file')} that Mailman's runner would pass over or stumble on:"]
        lines += _some(
            [f"  {_named(report, f.queue, f.name.name)}: {f.name.reason}{_danger(f.name)}" for f in report.foreign],
            report.foreign_count,
        )
    if report.others:
        lines += ["", "Other queues: " + ", ".join(f"{q.name} {count(q.entries)}" for q in report.others)]
    if custody := [queue for queue in report.custody if queue.entries]:
        lines += ["", "In drainer's custody: " + ", ".join(f"{q.name} {count(q.entries)}" for q in custody)]
        named = f"--queue-dir {report.queue_dir}/{_CUSTODY} --queue {custody[0].name}"
        lines += [f"  `drainer scan {named}` looks into it"]
    lines += ["", "The ledger is not looked at:", "recipients it knows as delivered count as still to be sent to here."]
    return lines


def entry_lines(report: ScanReport) -> list[str]:
    return [_entry_line(report, entry) for entry in report.entries]


def _not_taken(report: ScanReport) -> list[str]:
    """The setting with which drainer takes these entries."""
    left = " and ".join(f"{name}/" for name in report.not_taken)
    wanted = ", ".join(f'"{name}"' for name in dict.fromkeys((*report.taken, *report.queues)))
    return [f"drainer would leave {left} to Mailman; the setting custody.queues = [{wanted}] takes it too."]


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


def _entry_line(report: ScanReport, entry: ScannedEntry) -> str:
    summary = entry.summary
    of = f" of {_named(report, entry.of_queue or entry.queue, entry.found.of)}" if entry.found.of else ""
    return (
        f"{_named(report, entry.queue, entry.file)}  {shown(summary.list_id)}  {entry.found.kind.value}{of}"
        f"  {entry.to_send}/{summary.recipients} to send  {shown(shortened(summary.subject, 60))}"
    )


def _named(report: ScanReport, queue: str, file: str) -> str:
    """A file's name, with its queue where several were read."""
    return shown(f"{queue}/{file}" if len(report.queues) > 1 else file)


def _by_size(lists: dict[str, Tally]) -> list[tuple[str, Tally]]:
    return sorted(lists.items(), key=lambda item: (-item[1].recipients, item[0]))


def _table(title: str, rows: Iterable[tuple[str, Tally]], report: ScanReport) -> list[str]:
    kept = [(shown(shortened(name, _WIDEST_LIST)), tally) for name, tally in rows if tally.entries]
    width = max([len(title), *(len(name) for name, _ in kept)])
    lines = ["", f"{title:<{width}}  {'entries':>9}  {'recipients':>11}  {'to send':>11}  oldest"]
    lines += _some(
        [
            f"{name:<{width}}  {tally.entries:>9,}  {tally.recipients:>11,}  {tally.to_send:>11,}"
            f"  {_age(report, tally)}"
            for name, tally in kept
        ]
    )
    return lines


def _without_summary(report: ScanReport, what: str, behind: str, files: list[Unreadable]) -> list[str]:
    if not files:
        return []
    named = [f"  {_named(report, file.queue, file.file)}: {file.reason}, {shown(file.detail)}" for file in files]
    plural = "entries" if what == "entry" else f"{what}s"
    return ["", f"{count(len(files), what, plural)}{behind}:", *_some(named)]


def _some(lines: list[str], total: int | None = None) -> list[str]:
    hidden = (total or len(lines)) - _LINES_AT_MOST
    return [*lines[:_LINES_AT_MOST], f"  and {hidden:,} more (--json has them)"] if hidden > 0 else lines


def _age(report: ScanReport, tally: Tally) -> str:
    return "" if tally.oldest_s is None else duration(report.at_s - tally.oldest_s)


def _flavour(name: str) -> str:
    return {"mailman2": "Mailman 2.1", "mailman3": "Mailman 3"}.get(name, name)


def _danger(name: ForeignName) -> str:
    return " (MAILMAN'S RUNNER DIES ON THIS NAME)" if name.kills_runner else ""
