"""What the backlog index costs by itself, at any size: `python -m tests.bench.index [ENTRIES...]`.

In    numbers of entries; each is measured in a process of its own
Out   a table: microseconds of CPU per entry, memory that the index takes, size of its file

Entries are listed 250 at a time, described 100 at a time, picked 5 at a time, and finished while up to twenty others are in
delivery, as the stages do it. They have one recipient each, and forty lists.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from drainer.backlog.index import BacklogIndex
from drainer.backlog.values import Description, Order
from drainer.duplicates.fingerprint import Fingerprint
from drainer.duplicates.summary import EntrySummary
from drainer.ledger.evidence import Fate
from drainer.queuedir.entry import Flavour
from drainer.queuedir.filebase import QueueFile, Suffix

SIZES = (1_000, 10_000, 100_000, 1_000_000)
COST_AIM = 1.2
"""Per entry, of what 10,000 entries cost."""
LISTED, DESCRIBED, PICKED, IN_DELIVERY = 250, 100, 5, 20
DRAINED = 20_000
"""So many at most are drained in each order."""
_LISTS, _FIRST_S, _NOW_S, _BYTES = 40, 1_700_000_000.0, 1_900_000_000.0, 4_000


@dataclass(frozen=True, slots=True)
class Measured:
    """Microseconds of CPU per entry; bytes."""

    entries: int
    listing_us: float
    reading_us: float
    oldest_us: float
    fair_us: float
    memory_bytes: int
    file_bytes: int


class _Spent:
    """CPU seconds of what is done in it."""

    def __init__(self) -> None:
        self.s = 0.0

    def __enter__(self) -> None:
        self.s -= time.process_time()

    def __exit__(self, *_: object) -> None:
        self.s += time.process_time()


def measure(entries: int, directory: Path) -> Measured:
    """In this process. directory: for the index."""
    before_bytes = psutil.Process().memory_info().rss
    path = directory / "index.sqlite"
    index, listing, reading = BacklogIndex(path), _Spent(), _Spent()
    for start in range(0, entries, LISTED):
        files = [
            (QueueFile(_when_s(at), _filebase(at), Suffix.WAITING), _BYTES)
            for at in range(start, min(entries, start + LISTED))
        ]
        with listing:
            index.add_listed(files)
    for start in range(0, entries, DESCRIBED):
        some = [_summary(at) for at in range(start, min(entries, start + DESCRIBED))]
        with reading:
            index.unread(DESCRIBED)
            index.related.unrelated(some)
            index.describe(Description(summary, domains=(("example.org", 1),)) for summary in some)
    drained = min(DRAINED, entries // 2)
    oldest_s, fair_s = (_drained_s(index, order, drained) for order in _ORDERS)
    grown = psutil.Process().memory_info().rss - before_bytes
    index.close()
    return Measured(
        entries, 1e6 * listing.s / entries, 1e6 * reading.s / entries, 1e6 * oldest_s / drained, 1e6 * fair_s / drained,
        grown, path.stat().st_size,
    )  # fmt: skip


_ORDERS: tuple[Order, ...] = ("oldest", "fair")


def _drained_s(index: BacklogIndex, order: Order, entries: int) -> float:
    """CPU seconds of the index while so many entries are picked and finished."""
    spent, in_delivery = _Spent(), deque[str]()
    for _ in range(0, entries, PICKED):
        with spent:
            picked = index.order.next_waiting(order, _NOW_S, limit=PICKED)
            index.begin([waiting.filebase for waiting in picked])
        in_delivery.extend(waiting.filebase for waiting in picked)
        with spent:
            while len(in_delivery) > IN_DELIVERY:
                _finish(index, in_delivery.popleft())
    with spent:
        for filebase in in_delivery:
            _finish(index, filebase)
    return spent.s


def _finish(index: BacklogIndex, filebase: str) -> None:
    """What a turn, its settling and the feed ask and change of an entry that was delivered."""
    index.lane_of_original(filebase)
    index.ended_as(filebase, Fate.DELIVERED, 1)
    index.remove(filebase)
    index.state_of(filebase)


def _when_s(at: int) -> float:
    return _FIRST_S + at * 0.25


def _digest(at: int, what: str) -> bytes:
    return hashlib.blake2b(f"{what} {at}".encode(), digest_size=16).digest()


def _filebase(at: int) -> str:
    return f"{_when_s(at)}+{at:040x}"


def _summary(at: int) -> EntrySummary:
    identity = (_digest(at, "body"), _digest(at, "Message-ID"))
    fingerprint = Fingerprint(identity, _digest(at, "resend"), _digest(at, "list"), _digest(at, "copy"))
    return EntrySummary(
        _filebase(at), _when_s(at), Flavour.MAILMAN2, f"list-{at % _LISTS}", f"<{at}@example.org>", "ann@example.org",
        f"The mail of number {at}", _BYTES, 1, _digest(at, "recipient")[:10], False, fingerprint,
    )  # fmt: skip


def in_its_own_process(entries: int) -> Measured:
    """Raises CalledProcessError if that failed."""
    with tempfile.TemporaryDirectory(prefix="drainer-index-") as directory:
        ran = subprocess.run(
            [sys.executable, "-m", "tests.bench.index", "--here", str(entries), directory],
            check=True, capture_output=True, text=True,
        )  # fmt: skip
    return Measured(**json.loads(ran.stdout))


def main(sizes: Iterable[int] = SIZES) -> list[Measured]:
    """Measure and print."""
    print(f"| entries | listed | read | drained, oldest first | drained, fair | memory | file |\n|{'---:|' * 7}")
    found = []
    for entries in sizes:
        one = in_its_own_process(entries)
        found.append(one)
        costs = " | ".join(f"{us:.0f} us" for us in (one.listing_us, one.reading_us, one.oldest_us, one.fair_us))
        print(
            f"| {entries:,} | {costs} | {one.memory_bytes / 1e6:.0f} MB | {one.file_bytes / 1e6:.0f} MB |", flush=True
        )
    return found


if __name__ == "__main__":
    if sys.argv[1:2] == ["--here"]:
        print(json.dumps(asdict(measure(int(sys.argv[2]), Path(sys.argv[3])))))
    else:
        main([int(argument) for argument in sys.argv[1:]] or SIZES)
