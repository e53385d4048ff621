"""The faults of a Mailman 2.1 site: each hurts it so many times, and leaves it as it is.

In    a Site, a Place, how often
Out   how often it was hurt

Nothing here decides whether a promise was kept (start/site.py does).
"""

from __future__ import annotations

import json
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from tests.torture.mta import ROOT, moment, until
from tests.torture.operating import DROPPED_LIST, REFUSED, REFUSING, copy_of, operate, paused, provoke, resumed, taken
from tests.torture.place import Place
from tests.torture.points import ASKED, POINTS, Point
from tests.torture.site import POLICIES, Site

HASTY = dict.fromkeys(("connect_timeout", "command_timeout", "content_timeout", "final_dot_timeout"), "700ms")
"""Timeouts of the MTA, so that a stopped one is stopped for longer."""
STOPPED_S = 1.5


def killed_at_random(site: Site, place: Place, times: int) -> int:
    """kill -9 of the service: while it starts, or when the MTA has been given some more."""
    for number in range(times):
        place.progress(f"service killed at random, {site.policy}", number, times)
        killed_somewhere(site)
    return times


def killed_somewhere(site: Site) -> None:
    """One run of the service, ended at a moment of the seed's choice."""
    chance = site.random
    site.arrive(chance.randrange(3, 9))
    lines, before = chance.randrange(1, 30), site.mta.transactions()
    wanted = before + chance.randrange(1, 6)
    at_start = chance.random() < 0.3
    said = site.said("\n")
    with site.run() as run:
        if at_start:
            moment(lambda: site.said("\n") >= said + lines // 5 + 1 or not run.lives)
        else:
            moment(lambda: site.mta.transactions() >= wanted or not run.lives)
        time.sleep(chance.uniform(0, 0.05))
        run.kill()


def killed_at_points(site: Site, place: Place, times: int) -> int:
    """The service ends itself at every third named point, each policy with another third, so many times round."""
    site.stock.excuse(site.stock.optional, lambda address: f".{DROPPED_LIST}@" in address)
    site.stock.excuse(site.stock.refused, lambda address: address.startswith(REFUSED))
    site.mta.restart(REFUSING)
    injected = 0
    points = [point for point in place.points if point.needs not in ("prune", "via mailman")]
    mine = points[POLICIES.index(site.policy) :: len(POLICIES)] if place.points is POINTS else points
    for point in mine * times:
        place.say(f"service killed, {site.policy}: {point.name}")
        injected += died_at(site, point)
    return injected


def died_at(site: Site, point: Point) -> int:
    """Runs of the service until it has died there. Returns the number of deaths that took."""
    provoke(site)
    deaths = 0
    if point.needs == "after an open attempt":
        with site.run(point=f"ledger.close_attempt {ASKED}") as run:
            operate(site, run, "drain")
            run.died()
        deaths += 1
    with site.run(point=point.name, nth=site.random.randint(1, point.often)) as run:
        operate(site, run, point.needs)
        run.died()
    return deaths + 1


def killed_while_pruning(site: Site, place: Place, times: int) -> int:
    """The service ends itself while it forgets what is old: deliveries in the ledger, files in duplicates/."""
    points = [point for point in place.points if point.needs == "prune"] * times
    for point in points:
        place.say(f"service killed while pruning: {point.name}")
        for name in site.arrive(6)[:2]:
            site.put(name, copy_of(site, name))
        with site.run("--until-empty") as run:
            run.ended()
        grow_old(site, 7200)
        with site.run(point=point.name) as run:
            run.died()
    return len(points)


def grow_old(site: Site, by_s: float) -> None:
    """What the ledger and duplicates/ hold was settled that much earlier, as far as anybody can see."""
    with sqlite3.connect(site.ledger) as ledger:
        ledger.execute("UPDATE deliveries SET at = at - ?", (by_s,))
    ledger.close()


def mta_killed(site: Site, place: Place, times: int) -> int:
    """kill -9 of the MTA with transactions everywhere between MAIL and the last reply, and a new one on its port."""
    with site.running() as run:
        for number in range(times):
            place.progress("MTA killed", number, times)
            given_some(site)
            site.mta.kill()
            site.mta.start()
            until("the MTA is found again", lambda: not run.lives or mta_is(site, "up"))
    return times


def given_some(site: Site) -> None:
    """Until the MTA has some more, with others under way."""
    site.arrive(site.random.randrange(6, 10))
    wanted = site.mta.transactions() + site.random.randrange(1, 6)
    moment(lambda: site.mta.transactions() >= wanted)
    time.sleep(site.random.uniform(0, 0.05))


def mta_is(site: Site, state: str) -> bool:
    said = site.status()
    return said is not None and said.mta.state == state


def mta_stopped(site: Site, place: Place, times: int) -> int:
    """SIGSTOP of the MTA for longer than every timeout; then it goes on with what it had been sent."""
    with site.running() as run:
        for number in range(times):
            place.progress("MTA stopped", number, times)
            given_some(site)
            assert run.lives, site.end_of_log()
            with site.mta.frozen():
                time.sleep(STOPPED_S)
    return times


def service_stopped(site: Site, place: Place, times: int) -> int:
    """SIGSTOP of the service for longer than every timeout; each second time the MTA is gone and back meanwhile."""
    with site.running() as run:
        for number in range(times):
            place.progress("service stopped", number, times)
            given_some(site)
            run.process.send_signal(signal.SIGSTOP)
            time.sleep(STOPPED_S)
            if number % 2:
                site.mta.kill()
                site.mta.start()
            run.process.send_signal(signal.SIGCONT)
            moment(lambda: site.status() is not None, every_s=0.1)
    return times


def killed_while_handing_back(site: Site, place: Place, times: int) -> int:
    """`drainer handback` of everything in the middle of the drain, kill -9 in the middle of that, and everything again."""
    for number in range(times):
        place.progress("killed while everything is handed back", number, times)
        site.arrive(9)
        with site.run() as run:
            moment(lambda: site.status() is not None, every_s=0.1)
            resumed(site)
            given_some(site)
            site.arrive(3)
            paused(site)
            taken(site)
            wanted = site.said("outcome=handed_back") + site.random.randint(1, 3)
            with asked_for(site, "handback"):
                moment(partial(has_said, site, "outcome=handed_back", wanted), 5.0)
                run.kill()
    return times


def has_said(site: Site, words: str, times: int) -> bool:
    return site.said(words) >= times


@contextmanager
def asked_for(site: Site, *command: str) -> Iterator[None]:
    """An operator's command, which runs while the block does."""
    with subprocess.Popen(
        [sys.executable, "-m", "drainer", *command, "--yes", "--config", str(site.settings)],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    ) as asking:  # fmt: skip
        yield
        asking.wait()


def backup_restored(site: Site, place: Place, times: int) -> int:
    """Every entry we ever had comes back under its old name, in the middle of the drain; then kill -9."""
    for number in range(times):
        place.progress("backup restored", number, times)
        with site.run() as run:
            moment(lambda: site.status() is not None, every_s=0.1)
            resumed(site)
            given_some(site)
            for name in site.names:
                if name not in site.gone:
                    site.put(name)
            time.sleep(site.random.uniform(0.0, 1.0))
            run.kill()
    return times


def mailman_restarted(site: Site, place: Place, times: int) -> int:
    """A runner of Mailman's works on out/ beside us, is stopped and started while new mail comes; the service is killed."""
    delivered, stop = site.home / "delivered", site.stock.queue_dir / "stop"
    for number in range(times):
        place.progress("Mailman's runner restarted", number, times)
        command = [sys.executable, "-m", "tests.scenarios.mailman_runner", str(site.out), str(delivered)]
        with site.run_beside_runner() as run:
            given_some(site)
            with subprocess.Popen(command, cwd=ROOT) as runner:
                until("Mailman's runner works", delivered.exists)
                site.arrive(site.random.randrange(6, 12))
                stop.touch()
                runner.wait()
            stop.unlink()
            time.sleep(site.random.uniform(0, 0.2))
            run.kill()
    for handled in map(json.loads, delivered.read_text().splitlines()):
        site.gone.add(f"{handled['filebase']}.pck")
        site.by_another.update((handled["message_id"], address) for address in handled["recipients"])
    return times
