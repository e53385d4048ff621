"""Notices to the operator: which changes of state deserve one, when, and in which words.

In    snapshots, one after the other
Out   NoticeState, to be passed in with the next snapshot; the notices to send now
Pure  snapshots bring their time

A condition that lasts less than `after_s` gives no notice. The same kind of notice is sent at most once in `quiet_s`; if the
condition still holds then, the notice is sent late. The end of trouble is a notice only if the trouble was one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, get_args

from drainer.report.snapshot import Snapshot
from drainer.text.wording import backlog_left, count

NoticeKind = Literal["drained", "stopped_by_guard", "mta_down", "stalled", "held", "beside_runner", "recovered"]
KINDS: tuple[NoticeKind, ...] = get_args(NoticeKind)

_TROUBLE: frozenset[str] = frozenset({"stopped_by_guard", "mta_down", "stalled"})
_Condition = Literal["drained", "stopped_by_guard", "mta_down", "stalled", "working"]


@dataclass(frozen=True, slots=True)
class Notice:
    """at: seconds since the epoch. text: one line, for people."""

    event: NoticeKind
    text: str
    at: float


@dataclass(frozen=True, slots=True)
class NoticeState:
    """What has to be remembered from one snapshot to the next.

    condition, since_s  the present condition, and when it began
    noticed             the condition of the last notice, or that of the start
    last_s              when each kind of notice was last sent
    most_entries        largest backlog since the last notice "drained"
    finished_entries    at the snapshot before; entries finished since then were backlog too, though no snapshot shows them
    held_entries        at the last notice "held"
    beside_since_s      since when Mailman's outgoing runner delivers beside us and no setting allows it; None: none does
    beside_noticed      a notice of that was sent
    """

    condition: _Condition | None = None
    since_s: float = 0.0
    noticed: _Condition | None = None
    last_s: Mapping[str, float] = field(default_factory=dict)
    most_entries: int = 0
    finished_entries: int | None = None
    held_entries: int = 0
    beside_since_s: float | None = None
    beside_noticed: bool = False


def condition_of(snapshot: Snapshot) -> _Condition | None:
    """The condition for notices. None: not known (starting, stopping, scanning), or the operator's own doing (paused)."""
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
    state: NoticeState, snapshot: Snapshot, *, after_s: float, quiet_s: float, drained_from: int
) -> tuple[NoticeState, tuple[Notice, ...]]:
    """The new state, and the notices to send now.

    after_s       seconds that a condition has to last before its notice
    quiet_s       seconds between two notices of one kind
    drained_from  entries, at least 1: a smaller backlog gives no notice when it is drained
    """
    state, beside = _after_runner(state, snapshot, after_s, quiet_s)
    state, of_condition = _after_condition(state, snapshot, after_s, quiet_s, drained_from)
    held: tuple[Notice, ...] = ()
    if condition_of(snapshot) is not None:
        state, held = _after_held(state, snapshot, quiet_s)
    return state, (*beside, *of_condition, *held)


def _after_runner(
    state: NoticeState, snapshot: Snapshot, after_s: float, quiet_s: float
) -> tuple[NoticeState, tuple[Notice, ...]]:
    """Applies in every state: Mailman's runner delivers while we are paused, too."""
    if not snapshot.mailman.intruder:
        return replace(state, beside_since_s=None, beside_noticed=False), ()
    if state.beside_since_s is None:
        state = replace(state, beside_since_s=snapshot.at)
    has_lasted = snapshot.at - (state.beside_since_s or 0.0) >= after_s
    if state.beside_noticed or not has_lasted or not _is_due(state, "beside_runner", snapshot.at, quiet_s):
        return state, ()
    state = replace(state, beside_noticed=True, last_s={**state.last_s, "beside_runner": snapshot.at})
    return state, (Notice("beside_runner", _text("beside_runner", snapshot), snapshot.at),)


def _after_condition(
    state: NoticeState, snapshot: Snapshot, after_s: float, quiet_s: float, drained_from: int
) -> tuple[NoticeState, tuple[Notice, ...]]:
    condition = condition_of(snapshot)
    done = snapshot.done
    finished = done.delivered_entries + done.suppressed_entries + done.dropped_entries
    entries = snapshot.backlog.entries + (0 if state.finished_entries is None else finished - state.finished_entries)
    state = replace(state, most_entries=max(state.most_entries, entries), finished_entries=finished)
    if condition is None:
        return state, ()
    if state.condition != condition:
        state = replace(state, condition=condition, since_s=snapshot.at)
    if state.noticed is None and condition not in _TROUBLE:
        state = replace(state, noticed=condition)
    notices: tuple[Notice, ...] = ()
    kind = _kind(state, condition, drained_from)
    has_lasted = snapshot.at - state.since_s >= after_s
    if kind is not None and has_lasted and _is_due(state, kind, snapshot.at, quiet_s):
        notices = (Notice(kind, _text(kind, snapshot), snapshot.at),)
        state = replace(state, last_s={**state.last_s, kind: snapshot.at})
        kind = None
    if kind is None and has_lasted:
        state = replace(state, noticed=condition, most_entries=0 if condition == "drained" else state.most_entries)
    return state, notices


def _after_held(state: NoticeState, snapshot: Snapshot, quiet_s: float) -> tuple[NoticeState, tuple[Notice, ...]]:
    """A notice when more entries are held than at the last one."""
    held = snapshot.backlog.held_entries
    if held < state.held_entries:
        return replace(state, held_entries=held), ()
    if held == state.held_entries or not _is_due(state, "held", snapshot.at, quiet_s):
        return state, ()
    state = replace(state, held_entries=held, last_s={**state.last_s, "held": snapshot.at})
    return state, (Notice("held", _text("held", snapshot), snapshot.at),)


def _kind(state: NoticeState, condition: _Condition, drained_from: int) -> NoticeKind | None:
    if condition == "drained":
        return "drained" if state.most_entries >= drained_from else None
    if condition == state.noticed:
        return None
    if condition == "working":
        return "recovered" if state.noticed in _TROUBLE else None
    return condition


def _is_due(state: NoticeState, kind: NoticeKind, now_s: float, quiet_s: float) -> bool:
    last_s = state.last_s.get(kind)
    return last_s is None or not 0 <= now_s - last_s < quiet_s


def _text(kind: NoticeKind, snapshot: Snapshot) -> str:
    backlog, done = snapshot.backlog, snapshot.done
    left = backlog_left(backlog.entries, backlog.recipients, backlog.unread_entries)
    held = f"{count(backlog.held_entries, 'entry', 'entries')} held for a person"
    match kind:
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
