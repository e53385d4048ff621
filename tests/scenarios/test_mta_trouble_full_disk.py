"""The ledger's filesystem fills up in the middle: sending stops and goes on by itself; a full queue filesystem drains."""

from __future__ import annotations

import errno
import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import pytest

from drainer.demo.misbehaviour import Rule
from drainer.demo.sink import SinkOptions, SinkThread
from drainer.report.snapshot import Snapshot
from tests.scenarios.troubled import given, once, outbreak


@contextmanager
def small_filesystem(directory: Path, options: str) -> Iterator[Path]:
    if os.geteuid() != 0:
        if os.environ.get("CI"):
            pytest.fail("this test mounts a filesystem and has to run as root here")
        pytest.skip("mounts a filesystem: run as root")
    directory.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", directory], check=True)
    try:
        yield directory
    finally:
        subprocess.run(["umount", "--lazy", directory], check=True)


def fill_bytes(file: Path) -> None:
    with file.open("wb", buffering=0) as ballast, pytest.raises(OSError) as full:
        while True:
            ballast.write(bytes(4096))
    assert full.value.errno == errno.ENOSPC


def fill_inodes(directory: Path) -> None:
    with pytest.raises(OSError) as full:
        for number in count():
            (directory / f"inode{number}").touch()
    assert full.value.errno == errno.ENOSPC


@pytest.mark.parametrize("guarded", [True, False], ids=["the_guard_sees_it", "the_commit_fails"])
def test_full_ledger_filesystem_stops_sending_until_there_is_room(tmp_path: Path, guarded: bool) -> None:
    """By the guard while there is some room left (it looks every five seconds); by the first commit that fails once there
    is none."""
    capture = tmp_path / "capture.jsonl"
    with (
        small_filesystem(tmp_path / "small", "size=8m") as small,
        SinkThread(SinkOptions(capture=capture), Rule.parse(f"dot delay={0.35 if guarded else 0.1}")) as sink,
    ):
        site = outbreak(
            tmp_path, sink.port, 60, mta={"sessions": 4},
            ledger={"path": small / "ledger.sqlite", "in_doubt": "hold"},
            guards={"min_free_bytes": "2MiB" if guarded else "0B"},
        )  # fmt: skip
        with site.run("--until-empty") as service:
            site.until("some are delivered", lambda: sink.taken_recipients > 50)
            if guarded:
                (small / "ballast").write_bytes(bytes(os.statvfs(small).f_bavail * os.statvfs(small).f_frsize - 2**20))
            else:
                fill_bytes(small / "ballast")
            said = site.status_when("sending has stopped", lambda said: said.state == "stopped_by_guard")
            assert ("ledger_bytes" if guarded else "full") in said.reason
            assert sink.taken_recipients < sum(site.owed().values())
            (small / "ballast").unlink()
            assert service.wait() == 0, service.log_text()[-4000:]
    once("full ledger", site.owed(), given(capture))
    assert not site.in_doubt() and not site.outcomes("failed")


def test_unreadable_entry_on_a_full_ledger_filesystem_stops_sending_and_not_the_service(tmp_path: Path) -> None:
    capture = tmp_path / "capture.jsonl"
    with (
        small_filesystem(tmp_path / "small", "size=8m") as small,
        SinkThread(SinkOptions(capture=capture)) as sink,
    ):
        site = outbreak(
            tmp_path, sink.port, 5, members_each=3,
            ledger={"path": small / "ledger.sqlite"}, guards={"min_free_bytes": "0B"},
        )  # fmt: skip
        with site.run() as service:
            site.status_when("all is done", lambda said: said.state == "idle")
            broken: list[Path] = []

            def has_stopped(said: Snapshot) -> bool:
                """SQLite may find room for commits in the files it has: one more entry each time, and no room beside."""
                if said.state == "stopped_by_guard":
                    return True
                fill_bytes(small / f"ballast{len(broken)}")
                entry = site.outage.queue_dir / "out" / f"17000{len(broken):05d}.5+{'ab' * 20}.pck"
                entry.with_suffix(".tmp").write_bytes(b"no pickle")
                broken.append(entry.with_suffix(".tmp").rename(entry))
                return False

            site.status_when("sending has stopped", has_stopped)
            for ballast in small.glob("ballast*"):
                ballast.unlink()
            site.status_when("it went on", lambda said: said.state == "idle" and said.backlog.entries == 0)
            assert service.terminate() == 0
        assert {path.read_bytes() for path in (site.outage.queue_dir / "bad").iterdir()} == {b"no pickle"}
        assert len(site.files("bad")) == len(broken)
    once("full ledger", site.owed(), given(capture))


def test_queue_filesystem_without_a_free_inode_or_byte_drains_to_the_end(tmp_path: Path) -> None:
    capture = tmp_path / "capture.jsonl"
    with (
        small_filesystem(tmp_path / "small", "size=8m,nr_inodes=2000") as small,
        SinkThread(SinkOptions(capture=capture)) as sink,
    ):
        site = outbreak(small / "site", sink.port, 60, ledger={"path": tmp_path / "ledger" / "ledger.sqlite"})
        elsewhere = tmp_path / "drainer.toml"
        text = site.settings.read_text().replace(
            json.dumps(str(site.home / "control.sock")), json.dumps(str(tmp_path / "control.sock"))
        )
        elsewhere.write_text(text)
        site.settings = elsewhere
        for name in ("", "backlog", "held", "duplicates"):
            (site.outage.queue_dir / "drainer" / name).mkdir(mode=0o770)
        (site.outage.queue_dir / "drainer" / "lock").touch()
        fill_bytes(small / "ballast")
        fill_inodes(small)
        site.home = tmp_path
        site.drain()
        assert os.statvfs(small).f_ffree >= site.outage.entries - len(site.files("drainer/held", "drainer/duplicates"))
        once("full queue", site.owed(), given(capture))
