"""`drainer scan`: what a queue holds, read from its files alone; nothing is written, moved or sent.

In    a directory of Mailman's
Out   counts, lists, ages, classes of duplicates, unreadable and foreign files: as text, or as one JSON object
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import groupby
from pathlib import Path
from typing import Annotated

import typer

from drainer import __version__
from drainer.cli.forecast import forecast, forecast_lines, forecast_object
from drainer.cli.options import ConfigOption, JsonOption, print_json
from drainer.compose.list_decorations import ListDecorations
from drainer.duplicates.carried import is_one_mail
from drainer.duplicates.classes import DuplicateClass, EntrySummary
from drainer.duplicates.decision import Backlog, Classification, Lookalike, classify, fifo_key, with_digests_of
from drainer.errors import DrainerError, EntryError, SettingsError, UsageError
from drainer.ledger.records import History, recipient_key
from drainer.queuedir.filebase import ForeignName, QueueFile, Suffix, parse_name
from drainer.queuedir.read import read_entry
from drainer.queuedir.scan import CUSTODY_DIRECTORY, ListedFile, QueueCounts, QueueScan, queue_counts, scan_queue
from drainer.queuedir.survey import Surveyed, survey
from drainer.report.wording import count, duration, shortened, shown, size
from drainer.settings import DuplicateSettings, MailmanSettings
from drainer.settings_file import load_settings

_USUAL_QUEUE_DIRS = (
    Path("/var/lib/mailman3/queue"),
    Path("/var/lib/mailman/qfiles"),
    Path("/var/spool/mailman/qfiles"),
)
_MAILMAN_QUEUES = frozenset("in pipeline out retry bounces shunt bad virgin digest archive command nntp news".split())
_AGES_S = (("under 1 h", 3600.0), ("1 to 6 h", 21_600.0), ("6 to 24 h", 86_400.0), ("1 to 3 d", 259_200.0))
_OLDEST_AGES = "over 3 d"
_LINES_AT_MOST = 20
_WIDEST_LIST = 48

_MEANING = {
    DuplicateClass.NONE: "originals",
    DuplicateClass.EXACT: "sent again unchanged: suppressed once the earlier copy is out",
    DuplicateClass.RESTORED: "the same entry back from a backup: likewise",
    DuplicateClass.PARTIAL: "some recipients had it: only the others get it",
    DuplicateClass.RESEND: "a person sent the text again: held",
    DuplicateClass.CONFLICT: "same Message-ID, other content: delivered, flagged",
    DuplicateClass.UNDECIDED: "maybe an earlier one, with header and footer: held if that one is delivered",
}


@dataclass(frozen=True, slots=True)
class ScannedEntry:
    """One readable file. `filebase` of the summary is the file's name, so that a .bak and a .pck of one name are two."""

    summary: EntrySummary
    found: Classification
    covered: tuple[str, ...]

    @property
    def to_send(self) -> int:
        return self.summary.recipients - len(self.covered)


@dataclass(slots=True)
class Tally:
    """Entries and recipients of one kind. to_send: recipients no earlier entry covers."""

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
    """What was found. `entries` is filled only if every single one was asked for."""

    directory: Path
    queue_dir: Path | None
    queue: str
    at_s: float
    total: Tally = field(default_factory=Tally)
    lists: dict[str, Tally] = field(default_factory=dict)
    classes: dict[DuplicateClass, Tally] = field(default_factory=lambda: {kind: Tally() for kind in DuplicateClass})
    ages: dict[str, Tally] = field(
        default_factory=lambda: {name: Tally() for name in (*(name for name, _ in _AGES_S), _OLDEST_AGES)}
    )
    flavours: set[str] = field(default_factory=set)
    unreadable: list[Surveyed] = field(default_factory=list)
    foreign: list[ForeignName] = field(default_factory=list)
    foreign_count: int = 0
    claimed: int = 0
    preserved: int = 0
    vanished: int = 0
    entries: list[ScannedEntry] = field(default_factory=list)

    def add(self, entry: ScannedEntry, with_entries: bool) -> None:
        self.total.add(entry)
        self.lists.setdefault(entry.summary.list_id, Tally()).add(entry)
        self.classes[entry.found.kind].add(entry)
        self.ages[self._age(entry.summary.when_s)].add(entry)
        self.flavours.add(entry.summary.flavour.value)
        if with_entries:
            self.entries.append(entry)

    @property
    def entries_to_send(self) -> int:
        """Those that are no mere repeats."""
        repeats = (DuplicateClass.EXACT, DuplicateClass.RESTORED)
        return self.total.entries - sum(self.classes[kind].entries for kind in repeats)

    def _age(self, when_s: float) -> str:
        age_s = self.at_s - when_s
        return next((name for name, below_s in _AGES_S if age_s < below_s), _OLDEST_AGES)


