"""The text of `drainer status`, and the one line of it that systemd and logs show.

In    a Snapshot; the columns, and if need be the rows, of the terminal
Out   lines no wider than that, plain ASCII but for names that are not
Pure  no terminal, no clock: "now" is when the snapshot was taken

Written to be understood at three in the morning: what is going on and why first, then how much is left and when it
ends, then what needs a person, then the rest. Where rows are few the rest goes first: what is calm, then what is only
good to know; never what is wrong.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import tzinfo

from drainer.estimate.eta import Eta, ServiceState
from drainer.guards.verdict import Guard
from drainer.report.snapshot import Forecasts, ListBacklog, SilentState, Snapshot
from drainer.text.columns import columns, cut, padded, wrapped
from drainer.text.wording import (
    backlog_left,
    clock_time,
    count,
    duration,
    finish_time,
    limit,
    quantised_s,
    rate,
    recipients_of,
    rounded_to_s,
    short_time,
    shown,
    size,
    skipped_files,
)

NARROWEST = 40
_LABEL = 11
_LABELS_BESIDE_FROM = 60
"""Columns from which labels stand in a column of their own."""
_ALL_COLUMNS_FROM = 76
"""Columns from which the table of lists has all of its own."""
_PAUSES_NAMED = 3
_FEWEST_LISTS = 3
_RED, _YELLOW, _GREEN, _PLAIN = "\x1b[1;31m", "\x1b[1;33m", "\x1b[1;32m", "\x1b[0m"

_STATE: dict[ServiceState | SilentState, tuple[str, str]] = {
    "starting": ("STARTING", _YELLOW),
    "scanning": ("SCANNING", _GREEN),
    "draining": ("DRAINING", _GREEN),
    "paused": ("PAUSED", _YELLOW),
    "stopped_by_guard": ("STOPPED BY A GUARD", _RED),
    "mta_down": ("MTA DOWN", _RED),
    "idle": ("IDLE", _GREEN),
    "stopping": ("STOPPING", _YELLOW),
    "not_running": ("NOT RUNNING", _RED),
    "not_answering": ("NOT ANSWERING", _RED),
}

NO_FINISH = {
    "paused": "no finish time while paused",
    "stalled": "no finish time: nothing is being delivered",
    "growing": "no finish time: mail arrives as fast as it is delivered, or faster",
    "measuring": "no finish time yet: still measuring",
}

WITHOUT_FINISH: dict[SilentState, str] = {
    "not_running": "no finish time: drainer does not run",
    "not_answering": "no finish time: drainer does not answer",
}

_NEEDED, _USEFUL, _GOOD_TO_KNOW, _CALM = range(4)
"""How soon something is left out where rows are few: never, last, before that, first."""


@dataclass(frozen=True, slots=True)
class _Row:
    """One thing said. label "": it goes on under the one above; None: the headline. marked: the word that is coloured,
    and how."""

    label: str | None
    text: str
    rank: int = _NEEDED
    marked: tuple[str, str] | None = None


@dataclass(frozen=True, slots=True)
class _Block:
    """Lines that are shown or left out together."""

    rank: int
    lines: list[str]


def status_lines(
    snapshot: Snapshot,
    width: int = 80,
    *,
    height: int | None = None,
    lists: int = 10,
    colour: bool = False,
    zone: tzinfo | None = None,
) -> list[str]:
    """The whole text of `drainer status`.

    width   columns; below 40 counts as 40
    height  rows; None: as many as it takes
    lists   rows of the table of lists, the longest backlog first; 0: no table
    colour  ANSI colours on the state and on what is wrong
    zone    for clock times; None: the machine's own
    """
    width = max(NARROWEST, width)
    above = _blocks(_above_the_bar(snapshot, zone), width, colour)
    above += [_Block(_NEEDED, line) for line in [_progress_line(snapshot, width)] if line]
    above += _blocks(_below_the_bar(snapshot, zone), width, colour)
    hints_ = _blocks((_Row("" if at else "Next", hint) for at, hint in enumerate(hints(snapshot))), width, colour)
    while height is not None:
        others = sum(len(block.lines) for block in (*above, *hints_))
        fitting = height - others - len(_table(snapshot, width, lists, zone))
        if fitting >= 0:
            break
        if lists > _FEWEST_LISTS:
            lists = max(_FEWEST_LISTS, lists + fitting)
        elif (calmest := max((block.rank for block in above), default=_NEEDED)) > _USEFUL:
            last = max(at for at, block in enumerate(above) if block.rank == calmest)
            del above[last]
        elif lists:
            lists = 0
        elif any(block.rank for block in above):
            above = [block for block in above if not block.rank]
        else:
            break
    lines = [line for block in above for line in block.lines] + _table(snapshot, width, lists, zone)
    lines += [line for block in hints_ for line in block.lines]
    if height is not None and len(lines) > height:
        lines = [*lines[: max(0, height - 1)], cut("... more than fits: `drainer status`", width)][-max(1, height) :]
    return lines


def status_line(snapshot: Snapshot, zone: tzinfo | None = None) -> str:
    """Where it stands in one line, for systemd's STATUS= and for `--watch` into a file."""
    parts = [state_in_a_sentence(snapshot.state)]
    if snapshot.reason:
        parts[0] += f" ({shown(snapshot.reason)})"
    backlog = snapshot.backlog
    parts.append(backlog_left(backlog.entries, backlog.recipients, backlog.unread_entries))
    if snapshot.rate.recipients_per_s is not None and is_sending(snapshot):
        parts.append(f"{rate(snapshot.rate.recipients_per_s)} recipients")
    parts.append(eta_text(snapshot.eta, snapshot.at, zone))
    for number, text in (
        (backlog.held_entries, f"held: {count(backlog.held_entries, 'entry', 'entries')}"),
        (backlog.in_doubt_recipients, f"in doubt: {count(backlog.in_doubt_recipients, 'recipient')}"),
        (len(snapshot.mailman.missing_runners), f"Mailman's runners missing: {_missing(snapshot)}"),
    ):
        if number:
            parts.append(text)
    return "; ".join(parts)


