"""Totals are true after any sequence of changes."""

from __future__ import annotations

import contextlib
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from drainer.backlog.index import BacklogIndex
from drainer.backlog.selection import Selectors
from drainer.backlog.states import EntryState
from drainer.duplicates.classes import DuplicateClass
from drainer.errors import IllegalTransition
from tests.backlog.entries import NOW_S, described, fill, listed

CHANGES = ["describe", "waiting", "active", "deferred", "held", "remove", "owed", "again", "due", "pick"]


def test_lists_are_totalled_with_most_recipients_first(index: BacklogIndex) -> None:
    fill(
        index,
        described("1.5+a", list_id="birds", recipients=5),
        described("2.5+b", list_id="birds", recipients=7),
        described("3.5+c", list_id="ships", recipients=20),
        described("4.5+d", list_id="clocks", recipients=1),
    )
    index.set_state("1.5+a", EntryState.HELD)
    index.set_state("2.5+b", EntryState.DEFERRED, "", NOW_S)
    index.remove("4.5+d")
    index.add_listed(listed("0.5+unread"))
    rows = [
        (row.list_id, row.entries, row.recipients, row.held_entries, row.deferred_recipients, row.oldest_s)
        for row in index.totals.per_list()
    ]
    assert rows == [("ships", 1, 20, 0, 0, 3.5), ("birds", 1, 7, 1, 7, 2.5)]


def test_settled_recipients_leave_the_totals_before_the_entry_does(index: BacklogIndex) -> None:
    fill(index, described("1.5+a", recipients=1000))
    index.set_state("1.5+a", EntryState.ACTIVE)
    assert index.set_owed("1.5+a", 400)
    assert index.totals.overall().recipients == 400
    assert not index.set_owed("2.5+gone", 1)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    changes=st.lists(
        st.tuples(st.sampled_from(CHANGES), st.integers(0, 4), st.sampled_from(list(DuplicateClass))), max_size=40
    )
)
def test_totals_equal_a_count_of_the_rows_after_any_changes(
    changes: list[tuple[str, int, DuplicateClass]],
) -> None:
    index = BacklogIndex(Path(":memory:"))
    index.add_listed(listed(*(f"{number}.5+a" for number in range(5))))
    now_s = NOW_S
    for change, number, duplicate in changes:
        filebase = f"{number}.5+a"
        index.totals.overall(), index.totals.per_list()  # asked in between too: what was counted is remembered
        match change:
            case "describe":
                index.describe(
                    [
                        described(
                            filebase, list_id=f"list{number % 2}", recipients=number + 1, duplicate=duplicate, covered=1
                        )
                    ]
                )
            case "remove":
                index.remove(filebase)
            case "owed":
                index.set_owed(filebase, number)
            case "again":
                index.add_listed(listed(filebase))
            case "due":
                now_s += 50
                index.order.next_waiting("fair", now_s, limit=2)
            case "pick":
                index.begin([row.filebase for row in index.order.next_waiting("oldest", now_s, limit=number + 1)])
            case _:
                due_s = now_s + 60 if change == "deferred" else None
                with contextlib.suppress(IllegalTransition):  # then nothing may have changed
                    index.set_state(filebase, EntryState(change), due_s=due_s)
    lines = index.lines.select(Selectors(), now_s, 100).lines
    totals = index.totals.overall()
    free = [line for line in lines if line.state != "held"]
    assert totals.entries == len(free)
    assert totals.held_entries == len(lines) - len(free)
    assert totals.recipients == sum(line.recipients or 0 for line in free)
    assert totals.bytes == sum(line.bytes for line in free)
    assert totals.unread_entries == sum(line.recipients is None for line in lines)
    assert totals.deferred_recipients == sum(line.recipients or 0 for line in free if line.state == "deferred")
    assert totals.duplicate_entries == sum(line.duplicate in ("exact", "restored") for line in free)
    assert totals.oldest_s == min((float(line.entry.partition("+")[0]) for line in free), default=None)
    per_list = index.totals.per_list()
    assert sum(row.entries for row in per_list) == sum(line.recipients is not None for line in free)
    assert sum(row.recipients for row in per_list) == totals.recipients
    going = {row.filebase for row in index.order.next_waiting("fair", now_s, limit=100)}
    assert going == {
        line.entry
        for line in free
        if line.recipients is not None
        and (line.state == "waiting" or (line.state == "deferred" and line.due is not None and line.due <= now_s))
    }
    assert going == {row.filebase for row in index.order.next_waiting("oldest", now_s, limit=100)}
    index.close()
