"""The web page, for an operator's browser or phone: where the drain stands, with every figure in the HTML itself.

In    the template (page.html), a Snapshot, the BurnDown, a time zone
Out   the whole page; page.js loads it again and replaces the parts marked data-live
Pure  no clock: "now" is when the snapshot was taken

The order is that of terminal/rows.py, for a reader at three in the morning: state and reason, when it ends, how much is left
and how fast, what needs a person, then the rest. The words are those of ../words.py.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import datetime, tzinfo
from string import Template

from drainer.estimate.eta import Eta
from drainer.guards.mailman import Mailman
from drainer.report.burn_down import BurnDown
from drainer.report.hints import hints
from drainer.report.snapshot import Snapshot
from drainer.report.web.chart import burn_down_svg
from drainer.report.web.page_tables import domains_table, guards_table, history_table, lists_table, queues_table
from drainer.report.words import eta_text, finish_text, is_sending, progress, schedule_lines, state_word
from drainer.text.markup import Markup, joined, tag
from drainer.text.wording import (
    clock_time,
    count,
    duration,
    limit,
    quantised_s,
    rate,
    recipients_of,
    size,
    skipped_files,
)

WIDE, NARROW = (1000, 300), (336, 240)
"""The chart's sizes in pixels: for a desktop, and for a phone of 360 pixels."""

_COMMAND = re.compile("`([^`]+)`")


def page(template: str, snapshot: Snapshot, burn_down: BurnDown, zone: tzinfo | None = None) -> str:
    """The page as HTML.

    template  page.html, in which $name stands for a part
    zone      for clock times; None: the machine's own
    """
    share = progress(snapshot)
    word = state_word(snapshot.state).capitalize().replace("Mta", "MTA")
    return Template(template).substitute(
        state=snapshot.state,
        title=joined(word, None if share is None else f", {int(share * 100)} %"),
        as_of=_as_of(snapshot, zone),
        headline=tag("h1", word) + _reason(snapshot),
        since=f"since {clock_time(snapshot.since, snapshot.at, zone)} ({duration(snapshot.at - snapshot.since)})",
        pauses=_pauses(snapshot, zone),
        finish=_finish(snapshot, zone),
        progress=_progress(share),
        next=_next(snapshot),
        figures=_figures(snapshot, zone),
        chart=joined(
            burn_down_svg(burn_down, snapshot, *WIDE, zone, "wide"),
            burn_down_svg(burn_down, snapshot, *NARROW, zone, "narrow"),
        ),
        chart_words=joined(chart_words(burn_down, snapshot, zone)),
        chart_table=history_table(burn_down, snapshot, zone),
        lists=lists_table(snapshot, zone),
        domains=domains_table(snapshot, zone),
        guards=guards_table(snapshot.guards),
        mta=_mta(snapshot),
        mailman=joined(_failed(snapshot), _mailman(snapshot.mailman)),
        queues=queues_table(snapshot.mailman),
        version=joined(snapshot.version),
        pid=snapshot.pid,
    )


def chart_words(burn_down: BurnDown, snapshot: Snapshot, zone: tzinfo | None) -> str:
    """What the chart shows, in a sentence or two."""
    now_s = snapshot.at
    left = f"{_left(snapshot)} left now"
    most = max(burn_down.points, key=lambda point: point.recipients or 0, default=None)
    if most is not None and most.recipients and most.recipients > snapshot.backlog.recipients and now_s - most.at >= 60:
        left = f"From {count(most.recipients)} at {clock_time(most.at, now_s, zone)} to {left}"
    return f"{left}. Forecast: {eta_text(snapshot.eta, now_s, zone)}."


def _as_of(snapshot: Snapshot, zone: tzinfo | None) -> Markup:
    moment = datetime.fromtimestamp(snapshot.at, zone).astimezone(zone)
    return tag("time", f"{moment:%H:%M:%S %Z}".rstrip(), datetime=moment.isoformat(timespec="seconds"))


def _reason(snapshot: Snapshot) -> Markup:
    return tag("p", snapshot.reason, class_="reason") if snapshot.reason else Markup("")


def _pauses(snapshot: Snapshot, zone: tzinfo | None) -> Markup:
    items = []
    for pause in snapshot.pauses:
        what = f"List {pause.list} is" if pause.list else "Everything is"
        until = "until resumed" if pause.until is None else f"until {clock_time(pause.until, snapshot.at, zone)}"
        since = clock_time(pause.since, snapshot.at, zone)
        reason = f": {pause.reason}" if pause.reason else ""
        items.append(tag("li", f"{what} paused by {pause.by or 'somebody'} since {since}, {until}{reason}"))
    return tag("ul", *items, class_="pauses") if items else Markup("")