def state_word(state: ServiceState | SilentState) -> str:
    """ "DRAINING", "STOPPED BY A GUARD", "MTA DOWN"."""
    return _STATE[state][0]


def state_in_a_sentence(state: ServiceState | SilentState) -> str:
    """ "draining", "stopped by a guard", "MTA down"."""
    return state_word(state).lower().replace("mta", "MTA")


def eta_text(eta: Eta, now_s: float, zone: tzinfo | None = None) -> str:
    """ "about 2 h 05 min, at 18:40 CET (80 %: 1 h 40 min to 2 h 45 min)", or why there is no number."""
    if eta.state == "done":
        return "nothing left to deliver"
    if eta.state != "draining" or eta.seconds is None:
        return NO_FINISH.get(eta.state, NO_FINISH["measuring"])
    text = f"about {duration(quantised_s(eta.seconds))}, at {finish_time(now_s + eta.seconds, now_s, zone)}"
    if eta.low_s is None or eta.high_s is None:
        return text
    low, high = duration(quantised_s(eta.low_s)), duration(quantised_s(eta.high_s))
    sure = f"{eta.confidence * 100:.0f} %: " if eta.confidence else ""
    between = f"{low} to {high}" if low != high else f"give or take {duration(rounded_to_s(eta.seconds))}"
    return f"{text} ({sure}{between})"


def finish_text(snapshot: Snapshot, zone: tzinfo | None = None) -> str:
    """The same of a snapshot: without a service there is a reason of its own."""
    if snapshot.without_service is not None and snapshot.eta.state != "done":
        return WITHOUT_FINISH[snapshot.without_service.state]
    return eta_text(snapshot.eta, snapshot.at, zone)


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


