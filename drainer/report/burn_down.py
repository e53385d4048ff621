"""The burn-down: the backlog over time, with many points for the last minutes and fewer for older times.

In    a Snapshot now and then
Out   points and changes of state, oldest first, as JSON values too
Pure  snapshots bring their time

A point is kept if the next newer one is at least a fiftieth of its age away. So on a chart of the whole burn-down no gap is
wider than some hundredths of the chart, and two days need fewer than MOST_POINTS points.
"""

from __future__ import annotations

import math

from pydantic import Field

from drainer.estimate.eta import ServiceState
from drainer.report.snapshot import Snapshot
from drainer.text.clean_model import CleanModel

MOST_POINTS = 500
MOST_CHANGES = 100
REACHES_BACK_S = 48 * 3600.0
NEW_AFTER_EMPTY_S = 3600.0
"""After the backlog has been empty this long, new mail begins a new burn-down."""

STANDS_STILL = {
    "paused": "paused",
    "stopped_by_guard": "stopped by a guard",
    "mta_down": "MTA down",
    "not_running": "not running",
}
"""States in which nothing is sent, in words."""
WAITS_FOR = {"window": "no open window", "hourly_cap": "hourly cap", "daily_cap": "daily cap"}
"""What holds everything back while nothing is wrong (Rate.waits_for), in words."""


class Point(CleanModel):
    """The backlog at one moment.

    at                  seconds since the epoch
    recipients          left; an entry not read yet counts the mean of those read; null while none is read
    recipients_per_s    null while not measured
    settled_recipients, transactions  delivered and bounced, since the ledger began
    limit_...           null: unlimited
    stood_still         seconds since the burn-down began in which nothing was sent, by STANDS_STILL and WAITS_FOR; null in
                        points of older versions
    """

    at: float = Field(allow_inf_nan=False)
    entries: int = Field(ge=0)
    recipients: int | None = Field(ge=0)
    recipients_per_s: float | None = Field(None, ge=0, allow_inf_nan=False)
    settled_recipients: int | None = Field(None, ge=0)
    transactions: int | None = Field(None, ge=0)
    limit_messages_per_s: float | None = Field(None, ge=0, allow_inf_nan=False)
    limit_recipients_per_s: float | None = Field(None, ge=0, allow_inf_nan=False)
    stood_still: dict[str, float] | None = None


class Change(CleanModel):
    """The service was in `state` from `at` on (seconds since the epoch); between two runs the state is "not_running"."""

    at: float = Field(allow_inf_nan=False)
    state: ServiceState | str
    reason: str = ""


class BurnDown(CleanModel):
    """Points and changes of state, oldest first. began: when the burn-down began, perhaps before the first point kept.
    stands_still: why nothing is sent since the last point, as in Point.stood_still; "" if something is."""

    points: tuple[Point, ...] = Field((), max_length=MOST_POINTS)
    changes: tuple[Change, ...] = Field((), max_length=MOST_CHANGES)
    began: float | None = Field(None, allow_inf_nan=False)
    stands_still: str = ""


def recipients_left(snapshot: Snapshot) -> int | None:
    """Recipients in the backlog; an entry not read yet counts the mean of those read. None while none is read."""
    backlog = snapshot.backlog
    read = backlog.entries - backlog.unread_entries
    if backlog.unread_entries <= 0:
        return backlog.recipients
    if read <= 0 or not backlog.recipients:
        return None
    return round(backlog.recipients + backlog.unread_entries * backlog.recipients / read)


def observed(burn_down: BurnDown, snapshot: Snapshot) -> BurnDown:
    """The burn-down with this snapshot added. If the clock was set back, a new burn-down begins.

    A service that starts or scans and has found no entry yet does not know the backlog: its snapshot adds no point.
    """
    points, changes, began_s = burn_down.points, burn_down.changes, burn_down.began
    if snapshot.state in ("starting", "scanning") and not snapshot.backlog.entries:
        return burn_down
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
            stood_still=_stood_still(points, burn_down.stands_still, snapshot.at),
        ),
    )
    last = changes[-1] if changes else None
    if last is None or last.state != snapshot.state:
        since = max(min(snapshot.since, snapshot.at), last.at if last else -math.inf)
        changes = (*changes, Change(at=since, state=snapshot.state, reason=snapshot.reason))
    elif last.reason != snapshot.reason:
        changes = (*changes[:-1], last.model_copy(update={"reason": snapshot.reason}))
    stands_still = snapshot.state if snapshot.state in STANDS_STILL else snapshot.rate.waits_for
    return BurnDown(points=thinned(points), changes=changes[-MOST_CHANGES:], began=began_s, stands_still=stands_still)


def _stood_still(points: tuple[Point, ...], why: str, now_s: float) -> dict[str, float]:
    """A sum, since a cap makes the drain stand still more often than changes are kept."""
    if not points:
        return {}
    so_far = points[-1].stood_still or {}
    return so_far | {why: so_far.get(why, 0.0) + now_s - points[-1].at} if why else so_far


def resumed(burn_down: BurnDown, now_s: float) -> BurnDown:
    """The burn-down of an earlier run, continued by a run that begins now; empty if its points lie in the future."""
    if not burn_down.points or burn_down.points[-1].at >= now_s:
        return BurnDown()
    away = Change(at=burn_down.points[-1].at, state="not_running")
    changes = (*burn_down.changes, away)[-MOST_CHANGES:]
    return burn_down.model_copy(update={"changes": changes, "stands_still": away.state})


def thinned(points: tuple[Point, ...]) -> tuple[Point, ...]:
    """At most MOST_POINTS points: the first, the last and the highest, and between them fewer the older they are."""
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
    """How long the backlog has been empty until now, according to the points."""
    since_s = now_s
    for point in reversed(points):
        if point.entries:
            break
        since_s = point.at
    return now_s - since_s
