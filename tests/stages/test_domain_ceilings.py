"""Thousands of entries wait for the ceiling of a domain: each is read once for the transaction that it causes, and the
others go on as if they were not there."""

from __future__ import annotations

from collections import Counter
from typing import Any, cast

import pytest

from drainer.backlog.states import EntryState
from drainer.destinations.ceilings import by_destination
from drainer.feed.shaping import BATCH_S
from drainer.feed.transaction import Transaction
from drainer.ledger.records import DomainOrder, Outcome
from drainer.ledger.states import State
from drainer.settings import Settings
from tests.stages.choice import Choice

PARKED, OTHERS = 5_000, 1_000
STEP_S, MTA_PER_STEP = 0.05, 10
"""The MTA takes 200 entries a second."""
BAD, GOOD = "bad.example", "good.example"


class Drain(Choice):
    """Entries for a domain with a ceiling, then entries for another one; `mixed`: the first ones are for both."""

    def __init__(self, ceiling: float | None, mixed: bool = False, parked: int = 500) -> None:
        self.parked = parked
        of_bad = [f"ann@{BAD}", *([f"bob@{GOOD}"] if mixed else [])]
        owed = {
            f"{number}.5+{number:040x}": of_bad if number < parked else [f"ann@{GOOD}"]
            for number in range(parked + OTHERS)
        }
        super().__init__({} if ceiling is None else {BAD: ceiling}, owed)

    def run(self, seconds: float) -> None:
        for _ in range(round(seconds / STEP_S)):
            self.step(STEP_S, MTA_PER_STEP)


@pytest.mark.parametrize("mixed", [False, True], ids=["of_that_domain_alone", "of_others_too"])
def test_each_parked_entry_is_read_once_for_each_transaction_it_causes(mixed: bool) -> None:
    drain = Drain(20.0, mixed)
    drain.run(15)
    assert drain.reads == drain.transactions, "nothing was read in vain"
    assert drain.sent[BAD] == pytest.approx(20 * 15, rel=0.1)


def test_others_are_as_fast_as_without_the_entries_that_wait() -> None:
    drain = Drain(20.0, parked=PARKED)
    drain.run(5)
    assert drain.reads == drain.transactions
    assert drain.sent[GOOD] >= 0.95 * (200 - 20) * 5


def test_ceiling_that_changes_all_the_time_costs_no_reading() -> None:
    drain = Drain(20.0)
    for ceiling in (5.0, 80.0, 0.0, 40.0, 0.5, 10.0) * 3:
        drain.set({BAD: ceiling})
        drain.run(1)
    assert drain.reads == drain.transactions
    assert drain.sent[BAD] <= 3 * (1 + BATCH_S) * (5 + 80 + 40 + 0.5 + 10) + 18


def test_domain_that_is_held_back_has_nobody_read_and_goes_on_once_it_may() -> None:
    drain = Drain(0.0)
    drain.run(1)
    assert drain.sent[BAD] == 0 and drain.sent[GOOD] == sum(drain.reads.values()) > 0
    assert drain.index.totals.lanes() == {BAD: drain.parked} and drain.domains.next_due_in_s() is None
    drain.set({})
    drain.run(8)
    assert drain.index.totals.lanes() == {} and drain.sent[BAD] == drain.parked, "in the order of all"
    assert drain.reads == drain.transactions


def test_entry_in_a_slow_lane_goes_on_with_those_whose_ceiling_is_gone() -> None:
    drain = Drain(1.0, mixed=True)
    drain.set({BAD: 1 / 3600, GOOD: 1 / 3600})
    drain.run(1)
    drain.set({BAD: 0.01})
    drain.run(10)
    assert drain.sent[GOOD] == drain.parked + OTHERS, "though each of them waits for the other domain as well"
    assert drain.sent[BAD] <= 3


