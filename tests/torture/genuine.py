"""The faults of a site of a genuine Mailman 3: its co-processes, its own outgoing runner.

In    a Site, a Place, how often
Out   how often it was hurt
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from tests.mailman3.site import Site as Mailman3
from tests.scenarios.running import children_named
from tests.scenarios.test_via_mailman import outgoing_runner
from tests.torture.mta import SLOW, moment, until
from tests.torture.operating import operate
from tests.torture.place import Place
from tests.torture.site import Run, Site
from tests.torture.wounds import given_some

_KILLED_IN_A_RUN = 4


def composers_killed(site: Site, place: Place, times: int) -> int:
    """kill -9 of the co-processes that compose for Mailman 3, and now and then of the service."""
    killed = 0
    while killed < times:
        with site.run() as run:
            until("it composes", lambda: composers_of(run) and site.status(), 240)
            for _ in range(min(_KILLED_IN_A_RUN, times - killed)):
                place.progress("Mailman 3's co-processes killed", killed, times)
                site.arrive(3)
                moment(lambda: bool(composers_of(run)))
                time.sleep(site.random.uniform(0, 0.2))
                doomed = composers_of(run)[: site.random.randint(1, 2)]
                for process in doomed:
                    with suppress(psutil.NoSuchProcess):  # one that has just been ended by itself
                        process.kill()
                killed += bool(doomed)
            run.kill()
    return killed


def composers_of(run: Run) -> list[psutil.Process]:
    return children_named(run.process.pid, "serve.py")


def runner_restarted(site: Site, place: Place, times: int) -> int:
    """Mailman's own outgoing runner beside us, into the same MTA; it is restarted, and the service killed."""
    for number in range(times):
        place.progress("genuine Mailman 3 restarted", number, times)
        with site.run() as run, outgoing_runner(mailman3_of(site), site.mta.port):
            for _ in range(3):
                given_some(site)
            run.kill()
    return times


def killed_via_mailman(site: Site, place: Place, times: int) -> int:
    """feed.via = "mailman": the service ends itself while Mailman's runner delivers what it released, keeps some of it for
    later and wants to try it again. Then all of it is drained, while that runner runs."""
    wanted = ("split_attempt", "take_back", "hand_back ", "open_attempt", "close_attempt")
    points = [point for point in place.points if any(name in point.name for name in wanted)] * times
    mailman3 = mailman3_of(site)
    site.mta.restart((*SLOW, "rcpt 451 4.2.1 later every=5"))
    with outgoing_runner(mailman3, site.mta.port), retried(site.stock.queue_dir):
        for point in points:
            place.say(f"service killed, via Mailman: {point.name}")
            site.arrive(1)
            with site.run(point=point.name) as run:
                operate(site, run, "via mailman")
                run.died()
    site.mta.restart(rules=())
    with outgoing_runner(mailman3, site.mta.port), retried(site.stock.queue_dir):
        site.drain(restart_mta=False)
    return len(points)


@contextmanager
def retried(queue_dir: Path) -> Iterator[None]:
    """What Mailman's RetryRunner does every 15 minutes, at every glance."""
    over = threading.Event()

    def move() -> None:
        while not over.wait(1.0):
            for waiting in (queue_dir / "retry").glob("*.pck"):
                waiting.rename(queue_dir / "out" / waiting.name)

    mover = threading.Thread(target=move)
    mover.start()
    try:
        yield
    finally:
        over.set()
        mover.join()


def mailman3_of(site: Site) -> Mailman3:
    assert site.stock.mailman3 is not None
    return site.stock.mailman3
