"""Which entry is next, in every order, and which entries wait for another one."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drainer.backlog.index import BacklogIndex
from drainer.backlog.states import EntryState
from drainer.backlog.values import Order, tie_order
from drainer.duplicates.classes import DuplicateClass
from drainer.duplicates.summary import fifo_key
from tests.backlog.entries import NOW_S, described, digest, fill, following, listed


def test_orders(index: BacklogIndex) -> None:
    fill(
        index,
        described("1000.5+a", list_id="birds"),
        described("999.5+b", list_id="birds"),
        described("1001.5+c", list_id="birds"),
        described("1002.5+d", list_id="ships"),
        described("1003.5+e", list_id="clocks"),
    )
    assert following(index, "fair") == ["999.5+b", "1002.5+d", "1003.5+e", "1000.5+a", "1001.5+c"]
    assert following(index, "oldest") == ["999.5+b", "1000.5+a", "1001.5+c", "1002.5+d", "1003.5+e"]
    assert following(index, "fresh") == following(index, "oldest")
    assert following(index, "priority", priority=("clocks", "none", "ships")) == [
        "1003.5+e",
        "1002.5+d",
        "999.5+b",
        "1000.5+a",
        "1001.5+c",
    ]


def test_fair_order_gives_each_list_a_turn_also_when_asked_for_one_at_a_time(index: BacklogIndex) -> None:
    fill(index, *(described(f"{number}.5+a", list_id="flood") for number in range(20)))
    fill(index, described("90.5+b", list_id="small"), described("91.5+b", list_id="tiny"))
    lists = []
    for _ in range(6):
        (row,) = index.order.next_waiting("fair", NOW_S, limit=1)
        index.set_state(row.filebase, EntryState.ACTIVE)
        lists.append(row.list_id)
    assert set(lists[:3]) == {"flood", "small", "tiny"}
    assert lists[3:] == ["flood"] * 3


def test_fair_order_counts_recipients_by_the_weights_of_the_lists(index: BacklogIndex) -> None:
    fill(index, *(described(f"{number}.5+a", list_id="letters", recipients=40) for number in range(30)))
    fill(index, *(described(f"{number}.5+b", list_id="chat", recipients=2) for number in range(400)))
    fill(index, *(described(f"{number}.5+c", list_id="alerts", recipients=5) for number in range(200)))
    served: Counter[str] = Counter()
    for _ in range(20):
        for row in index.order.next_waiting("fair", NOW_S, limit=10, weights={"alerts": 4.0, "gone": 9.0}):
            index.set_state(row.filebase, EntryState.ACTIVE)
            served[row.list_id] += row.recipients
    assert served["letters"] == pytest.approx(served["chat"], abs=42)
    assert served["alerts"] == pytest.approx(4 * served["chat"], abs=4 * (5 / 4 + 2))


def test_a_list_whose_entries_were_put_off_has_not_had_its_turn(index: BacklogIndex) -> None:
    fill(index, *(described(f"{number}.5+a", list_id="blocked", recipients=50) for number in range(9)))
    fill(index, *(described(f"{number}.5+b", list_id="other", recipients=50) for number in range(9)))
    (first,) = index.order.next_waiting("fair", NOW_S)
    index.set_state(first.filebase, EntryState.DEFERRED, "ceiling", NOW_S + 60)
    index.order.not_sent(first.list_id, first.expected)
    (second,) = index.order.next_waiting("fair", NOW_S)
    assert (first.list_id, second.list_id) == ("blocked", "blocked")


def test_entries_of_closed_lists_are_passed_over_in_the_same_order_many_or_few(index: BacklogIndex) -> None:
    fill(index, *(described(f"{number}.5+a", list_id="closed") for number in range(300)))
    fill(index, *(described(f"{number}.5+{number % 3}", list_id=f"open {number % 3}") for number in range(60)))
    expected = [f"{number}.5+{number % 3}" for number in range(60)]
    assert following(index, "oldest", paused=frozenset({"closed"})) == expected, "each list is asked by itself"
    for number in range(280):
        index.remove(f"{number}.5+a")
    assert following(index, "oldest", paused=frozenset({"closed"})) == expected, "the few are passed over"


@given(
    st.lists(st.tuples(st.integers(0, 3), st.sampled_from(["begin", "back", "remove", "add"])), max_size=20),
    st.sets(st.integers(0, 3), max_size=3),
)
@settings(max_examples=40, deadline=None)
def test_entries_of_open_lists_go_oldest_first_whatever_went_and_came_back(
    changes: list[tuple[int, str]], paused: set[int]
) -> None:
    index, closed = BacklogIndex(Path(":memory:")), frozenset({"flood", *(f"list {number}" for number in paused)})
    fill(index, *(described(f"{1000 + number}.5+f", list_id="flood") for number in range(120)))
    waiting = {f"{1000 + 10 * number}.5+{number % 4}" for number in range(12)}
    fill(index, *(described(name, list_id=f"list {name[-1]}") for name in sorted(waiting)))
    active: list[str] = []
    for at, (number, change) in enumerate(changes):
        found = following(index, "oldest", limit=3, paused=closed)
        assert found == [name for name in sorted(waiting) if f"list {name[-1]}" not in closed][:3]
        if change == "begin":
            index.begin(found)
            active, waiting = [*active, *found], waiting.difference(found)
        elif change == "back" and active:
            index.set_state(active[0], EntryState.WAITING)
            waiting.add(active.pop(0))
        elif change == "remove" and waiting:
            index.remove(min(waiting))
            waiting.remove(min(waiting))
        elif change == "add":
            fill(index, described(f"{1000 + at}.2+{number}", list_id=f"list {number}"))
            waiting.add(f"{1000 + at}.2+{number}")
    index.close()


def test_paused_lists_are_passed_over_in_every_order(index: BacklogIndex) -> None:
    fill(
        index, described("1.5+a", list_id="birds"), described("2.5+b", list_id="ships"), described("3.5+c", list_id="x")
    )
    orders: tuple[Order, ...] = ("oldest", "fresh", "fair", "priority")
    for order in orders:
        assert set(following(index, order, paused=frozenset({"birds", "unknown"}), priority=("birds",))) == {
            "2.5+b",
            "3.5+c",
        }


def test_same_message_is_never_active_twice_at_once(index: BacklogIndex) -> None:
    fill(
        index,
        described("1.5+a", identity=("body", "id one")),
        described("2.5+b", identity=("body", "id two")),
        described("3.5+c", identity=("id two",)),
        described("4.5+d"),
    )
    assert following(index) == ["1.5+a", "3.5+c", "4.5+d"]
    index.set_state("1.5+a", EntryState.ACTIVE)
    assert following(index, limit=1) == ["3.5+c"]
    index.set_state("3.5+c", EntryState.ACTIVE)
    index.remove("1.5+a")
    assert following(index) == ["4.5+d"]
    index.set_state("3.5+c", EntryState.DEFERRED, "451 try later", NOW_S + 10)
    assert following(index) == ["2.5+b", "4.5+d"]


def test_deferred_entries_go_again_when_due_and_not_before(index: BacklogIndex) -> None:
    fill(index, described("1.5+a"), described("2.5+b"))
    index.set_state("1.5+a", EntryState.DEFERRED, "451 later", NOW_S + 60)
    assert following(index) == ["2.5+b"]
    assert index.order.next_due_s() == NOW_S + 60
    assert [row.filebase for row in index.order.next_waiting("oldest", NOW_S + 60, limit=9)] == ["1.5+a", "2.5+b"]
    assert index.totals.overall().deferred_recipients == 2, "due, but still one that was deferred"
    assert index.state_of("1.5+a") is EntryState.DEFERRED
    index.set_state("1.5+a", EntryState.ACTIVE)
    assert index.totals.overall().deferred_recipients == 0
    assert index.order.next_due_s() is None


def test_many_that_are_due_at_once_go_with_the_next_picks(index: BacklogIndex) -> None:
    names = [f"{number}.5+a" for number in range(1100)]
    fill(index, *map(described, names))
    for name in names:
        index.set_state(name, EntryState.DEFERRED, "451 later", NOW_S - 1 + float(name[:-2]) / 10_000)
    index.order.next_waiting("oldest", NOW_S)
    assert following(index, limit=2000) == names and index.order.next_due_s() is None


def test_deferral_known_from_the_ledger_waits_for_its_time_although_not_read_yet(index: BacklogIndex) -> None:
    index.add_listed(listed("1.5+a"))
    index.set_state("1.5+a", EntryState.DEFERRED, "451", NOW_S - 1)
    assert following(index) == []
    index.describe([described("1.5+a")])
    assert following(index) == ["1.5+a"]


@given(
    st.lists(st.tuples(st.booleans(), st.integers(0, 3), st.integers(1, 3)), min_size=2, max_size=8),
    st.sampled_from(["oldest", "fair", "priority"]),
)
@settings(max_examples=40, deadline=None)
def test_entries_received_at_the_same_time_go_in_the_order_a_scan_tells(
    facts: list[tuple[bool, int, int]], order: Order
) -> None:
    copies = []
    for number, (decorated, recipients, size) in enumerate(facts):
        one = described(f"1.5+{number}", identity=(f"{number}", "all"), recipients=recipients)
        copies.append(replace(one, summary=replace(one.summary, decorated=decorated, size_bytes=size)))
    in_order = sorted((copy.summary for copy in copies), key=fifo_key)
    index = BacklogIndex(Path(":memory:"))
    fill(index, *copies)
    for number, summary in enumerate(in_order):
        earlier = index.related.earlier_with((digest("all"),), (summary.when_s, tie_order(summary), summary.filebase))
        assert [entry.filebase for entry in earlier] == [before.filebase for before in in_order[:number]]
    picked = []
    for _ in in_order:
        picked += following(index, order)
        index.remove(picked[-1])
    index.close()
    assert picked == [summary.filebase for summary in in_order]


def test_the_fresh_lane_has_what_is_young_never_deferred_and_no_copy(index: BacklogIndex) -> None:
    fill(
        index,
        described("100.5+old"),
        described("901.5+b", list_id="closed"),
        described("902.5+copy", duplicate=DuplicateClass.EXACT, of="100.5+old"),
        described("903.5+resent", duplicate=DuplicateClass.RESEND, of="100.5+old"),
        described("905.5+new", list_id="two"),
        described("904.5+new"),
        described("906.5+deferred"),
        described("2000.5+ahead"),
    )
    index.set_state("906.5+deferred", EntryState.DEFERRED, "451", NOW_S - 1)
    index.order.next_waiting("oldest", NOW_S)
    for closed in (frozenset[str](), frozenset({"closed"})):
        found = [row.filebase for row in index.order.next_fresh((900.0, 1000.0), closed, 9)]
        assert found == ["901.5+b"] * (not closed) + ["904.5+new", "905.5+new"]
    fill(index, *(described(f"950.5+{number}", list_id="closed") for number in range(200)))
    found = [row.filebase for row in index.order.next_fresh((900.0, 1000.0), frozenset({"closed"}), 9)]
    assert found == ["904.5+new", "905.5+new"], "also where many of a closed list are young"