def scan_subcommand(
    queue_dir: Annotated[
        Path | None,
        typer.Option(
            "--queue-dir", metavar="D", help="Mailman's queue directory (the one with out/ in it), or a queue itself."
        ),
    ] = None,
    queue: Annotated[str, typer.Option("--queue", metavar="NAME", help="Which queue of it.")] = "out",
    as_json: JsonOption = False,
    with_entries: Annotated[
        bool, typer.Option("--entries", help="One line (with --json: one object) per file.")
    ] = False,
    config: ConfigOption = None,
    smtp_log: Annotated[
        Path | None,
        typer.Option(
            "--smtp-log",
            metavar="FILE",
            help="Mailman's log of deliveries (3: smtp.log; 2.1: logs/smtp), for the forecast.  [default: beside the queue]",
        ),
    ] = None,
) -> None:
    """What is in the queue, and when would it be through? Reads files, changes nothing; needs neither service nor settings.

    \b
    drainer scan --queue-dir /var/lib/mailman3/queue
    drainer scan --queue-dir /var/lib/mailman/qfiles --queue retry --json --entries
    """
    raise typer.Exit(scan_command(queue_dir, queue, as_json, with_entries, config, smtp_log))


def scan_command(
    queue_dir: Path | None,
    queue: str,
    as_json: bool,
    with_entries: bool,
    config: Path | None = None,
    smtp_log: Path | None = None,
) -> int:
    """Scan and print. Returns the exit status: 0 done, 1 the directory cannot be listed, 2 there is no such directory."""
    try:
        settings = load_settings(config, required=config is not None)
        report = scan(
            queue_dir or configured_queue_dir(config),
            queue,
            with_entries=with_entries,
            window_s=settings.duplicates.window,
            decoration_of=_decorations(settings.mailman),
        )
        found = forecast(
            smtp_log,
            report.queue_dir or report.directory.parent,
            settings,
            report.entries_to_send,
            report.total.to_send,
            report.at_s,
        )
    except (UsageError, SettingsError) as exc:
        print(f"drainer: {exc}", file=sys.stderr)
        return 2
    except DrainerError as exc:
        print(f"drainer: {exc}", file=sys.stderr)
        return 1
    if as_json:
        print_json({**as_object(report, with_entries), "forecast": forecast_object(found)})
    else:
        lines = as_lines(report)
        if report.total.entries:
            lines += forecast_lines(found, report.at_s)
        if with_entries:
            lines += ["", *(_entry_line(entry) for entry in report.entries)]
        print("\n".join(lines))
    return 0


