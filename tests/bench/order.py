"""What the lane of fresh mail gives and costs, and what a pick takes: `python -m tests.bench.order`.

In    a backlog of Mailman 2.1, the real service, a sink in a thread; fresh mail written into out/ while the backlog drains
Out   a table: how long 95 % of the fresh mail waited, the backlog's speed beside its speed alone, each with its aim; and the
      milliseconds of a pick from 100,000 entries of 1,000 lists
"""

from __future__ import annotations

import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from drainer.backlog.index import BacklogIndex
from drainer.backlog.states import EntryState
from drainer.backlog.values import Order
from drainer.demo.misbehaviour import Behaviour, SinkStep
from drainer.demo.sample_queue import write_plain
from drainer.demo.sink import Sink, SinkThread
from drainer.demo.sink_state import SinkOptions
from tests.backlog.entries import described, listed
from tests.scenarios.running import site_settings

WAIT_AIM_S, SPEED_AIM = 10.0, 0.8
FRESH_SHARE = 0.15
"""Fresh mail that comes, of what the backlog alone has."""
_SETTLING_S = 3.0
_GIVE_UP_AFTER_S = 60.0


@dataclass(frozen=True, slots=True)
class Case:
    """takes_s: what the MTA takes for a message, from the final dot to its reply."""

    name: str
    feed: Mapping[str, Any]
    sessions: int
    takes_s: float
    most_per_s: float


CASES = (
    Case("limit of 50 messages/s", {"messages": "50/s"}, 20, 0.0, 50),
    Case("limit of 20 messages/s", {"messages": "20/s"}, 20, 0.0, 20),
    Case("limit of 2 messages/s", {"messages": "2/s"}, 20, 0.0, 2),
    Case("4 sessions of 200 ms", {"messages": "unlimited"}, 4, 0.2, 20),
)


@dataclass(frozen=True, slots=True)
class Measured:
    """waits_s: of each fresh mail, sorted; infinite for one that did not go. backlog_per_s: transactions of the backlog."""

    waits_s: list[float]
    backlog_per_s: float

    @property
    def waited_s(self) -> float:
        """What 95 % of them waited at most."""
        return self.waits_s[int(0.95 * (len(self.waits_s) - 1))] if self.waits_s else 0.0


def measure(case: Case, seconds: float, fresh_per_s: float) -> Measured:
    """A drain of so many seconds, with fresh mail that comes evenly. Raises RuntimeError if nothing is sent."""
    arriving = round(seconds * fresh_per_s)
    backlog = round(case.most_per_s * (seconds + 10)) + 50
    with tempfile.TemporaryDirectory(prefix="drainer-order-") as directory, _sink(case) as sink:
        home = Path(directory)
        outage = write_plain(home / "site", backlog + arriving, 1, start_s=time.time() - 10 * 86_400)
        out = outage.queue_dir / "out"
        files = sorted(out.iterdir(), key=lambda path: float(path.name.partition("+")[0]))[backlog:]
        contents = [(path.name.partition("+")[2], path.read_bytes()) for path in files]
        for path in files:
            path.unlink()
        mailman = {"flavour": "mailman2", "queue_dir": outage.queue_dir, "lists_dir": outage.lists_dir}
        feed = {"order": "fresh", "adaptive": False, **case.feed}
        settings = site_settings(home, sink.port, mailman, feed=feed, mta={"sessions": case.sessions})
        with (home / "log").open("wb") as log:
            service = subprocess.Popen(
                [sys.executable, "-m", "drainer", "run", "--config", str(settings)], stdout=log, stderr=log
            )
            try:
                return _watched(sink, out, contents, backlog, seconds, fresh_per_s)
            finally:
                service.terminate()
                service.wait()


def _sink(case: Case) -> SinkThread:
    def slow(step: SinkStep) -> Behaviour | None:
        return Behaviour(delay_s=case.takes_s) if step.stage == "dot" and case.takes_s else None

    return SinkThread(SinkOptions(), slow)