@pytest.mark.parametrize(
    "ends", ["before_its_pick", "before_it_is_sent", "with_a_session_lost", "refused", "delivered"]
)
def test_only_what_the_destination_was_asked_to_take_uses_up_its_ceiling(ends: str) -> None:
    drain = Drain(1 / 3600, parked=3)
    drain.run(STEP_S)  # the first one goes, the others stand in the lane
    drain.clock.advance(3600)
    (first,) = drain.domains.in_turn(5, ())
    drain.index.set_state(first.filebase, EntryState.ACTIVE)
    if ends != "before_its_pick":
        going, at_s = drain.domains.pick(drain.owed[first.filebase], first).ready, drain.clock.now_s()
        ended = {
            "with_a_session_lost": Transaction((), going, "session lost at MAIL"),
            "refused": Transaction((Outcome(State.DEFERRED, going, "450 4.2.0 later", at_s),)),
            "delivered": Transaction((Outcome(State.DELIVERED, going, "250 ok", at_s),)),
        }
        if ends in ended:
            drain.domains.heard(ended[ends], cast(Any, None), first.filebase)
    drain.domains.turn_ended(first.filebase)
    further = list(drain.domains.in_turn(5, ()))
    assert len(further) == (0 if ends in ("refused", "delivered") else 1)


def test_wake_up_that_comes_late_is_made_up_for() -> None:
    drain = Drain(20.0)
    for _ in range(20):
        drain.clock.advance(0.23)
        drain.run(STEP_S)
    assert drain.sent[BAD] == pytest.approx(20 * 20 * 0.28, rel=0.1)


def test_lists_take_turns_in_a_lane_whatever_the_size_of_their_entries() -> None:
    choice = Drain(10.0, parked=0)
    choice.reload(Settings.model_validate({"feed": {"order": "fair", "domains": {BAD: "10/s"}}}))
    sizes = {"large.example.org": 10, "small.example.org": 1}
    sent = Counter[str]()
    for list_id, size in sizes.items():
        names = [f"{number}.7+{number:038x}{size:02}" for number in range(400)]
        choice.arrive({name: [f"a{at}@{BAD}" for at in range(size)] for name in names}, list_id=list_id)
        for name in names:
            choice.domains.park(name, BAD, ((BAD, size),))
    for _ in range(600):
        choice.clock.advance(STEP_S)
        for _ in range(3):  # the feed asks again whenever there is news
            for waiting in choice.domains.in_turn(5, ()):
                sent[waiting.list_id] += waiting.recipients
                choice.index.set_state(waiting.filebase, EntryState.ACTIVE)
                choice.index.remove(waiting.filebase)
    assert sum(sent.values()) == pytest.approx(10 * 600 * STEP_S, rel=0.1)
    assert sent["large.example.org"] == pytest.approx(sent["small.example.org"], abs=20)


def test_operator_who_lifts_the_ceiling_of_a_domain_lifts_its_probation_too() -> None:
    drain = Drain(None)
    drain.resources.settings = Settings.model_validate({"mta": {"queue": "postfix"}})
    drain.domains.renew()
    assert set(drain.domains.limits.per_s) == {BAD, GOOD}
    drain.domains.follow([DomainOrder(BAD, float("inf"), None, 0.0, "ann", "")])
    assert set(drain.domains.limits.per_s) == {GOOD}


def test_much_waits_for_a_group_if_it_does_for_its_domains_together_and_each_other_domain_counts_alone() -> None:
    owed = {f"{at}.5+{at:040x}": [f"r{number}@d{at}.example" for number in range(60)] for at in range(4)}
    owed |= {f"9.5+{at:040x}": [f"r{number}@d{at}.example" for number in range(40)] for at in (2, 3)}
    choice = Choice({}, owed)
    groups = {"both": ["d0.example", "d1.example"], "few": ["d9.example"]}
    feed: dict[str, Any] = {"feed": {"domain_groups": groups}}
    choice.reload(Settings.model_validate(feed | {"mta": {"queue": "postfix"}}))
    assert set(choice.domains.limits.per_s) == {"both", "d2.example", "d3.example"}
    choice.reload(Settings.model_validate(feed))
    assert not choice.domains.limits.per_s, "without the MTA's queue nothing would end it"


