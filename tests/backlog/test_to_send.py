"""What of the backlog is expected to be sent: per list, with sizes and recipients of limited domains."""

from __future__ import annotations

from drainer.backlog.index import BacklogIndex
from drainer.backlog.states import EntryState
from drainer.backlog.values import Description
from drainer.backlog.work import ToSend
from drainer.duplicates.classes import DuplicateClass
from drainer.queuedir.domains import in_domains
from tests.backlog.entries import NOW_S, described, fill


def limited(filebase: str, recipients: int, *counts: int, covered: int = 0) -> Description:
    plain = described(filebase, recipients=recipients, covered=covered)
    return Description(plain.summary, covered=covered, limited=counts)


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
    assert only(index) == ToSend("birds.example.org", False, False, False, 2, 10, 200, 1000, ())


def test_only_the_uncovered_part_of_a_partial_duplicate_is(index: BacklogIndex) -> None:
    fill(index, described("1.5+a", recipients=5, duplicate=DuplicateClass.PARTIAL, covered=3))
    found = only(index)
    assert (found.entries, found.recipients, found.bytes, found.bytes_each) == (1, 2, 100, 200)


def test_recipients_of_limited_domains_follow_what_is_owed(index: BacklogIndex) -> None:
    fill(index, limited("1.5+a", 10, 4, 0), limited("2.5+b", 10, 0, 2), limited("3.5+c", 10, 6, 0, covered=5))
    assert only(index).limited == (7, 2)
    index.set_owed("1.5+a", 5)
    assert only(index).limited == (5, 2)
    index.remove("2.5+b")
    assert only(index).limited == (5, 0)


def test_entry_put_off_for_its_domain_only_differs_from_one_that_the_mta_deferred(index: BacklogIndex) -> None:
    fill(index, limited("1.5+a", 10, 4), limited("2.5+b", 10, 4))
    index.set_owed("1.5+a", 4, (4,))
    for filebase in ("1.5+a", "2.5+b"):
        index.set_state(filebase, EntryState.DEFERRED, "later", NOW_S + 9)
    by_reason = {found.is_limited: found for found in index.totals.to_send()}
    assert (by_reason[True].recipients, by_reason[True].limited, by_reason[True].is_deferred) == (4, (4,), True)
    assert (by_reason[False].recipients, by_reason[False].limited, by_reason[False].is_deferred) == (10, (4,), True)


def test_domains_are_counted_whatever_the_case() -> None:
    assert in_domains(["a@Example.ORG", "b@example.org", "c@example.com"], ("example.com", "example.org")) == (1, 2)
    assert in_domains(["a@example.net"], ("example.org",)) == ()
    assert in_domains(["a@example.net"], ()) == ()
