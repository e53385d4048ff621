"""python -m tests.estimate.real_drains [KIND...] [--mails N]: how good the finish time is in real drains.

The service drains sample outages into a sink, all kinds side by side, each for some minutes: what it said every second is
compared with its real end. A row per kind: what there was to do, how long it took, how many forecasts were made
from 5 % to 95 % of that time, their mean error relative to what was really left (above zero: too late), the mean of
its size, and how often the interval held; and the same over all.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import socket
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from drainer.demo.sample_queue import LISTS, Outage, _list_config, _Writer, python2_pickle
from drainer.estimate.backtest.replay import FIRST_SHARE, LAST_SHARE
from drainer.estimate.backtest.scores import Forecast, Score, score
from drainer.report.snapshot import Snapshot
from tests.scenarios.running import running_sink, site_settings
from tests.scenarios.troubled import Outbreak, outbreak

EVERY_S = 1.0
"""How often the service is asked."""
GIVEN_UP_AFTER_S = 1800.0

Site = Callable[[Path, int, int, dict[str, dict[str, Any]]], Outbreak]
"""(directory, port, mails, settings by section) to a site."""


def sample(home: Path, port: int, mails: int, sections: dict[str, dict[str, Any]]) -> Outbreak:
    """Resubmissions, restored entries, resends, cross-posts; bulk lists of 4 to 20 members."""
    return outbreak(home, port, mails, 12, **sections)


def personal(home: Path, port: int, mails: int, sections: dict[str, dict[str, Any]]) -> Outbreak:
    """The same, and the largest list personalised: a transaction for each recipient."""
    site = sample(home, port, mails, sections)
    name = LISTS[-1]
    members = sorted({recipient for (of, _), owed in site.outage.owed.items() if of == name for recipient in owed})
    config = _list_config(name, members) | {"personalize": 1}
    (site.outage.lists_dir / name / "config.pck").write_bytes(python2_pickle(config))
    return site


def large_later(home: Path, port: int, mails: int, sections: dict[str, dict[str, Any]]) -> Outbreak:
    """Mails of every size, the newer half of them five times as large."""
    home.mkdir(exist_ok=True)
    outage = Outage(queue_dir=home / "qfiles", lists_dir=home / "lists")
    outage.make_queues()
    writer = _Writer(outage, 2014, time.time() - 100_000)
    name, chance = LISTS[0], random.Random(7)
    writer.make_list(name, 4)
    for serial in range(mails):
        octets = chance.lognormvariate(9.5, 0.8) * (5 if serial >= mails / 2 else 1)
        received_s = writer.tick()
        text = "ann@example.org", f"Mail {serial}", f"{'x' * 70}\n" * int(octets / 71)
        writer.write(name, f"<{serial}.large@example.org>", received_s, text, writer.members[name], received_s)
    mailman = {"flavour": "mailman2", "queue_dir": outage.queue_dir, "lists_dir": outage.lists_dir}
    return Outbreak(home, outage, site_settings(home, port, mailman, **sections))


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of drain.

    mails     originals; the others come on top
    line_bps  octets per second that pass between the service and the sink; 0: as many as there are
    """

    what: str
    mails: int
    settings: dict[str, dict[str, Any]]
    rules: tuple[str, ...] = ()
    site: Site = sample
    line_bps: int = 0


KINDS = {
    "messages": Kind("limit on messages", 230, {"feed": {"messages": "4/s", "adaptive": True}}),
    "personal": Kind(
        "limit on messages, one list personalised", 90, {"feed": {"messages": "4/s", "adaptive": True}}, site=personal
    ),
    "recipients": Kind("limit on recipients", 230, {"feed": {"recipients": "20/s", "adaptive": True}}),
    "slow MTA": Kind(
        "no limit, two sessions, 500 ms a transaction",
        260,
        {"feed": {"adaptive": True}, "mta": {"sessions": 2}},
        ("dot delay=0.5",),
    ),
    "domain": Kind("ceiling of a domain", 150, {"feed": {"messages": "5/s", "domains": {"example.org": "2/s"}}}),
    "line": Kind(
        "no limit, a slow line, large mails later", 300, {"mta": {"sessions": 4}}, site=large_later, line_bps=100_000
    ),
}


@dataclass(slots=True)
class WatchedDrain:
    """The forecasts of one drain, and its real end (seconds since the epoch)."""

    kind: str
    begun_s: float
    end_s: float = 0.0
    recipients: int = 0
    forecasts: list[Forecast] = field(default_factory=list)

    @property
    def counted(self) -> list[Forecast]:
        took_s = self.end_s - self.begun_s
        from_s, to_s = self.begun_s + FIRST_SHARE * took_s, self.begun_s + LAST_SHARE * took_s
        return [one for one in self.forecasts if from_s <= one.t_s <= to_s]

    @property
    def errors(self) -> list[float]:
        """Errors relative to the time really left; above zero: the drain ended sooner than forecast."""
        return [one.seconds / (self.end_s - one.t_s) - 1 for one in self.counted]

    @property
    def score(self) -> Score:
        return score(self.counted, self.end_s)


