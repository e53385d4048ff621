"""The faults: each hurts a site of its own, `times` times, lets it drain to the end, and has it judged.

In    a Field: where, the seed, how patient
Out   Rows for the table

Nothing here decides whether a promise was kept (site.py does).
"""

from __future__ import annotations

import json
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from drainer.control.messages import PauseRequest, ResumeRequest, Selectors, SelectRequest
from drainer.demo.sample_queue import write_outage, write_plain
from tests.mailman3.site import Site as Mailman3
from tests.scenarios.test_mailman3_into_postfix import owed_by
from tests.scenarios.test_via_mailman import outgoing_runner
from tests.torture.mta import SLOW, until
from tests.torture.points import ASKED, POINTS, Point
from tests.torture.site import Judgement, Policy, Run, Site, Stock, stock_of

HASTY = dict.fromkeys(("connect_timeout", "command_timeout", "content_timeout", "final_dot_timeout"), "700ms")
"""Timeouts of the MTA, so that a frozen one is frozen for longer."""
FROZEN_S = 1.5
_MOMENT_WITHIN_S = 90.0
_POINT_WITHIN_S = 300.0
_ACTION_PAUSE_S = 0.1

REFUSING = (*SLOW, "rcpt 550 5.1.1 no such user recipient=bela1.[ch]*", "rcpt 450 4.2.0 later recipient=cem2.[ch]*")
"""Of the lists choir and harbour one member is refused for good, one for now."""
_REFUSED = "bela1."
_DROPPED_LIST, _UNHARMED_LIST = "announce", b"<night-sky.lists.example.org>"


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table."""

    fault: str
    injected: int
    found: Judgement
    where: Path


@dataclass(slots=True)
class Field:
    """Where stories take place.

    home      an empty directory; a site each in it
    patient   see Site
    mailman3  makes a copy of a genuine Mailman 3 site, its entries in out/; None: there is none
    """

    home: Path
    seed: int
    patient: bool
    mailman3: Callable[[Path], Mailman3] | None = None
    say: Callable[[str], None] = lambda text: None
    only: Sequence[Point] = field(default_factory=lambda: POINTS)

    def directory(self, name: str) -> Path:
        made = self.home / name
        made.mkdir()
        return made

    def site(self, name: str, policy: Policy, mails: int, *, plain: bool = False, **sections: dict[str, Any]) -> Site:
        """A Mailman 2.1 site with the sample outage, or with mails that have nothing in common."""
        home = self.directory(name)
        seed = self.seed + sum(name.encode())
        start_s = time.time() - 100_000
        if plain:
            outage = write_plain(home, mails, 4, seed=seed, start_s=start_s)
        else:
            outage = write_outage(home, mails, 3, seed, start_s)
        return Site(home, stock_of(outage), policy, seed, patient=self.patient, **sections)

    def end(self, fault: str, injected: int, site: Site) -> Row:
        site.drain()
        return Row(fault, injected, site.judge(), site.home)


Story = Callable[[Field, int], Row]


def at_random(policy: Policy) -> Story:
    """kill -9 of the service: while it starts, or when the MTA has been given some more."""

    def story(place: Field, times: int) -> Row:
        fault = f"service killed at random, {policy}"
        with place.site(f"random-{policy}", policy, 8 * times) as site:
            for number in range(times):
                place.say(f"{fault}: {number + 1} of {times}")
                killed_somewhere(site)
            return place.end(fault, times, site)

    return story


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


def moment(is_so: Callable[[], bool], within_s: float = _MOMENT_WITHIN_S, every_s: float = 0.005) -> None:
    """Until it is so, or long enough: a moment without meaning is one as well."""
    deadline_s = time.monotonic() + within_s
    while not is_so() and time.monotonic() < deadline_s:
        time.sleep(every_s)


def at_named_points(policy: Policy) -> Story:
    """The service ends itself at every named point, `times` times round."""

    def story(place: Field, times: int) -> Row:
        points = [point for point in place.only if point.needs not in ("prune", "via mailman")] * times
        fault = f"service killed at {len(set(points))} named points, {policy}"
        feed = {"retry_first": "500ms", "retry_longest": "2s", "messages": "30/s"}
        mails = 20 * len(points) + 40
        with place.site(f"points-{policy}", policy, mails, feed=feed, custody={"bak_age": "0s"}) as site:
            site.stock.is_optional(lambda address: address.startswith(_REFUSED) or f".{_DROPPED_LIST}@" in address)
            site.mta.restart(REFUSING)
            injected = 0
            for point in points:
                place.say(f"{fault}: {point.name}")
                injected += died_at(site, point)
            return place.end(fault, injected, site)

    return story


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


def provoke(site: Site) -> None:
    """Of everything that makes the service write: new mail, a .bak nobody works on, a file nobody can read, a copy from a
    backup."""
    earlier = [name for name, raw in site.stock.entries.items() if name in site.names and _UNHARMED_LIST in raw]
    for name in earlier[-3:-2]:
        site.put(name, copy_of(site, name))
    site.arrive(site.random.randrange(7, 10))
    (left,) = site.arrive(1)
    (site.out / left).rename(site.out / left.replace(".pck", ".bak"))
    (site.out / f"{time.time()!r}+{site.random.getrandbits(160):040x}.pck").write_bytes(b"garbage")


def copy_of(site: Site, name: str) -> str:
    """A name of Mailman's make for the same entry a second time."""
    return f"{float(name.partition('+')[0]) + 1!r}+{site.random.getrandbits(160):040x}.pck"