def _above_the_bar(snapshot: Snapshot, zone: tzinfo | None) -> Iterator[_Row]:
    word, ansi = _STATE[snapshot.state]
    since = f"since {clock_time(snapshot.since, snapshot.at, zone)} ({duration(snapshot.at - snapshot.since)})"
    reason = f": {shown(snapshot.reason)}" if snapshot.reason else ""
    yield _Row(None, f"{word} {since}{reason}", marked=(word, ansi))
    without = snapshot.without_service
    if without is not None:
        written = clock_time(without.as_of, snapshot.at, zone)
        yield _Row("As of", f"{written}, when the ledger was last written; entries as they lie on the disk now")
    yield from _pauses(snapshot, zone)
    backlog = snapshot.backlog
    recipients = recipients_of(backlog.recipients, backlog.unread_entries)
    left = f"{count(backlog.entries, 'entry', 'entries')}, {recipients}, {size(backlog.bytes)}"
    if backlog.oldest_age_s is not None:
        left += f"; oldest {duration(backlog.oldest_age_s)}"
    yield _Row("Backlog", left)
    if backlog.unread_entries:
        unread = count(backlog.unread_entries, "entry", "entries")
        yield _Row("", f"{unread} not read yet: their recipients and lists are not counted")
        if without is not None and without.recorded_at is not None:
            recorded = count(without.recorded_recipients or 0, "recipient")
            yield _Row(
                "", f"at {clock_time(without.recorded_at, snapshot.at, zone)} the service counted {recorded} in all"
            )
    if backlog.duplicate_entries or backlog.duplicate_recipients:
        repeats = count(backlog.duplicate_entries, "entry", "entries")
        text = f"of these expected to be duplicates: {repeats}, {count(backlog.duplicate_recipients, 'recipient')}"
        yield _Row("", text, _USEFUL)


def _below_the_bar(snapshot: Snapshot, zone: tzinfo | None) -> Iterator[_Row]:
    yield _Row("Finish", finish_text(snapshot, zone))
    if snapshot.if_resumed is not None:
        yield _Row("", f"if everything is resumed now: {eta_text(snapshot.if_resumed, snapshot.at, zone)}")
    yield from _how_fast(snapshot)
    yield from _guards(snapshot.guards)
    yield from _waiting(snapshot, zone)
    yield from _done(snapshot, zone)
    yield from _surroundings(snapshot)


def _pauses(snapshot: Snapshot, zone: tzinfo | None) -> Iterator[_Row]:
    label = "Paused"
    for pause in snapshot.pauses[:_PAUSES_NAMED]:
        what = f"list {shown(pause.list)}" if pause.list else "everything"
        until = "until resumed" if pause.until is None else f"until {clock_time(pause.until, snapshot.at, zone)}"
        is_said = not pause.list and pause.reason in snapshot.reason
        reason = f": {shown(pause.reason)}" if pause.reason and not is_said else ""
        yield _Row(label, f"{what}, by {shown(pause.by)} {until}{reason}")
        label = ""
    if (others := len(snapshot.pauses) - _PAUSES_NAMED) > 0:
        yield _Row("", f"and {count(others, 'other list')}")


def is_sending(snapshot: Snapshot) -> bool:
    """Whether the rates are of now; else they are of when it last sent."""
    return snapshot.state in ("scanning", "draining")


def _how_fast(snapshot: Snapshot) -> Iterator[_Row]:
    now = snapshot.rate
    if now.messages_per_s is None or now.recipients_per_s is None:
        text = "still measuring" if snapshot.without_service is None else "none was recorded"
    else:
        text = f"{rate(now.messages_per_s)} messages, {rate(now.recipients_per_s)} recipients"
        text = text if is_sending(snapshot) else f"when it last sent: {text}"
    if now.arrivals_recipients_per_s:
        text += f"; arriving: {rate(now.arrivals_recipients_per_s)} recipients"
    yield _Row("Rate", text)
    limits = f"{limit(now.limit_messages_per_s)} messages, {limit(now.limit_recipients_per_s)} recipients"
    held = f"held down by: {shown(now.binding)} ({limits})" if now.binding else f"limit: {limits}"
    yield _Row("", held, _USEFUL)


