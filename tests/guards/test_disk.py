"""A ledger that cannot grow stops feeding; a full queue does not, since draining is what makes room there."""

from __future__ import annotations

import os
from pathlib import Path

from drainer.guards.disk import Places, disk_guards, free_space
from drainer.guards.verdict import strictest


def test_enough_space_says_go_with_the_figures(tmp_path: Path) -> None:
    guards = {guard.name: guard for guard in disk_guards(Places(tmp_path / "ledger.sqlite", tmp_path), 1, 0)}
    assert strictest(guards.values()).verdict == "go"
    status = os.statvfs(tmp_path)
    assert (
        guards["ledger_bytes"].value is not None and guards["ledger_bytes"].value <= status.f_blocks * status.f_frsize
    )
    assert not any(guard.reason for guard in guards.values())


def test_short_ledger_stops_and_a_short_queue_only_says_so(tmp_path: Path) -> None:
    guards = {guard.name: guard for guard in disk_guards(Places(tmp_path / "ledger.sqlite", tmp_path), 2**70, 2**60)}
    assert guards["ledger_bytes"].verdict == "stop" and guards["ledger_inodes"].verdict == "stop"
    assert guards["queue_bytes"].verdict == "go" and guards["queue_bytes"].reason
    assert str(tmp_path / "ledger.sqlite") in strictest(guards.values()).reason


def test_ledger_that_is_yet_to_be_made_is_judged_by_its_filesystem(tmp_path: Path) -> None:
    assert free_space(tmp_path / "not" / "yet" / "ledger.sqlite").bytes > 0


def test_filesystem_without_fixed_inodes_has_no_inode_guard() -> None:
    assert free_space(Path("/proc/self")).inodes is None
    assert [guard.name for guard in disk_guards(Places(Path("/proc/self"), Path("/proc/self")), 0, 1)] == [
        "ledger_bytes",
        "queue_bytes",
    ]


def test_filesystem_that_the_ledger_is_on_too_is_judged_once_and_another_one_by_itself(tmp_path: Path) -> None:
    here = Places(tmp_path / "ledger.sqlite", tmp_path, tmp_path / "state", tmp_path / "spool")
    names = {guard.name.rpartition("_")[0] for guard in disk_guards(here, 1, 1)}
    assert names == {"ledger", "queue"}
    elsewhere = Places(tmp_path / "ledger.sqlite", tmp_path, Path("/proc/self"), Path("/proc/self/fd"))
    found = {guard.name: guard for guard in disk_guards(elsewhere, 1, 1)}
    assert (found["state_bytes"].verdict, found["mta_spool_bytes"].verdict) == ("stop", "stop"), "/proc has no room"
    assert "/proc/self/fd" in found["mta_spool_bytes"].reason


def test_room_just_regained_does_not_let_go_at_once(tmp_path: Path) -> None:
    places = Places(tmp_path / "ledger.sqlite", tmp_path)
    free = free_space(tmp_path).bytes
    stopped = disk_guards(places, int(free / 1.1), 0, {"ledger_bytes": "stop"})[0]
    assert (stopped.name, stopped.verdict) == ("ledger_bytes", "stop") and "ends from" in stopped.reason
    assert disk_guards(places, int(free / 1.1), 0)[0].verdict == "slow", "less than twice the limit"
    assert disk_guards(places, int(free / 3), 0)[0].verdict == "go"
