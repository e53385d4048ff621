"""`drainer scan`: what a queue holds, read from its files alone; nothing is written, moved or sent.

In    a directory of Mailman's
Out   counts, lists, ages, classes of duplicates, unreadable and foreign files: as text, or as one JSON object
Not here  how it is shown (report/queue_scan.py, report/terminal/scan.py)
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Container, Iterable, Iterator
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import Annotated

import typer

from drainer.backlog.readers import read_entries
from drainer.cli.forecast import forecast, forecast_lines, forecast_object
from drainer.cli.options import ConfigOption, JsonOption
from drainer.cli.output import print_folded, print_json
from drainer.cli.queue_settings import configured_queue_dir, settings_for
from drainer.compose.list_decorations import ListDecorations
from drainer.compose.list_settings import extended_lists, what_extensions_mean
from drainer.duplicates.carried import is_one_mail
from drainer.duplicates.classes import SameNameEntry, SeenEntries, classify
from drainer.duplicates.summary import EntrySummary, fifo_key, with_digests_of
from drainer.errors import DrainerError, EntryError, SettingsError, UsageError
from drainer.ledger.records import History, recipient_key
from drainer.queuedir.filebase import QueueFile, Suffix, parse_name
from drainer.queuedir.queue_names import MAILMAN_QUEUES
from drainer.queuedir.read import read_entry
from drainer.queuedir.scan import CUSTODY_DIRECTORY, QueueScan, queue_counts, scan_queue
from drainer.report.queue_scan import Foreign, QueueSize, ScannedEntry, ScanReport, Unreadable, as_object
from drainer.report.terminal.scan import as_lines, entry_lines
from drainer.settings.ledger import DuplicateSettings
from drainer.settings.mailman import MailmanSettings

OUTGOING = ("out", "retry")
"""The queues of mail that is ready to be delivered. After an outage of the MTA most of it is in retry/."""


def scan_subcommand(
    queue_dir: Annotated[
        Path | None,
        typer.Option(
            "--queue-dir", metavar="D", help="Mailman's queue directory (the one with out/ in it), or a queue itself."
        ),
    ] = None,
    queue: Annotated[
        str | None, typer.Option("--queue", metavar="NAME", help="Only this queue of it.  [default: out and retry]")
    ] = None,
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
    """Count what is in the queue, and say when it would be done. Reads files only; needs neither service nor settings.

    \b
    drainer scan --queue-dir /var/lib/mailman3/queue
    drainer scan --queue-dir /var/lib/mailman/qfiles --queue retry --entries
    """
    raise typer.Exit(scan_command(queue_dir, queue, as_json, with_entries, config, smtp_log))


def scan_command(
    queue_dir: Path | None,
    queue: str | None,
    as_json: bool,
    with_entries: bool,
    config: Path | None = None,
    smtp_log: Path | None = None,
) -> int:
    """Scan and print. Returns the exit status: 0 done, 1 the directory cannot be listed, 2 there is no such directory."""
    try:
        settings, left_out = settings_for(queue_dir, config)
        directory = queue_dir or configured_queue_dir(config)
        lists_dir = directory.resolve().parent / "lists" if left_out else settings.mailman.lists_dir
        report = scan(
            directory,
            queue,
            with_entries=with_entries,
            window_s=settings.duplicates.window,
            decoration_of=_decorations(settings.mailman, lists_dir),
            taken=tuple(settings.custody.queues),
        )
        report.settings_left_out = left_out
        found = forecast(
            smtp_log,
            report.queue_dir or report.directory.parent,
            settings,
            report.entries_to_send,
            report.total.to_send,
            report.at_s,
        )
    except (UsageError, SettingsError) as exc:
        print_folded(f"drainer: {exc}", sys.stderr)
        return 2
    except DrainerError as exc:
        print_folded(f"drainer: {exc}", sys.stderr)
        return 1
    extended = [name for name in extended_lists(settings.mailman.lists_dir) if name in report.lists]
    if as_json:
        print_json({**as_object(report, with_entries), "forecast": forecast_object(found), "extended_lists": extended})
    else:
        lines = as_lines(report)
        lines += ["", f"Mind: {what_extensions_mean(extended)}."] if extended else []
        if report.total.entries:
            lines += forecast_lines(found, report.at_s, by_settings=not left_out)
        if with_entries:
            lines += ["", *entry_lines(report)]
        print("\n".join(lines))
    return 0


def scan(
    queue_dir: Path,
    queue: str | None = None,
    *,
    with_entries: bool = False,
    window_s: float | None = None,
    now_s: float | None = None,
    workers: int | None = None,
    decoration_of: ListDecorations | None = None,
    taken: tuple[str, ...] = ("out",),
) -> ScanReport:
    """Read a queue directory without changing anything in it.

    queue_dir      holds Mailman's queues, or is a queue itself (then `queue` is not looked at)
    queue          read only this one; None: those of OUTGOING that are there, as one backlog
    window_s       how far apart two sendings of one text count as a resend; None: the default of duplicates.window
    decoration_of  finds a list's header and footer in an entry's text; without it an entry of retry/ may not be recognised
                   as the same mail submitted again
    taken          queues that drainer takes from (custody.queues)
    Raises  UsageError if there is no such directory or it is no queue of Mailman's; DrainerError if it cannot be listed
    """
    directories, holds_queues = _directories(queue_dir, queue)
    report = ScanReport(
        next(iter(directories.values())),
        queue_dir if holds_queues else None,
        tuple(directories),
        time.time() if now_s is None else now_s,
        taken,
        others=_sizes(queue_dir, except_for=directories) if holds_queues else (),
        custody=_sizes(queue_dir / CUSTODY_DIRECTORY) if holds_queues else (),
    )
    files: list[_File] = []
    for name, directory in directories.items():
        listing = scan_queue(directory)
        try:
            listed = [(name, one.file) for one in listing if one.file.suffix is not Suffix.PRESERVED]
        except OSError as exc:
            raise DrainerError(f"cannot list {directory}: {exc.strerror}") from exc
        files += listed
        _note_listing(report, name, listing)
    files.sort(key=lambda file: (file[1].when_s, file[1].name))
    window_s = DuplicateSettings().window if window_s is None else window_s
    seen = SeenEntries()
    read = _read(report, directories, files, workers, decoration_of)
    for _, same_time in groupby(read, key=lambda pair: pair[0].when_s):
        for summary, recipients in sorted(same_time, key=lambda pair: _entry_key(pair[0])):
            summary = _proved(summary, seen.related_to(summary).undecided, directories)
            found = classify(summary, seen.related_to(summary), History(), window_s)
            seen.add(summary, window_s, found.kind)
            covered = tuple(a for a in recipients if recipient_key(a) in found.covered) if found.covered else ()
            queue_of, file = _place(summary.filebase)
            of_queue, of = _place(found.of) if found.of else (None, None)
            report.add(ScannedEntry(queue_of, file, summary, replace(found, of=of), covered, of_queue), with_entries)
    return report


_File = tuple[str, QueueFile]
"""With the queue it is in."""


def _place(name: str) -> tuple[str, str]:
    """Queue and file name, which stand in the place of the filebase: several queues are one backlog here."""
    queue, _, file = name.partition("/")
    return queue, file


def _decorations(mailman: MailmanSettings, lists_dir: Path) -> ListDecorations | None:
    """Of a site of Mailman 2.1 whose lists can be read."""
    if mailman.flavour == "mailman3" or not os.access(lists_dir, os.R_OK | os.X_OK):
        return None
    return ListDecorations(lists_dir, mailman.settings)


def _directories(queue_dir: Path, queue: str | None) -> tuple[dict[str, Path], bool]:
    """The queues to read, by name, and whether queue_dir holds queues rather than being one."""
    if not queue_dir.is_dir():
        raise UsageError(f"{queue_dir} is not a directory; right would be Mailman's queue directory, which holds out/")
    if queue is not None and ("/" in queue or queue in ("", ".", "..")):
        raise UsageError(f"{queue!r} is not the name of a queue; right would be out or retry")
    found = {
        name: queue_dir / name for name in (OUTGOING if queue is None else (queue,)) if (queue_dir / name).is_dir()
    }
    if found:
        return found, True
    try:
        names = [found.name for found in queue_dir.iterdir() if found.is_dir()]
    except OSError as exc:
        raise DrainerError(f"cannot list {queue_dir}: {exc.strerror}") from exc
    if MAILMAN_QUEUES.intersection(names):
        missing = f"no queue {queue!r}" if queue else "neither out/ nor retry/"
        raise UsageError(f"{queue_dir} holds {missing}; it holds {', '.join(sorted(names))}")
    itself = queue_dir.resolve().name
    if itself not in MAILMAN_QUEUES and not _holds_an_entry(queue_dir):
        raise UsageError(
            f"{queue_dir} holds neither queues nor queue entries; right would be the directory with out/ in it"
        )
    return {itself: queue_dir}, False


def _holds_an_entry(directory: Path) -> bool:
    return any(isinstance(parse_name(found.name), QueueFile) for found in directory.iterdir())


def _entry_key(summary: EntrySummary) -> tuple[bool, tuple[float, bool, int, int, str]]:
    return summary.filebase.endswith(Suffix.CLAIMED.value), fifo_key(summary)


def _note_listing(report: ScanReport, queue: str, listing: QueueScan) -> None:
    report.foreign += [Foreign(queue, name) for name in sorted(listing.foreign, key=lambda name: name.name)]
    report.foreign_count += listing.foreign_count
    report.claimed += listing.claimed
    report.preserved += listing.preserved
    report.vanished += listing.vanished


def _read(
    report: ScanReport,
    directories: dict[str, Path],
    files: list[_File],
    workers: int | None,
    decoration_of: ListDecorations | None,
) -> Iterator[tuple[EntrySummary, tuple[str, ...]]]:
    """The readable ones, in the order given; the others are noted."""
    paths = (directories[queue] / file.name for queue, file in files)
    results = read_entries(paths, workers, with_recipients=True, decoration_of=decoration_of)
    for done, ((queue, file), result) in enumerate(zip(files, results, strict=True), start=1):
        _show_progress(done, len(files))
        if result.summary is not None:
            yield replace(result.summary, filebase=f"{queue}/{file.name}"), result.recipients
        elif result.reason == "vanished":
            report.vanished += 1
        else:
            report.unreadable.append(Unreadable(queue, file.name, result.reason, result.detail, result.is_unreadable))


def _proved(summary: EntrySummary, lookalikes: Iterable[SameNameEntry], directories: dict[str, Path]) -> EntrySummary:
    """With the digests of those that are the same mail, though decorated, going by what both say. Reads their files."""
    for other in lookalikes:
        try:
            places = (_place(name) for name in (summary.filebase, other.filebase))
            first, second = (read_entry(directories[queue] / file) for queue, file in places)
        except (EntryError, OSError):
            continue
        if is_one_mail(first, summary.decorated, second, other.is_decorated):
            summary = with_digests_of(summary, other.identity)
    return summary


def _show_progress(done: int, total: int) -> None:
    if sys.stderr.isatty() and total >= 5000 and (done % 1000 == 0 or done == total):
        print(
            f"\rread {done:,} of {total:,} entries",
            end="\r\x1b[K" if done == total else "",
            file=sys.stderr,
            flush=True,
        )


def _sizes(queue_dir: Path, except_for: Container[str] = ()) -> tuple[QueueSize, ...]:
    """Of the queues in a directory; nothing where this user may not look."""
    try:
        counts = queue_counts(queue_dir)
    except OSError:
        return ()
    return tuple(QueueSize(q.name, q.entries, q.oldest_s) for q in counts if q.name not in except_for)