def _finish(snapshot: Snapshot, zone: tzinfo | None) -> Markup:
    """When it ends, in large letters, with the interval beside it; or why there is no time."""
    eta = snapshot.eta
    if eta.state != "draining" or eta.seconds is None:
        text = finish_text(snapshot, zone)
        resumed = None
        if snapshot.if_resumed is not None:
            then = eta_text(snapshot.if_resumed, snapshot.at, zone)
            resumed = tag("p", f"If everything is resumed now: {then}", class_="since")
        return joined(tag("p", text[:1].upper() + text[1:], class_="finish"), resumed)
    at_s = snapshot.at + quantised_s(eta.seconds)
    return tag(
        "p",
        tag("strong", f"Done at about {clock_time(at_s, snapshot.at, zone)}"),
        tag("span", f"in {duration(quantised_s(eta.seconds))}{_interval(eta, snapshot.at, zone)}"),
        class_="finish",
    )


def _interval(eta: Eta, now_s: float, zone: tzinfo | None) -> str:
    if eta.low_s is None or eta.high_s is None:
        return ""
    low, high = (clock_time(now_s + quantised_s(seconds), now_s, zone) for seconds in (eta.low_s, eta.high_s))
    if low == high:
        return ""
    sure = f", {eta.confidence * 100:.0f} % sure" if eta.confidence else ""
    return f"; between {low} and {high}{sure}"


def _progress(share: float | None) -> Markup:
    if share is None:
        return Markup("")
    # Rounded down: 100 % is shown only when nothing is left.
    percent = int(share * 100)
    return joined(
        tag("progress", f"{percent} %", value=percent, max=100, aria_label="Share of the recipients that is done"),
        tag("span", f"{percent} % done", class_="percent"),
    )


def _next(snapshot: Snapshot) -> Markup:
    items = [tag("li", with_commands(hint[:1].upper() + hint[1:])) for hint in hints(snapshot)]
    return joined(tag("h2", "What you can do"), tag("ul", *items)) if items else Markup("")


def with_commands(text: str) -> Markup:
    """The text, with what stands in backquotes as code."""
    pieces = _COMMAND.split(text)
    return joined(*(tag("code", piece) if index % 2 else piece for index, piece in enumerate(pieces)))


def _figures(snapshot: Snapshot, zone: tzinfo | None) -> Markup:
    backlog, done = snapshot.backlog, snapshot.done
    since = f"since {clock_time(done.since, snapshot.at, zone)}" if done.since else ""
    return joined(
        _figure("Backlog", *_backlog(snapshot)),
        _figure("Rate" if is_sending(snapshot) else "Rate, when it last sent", *_rate(snapshot)),
        _figure(
            "Delivered",
            count(done.delivered_recipients, "recipient"),
            [
                f"{count(done.delivered_entries, 'entry', 'entries')} in {count(done.transactions, 'transaction')}",
                since,
            ],
        ),
        _figure(
            "Duplicates suppressed",
            count(done.suppressed_entries, "entry", "entries"),
            [count(done.suppressed_recipients, "recipient"), _expected_duplicates(snapshot)],
        ),
        _figure(
            "Held for a person",
            count(backlog.held_entries, "entry", "entries"),
            [],
            "attention" if backlog.held_entries else "",
        ),
        _figure(
            "In doubt",
            count(backlog.in_doubt_recipients, "recipient"),
            ["the MTA may have them or not"] if backlog.in_doubt_recipients else [],
            "attention" if backlog.in_doubt_recipients else "",
        ),
        _figure(
            "Deferred",
            count(backlog.deferred_recipients, "recipient"),
            ["the MTA said later"] if backlog.deferred_recipients else [],
        ),
        _figure(
            "Bounced",
            count(done.bounced_recipients, "recipient"),
            [
                f"{count(backlog.dsns_owed, 'DSN')} to send" if backlog.dsns_owed else "",
                f"{count(done.unreadable_entries)} unreadable, {count(done.dropped_entries)} dropped",
            ],
        ),
    )


def _figure(name: str, value: str, notes: Sequence[str], mark: str = "") -> Markup:
    """One figure with its name; the first word of the value is large."""
    number, _, unit = value.partition(" ")
    notes_said = [tag("dd", note, class_="note") for note in notes if note]
    big = tag("dd", tag("b", number), f" {unit}" if unit else None)
    return tag("div", tag("dt", name), big, *notes_said, class_=f"figure {mark}".strip())