def scan(
    queue_dir: Path,
    queue: str = "out",
    *,
    with_entries: bool = False,
    window_s: float | None = None,
    now_s: float | None = None,
    workers: int | None = None,
    decoration_of: ListDecorations | None = None,
) -> ScanReport:
    """Read a queue directory without changing anything in it.

    queue_dir      holds Mailman's queues, or is a queue itself (then `queue` is not looked at)
    window_s       how far apart two sendings of one text count as a resend; None: the default of duplicates.window
    decoration_of  tells the header and footer in a decorated entry's text; without it an entry of retry/ may not be
                   known for the same mail submitted anew
    Raises  UsageError if there is no such directory or it is no queue of Mailman's; DrainerError if it cannot be listed
    """
    directory, holds_queues = _directory(queue_dir, queue)
    report = ScanReport(
        directory,
        queue_dir if holds_queues else None,
        queue if holds_queues else directory.resolve().name,
        time.time() if now_s is None else now_s,
    )
    listing = scan_queue(directory)
    try:
        files = sorted((listed.file for listed in _entries(listing)), key=_listing_key)
    except OSError as exc:
        raise DrainerError(f"cannot list {directory}: {exc.strerror}") from exc
    _note_listing(report, listing)
    window_s = DuplicateSettings().window if window_s is None else window_s
    backlog = Backlog()
    for _, same_time in groupby(_read(report, files, workers, decoration_of), key=lambda pair: pair[0].when_s):
        for summary, recipients in sorted(same_time, key=lambda pair: _entry_key(pair[0])):
            summary = _proved(summary, backlog.kin_of(summary, window_s).undecided, directory)
            found = classify(summary, backlog.kin_of(summary, window_s), History(), window_s)
            backlog.add(summary, window_s, found.kind)
            covered = tuple(a for a in recipients if recipient_key(a) in found.covered) if found.covered else ()
            report.add(ScannedEntry(summary, found, covered), with_entries)
    return report


def as_object(report: ScanReport, with_entries: bool) -> dict[str, object]:
    """The report as JSON values. Names are public; fields are only ever added."""
    at_s = report.at_s
    document: dict[str, object] = {
        "version": __version__,
        "at": at_s,
        "directory": str(report.directory),
        "queue_dir": str(report.queue_dir) if report.queue_dir else None,
        "queue": report.queue,
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
                "file": Path(file.path).name,
                "reason": file.reason,
                "detail": file.detail,
                "goes_to": "bad" if file.is_unreadable else "held",
            }
            for file in report.unreadable
        ],
        "foreign": [{"file": f.name, "reason": f.reason, "kills_runner": f.kills_runner} for f in report.foreign],
        "looks_at_ledger": False,
        "custody": [{"name": q.name, "entries": q.entries} for q in _custody(report)],
        "queues": [
            {"name": q.name, "entries": q.entries, "oldest_age_s": None if q.oldest_s is None else at_s - q.oldest_s}
            for q in _other_queues(report)
        ],
    }
    if with_entries:
        document["entries"] = [_entry_object(entry) for entry in report.entries]
    return document


def as_lines(report: ScanReport) -> list[str]:
    """The report for people."""
    total = report.total
    what = (
        f"queue {report.queue!r} of {report.queue_dir}"
        if report.queue_dir
        else f"the queue directory {report.directory}"
    )
    lines = [f"Scanned {what} (nothing was changed)", ""]
    if total.entries:
        lines += [
            f"{count(total.entries, 'entry', 'entries')}, {count(total.recipients, 'recipient')}, {size(total.bytes)},"
            f" oldest {_age(report, total)}, written by {' and '.join(_flavour(name) for name in sorted(report.flavours))}",
            f"{count(total.to_send, 'recipient')} still to be sent to if every earlier copy goes out",
        ]
    else:
        lines.append("No readable entries.")
    if report.claimed:
        lines.append(f"{count(report.claimed, 'entry', 'entries')} claimed by a runner (.bak)")
    if total.entries:
        lines += _table(
            "Class", [(kind.value, tally, _MEANING[kind]) for kind, tally in report.classes.items()], report
        )
        lines += _table("Age", [(name, tally, "") for name, tally in report.ages.items()], report)
        lines += _table("List", [(name, tally, "") for name, tally in _by_size(report.lists)], report)
    lines += _without_summary("unreadable file", "", [file for file in report.unreadable if file.is_unreadable])
    would_be_held = [file for file in report.unreadable if not file.is_unreadable]
    lines += _without_summary("entry", " to be held for a person", would_be_held)
    if report.foreign_count:
        lines += ["", f"{count(report.foreign_count, 'file')} that Mailman's runner would pass over or stumble on:"]
        lines += _some([f"  {shown(f.name)}: {f.reason}{_danger(f)}" for f in report.foreign], report.foreign_count)
    if queues := _other_queues(report):
        lines += ["", "Other queues: " + ", ".join(f"{q.name} {count(q.entries)}" for q in queues)]
    if custody := [queue for queue in _custody(report) if queue.entries]:
        lines += ["", "In drainer's custody: " + ", ".join(f"{q.name} {count(q.entries)}" for q in custody)]
        named = f"--queue-dir {report.queue_dir}/{CUSTODY_DIRECTORY} --queue {custody[0].name}"
        lines += [f"  `drainer scan {named}` looks into it"]
    lines += ["", "The ledger is not looked at: what it knows as delivered already counts as still to be sent to here."]
    return lines


