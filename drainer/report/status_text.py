"""The text of `drainer status`, and the one line of it that systemd and logs show.

In    a Snapshot, the width of the terminal
Out   lines no wider than that (as far as words allow); plain ASCII but for names that are not
Pure  no terminal, no clock: "now" is when the snapshot was taken

Written to be understood at three in the morning: what is going on and why first, then how much is left and when it
ends, then what needs a person, then the rest.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from datetime import tzinfo

from drainer.report.snapshot import Eta, Guard, Rate, ServiceState, Snapshot
from drainer.report.wording import clock_time, count, duration, limit, quantised_s, rate, shortened, shown, size

_LABEL = 11
_NARROWEST = 60
_RED, _YELLOW, _GREEN, _PLAIN = "\x1b[1;31m", "\x1b[1;33m", "\x1b[1;32m", "\x1b[0m"

_STATE: dict[ServiceState, tuple[str, str]] = {
    "starting": ("STARTING", _YELLOW),
    "scanning": ("SCANNING", _GREEN),
    "draining": ("DRAINING", _GREEN),
    "paused": ("PAUSED", _YELLOW),
    "stopped_by_guard": ("STOPPED BY A GUARD", _RED),
    "mta_down": ("MTA DOWN", _RED),
    "idle": ("IDLE", _GREEN),
    "stopping": ("STOPPING", _YELLOW),
}

NO_FINISH = {
    "paused": "no finish time while paused",
    "stalled": "no finish time: nothing is being delivered",
    "growing": "no finish time: mail arrives as fast as it is delivered, or faster",
    "measuring": "no finish time yet: still measuring",
}


def status_lines(
    snapshot: Snapshot, width: int = 80, *, lists: int = 10, colour: bool = False, zone: tzinfo | None = None
) -> list[str]:
    """The whole text of `drainer status`.

    width   columns; below 60 counts as 60
    lists   rows of the table of lists, the longest backlog first; 0: no table
    colour  ANSI colours on the state and on guards that do not say go
    zone    for clock times; None: the machine's own
    """
    width = max(_NARROWEST, width)
    lines = _headline(snapshot, width, colour, zone)
    for label, text in _pauses(snapshot, zone):
        lines += _labelled(label, text, width)
    for label, text in _how_much(snapshot, zone):
        lines += _labelled(label, text, width)
    lines += _progress_line(snapshot, width)
    for label, text in _how_fast(snapshot, zone):
        lines += _labelled(label, text, width)
    lines += _guard_lines(snapshot.guards, width, colour)
    for label, text in _surroundings(snapshot):
        lines += _labelled(label, text, width)
    lines += _list_table(snapshot, width, lists)
    for hint in hints(snapshot):
        lines += _labelled("Next", hint, width)
    return lines


def status_line(snapshot: Snapshot, zone: tzinfo | None = None) -> str:
    """Where it stands in one line, for systemd's STATUS= and for `--watch` into a file."""
    parts = [_STATE[snapshot.state][0].lower()]
    if snapshot.reason:
        parts[0] += f" ({shown(snapshot.reason)})"
    backlog = snapshot.backlog
    parts.append(f"{count(backlog.entries, 'entry', 'entries')}, {count(backlog.recipients, 'recipient')} left")
    if snapshot.rate.recipients_per_s is not None:
        parts.append(f"{rate(snapshot.rate.recipients_per_s)} recipients")
    parts.append(eta_text(snapshot.eta, snapshot.at, zone))
    return "; ".join(parts)


def state_word(state: ServiceState) -> str:
    """ "DRAINING", "STOPPED BY A GUARD", "MTA DOWN"."""
    return _STATE[state][0]


def eta_text(eta: Eta, now_s: float, zone: tzinfo | None = None) -> str:
    """ "about 2 h 05 min (1 h 40 min to 2 h 45 min in 80 % of cases), at 18:40 CET", or why there is no number."""
    if eta.state == "done":
        return "nothing left to deliver"
    if eta.state != "draining" or eta.seconds is None:
        return NO_FINISH.get(eta.state, NO_FINISH["measuring"])
    text = f"about {duration(quantised_s(eta.seconds))}"
    if eta.low_s is not None and eta.high_s is not None:
        low, high = duration(quantised_s(eta.low_s)), duration(quantised_s(eta.high_s))
        sure = f" in {eta.confidence:.0%} of cases".replace("%", " %") if eta.confidence else ""
        text += f" ({low} to {high}{sure})" if low != high else f" (give or take the rounding{sure})"
    return f"{text}, at {clock_time(now_s + quantised_s(eta.seconds), now_s, zone)}"


def progress(snapshot: Snapshot) -> float | None:
    """Share of the recipients known of that are settled, 0..1; None while that cannot be said.

    Entries not read yet count by the mean of those read.
    """
    done, backlog = snapshot.done, snapshot.backlog
    settled = done.delivered_recipients + done.bounced_recipients + done.suppressed_recipients
    left = float(backlog.recipients)
    read = backlog.entries - backlog.unread_entries
    if backlog.unread_entries:
        if read <= 0 or not backlog.recipients:
            return None
        left += backlog.unread_entries * backlog.recipients / read
    if settled + left == 0:
        return 1.0 if backlog.entries == 0 and snapshot.eta.state == "done" else None
    return settled / (settled + left)


