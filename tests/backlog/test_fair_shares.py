"""Lists share by recipients and weights, in any backlog."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Generator

from hypothesis import given, settings
from hypothesis import strategies as st

from drainer.backlog.fair_shares import FairShares

Backlog = dict[int, deque[int]]
"""Recipients of each entry, by list."""

weights = st.dictionaries(st.integers(0, 4), st.sampled_from([0.25, 0.5, 1.0, 2.0, 4.0, 10.0]))
backlogs = st.dictionaries(
    st.integers(0, 4), st.lists(st.integers(1, 300), min_size=1, max_size=40).map(deque), min_size=1, max_size=5
)


def following(turns: Generator[int, bool, None]) -> int | None:
    """The list after one that had no entry left."""
    try:
        return turns.send(True)
    except StopIteration:
        return None


def pick(shares: FairShares, backlog: Backlog, weighing: dict[int, float], entries: int) -> list[tuple[int, int]]:
    """(list, recipients) of each entry picked in one go."""
    shares.enter({number for number, left in backlog.items() if left}, weighing)
    turns = shares.next_in_turn()
    picked: list[tuple[int, int]] = []
    number = next(turns, None)
    while number is not None and len(picked) < entries:
        if backlog[number]:
            picked.append((number, backlog[number].popleft()))
            shares.charge(*picked[-1])
            number = turns.send(False)
        else:
            number = following(turns)
    return picked


@given(backlogs, weights, st.integers(1, 7), st.integers(0, 20))
@settings(max_examples=100, deadline=None)
def test_lists_that_stay_backlogged_are_served_by_weight_within_one_entry(
    backlog: Backlog, weighing: dict[int, float], at_a_time: int, since: int
) -> None:
    largest = {number: max(entries) for number, entries in backlog.items()}
    shares = FairShares()
    picked: list[tuple[int, int]] = []
    while all(backlog.values()) and len(picked) < 120:
        picked += pick(shares, backlog, weighing, 1 if min(map(len, backlog.values())) < at_a_time else at_a_time)
    served = dict.fromkeys(backlog, 0)
    for number, recipients in picked[since:]:
        served[number] += recipients
    for one, other in itertools.combinations(backlog, 2):
        of_one, of_other = weighing.get(one, 1.0), weighing.get(other, 1.0)
        apart = abs(served[one] / of_one - served[other] / of_other)
        assert apart <= largest[one] / of_one + largest[other] / of_other + 1e-6


@given(backlogs, weights, st.integers(1, 5))
@settings(max_examples=50, deadline=None)
def test_every_entry_is_picked_once_and_no_list_starves(
    backlog: Backlog, weighing: dict[int, float], at_a_time: int
) -> None:
    expected = sorted((number, recipients) for number, entries in backlog.items() for recipients in entries)
    shares, picked = FairShares(), []
    while any(backlog.values()):
        found = pick(shares, backlog, weighing, at_a_time)
        assert found, "somebody is next while entries wait"
        picked += found
    assert sorted(picked) == expected


@given(st.integers(2, 50), st.sampled_from([0.5, 1.0, 8.0]), st.booleans())
@settings(max_examples=30, deadline=None)
def test_a_list_that_comes_back_does_not_claim_its_past(away: int, weight: float, was_there_before: bool) -> None:
    """However long it was away, it gets its share from now on, and no more."""
    shares, weighing = FairShares(), {1: weight}
    if was_there_before:
        pick(shares, {0: deque([3]), 1: deque([3])}, weighing, 2)
    alone: Backlog = {0: deque([3] * away), 1: deque()}
    pick(shares, alone, weighing, away)
    both: Backlog = {0: deque([3] * 200), 1: deque([3] * 200)}
    served = pick(shares, both, weighing, 90)
    of_other = sum(recipients for number, recipients in served if number == 0)
    of_returned = sum(recipients for number, recipients in served if number == 1)
    assert abs(of_returned / weight - of_other) <= 3 / weight + 3


def test_a_flood_of_entries_gains_nothing_over_one_large_entry() -> None:
    shares = FairShares()
    backlog: Backlog = {0: deque([1] * 500), 1: deque([100] * 5)}
    served = pick(shares, backlog, {}, 303)
    assert sum(recipients for number, recipients in served if number == 1) >= 300
