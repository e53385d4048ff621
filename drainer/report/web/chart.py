"""The burn-down as SVG: recipients left over time; the forecast is a cone, and times without sending are bands.

In    BurnDown, the Snapshot of this moment, a size in pixels
Out   one <svg>; page.py says the same in words, page_tables.py in figures
Pure  no clock, no JavaScript; colours and fonts are those of page.css

The picture contains text. So the page draws it in two sizes, and a phone need not shrink it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, tzinfo

from drainer.estimate.eta import Eta
from drainer.report.burn_down import STANDS_STILL, BurnDown, Point, recipients_left
from drainer.report.snapshot import Snapshot
from drainer.text.markup import Markup, tag

_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 14, 14, 26
_TICK_S = (10, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 3 * 3600, 6 * 3600, 12 * 3600, 86400, 2 * 86400, 7 * 86400)
_FURTHEST_S = 10 * 365 * 86400.0
_LETTER = 7
"""About the width of a letter, in pixels."""


@dataclass(frozen=True, slots=True)
class Band:
    """Nothing was sent from start_s to end_s (seconds since the epoch)."""

    state: str
    start_s: float
    end_s: float


@dataclass(frozen=True, slots=True)
class _Frame:
    """Converts times and numbers to places in the picture."""

    width: int
    height: int
    from_s: float
    to_s: float
    most: float

    def x(self, at_s: float) -> float:
        share = (at_s - self.from_s) / (self.to_s - self.from_s)
        return round(_LEFT + min(1.0, max(0.0, share)) * (self.width - _LEFT - _RIGHT), 1)

    def y(self, number: float) -> float:
        return round(_TOP + (1 - number / self.most) * (self.height - _TOP - _BOTTOM), 1)


def burn_down_svg(
    burn_down: BurnDown, snapshot: Snapshot, width: int, height: int, zone: tzinfo | None = None, css_class: str = ""
) -> Markup:
    """The chart; with too few points for a line, the axes and what is known.

    width, height  in CSS pixels, at least 200 and 120
    """
    points = burn_down.points or (_now(snapshot),)
    frame = _frame(points, snapshot, width, height)
    clip = f"plot-{width}"
    return tag(
        "svg",
        tag(
            "clipPath",
            tag("rect", x=_LEFT, y=_TOP, width=width - _LEFT - _RIGHT, height=height - _TOP - _BOTTOM + 1),
            id=clip,
        ),
        *_bands(bands(burn_down, snapshot.at), frame),
        *_numbers(frame),
        *_times(frame, zone),
        tag("g", *_forecast(snapshot, frame), *_line(points, snapshot, frame), clip_path=f"url(#{clip})"),
        *_now_mark(snapshot, frame),
        viewBox=f"0 0 {width} {height}",
        width=width,
        height=height,
        role="img",
        aria_label="Recipients left over time; the same in words and as a table below",
        class_=f"burn-down {css_class}".strip(),
    )


def bands(burn_down: BurnDown, now_s: float) -> list[Band]:
    """Times in which nothing was sent, oldest first; the last one may still last."""
    if not burn_down.points or not burn_down.changes:
        return []
    first_s = burn_down.points[0].at
    ends = [*(change.at for change in burn_down.changes[1:]), now_s]
    found: list[Band] = []
    for change, end_s in zip(burn_down.changes, ends, strict=True):
        start_s = max(change.at, first_s)
        if change.state in STANDS_STILL and end_s > start_s:
            found.append(Band(change.state, start_s, end_s))
    return found


def nice_step(most: float, ticks: int) -> float:
    """1, 2 or 5 times a power of ten, so that about that many steps reach `most` > 0."""
    rough = most / max(1, ticks)
    power = 10.0 ** math.floor(math.log10(rough))
    return float(next(step * power for step in (1, 2, 5, 10) if step * power >= rough))


def short(number: float) -> str:
    """ "950", "12k", "1.5k", "2.4M"."""
    for above, unit in ((1e6, "M"), (1e3, "k")):
        if number >= above:
            return f"{number / above:.1f}".removesuffix(".0") + unit
    return f"{number:.0f}"


def _now(snapshot: Snapshot) -> Point:
    return Point(at=snapshot.at, entries=snapshot.backlog.entries, recipients=recipients_left(snapshot))


def _frame(points: Sequence[Point], snapshot: Snapshot, width: int, height: int) -> _Frame:
    from_s, now_s, eta = points[0].at, snapshot.at, snapshot.eta
    seen_s = max(now_s - from_s, 60.0)
    to_s = now_s + 0.04 * seen_s
    if _has_cone(eta):
        seconds, high_s = eta.seconds or 0.0, eta.high_s or 0.0
        # A wide cone may leave the picture on the right; otherwise it would press the rest against the left edge.
        to_s = now_s + 1.05 * min(high_s, max(2.0 * seconds, seconds + seen_s), _FURTHEST_S)
    from_s = min(from_s, now_s - 60.0)
    most = max((point.recipients or 0 for point in (*points, _now(snapshot))), default=0)
    step = nice_step(max(most, 4), 4)
    return _Frame(width, height, from_s, max(to_s, from_s + 60.0), step * math.ceil(max(most, 4) / step))


def _has_cone(eta: Eta) -> bool:
    return eta.state == "draining" and eta.seconds is not None and eta.low_s is not None and eta.high_s is not None


def _numbers(frame: _Frame) -> Iterator[Markup]:
    step = nice_step(frame.most, 4)
    for index in range(round(frame.most / step) + 1):
        y = frame.y(index * step)
        yield tag("line", x1=_LEFT, x2=frame.width - _RIGHT, y1=y, y2=y, class_="grid")
        yield tag("text", short(index * step), x=_LEFT - 6, y=y + 4, class_="axis", text_anchor="end")


def _times(frame: _Frame, zone: tzinfo | None) -> Iterator[Markup]:
    span_s = frame.to_s - frame.from_s
    room = (frame.width - _LEFT - _RIGHT) / 74
    step_s = next((step for step in _TICK_S if span_s / step <= room), _TICK_S[-1])
    offset = datetime.fromtimestamp(frame.to_s, zone).astimezone(zone).utcoffset()
    offset_s = offset.total_seconds() if offset else 0.0
    at_s = math.ceil((frame.from_s + offset_s) / step_s) * step_s - offset_s
    while at_s <= frame.to_s:
        moment, x = datetime.fromtimestamp(at_s, zone), frame.x(at_s)
        form = "%d %b" if step_s >= 86400 else "%H:%M:%S" if step_s < 60 else "%H:%M"
        yield tag("line", x1=x, x2=x, y1=frame.height - _BOTTOM, y2=frame.height - _BOTTOM + 4, class_="tick")
        if _LEFT + 14 <= x <= frame.width - 22:
            yield tag("text", moment.strftime(form), x=x, y=frame.height - 7, class_="axis", text_anchor="middle")
        at_s += step_s


def _bands(found: Sequence[Band], frame: _Frame) -> Iterator[Markup]:
    for band in found:
        x, end = frame.x(band.start_s), frame.x(band.end_s)
        width = max(1.0, round(end - x, 1))
        yield tag(
            "rect",
            x=x, y=_TOP, width=width, height=frame.height - _TOP - _BOTTOM, class_=f"band {band.state}",
        )  # fmt: skip
        label = STANDS_STILL[band.state]
        if width > len(label) * _LETTER:
            yield tag("text", label, x=round(x + width / 2, 1), y=_TOP + 14, class_="band-label", text_anchor="middle")


def _line(points: Sequence[Point], snapshot: Snapshot, frame: _Frame) -> Iterator[Markup]:
    """The recipients left, as a line and the area under it; a gap where they are not known."""
    known: list[list[tuple[float, float]]] = [[]]
    for point in (*points, _now(snapshot)):
        if point.recipients is None:
            known.append([])
        else:
            known[-1].append((frame.x(point.at), frame.y(point.recipients)))
    zero = frame.y(0)
    for piece in filter(None, known):
        path = _path(piece)
        yield tag("path", d=f"{path}L{piece[-1][0]:g} {zero:g}L{piece[0][0]:g} {zero:g}Z", class_="area")
        yield tag("path", d=path, class_="left")


def _forecast(snapshot: Snapshot, frame: _Frame) -> Iterator[Markup]:
    eta, left = snapshot.eta, recipients_left(snapshot)
    if not _has_cone(eta) or not left:
        return
    x, y, zero = frame.x(snapshot.at), frame.y(left), frame.y(0)
    # The cone keeps its direction beyond the frame, so its ends are not moved to the frame's edge.
    scale = (frame.width - _LEFT - _RIGHT) / (frame.to_s - frame.from_s)
    low, mid, high = (x + (seconds or 0.0) * scale for seconds in (eta.low_s, eta.seconds, eta.high_s))
    yield tag("path", d=f"M{x:g} {y:g}L{low:.1f} {zero:g}L{high:.1f} {zero:g}Z", class_="cone")
    yield tag("path", d=f"M{x:g} {y:g}L{mid:.1f} {zero:g}", class_="expected")


def _now_mark(snapshot: Snapshot, frame: _Frame) -> Iterator[Markup]:
    x, left = frame.x(snapshot.at), recipients_left(snapshot)
    yield tag("line", x1=x, x2=x, y1=_TOP, y2=frame.height - _BOTTOM, class_="now")
    if left is not None:
        yield tag("circle", cx=x, cy=frame.y(left), r=4, class_="now")


def _path(piece: Sequence[tuple[float, float]]) -> str:
    """Straight lines through the points; of several in one column of pixels, the last."""
    columns = {round(x): (x, y) for x, y in piece}
    return "M" + "L".join(f"{x:g} {y:g}" for x, y in columns.values())
