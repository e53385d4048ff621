"""Polling: a change is never missed, an idle directory is not listed over and over."""

from __future__ import annotations

import os
from pathlib import Path

from drainer.clock import StoppedClock
from drainer.queuedir.watch import DirectoryWatch, changed_directories


def test_idle_directory_is_listed_twice_and_then_left_alone(tmp_path: Path) -> None:
    clock = StoppedClock()
    watch = DirectoryWatch(tmp_path, clock, grace_s=2.0)
    answers = []
    for _ in range(10):
        answers.append(watch.worth_listing())
        clock.advance(1.0)
    assert answers == [True, False, True] + [False] * 7


def test_change_within_the_grain_of_the_mtime_is_seen_after_the_grace_period(tmp_path: Path) -> None:
    clock = StoppedClock()
    watch = DirectoryWatch(tmp_path, clock, grace_s=2.0)
    status = tmp_path.stat()
    assert watch.worth_listing()
    (tmp_path / "1.5+ab.pck").touch()
    os.utime(tmp_path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert not watch.worth_listing()
    clock.advance(2.0)
    assert watch.worth_listing()


def test_mtime_going_backwards_is_a_change_too(tmp_path: Path) -> None:
    clock = StoppedClock()
    watch = DirectoryWatch(tmp_path, clock)
    for _ in range(3):
        watch.worth_listing()
        clock.advance(5.0)
    os.utime(tmp_path, (1000, 1000))
    assert watch.worth_listing()


def test_directory_put_in_place_of_another_is_a_change(tmp_path: Path) -> None:
    clock = StoppedClock()
    out = tmp_path / "out"
    out.mkdir()
    os.utime(out, (1000, 1000))
    watch = DirectoryWatch(out, clock)
    for _ in range(3):
        watch.worth_listing()
        clock.advance(5.0)
    assert not watch.worth_listing()
    out.rename(tmp_path / "old")
    assert not watch.worth_listing(), "nothing to list while it is away"
    out.mkdir()
    os.utime(out, (1000, 1000))
    assert watch.worth_listing()


async def test_only_directories_that_changed_are_reported_and_polling_keeps_its_interval(tmp_path: Path) -> None:
    clock = StoppedClock()
    out, retry = tmp_path / "out", tmp_path / "retry"
    out.mkdir()
    retry.mkdir()
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        clock.advance(seconds)
        if len(slept) == 10:
            os.utime(retry, (2000, 2000))

    changes = changed_directories([out, retry], clock, lambda: 1.0, sleep, grace_s=3.0)
    assert await anext(changes) == [out, retry]
    assert await anext(changes) == [out, retry]
    assert slept == [1.0] * 3
    assert await anext(changes) == [retry]
    assert slept == [1.0] * 10
