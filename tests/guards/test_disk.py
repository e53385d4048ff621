"""A ledger that cannot grow stops feeding; a full queue does not, since draining is what makes room there."""

from __future__ import annotations

import os
from pathlib import Path

from drainer.guards.disk import disk_guards, free_space, load_guard
from drainer.guards.verdict import strictest


def test_enough_space_says_go_with_the_figures(tmp_path: Path) -> None:
    guards = {guard.name: guard for guard in disk_guards(tmp_path / "ledger.sqlite", tmp_path, 1, 0)}
    assert strictest(guards.values()).verdict == "go"
    status = os.statvfs(tmp_path)
    assert (
        guards["ledger_bytes"].value is not None and guards["ledger_bytes"].value <= status.f_blocks * status.f_frsize
    )
    assert not any(guard.reason for guard in guards.values())


def test_short_ledger_stops_and_a_short_queue_only_says_so(tmp_path: Path) -> None:
    guards = {guard.name: guard for guard in disk_guards(tmp_path / "ledger.sqlite", tmp_path, 2**70, 2**60)}
    assert guards["ledger_bytes"].verdict == "stop" and guards["ledger_inodes"].verdict == "stop"
    assert guards["queue_bytes"].verdict == "go" and guards["queue_bytes"].reason
    assert str(tmp_path / "ledger.sqlite") in strictest(guards.values()).reason


def test_ledger_that_is_yet_to_be_made_is_judged_by_its_filesystem(tmp_path: Path) -> None:
    assert free_space(tmp_path / "not" / "yet" / "ledger.sqlite").bytes > 0


def test_filesystem_without_fixed_inodes_has_no_inode_guard() -> None:
    assert free_space(Path("/proc/self")).inodes is None
    assert [guard.name for guard in disk_guards(Path("/proc/self"), Path("/proc/self"), 0, 1)] == [
        "ledger_bytes",
        "queue_bytes",
    ]


def test_load_above_its_limit_slows_and_no_limit_never_does() -> None:
    assert load_guard(0.0).verdict == "go"
    assert load_guard(1e9).verdict == "go"
