"""Where the torture takes place, what a fault is, and the line of the table that comes of one.

In    a Fault, how often
Out   a Row
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from drainer.demo.sample_queue import LISTS, write_outage, write_plain
from tests.mailman3.site import Site as Mailman3
from tests.scenarios.test_mailman3_into_postfix import owed_by
from tests.torture.points import POINTS, Point
from tests.torture.site import Judgement, Policy, Site, Stock, stock_of, time_of


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table."""

    fault: str
    injected: int
    found: Judgement
    where: Path


@dataclass(frozen=True, slots=True)
class Place:
    """home      an empty directory; each fault has a site in it
    patient   see Site
    mailman3  makes a copy of a genuine Mailman 3 site, its entries in out/; None: there is none
    say       called to report progress
    points    the named points to visit
    """

    home: Path
    seed: int
    patient: bool
    mailman3: Callable[[Path], Mailman3] | None = None
    say: Callable[[str], None] = lambda text: None
    points: Sequence[Point] = POINTS

    def progress(self, what: str, number: int, times: int) -> None:
        self.say(f"{what}: {number + 1} of {times}")


Hurt = Callable[[Site, Place, int], int]
"""Hurts a site so many times; returns how often it did."""


@dataclass(frozen=True, slots=True)
class Fault:
    """title     in the table
    times     in `make torture`
    mails     of a site, for each time
    kind      of the queue: the sample outage of 2.1; mails of 2.1 that have nothing in common; a genuine Mailman 3's
    ended     the hurting drains the site itself
    """

    title: str
    hurt: Hurt
    times: int
    policy: Policy = "ask"
    mails: int = 10
    kind: str = "outage"
    sections: Mapping[str, dict[str, Any]] = field(default_factory=dict)
    ended: bool = False


def endure(name: str, fault: Fault, place: Place, times: int) -> Row:
    """One site, hurt, drained and judged."""
    home = place.home / name
    home.mkdir()
    seed = place.seed + sum(name.encode())
    stock = stock_for(fault, place, home, seed, times)
    with Site(home, stock, fault.policy, seed, patient=place.patient, **fault.sections) as site:
        injected = fault.hurt(site, place, times)
        if not fault.ended:
            site.drain()
        return Row(fault.title, injected, site.judge(), home)


def stock_for(fault: Fault, place: Place, home: Path, seed: int, times: int) -> Stock:
    """What the fault's site has to deliver."""
    mails, start_s = fault.mails * times + 20, time.time() - 100_000
    if fault.kind == "mailman3":
        assert place.mailman3 is not None
        return genuine_stock(place.mailman3(home / "mailman"))
    if fault.kind == "plain":
        return stock_of(write_plain(home, mails, 4, LISTS * mails, seed, start_s))
    return stock_of(write_outage(home, mails, 3, seed, start_s))


def genuine_stock(mailman3: Mailman3) -> Stock:
    """The entries of a genuine Mailman 3, out of its out/ and into stock."""
    owed = set(owed_by(mailman3))
    for entry in mailman3.out.iterdir():
        entry.unlink()
    queue_dir = mailman3.var / "queue"
    mailman = {
        "flavour": "mailman3", "queue_dir": queue_dir, "python": mailman3.python, "config": mailman3.config,
    }  # fmt: skip
    entries = {name: mailman3.entries[name] for name in sorted(mailman3.entries, key=time_of)}
    return Stock(queue_dir, mailman, entries, owed, mailman3=mailman3)