def _headline(snapshot: Snapshot, width: int, colour: bool, zone: tzinfo | None) -> list[str]:
    word, ansi = _STATE[snapshot.state]
    since = f"since {clock_time(snapshot.since, snapshot.at, zone)} ({duration(snapshot.at - snapshot.since)})"
    reason = f": {shown(snapshot.reason)}" if snapshot.reason else ""
    lines = textwrap.wrap(f"{word} {since}{reason}", width, subsequent_indent="  ")
    if colour:
        lines[0] = lines[0].replace(word, f"{ansi}{word}{_PLAIN}", 1)
    return lines


def _pauses(snapshot: Snapshot, zone: tzinfo | None) -> Iterator[tuple[str, str]]:
    label = "Paused"
    for pause in snapshot.pauses:
        what = f"list {shown(pause.list)}" if pause.list else "everything"
        until = "until resumed" if pause.until is None else f"until {clock_time(pause.until, snapshot.at, zone)}"
        reason = f": {shown(pause.reason)}" if pause.reason else ""
        yield label, f"{what}, by {shown(pause.by)} {until}{reason}"
        label = ""


def _how_much(snapshot: Snapshot, zone: tzinfo | None) -> Iterator[tuple[str, str]]:
    backlog = snapshot.backlog
    left = (
        f"{count(backlog.entries, 'entry', 'entries')}, {count(backlog.recipients, 'recipient')}, {size(backlog.bytes)}"
    )
    if backlog.oldest_age_s is not None:
        left += f"; oldest {duration(backlog.oldest_age_s)}"
    yield "Backlog", left
    if backlog.unread_entries:
        yield "", f"{count(backlog.unread_entries, 'entry', 'entries')} not read yet: their recipients are not counted"
    if backlog.duplicate_entries or backlog.duplicate_recipients:
        repeats = count(backlog.duplicate_entries, "entry", "entries")
        yield "", f"of these expected to be duplicates: {repeats}, {count(backlog.duplicate_recipients, 'recipient')}"
    yield "Finish", eta_text(snapshot.eta, snapshot.at, zone)


def _how_fast(snapshot: Snapshot, zone: tzinfo | None) -> Iterator[tuple[str, str]]:
    backlog, done, now = snapshot.backlog, snapshot.done, snapshot.rate
    yield "Rate", _rate_text(now)
    yield (
        "",
        f"limit: {limit(now.limit_messages_per_s)} messages, {limit(now.limit_recipients_per_s)} recipients",
    )
    if now.binding:
        yield "", f"held down by: {shown(now.binding)}"
    delivered = f"{count(done.delivered_entries, 'entry', 'entries')}, {count(done.delivered_recipients, 'recipient')}"
    since = f" since {clock_time(done.since, snapshot.at, zone)}" if done.since else ""
    yield "Delivered", f"{delivered} in {count(done.transactions, 'transaction')}{since}"
    suppressed = count(done.suppressed_entries, "entry", "entries")
    yield "Duplicates", f"suppressed: {suppressed}, {count(done.suppressed_recipients, 'recipient')}"
    judged = snapshot.forecasts.judged
    if judged:
        right = f"{count(snapshot.forecasts.held)} of {count(judged)} finish times came within their interval"
        error = snapshot.forecasts.median_error_s
        yield "Forecasts", right + ("" if error is None else f"; median error {duration(error)}")
    yield (
        "Waiting",
        (
            f"deferred: {count(backlog.deferred_recipients, 'recipient')}; "
            f"in doubt: {count(backlog.in_doubt_recipients, 'recipient')}"
        ),
    )
    owed = f", {count(backlog.dsns_owed, 'DSN')} to send" if backlog.dsns_owed else ""
    yield (
        "Set aside",
        (
            f"held: {count(backlog.held_entries, 'entry', 'entries')}; unreadable: {count(done.unreadable_entries)}; "
            f"dropped: {count(done.dropped_entries)}; bounced: {count(done.bounced_recipients, 'recipient')}{owed}"
        ),
    )


def _rate_text(now: Rate) -> str:
    if now.messages_per_s is None or now.recipients_per_s is None:
        text = "still measuring"
    else:
        text = f"{rate(now.messages_per_s)} messages, {rate(now.recipients_per_s)} recipients"
    if now.arrivals_recipients_per_s:
        text += f"; arriving: {rate(now.arrivals_recipients_per_s)} recipients"
    return text


