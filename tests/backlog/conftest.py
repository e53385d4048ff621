"""The queue directories of tests/queuedir, for the index that is made of them; an index of its own for each test."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from drainer.backlog.index import BacklogIndex
from tests.queuedir.conftest import genuine_queue_dir, queue_dir, small_filesystem

__all__ = ["genuine_queue_dir", "queue_dir", "small_filesystem"]


@pytest.fixture
def index(tmp_path: Path) -> Iterator[BacklogIndex]:
    made = BacklogIndex(tmp_path / "index.sqlite")
    yield made
    made.close()
