"""Which writes share a commit, on a disk that takes as long as a test says."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from drainer.clock import StoppedClock
from drainer.errors import LedgerNotDurable
from drainer.ledger import group_commit
from drainer.ledger.gathering import LOOK_EVERY_S
from drainer.ledger.group_commit import GroupCommit

AN_HOUR_S = 3600.0


class Disk:
    """Writes numbers. Each commit waits for `go_on`, and then has taken `takes_s`."""

    def __init__(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self.connection.execute("CREATE TABLE numbers (number INTEGER)")
        self.groups: list[list[int]] = []
        self.written: list[int] = []
        self.takes_s = 0.0
        self.is_full = False
        self._go_on = threading.Semaphore(0)
        self.clock = StoppedClock()
        self.commits = GroupCommit(
            self.connection,
            after_begin=lambda: None,
            before_commit=lambda: None,
            forget=self.written.clear,
            translate=lambda exc: LedgerNotDurable(str(exc)),
            clock=self.clock,
        )
        real = GroupCommit._finish

        def finish(commits: GroupCommit) -> None:
            self._go_on.acquire()
            if self.is_full:
                raise LedgerNotDurable("disk full")
            self.groups.append([*self.written])
            self.written.clear()
            real(commits)
            self.clock.advance(self.takes_s)

        monkeypatch.setattr(GroupCommit, "_finish", finish)

    def go_on(self, commits: int = 1) -> None:
        self._go_on.release(commits)

    def write(self, number: int, then: Callable[[], None] = lambda: None) -> asyncio.Task[int]:
        def change() -> int:
            then()
            self.connection.execute("INSERT INTO numbers VALUES (?)", (number,))
            self.written.append(number)
            return number

        return asyncio.ensure_future(self.commits.write(change))

    def numbers(self) -> list[int]:
        return [number for (number,) in self.connection.execute("SELECT number FROM numbers ORDER BY number")]


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Disk]:
    disk = Disk(tmp_path / "numbers.sqlite", monkeypatch)
    yield disk
    disk.connection.close()


async def turns() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_what_is_asked_for_while_a_commit_runs_is_committed_together_next(disk: Disk) -> None:
    first = disk.write(0)
    await turns()
    others = [disk.write(number) for number in (1, 2, 3)]
    await turns()
    disk.go_on(2)
    assert await asyncio.gather(first, *others) == [0, 1, 2, 3]
    assert disk.groups == [[0], [1, 2, 3]]
    await disk.commits.close()


async def test_group_waits_for_most_of_those_who_were_answered_and_for_no_more(disk: Disk) -> None:
    """However long a commit took: it begins when they are there."""
    disk.takes_s = AN_HOUR_S
    disk.go_on()
    await asyncio.gather(*(disk.write(number) for number in range(4)))
    late = [disk.write(4)]
    await turns()
    late.append(disk.write(5))
    await turns()
    assert disk.groups == [[0, 1, 2, 3]]
    assert not disk.connection.in_transaction
    late.append(disk.write(6))
    disk.go_on()
    assert await asyncio.gather(*late) == [4, 5, 6]
    assert disk.groups == [[0, 1, 2, 3], [4, 5, 6]]
    await disk.commits.close()


async def test_group_is_not_idle_for_longer_than_a_commit_takes(disk: Disk) -> None:
    disk.takes_s = 2 * LOOK_EVERY_S
    disk.go_on(2)
    await asyncio.gather(*(disk.write(number) for number in range(20)))
    late, began_s = disk.write(20), disk.clock.monotonic_s()
    while not late.done():
        await asyncio.sleep(0.001)
        if not disk.connection.in_transaction and len(disk.groups) == 1:
            disk.clock.advance(LOOK_EVERY_S / 4)
    assert await late == 20
    assert disk.clock.monotonic_s() - began_s <= 2 * disk.takes_s + LOOK_EVERY_S
    await disk.commits.close()
    assert disk.groups == [[*range(20)], [20]]


async def test_single_writer_never_waits_for_another(disk: Disk) -> None:
    disk.takes_s = AN_HOUR_S
    disk.go_on(3)
    for number in range(3):
        assert await disk.write(number) == number
    await disk.commits.close()
    assert disk.groups == [[0], [1], [2]]


async def test_change_that_raises_fails_its_own_caller_only(disk: Disk) -> None:
    def refuse() -> None:
        raise ValueError("senseless")

    disk.go_on()
    writes = [disk.write(1), disk.write(2, refuse), disk.write(3)]
    results = await asyncio.gather(*writes, return_exceptions=True)
    assert [results[0], str(results[1]), results[2]] == [1, "senseless", 3]
    assert (disk.groups, disk.numbers()) == ([[1, 3]], [1, 3])
    await disk.commits.close()


async def test_commit_that_fails_fails_its_group_and_the_next_one_is_made(disk: Disk) -> None:
    disk.is_full = True
    disk.go_on()
    results = await asyncio.gather(disk.write(1), disk.write(2), return_exceptions=True)
    assert [str(result) for result in results] == ["disk full", "disk full"]
    disk.is_full = False
    disk.go_on()
    assert await disk.write(3) == 3
    assert disk.numbers() == [3]
    await disk.commits.close()


async def test_close_does_not_wait_for_those_who_may_come(disk: Disk) -> None:
    disk.takes_s = AN_HOUR_S
    disk.go_on(2)
    await asyncio.gather(*(disk.write(number) for number in range(8)))
    late = disk.write(8)
    await turns()
    await disk.commits.close()
    assert await late == 8


async def test_close_commits_what_is_queued_and_takes_no_more(disk: Disk) -> None:
    disk.takes_s = 0.001
    writes = [disk.write(number) for number in range(3)]
    await turns()
    writes += [disk.write(number) for number in (3, 4)]
    disk.go_on(2)
    await asyncio.gather(disk.commits.close(), *writes)
    assert disk.numbers() == [0, 1, 2, 3, 4]
    with pytest.raises(LedgerNotDurable, match="closed"):
        await disk.write(5)


async def test_write_that_is_cancelled_before_its_turn_is_not_made(disk: Disk) -> None:
    first = disk.write(0)
    await turns()
    cancelled, other = disk.write(1), disk.write(2)
    await turns()
    cancelled.cancel()
    disk.go_on(2)
    await asyncio.gather(first, other)
    assert disk.numbers() == [0, 2]
    await disk.commits.close()


async def test_write_waits_for_another_writer_also_after_an_earlier_one_has_waited_in_vain(
    disk: Disk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(group_commit, "_BUSY_TRIES", 3)
    file = tmp_path / "numbers.sqlite"
    disk.connection.execute("PRAGMA busy_timeout = 0")
    other = sqlite3.connect(file, isolation_level=None)
    try:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(LedgerNotDurable, match="locked"):
            await disk.write(1)
        second = disk.write(2)
        await turns()
    finally:
        other.close()
    disk.go_on()
    assert await second == 2
