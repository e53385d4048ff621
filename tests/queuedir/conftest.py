"""A Mailman queue directory filled with genuine entries of Mailman 2.1, and a small filesystem to fill up."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

GENUINE = Path(__file__).parents[1] / "samples" / "mailman2" / "qfiles" / "resubmission"
QUEUES = ("archive", "bad", "bounces", "commands", "in", "news", "out", "retry", "shunt", "virgin")


def make_queue_dir(directory: Path) -> Path:
    for name in QUEUES:
        (directory / name).mkdir(parents=True)
    return directory


@pytest.fixture
def queue_dir(tmp_path: Path) -> Path:
    return make_queue_dir(tmp_path / "qfiles")


@pytest.fixture
def genuine_queue_dir(queue_dir: Path) -> Path:
    """With the 184 entries of the resubmission set in out/, one of them a .bak."""
    for entry in GENUINE.iterdir():
        shutil.copy2(entry, queue_dir / "out")
    return queue_dir


def need_root() -> None:
    if os.geteuid() != 0:
        if os.environ.get("CI"):
            pytest.fail("this test mounts a filesystem and has to run as root here")
        pytest.skip("mounts a filesystem: run as root")


@pytest.fixture
def small_filesystem(tmp_path: Path) -> Iterator[Path]:
    """An own filesystem of 400 inodes and 4 MiB. Needs root."""
    need_root()
    directory = tmp_path / "small"
    directory.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m,nr_inodes=400", "none", directory], check=True)
    yield directory
    subprocess.run(["umount", directory], check=True)