def _guards(guards: list[Guard]) -> Iterator[_Row]:
    label = "Guards"
    for guard in sorted(guards, key=lambda guard: guard.verdict != "stop"):
        if guard.verdict != "go":
            word = guard.verdict.upper()
            text = f"{word} {_of_guard(guard)}: {shown(guard.reason) or 'no reason given'}"
            yield _Row(label, text, marked=(word, _RED if guard.verdict == "stop" else _YELLOW))
            label = ""
    calm = [guard for guard in guards if guard.verdict == "go"]
    for guard in calm:
        if guard.reason and guard.value is not None and guard.limit is not None:
            yield _Row(label, f"go, but {_of_guard(guard)}: {shown(guard.reason)}", _GOOD_TO_KNOW)
            label = ""
    if calm:
        yield _Row(label, f"go: {', '.join(map(_of_guard, calm))}", _CALM)


def _of_guard(guard: Guard) -> str:
    """ "ledger_bytes 12 GiB (limit 64 MiB)"; figures as far as there are any."""
    text = shown(guard.name)
    if guard.value is None or guard.limit is None:
        return text
    return f"{text} {_figure(guard.name, guard.value)} (limit {_figure(guard.name, guard.limit)})"


def _figure(name: str, value: float) -> str:
    return size(int(value)) if name.endswith("_bytes") else f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _waiting(snapshot: Snapshot, zone: tzinfo | None) -> Iterator[_Row]:
    backlog = snapshot.backlog
    deferred = count(backlog.deferred_recipients, "recipient") if backlog.deferred_recipients else "none"
    if backlog.deferred_recipients and backlog.next_due_s is not None:
        wait_s = backlog.next_due_s - snapshot.at
        soon = (
            f"at {clock_time(backlog.next_due_s, snapshot.at, zone)}, in {duration(wait_s)}" if wait_s >= 1 else "now"
        )
        deferred += f", the next due {soon}"
    if backlog.in_doubt_recipients:
        yield _Row(
            "In doubt", f"{count(backlog.in_doubt_recipients, 'recipient')}: the reply after the content was lost"
        )
    yield _Row("Deferred", deferred, _USEFUL if backlog.deferred_recipients else _CALM)
    done = snapshot.done
    others = [
        f"{name}: {number:,}"
        for name, number in (("unreadable", done.unreadable_entries), ("dropped", done.dropped_entries))
        if number
    ]
    held = count(backlog.held_entries, "entry", "entries") if backlog.held_entries else "none"
    rank = _USEFUL if others or backlog.held_entries else _CALM
    yield _Row("Set aside", "; ".join([f"held: {held}", *others]), rank)


def forecasts_text(scored: Forecasts) -> str:
    """ "41 of 50 finish times came within their interval; median error 2 min"."""
    right = f"{count(scored.held)} of {count(scored.judged, 'finish time')} came within their interval"
    error = "" if scored.median_error_s is None else f"; median error {duration(scored.median_error_s)}"
    ways = ", ".join(f"{count(number)} by {what}" for what, number in scored.overtaken.items())
    return f"{right}{error}" + (f"; set aside, not judged: {ways}" if ways else "")


def _done(snapshot: Snapshot, zone: tzinfo | None) -> Iterator[_Row]:
    done, backlog = snapshot.done, snapshot.backlog
    suppressed = f"{count(done.suppressed_entries, 'entry', 'entries')}, {done.suppressed_recipients:,} recipients"
    yield _Row("Duplicates", f"suppressed: {suppressed}" if done.suppressed_recipients else "none suppressed", _USEFUL)
    delivered = f"{count(done.delivered_entries, 'entry', 'entries')}, {count(done.delivered_recipients, 'recipient')}"
    since = f" since {clock_time(done.since, snapshot.at, zone)}" if done.since else ""
    yield _Row("Delivered", f"{delivered}{since}", _USEFUL)
    if snapshot.forecasts.judged:
        yield _Row("Forecasts", forecasts_text(snapshot.forecasts), _USEFUL)
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
        yield _Row(
            "Bounced", f"{count(done.bounced_recipients, 'recipient')}; DSNs: {', '.join(dsns) or 'none'}", _USEFUL
        )