def operate(site: Site, run: Run, needs: str) -> None:
    """What the operator has to do for the service to come to its point, again and again until it has died."""
    wishes = WISHES.get(needs, (resumed, some_time, new_mail))
    deadline_s = time.monotonic() + _POINT_WITHIN_S
    while run.lives and site.status() is None:
        assert time.monotonic() < deadline_s, site.end_of_log()
        time.sleep(_ACTION_PAUSE_S)
    while run.lives:
        assert time.monotonic() < deadline_s, f"it did not come to its point\n{site.end_of_log()}"
        for wish in wishes:
            if run.lives:
                wish(site)
        time.sleep(_ACTION_PAUSE_S)


def resumed(site: Site) -> None:
    site.ask(lambda service: service.resume(ResumeRequest()))


def paused(site: Site) -> None:
    site.ask(lambda service: service.pause(PauseRequest(reason="torture")))


def new_mail(site: Site) -> None:
    site.arrive(3)


def taken(site: Site) -> None:
    """Wait until what is in out/ is ours."""
    moment(lambda: not site.lives or not list(site.out.glob("*.pck")), 3.0)


def some_time(site: Site) -> None:
    """For the service to go on by itself."""
    before = site.said("\n")
    moment(lambda: not site.lives or site.said("\n") > before + 20, 3.0)


def deferred(site: Site) -> None:
    """Wait until somebody was refused for now, so that an entry is part-delivered."""

    def is_so() -> bool:
        said = site.status()
        return not site.lives or (said is not None and said.backlog.deferred_recipients > 0)

    moment(is_so, 5.0, 0.1)


def held(site: Site) -> None:
    site.ask(lambda service: service.hold(SelectRequest(yes=True, reason="torture")))


def released(site: Site) -> None:
    site.ask(lambda service: service.release(SelectRequest(selectors=Selectors(state="held"), yes=True)))


def dropped(site: Site) -> None:
    wish = SelectRequest(selectors=Selectors(list=_DROPPED_LIST), yes=True, reason="torture")
    site.ask(lambda service: service.drop(wish))


def handed_back(site: Site) -> None:
    site.ask(lambda service: service.handback(SelectRequest(yes=True, reason="torture")))


WISHES: dict[str, tuple[Callable[[Site], None], ...]] = {
    "pause": (paused, resumed),
    "hold": (resumed, new_mail, paused, taken, held),
    "release": (resumed, new_mail, paused, taken, held, released),
    "drop": (resumed, new_mail, paused, taken, dropped),
    "handback": (resumed, new_mail, deferred, paused, new_mail, taken, handed_back),
}


def pruned(place: Field, times: int) -> Row:
    """The service ends itself while it forgets what is old: deliveries in the ledger, files in duplicates/."""
    points = [point for point in place.only if point.needs == "prune"] * times
    fault = f"service killed at {len(set(points))} named points of pruning"
    keep = {"duplicates": {"keep": "1h"}, "ledger": {"keep": "1h"}}
    with place.site("pruning", "ask", 6 * len(points) + 6, plain=True, **keep) as site:
        for point in points:
            place.say(f"{fault}: {point.name}")
            for name in site.arrive(6)[:2]:
                site.put(name, copy_of(site, name))
            with site.run("--until-empty") as run:
                run.ended()
            grow_old(site, 7200)
            with site.run(point=point.name) as run:
                run.died()
        return place.end(fault, len(points), site)


