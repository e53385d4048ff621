"""The incident report in words: a summary for a post-mortem, then sections of sentences and tables.

In    an Incident, a time zone
Out   Sections; incident_markdown.py and incident_html.py give them their form
Pure  values only

The summary can be pasted as it stands: whole sentences, absolute times with their zone, no word only this program knows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, tzinfo

from drainer.report.incident import LINES, Incident, Listed, Moment, SetAside
from drainer.report.snapshot import Forecasts
from drainer.report.wording import count, duration, limit, rate, size

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


_STATES = {
    "starting": "starting",
    "scanning": "reading the backlog",
    "draining": "draining",
    "paused": "paused",
    "stopped_by_guard": "stopped by a guard",
    "mta_down": "the MTA is down",
    "idle": "nothing left to send",
    "stopping": "stopping",
    "not_running": "not running",
}
_KINDS = {
    "none": "originals",
    "exact": "the same mail again (exact)",
    "restored": "the same file again, as from a backup (restored)",
    "partial": "the same mail, partly to new recipients (partial)",
    "resend": "sent again by its author (resend)",
    "conflict": "same Message-ID, other text (conflict)",
    "": "not read",
}
_DOUBTS = {
    "open": "not resolved yet",
    "delivered": "delivered: not sent again",
    "resent": "sent again",
    "held": "held for a person",
}
_DOUBTS_ENDED = {
    "open": "not resolved yet",
    "delivered": "found delivered and not sent again",
    "resent": "sent again",
    "held": "held for a person",
}
_DSNS = {"sent": "sent", "dropped": "not sent", "owed": "to be sent", "before": "told before", "none": "none due"}


def summary(told: Incident, zone: tzinfo | None = None) -> list[str]:
    """Some sentences that say what happened."""
    done, backlog = told.done, told.backlog
    said = [_course(told, zone)]
    found = f"{count(told.found.entries, 'entry', 'entries')} of {count(_lists(told), 'list')} came into custody"
    if told.found.most_recipients is not None:
        found += f"; at its largest the backlog was {count(told.found.most_recipients, 'recipient')}"
    said.append(found + ".")
    said.append(
        f"Delivered: {count(done.delivered_entries, 'entry', 'entries')} to "
        f"{count(done.delivered_recipients, 'recipient')}, in {count(done.transactions, 'transaction')}. "
        f"Suppressed: {count(done.suppressed_recipients, 'second copy', 'second copies')} for recipients who had the mail "
        f"already, {count(done.suppressed_entries, 'whole entry', 'whole entries')} among them."
    )
    if done.bounced_recipients:
        said.append(
            f"{count(done.bounced_recipients, 'recipient')} could not be delivered to; "
            f"{count(told.dsns.sent, 'bounce message')} told the lists of them"
            + (f", {count(told.dsns.owed)} still to be sent." if told.dsns.owed else ".")
        )
    if told.doubts.total:
        ways = [f"{number} {_DOUBTS_ENDED[way]}" for way in _DOUBTS if (number := _doubtful(told, way))]
        said.append(
            f"In doubt, because the MTA's last reply was lost: {count(told.doubts.total, 'delivery', 'deliveries')}, "
            f"of which {', '.join(ways)}."
        )
    aside = [
        (backlog.held_entries, "held for a person"),
        (done.unreadable_entries, "unreadable, kept in Mailman's bad/"),
        (done.dropped_entries, "dropped by an operator"),
    ]
    if any(number for number, _ in aside):
        words = [f"{count(number, 'entry', 'entries')} {what}" for number, what in aside if number]
        said.append(f"Set aside: {', '.join(words)}.")
    said += [*_speed(told), *_forecasts(told.forecasts)]
    if told.actions.total:
        people = sorted({action.by for action in told.actions.lines})
        said.append(f"Operators acted {count(told.actions.total, 'time')} ({', '.join(people)}).")
    return said


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
                    [(_when(a.at, zone), a.by, a.action, a.detail) for a in told.actions.lines],
                    told.actions.total,
                )
            ],
        ),
        _rates(told, zone),
        _accuracy(told.forecasts),
    ]


def heading(told: Incident, zone: tzinfo | None = None) -> str:
    return f"Mail queue drain of {_when(told.began or told.since, zone)}"


def provenance(told: Incident, zone: tzinfo | None = None) -> list[str]:
    """Where the figures are from, and what cannot be known."""
    source = "the running service" if told.live else "the ledger"
    said = [
        f"Made {_when(told.at, zone)} from {source}, drainer {told.version}; figures as of {_when(told.as_of, zone)}, "
        f"counted since the ledger began, {_when(told.since, zone)}."
    ]
    return said + [f"Not known: {what}." for what in told.unknown]


def cut(table: Table) -> str:
    """What is said below a table that does not show everything; "" for one that does."""
    if len(table.rows) >= table.total:
        return ""
    return (
        f"{count(len(table.rows))} of {count(table.total)} shown; `drainer report --format json` and the log have more."
    )


# -- the sections -----------------------------------------------------------------------------------------------------


def _course(told: Incident, zone: tzinfo | None) -> str:
    if told.began is None:
        return "No backlog has been seen by this service."
    begin = f"The drain began {_when(told.began, zone)}"
    if told.ended is not None:
        how_long = duration(told.ended - told.began)
        return f"{begin} and was through {_when(told.ended, zone)}, after {how_long}."
    left = f"{count(told.backlog.entries, 'entry', 'entries')} with {count(told.backlog.recipients, 'recipient')} were left"
    reason = f" ({told.reason})" if told.reason else ""
    state = _STATES.get(told.state, told.state)
    return f"{begin} and is not through: {left} at {_when(told.as_of, zone)}; state: {state}{reason}."


def _lists(told: Incident) -> int:
    return sum(bool(one.list) for one in told.found.by_list)


def _doubtful(told: Incident, outcome: str) -> int:
    return sum(doubt.outcome == outcome for doubt in told.doubts.lines)


def _speed(told: Incident) -> Iterator[str]:
    rates = told.rates
    if rates.mean_recipients_per_s is None:
        return
    text = f"Recipients were served at {rate(rates.mean_recipients_per_s)} on average"
    if rates.still_s >= 1 and rates.sending_recipients_per_s is not None:
        text += (
            f", {rate(rates.sending_recipients_per_s)} without the {duration(rates.still_s)} in which nothing was sent"
        )
    if rates.sustained_recipients_per_s is not None and rates.sustained_over_s is not None:
        text += (
            f"; the best kept up for {duration(rates.sustained_over_s)} was {rate(rates.sustained_recipients_per_s)}"
        )
    yield text + "."


def _forecasts(scored: Forecasts) -> Iterator[str]:
    if scored.judged:
        error = f"; the median error was {duration(scored.median_error_s)}" if scored.median_error_s is not None else ""
        yield (
            f"Of {count(scored.judged, 'forecast')} of the finish time that can be compared with what came, "
            f"{count(scored.held)} ({scored.held / scored.judged:.0%}) had it in their interval{error}.".replace(
                "%", " %"
            )
        )
    if scored.overtaken:
        ways = ", ".join(f"{number} by {what}" for what, number in scored.overtaken.items())
        yield f"{count(sum(scored.overtaken.values()), 'forecast')} were overtaken and are not judged: {ways}."


def _timeline(told: Incident, zone: tzinfo | None) -> Section:
    rows = [(_when(moment.at, zone), *_moment(moment)) for moment in told.timeline.lines]
    return Section("Timeline", [], [Table("What happened", ("Time", "What", "Why"), rows, told.timeline.total)])


def _moment(moment: Moment) -> tuple[str, str]:
    match moment.kind:
        case "state":
            return f"State: {_STATES.get(moment.what, moment.what)}", moment.detail
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
                (_when(s.at, zone), s.list, s.message_id, s.entry, count(s.recipients), s.of, _when(s.of_at, zone))
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
                (_when(h.at, zone) if h.at else "", h.list, h.subject, h.sender, h.entry, h.reason)
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
            [(_when(b.at, zone), b.list, b.recipient, b.reply, _DSNS[b.dsn], b.message_id) for b in told.bounced.lines],
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
                (_when(d.at, zone), d.list, _some(d.recipients), _DOUBTS[d.outcome], d.why, d.message_id)
                for d in told.doubts.lines
            ],
            told.doubts.total,
        ),
    )
    yield _set_aside(
        "Unreadable", "Kept in Mailman's bad/ as .psv files.", "Every file could be read.", told.unreadable, zone
    )
    yield _set_aside("Dropped", "Given up by an operator.", "Nothing was dropped.", told.dropped, zone)


def _set_aside(title: str, said: str, none: str, some: Listed[SetAside], zone: tzinfo | None) -> Section:
    rows = [(_when(line.at, zone), line.entry, line.list, line.message_id, line.why) for line in some.lines]
    return _section(title, said, none, Table(title, ("Time", "Entry", "List", "Message-ID", "Why"), rows, some.total))


def _section(title: str, said: str, none: str, table: Table) -> Section:
    return Section(title, [said], [table]) if table.total else Section(title, [none])


def _rates(told: Incident, zone: tzinfo | None) -> Section:
    rows = [(_when(one.at, zone), limit(one.messages_per_s), limit(one.recipients_per_s)) for one in told.rates.limits]
    said = [*_speed(told)] or ["Too short to measure a rate."]
    table = Table("Limits in force", ("From", ">Messages", ">Recipients"), rows, len(rows))
    return Section("Rates", said, [table] if rows else [])


def _accuracy(scored: Forecasts) -> Section:
    said = [*_forecasts(scored)] or ["No forecast was made that could be compared with what came."]
    if scored.open:
        said.append(f"{count(scored.open, 'forecast')} of a drain that is not through yet.")
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


def _when(at_s: float, zone: tzinfo | None) -> str:
    """ "2026-11-22 18:40:05 CET"."""
    return f"{datetime.fromtimestamp(at_s, zone).astimezone(zone):%Y-%m-%d %H:%M:%S %Z}".rstrip()
