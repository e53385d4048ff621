"""A name that lies in held/ or duplicates/ is never given to a second entry, though most takes do not look there."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from drainer.clock import StoppedClock
from drainer.queuedir.custody import Custody
from drainer.queuedir.filebase import QueueFile, Suffix
from drainer.queuedir.known_names import KnownNames
from drainer.queuedir.moves import find

NAME = "1772438466.0116487+e3c7fa5b74fbd92095ef3e26855f939b58452c8c"
AGO_S = 1_700_000_000.0


def dated(directory: Path, at_s: float) -> None:
    os.utime(directory, (at_s, at_s))


def test_settled_directory_is_listed_once_and_answers_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / f"{NAME}.bak").touch()
    dated(tmp_path, AGO_S - 100)
    clock, listings, scandir = StoppedClock(AGO_S), list[str](), os.scandir

    def listing(path: str) -> Any:
        listings.append(path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", listing)
    names = KnownNames(str(tmp_path), clock)
    for _ in range(3):
        clock.advance(10.0)
        assert names.may_hold(NAME) and not names.may_hold("1.0+ab")
    assert len(listings) == 1


def test_name_that_a_person_puts_there_is_seen_as_soon_as_the_directory_shows_it(tmp_path: Path) -> None:
    dated(tmp_path, AGO_S - 100)
    clock = StoppedClock(AGO_S)
    names = KnownNames(str(tmp_path), clock)
    assert not names.may_hold(NAME)
    (tmp_path / f"{NAME}.pck").touch()
    assert names.may_hold(NAME)
    clock.advance(5.0)
    assert names.may_hold(NAME) and names.may_hold("1.0+ab") is False


def test_directory_whose_mtime_was_too_coarse_for_a_change_is_listed_again(tmp_path: Path) -> None:
    clock = StoppedClock(AGO_S)
    dated(tmp_path, AGO_S)
    names = KnownNames(str(tmp_path), clock)
    assert not names.may_hold(NAME)
    (tmp_path / f"{NAME}.pck").touch()
    dated(tmp_path, AGO_S)
    clock.advance(1.0)
    assert names.may_hold(NAME)


def test_directory_that_cannot_be_listed_or_holds_too_much_may_hold_anything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("drainer.queuedir.known_names.MOST_KEPT", 2)
    clock = StoppedClock(AGO_S)
    assert KnownNames(str(tmp_path / "gone"), clock).may_hold(NAME)
    for number in range(3):
        (tmp_path / f"{number}.0+ab.pck").touch()
    assert KnownNames(str(tmp_path), clock).may_hold(NAME)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40, deadline=None)
@given(
    moves=st.lists(
        st.tuples(
            st.sampled_from(["take", "hold", "release", "suppress", "restore", "by hand", "wait"]), st.integers(0, 2)
        ),
        max_size=25,
    )
)
def test_no_name_is_in_two_of_our_directories_whatever_moves_went_before(
    tmp_path_factory: pytest.TempPathFactory, moves: list[tuple[str, int]]
) -> None:
    queue_dir = tmp_path_factory.mktemp("queue")
    for queue in ("out", "bad", "in"):
        (queue_dir / queue).mkdir()
    clock = StoppedClock(AGO_S)
    with Custody(queue_dir, clock=clock) as ours:
        for move, number in moves:
            name = f"{1.7e9 + number}+{number:040x}"
            where = find(name, [str(ours.backlog), str(ours.held), str(ours.duplicates)])
            if move == "wait":
                clock.advance(3.0)
            elif move == "by hand":
                if where is None:
                    (ours.held / f"{name}.pck").write_bytes(b"by hand")
                    dated(ours.held, clock.now_s() + number + 1)  # a change shows
            elif move == "take":
                (queue_dir / "out" / f"{name}.pck").write_bytes(b"mail")
                taken = ours.take("out", QueueFile(1.7e9 + number, name, Suffix.WAITING)).filebase
                assert (taken == name) == (where is None)
            elif where is not None and {"release": "held", "restore": "duplicates"}.get(move, "backlog") in where:
                getattr(ours, move)(name)
            files = [path.stem for place in (ours.backlog, ours.held, ours.duplicates) for path in place.iterdir()]
            assert len(files) == len(set(files))