def grow_old(site: Site, by_s: float) -> None:
    """What the ledger and duplicates/ hold was settled that much earlier, as far as anybody can see."""
    with sqlite3.connect(site.ledger) as ledger:
        ledger.execute("UPDATE deliveries SET at = at - ?", (by_s,))
    ledger.close()


def mta_killed(place: Field, times: int) -> Row:
    """kill -9 of the MTA with transactions everywhere between MAIL and the last reply, and a new one on its port."""
    fault = "MTA killed, connections cut anywhere"
    with place.site("mta-killed", "ask", 10 * times + 20) as site, site.run() as run:
        for number in range(times):
            place.say(f"{fault}: {number + 1} of {times}")
            given_some(site)
            site.mta.kill()
            site.mta.start()
            until("the MTA is found again", lambda: not run.lives or mta_is(site, "up"))
        run.kill()
        return place.end(fault, times, site)


def given_some(site: Site) -> None:
    """Until the MTA has some more, with others under way."""
    site.arrive(site.random.randrange(6, 10))
    wanted = site.mta.transactions() + site.random.randrange(1, 6)
    moment(lambda: site.mta.transactions() >= wanted)
    time.sleep(site.random.uniform(0, 0.05))


def mta_is(site: Site, state: str) -> bool:
    said = site.status()
    return said is not None and said.mta.state == state


def mta_frozen(place: Field, times: int) -> Row:
    """SIGSTOP of the MTA for longer than every timeout; then it goes on with what it had been sent."""
    fault = "MTA stopped for longer than the timeouts"
    with place.site("mta-frozen", "ask", 10 * times + 20, mta=HASTY) as site, site.run() as run:
        for number in range(times):
            place.say(f"{fault}: {number + 1} of {times}")
            given_some(site)
            with site.mta.frozen():
                time.sleep(FROZEN_S)
        run.kill()
        return place.end(fault, times, site)


def service_frozen(place: Field, times: int) -> Row:
    """SIGSTOP of the service for longer than every timeout; each second time the MTA is gone and back meanwhile."""
    fault = "service stopped for longer than the timeouts"
    with place.site("service-frozen", "ask", 10 * times + 20, mta=HASTY) as site, site.run() as run:
        for number in range(times):
            place.say(f"{fault}: {number + 1} of {times}")
            given_some(site)
            run.process.send_signal(signal.SIGSTOP)
            time.sleep(FROZEN_S)
            if number % 2:
                site.mta.kill()
                site.mta.start()
            run.process.send_signal(signal.SIGCONT)
            moment(lambda: site.status() is not None, every_s=0.1)
        run.kill()
        return place.end(fault, times, site)


def handed_back_and_killed(place: Field, times: int) -> Row:
    """`drainer handback` of everything in the middle of the drain, kill -9 in the middle of that, and everything again."""
    fault = "killed while everything is handed back"
    with place.site("handback", "hold", 10 * times + 20, feed={"messages": "40/s"}) as site:
        for number in range(times):
            place.say(f"{fault}: {number + 1} of {times}")
            site.arrive(9)
            with site.run() as run:
                moment(lambda: site.status() is not None, every_s=0.1)
                resumed(site)
                given_some(site)
                paused(site)
                before = site.said("outcome=handed_back")
                with asked_for(site, "handback"):
                    moment(lambda before=before: site.said("outcome=handed_back") > before, 5.0)  # type: ignore[misc]
                    run.kill()
        return place.end(fault, times, site)


@contextmanager
def asked_for(site: Site, *command: str) -> Iterator[None]:
    """An operator's command, which runs while the block does."""
    with subprocess.Popen(
        [sys.executable, "-m", "drainer", *command, "--yes", "--config", str(site.settings)],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    ) as asking:  # fmt: skip
        yield
        asking.wait()


def backup_restored(place: Field, times: int) -> Row:
    """Every entry there ever was comes back under its old name, in the middle of the drain; then kill -9."""
    fault = "backup of the queue restored, service killed"
    with place.site("restored", "ask", 10 * times + 20) as site:
        for number in range(times):
            place.say(f"{fault}: {number + 1} of {times}")
            with site.run() as run:
                given_some(site)
                for name in site.names:
                    site.put(name)
                time.sleep(site.random.uniform(0.0, 1.0))
                run.kill()
        return place.end(fault, times, site)