def _surroundings(snapshot: Snapshot) -> Iterator[_Row]:
    mta, mailman = snapshot.mta, snapshot.mailman
    for one in mailman.skipped:
        yield _Row("Skipped", skipped_files(one.directory, one.files, one.name, one.reason), _USEFUL)
    for failed in snapshot.side_failures:
        ago = duration(max(0.0, snapshot.at - failed.at))
        yield _Row(
            "Failed",
            f"{failed.task}, {count(failed.failures, 'time')}, last {ago} ago: {shown(failed.detail)}; delivery goes on, "
            "the log says where (event=side_task_failed)",
            _USEFUL,
        )
    text = f"{shown(mta.host)}:{mta.port} {mta.state}, {count(mta.sessions, 'session')} open"
    if mta.reason and mta.reason not in snapshot.reason:
        text += f": {shown(mta.reason)}"
    if mta.next_try_s is not None:
        text += f"; next try in {duration(max(0.0, mta.next_try_s - snapshot.at))}"
    if mta.recipient_limit:
        text += f"; it takes {count(mta.recipient_limit, 'recipient')} in one transaction"
    if snapshot.without_service is None:
        yield _Row("MTA", text, _NEEDED if mta.state == "down" else _GOOD_TO_KNOW)
    label = "Mailman"
    if mailman.missing_runners:
        yield _Row(label, f"runners missing: {_missing(snapshot)}", marked=("runners missing", _YELLOW))
        label = ""
    if mailman.outgoing_runner_competes:
        yield _Row(label, shown(mailman.competition), _USEFUL)
        label = ""
    if mailman.released_entries or mailman.retrying_recipients:
        released = count(mailman.released_entries, "entry", "entries")
        retries = count(mailman.retrying_recipients, "recipient")
        yield _Row(label, f"released to it: {released}; it retries: {retries}", _USEFUL)
        label = ""
    if mailman.queue_dir or mailman.flavour:
        flavour = {"mailman2": "2.1", "mailman3": "3"}.get(mailman.flavour, mailman.flavour)
        where = f"version {flavour or 'not known yet'}, {shown(mailman.queue_dir)}"
        if not mailman.runners:
            text = "not running" if not mailman.master_running else "no runner is running"
        else:
            text = f"runners: {', '.join(shown(runner.name) for runner in mailman.runners)}"
        yield _Row(label, f"{where}; {text}", _GOOD_TO_KNOW)
    full = [queue for queue in mailman.queues if queue.entries]
    empty = [shown(queue.name) for queue in mailman.queues if not queue.entries]
    said = [
        f"{shown(queue.name)} {count(queue.entries)}"
        + (f" (oldest {duration(queue.oldest_age_s)})" if queue.oldest_age_s is not None else "")
        for queue in full
    ]
    label = "Queues"
    if said:
        yield _Row(label, ", ".join(said), _GOOD_TO_KNOW)
        label = ""
    if empty:
        yield _Row(label, f"empty: {', '.join(empty)}", _CALM)


def _missing(snapshot: Snapshot) -> str:
    return ", ".join(map(shown, snapshot.mailman.missing_runners))


def hints(snapshot: Snapshot) -> Iterator[str]:
    """What the operator may want to do next, commands in backquotes."""
    if snapshot.without_service is not None:
        yield from _ways_on(snapshot)
        return
    limits = (snapshot.rate.limit_messages_per_s, snapshot.rate.limit_recipients_per_s)
    if 0 in limits:
        yield "a limit of 0 sends nothing; `drainer rate --messages 20/s` (or --recipients) starts it again"
    lists = [pause.list for pause in snapshot.pauses if pause.list]
    given_back = snapshot.state == "paused" and not snapshot.backlog.entries
    if given_back or len(lists) < len(snapshot.pauses):
        yield "`drainer resume` goes on"
    for name in lists[:_PAUSES_NAMED]:
        yield f"`drainer resume --list {shown(name)}` lets that list go on"
    if snapshot.state == "mta_down":
        yield "see why the MTA does not answer; no entry is lost or blamed, delivery goes on by itself when it is back"
    if snapshot.eta.state == "growing":
        yield "`drainer rate` shows the limits; raise them if the MTA can bear it"
    if snapshot.needs_restart:
        yield f"restart drainer to put changed settings in force: {', '.join(map(shown, snapshot.needs_restart))}"
    if snapshot.backlog.held_entries:
        yield "`drainer entries --state held` lists what waits for a decision; then `drainer release` or `drainer drop`"


