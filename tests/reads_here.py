"""Entries read within the test's process: the reading processes take longer to start than most tests to run."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from drainer.backlog.readers import EntryRead, EntryReaders, read_in_this_process


class ReadsHere(EntryReaders):
    """In place of the processes that read."""

    def start(self) -> None:
        pass

    def read_in_order(self, paths: Iterable[str | Path]) -> Iterator[EntryRead]:
        return (read_in_this_process(os.fspath(path), self._task) for path in paths)