def _decorations(mailman: MailmanSettings) -> ListDecorations | None:
    """Of a site of Mailman 2.1 whose lists can be read."""
    if mailman.flavour == "mailman3" or not os.access(mailman.lists_dir, os.R_OK | os.X_OK):
        return None
    return ListDecorations(mailman.lists_dir, mailman.settings)


def configured_queue_dir(config: Path | None) -> Path:
    settings = load_settings(config, required=config is not None)
    configured = settings.mailman.queue_dir
    if config is not None or "queue_dir" in settings.mailman.model_fields_set or configured.is_dir():
        return configured
    for usual in _USUAL_QUEUE_DIRS:
        if usual.is_dir():
            return usual
    raise UsageError(f"no queue directory at {configured}; name Mailman's with --queue-dir")


def _directory(queue_dir: Path, queue: str) -> tuple[Path, bool]:
    """The directory to list, and whether queue_dir holds queues rather than being one."""
    if not queue_dir.is_dir():
        raise UsageError(f"{queue_dir} is not a directory; right would be Mailman's queue directory, which holds out/")
    if "/" in queue or queue in ("", ".", ".."):
        raise UsageError(f"{queue!r} is not the name of a queue; right would be out or retry")
    if (queue_dir / queue).is_dir():
        return queue_dir / queue, True
    try:
        names = [found.name for found in queue_dir.iterdir() if found.is_dir()]
    except OSError as exc:
        raise DrainerError(f"cannot list {queue_dir}: {exc.strerror}") from exc
    if _MAILMAN_QUEUES.intersection(names):
        raise UsageError(f"{queue_dir} holds no queue {queue!r}; it holds {', '.join(sorted(names))}")
    if queue_dir.resolve().name not in _MAILMAN_QUEUES and not _holds_an_entry(queue_dir):
        raise UsageError(
            f"{queue_dir} holds neither queues nor queue entries; right would be the directory with out/ in it"
        )
    return queue_dir, False


def _holds_an_entry(directory: Path) -> bool:
    return any(isinstance(parse_name(found.name), QueueFile) for found in directory.iterdir())


def _entries(listing: QueueScan) -> Iterator[ListedFile]:
    return (listed for listed in listing if listed.file.suffix is not Suffix.PRESERVED)


def _listing_key(file: QueueFile) -> tuple[float, str]:
    return file.when_s, file.name


def _entry_key(summary: EntrySummary) -> tuple[bool, tuple[float, bool, int, int, str]]:
    return summary.filebase.endswith(Suffix.CLAIMED.value), fifo_key(summary)


def _note_listing(report: ScanReport, listing: QueueScan) -> None:
    report.foreign = sorted(listing.foreign, key=lambda name: name.name)
    report.foreign_count = listing.foreign_count
    report.claimed = listing.claimed
    report.preserved = listing.preserved
    report.vanished = listing.vanished