def _guard_lines(guards: list[Guard], width: int, colour: bool) -> list[str]:
    if not guards:
        return []
    calm = [shown(guard.name) for guard in guards if guard.verdict == "go"]
    lines: list[str] = []
    for guard in sorted(guards, key=lambda guard: guard.verdict != "stop"):
        if guard.verdict == "go":
            continue
        word = guard.verdict.upper()
        text = f"{word} {shown(guard.name)}: {shown(guard.reason) or 'no reason given'}"
        if guard.value is not None and guard.limit is not None:
            text += f" ({guard.value:,.6g}, limit {guard.limit:,.6g})"
        found = _labelled("Guards" if not lines else "", text, width)
        if colour:
            ansi = _RED if guard.verdict == "stop" else _YELLOW
            found[0] = found[0].replace(word, f"{ansi}{word}{_PLAIN}", 1)
        lines += found
    if calm:
        lines += _labelled("Guards" if not lines else "", f"go: {', '.join(calm)}", width)
    return lines


def _surroundings(snapshot: Snapshot) -> Iterator[tuple[str, str]]:
    mta, mailman = snapshot.mta, snapshot.mailman
    text = f"{shown(mta.host)}:{mta.port} {mta.state}, {count(mta.sessions, 'session')} open"
    if mta.reason:
        text += f": {shown(mta.reason)}"
    if mta.next_try_s is not None:
        text += f"; next try in {duration(max(0.0, mta.next_try_s - snapshot.at))}"
    yield "MTA", text
    if mailman.queue_dir or mailman.flavour:
        yield "Mailman", f"{mailman.flavour or 'flavour not known yet'} in {shown(mailman.queue_dir)}"
        runners = ", ".join(f"{shown(runner.name)} (pid {runner.pid})" for runner in mailman.runners)
        yield "", f"runners: {runners or 'none running'}"
    if mailman.outgoing_runner_competes:
        yield "", shown(mailman.competition)
    if mailman.released_entries or mailman.retrying_recipients:
        released = count(mailman.released_entries, "entry", "entries")
        yield "", f"released to it: {released}; it retries: {count(mailman.retrying_recipients, 'recipient')}"
    if mailman.queues:
        yield (
            "Queues",
            ", ".join(
                f"{shown(queue.name)} {count(queue.entries)}"
                + (f" (oldest {duration(queue.oldest_age_s)})" if queue.oldest_age_s is not None else "")
                for queue in mailman.queues
            ),
        )


def _list_table(snapshot: Snapshot, width: int, rows: int) -> list[str]:
    if not snapshot.lists or rows <= 0:
        return []
    longest = sorted(snapshot.lists, key=lambda one: (-one.recipients, -one.entries, one.list))
    name_width = max(12, width - 34)
    lines = ["", f"{'List':<{name_width}} {'entries':>9} {'recipients':>11} {'oldest':>11}"]
    for one in longest[:rows]:
        name = shortened(shown(one.list) + (" (paused)" if one.paused else ""), name_width)
        oldest = "" if one.oldest_age_s is None else duration(one.oldest_age_s)
        lines.append(f"{name:<{name_width}} {count(one.entries):>9} {count(one.recipients):>11} {oldest:>11}")
    rest = longest[rows:]
    if rest:
        name = f"and {count(len(rest), 'other list')}"
        entries, recipients = sum(one.entries for one in rest), sum(one.recipients for one in rest)
        lines.append(f"{name:<{name_width}} {count(entries):>9} {count(recipients):>11}")
    return [*lines, ""]


def hints(snapshot: Snapshot) -> Iterator[str]:
    """What the operator may want to do next, commands in backquotes."""
    limits = (snapshot.rate.limit_messages_per_s, snapshot.rate.limit_recipients_per_s)
    if 0 in limits:
        yield "a limit of 0 sends nothing; `drainer rate --messages 20/s` (or --recipients) starts it again"
    lists = [pause.list for pause in snapshot.pauses if pause.list]
    given_back = snapshot.state == "paused" and not snapshot.backlog.entries
    if given_back or len(lists) < len(snapshot.pauses):
        yield "`drainer resume` goes on"
    for name in lists:
        yield f"`drainer resume --list {shown(name)}` lets that list go on"
    if snapshot.state == "mta_down":
        yield "see why the MTA does not answer; no entry is lost or blamed, delivery goes on by itself when it is back"
    if snapshot.eta.state == "growing":
        yield "`drainer rate` shows the limits; raise them if the MTA can bear it"
    if snapshot.backlog.held_entries:
        yield "`drainer entries --state held` lists what waits for a decision; then `drainer release` or `drainer drop`"


def _progress_line(snapshot: Snapshot, width: int) -> list[str]:
    share = progress(snapshot)
    if share is None:
        return []
    room = min(60, width - _LABEL - 8)
    # Rounded down: 100 % is shown only when nothing is left.
    filled = int(share * room)
    return [f"{'':<{_LABEL}}[{'#' * filled}{'-' * (room - filled)}] {int(share * 100):>3} %"]


def _labelled(label: str, text: str, width: int) -> list[str]:
    return textwrap.wrap(
        text, width, initial_indent=f"{label:<{_LABEL}}", subsequent_indent=" " * (_LABEL + 2), break_on_hyphens=False
    )