def _ways_on(snapshot: Snapshot) -> Iterator[str]:
    """How the service answers again."""
    if snapshot.state == "not_answering":
        yield "its log says more: `journalctl -u drainer`; `systemctl restart drainer` loses nothing"
    elif snapshot.backlog.entries or snapshot.backlog.dsns_owed:
        yield "`systemctl start drainer` goes on, or `drainer run`"
    if snapshot.backlog.held_entries:
        yield "`drainer entries --state held` lists what waits for a decision; to decide, start drainer"


def _blocks(rows: Iterable[_Row], width: int, colour: bool) -> list[_Block]:
    return [_Block(row.rank, _laid_out(row, width, colour)) for row in rows]


def _laid_out(row: _Row, width: int, colour: bool) -> list[str]:
    if row.label is None:
        first, rest = "", "  "
    elif width >= _LABELS_BESIDE_FROM:
        first, rest = f"{row.label:<{_LABEL}}", " " * (_LABEL + 2)
    else:
        first, rest = (f"{row.label}: " if row.label else "  "), "  "
    lines = wrapped(row.text, width, first, rest)
    if colour and row.marked is not None:
        word, ansi = row.marked
        lines[0] = lines[0].replace(word, f"{ansi}{word}{_PLAIN}", 1)
    return lines


def _progress_line(snapshot: Snapshot, width: int) -> list[str]:
    share = progress(snapshot)
    if share is None:
        return []
    margin = _LABEL if width >= _LABELS_BESIDE_FROM else 0
    room = min(100, width - margin - 8)
    # Rounded down: 100 % is shown only when nothing is left.
    filled = int(share * room)
    return [f"{'':<{margin}}[{'#' * filled}{'-' * (room - filled)}] {int(share * 100):>3} %"]


def _table(snapshot: Snapshot, width: int, rows: int, zone: tzinfo | None) -> list[str]:
    """The lists, those with the most recipients first; a line of blanks above and below."""
    if not snapshot.lists or rows <= 0:
        return []
    longest = sorted(snapshot.lists, key=lambda one: (-one.recipients, -one.entries, one.list))
    shown_rows = [_cells(one, snapshot.at, zone) for one in longest[:rows]]
    if rest := longest[rows:]:
        entries, recipients = sum(one.entries for one in rest), sum(one.recipients for one in rest)
        shown_rows.append((f"and {count(len(rest), 'other list')}", count(entries), count(recipients), "", ""))
    titles = ("List", "entries", "recipients", "oldest", "done by")
    kept = (
        [0, 1, 2, 3, 4] if width >= _ALL_COLUMNS_FROM else [0, 1, 2, 4] if width >= _LABELS_BESIDE_FROM else [0, 2, 4]
    )
    widths = [max(columns(row[at]) for row in (titles, *shown_rows)) for at in range(len(titles))]
    name_width = min(width - sum(widths[at] + 2 for at in kept[1:]), widths[0])
    lines = [
        padded(row[0], name_width) + "".join(f"  {row[at]:>{widths[at]}}" for at in kept[1:])
        for row in (titles, *shown_rows)
    ]
    return ["", *(line.rstrip() for line in lines), ""]


def _cells(one: ListBacklog, now_s: float, zone: tzinfo | None) -> tuple[str, str, str, str, str]:
    through = "paused" if one.paused else "" if one.finish is None else short_time(one.finish, now_s, zone)
    oldest = "" if one.oldest_age_s is None else duration(one.oldest_age_s)
    return shown(one.list), count(one.entries), count(one.recipients), oldest, through
