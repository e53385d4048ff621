"""The backlog over time, for the burn-down: fine for the last minutes, coarser the older it is, bounded in number.

In    a Snapshot now and then
Out   points and changes of state, oldest first, as JSON values too
Pure  snapshots bring their time along

A point is kept if it is further from the next newer one than a fiftieth of its age: on a chart whose left edge is the oldest
point no gap is wider than some hundredths of the chart, and two days take fewer than MOST_POINTS.
"""

from __future__ import annotations

import math

from pydantic import BaseModel, ConfigDict, Field

from drainer.estimate.eta import ServiceState
from drainer.report.snapshot import Snapshot
from drainer.text.clean_model import CleanModel

MOST_POINTS = 500
MOST_CHANGES = 100
REACHES_BACK_S = 48 * 3600.0
NEW_AFTER_EMPTY_S = 3600.0
"""Mail that comes after the backlog has been empty for so long begins a new burn-down."""


class Point(BaseModel):
    """at: seconds since the epoch. recipients: known to be left, with those of entries not read yet at the mean of the
    others; null while none is read. recipients_per_s: null while not measured. settled_recipients, transactions: since the
    ledger began, delivered and bounced. A limit of null is unlimited."""

    model_config = ConfigDict(frozen=True)

    at: float = Field(allow_inf_nan=False)
    entries: int = Field(ge=0)
    recipients: int | None = Field(ge=0)
    recipients_per_s: float | None = Field(None, ge=0, allow_inf_nan=False)
    settled_recipients: int | None = Field(None, ge=0)
    transactions: int | None = Field(None, ge=0)
    limit_messages_per_s: float | None = Field(None, ge=0, allow_inf_nan=False)
    limit_recipients_per_s: float | None = Field(None, ge=0, allow_inf_nan=False)


class Change(CleanModel):
    """From `at` on (seconds since the epoch) the service was in `state`; "not_running" between two runs."""

    at: float = Field(allow_inf_nan=False)
    state: ServiceState | str
    reason: str = ""


class BurnDown(BaseModel):
    """Points and changes, oldest first. began: of the burn-down, which may be longer ago than the first point kept."""

    model_config = ConfigDict(frozen=True)

    points: tuple[Point, ...] = Field((), max_length=MOST_POINTS)
    changes: tuple[Change, ...] = Field((), max_length=MOST_CHANGES)
    began: float | None = Field(None, allow_inf_nan=False)


def recipients_left(snapshot: Snapshot) -> int | None:
    """Recipients in the backlog, entries not read yet by the mean of those read; None while none is."""
    backlog = snapshot.backlog
    read = backlog.entries - backlog.unread_entries
    if backlog.unread_entries <= 0:
        return backlog.recipients
    if read <= 0 or not backlog.recipients:
        return None
    return round(backlog.recipients + backlog.unread_entries * backlog.recipients / read)


def observed(history: BurnDown, snapshot: Snapshot) -> BurnDown:
    """The history with this snapshot in it. One that is not later than the last point (a clock set back) begins anew.

    A service that has not yet looked into the queue says nothing of the backlog: that is no point.
    """
    points, changes, began_s = history.points, history.changes, history.began
    if snapshot.state in ("starting", "scanning") and not snapshot.backlog.entries:
        return history
    if points and snapshot.at <= points[-1].at:
        points, changes, began_s = (), (), None
    if snapshot.backlog.entries and _empty_for_s(points, snapshot.at) > NEW_AFTER_EMPTY_S:
        points, changes, began_s = points[-1:], changes[-1:], None
    if began_s is None:
        began_s = points[0].at if points else snapshot.at
    done = snapshot.done
    points = (
        *points,
        Point(
            at=snapshot.at,
            entries=snapshot.backlog.entries,
            recipients=recipients_left(snapshot),
            recipients_per_s=snapshot.rate.recipients_per_s,
            settled_recipients=done.delivered_recipients + done.bounced_recipients + done.undone_recipients,
            transactions=snapshot.done.transactions,
            limit_messages_per_s=snapshot.rate.limit_messages_per_s,
            limit_recipients_per_s=snapshot.rate.limit_recipients_per_s,
        ),
    )
    last = changes[-1] if changes else None
    if last is None or last.state != snapshot.state:
        since = max(min(snapshot.since, snapshot.at), last.at if last else -math.inf)
        changes = (*changes, Change(at=since, state=snapshot.state, reason=snapshot.reason))
    elif last.reason != snapshot.reason:
        changes = (*changes[:-1], last.model_copy(update={"reason": snapshot.reason}))
    return BurnDown(points=thinned(points), changes=changes[-MOST_CHANGES:], began=began_s)


def resumed(history: BurnDown, now_s: float) -> BurnDown:
    """A history of an earlier run, as a run that begins now goes on with it; empty if it is of the future."""
    if not history.points or history.points[-1].at >= now_s:
        return BurnDown()
    away = Change(at=history.points[-1].at, state="not_running")
    return history.model_copy(update={"changes": (*history.changes, away)[-MOST_CHANGES:]})


def thinned(points: tuple[Point, ...]) -> tuple[Point, ...]:
    """At most MOST_POINTS of them: the first, the last, the highest, and between them ever fewer the older they are."""
    now_s = points[-1].at
    recent = tuple(point for point in points if now_s - point.at <= REACHES_BACK_S)
    if len(recent) <= MOST_POINTS:
        return recent
    highest = max(recent, key=lambda point: point.recipients or 0)
    share = 1 / 50
    while True:
        kept = [recent[-1]]
        for point in reversed(recent[1:-1]):
            if point is highest or kept[-1].at - point.at >= share * (now_s - point.at):
                kept.append(point)
        if len(kept) < MOST_POINTS:
            return (recent[0], *reversed(kept))
        share *= 2


def _empty_for_s(points: tuple[Point, ...], now_s: float) -> float:
    """How long the backlog had been empty up to now, as far as the points say."""
    since_s = now_s
    for point in reversed(points):
        if point.entries:
            break
        since_s = point.at
    return now_s - since_s
