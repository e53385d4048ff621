"""When somebody should be told, and what: changes of state worth a message, and no more of them than is bearable.

In    snapshots, one after the other
Out   Standing of what was told; a Notice when something is to be told now
Pure  snapshots bring their time along

What lasts shorter than `after_s` is never told; the same event at most once in `quiet_s`, but the last change is not lost:
it is told late if it still holds. The end of trouble is told only where the trouble was.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, get_args

from drainer.report.snapshot import Snapshot
from drainer.text.wording import backlog_left, count

Event = Literal["drained", "stopped_by_guard", "mta_down", "stalled", "held", "beside_runner", "recovered"]
EVENTS: tuple[Event, ...] = get_args(Event)

_TROUBLE: frozenset[str] = frozenset({"stopped_by_guard", "mta_down", "stalled"})
_Condition = Literal["drained", "stopped_by_guard", "mta_down", "stalled", "working"]


@dataclass(frozen=True, slots=True)
class Notice:
    """at: seconds since the epoch. text: one line, for people."""

    event: Event
    text: str
    at: float


@dataclass(frozen=True, slots=True)
class Told:
    """What is known of earlier snapshots.

    condition, since_s  how it stands, and since when
    told                the last condition somebody was told of, or that was there at the start
    last_s              when each event was last told
    most_entries        of the backlog, since it was last told as drained
    finished_entries    by the snapshot before: what was finished since then was backlog, though no snapshot shows it
    held_entries        when last told of
    beside_since_s      since when Mailman's outgoing runner delivers beside us unasked; None: it does not
    beside_told         somebody was told of that
    """

    condition: _Condition | None = None
    since_s: float = 0.0
    told: _Condition | None = None
    last_s: Mapping[str, float] = field(default_factory=dict)
    most_entries: int = 0
    finished_entries: int | None = None
    held_entries: int = 0
    beside_since_s: float | None = None
    beside_told: bool = False


def condition_of(snapshot: Snapshot) -> _Condition | None:
    """None: nothing to go by (starting, stopping, scanning), or the operator's own doing (paused)."""
    match snapshot.state:
        case "stopped_by_guard" | "mta_down":
            return snapshot.state
        case "idle":
            return "drained"
        case "draining":
            return "stalled" if snapshot.eta.state == "stalled" else "working"
        case _:
            return None


def after_snapshot(
    told: Told, snapshot: Snapshot, *, after_s: float, quiet_s: float, drained_from: int
) -> tuple[Told, tuple[Notice, ...]]:
    """What is known afterwards, and what is to be told now.

    after_s       how long a condition has to last before it is told, seconds
    quiet_s       how long nobody is told of the same event again, seconds
    drained_from  a backlog that never had so many entries is not told of when it is drained; at least 1
    """
    told, beside = _after_runner(told, snapshot, after_s, quiet_s)
    told, notices = _after_state(told, snapshot, after_s, quiet_s, drained_from)
    return told, (*beside, *notices)


def _after_runner(told: Told, snapshot: Snapshot, after_s: float, quiet_s: float) -> tuple[Told, tuple[Notice, ...]]:
    """In whatever state: Mailman's runner delivers while we are paused, too."""
    if not snapshot.mailman.intruder:
        return replace(told, beside_since_s=None, beside_told=False), ()
    if told.beside_since_s is None:
        told = replace(told, beside_since_s=snapshot.at)
    has_lasted = snapshot.at - (told.beside_since_s or 0.0) >= after_s
    if told.beside_told or not has_lasted or not _is_due(told, "beside_runner", snapshot.at, quiet_s):
        return told, ()
    told = replace(told, beside_told=True, last_s={**told.last_s, "beside_runner": snapshot.at})
    return told, (Notice("beside_runner", _text("beside_runner", snapshot), snapshot.at),)


def _after_state(
    told: Told, snapshot: Snapshot, after_s: float, quiet_s: float, drained_from: int
) -> tuple[Told, tuple[Notice, ...]]:
    condition = condition_of(snapshot)
    done = snapshot.done
    finished = done.delivered_entries + done.suppressed_entries + done.dropped_entries
    entries = snapshot.backlog.entries + (0 if told.finished_entries is None else finished - told.finished_entries)
    told = replace(told, most_entries=max(told.most_entries, entries), finished_entries=finished)
    if condition is None:
        return told, ()
    if told.condition != condition:
        told = replace(told, condition=condition, since_s=snapshot.at)
    if told.told is None and condition not in _TROUBLE:
        told = replace(told, told=condition)
    notices = []
    event = _event(told, condition, drained_from)
    has_lasted = snapshot.at - told.since_s >= after_s
    if event is not None and has_lasted and _is_due(told, event, snapshot.at, quiet_s):
        notices.append(Notice(event, _text(event, snapshot), snapshot.at))
        told = replace(told, last_s={**told.last_s, event: snapshot.at})
        event = None
    if event is None and has_lasted:
        told = replace(told, told=condition, most_entries=0 if condition == "drained" else told.most_entries)
    held = snapshot.backlog.held_entries
    if held < told.held_entries:
        told = replace(told, held_entries=held)
    elif held > told.held_entries and _is_due(told, "held", snapshot.at, quiet_s):
        notices.append(Notice("held", _text("held", snapshot), snapshot.at))
        told = replace(told, held_entries=held, last_s={**told.last_s, "held": snapshot.at})
    return told, tuple(notices)


def _event(told: Told, condition: _Condition, drained_from: int) -> Event | None:
    if condition == "drained":
        return "drained" if told.most_entries >= drained_from else None
    if condition == told.told:
        return None
    if condition == "working":
        return "recovered" if told.told in _TROUBLE else None
    return condition


def _is_due(told: Told, event: Event, now_s: float, quiet_s: float) -> bool:
    last_s = told.last_s.get(event)
    return last_s is None or not 0 <= now_s - last_s < quiet_s


def _text(event: Event, snapshot: Snapshot) -> str:
    backlog, done = snapshot.backlog, snapshot.done
    left = backlog_left(backlog.entries, backlog.recipients, backlog.unread_entries)
    held = f"{count(backlog.held_entries, 'entry', 'entries')} held for a person"
    match event:
        case "drained":
            return (
                f"drained: {count(done.delivered_recipients, 'recipient')} delivered, "
                f"{count(done.suppressed_entries, 'duplicate')} suppressed, {count(done.bounced_recipients)} bounced"
                + (f"; {held}" if backlog.held_entries else "")
            )
        case "stopped_by_guard":
            return f"stopped: {snapshot.reason}; {left}"
        case "mta_down":
            return f"MTA down: {snapshot.reason}; {left}; nothing is lost, delivery goes on by itself"
        case "stalled":
            return f"stalled: nothing is being delivered; {left}"
        case "held":
            return f"{held}: `drainer entries --state held` lists them"
        case "beside_runner":
            return f"Mailman's {snapshot.mailman.intruder}; {left}"
        case "recovered":
            return f"draining again; {left}"