def _read(
    report: ScanReport, files: list[QueueFile], workers: int | None, decoration_of: ListDecorations | None
) -> Iterator[tuple[EntrySummary, tuple[str, ...]]]:
    """The readable ones, in the order given; the others are noted."""
    paths = (report.directory / file.name for file in files)
    for done, result in enumerate(survey(paths, workers, with_recipients=True, decoration_of=decoration_of), start=1):
        _show_progress(done, len(files))
        if result.summary is not None:
            yield replace(result.summary, filebase=Path(result.path).name), result.recipients
        elif result.reason == "vanished":
            report.vanished += 1
        else:
            report.unreadable.append(result)


def _proved(summary: EntrySummary, lookalikes: Iterable[Lookalike], directory: Path) -> EntrySummary:
    """With the digests of those that are the same mail, though decorated, going by what both say. Reads their files."""
    for other in lookalikes:
        try:
            first, second = (read_entry(directory / name) for name in (summary.filebase, other.filebase))
        except (EntryError, OSError):
            continue
        if is_one_mail(first, summary.decorated, second, other.is_decorated):
            summary = with_digests_of(summary, other)
    return summary


def _show_progress(done: int, total: int) -> None:
    if sys.stderr.isatty() and total >= 5000 and (done % 1000 == 0 or done == total):
        print(
            f"\rread {done:,} of {total:,} entries",
            end="\r\x1b[K" if done == total else "",
            file=sys.stderr,
            flush=True,
        )


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
        "file": summary.filebase,
        "list": summary.list_id,
        "message_id": summary.message_id,
        "recipients": summary.recipients,
        "size": summary.size_bytes,
        "received": summary.when_s,
        "class": entry.found.kind.value,
        "of": entry.found.of,
        "covered": list(entry.covered),
        "sender": summary.sender,
        "subject": summary.subject,
    }


def _entry_line(entry: ScannedEntry) -> str:
    summary = entry.summary
    of = f" of {entry.found.of}" if entry.found.of else ""
    return (
        f"{shown(summary.filebase)}  {shown(summary.list_id)}  {entry.found.kind.value}{of}"
        f"  {entry.to_send}/{summary.recipients} to send  {shown(shortened(summary.subject, 60))}"
    )


def _other_queues(report: ScanReport) -> list[_Queue]:
    if report.queue_dir is None:
        return []
    try:
        counts = queue_counts(report.queue_dir)
    except OSError:
        return []
    return [_Queue(q.name, q.entries, q.oldest_s) for q in counts if q.name != report.queue]


def _custody(report: ScanReport) -> list[QueueCounts]:
    """What drainer holds of this queue; nothing where this user may not look."""
    if report.queue_dir is None:
        return []
    try:
        return queue_counts(report.queue_dir / CUSTODY_DIRECTORY)
    except OSError:
        return []


@dataclass(frozen=True, slots=True)
class _Queue:
    name: str
    entries: int
    oldest_s: float | None


def _by_size(lists: dict[str, Tally]) -> list[tuple[str, Tally]]:
    return sorted(lists.items(), key=lambda item: (-item[1].recipients, item[0]))


def _table(title: str, rows: Iterable[tuple[str, Tally, str]], report: ScanReport) -> list[str]:
    kept = [(shown(shortened(name, _WIDEST_LIST)), tally, note) for name, tally, note in rows if tally.entries]
    width = max([len(title), *(len(name) for name, _, _ in kept)])
    lines = ["", f"{title:<{width}}  {'entries':>9}  {'recipients':>11}  {'to send':>11}  oldest"]
    lines += _some(
        [
            f"{name:<{width}}  {tally.entries:>9,}  {tally.recipients:>11,}  {tally.to_send:>11,}"
            f"  {_age(report, tally):<11}  {note}".rstrip()
            for name, tally, note in kept
        ]
    )
    return lines


def _without_summary(what: str, behind: str, files: list[Surveyed]) -> list[str]:
    if not files:
        return []
    named = [f"  {shown(Path(file.path).name)}: {file.reason}, {shown(file.detail)}" for file in files]
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