def mailman_restarted(place: Field, times: int) -> Row:
    """A runner of Mailman's works on out/ beside us, is stopped and started while new mail comes; the service is killed."""
    fault = "Mailman's runner beside us, restarted"
    with place.site("mailman", "ask", 16 * times + 20, plain=True) as site:
        delivered = site.home / "delivered"
        stop = site.stock.queue_dir / "stop"
        for number in range(times):
            place.say(f"{fault}: {number + 1} of {times}")
            with (
                site.run() as run,
                subprocess.Popen(
                    [sys.executable, "-m", "tests.scenarios.mailman_runner", site.out, delivered]
                ) as runner,
            ):
                until("Mailman's runner works", delivered.exists)
                given_some(site)
                site.arrive(6)
                stop.touch()
                runner.wait()
                stop.unlink()
                run.kill()
        site.drain()
        handled = map(json.loads, delivered.read_text().splitlines())
        by_mailman = Counter((entry["message_id"], address) for entry in handled for address in entry["recipients"])
        found = site.judge_without(by_mailman)
        return Row(fault, times, found, site.home)


def genuine(place: Field, name: str, policy: Policy, **sections: dict[str, Any]) -> Site:
    """A genuine Mailman 3 site, its own entries the stock."""
    assert place.mailman3 is not None
    home = place.directory(name)
    mailman3 = place.mailman3(home / "mailman")
    owed = set(owed_by(mailman3))
    names = sorted(mailman3.entries, key=lambda entry: float(entry.partition("+")[0]))
    for entry in mailman3.out.iterdir():
        entry.unlink()
    mailman = {
        "flavour": "mailman3", "queue_dir": mailman3.var / "queue", "python": mailman3.python, "config": mailman3.config,
    }  # fmt: skip
    stock = Stock(mailman3.var / "queue", mailman, {entry: mailman3.entries[entry] for entry in names}, owed)
    site = Site(home, stock, policy, place.seed + len(name), patient=place.patient, **sections)
    site.mailman3 = mailman3
    return site


def composers_killed(place: Field, times: int) -> Row:
    """kill -9 of the co-processes that compose for Mailman 3, and now and then of the service."""
    fault = "Mailman 3's co-processes killed"
    with genuine(place, "composers", "ask", feed={"messages": "25/s"}) as site:
        killed = 0
        while killed < times:
            place.say(f"{fault}: {killed + 1} of {times}")
            with site.run() as run:
                until("it composes", lambda: composers_of(run) and site.status(), 60)
                for _ in range(min(4, times - killed)):
                    site.arrive(3)
                    moment(lambda: bool(composers_of(run)))
                    time.sleep(site.random.uniform(0, 0.2))
                    for process in composers_of(run)[: site.random.randint(1, 2)]:
                        process.kill()
                    killed += 1
                run.kill()
        return place.end(fault, killed, site)


def composers_of(run: Run) -> list[psutil.Process]:
    try:
        return [
            child for child in psutil.Process(run.process.pid).children() if "serve.py" in " ".join(child.cmdline())
        ]
    except psutil.NoSuchProcess:
        return []


def genuine_mailman_restarted(place: Field, times: int) -> Row:
    """As mailman_restarted, with the outgoing runner of a genuine Mailman 3, into the same MTA."""
    fault = "genuine Mailman 3 beside us, restarted"
    with genuine(place, "genuine-runner", "ask", feed={"messages": "10/s"}) as site:
        assert site.mailman3 is not None
        for number in range(times):
            place.say(f"{fault}: {number + 1} of {times}")
            with site.run() as run, outgoing_runner(site.mailman3, site.mta.port):
                for _ in range(3):
                    given_some(site)
                run.kill()
        return place.end(fault, times, site)


STORIES: dict[str, tuple[Story, int, int]] = {
    "killed-resend": (at_random("resend"), 20, 1),
    "killed-hold": (at_random("hold"), 20, 1),
    "killed-ask": (at_random("ask"), 20, 1),
    "points-resend": (at_named_points("resend"), 1, 0),
    "points-hold": (at_named_points("hold"), 1, 0),
    "points-ask": (at_named_points("ask"), 1, 1),
    "pruning": (pruned, 1, 0),
    "mta-killed": (mta_killed, 12, 1),
    "mta-stopped": (mta_frozen, 12, 1),
    "service-stopped": (service_frozen, 12, 2),
    "handback": (handed_back_and_killed, 10, 1),
    "backup": (backup_restored, 10, 1),
    "mailman": (mailman_restarted, 10, 1),
    "composers": (composers_killed, 16, 1),
    "mailman3": (genuine_mailman_restarted, 4, 0),
}
"""Name -> the story, how many times in `make torture`, how many times in the suite (0: not there)."""

NEEDS_MAILMAN3 = frozenset({"composers", "mailman3"})
"""Stories for which a genuine Mailman 3 is built first."""
