"""The text that `drainer scan` prints for people.

In    a ScanReport
Out   lines
Pure  values only
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from drainer.duplicates.classes import DuplicateClass
from drainer.queuedir.filebase import ForeignName
from drainer.report.queue_scan import ScannedEntry, ScanReport, Tally, Unreadable, by_size
from drainer.text.wording import count, duration, shortened, shown, size

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


def as_lines(report: ScanReport) -> list[str]:
    """The whole report."""
    return [
        f"Scanned {_what(report)} (nothing was changed)",
        "",
        *([f"Settings left out: {report.settings_left_out}", ""] if report.settings_left_out else []),
        *_totals(report),
        *(_tables(report) if report.total.entries else []),
        *_files_that_are_no_entries(report),
        *_others(report),
        "",
        "The ledger is not looked at:",
        "recipients it knows as delivered count as still to be sent to here.",
    ]


def entry_lines(report: ScanReport) -> list[str]:
    """A line for each entry, if `entries` is filled."""
    return [_entry_line(report, entry) for entry in report.entries]


def _what(report: ScanReport) -> str:
    if report.queue_dir is None:
        return f"the queue directory {report.directory}"
    if len(report.queues) == 1:
        return f"queue {report.queues[0]!r} of {report.queue_dir}"
    return f"{' and '.join(f'{name}/' for name in report.queues)} of {report.queue_dir}"


def _totals(report: ScanReport) -> Iterator[str]:
    total = report.total
    if total.entries:
        yield (
            f"{count(total.entries, 'entry', 'entries')}, {count(total.recipients, 'recipient')}, {size(total.bytes)},"
            f" oldest {_age(report, total)}"
        )
        yield f"Written by {' and '.join(_flavour(name) for name in sorted(report.flavours))}"
        yield f"{count(total.to_send, 'recipient')} still to be sent to if every earlier copy goes out"
    elif report.queue_dir:
        yield f"No readable entries in {' or '.join(f'{name}/' for name in report.queues)}."
    else:
        yield "No readable entries."
    if report.claimed:
        yield f"{count(report.claimed, 'entry', 'entries')} claimed by a runner (.bak)"


def _tables(report: ScanReport) -> list[str]:
    lines: list[str] = []
    if report.by_queue.keys() - {report.queues[0]}:
        lines += _table("Queue", [(f"{name}/", tally) for name, tally in report.by_queue.items()], report)
    if report.queue_dir and report.not_taken:
        lines += ["", _not_taken(report)]
    lines += _table("Class", [(kind.value, tally) for kind, tally in report.classes.items()], report)
    lines += [f"  {kind.value + ':':<10} {_MEANING[kind]}" for kind, tally in report.classes.items() if tally.entries]
    lines += _table("Age", list(report.ages.items()), report)
    return lines + _table("List", by_size(report.lists), report)


def _files_that_are_no_entries(report: ScanReport) -> list[str]:
    bad = [file for file in report.unreadable if file.is_for_bad]
    held = [file for file in report.unreadable if not file.is_for_bad]
    lines = _without_summary(report, "unreadable file", "", bad)
    lines += _without_summary(report, "entry", " to be held for a person", held)
    if report.foreign_count:
        lines += ["", f"{count(report.foreign_count, 'file')} that Mailman's runner would pass over or stumble on:"]
        lines += _some(
            [f"  {_named(report, f.queue, f.name.name)}: {f.name.reason}{_danger(f.name)}" for f in report.foreign],
            report.foreign_count,
        )
    return lines


def _others(report: ScanReport) -> Iterator[str]:
    """Queues that were not read."""
    if report.others:
        yield ""
        yield "Other queues: " + ", ".join(f"{q.name} {count(q.entries)}" for q in report.others)
    if custody := [queue for queue in report.custody if queue.entries]:
        yield ""
        yield "In drainer's custody: " + ", ".join(f"{q.name} {count(q.entries)}" for q in custody)
        named = f"--queue-dir {report.queue_dir}/{_CUSTODY} --queue {custody[0].name}"
        yield f"  `drainer scan {named}` looks into it"


def _not_taken(report: ScanReport) -> str:
    """The setting with which drainer takes these entries."""
    left = " and ".join(f"{name}/" for name in report.not_taken)
    wanted = ", ".join(f'"{name}"' for name in dict.fromkeys((*report.taken, *report.queues)))
    return f"drainer would leave {left} to Mailman; the setting custody.queues = [{wanted}] takes it too."


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
