"""The sections of the incident report after its summary, in words for both Markdown and HTML.

In    an Incident, a time zone
Out   Sections of sentences and tables: plain text, `commands` in backquotes
Pure  values only
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import tzinfo

from drainer.estimate.accuracy import ForecastAccuracy
from drainer.report.incident.document import LINES, Incident, Listed, Moment, SetAside
from drainer.report.incident.summary import accuracy_text, speed, state_words, when
from drainer.text.wording import count, duration, limit, size, skipped_files

Cells = Sequence[str]


@dataclass(frozen=True, slots=True)
class Table:
    """columns: a heading that begins with ">" is one of figures. total: all rows; the table may show fewer."""

    caption: str
    columns: Sequence[str]
    rows: Sequence[Cells]
    total: int


@dataclass(frozen=True, slots=True)
class Section:
    title: str
    sentences: Sequence[str]
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
_DSNS = {"sent": "sent", "dropped": "not sent", "owed": "to be sent", "before": "incident before", "none": "none due"}


def sections(incident: Incident, zone: tzinfo | None = None) -> list[Section]:
    """Everything after the summary."""
    return [
        _timeline(incident, zone),
        _found(incident),
        _suppressed(incident, zone),
        _held(incident, zone),
        _bounced(incident, zone),
        _in_doubt(incident, zone),
        _set_aside(
            "Unreadable",
            "Kept in Mailman's bad/ as .psv files.",
            "Every file could be read.",
            incident.unreadable,
            zone,
        ),
        *_not_taken(incident),
        _set_aside("Dropped", "Given up by an operator.", "Nothing was dropped.", incident.dropped, zone),
        _operators(incident, zone),
        _rates(incident, zone),
        _accuracy(incident.forecasts),
    ]


def cut(table: Table) -> str:
    """The note below a table that does not show all rows; "" if it does."""
    if len(table.rows) >= table.total:
        return ""
    return (
        f"{count(len(table.rows))} of {count(table.total)} shown; `drainer report --format json` and the log have more."
    )


def _timeline(incident: Incident, zone: tzinfo | None) -> Section:
    rows = [(when(moment.at, zone), *_moment(moment)) for moment in incident.timeline.lines]
    return Section("Timeline", [], [Table("What happened", ("Time", "What", "Why"), rows, incident.timeline.total)])


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


def _found(incident: Incident) -> Section:
    found = incident.found
    lists = [
        (
            one.list or "(not read)", count(one.entries), count(one.recipients), size(one.bytes), count(one.delivered),
            count(one.suppressed), count(one.settled + one.dropped + one.unreadable + one.handed_back), count(one.waiting),
        )
        for one in found.by_list[:LINES]
    ]  # fmt: skip
    classes = [(_KINDS.get(one.kind, one.kind), count(one.entries), count(one.recipients)) for one in found.by_class]
    sentence = (
        f"In all {count(found.entries, 'entry', 'entries')} for {count(found.recipients, 'recipient')}, "
        f"{size(found.bytes)}. An entry given back to Mailman and taken again counts twice."
    )
    return Section(
        "What was found",
        [sentence],
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


def _suppressed(incident: Incident, zone: tzinfo | None) -> Section:
    rows = [
        (when(s.at, zone), s.list, s.message_id, s.entry, count(s.recipients), s.of, when(s.of_at, zone))
        for s in incident.suppressed.lines
    ]
    columns = ("Time", "List", "Message-ID", "Entry", ">Recipients", "Had it by entry", "Delivered")
    return _section(
        "Suppressed second copies",
        "Each with the entry that had delivered the mail, and when. `drainer show MESSAGE-ID` says more.",
        "No second copy was suppressed.",
        Table("Recipients who had the mail already", columns, rows, incident.suppressed.total),
    )


def _held(incident: Incident, zone: tzinfo | None) -> Section:
    rows = [
        (when(h.at, zone) if h.at else "", h.list, h.subject, h.sender, h.entry, h.reason) for h in incident.held.lines
    ]
    columns = ("Since", "List", "Subject", "Sender", "Entry", "Why")
    return _section(
        "Held for a person",
        "They wait for `drainer release` or `drainer drop`.",
        "Nothing is held.",
        Table("Held entries", columns, rows, incident.held.total),
    )


def _bounced(incident: Incident, zone: tzinfo | None) -> Section:
    rows = [
        (when(b.at, zone), b.list, b.recipient, b.reply, _DSNS[b.dsn], b.message_id) for b in incident.bounced.lines
    ]
    columns = ("Time", "List", "Recipient", "Answer", "DSN", "Message-ID")
    return _section(
        "Bounced",
        "Refused for good, or given up. A bounce message (DSN) reports it to the list, whose bounce processing counts it.",
        "No recipient bounced.",
        Table("Recipients that failed", columns, rows, incident.bounced.total),
    )


def _in_doubt(incident: Incident, zone: tzinfo | None) -> Section:
    rows = [
        (when(d.at, zone), d.list, _some(d.recipients), _DOUBTS[d.outcome], d.why, d.message_id)
        for d in incident.doubts.lines
    ]
    columns = ("Time", "List", "Recipients", "Outcome", "Why", "Message-ID")
    return _section(
        "In doubt",
        "The last reply was lost after the content had gone out, so the MTA may have the mail or not.",
        "No delivery was ever in doubt.",
        Table("How each doubt ended", columns, rows, incident.doubts.total),
    )


def _not_taken(incident: Incident) -> Iterator[Section]:
    """Files in Mailman's queues that are no entries; no section if there are none."""
    skipped = incident.present.mailman.skipped if incident.present else []
    if skipped:
        sentences = [f"{skipped_files(one.directory, one.files, one.name, one.reason)}." for one in skipped]
        yield Section("Not taken", [text[:1].upper() + text[1:] for text in sentences])


