"""What `drainer status` says, row by row, before it is laid out.

In    a Snapshot, a time zone
Out   rows: a label, a text, and how soon the row is left out where the terminal has few lines
Pure  no terminal, no clock: "now" is when the snapshot was taken

Written to be understood at three in the morning: first what is going on and why, then how much is left and when it
ends, then what needs a person, then the rest.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import tzinfo

from drainer.estimate.eta import ServiceState
from drainer.guards.mailman import Mailman
from drainer.guards.verdict import Guard
from drainer.report.snapshot import NOT_SERVED, SideFailure, SilentState, Snapshot
from drainer.report.words import (
    behind_the_mta,
    domain_cause,
    domain_not_in_force,
    domain_pace,
    eta_text,
    finish_text,
    forecasts_text,
    is_sending,
    missing_runners,
    schedule_lines,
    state_word,
    traffic_behind_the_mta,
)
from drainer.text.wording import clock_time, count, duration, limit, rate, recipients_of, shown, size, skipped_files

_PAUSES_NAMED = 3
_DOMAINS_NAMED = 5
RED, YELLOW, GREEN = "\x1b[1;31m", "\x1b[1;33m", "\x1b[1;32m"

_COLOURS: dict[ServiceState | SilentState, str] = {
    "starting": YELLOW,
    "scanning": GREEN,
    "draining": GREEN,
    "paused": YELLOW,
    "stopped_by_guard": RED,
    "mta_down": RED,
    "idle": GREEN,
    "stopping": YELLOW,
    "not_running": RED,
    "not_answering": RED,
}

NEEDED, USEFUL, GOOD_TO_KNOW, CALM = range(4)
"""Ranks of a row. Where lines are few, CALM rows are left out first, then GOOD_TO_KNOW, USEFUL last; NEEDED rows stay."""


@dataclass(frozen=True, slots=True)
class Row:
    """One statement.

    label   "": the row continues the one above; None: the headline
    marked  the word of the text that is coloured, and the colour
    """

    label: str | None
    text: str
    rank: int = NEEDED
    marked: tuple[str, str] | None = None


def above_the_bar(snapshot: Snapshot, zone: tzinfo | None) -> Iterator[Row]:
    word, colour = state_word(snapshot.state), _COLOURS[snapshot.state]
    since = f"since {clock_time(snapshot.since, snapshot.at, zone)} ({duration(snapshot.at - snapshot.since)})"
    reason = f": {shown(snapshot.reason)}" if snapshot.reason else ""
    yield Row(None, f"{word} {since}{reason}", marked=(word, colour))
    if (without := snapshot.without_service) is not None:
        written = clock_time(without.as_of, snapshot.at, zone)
        yield Row("As of", f"{written}, when the ledger was last written; entries as they lie on the disk now")
    yield from _under_one_label("Paused", _pauses(snapshot, zone))
    yield from _backlog(snapshot, zone)


def _backlog(snapshot: Snapshot, zone: tzinfo | None) -> Iterator[Row]:
    backlog, without = snapshot.backlog, snapshot.without_service
    recipients = recipients_of(backlog.recipients, backlog.unread_entries)
    left = f"{count(backlog.entries, 'entry', 'entries')}, {recipients}, {size(backlog.bytes)}"
    if backlog.oldest_age_s is not None:
        left += f"; oldest {duration(backlog.oldest_age_s)}"
    yield Row("Backlog", left)
    if backlog.unread_entries:
        unread = count(backlog.unread_entries, "entry", "entries")
        yield Row("", f"{unread} not read yet: their recipients and lists are not counted")
        if without is not None and without.recorded_at is not None:
            recorded = count(without.recorded_recipients or 0, "recipient")
            at = clock_time(without.recorded_at, snapshot.at, zone)
            yield Row("", f"at {at} the service counted {recorded} in all")
    if backlog.duplicate_entries or backlog.duplicate_recipients:
        repeats = count(backlog.duplicate_entries, "entry", "entries")
        text = f"of these expected to be duplicates: {repeats}, {count(backlog.duplicate_recipients, 'recipient')}"
        yield Row("", text, USEFUL)
    if backlog.not_served_recipients:
        yield Row("", f"not served: {count(backlog.not_served_recipients, 'recipient')}: {shown(backlog.not_served)}")


def below_the_bar(snapshot: Snapshot, zone: tzinfo | None) -> Iterator[Row]:
    yield Row("Finish", finish_text(snapshot, zone))
    if snapshot.if_resumed is not None:
        yield Row("", f"if everything is resumed now: {eta_text(snapshot.if_resumed, snapshot.at, zone)}")
    yield from _how_fast(snapshot)
    yield from _under_one_label("Domains", _domains(snapshot, zone))
    yield from _under_one_label("Guards", _guards(snapshot.guards))
    yield from _waiting(snapshot, zone)
    yield from _done(snapshot, zone)
    yield from _surroundings(snapshot)


def _pauses(snapshot: Snapshot, zone: tzinfo | None) -> Iterator[Row]:
    for pause in snapshot.pauses[:_PAUSES_NAMED]:
        what = f"list {shown(pause.list)}" if pause.list else "everything"
        until = "until resumed" if pause.until is None else f"until {clock_time(pause.until, snapshot.at, zone)}"
        is_in_headline = not pause.list and pause.reason in snapshot.reason
        reason = f": {shown(pause.reason)}" if pause.reason and not is_in_headline else ""
        yield Row("", f"{what}, by {shown(pause.by)} {until}{reason}")
    if (others := len(snapshot.pauses) - _PAUSES_NAMED) > 0:
        yield Row("", f"and {count(others, 'other list')}")


def _how_fast(snapshot: Snapshot) -> Iterator[Row]:
    now = snapshot.rate
    if now.messages_per_s is None or now.recipients_per_s is None:
        text = "still measuring" if snapshot.without_service is None else "none was recorded"
    else:
        text = f"{rate(now.messages_per_s)} messages, {rate(now.recipients_per_s)} recipients"
        text = text if is_sending(snapshot) else f"when it last sent: {text}"
    if now.arrivals_recipients_per_s:
        text += f"; arriving: {rate(now.arrivals_recipients_per_s)} recipients"
    yield Row("Rate", text)
    limits = f"{limit(now.limit_messages_per_s)} messages, {limit(now.limit_recipients_per_s)} recipients"
    since = f", for {duration(snapshot.at - now.binding_since)}" if now.binding_since is not None else ""
    held = f"held down by: {shown(now.binding)}{since} ({limits})" if now.binding else f"limit: {limits}"
    yield Row("", held, USEFUL)
    for line in schedule_lines(now.window, now.caps, now.binding):
        yield Row("", shown(line), USEFUL)


def _domains(snapshot: Snapshot, zone: tzinfo | None) -> Iterator[Row]:
    """Those that a ceiling holds now."""
    limited = [one for one in snapshot.domains if one.limit_recipients_per_s is not None and one.domain != NOT_SERVED]
    bound = [one for one in limited if one.set_by != "settings" or one.waiting_recipients]
    for one in bound[:_DOMAINS_NAMED]:
        since = f", since {clock_time(one.since, snapshot.at, zone)}" if one.since is not None else ""
        waiting = f"{count(one.waiting_recipients, 'recipient')} waiting"
        waiting = ", ".join(filter(None, [waiting, behind_the_mta(one), traffic_behind_the_mta(one)]))
        why = domain_cause(one, snapshot.at, zone)
        yield Row("", f"{shown(one.domain)} {domain_pace(one)}{since}: {waiting}; {why}", USEFUL)
    if (others := len(bound) - _DOMAINS_NAMED) > 0:
        yield Row("", f"and {count(others, 'other domain')}: `drainer domain` lists them", USEFUL)
    for one in [one for one in snapshot.domains if one.not_in_force][:_DOMAINS_NAMED]:
        yield Row("", f"{shown(one.domain)}: {domain_not_in_force(one)}", USEFUL)


def _guards(guards: list[Guard]) -> Iterator[Row]:
    """Guards that stop first, then those that slow, then those that say go."""
    for guard in sorted(guards, key=lambda guard: guard.verdict != "stop"):
        if guard.verdict != "go":
            word = guard.verdict.upper()
            text = f"{word} {_name_and_figures(guard)}: {shown(guard.reason) or 'no reason given'}"
            yield Row("", text, marked=(word, RED if guard.verdict == "stop" else YELLOW))
    calm = [guard for guard in guards if guard.verdict == "go"]
    for guard in calm:
        if guard.reason and guard.value is not None and guard.limit is not None:
            yield Row("", f"go, but {_name_and_figures(guard)}: {shown(guard.reason)}", GOOD_TO_KNOW)
        elif guard.reason.startswith(("not measured", "not visible")):
            yield Row("", f"{shown(guard.name)}: {shown(guard.reason)}", GOOD_TO_KNOW)
    if calm:
        yield Row("", f"go: {', '.join(map(_name_and_figures, calm))}", CALM)


def _name_and_figures(guard: Guard) -> str:
    """ "ledger_bytes 12 GiB (limit 64 MiB)"; figures as far as there are any."""
    text = shown(guard.name)
    if guard.value is None or guard.limit is None:
        return text
    return f"{text} {_figure(guard.name, guard.value)} (limit {_figure(guard.name, guard.limit)})"


def _figure(name: str, value: float) -> str:
    return size(int(value)) if name.endswith("_bytes") else f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _waiting(snapshot: Snapshot, zone: tzinfo | None) -> Iterator[Row]:
    backlog = snapshot.backlog
    deferred = count(backlog.deferred_recipients, "recipient") if backlog.deferred_recipients else "none"
    if backlog.deferred_recipients and backlog.next_due_s is not None:
        wait_s = backlog.next_due_s - snapshot.at
        soon = (
            f"at {clock_time(backlog.next_due_s, snapshot.at, zone)}, in {duration(wait_s)}" if wait_s >= 1 else "now"
        )
        deferred += f", the next due {soon}"
    if backlog.in_doubt_recipients:
        yield Row(
            "In doubt", f"{count(backlog.in_doubt_recipients, 'recipient')}: the reply after the content was lost"
        )
    yield Row("Deferred", deferred, USEFUL if backlog.deferred_recipients else CALM)
    done = snapshot.done
    others = [
        f"{name}: {number:,}"
        for name, number in (("unreadable", done.unreadable_entries), ("dropped", done.dropped_entries))
        if number
    ]
    held = count(backlog.held_entries, "entry", "entries") if backlog.held_entries else "none"
    rank = USEFUL if others or backlog.held_entries else CALM
    yield Row("Set aside", "; ".join([f"held: {held}", *others]), rank)


def _done(snapshot: Snapshot, zone: tzinfo | None) -> Iterator[Row]:
    done, backlog = snapshot.done, snapshot.backlog
    suppressed = f"{count(done.suppressed_entries, 'entry', 'entries')}, {done.suppressed_recipients:,} recipients"
    yield Row("Duplicates", f"suppressed: {suppressed}" if done.suppressed_recipients else "none suppressed", USEFUL)
    delivered = f"{count(done.delivered_entries, 'entry', 'entries')}, {count(done.delivered_recipients, 'recipient')}"
    since = f" since {clock_time(done.since, snapshot.at, zone)}" if done.since else ""
    yield Row("Delivered", f"{delivered}{since}", USEFUL)
    if snapshot.forecasts.judged:
        yield Row("Forecasts", forecasts_text(snapshot.forecasts), USEFUL)
    if done.bounced_recipients or backlog.dsns_owed:
        dsns = [
            f"{number:,} {word}"
            for number, word in (
                (backlog.dsns_owed, "to send"),
                (done.dsns_sent, "sent"),
                (done.dsns_dropped, "dropped"),
            )
            if number
        ]
        yield Row(
            "Bounced", f"{count(done.bounced_recipients, 'recipient')}; DSNs: {', '.join(dsns) or 'none'}", USEFUL
        )


def _surroundings(snapshot: Snapshot) -> Iterator[Row]:
    mailman = snapshot.mailman
    for one in mailman.skipped:
        yield Row("Skipped", skipped_files(one.directory, one.files, one.name, one.reason), USEFUL)
    for failed in snapshot.side_failures:
        yield _failed(failed, snapshot.at)
    if snapshot.without_service is None:
        yield _mta(snapshot)
    yield from _under_one_label("Mailman", _mailman(mailman))
    yield from _under_one_label("Queues", _queues(mailman))


def _under_one_label(label: str, rows: Iterable[Row]) -> Iterator[Row]:
    for row in rows:
        yield replace(row, label=label)
        label = ""


def _failed(failed: SideFailure, now_s: float) -> Row:
    ago = duration(max(0.0, now_s - failed.at))
    text = (
        f"{failed.task}, {count(failed.failures, 'time')}, last {ago} ago: {shown(failed.detail)}; delivery goes on, "
        "the log says where (event=side_task_failed)"
    )
    return Row("Failed", text, USEFUL)


def _mta(snapshot: Snapshot) -> Row:
    mta = snapshot.mta
    text = f"{shown(mta.host)}:{mta.port} {mta.state}, {count(mta.sessions, 'session')} open"
    if mta.reason and mta.reason not in snapshot.reason:
        text += f": {shown(mta.reason)}"
    if mta.next_try_s is not None:
        text += f"; next try in {duration(max(0.0, mta.next_try_s - snapshot.at))}"
    if mta.state == "up" and mta.sessions_why and mta.sessions_why != mta.reason:
        text += f"; at most {mta.sessions_allowed}: {shown(mta.sessions_why)}"
    if mta.recipient_limit:
        text += f"; it takes {count(mta.recipient_limit, 'recipient')} in one transaction"
    if mta.session_limit:
        text += f"; it takes {count(mta.session_limit, 'mail')} in one session"
    return Row("MTA", text, NEEDED if mta.state == "down" else GOOD_TO_KNOW)


def _mailman(mailman: Mailman) -> Iterator[Row]:
    if mailman.missing_runners:
        yield Row("", f"runners missing: {missing_runners(mailman)}", marked=("runners missing", YELLOW))
    if mailman.outgoing_runner_competes:
        yield Row("", shown(mailman.competition), USEFUL)
    if mailman.released_entries or mailman.retrying_recipients:
        released = count(mailman.released_entries, "entry", "entries")
        retries = count(mailman.retrying_recipients, "recipient")
        yield Row("", f"released to it: {released}; it retries: {retries}", USEFUL)
    if mailman.queue_dir or mailman.flavour:
        flavour = {"mailman2": "2.1", "mailman3": "3"}.get(mailman.flavour, mailman.flavour)
        where = f"version {flavour or 'not known yet'}, {shown(mailman.queue_dir)}"
        if mailman.runners:
            running = f"runners: {', '.join(shown(runner.name) for runner in mailman.runners)}"
        else:
            running = "no runner is running" if mailman.master_running else "not running"
        yield Row("", f"{where}; {running}", GOOD_TO_KNOW)


def _queues(mailman: Mailman) -> Iterator[Row]:
    full = [
        f"{shown(queue.name)} {count(queue.entries)}"
        + (f" (oldest {duration(queue.oldest_age_s)})" if queue.oldest_age_s is not None else "")
        for queue in mailman.queues
        if queue.entries
    ]
    empty = [shown(queue.name) for queue in mailman.queues if not queue.entries]
    if full:
        yield Row("", ", ".join(full), GOOD_TO_KNOW)
    if empty:
        yield Row("", f"empty: {', '.join(empty)}", CALM)
