"""Zero inodes and zero bytes free under the queue: everything but a rewrite works, and the rewrite loses nothing."""

from __future__ import annotations

import errno
import os
import shutil
import time
from itertools import count
from pathlib import Path

import pytest

from drainer.clock import StoppedClock
from drainer.errors import CustodyRefused
from drainer.queuedir.custody import Custody
from drainer.queuedir.filebase import queue_of
from drainer.queuedir.scan import scan_queue
from tests.queuedir.conftest import GENUINE, make_queue_dir


def fill(directory: Path) -> None:
    """Until neither a byte can be written nor a file made."""
    with (directory / "filler").open("wb", buffering=0) as filler, pytest.raises(OSError) as full:
        while True:
            filler.write(bytes(4096))
    assert full.value.errno == errno.ENOSPC
    with pytest.raises(OSError) as full:
        for number in count():
            (directory / f"inode{number}").touch()
    assert full.value.errno == errno.ENOSPC
    free = os.statvfs(directory)
    assert (free.f_bfree, free.f_ffree) == (0, 0)


@pytest.fixture
def full_queue_dir(small_filesystem: Path) -> Path:
    """Genuine entries in out/ and retry/, our directories made before the disk filled up."""
    queue_dir = make_queue_dir(small_filesystem / "qfiles")
    for number, entry in enumerate(sorted(GENUINE.glob("*.pck"))[:40]):
        shutil.copy2(entry, queue_dir / ("out", "retry")[number % 2])
    with Custody(queue_dir, clock=StoppedClock(time.time())):
        fill(small_filesystem)
    return queue_dir


def test_whole_life_of_an_entry_needs_no_inode_and_no_byte(full_queue_dir: Path) -> None:
    clock = StoppedClock(time.time())
    before = {path.name: path.read_bytes() for queue in ("out", "retry") for path in (full_queue_dir / queue).iterdir()}
    with Custody(full_queue_dir, clock=clock, queues=("out", "retry")) as ours:
        names = [
            ours.take(queue, listed.file).filebase
            for queue in ("out", "retry")
            for listed in list(scan_queue(full_queue_dir / queue))
        ]
        ours.sync()
        assert len(names) == 40
        for filebase in names:
            ours.hold(filebase)
            ours.release(filebase)
            ours.suppress(filebase)
            ours.restore(filebase)
        for filebase in names:
            ours.hand_back(filebase)
        ours.sync()
        after = {
            path.name: path.read_bytes() for queue in ("out", "retry") for path in (full_queue_dir / queue).iterdir()
        }
        assert after == before


def test_unreadable_and_finished_entries_leave_a_full_disk(full_queue_dir: Path) -> None:
    clock = StoppedClock(time.time())
    with Custody(full_queue_dir, clock=clock) as ours:
        names = [ours.take("out", listed.file).filebase for listed in list(scan_queue(full_queue_dir / "out"))]
        ours.preserve_bad(names[0])
        ours.suppress(names[1])
        clock.advance(3600)
        assert ours.expire_duplicates(60.0) == 1
        assert all(ours.finish(filebase) for filebase in names[2:])
        assert [path.suffix for path in (full_queue_dir / "bad").iterdir()] == [".psv"]


def test_rewrite_on_a_full_disk_is_refused_and_the_entry_stays_as_it_is(full_queue_dir: Path) -> None:
    with Custody(full_queue_dir, clock=StoppedClock(time.time())) as ours:
        names = [ours.take("out", listed.file).filebase for listed in list(scan_queue(full_queue_dir / "out"))]
        before = ours.path(names[0]).read_bytes()
        with pytest.raises(CustodyRefused, match="stays in custody unchanged: No space left"):
            ours.hand_back_rewritten(names[0], before[:-5])
        assert ours.path(names[0]).read_bytes() == before
        assert not list(ours.home.glob("*.tmp"))
        assert not any((full_queue_dir / "out").iterdir())
        ours.finish(names[1])
        ours.finish(names[2])
        assert ours.hand_back_rewritten(names[0], before[:-5]).read_bytes() == before[:-5]


def test_rewrite_that_runs_out_of_bytes_half_way_leaves_no_half_file(full_queue_dir: Path) -> None:
    with Custody(full_queue_dir, clock=StoppedClock(time.time())) as ours:
        names = [ours.take("out", listed.file).filebase for listed in list(scan_queue(full_queue_dir / "out"))]
        ours.finish(names[1])
        before = ours.path(names[0]).read_bytes()
        with pytest.raises(CustodyRefused, match="No space left"):
            ours.hand_back_rewritten(names[0], bytes(1_000_000))
        assert ours.path(names[0]).read_bytes() == before
        assert not list(ours.home.glob("*.tmp"))


def test_first_start_on_a_full_disk_says_what_it_needs(small_filesystem: Path) -> None:
    queue_dir = make_queue_dir(small_filesystem / "qfiles")
    fill(small_filesystem)
    with pytest.raises(CustodyRefused, match="five free inodes"):
        Custody(queue_dir, clock=StoppedClock(time.time())).prepare()


def test_restart_on_a_full_disk_takes_the_lock_and_draws_no_new_line(small_filesystem: Path) -> None:
    queue_dir = make_queue_dir(small_filesystem / "qfiles")
    with Custody(queue_dir, clock=StoppedClock(time.time()), scope="backlog", queues=("out", "retry")) as first:
        shutil.copy2(min(GENUINE.glob("*.pck")), queue_dir / "retry")
        (listed,) = scan_queue(queue_dir / "retry")
        kept = first.take("retry", listed.file)
    fill(small_filesystem)
    with Custody(queue_dir, clock=StoppedClock(time.time()), scope="backlog", queues=("out", "retry")) as again:
        assert queue_of(kept.filebase) == "retry" and again.path(kept.filebase).exists()
