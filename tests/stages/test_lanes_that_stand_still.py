"""Entries parked in a lane that stands still: nobody asks for them in vain, and nobody waits there who may go."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any, cast

import pytest

from drainer.backlog.index import BacklogIndex
from drainer.backlog.states import EntryState
from drainer.backlog.values import Description, WaitingEntry
from drainer.ledger.records import DomainOrder
from drainer.queuedir.domains import domain_counts
from drainer.queuedir.entry import Flavour
from drainer.settings import Settings
from drainer.stages.domain_ceilings import DomainCeilings
from drainer.stages.domain_paces import DomainPaces
from drainer.stages.resources import Resources
from tests.backlog.entries import described, listed
from tests.stages.test_domain_ceilings import StoppedClock

ONE, TWO = "one.example", "two.example"
ENTRIES = 600
STEP_S, ROOM = 0.05, 10


class Gate:
    closed_lists: frozenset[str] = frozenset()


class Choice:
    """The feed's choice in virtual time, among entries that owe one recipient in each of two domains with a ceiling."""

    def __init__(self, entries: int, *per_s: float) -> None:
        self.clock, self.gate, self.index = StoppedClock(), Gate(), BacklogIndex(cast(Any, ":memory:"))
        unused = cast(Any, None)
        rates = {name: f"{rate}/s" for name, rate in zip((ONE, TWO), per_s, strict=True)}
        self.resources = Resources(
            Settings.model_validate({"feed": {"domains": rates}}), self.clock, unused, self.index, unused,
            {Flavour.MAILMAN2: unused}, unused, unused, unused, cast(Any, self.gate), unused,
        )  # fmt: skip
        self.domains = DomainCeilings(self.resources, DomainPaces(self.resources))
        self.owed = {f"{number}.5+{number:040x}": [f"a@{ONE}", f"b@{TWO}"] for number in range(entries)}
        self.sent, self.reads = Counter[str](), Counter[str]()
        described_ = [
            Description(described(name, recipients=2).summary, domains=domain_counts(owed, {ONE, TWO}))
            for name, owed in self.owed.items()
        ]
        self.index.add_listed(listed(*self.owed))
        self.index.describe(described_)

    def set(self, per_s: Mapping[str, float]) -> None:
        feed = {"domains": {name: f"{rate}/s" for name, rate in per_s.items()}}
        self.resources.settings = settings = Settings.model_validate({"feed": feed})
        self.domains.reconfigure(settings)

    def order(self, **paused_until_s: float) -> None:
        names = {"one": ONE, "two": TWO}
        orders = [DomainOrder(names[at], None, until_s, 0.0, "ann", "") for at, until_s in paused_until_s.items()]
        self.domains.follow(orders)

    def step(self) -> int:
        """Returns how many were begun."""
        self.clock.at_s += STEP_S
        begun = 0
        for waiting in self.domains.in_turn((ROOM + 1) // 2, ()):
            self._turn(waiting)
            begun += 1
        for _ in range(200):
            found = self.index.order.next_waiting("oldest", self.clock.now_s(), self.gate.closed_lists, ROOM)
            for waiting in found:
                if (admitted := self.domains.admitted(waiting)) is not None:
                    self._turn(admitted)
                    begun += 1
            if not found:
                break
        return begun

    def _turn(self, waiting: WaitingEntry) -> None:
        name = waiting.filebase
        self.reads[name] += 1
        self.index.set_state(name, EntryState.ACTIVE)
        going = self.domains.pick(self.owed[name], waiting)
        self.sent.update(address.partition("@")[2] for address in going.ready)
        self.owed[name] = list(going.later)
        if not going.later:
            self.index.remove(name)
            return
        counts = self.domains.counts(going.later, going.lane)
        self.index.set_owed(name, len(going.later), counts)
        self.domains.park(name, going.lane, counts)


def test_lane_whose_lists_are_all_paused_is_not_asked_again_before_there_is_news() -> None:
    choice = Choice(50, 5.0, 5.0)
    choice.step()
    choice.clock.at_s += 10
    choice.gate.closed_lists = frozenset({"birds.example.org"})
    assert choice.step() == 0
    assert choice.domains.next_due_in_s() is None, "it has room, but nobody in it may go"
    choice.gate.closed_lists = frozenset()
    assert choice.step() > 0
    assert choice.domains.next_due_in_s() is not None


def test_copy_of_a_mail_in_delivery_is_not_asked_for_again_before_there_is_news() -> None:
    choice = Choice(1, 0.5, 0.5)
    choice.step()
    assert choice.domains.next_due_in_s() is None and not choice.index.totals.lanes()
    (first, second) = ("7.5+7", "8.5+8")
    choice.owed |= {first: [f"a@{ONE}"], second: [f"a@{ONE}"]}
    choice.index.add_listed(listed(first, second))
    choice.index.describe(
        Description(
            described(name, recipients=1, identity=("same",)).summary, domains=domain_counts([f"a@{ONE}"], {ONE})
        )
        for name in (first, second)
    )
    choice.domains.park(first, ONE, ((ONE, 1),))
    choice.domains.park(second, ONE, ((ONE, 1),))
    choice.clock.at_s += 60
    (begun,) = choice.domains.in_turn(1, ())
    choice.index.set_state(begun.filebase, EntryState.ACTIVE)
    choice.clock.at_s += 60
    assert list(choice.domains.in_turn(1, {begun.filebase})) == []
    assert choice.domains.next_due_in_s() is None


@pytest.mark.parametrize("how", ["resumed", "lifted"])
def test_nobody_waits_in_the_lane_of_a_paused_domain_for_another_one_that_may_go(how: str) -> None:
    choice = Choice(ENTRIES, 1000.0, 1000.0)
    choice.order(one=float("inf"), two=float("inf"))
    choice.step()
    assert not choice.sent and sum(choice.index.totals.lanes().values()) == 2 * ENTRIES
    stands = next(iter(choice.index.totals.lanes()))
    goes = TWO if stands == ONE else ONE
    choice.order(**{"one" if stands == ONE else "two": float("inf")})
    if how == "lifted":
        choice.set({stands: 1000.0})
    for _ in range(ENTRIES // 5 + 1):
        choice.step()
    assert choice.sent == {goes: ENTRIES}
    assert set(choice.reads.values()) == {1}, "nobody is read in vain"
    assert choice.domains.next_due_in_s() is None


def test_domain_that_is_paused_keeps_nobody_who_waits_there_from_another_one() -> None:
    choice = Choice(ENTRIES, 20.0, 20.0)
    choice.step()
    assert set(choice.index.totals.lanes()) == {ONE} or choice.index.totals.lanes()
    before = Counter(choice.sent)
    for paused in ("one", "two"):
        choice.order(**{paused: float("inf")})
        for _ in range(200):
            choice.step()
        goes = TWO if paused == "one" else ONE
        assert choice.sent[goes] - before[goes] >= 0.9 * 20 * 200 * STEP_S, f"{paused} is paused"
        before = Counter(choice.sent)
