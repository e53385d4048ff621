"""How fast the drain of an incident was.

In    the BurnDown, the beginning and the end of the drain
Out   Rates: means, the best sustained rate, the limits in force
Pure  values only
"""

from __future__ import annotations

from collections.abc import Sequence

from drainer.report.burn_down import BurnDown, Point
from drainer.report.incident.document import LINES, Limits, Rates
from drainer.report.web.chart import bands

SUSTAINED_S = (300.0, 60.0)
"""A rate is sustained if it lasted five minutes, or one minute in a short drain. For a drain of less than two minutes there
is no sustained rate."""


def drain_rates(burn_down: BurnDown, now_s: float, began_s: float | None, ended_s: float | None) -> Rates:
    until_s = now_s if ended_s is None else ended_s
    points = [point for point in burn_down.points if began_s is not None and point.at <= until_s]
    measured = [point for point in points if point.settled_recipients is not None]
    if began_s is None or len(measured) < 2:
        return Rates(limits=_limits(points))
    lasted_s = measured[-1].at - measured[0].at
    still_by = _still_by(burn_down, points, now_s, until_s)
    still_s = sum(still_by.values())
    recipients = _settled(measured[-1]) - _settled(measured[0])
    messages = (measured[-1].transactions or 0) - (measured[0].transactions or 0)
    sustained, over_s = _sustained(measured)
    return Rates(
        lasted_s=until_s - began_s,
        still_s=still_s,
        still_by=still_by,
        mean_recipients_per_s=recipients / lasted_s if lasted_s > 0 else None,
        mean_messages_per_s=messages / lasted_s if lasted_s > 0 else None,
        sending_recipients_per_s=recipients / (lasted_s - still_s) if lasted_s - still_s >= 1 else None,
        sustained_recipients_per_s=sustained,
        sustained_over_s=over_s,
        limits=_limits(points),
    )


def _still_by(burn_down: BurnDown, points: Sequence[Point], now_s: float, until_s: float) -> dict[str, float]:
    """Seconds in which nothing was sent, by cause, the longest first: as the points have summed them up. What came before
    they did is seen by the changes of state."""
    summed = [point for point in points if point.stood_still is not None]
    found: dict[str, float] = {}
    before_s = min(until_s, summed[0].at) if summed else until_s
    for band in bands(burn_down, now_s):
        found[band.state] = found.get(band.state, 0.0) + max(0.0, min(band.end_s, before_s) - band.start_s)
    if summed:
        first, last = (point.stood_still or {} for point in (summed[0], summed[-1]))
        for why, seconds in last.items():
            found[why] = found.get(why, 0.0) + seconds - first.get(why, 0.0)
    return dict(sorted(((why, s) for why, s in found.items() if s > 0), key=lambda one: -one[1]))


def _settled(point: Point) -> int:
    return point.settled_recipients or 0


def _sustained(points: Sequence[Point]) -> tuple[float | None, float | None]:
    """The best sustained rate, and the seconds it lasted."""
    span_s = next((span for span in SUSTAINED_S if 2 * span <= points[-1].at - points[0].at), 0.0)
    best: tuple[float | None, float | None] = (None, None)
    first = 0
    if not span_s:
        return best
    for point in points:
        while first + 1 < len(points) and point.at - points[first + 1].at >= span_s:
            first += 1
        over_s = point.at - points[first].at
        if over_s >= span_s:
            rate = (_settled(point) - _settled(points[first])) / over_s
            if best[0] is None or rate > best[0]:
                best = rate, over_s
    return best


def _limits(points: Sequence[Point]) -> list[Limits]:
    found: list[Limits] = []
    for point in points:
        limits = (point.limit_messages_per_s, point.limit_recipients_per_s)
        if not found or limits != (found[-1].messages_per_s, found[-1].recipients_per_s):
            found.append(Limits(at=point.at, messages_per_s=limits[0], recipients_per_s=limits[1]))
    return found[-LINES:]
