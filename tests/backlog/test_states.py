"""An entry changes its state as the table of legal transitions has it, and in no other way."""

from __future__ import annotations

import itertools
import re

import pytest

from drainer.backlog.index import BacklogIndex
from drainer.backlog.schema import SCHEMA
from drainer.backlog.states import FIRST, LEGAL, EntryState
from drainer.errors import IllegalTransition
from tests.backlog.entries import NOW_S, described, listed

NAME = "1.5+a"
PATHS: dict[tuple[EntryState, bool], tuple[EntryState, ...]] = {
    (EntryState.LISTED, False): (),
    (EntryState.ACTIVE, False): (EntryState.ACTIVE,),
    (EntryState.DEFERRED, False): (EntryState.DEFERRED,),
    (EntryState.HELD, False): (EntryState.HELD,),
    (EntryState.WAITING, True): (),
    (EntryState.ACTIVE, True): (EntryState.ACTIVE,),
    (EntryState.DEFERRED, True): (EntryState.DEFERRED,),
    (EntryState.HELD, True): (EntryState.HELD,),
}
"""The state changes that lead to each state, for an entry that was read and for one that was not."""


def due_s(state: EntryState) -> float | None:
    return NOW_S + 60 if state is EntryState.DEFERRED else None


def brought_to(index: BacklogIndex, before: EntryState, is_read: bool) -> None:
    index.add_listed(listed(NAME))
    if is_read:
        index.describe([described(NAME)])
    for state in PATHS[before, is_read]:
        index.set_state(NAME, state, due_s=due_s(state))
    assert index.state_of(NAME) is before


def test_states_in_sql_are_those_of_the_table() -> None:
    match = re.search(r"state TEXT NOT NULL CHECK \(([^)]+)\)", SCHEMA)
    assert match, "the table does not check its states"
    assert sorted(re.findall(r"state = '(\w+)'", match[1])) == sorted(LEGAL) == sorted(EntryState)
    assert match[1].count(" OR ") == len(EntryState) - 1
    assert set().union(*LEGAL.values()) == set(EntryState)


@pytest.mark.parametrize(
    ("before", "is_read", "asked"), [(*known, asked) for known, asked in itertools.product(PATHS, EntryState)]
)
def test_every_pair_is_changed_or_refused_as_the_table_says(
    index: BacklogIndex, before: EntryState, is_read: bool, asked: EntryState
) -> None:
    after = asked
    if asked in (EntryState.WAITING, EntryState.LISTED):
        after = EntryState.WAITING if is_read else EntryState.LISTED
    brought_to(index, before, is_read)
    totals, names = index.totals.overall(), index.order.next_waiting("oldest", NOW_S)
    if after in LEGAL[before]:
        assert index.set_state(NAME, asked, due_s=due_s(asked))
        assert index.state_of(NAME) is after
    else:
        with pytest.raises(IllegalTransition, match=f"{before} to {after}"):
            index.set_state(NAME, asked, due_s=due_s(asked))
        assert index.state_of(NAME) is before
        assert (index.totals.overall(), index.order.next_waiting("oldest", NOW_S)) == (totals, names), "nothing changed"


def test_held_entry_cannot_become_active_without_a_release() -> None:
    assert EntryState.ACTIVE not in LEGAL[EntryState.HELD]


def test_entry_that_was_read_is_never_unread_again() -> None:
    assert EntryState.LISTED not in LEGAL[EntryState.WAITING]


@pytest.mark.parametrize("state", EntryState)
def test_entries_enter_the_index_listed_or_held(index: BacklogIndex, state: EntryState) -> None:
    if state in FIRST:
        index.add_listed(listed(NAME), state)
        assert index.state_of(NAME) is state
    else:
        with pytest.raises(IllegalTransition):
            index.add_listed(listed(NAME), state)
        assert index.state_of(NAME) is None


def test_entry_described_twice_while_active_blocks_its_copies_no_longer_than_it_is_active(index: BacklogIndex) -> None:
    for name in (NAME, "2.5+b"):
        index.add_listed(listed(name))
        index.describe([described(name, identity=("same",))])
    index.set_state(NAME, EntryState.ACTIVE)
    index.describe([described(NAME, identity=("same",))])
    assert index.order.next_waiting("oldest", NOW_S) == []
    index.remove(NAME)
    assert [row.filebase for row in index.order.next_waiting("oldest", NOW_S)] == ["2.5+b"]