def drain(name: str, home: Path, mails: int | None = None) -> WatchedDrain:
    """One real drain of this kind, from the start of the service to the end. Raises TimeoutError."""
    kind = KINDS[name]
    home.mkdir(parents=True, exist_ok=True)
    rules = [word for rule in kind.rules for word in ("--rule", rule)]
    with running_sink(home / "sink", *rules) as sink, _line(sink.port, kind.line_bps) as port:
        site = kind.site(home / "site", port, mails or kind.mails, kind.settings)
        with site.run() as service:
            watched = _watched(name, site)
            service.terminate()
    return watched


def _watched(name: str, site: Outbreak) -> WatchedDrain:
    watched = WatchedDrain(name, time.time())
    while time.time() - watched.begun_s < GIVEN_UP_AFTER_S:
        snapshot = site.status()
        if snapshot is not None:
            watched.recipients = max(watched.recipients, snapshot.backlog.recipients)
            if snapshot.eta.state == "done" and snapshot.done.transactions:
                watched.end_s = snapshot.at
                return watched
            watched.forecasts += _forecast(snapshot)
        time.sleep(EVERY_S)
    raise TimeoutError(f"{name}: not drained after {GIVEN_UP_AFTER_S:.0f} s")


def _forecast(snapshot: Snapshot) -> Iterator[Forecast]:
    eta = snapshot.eta
    if eta.state == "draining" and eta.seconds is not None and eta.low_s is not None and eta.high_s is not None:
        yield Forecast(snapshot.at, eta.seconds, eta.low_s, eta.high_s)


def _line(port: int, bps: int) -> AbstractContextManager[int]:
    return _slow_line(port, bps) if bps else nullcontext(port)


@contextmanager
def _slow_line(port: int, bps: int) -> Iterator[int]:
    """A port on loopback through which so many octets per second, of all connections together, reach the sink's."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        loop = asyncio.new_event_loop()
        free_at_s = 0.0

        async def passed(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, is_slow: bool) -> None:
            nonlocal free_at_s
            while data := await reader.read(4096):
                if is_slow:
                    now_s = loop.time()
                    free_at_s = max(free_at_s, now_s) + len(data) / bps
                    await asyncio.sleep(free_at_s - now_s)
                writer.write(data)
                await writer.drain()
            writer.close()

        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            there_reader, there_writer = await asyncio.open_connection("127.0.0.1", port)
            both = passed(reader, there_writer, True), passed(there_reader, writer, False)
            await asyncio.gather(*both, return_exceptions=True)

        async def serve() -> None:
            await asyncio.start_server(connected, sock=listening)

        loop.run_until_complete(serve())
        running = threading.Thread(target=loop.run_forever)
        running.start()
        try:
            yield int(listening.getsockname()[1])
        finally:
            loop.call_soon_threadsafe(loop.stop)
            running.join()


def table(drains: Sequence[WatchedDrain]) -> str:
    rows = [("drain", "recipients", "took", "forecasts", "mean error", "size of it", "held")]
    for watched in drains:
        took = f"{watched.end_s - watched.begun_s:.0f} s"
        rows.append((KINDS[watched.kind].what, f"{watched.recipients:,}", took, *_figures([watched])))
    rows.append(("all", "", "", *_figures(drains)))
    widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]))]
    return "\n".join(
        "  ".join(
            [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        )
        for row in rows
    )


def _figures(drains: Sequence[WatchedDrain]) -> tuple[str, str, str, str]:
    errors = [error for watched in drains for error in watched.errors]
    if not errors:
        return "0", "-", "-", "-"
    held = sum((watched.score.coverage or 0.0) * len(watched.counted) for watched in drains) / len(errors)
    sizes = statistics.fmean(map(abs, errors))
    return str(len(errors)), f"{statistics.fmean(errors):+.1%}", f"{sizes:.1%}", f"{held:.0%}"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.estimate.real_drains", description=__doc__)
    parser.add_argument("kinds", nargs="*", metavar="KIND", help=f"of {', '.join(KINDS)}; none: all of them")
    parser.add_argument("--mails", type=int, help="original mails of each drain")
    parser.add_argument("--keep", type=Path, help="directory for the sites and logs")
    asked = parser.parse_args()
    names = asked.kinds or list(KINDS)
    if unknown := set(names) - KINDS.keys():
        parser.error(f"{', '.join(sorted(unknown))}: right would be {', '.join(KINDS)}")
    with tempfile.TemporaryDirectory(prefix="real-drains-") as directory:
        home = asked.keep or Path(directory)
        with ThreadPoolExecutor(len(names)) as threads:
            made = [threads.submit(drain, name, home / name.replace(" ", "-"), asked.mails) for name in names]
            print(table([one.result() for one in made]))


if __name__ == "__main__":
    main()
