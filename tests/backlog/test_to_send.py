"""What of the backlog is expected to be sent: per list, with sizes; and by recipient domain."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drainer.backlog.index import BacklogIndex
from drainer.backlog.states import EntryState
from drainer.backlog.values import Description
from drainer.backlog.work import Expected, ToSend, without_unserved
from drainer.duplicates.classes import DuplicateClass
from drainer.queuedir.domains import LARGEST_OF_AN_ENTRY, domain_counts
from tests.backlog.entries import NOW_S, described, fill, following


def in_domains(filebase: str, recipients: int, covered: int = 0, **counts: int) -> Description:
    """counts  recipients by the first label of their domain"""
    plain = described(filebase, recipients=recipients, covered=covered)
    domains = tuple((f"{name}.example", count) for name, count in counts.items())
    return Description(plain.summary, covered=covered, domains=domains)


def only(index: BacklogIndex) -> ToSend:
    (found,) = index.totals.to_send()
    return found


def test_held_entries_and_expected_duplicates_are_not_to_be_sent(index: BacklogIndex) -> None:
    fill(
        index,
        described("1.5+a", recipients=5),
        described("2.5+b", recipients=5, duplicate=DuplicateClass.EXACT, covered=5),
        described("3.5+c", recipients=5, duplicate=DuplicateClass.NONE),
        described("4.5+d", recipients=7),
    )
    index.set_state("4.5+d", EntryState.HELD)
    assert only(index) == ToSend("birds.example.org", False, False, False, 2, 10, 200, 1000)


def test_only_the_uncovered_part_of_a_partial_duplicate_is(index: BacklogIndex) -> None:
    fill(index, described("1.5+a", recipients=5, duplicate=DuplicateClass.PARTIAL, covered=3))
    found = only(index)
    assert (found.entries, found.recipients, found.bytes, found.bytes_each) == (1, 2, 100, 200)


def test_recipients_of_domains_follow_what_is_owed(index: BacklogIndex) -> None:
    fill(index, in_domains("1.5+a", 10, web=4), in_domains("2.5+b", 10, gmx=2), in_domains("3.5+c", 10, 5, web=6))
    by_domain = index.totals.by_domain
    assert by_domain(False) == {"web.example": 7, "gmx.example": 2}
    index.set_owed("1.5+a", 5)
    assert by_domain(False) == {"web.example": 5, "gmx.example": 2}
    index.remove("2.5+b")
    assert by_domain(False) == {"web.example": 5} and by_domain(False, {"birds.example.org"}) == {}
    index.set_state("3.5+c", EntryState.HELD)
    assert index.totals.in_domain("web.example", False) == 2 and index.totals.in_domain("new.example", False) == 0


def test_recipients_of_domains_are_had_without_some_lists_and_with_resends(index: BacklogIndex) -> None:
    domains = (("web.example", 4),)
    resend = described("2.5+b", list_id="bees.example.org", recipients=4, duplicate=DuplicateClass.RESEND)
    other = described("3.5+c", list_id="bees.example.org", recipients=4)
    fill(index, in_domains("1.5+a", 10, web=3), replace(resend, domains=domains), replace(other, domains=domains))
    for with_resends, without, left in (
        (False, (), 7),
        (True, (), 11),
        (False, ("bees.example.org",), 3),
        (True, ("bees.example.org", "none.example.org"), 3),
        (True, ("birds.example.org",), 8),
    ):
        assert index.totals.by_domain(with_resends, without) == {"web.example": left}
        assert index.totals.in_domain("web.example", with_resends, without) == left


def test_entry_that_waits_for_a_ceiling_stands_in_a_lane_and_is_not_deferred(index: BacklogIndex) -> None:
    fill(index, in_domains("1.5+a", 10, web=4), in_domains("2.5+b", 10, web=4), described("3.5+c"))
    index.set_owed("1.5+a", 4, (("web.example", 4),))
    index.set_state("1.5+a", EntryState.WAITING, "ceiling of web.example", lane="web.example")
    index.set_state("2.5+b", EntryState.DEFERRED, "later", NOW_S + 9)
    assert following(index) == ["3.5+c"] and index.order.next_due_s() == NOW_S + 9
    (waiting,) = index.order.next_waiting("oldest", NOW_S, lane="web.example")
    assert (waiting.filebase, waiting.recipients, waiting.domains) == ("1.5+a", 4, (("web.example", 4),))
    assert index.totals.lanes() == {"web.example": 4}
    parked = [found for found in index.totals.to_send() if found.is_parked]
    assert [(found.recipients, found.is_deferred) for found in parked] == [(4, False)]
    assert index.totals.overall().deferred_recipients == 10
    assert index.leave_lane("web.example", 9) == 1
    assert following(index) == ["1.5+a", "3.5+c"] and index.totals.lanes() == {}


def test_lane_keeps_to_the_order_and_to_pauses_of_lists(index: BacklogIndex) -> None:
    fill(index, described("1.5+a", list_id="one"), described("2.5+b", list_id="two"), described("3.5+c", list_id="one"))
    for filebase in ("1.5+a", "2.5+b", "3.5+c"):
        index.set_state(filebase, EntryState.WAITING, lane="google")
    names = [row.filebase for row in index.order.next_waiting("fresh", NOW_S, {"one"}, 9, lane="google")]
    assert names == ["2.5+b"]
    index.set_state("2.5+b", EntryState.ACTIVE)
    assert index.totals.lanes() == {"google": 4}, "who is being sent to stands there no longer"


def test_largest_domains_of_an_entry_are_counted_whatever_the_case() -> None:
    many = [f"a{number}@d{at}.example" for at in range(20) for number in range(at)]
    found = domain_counts([*many, "b@Example.ORG", "b@example.org"], {"example.org", "none.example"})
    assert found[:2] == (("d19.example", 19), ("d18.example", 18))
    assert found[-1] == ("example.org", 2) and len(found) == LARGEST_OF_AN_ENTRY + 1
    assert domain_counts([]) == ()


@given(st.integers(1, 10_000), st.floats(0, 1), st.integers(0, 500), st.floats(0, 1), st.floats(0, 1))
def test_work_without_unserved_recipients_is_no_more_than_before_and_never_negative(
    recipients: int, unserved: float, entries: int, deferred: float, parked: float
) -> None:
    going = Expected(recipients, recipients * deferred, recipients * parked, max(1.0, recipients / 7), recipients * 1e3)
    found = without_unserved(going, recipients * unserved, entries)
    assert found.recipients == pytest.approx(recipients * (1 - unserved), abs=1e-6)
    assert 0 <= found.deferred_recipients <= found.recipients + 1e-6
    assert 0 <= found.messages <= going.messages
    assert found.messages >= min(going.messages, entries) or found.recipients == 0, "each entry that goes on needs one"
    assert without_unserved(going, 0.0, entries) == going


def test_copy_stays_in_the_lane_of_its_original(index: BacklogIndex) -> None:
    domains = (("one.example", 2), ("two.example", 2))
    copy = described("2.5+b", identity=("x",), duplicate=DuplicateClass.EXACT, of="1.5+a")
    fill(
        index,
        *(replace(one, domains=domains) for one in (described("1.5+a", identity=("x",)), copy, described("3.5+c"))),
    )
    assert index.lane_of_original("2.5+b") == "", "the original waits for no ceiling"
    for name in ("1.5+a", "2.5+b", "3.5+c"):
        index.set_state(name, EntryState.WAITING, lane="one.example")
    assert [index.lane_of_original(name) for name in ("1.5+a", "2.5+b", "3.5+c")] == ["", "one.example", ""]
    assert index.take_over(["two.example"], "two.example", 9, "") == 2
    assert lane(index, "one.example") == ["2.5+b"]
    index.set_state("1.5+a", EntryState.ACTIVE)
    assert index.take_over(["two.example"], "two.example", 9, "") == 0, "the original is being sent"
    index.set_state("1.5+a", EntryState.WAITING, lane="two.example")
    assert index.take_over(["two.example"], "two.example", 9, "") == 1, "after its original"
    assert lane(index, "two.example") == ["1.5+a", "3.5+c"], "two copies are not picked at a time"
    index.remove("1.5+a")
    assert index.lane_of_original("2.5+b") == "" and lane(index, "two.example") == ["2.5+b", "3.5+c"]


def lane(index: BacklogIndex, destination: str) -> list[str]:
    return [row.filebase for row in index.order.next_waiting("oldest", NOW_S, limit=9, lane=destination)]
