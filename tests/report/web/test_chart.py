"""The burn-down as SVG: where things lie in it."""

from __future__ import annotations

import re
from datetime import UTC

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drainer.estimate.eta import Eta
from drainer.report.burn_down import BurnDown, Point
from drainer.report.snapshot import Backlog
from drainer.report.web.chart import bands, burn_down_svg, nice_step, short
from tests.report.staged import NOW_S, burning, moment

WIDTH, HEIGHT = 1000, 300


def drawn(history: BurnDown, **changed: object) -> str:
    return burn_down_svg(history, moment(**changed), WIDTH, HEIGHT, UTC)


def path(svg: str, css_class: str) -> list[tuple[float, float]]:
    (d,) = re.findall(rf'<path d="([^"]+)" class="{css_class}"/>', svg)
    return [(float(x), float(y)) for x, y in re.findall(r"([-0-9.]+) ([-0-9.]+)", d)]


def test_cone_reaches_zero_at_the_earliest_and_the_latest_finish_and_begins_where_the_line_ends() -> None:
    svg = drawn(burning(60))
    line, (tip, low, high), expected = path(svg, "left"), path(svg, "cone"), path(svg, "expected")
    assert line[-1] == tip == expected[0]
    per_s = (line[-1][0] - line[0][0]) / 3600
    for point, seconds in ((low, 1020), (expected[1], 1560), (high, 2400)):
        assert point[0] - tip[0] == pytest.approx(seconds * per_s, abs=0.5)
        assert point[1] == HEIGHT - 26
    assert [y for _, y in line] == sorted(y for _, y in line)


def test_wide_cone_runs_out_of_the_picture_and_leaves_the_line_readable() -> None:
    eta = Eta(state="draining", finish=NOW_S + 600, seconds=600, low_s=300, high_s=1e6, confidence=0.8)
    line = path(drawn(burning(60), eta=eta), "left")
    assert line[-1][0] - line[0][0] > WIDTH / 4


def test_times_in_which_nothing_was_sent_are_bands_with_their_word() -> None:
    (down,) = bands(burning(60), NOW_S)
    assert (down.state, down.start_s, down.end_s) == ("mta_down", NOW_S - 1800, NOW_S - 1200)
    svg = drawn(burning(60))
    assert re.search('class="band mta_down"/?><text [^>]*>MTA down<', svg)


def test_line_has_a_gap_where_nothing_could_be_said() -> None:
    points = tuple(
        Point(at=NOW_S - 100 + step, entries=5, recipients=None if 40 < step < 60 else 49012)
        for step in range(0, 100, 5)
    )
    svg = drawn(BurnDown(points=points))
    assert svg.count('class="left"') == 2


def test_long_history_makes_a_picture_of_a_bounded_size() -> None:
    points = tuple(Point(at=NOW_S - 5000 + 10 * step, entries=5, recipients=60000 - step) for step in range(500))
    assert len(drawn(BurnDown(points=points))) < 25_000


@settings(max_examples=50, deadline=None)
@given(
    ats=st.lists(st.floats(0, 1e6), max_size=30, unique=True),
    left=st.integers(0, 10**9),
    seconds=st.floats(0, 1e15),
    factor=st.floats(1, 1e6),
    width=st.integers(200, 2000),
)
def test_whatever_happened_can_be_drawn(ats: list[float], left: int, seconds: float, factor: float, width: int) -> None:
    points = tuple(Point(at=NOW_S - 1e6 + at, entries=1, recipients=int(left * at / 1e6)) for at in sorted(ats))
    eta = Eta(state="draining", finish=NOW_S, seconds=seconds, low_s=seconds / factor, high_s=seconds * factor)
    svg = burn_down_svg(
        BurnDown(points=points), moment(eta=eta, backlog=Backlog(entries=1, recipients=left)), width, 200, UTC
    )
    assert not re.search(r"nan|inf", svg)
    assert svg.count('class="axis"') >= 3


@pytest.mark.parametrize(
    ("most", "ticks", "step"), [(4, 4, 1), (60000, 4, 20000), (7, 4, 2), (1, 4, 0.5), (49012, 4, 20000)]
)
def test_steps_of_the_axis_are_round(most: float, ticks: int, step: float) -> None:
    assert nice_step(most, ticks) == step


@pytest.mark.parametrize(
    ("number", "words"), [(0, "0"), (999, "999"), (1000, "1k"), (1500, "1.5k"), (2_400_000, "2.4M")]
)
def test_numbers_of_the_axis_are_short(number: float, words: str) -> None:
    assert short(number) == words
