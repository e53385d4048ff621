"""The history behind the burn-down: bounded, whatever the drain does."""

from __future__ import annotations

import itertools
import math

from drainer.report.burn_down import (
    MOST_CHANGES,
    MOST_POINTS,
    NEW_AFTER_EMPTY_S,
    REACHES_BACK_S,
    BurnDown,
    Point,
    observed,
    recipients_left,
    resumed,
    thinned,
)
from drainer.report.snapshot import Backlog
from tests.report.staged import NOW_S, moment


def sampled(seconds: int, every_s: int) -> tuple[Point, ...]:
    points: tuple[Point, ...] = ()
    for at_s in range(0, seconds, every_s):
        points = thinned((*points, Point(at=float(at_s), entries=1, recipients=seconds - at_s)))
        assert len(points) <= MOST_POINTS
    return points


def test_sixteen_hours_fit_and_leave_no_gap_wider_than_some_hundredths_of_the_chart() -> None:
    points = sampled(16 * 3600, every_s=20)
    assert (points[0].at, points[-1].at) == (0.0, 16 * 3600 - 20)
    gaps = [later.at - earlier.at for earlier, later in itertools.pairwise(points)]
    assert min(gaps) > 0
    assert max(gaps) < 16 * 3600 / 20
    assert sum(point.at > 16 * 3600 - 600 for point in points) >= 15


def test_the_largest_backlog_is_not_forgotten_however_short_it_was() -> None:
    history = BurnDown()
    for second in range(2 * MOST_POINTS):
        left = 99_000 if second == 7 else 50_000
        history = observed(history, moment(at=float(second), backlog=Backlog(entries=9, recipients=left)))
    assert len(history.points) <= MOST_POINTS
    assert [point.at for point in history.points if point.recipients == 99_000] == [7.0]


def test_what_is_older_than_two_days_is_forgotten() -> None:
    points = sampled(4 * 24 * 3600, every_s=300)
    assert points[-1].at - points[0].at <= REACHES_BACK_S


def test_flapping_state_keeps_the_latest_changes_only() -> None:
    history = BurnDown()
    for step in range(3 * MOST_CHANGES):
        at_s = NOW_S + step
        history = observed(history, moment(at=at_s, since=at_s, state="mta_down" if step % 2 else "draining"))
    assert len(history.changes) == MOST_CHANGES
    assert history.changes[-1].at == NOW_S + 3 * MOST_CHANGES - 1
    assert BurnDown.model_validate_json(history.model_dump_json()) == history


def test_reason_that_changes_within_a_state_is_no_change_of_state() -> None:
    history = observed(BurnDown(), moment(state="paused", reason="by ann"))
    history = observed(history, moment(at=NOW_S + 2, state="paused", reason="by bob"))
    assert [(change.state, change.reason) for change in history.changes] == [("paused", "by bob")]


def test_entries_not_read_yet_count_by_the_mean_of_the_others() -> None:
    assert recipients_left(moment(backlog=Backlog(entries=10, recipients=40, unread_entries=6))) == 100
    assert recipients_left(moment(backlog=Backlog(entries=10, recipients=0, unread_entries=10))) is None
    assert recipients_left(moment(backlog=Backlog(entries=10, recipients=40))) == 40


def test_new_outage_after_an_empty_hour_begins_a_new_burn_down() -> None:
    history = observed(BurnDown(), moment())
    for step in range(1, 5):
        history = observed(history, moment(at=NOW_S + step * NEW_AFTER_EMPTY_S / 2, state="idle", backlog=Backlog()))
    again_s = NOW_S + 5 * NEW_AFTER_EMPTY_S
    history = observed(history, moment(at=again_s))
    assert [point.recipients for point in history.points] == [0, 49012]


def test_mail_that_comes_after_an_empty_minute_goes_on_with_the_burn_down() -> None:
    history = observed(BurnDown(), moment())
    history = observed(history, moment(at=NOW_S + 60, state="idle", backlog=Backlog()))
    history = observed(history, moment(at=NOW_S + 120))
    assert [point.recipients for point in history.points] == [49012, 0, 49012]


def test_clock_set_back_begins_anew() -> None:
    history = observed(observed(BurnDown(), moment()), moment(at=NOW_S - 3600))
    assert [point.at for point in history.points] == [NOW_S - 3600]
    assert math.isclose(history.changes[0].at, NOW_S - 4320)


def test_time_between_two_runs_is_told_as_not_running() -> None:
    before = observed(BurnDown(), moment())
    history = observed(resumed(before, NOW_S + 600), moment(at=NOW_S + 602, since=NOW_S + 600))
    assert [(change.state, change.at) for change in history.changes] == [
        ("draining", NOW_S - 4320),
        ("not_running", NOW_S),
        ("draining", NOW_S + 600),
    ]
    assert resumed(before, NOW_S - 1) == BurnDown()
