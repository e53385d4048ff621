"""Settled entries leave the disk in a thread: the event loop goes on, whatever the disk does, and every error comes back."""

from __future__ import annotations

import asyncio
import errno
import os
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from drainer.clock import SystemClock
from drainer.errors import CustodyRefused
from drainer.queuedir.custody import Custody
from drainer.queuedir.filebase import QueueFile, Suffix
from drainer.queuedir.scan import scan_queue


def filled(queue_dir: Path, entries: int) -> tuple[Custody, list[str]]:
    names = [f"{1.7e9 + number}+{number:040x}" for number in range(entries)]
    ours = Custody(queue_dir, clock=SystemClock())
    ours.prepare()
    for name in names:
        (queue_dir / "out" / f"{name}.pck").write_bytes(b"mail")
    for listed in list(scan_queue(queue_dir / "out")):
        ours.take("out", listed.file)
    return ours, names


class Disk:
    """`os.unlink` of these names waits until the disk answers."""

    def __init__(self, patch: pytest.MonkeyPatch, slow: str) -> None:
        self.asked, self.answers = threading.Event(), threading.Event()
        unlink = os.unlink

        def unlinks(path: str, **named: Any) -> None:
            if slow in os.fspath(path):
                self.asked.set()
                assert self.answers.wait(60)
            unlink(path, **named)

        patch.setattr(os, "unlink", unlinks)


async def test_entries_are_off_the_disk_once_their_futures_are_done(queue_dir: Path) -> None:
    ours, names = filled(queue_dir, 200)
    with closing(ours):
        assert all(await asyncio.gather(*(ours.finish_later(name) for name in names)))
        assert not any(ours.backlog.iterdir())
        assert await ours.finish_later(names[0]) is False, "it was gone already"


async def test_loop_goes_on_while_the_disk_does_not_answer_and_what_gathers_goes_after(
    queue_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, names = filled(queue_dir, 50)
    disk = Disk(monkeypatch, names[0])
    with closing(ours):
        futures = [ours.finish_later(name) for name in names]
        assert await asyncio.to_thread(disk.asked.wait, 60)
        for _ in range(100):
            await asyncio.sleep(0)
        assert not any(future.done() for future in futures) and (ours.backlog / f"{names[0]}.pck").exists()
        disk.answers.set()
        assert all(await asyncio.gather(*futures))


async def test_refusal_of_the_filesystem_reaches_whoever_waits_for_that_entry_and_no_other(
    queue_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, names = filled(queue_dir, 3)
    unlink = os.unlink

    def read_only(path: str, **named: Any) -> None:
        if names[1] in os.fspath(path):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), path)
        unlink(path, **named)

    with closing(ours):
        monkeypatch.setattr(os, "unlink", read_only)
        found = await asyncio.gather(*map(ours.finish_later, names), return_exceptions=True)
        assert (found[0], found[2]) == (True, True)
        assert isinstance(found[1], CustodyRefused) and "Read-only file system" in str(found[1])
        assert [path.stem for path in ours.backlog.iterdir()] == [names[1]]


async def test_close_waits_for_what_was_begun_also_if_its_caller_has_left(
    queue_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, names = filled(queue_dir, 20)
    disk = Disk(monkeypatch, names[0])
    futures = [ours.finish_later(name) for name in names]
    assert await asyncio.to_thread(disk.asked.wait, 60)
    for future in futures[10:]:
        future.cancel()
    threading.Timer(0.05, disk.answers.set).start()
    ours.close()
    assert not any(ours.backlog.iterdir())
    assert all([await future for future in futures[:10]])


async def test_claimed_and_held_entries_are_found_too(queue_dir: Path) -> None:
    ours, names = filled(queue_dir, 2)
    with closing(ours):
        ours.hold(names[0])
        (ours.backlog / f"{names[1]}.pck").rename(ours.backlog / f"{names[1]}.bak")
        assert [await ours.finish_later(name) for name in names] == [True, True]
        assert not any((*ours.backlog.iterdir(), *ours.held.iterdir()))


async def test_entry_whose_file_goes_later_can_be_taken_again_under_another_name_meanwhile(
    queue_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A backup that is restored in that moment: neither file is mistaken for the other."""
    ours, (name,) = filled(queue_dir, 1)
    disk = Disk(monkeypatch, f"backlog/{name}")
    with closing(ours):
        gone = ours.finish_later(name)
        assert await asyncio.to_thread(disk.asked.wait, 60)
        (queue_dir / "out" / f"{name}.pck").write_bytes(b"restored")
        again = ours.take("out", QueueFile(1.7e9, name, Suffix.WAITING))
        disk.answers.set()
        assert await gone
        assert [path.name for path in ours.backlog.iterdir()] == [again.name] != [f"{name}.pck"]
