"""Entries parked in a lane that stands still: nobody asks for them in vain, and nobody waits there who may go."""

from __future__ import annotations

from collections import Counter

import pytest

from drainer.backlog.states import EntryState
from drainer.ledger.records import DomainOrder
from tests.stages.choice import Choice

ONE, TWO = "one.example", "two.example"
ENTRIES = 600
STEP_S, ROOM = 0.05, 10


class TwoLanes(Choice):
    """Entries that owe one recipient in each of two domains with a ceiling."""

    def __init__(self, entries: int, *per_s: float) -> None:
        owed = {f"{number}.5+{number:040x}": [f"a@{ONE}", f"b@{TWO}"] for number in range(entries)}
        super().__init__(dict(zip((ONE, TWO), per_s, strict=True)), owed, {ONE, TWO})

    def order(self, **paused_until_s: float) -> None:
        names = {"one": ONE, "two": TWO}
        orders = [DomainOrder(names[at], None, until_s, 0.0, "ann", "") for at, until_s in paused_until_s.items()]
        self.domains.follow(orders)


def test_lane_whose_lists_are_all_paused_is_not_asked_again_before_there_is_news() -> None:
    choice = TwoLanes(50, 5.0, 5.0)
    choice.step(STEP_S, ROOM)
    choice.clock.advance(10)
    choice.gate.closed_lists = frozenset({"birds.example.org"})
    assert choice.step(STEP_S, ROOM) == 0
    assert choice.domains.next_due_in_s() is None, "it has room, but nobody in it may go"
    choice.gate.closed_lists = frozenset()
    assert choice.step(STEP_S, ROOM) > 0
    assert choice.domains.next_due_in_s() is not None


def test_copy_of_a_mail_in_delivery_is_not_asked_for_again_before_there_is_news() -> None:
    choice = TwoLanes(1, 0.5, 0.5)
    choice.step(STEP_S, ROOM)
    assert choice.domains.next_due_in_s() is None and not choice.index.totals.lanes()
    (first, second) = ("7.5+7", "8.5+8")
    choice.arrive({first: [f"a@{ONE}"], second: [f"a@{ONE}"]}, {ONE}, identity=("same",))
    choice.domains.park(first, ONE, ((ONE, 1),))
    choice.domains.park(second, ONE, ((ONE, 1),))
    choice.clock.advance(60)
    (begun,) = choice.domains.in_turn(1, ())
    choice.index.set_state(begun.filebase, EntryState.ACTIVE)
    choice.clock.advance(60)
    assert list(choice.domains.in_turn(1, {begun.filebase})) == []
    assert choice.domains.next_due_in_s() is None


@pytest.mark.parametrize("how", ["resumed", "lifted"])
def test_nobody_waits_in_the_lane_of_a_paused_domain_for_another_one_that_may_go(how: str) -> None:
    choice = TwoLanes(ENTRIES, 1000.0, 1000.0)
    choice.order(one=float("inf"), two=float("inf"))
    choice.step(STEP_S, ROOM)
    assert not choice.sent and sum(choice.index.totals.lanes().values()) == 2 * ENTRIES
    stands = next(iter(choice.index.totals.lanes()))
    goes = TWO if stands == ONE else ONE
    choice.order(**{"one" if stands == ONE else "two": float("inf")})
    if how == "lifted":
        choice.set({stands: 1000.0})
    for _ in range(ENTRIES // 5 + 1):
        choice.step(STEP_S, ROOM)
    assert choice.sent == {goes: ENTRIES}
    assert set(choice.reads.values()) == {1}, "nobody is read in vain"
    assert choice.domains.next_due_in_s() is None


def test_domain_that_is_paused_keeps_nobody_who_waits_there_from_another_one() -> None:
    choice = TwoLanes(ENTRIES, 20.0, 20.0)
    choice.step(STEP_S, ENTRIES)
    assert choice.index.totals.lanes(), "those who found no room stand there"
    before = Counter(choice.sent)
    for paused in ("one", "two"):
        choice.order(**{paused: float("inf")})
        for _ in range(200):
            choice.step(STEP_S, ROOM)
        goes = TWO if paused == "one" else ONE
        assert choice.sent[goes] - before[goes] >= 0.9 * 20 * 200 * STEP_S, f"{paused} is paused"
        before = Counter(choice.sent)
