"""python -m tests.bench [PART...]: how fast, beside others and beside the aims; no name: all of them but `size`.

The parts of the table of aims are measured in one run, ours and the peer in turns. Judge them on a machine that does nothing
else. Each of the other parts prints a table of its own, with its aims.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from tests.bench import bearing, behind, index, order, starting
from tests.bench.commits import commit_rows
from tests.bench.into_postfix import postfix_rows
from tests.bench.into_sink import Scale, link_rows, mailman2_rows, mailman3_rows
from tests.bench.quiet_and_busy import Loads, answer_rows, idle_rows
from tests.bench.rows import Row, table
from tests.bench.scanning import scan_rows, size_rows

Rows = Callable[[Path], Iterator[Row]]

AIMS: Mapping[str, Rows] = {
    "postfix": lambda home: postfix_rows(home, Scale()),
    "mailman3": lambda home: mailman3_rows(home, Scale()),
    "mailman2": lambda home: mailman2_rows(home, Scale()),
    "link": lambda home: link_rows(home, Scale()),
    "commits": lambda home: commit_rows(home, Scale()),
    "scan": scan_rows,
    "idle": lambda home: idle_rows(home, Loads()),
    "answers": lambda home: answer_rows(home, Loads()),
}
"""Parts of the table of aims."""
BY_NAME: Mapping[str, Rows] = {"size": lambda _: size_rows()}
"""Measured only if they are named: a million entries take 8 GB of disk, and half an hour."""
OTHERS: Mapping[str, Callable[[], object]] = {
    "bearing": bearing.main,
    "starting": starting.main,
    "index": index.main,
    "behind": behind.main,
    "order": order.main,
}


def rows(parts: Mapping[str, Rows]) -> Iterator[Row]:
    """Of these parts, each in a directory that is removed after it."""
    for part in parts.values():
        home = Path(tempfile.mkdtemp(prefix="drainer-bench-"))
        try:
            yield from part(home)
        finally:
            shutil.rmtree(home, ignore_errors=True)


def main(names: list[str]) -> None:
    if unknown := set(names) - {*AIMS, *BY_NAME, *OTHERS}:
        sys.exit(f"unknown: {', '.join(unknown)}; right would be {', '.join([*AIMS, *BY_NAME, *OTHERS])}")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was started is ended
    parts = {name: part for name, part in {**AIMS, **BY_NAME}.items() if name in (names or AIMS)}
    if parts:
        load = os.getloadavg()[0]
        print(f"{os.cpu_count()} CPUs, load average {load:.2f} at the start.")
        if load > 1:
            print("WARNING: something else is busy on this machine; what depends on time is too low.")
        for line in table(rows(parts)):
            print(line, flush=True)
    for name, other in OTHERS.items():
        if name in (names or OTHERS):
            print()
            other()


if __name__ == "__main__":
    main(sys.argv[1:])
