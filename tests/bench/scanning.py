"""How soon a large backlog is known, beside what no scan can do without; and what an entry costs in small and large ones.

In    entries cloned from a genuine one (4 KB, 20 recipients), the real service (backlog.py)
Out   rows of the table of aims; a plot of cost against size
"""

from __future__ import annotations

import io
import os
import pickle
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from tests.bench.backlog import Measured, measure
from tests.bench.clones import write_clones
from tests.bench.rows import PAIRS, Aim, Row, in_turns

ENTRIES = 100_000
SIZES = (1_000, 10_000, 100_000, 1_000_000)
BASE, MEMORY_BYTES, DEARER = 10_000, 400e6, 1.2
"""Aims of the largest: resident memory of the service, and cost of an entry as a multiple of that in BASE entries."""
_WIDTH = 40


class _Anything:
    """In place of every class."""

    def __new__(cls, *_: object) -> _Anything:
        return object.__new__(cls)

    def __init__(self, *_: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        pass


class _Plain(pickle.Unpickler):
    """What C can do: no name is refused, none is looked up."""

    def find_class(self, module: str, name: str) -> Any:
        return set if name == "set" else _Anything


def plainly_read(directory: Path) -> float:
    """Seconds of reading and unpickling every entry, one after the other."""
    begun_s = time.monotonic()
    with os.scandir(directory) as listing:
        for found in listing:
            octets = io.BytesIO(Path(found.path).read_bytes())
            for _ in range(2):
                _Plain(octets).load()
    return time.monotonic() - begun_s


def listed(directory: Path) -> float:
    """Seconds of one listing, with the size of each file."""
    begun_s = time.monotonic()
    with os.scandir(directory) as listing:
        for found in listing:
            found.stat(follow_symlinks=False)
    return time.monotonic() - begun_s


def scan_rows(home: Path, entries: int = ENTRIES, pairs: int = PAIRS) -> Iterator[Row]:
    queue = home / "queue"
    queue.mkdir()
    write_clones(queue, entries)
    seen: list[Measured] = []

    def ours() -> float:
        seen.append(measure(entries))
        return seen[-1].fingerprinted_s

    found = in_turns(ours, lambda: plainly_read(queue), pairs)
    own, other = median(one for one, _ in found), median(two for _, two in found)
    ratio = median(two / one for one, two in found)
    yield Row(
        f"{entries:,} entries: all fingerprinted", "plainly unpickled in one loop", f"{own:.1f} s", f"{other:.1f} s",
        ratio, Aim(0.5),
    )  # fmt: skip
    figure_s, listed_s = median(one.figure_s for one in seen), median(listed(queue) for _ in range(pairs))
    yield Row(
        "first figure", "listing the directory", f"{figure_s:.1f} s", f"{listed_s:.1f} s", figure_s - listed_s,
        Aim(1.0, "s more", at_most=True),
    )  # fmt: skip


def size_rows(sizes: Sequence[int] = SIZES) -> Iterator[Row]:
    """Prints the plot, too."""
    found = {entries: measure(entries) for entries in sizes}
    largest, base = max(sizes), BASE if BASE in sizes else min(sizes)
    memory, each = found[largest].service_bytes, {entries: _each_us(one) for entries, one in found.items()}
    work = f"{largest:,} entries"
    yield Row(
        work, "memory of the service", f"{memory / 1e6:.0f} MB", "", memory / 1e6, _at_most(MEMORY_BYTES / 1e6, "MB")
    )
    yield Row(
        work, f"CPU of an entry, of {base:,}", f"{each[largest]:.0f} us", f"{each[base]:.0f} us",
        each[largest] / each[base], _at_most(DEARER, "x"),
    )  # fmt: skip
    print(plot(each))


def plot(each_us: Mapping[int, float]) -> str:
    """Cost of an entry, in bars."""
    most = max(each_us.values())
    lines = [
        f"{entries:>10,} {'#' * max(1, round(_WIDTH * cost / most)):{_WIDTH}} {cost:6.0f} us"
        for entries, cost in sorted(each_us.items())
    ]
    return "\n".join(["   entries  CPU time of an entry, service and workers", *lines])


def _each_us(one: Measured) -> float:
    return 1e6 * (one.service_processor_s + one.workers_processor_s) / one.entries


def _at_most(value: float, unit: str) -> Aim:
    return Aim(value, unit, at_most=True)