def _backlog(snapshot: Snapshot) -> tuple[str, list[str]]:
    """Recipients first if all are known. Otherwise entries first: a part of the recipients would look like all."""
    backlog = snapshot.backlog
    entries, recipients = count(backlog.entries, "entry", "entries"), count(backlog.recipients, "recipient")
    oldest = f"oldest {duration(backlog.oldest_age_s)}" if backlog.oldest_age_s is not None else ""
    not_served = ""
    if backlog.not_served_recipients:
        not_served = f"{count(backlog.not_served_recipients, 'recipient')} not served: {backlog.not_served}"
    if not backlog.unread_entries:
        return recipients, [f"{entries}, {size(backlog.bytes)}", oldest, not_served]
    unread = count(backlog.unread_entries, "entry", "entries")
    so_far = f"{recipients} so far" if backlog.recipients else recipients_of(0, backlog.unread_entries)
    return entries, [f"{so_far}, {unread} not read yet", size(backlog.bytes), oldest, not_served]


def _left(snapshot: Snapshot) -> str:
    backlog = snapshot.backlog
    entries = count(backlog.entries, "entry", "entries")
    if backlog.unread_entries:
        return f"{entries} ({count(backlog.unread_entries)} not read yet)"
    return f"{count(backlog.recipients, 'recipient')} in {entries}"


def _expected_duplicates(snapshot: Snapshot) -> str:
    backlog = snapshot.backlog
    if not backlog.duplicate_entries and not backlog.duplicate_recipients:
        return ""
    entries = count(backlog.duplicate_entries, "entry", "entries")
    return f"{entries}, {count(backlog.duplicate_recipients, 'recipient')} more expected"


def _rate(snapshot: Snapshot) -> tuple[str, list[str]]:
    now = snapshot.rate
    limits = f"limit {limit(now.limit_messages_per_s)} messages, {limit(now.limit_recipients_per_s)} recipients"
    since = f", for {duration(snapshot.at - now.binding_since)}" if now.binding_since is not None else ""
    held_down = f"held down by: {now.binding}{since}" if now.binding else ""
    schedule = list(schedule_lines(now.window, now.caps, now.binding))
    if now.recipients_per_s is None:
        return "not measured yet", [limits, held_down, *schedule]
    messages = f"{rate(now.messages_per_s)} messages" if now.messages_per_s is not None else ""
    arriving = f"arriving {rate(now.arrivals_recipients_per_s)}" if now.arrivals_recipients_per_s else ""
    return f"{rate(now.recipients_per_s)} recipients", [messages, limits, held_down, *schedule, arriving]


def _mta(snapshot: Snapshot) -> Markup:
    mta = snapshot.mta
    items = [tag("span", mta.state, class_=f"verdict {'go' if mta.state == 'up' else mta.state}")]
    text = f" {mta.host}:{mta.port}, {count(mta.sessions, 'session')} open"
    if mta.reason:
        text += f": {mta.reason}"
    if mta.state == "up" and mta.sessions_why and mta.sessions_why != mta.reason:
        text += f"; at most {mta.sessions_allowed}: {mta.sessions_why}"
    if mta.next_try_s is not None:
        text += f"; next try in {duration(max(0.0, mta.next_try_s - snapshot.at))}"
    if mta.recipient_limit:
        text += f"; it takes {count(mta.recipient_limit, 'recipient')} in one transaction"
    if mta.session_limit:
        text += f"; it takes {count(mta.session_limit, 'mail')} in one session"
    return tag("p", *items, text)


def _failed(snapshot: Snapshot) -> Markup:
    """Tasks beside the drain that failed."""
    return joined(
        *(
            tag(
                "p",
                f"{one.task} failed {count(one.failures, 'time')}: {one.detail}. Delivery goes on; the log says more.",
            )
            for one in snapshot.side_failures
        )
    )


def _mailman(mailman: Mailman) -> Markup:
    return joined(*(tag("p", line) for line in _mailman_lines(mailman)))


def _mailman_lines(mailman: Mailman) -> Iterator[str]:
    yield f"{mailman.flavour or 'flavour not known yet'} in {mailman.queue_dir or 'a queue not known yet'}"
    runners = ", ".join(f"{runner.name} (pid {runner.pid})" for runner in mailman.runners)
    yield f"Runners: {runners or 'none running'}"
    if mailman.missing_runners:
        yield f"Missing runners: {', '.join(mailman.missing_runners)}"
    if mailman.released_entries or mailman.retrying_recipients:
        released = count(mailman.released_entries, "entry", "entries")
        yield f"Released to it: {released}; it retries {count(mailman.retrying_recipients, 'recipient')}"
    for one in mailman.skipped:
        yield f"{skipped_files(one.directory, one.files, one.name, one.reason)}."
    if mailman.outgoing_runner_competes:
        yield f"{mailman.competition}."
