"""The sections of the incident report after its summary: said once, for Markdown and HTML.

In    an Incident, a time zone
Out   Sections of sentences and tables: plain text, `commands` in backquotes; a table that is cut says so
Pure  values only
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import tzinfo

from drainer.estimate.accuracy import ForecastAccuracy
from drainer.report.incident.document import LINES, Incident, Listed, Moment, SetAside
from drainer.report.incident.summary import accuracy, speed, state_words, when
from drainer.text.wording import count, duration, limit, size, skipped_files

Row = Sequence[str]


@dataclass(frozen=True, slots=True)
class Table:
    """columns: a heading beginning with ">" is that of figures. total: rows there are; the table may show fewer."""

    caption: str
    columns: Sequence[str]
    rows: Sequence[Row]
    total: int


@dataclass(frozen=True, slots=True)
class Section:
    title: str
    said: Sequence[str]
    tables: Sequence[Table] = ()


_KINDS = {
    "none": "originals",
    "exact": "the same mail again (exact)",
    "restored": "the same file again, as from a backup (restored)",
    "partial": "the same mail, partly to new recipients (partial)",
    "resend": "sent again by its author (resend)",
    "conflict": "same Message-ID, other text (conflict)",
    "undecided": "perhaps the same mail, with another header and footer (undecided)",
    "": "not read",
}
_DOUBTS = {
    "open": "not resolved yet",
    "delivered": "delivered: not sent again",
    "resent": "sent again",
    "held": "held for a person",
}
_DSNS = {"sent": "sent", "dropped": "not sent", "owed": "to be sent", "before": "told before", "none": "none due"}


def sections(told: Incident, zone: tzinfo | None = None) -> list[Section]:
    """All of it after the summary."""
    return [
        _timeline(told, zone),
        _found(told),
        *_outcomes(told, zone),
        Section(
            "Operators",
            ["Nobody changed anything."] if not told.actions.total else [],
            [
                Table(
                    "What operators did, with the reasons they gave",
                    ("Time", "Who", "What", "Details and reason"),
                    [(when(a.at, zone), a.by, a.action, a.detail) for a in told.actions.lines],
                    told.actions.total,
                )
            ],
        ),
        _rates(told, zone),
        _how_good(told.forecasts),
    ]


def cut(table: Table) -> str:
    """What is said below a table that does not show everything; "" for one that does."""
    if len(table.rows) >= table.total:
        return ""
    return (
        f"{count(len(table.rows))} of {count(table.total)} shown; `drainer report --format json` and the log have more."
    )


def _timeline(told: Incident, zone: tzinfo | None) -> Section:
    rows = [(when(moment.at, zone), *_moment(moment)) for moment in told.timeline.lines]
    return Section("Timeline", [], [Table("What happened", ("Time", "What", "Why"), rows, told.timeline.total)])


def _moment(moment: Moment) -> tuple[str, str]:
    match moment.kind:
        case "state":
            return f"State: {state_words(moment.what)}", moment.detail
        case "run":
            return f"Service {moment.what}", moment.detail
        case "notice":
            return f"Notice: {moment.what.replace('_', ' ')}", moment.detail
        case "operator":
            return f"{moment.by}: {moment.what}", moment.detail
        case _:
            return f"By itself: {moment.what.replace('_', ' ')}", moment.detail


def _found(told: Incident) -> Section:
    found = told.found
    lists = [
        (
            one.list or "(not read)", count(one.entries), count(one.recipients), size(one.bytes), count(one.delivered),
            count(one.suppressed), count(one.settled + one.dropped + one.unreadable + one.handed_back), count(one.waiting),
        )
        for one in found.by_list[:LINES]
    ]  # fmt: skip
    classes = [(_KINDS.get(one.kind, one.kind), count(one.entries), count(one.recipients)) for one in found.by_class]
    said = (
        f"In all {count(found.entries, 'entry', 'entries')} for {count(found.recipients, 'recipient')}, "
        f"{size(found.bytes)}. An entry given back to Mailman and taken again counts twice."
    )
    return Section(
        "What was found",
        [said],
        [
            Table(
                "By list; entries with another end bounced whole, were dropped, unreadable or handed back",
                ("List", ">Entries", ">Recipients", ">Size", ">Delivered", ">Suppressed", ">Other end", ">Still here"),
                lists,
                len(found.by_list),
            ),
            Table("By kind", ("Kind", ">Entries", ">Recipients"), classes, len(classes)),
        ],
    )


def _outcomes(told: Incident, zone: tzinfo | None) -> Iterator[Section]:
    yield _section(
        "Suppressed second copies",
        "Each with the entry that had delivered the mail, and when. `drainer show MESSAGE-ID` tells more.",
        "No second copy was suppressed.",
        Table(
            "Recipients who had the mail already",
            ("Time", "List", "Message-ID", "Entry", ">Recipients", "Had it by entry", "Delivered"),
            [
                (when(s.at, zone), s.list, s.message_id, s.entry, count(s.recipients), s.of, when(s.of_at, zone))
                for s in told.suppressed.lines
            ],
            told.suppressed.total,
        ),
    )
    yield _section(
        "Held for a person",
        "They wait until somebody says `drainer release` or `drainer drop`.",
        "Nothing is held.",
        Table(
            "Held entries",
            ("Since", "List", "Subject", "Sender", "Entry", "Why"),
            [
                (when(h.at, zone) if h.at else "", h.list, h.subject, h.sender, h.entry, h.reason)
                for h in told.held.lines
            ],
            told.held.total,
        ),
    )
    yield _section(
        "Bounced",
        "Refused for good, or given up; a bounce message (DSN) tells the list, so that its bounce processing counts it.",
        "Nobody bounced.",
        Table(
            "Recipients that failed",
            ("Time", "List", "Recipient", "Answer", "DSN", "Message-ID"),
            [(when(b.at, zone), b.list, b.recipient, b.reply, _DSNS[b.dsn], b.message_id) for b in told.bounced.lines],
            told.bounced.total,
        ),
    )
    yield _section(
        "In doubt",
        "The last reply was lost after the content had gone out, so the MTA may have the mail or not.",
        "No delivery was ever in doubt.",
        Table(
            "How each doubt ended",
            ("Time", "List", "Recipients", "Outcome", "Why", "Message-ID"),
            [
                (when(d.at, zone), d.list, _some(d.recipients), _DOUBTS[d.outcome], d.why, d.message_id)
                for d in told.doubts.lines
            ],
            told.doubts.total,
        ),
    )
    yield _set_aside(
        "Unreadable", "Kept in Mailman's bad/ as .psv files.", "Every file could be read.", told.unreadable, zone
    )
    skipped = told.present.mailman.skipped if told.present else []
    if skipped:
        said = [f"{skipped_files(one.directory, one.files, one.name, one.reason)}." for one in skipped]
        yield Section("Not taken", [text[:1].upper() + text[1:] for text in said])
    yield _set_aside("Dropped", "Given up by an operator.", "Nothing was dropped.", told.dropped, zone)


def _set_aside(title: str, said: str, none: str, some: Listed[SetAside], zone: tzinfo | None) -> Section:
    rows = [(when(line.at, zone), line.entry, line.list, line.message_id, line.why) for line in some.lines]
    return _section(title, said, none, Table(title, ("Time", "Entry", "List", "Message-ID", "Why"), rows, some.total))


def _section(title: str, said: str, none: str, table: Table) -> Section:
    return Section(title, [said], [table]) if table.total else Section(title, [none])


def _rates(told: Incident, zone: tzinfo | None) -> Section:
    rows = [(when(one.at, zone), limit(one.messages_per_s), limit(one.recipients_per_s)) for one in told.rates.limits]
    said = [*speed(told)] or ["Too short to measure a rate."]
    table = Table("Limits in force", ("From", ">Messages", ">Recipients"), rows, len(rows))
    return Section("Rates", said, [table] if rows else [])


def _how_good(scored: ForecastAccuracy) -> Section:
    said = [*accuracy(scored)]
    if scored.open:
        said.append(f"How good {count(scored.open, 'forecast')} are will be known when the drain has ended.")
    said = said or ["No forecast was made that could be compared with what came."]
    rows = [
        (
            "more" if one.up_to_s is None else f"up to {duration(one.up_to_s)}",
            count(one.judged),
            f"{one.held / one.judged:.0%}".replace("%", " %"),
            "" if one.median_error_s is None else duration(one.median_error_s),
        )
        for one in scored.by_horizon
    ]
    columns = ("When really left was", ">Forecasts", ">In the interval", ">Median error")
    return Section("Forecasts", said, [Table("How good they were", columns, rows, len(rows))] if rows else [])


def _some(addresses: Sequence[str], most: int = 5) -> str:
    shown = ", ".join(addresses[:most])
    return shown if len(addresses) <= most else f"{shown} and {count(len(addresses) - most)} more"