def _operators(incident: Incident, zone: tzinfo | None) -> Section:
    rows = [(when(a.at, zone), a.by, a.action, a.detail) for a in incident.actions.lines]
    columns = ("Time", "Who", "What", "Details and reason")
    table = Table("What operators did, with the reasons they gave", columns, rows, incident.actions.total)
    return Section("Operators", [] if table.total else ["No operator changed anything."], [table])


def _set_aside(title: str, sentence: str, none: str, some: Listed[SetAside], zone: tzinfo | None) -> Section:
    rows = [(when(line.at, zone), line.entry, line.list, line.message_id, line.why) for line in some.lines]
    return _section(
        title, sentence, none, Table(title, ("Time", "Entry", "List", "Message-ID", "Why"), rows, some.total)
    )


def _section(title: str, sentence: str, none: str, table: Table) -> Section:
    return Section(title, [sentence], [table]) if table.total else Section(title, [none])


def _rates(incident: Incident, zone: tzinfo | None) -> Section:
    rows = [
        (when(one.at, zone), limit(one.messages_per_s), limit(one.recipients_per_s)) for one in incident.rates.limits
    ]
    sentences = [*speed(incident)] or ["Too short to measure a rate."]
    table = Table("Limits in force", ("From", ">Messages", ">Recipients"), rows, len(rows))
    return Section("Rates", sentences, [table] if rows else [])


def _accuracy(scored: ForecastAccuracy) -> Section:
    sentences = [*accuracy_text(scored)]
    if scored.open:
        sentences.append(f"{count(scored.open, 'forecast')} can be judged when the drain has ended.")
    sentences = sentences or ["No forecast could be compared with the real end."]
    rows = [
        (
            "more" if one.up_to_s is None else f"up to {duration(one.up_to_s)}",
            count(one.judged),
            f"{one.held / one.judged:.0%}".replace("%", " %"),
            "" if one.median_error_s is None else duration(one.median_error_s),
        )
        for one in scored.by_horizon
    ]
    columns = ("Time really left", ">Forecasts", ">In the interval", ">Median error")
    return Section("Forecasts", sentences, [Table("How good they were", columns, rows, len(rows))] if rows else [])


def _some(addresses: Sequence[str], most: int = 5) -> str:
    shown = ", ".join(addresses[:most])
    return shown if len(addresses) <= most else f"{shown} and {count(len(addresses) - most)} more"
