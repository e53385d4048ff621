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
    still_s = sum(
        max(0.0, min(band.end_s, until_s) - band.start_s) for band in bands(burn_down, now_s) if band.start_s < until_s
    )
    recipients = _settled(measured[-1]) - _settled(measured[0])
    messages = (measured[-1].transactions or 0) - (measured[0].transactions or 0)
    sustained, over_s = _sustained(measured)
    return Rates(
        lasted_s=until_s - began_s,
        still_s=still_s,
        mean_recipients_per_s=recipients / lasted_s if lasted_s > 0 else None,
        mean_messages_per_s=messages / lasted_s if lasted_s > 0 else None,
        sending_recipients_per_s=recipients / (lasted_s - still_s) if lasted_s - still_s >= 1 else None,
        sustained_recipients_per_s=sustained,
        sustained_over_s=over_s,
        limits=_limits(points),
    )


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
