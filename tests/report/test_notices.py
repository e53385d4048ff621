"""Which notices there are: none for flapping, none too often, and the last one is always true."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from drainer.report.notices import KINDS, Notice, NoticeState, after_snapshot, condition_of
from drainer.report.snapshot import Snapshot

AFTER_S, QUIET_S, DRAINED_FROM = 60.0, 900.0, 100


def seen(at: float, state: str, entries: int = 500, eta: str = "draining", **more: Any) -> Snapshot:
    fields = {
        "version": "0", "at": at, "pid": 1, "state": state, "since": at, "reason": more.pop("reason", ""),
        "backlog": {"entries": entries, "recipients": 10 * entries, "held_entries": more.pop("held", 0)},
        "done": {"delivered_entries": more.pop("delivered_entries", 0)},
        "eta": {"state": eta}, "mta": {"host": "127.0.0.1", "port": 25},
    }  # fmt: skip
    return Snapshot.model_validate(fields)


def notices_of(snapshots: Sequence[Snapshot]) -> list[Notice]:
    known = NoticeState()
    notices: list[Notice] = []
    for snapshot in snapshots:
        known, new = after_snapshot(known, snapshot, after_s=AFTER_S, quiet_s=QUIET_S, drained_from=DRAINED_FROM)
        notices += new
    return notices


def every_10_s(start: float, until: float, state: str, **more: Any) -> list[Snapshot]:
    return [seen(float(at), state, **more) for at in range(int(start), int(until), 10)]


def events(snapshots: Sequence[Snapshot]) -> list[str]:
    return [notice.event for notice in notices_of(snapshots)]


def test_end_of_a_drain_is_noticed_once_with_what_was_done() -> None:
    notices = notices_of([*every_10_s(0, 600, "draining"), *every_10_s(600, 5000, "idle", entries=0)])
    assert [(notice.event, notice.at) for notice in notices] == [("drained", 660.0)]
    assert notices[0].text.startswith("drained: 0 recipients delivered")


def test_backlog_gone_between_two_snapshots_is_noticed_as_drained() -> None:
    gone = [*every_10_s(0, 10, "starting", entries=0), *every_10_s(10, 5000, "idle", entries=0, delivered_entries=100)]
    assert events(gone) == ["drained"]


def test_a_mail_finished_now_and_then_is_no_backlog_however_many_there_were() -> None:
    days = [seen(10.0 * n, "idle", entries=0, delivered_entries=50 + n) for n in range(1000)]
    assert events(days) == []


def test_everyday_mail_gives_no_notice() -> None:
    days = [
        one
        for at in range(0, 20_000, 1000)
        for one in (
            *every_10_s(at, at + 200, "draining", entries=99),
            *every_10_s(at + 200, at + 1000, "idle", entries=0),
        )
    ]
    assert events(days) == []


def test_backlog_drained_within_seconds_gives_a_notice() -> None:
    assert events([*every_10_s(0, 100, "idle", entries=0), seen(100, "draining", 5000),
                   *every_10_s(110, 500, "idle", entries=0)]) == ["drained"]  # fmt: skip


def test_trouble_that_lasts_gives_a_notice_and_so_does_its_end() -> None:
    story = [
        *every_10_s(0, 300, "draining"),
        *every_10_s(300, 330, "mta_down", reason="connection refused"),
        *every_10_s(330, 600, "draining"),
        *every_10_s(600, 900, "mta_down", reason="connection refused"),
        *every_10_s(900, 1200, "draining"),
    ]
    notices = notices_of(story)
    assert [(notice.event, notice.at) for notice in notices] == [("mta_down", 660.0), ("recovered", 960.0)]
    assert "connection refused" in notices[0].text


def test_guard_that_stops_the_drain_from_the_first_moment_gives_a_notice() -> None:
    assert events(every_10_s(0, 100, "stopped_by_guard", reason="ledger_inodes: 3 free")) == ["stopped_by_guard"]


def test_nothing_delivered_is_noticed_as_stalled() -> None:
    assert events([*every_10_s(0, 100, "draining"), *every_10_s(100, 300, "draining", eta="stalled")]) == ["stalled"]


def test_flapping_gives_one_notice_in_the_quiet_time_and_one_of_the_last_condition() -> None:
    flapping = [
        one
        for at in range(0, 1600, 160)
        for one in (*every_10_s(at, at + 80, "draining"), *every_10_s(at + 80, at + 160, "mta_down"))
    ]
    notices = notices_of([*flapping, *every_10_s(1600, 5000, "mta_down")])
    assert notices[-1].event == "mta_down"
    for event in KINDS:
        times = [notice.at for notice in notices if notice.event == event]
        assert all(later - earlier >= QUIET_S for earlier, later in pairwise(times))


def test_pause_and_restart_are_the_operators_own_and_hide_no_trouble() -> None:
    story = [*every_10_s(0, 100, "draining"), *every_10_s(100, 900, "paused"), *every_10_s(900, 1200, "starting"),
             *every_10_s(1200, 1400, "stopped_by_guard")]  # fmt: skip
    assert events(story) == ["stopped_by_guard"]


def test_more_held_entries_give_a_notice() -> None:
    story = [
        *every_10_s(0, 100, "draining"), *every_10_s(100, 200, "draining", held=2),
        *every_10_s(200, 2000, "draining", held=5), *every_10_s(2000, 4000, "draining", held=1),
    ]  # fmt: skip
    notices = notices_of(story)
    assert [(notice.event, notice.text.split()[0]) for notice in notices] == [("held", "2"), ("held", "5")]


_STATES = st.sampled_from(["draining", "idle", "mta_down", "stopped_by_guard", "paused", "scanning", "stalled"])


@given(st.lists(st.tuples(_STATES, st.integers(1, 400), st.integers(0, 1000), st.integers(0, 3)), max_size=60))
def test_no_notice_comes_twice_within_the_quiet_time_nor_for_what_did_not_last(
    story: list[tuple[str, int, int, int]],
) -> None:
    at, snapshots = 0.0, []
    for state, lasts_s, entries, held in story:
        eta = "stalled" if state == "stalled" else "draining"
        name = "draining" if state == "stalled" else state
        for _ in range(lasts_s // 20 + 1):
            snapshots.append(seen(at, name, 0 if name == "idle" else entries, eta=eta, held=held))
            at += 20
    by_time = {snapshot.at: snapshot for snapshot in snapshots}
    notices = notices_of(snapshots)
    for event in KINDS:
        times = [notice.at for notice in notices if notice.event == event]
        assert all(later - earlier >= QUIET_S for earlier, later in pairwise(times))
    wanted = {"recovered": "working"}
    for notice in notices:
        if notice.event != "held":
            before = [
                condition
                for back in range(int(AFTER_S) // 20 + 1)
                if (snapshot := by_time.get(notice.at - 20 * back)) and (condition := condition_of(snapshot))
            ]
            assert set(before) == {wanted.get(notice.event, notice.event)}