@pytest.mark.parametrize("left", [{}, {"both": [BAD]}], ids=["the_group_is_gone", "the_domain_left_it"])
def test_who_waits_for_a_group_goes_on_when_his_domain_leaves_it(left: dict[str, list[str]]) -> None:
    with_group, without = (
        Settings.model_validate({"feed": {"domain_groups": of}}) for of in ({"both": [BAD, GOOD]}, left)
    )
    good = 600  # more than are moved at a time
    choice = Choice({}, {f"{at}.5+{at:040x}": [f"ann@{GOOD if at < good else BAD}"] for at in range(good + 5)})
    choice.reload(with_group)
    choice.domains.follow([DomainOrder("both", 0.0, None, 0.0, "ann", "")])
    choice.step(STEP_S, 1)
    assert choice.domains.in_force.keys() == {"both"} and choice.index.totals.lanes() == {"both": good + 5}
    choice.reload(without)
    assert choice.domains.in_force.keys() == left.keys() == {"both"} - choice.domains.not_in_force.keys()
    for _ in range(3):
        choice.step(STEP_S, good + 5)
    assert choice.sent == ({GOOD: good} if left else {GOOD: good, BAD: 5})
    choice.reload(with_group)
    choice.arrive({f"9.7+{0:040x}": [f"eve@{GOOD}"]})
    choice.step(STEP_S, 10)
    assert choice.domains.in_force.keys() == {"both"} and choice.sent[GOOD] == good, "the order counts again"


def test_order_for_a_name_without_a_dot_holds_a_domain_of_that_name_and_in_a_group_of_that_name_too() -> None:
    choice = Choice({}, {})
    choice.domains.follow([DomainOrder("localhost", 0.0, None, 0.0, "ann", "")])
    assert choice.domains.not_in_force.keys() == {"localhost"} and not choice.domains.in_force
    paused = f"1.7+{0:040x}"
    choice.arrive({paused: ["ann@localhost"]})
    choice.step(STEP_S, 10)
    choice.domains.renew()
    assert choice.domains.in_force.keys() == {"localhost"} and not choice.sent
    choice.reload(Settings.model_validate({"feed": {"domain_groups": {"localhost": [BAD]}, "domains": {GOOD: "0/s"}}}))
    choice.arrive({f"2.7+{0:040x}": [f"bob@{GOOD}", "bob@localhost"], f"3.7+{0:040x}": [f"eve@{BAD}"]})
    choice.step(STEP_S, 10)
    assert not choice.sent
    choice.domains.follow([DomainOrder("localhost", 5.0, None, 0.0, "ann", "")])
    for _ in range(40):
        choice.step(STEP_S, 10)
    assert choice.sent == {"localhost": 2, BAD: 1}, "what is not held back does not wait in another lane"


def test_of_two_orders_that_come_into_one_group_the_stricter_counts_whatever_the_clock_said_when_they_were_made() -> (
    None
):
    groups = {"both": [BAD, GOOD]}
    slow, fast = DomainOrder(BAD, 1.0, None, 50.0, "ann", ""), DomainOrder(GOOD, 9.0, None, 99.0, "bob", "")
    paused, longer = DomainOrder("Both", None, 60.0, 10.0, "ann", ""), DomainOrder(BAD, 1.0, 70.0, 5.0, "bob", "")
    for one, other, now_s, strictest in (
        (slow, fast, 0.0, slow),
        (slow, paused, 0.0, paused),
        (slow, paused, 60.0, slow),
        (longer, paused, 0.0, longer),
        (slow, DomainOrder(GOOD, float("inf"), None, 99.0, "bob", ""), 0.0, slow),
    ):
        assert by_destination([one, other], groups, now_s) == {"both": strictest}
        assert by_destination([other, one], groups, now_s) == {"both": strictest}


def test_order_for_a_domain_holds_for_the_group_it_comes_into() -> None:
    drain = Drain(None)
    drain.domains.follow([DomainOrder(BAD, 3.0, None, 0.0, "ann", "")])
    drain.reload(Settings.model_validate({"feed": {"domain_groups": {"both": [BAD, GOOD]}}}))
    assert set(drain.domains.in_force) == {"both"} and drain.domains.limits.per_s == {"both": 3.0}
