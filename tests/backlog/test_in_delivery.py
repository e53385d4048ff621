"""Entries in delivery are in memory; no question is answered by what the tables had before."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drainer.backlog.index import BacklogIndex
from drainer.backlog.selection import Selectors
from drainer.backlog.states import EntryState
from drainer.errors import IllegalTransition
from tests.backlog.entries import NOW_S, described, digest, fill, following, listed

CHANGES = st.lists(
    st.tuples(
        st.sampled_from(["pick", "finish", "owed", "put back", "defer", "park", "hold", "add", "read again"]),
        st.integers(0, 5),
    ),
    max_size=30,
)


def shown(index: BacklogIndex) -> dict[str, tuple[str, int | None]]:
    """What an operator sees: each entry with its state and what it owes."""
    return {line.entry: (line.state, line.recipients) for line in index.lines.select(Selectors(), NOW_S, 100).lines}


@given(CHANGES, st.booleans())
@settings(max_examples=60, deadline=None)
def test_every_question_is_answered_by_what_became_of_the_entries(
    changes: list[tuple[str, int]], is_asked_in_between: bool
) -> None:
    index = BacklogIndex(Path(":memory:"))
    names = [f"{number}.5+a" for number in range(6)]
    expected: dict[str, tuple[str, int | None]] = {}
    fill(index, *(described(name, recipients=9, message_id="one") for name in names))
    expected.update((name, ("waiting", 9)) for name in names)
    for change, number in changes:
        name = names[number]
        state, owed = expected.get(name, ("", None))
        if change == "pick":
            picked = [row.filebase for row in index.order.next_waiting("oldest", NOW_S, limit=number + 1)]
            index.begin(picked)
            expected.update((one, ("active", expected[one][1])) for one in picked)
        elif change == "finish" and state:
            assert index.remove(name)
            del expected[name]
        elif change == "owed" and state:
            index.set_owed(name, number)
            expected[name] = state, number
        elif change in ("put back", "park") and state == "active":
            index.set_state(name, EntryState.WAITING, lane="slow.example" if change == "park" else "")
            expected[name] = "waiting", owed
        elif change == "defer" and state == "active":
            index.set_state(name, EntryState.DEFERRED, "451", NOW_S + 60)
            expected[name] = "deferred", owed
        elif change == "hold" and state:
            index.set_state(name, EntryState.HELD)
            expected[name] = "held", owed
        elif change == "add":
            assert index.add_listed(listed(name)) == (not state)
            if not state:
                expected[name] = "waiting", None
        elif change == "read again" and state:
            index.describe([described(name, recipients=7, message_id="one")])
            expected[name] = state, 7
        if is_asked_in_between:
            assert shown(index) == expected
    assert [index.state_of(name) is not None for name in names] == [name in expected for name in names]
    read = sorted(name for name, (_, owed) in expected.items() if owed is not None)
    assert [entry.filebase for entry in index.related.with_message_id_key(digest("one"))] == read
    assert index.unread(9) == sorted(name for name, (_, owed) in expected.items() if owed is None)
    totals = index.totals.overall()
    free = {name: owed for name, (state, owed) in expected.items() if state != "held"}
    assert (totals.entries, totals.recipients) == (len(free), sum(owed or 0 for owed in free.values()))
    assert totals.oldest_s == min((float(name.partition("+")[0]) for name in free), default=None)
    assert sum(row.recipients for row in index.totals.per_list()) == totals.recipients
    oldest_read = min((float(name.partition("+")[0]) for name, owed in free.items() if owed is not None), default=None)
    assert next((row.oldest_s for row in index.totals.per_list()), None) == oldest_read
    assert shown(index) == expected
    index.close()


def test_several_become_active_in_one_step_or_none_does(index: BacklogIndex) -> None:
    fill(index, described("1.5+a"), described("2.5+b"), described("3.5+c"))
    index.set_state("2.5+b", EntryState.HELD)
    with pytest.raises(IllegalTransition):
        index.begin(["1.5+a", "2.5+b"])
    assert index.state_of("1.5+a") is EntryState.WAITING and following(index) == ["1.5+a", "3.5+c"]
    index.begin(["1.5+a", "gone", "3.5+c"])
    assert following(index) == [] and index.totals.overall().active_entries == 2


def test_an_entry_that_was_picked_and_then_changed_is_begun_as_it_is_now(index: BacklogIndex) -> None:
    fill(index, described("1.5+a", recipients=9))
    (picked,) = index.order.next_waiting("oldest", NOW_S)
    index.set_owed(picked.filebase, 4)
    index.set_state(picked.filebase, EntryState.WAITING, "ceiling", lane="slow.example")
    index.begin([picked.filebase])
    assert index.totals.lanes() == {} and index.totals.overall().recipients == 4
    index.set_state(picked.filebase, EntryState.WAITING)
    assert [row.recipients for row in index.order.next_waiting("oldest", NOW_S)] == [4]


def test_what_an_entry_in_delivery_owes_is_shown_also_after_it_became_active_once_more(index: BacklogIndex) -> None:
    """As when Mailman's runner has it, and the ledger an attempt for each part of its recipients."""
    fill(index, described("1.5+a", recipients=9))
    index.set_state("1.5+a", EntryState.ACTIVE)
    index.set_owed("1.5+a", 4)
    index.set_state("1.5+a", EntryState.ACTIVE)
    assert shown(index) == {"1.5+a": ("active", 4)}


def test_a_mail_that_comes_back_under_the_name_of_one_just_finished_is_a_new_entry(index: BacklogIndex) -> None:
    fill(index, described("1.5+a", recipients=9))
    index.begin(following(index))
    index.remove("1.5+a")
    assert index.add_listed(listed("1.5+a")) == 1
    assert index.unread(9) == ["1.5+a"] and index.totals.overall().recipients == 0
    fill(index, described("1.5+a", recipients=3))
    assert shown(index) == {"1.5+a": ("waiting", 3)}
