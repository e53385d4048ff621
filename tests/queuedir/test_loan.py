"""Entries lent to another filesystem to make room on a full one: each has one owner after a crash at any step."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from drainer.clock import StoppedClock
from drainer.errors import CustodyRefused
from drainer.queuedir.custody import Custody
from drainer.queuedir.loan import LENT_ENTRIES, Loan
from tests.queuedir.conftest import GENUINE, make_queue_dir
from tests.queuedir.test_custody_full import fill

ENTRIES = 20


@pytest.fixture
def queue_dir(small_filesystem: Path) -> Path:
    """Genuine entries in out/ of a filesystem without room for anything, and nothing of ours."""
    made = make_queue_dir(small_filesystem / "qfiles")
    for entry in sorted(GENUINE.glob("*.pck"))[:ENTRIES]:
        shutil.copy2(entry, made / "out")
    fill(small_filesystem)
    return made


def contents(*directories: Path) -> dict[str, bytes]:
    return {path.stem: path.read_bytes() for directory in directories for path in directory.glob("*+*")}


def test_entries_lent_make_room_and_come_back_whole(queue_dir: Path, tmp_path: Path) -> None:
    before = contents(queue_dir / "out")
    loan = Loan(queue_dir, tmp_path / "loan")
    with pytest.raises(CustodyRefused, match="five free inodes"):
        Custody(queue_dir, clock=StoppedClock(time.time())).prepare()
    assert loan.make_room() == LENT_ENTRIES
    assert contents(queue_dir / "out", tmp_path / "loan") == before
    with Custody(queue_dir, clock=StoppedClock(time.time())) as custody:
        some = loan.bring_back(custody)
        assert 0 < len(some) < LENT_ENTRIES
        assert contents(queue_dir / "out", tmp_path / "loan", custody.backlog) == before
        (queue_dir.parent / "filler").unlink()
        for ballast in queue_dir.parent.glob("inode*"):
            ballast.unlink()
        assert len(some) + len(loan.bring_back(custody)) == LENT_ENTRIES
        assert loan.entries() == []
        assert contents(queue_dir / "out", custody.backlog) == before


def test_no_entry_is_lent_within_one_filesystem(queue_dir: Path) -> None:
    loan = Loan(queue_dir, queue_dir / "bad")
    before = contents(queue_dir / "out")
    assert loan.make_room() == 0
    assert contents(queue_dir / "out") == before


class Killed(BaseException):
    """In place of the process's end."""


@pytest.mark.parametrize("step", range(5 * 2))
def test_crash_at_any_step_leaves_each_entry_with_one_owner(
    queue_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    before = contents(queue_dir / "out")
    loan = Loan(queue_dir, tmp_path / "loan")
    (tmp_path / "loan").mkdir()
    steps = iter(range(1000))

    def or_die(call: Callable[..., object]) -> Callable[..., object]:
        def called(*arguments: object, **named: object) -> object:
            if next(steps) == step:
                raise Killed
            return call(*arguments, **named)

        return called

    with monkeypatch.context() as patched, pytest.raises(Killed):
        for name in ("rename", "unlink", "fsync"):
            patched.setattr(os, name, or_die(getattr(os, name)))
        loan.make_room()

    after = Loan(queue_dir, tmp_path / "loan")
    after.settle()
    ours = {path.stem for path in after.entries()}
    assert ours.isdisjoint(contents(queue_dir / "out"))
    assert contents(queue_dir / "out", tmp_path / "loan") == before


def test_copy_whose_entry_is_gone_comes_back_in_doubt(queue_dir: Path, tmp_path: Path) -> None:
    """Killed between the copy and what followed: Mailman's runner may have delivered it, or we removed it."""
    entry = min((queue_dir / "out").glob("*.pck"))
    place = tmp_path / "loan"
    place.mkdir()
    shutil.copy2(entry, place / f"{entry.name}.copy")
    entry.unlink()
    loan = Loan(queue_dir, place)
    loan.settle()
    assert [path.name for path in loan.entries()] == [f"{entry.stem}.bak"]


def test_entry_that_came_back_just_before_a_crash_is_not_brought_back_again(queue_dir: Path, tmp_path: Path) -> None:
    loan = Loan(queue_dir, tmp_path / "loan")
    loan.make_room()
    with Custody(queue_dir, clock=StoppedClock(time.time())) as custody:
        entry = loan.entries()[0]
        for room in sorted(queue_dir.parent.glob("inode*"))[:3]:
            room.unlink()
        (queue_dir.parent / "filler").unlink()
        shutil.copy2(entry, custody.backlog)
        assert entry.stem not in {file.filebase for file, _ in loan.bring_back(custody)}
        assert not entry.exists() and (custody.backlog / entry.name).exists()