def _watched(
    sink: Sink, out: Path, contents: list[tuple[str, bytes]], backlog: int, seconds: float, fresh_per_s: float
) -> Measured:
    deadline_s = time.monotonic() + _GIVE_UP_AFTER_S
    while not sink.taken:
        if time.monotonic() > deadline_s:
            raise RuntimeError("nothing was sent")
        time.sleep(0.05)
    time.sleep(_SETTLING_S)
    begun_s = time.time()
    came_s: list[float] = []
    for number, (digest, content) in enumerate(contents):
        time.sleep(max(0.0, begun_s + number / fresh_per_s - time.time()))
        came_s.append(time.time())
        half_written = out / f"{came_s[-1]!r}+{digest}.tmp"
        half_written.write_bytes(content)
        half_written.rename(half_written.with_suffix(".pck"))
    threading.Event().wait(max(0.0, begun_s + seconds - time.time()))
    ended_s = time.time()
    time.sleep(WAIT_AIM_S if contents else 0.0)
    went_s = {int(one.message_id[1:7]): one.at_s for one in list(sink.taken)}
    of_backlog = sum(serial < backlog and begun_s <= at_s < ended_s for serial, at_s in went_s.items())
    waits_s = sorted(went_s.get(backlog + at, float("inf")) - since_s for at, since_s in enumerate(came_s))
    return Measured(waits_s, of_backlog / (ended_s - begun_s))


def picks(entries: int, lists: int) -> dict[tuple[Order, int], float]:
    """Milliseconds of a pick of 25 entries, by order and the number of lists that are paused."""
    chance, found = random.Random(1), dict[tuple[Order, int], float]()
    with tempfile.TemporaryDirectory(prefix="drainer-order-") as directory:
        index = BacklogIndex(Path(directory) / "index.sqlite")
        for start in range(0, entries, 1000):
            some = [
                described(
                    f"{1000 + number}.5+{number:x}",
                    list_id=f"l{int(chance.paretovariate(0.5)) % lists}.example.org",
                    recipients=chance.randint(1, 40),
                )
                for number in range(start, start + 1000)
            ]
            index.add_listed(listed(*(one.summary.filebase for one in some)))
            index.describe(some)
        orders: tuple[Order, ...] = ("oldest", "fair", "priority")
        for order in orders:
            for paused in (0, 3):
                found[order, paused] = _pick_ms(index, order, frozenset(index.totals.list_ids()[:paused]))
        index.close()
    return found


def _pick_ms(index: BacklogIndex, order: Order, paused: frozenset[str]) -> float:
    took_s, rounds, begun = 0.0, 20, list[str]()
    for _ in range(rounds):
        before_s = time.perf_counter()
        rows = index.order.next_waiting(order, 1e9, paused, 25)
        took_s += time.perf_counter() - before_s
        for row in rows:
            index.set_state(row.filebase, EntryState.ACTIVE)
            begun.append(row.filebase)
    for filebase in begun:
        index.set_state(filebase, EntryState.WAITING)
    return took_s / rounds * 1000


def main(seconds: float = 20.0, entries: int = 100_000) -> None:
    """Measure and print."""
    print(
        f"Fresh mail in its lane (feed.order = fresh), {FRESH_SHARE:.0%} of what the backlog alone has, for {seconds:g} s:"
    )
    for case in CASES:
        alone = measure(case, seconds, 0.0)
        both = measure(case, seconds, FRESH_SHARE * alone.backlog_per_s)
        kept = both.backlog_per_s / alone.backlog_per_s
        print(
            f"  {case.name:24} 95 % of {len(both.waits_s):3} gone within {both.waited_s:5.2f} s (aim {WAIT_AIM_S:g} s);"
            f" backlog at {kept:4.0%} of its {alone.backlog_per_s:.1f}/s (aim {SPEED_AIM:.0%})",
            flush=True,
        )
    print(f"A pick of 25 from {entries:,} entries of 1,000 lists, in milliseconds:")
    for (order, paused), took_ms in picks(entries, 1000).items():
        print(f"  {order:10} {f'{paused} lists paused' if paused else '':16} {took_ms:6.1f}")


if __name__ == "__main__":
    main()
