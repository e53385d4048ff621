"""The order entries go in, and that nothing put off, paused or removed gets in the way."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drainer.feed.pick import Candidate, Order, Waiting

OLD_ANTS = Candidate("1.0+a", 1.0, "ants")
ANTS = Candidate("2.0+b", 2.0, "ants")
BEES = Candidate("3.0+c", 3.0, "bees")
LATE_ANTS = Candidate("4.0+d", 4.0, "ants")
CATS = Candidate("5.0+e", 5.0, "cats")
ALL = (ANTS, CATS, OLD_ANTS, LATE_ANTS, BEES)


def drained(waiting: Waiting, now_s: float = 0, paused: tuple[str, ...] = ()) -> list[Candidate]:
    found = []
    while (candidate := waiting.pick(now_s, paused)) is not None:
        found.append(candidate)
    return found


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        ("fifo", [OLD_ANTS, ANTS, BEES, LATE_ANTS, CATS]),
        ("fresh", [CATS, LATE_ANTS, BEES, ANTS, OLD_ANTS]),
        ("fair", [OLD_ANTS, BEES, CATS, ANTS, LATE_ANTS]),
        ("priority", [CATS, BEES, OLD_ANTS, ANTS, LATE_ANTS]),
    ],
)
def test_entries_go_in_the_order_asked_for(order: Order, expected: list[Candidate]) -> None:
    waiting = Waiting(order, priority=("cats", "bees"))
    for candidate in ALL:
        waiting.add(candidate)
        waiting.add(candidate)
    assert drained(waiting) == expected and len(waiting) == 0


def test_small_list_is_not_starved_by_a_large_one() -> None:
    waiting = Waiting("fair")
    for number in range(1_000):
        waiting.add(Candidate(f"{number}.0+big", float(number), "big"))
    waiting.add(Candidate("2000.0+small", 2_000.0, "small"))
    first = [waiting.pick(0) for _ in range(2)]
    assert [candidate.list_id for candidate in first if candidate] == ["big", "small"]


def test_entry_put_off_lets_others_pass_and_takes_its_place_again() -> None:
    waiting = Waiting("fifo")
    waiting.put_off(OLD_ANTS, due_s=10)
    waiting.add(ANTS)
    waiting.add(BEES)
    assert waiting.next_due_s() == 10 and waiting.pick(9) == ANTS
    assert waiting.pick(10) == OLD_ANTS and waiting.pick(10) == BEES and waiting.next_due_s() == math.inf


def test_changed_ceilings_recall_what_was_put_off_for_good() -> None:
    waiting = Waiting("fifo")
    waiting.put_off(ANTS, due_s=math.inf)
    waiting.put_off(OLD_ANTS, due_s=50)
    assert waiting.pick(49) is None
    waiting.recall()
    assert drained(waiting) == [OLD_ANTS, ANTS]


def test_paused_list_stays_while_others_go() -> None:
    waiting = Waiting("fifo")
    for candidate in ALL:
        waiting.add(candidate)
    assert drained(waiting, paused=("ants",)) == [BEES, CATS] and len(waiting) == 3
    assert drained(waiting) == [OLD_ANTS, ANTS, LATE_ANTS]


def test_removed_entry_never_comes_even_if_it_was_put_off() -> None:
    waiting = Waiting("fifo")
    waiting.add(ANTS)
    waiting.put_off(ANTS, due_s=5)
    waiting.put_off(BEES, due_s=6)
    waiting.remove(ANTS.filebase)
    assert ANTS.filebase not in waiting and waiting.next_due_s() == 6
    assert drained(waiting, now_s=100) == [BEES]


steps = st.lists(
    st.tuples(st.sampled_from(["add", "put_off", "remove", "pick"]), st.integers(0, 8), st.floats(0, 100)), max_size=80
)


@given(steps, st.sampled_from(["fifo", "fresh", "fair", "priority"]))
def test_every_entry_comes_once_unless_removed(steps: list[tuple[str, int, float]], order: Order) -> None:
    candidates = [Candidate(f"{number}.0+x", float(number), f"list{number % 3}") for number in range(9)]
    waiting, expected, now_s = Waiting(order), set(), 0.0
    for what, number, seconds in steps:
        candidate = candidates[number]
        if what == "add":
            waiting.add(candidate)
            expected.add(candidate)
        elif what == "put_off":
            waiting.put_off(candidate, now_s + seconds)
            expected.add(candidate)
        elif what == "remove":
            waiting.remove(candidate.filebase)
            expected.discard(candidate)
        else:
            now_s += seconds
            picked = waiting.pick(now_s)
            if picked is not None:
                assert picked in expected
                expected.remove(picked)
        assert len(waiting) == len(expected)
    last = drained(waiting, now_s=math.inf)
    assert len(last) == len(expected) and set(last) == expected
