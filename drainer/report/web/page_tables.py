"""The tables of the page: lists, guards, Mailman's queues and runners, and the burn-down in figures.

In    parts of a Snapshot, BurnDown
Out   one fragment of HTML each
Pure  values only
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import tzinfo

from drainer.guards.mailman import Mailman
from drainer.guards.verdict import Guard
from drainer.report.burn_down import STANDS_STILL, BurnDown, Point
from drainer.report.snapshot import DomainStanding, ListBacklog, Snapshot
from drainer.report.web.chart import bands
from drainer.report.words import domain_cause, domain_limit, domain_not_in_force, traffic_behind_the_mta
from drainer.text.markup import Markup, tag
from drainer.text.wording import clock_time, count, duration, quantised_s, size

LISTS_SHOWN = 100
DOMAINS_SHOWN = 40
_ROWS_OF_HISTORY = 12

Cells = Sequence[str | None]


def table(caption: str, columns: Sequence[str], rows: Iterable[Cells]) -> Markup:
    """A table whose first column names the row.

    columns  a heading beginning with ">" is that of figures, right-aligned
    """
    # These roles are the elements' own. On a phone page.css makes blocks of the elements, which takes the roles away.
    headings = [(name.removeprefix(">"), "number" if name.startswith(">") else None) for name in columns]
    head = [tag("th", name, scope="col", role="columnheader", class_=mark) for name, mark in headings]
    body = []
    for row in rows:
        cells = [tag("th", row[0], scope="row", role="rowheader")]
        for (name, mark), value in zip(headings[1:], row[1:], strict=True):
            cells.append(tag("td", value, role="cell", class_=mark, data_label=name if value else None))
        body.append(tag("tr", *cells, role="row"))
    return tag(
        "table",
        tag("caption", caption),
        tag("thead", tag("tr", *head, role="row"), role="rowgroup"),
        tag("tbody", *body, role="rowgroup"),
        role="table",
    )


def lists_table(snapshot: Snapshot, zone: tzinfo | None) -> Markup:
    """Every list that has mail waiting, the longest backlog first, and when each is finished."""
    unread = snapshot.backlog.unread_entries
    if not snapshot.lists:
        nothing = f"{count(unread, 'entry', 'entries')} not read yet." if unread else "No list has anything waiting."
        return tag("p", nothing, class_="none")
    longest = sorted(snapshot.lists, key=lambda one: (-one.recipients, -one.entries, one.list))
    rows: list[Cells] = [
        (
            one.list,
            count(one.entries),
            count(one.recipients),
            "" if one.oldest_age_s is None else duration(one.oldest_age_s),
            _finish(one, snapshot, zone),
        )
        for one in longest[:LISTS_SHOWN]
    ]
    if rest := longest[LISTS_SHOWN:]:
        entries, recipients = sum(one.entries for one in rest), sum(one.recipients for one in rest)
        rows.append((f"and {count(len(rest), 'other list')}", count(entries), count(recipients), "", ""))
    return table(
        f"Lists with mail waiting, the longest backlog first{' (of the entries read so far)' if unread else ''}",
        ("List", ">Entries", ">Recipients", ">Oldest", "Done by"),
        rows,
    )


def domains_table(snapshot: Snapshot, zone: tzinfo | None) -> Markup:
    """Recipient domains: those with a ceiling first, then those for which most waits."""
    if not snapshot.domains:
        return tag("p", "No recipient is known to wait, and no domain has a ceiling.", class_="none")
    rows: list[Cells] = [
        (
            one.domain,
            domain_limit(one),
            count(one.waiting_recipients),
            "" if one.queued is None else count(one.queued),
            _there(one),
            "" if one.since is None else clock_time(one.since, snapshot.at, zone),
            domain_not_in_force(one)
            or (domain_cause(one, snapshot.at, zone) if one.limit_recipients_per_s is not None else one.deferral_reply),
        )
        for one in snapshot.domains[:DOMAINS_SHOWN]
    ]
    if (rest := len(snapshot.domains) - DOMAINS_SHOWN) > 0:
        rows.append((f"and {count(rest, 'other domain')}", *[""] * 6))
    return table(
        "Recipient domains: those with a ceiling, then those for which most waits",
        ("Domain", "Ceiling", ">Waiting", ">Behind the MTA", "What happens there", ">Since", "Why"),
        rows,
    )


def _there(one: DomainStanding) -> str:
    """ "oldest 4 min, 12 deferred; 12/s arrive, 4.5/s taken, 3/s deferred"."""
    waits = [f"oldest {duration(one.oldest_age_s)}"] if one.oldest_age_s is not None else []
    waits += [f"{count(one.deferred)} deferred"] if one.deferred else []
    return "; ".join(filter(None, [", ".join(waits), traffic_behind_the_mta(one)]))


def guards_table(guards: Sequence[Guard]) -> Markup:
    """The strictest guard first, each with its reason and its figures."""
    if not guards:
        return tag("p", "Not looked at yet.", class_="none")
    order = ("stop", "slow", "go")
    sorted_guards = sorted(guards, key=lambda guard: order.index(guard.verdict))
    return table(
        "What may slow or stop the sending",
        ("Guard", "Says", "Why", ">Now", ">Limit"),
        [
            (guard.name, _verdict(guard), guard.reason, _number(guard, guard.value), _number(guard, guard.limit))
            for guard in sorted_guards
        ],
    )


def queues_table(mailman: Mailman) -> Markup:
    if not mailman.queues:
        return tag("p", "Not looked at yet.", class_="none")
    return table(
        "Mailman's queues",
        ("Queue", ">Entries", ">Oldest"),
        [
            (queue.name, count(queue.entries), "" if queue.oldest_age_s is None else duration(queue.oldest_age_s))
            for queue in mailman.queues
        ],
    )


def history_table(burn_down: BurnDown, snapshot: Snapshot, zone: tzinfo | None) -> Markup:
    """The burn-down as figures: some of its points, about evenly spaced in time, and the forecast."""
    now_s = snapshot.at
    rows: list[Cells] = [
        (
            clock_time(point.at, now_s, zone),
            count(point.entries),
            "not known" if point.recipients is None else count(point.recipients),
            _was(burn_down, point.at, now_s),
        )
        for point in _evenly(burn_down.points)
    ]
    eta = snapshot.eta
    if eta.state == "draining" and eta.seconds:
        for seconds, word in ((eta.low_s, "at the earliest"), (eta.seconds, "expected"), (eta.high_s, "at the latest")):
            if seconds is not None:
                rows.append((clock_time(now_s + quantised_s(seconds), now_s, zone), "0", "0", f"forecast, {word}"))
    return table("The chart as figures", ("Time", ">Entries left", ">Recipients left", "State"), rows)


def _evenly(points: Sequence[Point]) -> list[Point]:
    """At most _ROWS_OF_HISTORY points, the first and the last among them, about evenly in time."""
    if len(points) <= _ROWS_OF_HISTORY:
        return [*points]
    first_s, last_s = points[0].at, points[-1].at
    chosen: list[Point] = []
    for row in range(_ROWS_OF_HISTORY):
        wanted_s = first_s + (last_s - first_s) * row / (_ROWS_OF_HISTORY - 1)
        nearest = min(points, key=lambda point: abs(point.at - wanted_s))
        if nearest not in chosen:
            chosen.append(nearest)
    return chosen


def _was(burn_down: BurnDown, at_s: float, now_s: float) -> str:
    return next((STANDS_STILL[band.state] for band in bands(burn_down, now_s) if band.start_s <= at_s < band.end_s), "")


def _finish(one: ListBacklog, snapshot: Snapshot, zone: tzinfo | None) -> str:
    if one.paused:
        return "paused"
    if one.not_served:
        return "not served"
    now_s, state = snapshot.at, snapshot.eta.state
    if one.seconds is None:
        return "not known yet" if state in ("draining", "done") else state
    at = f"about {clock_time(now_s + quantised_s(one.seconds), now_s, zone)}"
    if one.low_s is None or one.high_s is None:
        return at
    low, high = (clock_time(now_s + quantised_s(seconds), now_s, zone) for seconds in (one.low_s, one.high_s))
    return at if low == high else f"{at} ({low} to {high})"


def _verdict(guard: Guard) -> Markup:
    return tag("span", guard.verdict, class_=f"verdict {guard.verdict}")


def _number(guard: Guard, value: float | None) -> str:
    if value is None:
        return ""
    if guard.name.endswith("bytes"):
        return size(int(value))
    return count(int(value)) if value == int(value) else f"{value:,.2f}"
