"""Transactions and octets still to come, by what a list's entries took so far."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drainer.backlog.splits import Splits
from drainer.backlog.work import ToSend, expected_by_list


def splits_of(*entries: tuple[str, list[int]], ended: bool = True, owed: int = 0) -> Splits:
    """entries: list, and the recipients of each transaction; 1,000 octets each. owed: recipients when it began; 0: these."""
    splits = Splits()
    for at, (list_id, transactions) in enumerate(entries):
        splits.begun(f"{at}", list_id, 1000, owed or sum(transactions))
        for recipients in transactions:
            splits.sent(f"{at}", recipients, recipients)
        if ended:
            splits.ended(f"{at}")
    return splits


def waiting(
    list_id: str, entries: int, each: int, *, deferred: bool = False, resend: bool = False, parked: bool = False
) -> ToSend:
    owed, size = entries * each, entries * 1000
    return ToSend(list_id, resend, deferred, parked, entries, owed, size, size * each)


def test_a_personalised_list_takes_a_transaction_for_each_recipient() -> None:
    splits = splits_of(*[("choir", [1] * 30)] * 40)
    assert splits.learnt.transactions("choir", 100, 3000) == pytest.approx(3000, rel=0.01)
    assert splits.learnt.octets("choir", 100_000, 3_000_000) == pytest.approx(3_000_000, rel=0.01)


def test_a_bulk_list_takes_as_many_as_its_entries_took_so_far() -> None:
    splits = splits_of(*[("board", [200, 100])] * 40)
    assert splits.learnt.transactions("board", 100, 30_000) == pytest.approx(200, rel=0.01)
    assert splits.learnt.octets("board", 100_000, 30_000_000) == pytest.approx(200_000, rel=0.01)


def test_an_entry_owed_to_one_recipient_takes_one_transaction_on_any_list() -> None:
    splits = splits_of(("choir", [1] * 30), ("board", [200, 100]))
    for name in ("choir", "board", "unknown"):
        assert splits.learnt.transactions(name, 7, 7) == 7


def test_a_list_nothing_was_sent_of_is_as_the_others() -> None:
    assert splits_of(*[("choir", [1] * 30)] * 40).learnt.transactions("new", 10, 300) == pytest.approx(300, rel=0.01)
    assert splits_of(*[("board", [200, 100])] * 40).learnt.transactions("new", 10, 3000) == pytest.approx(20, rel=0.05)


def test_entries_still_waiting_for_their_second_transaction_do_not_seem_to_take_one() -> None:
    splits = splits_of(*[("board", [200, 100])] * 40)
    for at in range(40):
        splits.begun(f"more {at}", "board", 1000, 300)
        splits.sent(f"more {at}", 200, 200)
    assert splits.learnt.transactions("board", 100, 30_000) == pytest.approx(200, rel=0.01)


def test_a_list_is_known_by_the_first_transactions_of_its_entries() -> None:
    """Side by side with short ones, an entry of many transactions ends last."""
    splits = splits_of(*[("choir", [1, 1])] * 10, ended=False, owed=30)
    for at in range(40):
        splits.begun(f"bulk {at}", "board", 1000, 300)
        splits.sent(f"bulk {at}", 300, 300)
        splits.ended(f"bulk {at}")
    assert splits.learnt.transactions("choir", 10, 300) == pytest.approx(300, rel=0.02)
    assert splits.learnt.transactions("board", 10, 3000) == pytest.approx(10, rel=0.02)


@given(
    st.lists(st.tuples(st.sampled_from("ab"), st.lists(st.integers(1, 500), max_size=20)), max_size=20),
    st.integers(1, 1000),
    st.integers(1, 500),
)
def test_there_are_never_fewer_than_entries_nor_more_than_recipients(
    entries: list[tuple[str, list[int]]], left: int, each: int
) -> None:
    splits = splits_of(*entries)
    for name in "abc":
        assert left <= splits.learnt.transactions(name, left, left * each) <= left * each


def test_what_an_entry_in_delivery_has_done_is_no_work_left() -> None:
    splits = splits_of(("choir", [1] * 30), ended=False)
    (left,) = expected_by_list([waiting("choir", 1, 100)], splits, with_resends=False, whole=False).values()
    assert left.recipients == 70
    assert left.messages == pytest.approx(70, rel=0.15)
    assert left.octets == pytest.approx(70_000, rel=0.15)
    splits.ended("0")
    (left,) = expected_by_list([waiting("choir", 1, 70)], splits, with_resends=False, whole=False).values()
    assert left.recipients == 70


def test_resends_are_work_only_where_they_are_to_be_sent() -> None:
    to_send = [waiting("choir", 3, 10), waiting("choir", 2, 10, resend=True)]
    assert expected_by_list(to_send, Splits(), with_resends=False, whole=False)["choir"].recipients == 30
    assert expected_by_list(to_send, Splits(), with_resends=True, whole=False)["choir"].recipients == 50


def test_an_entry_for_mailmans_runner_is_one_message() -> None:
    left = expected_by_list([waiting("choir", 3, 10)], splits_of(("choir", [1] * 30)), with_resends=False, whole=True)
    assert left["choir"].messages == 3


def test_recipients_that_wait_for_a_ceiling_differ_from_those_that_the_mta_deferred() -> None:
    to_send = [
        waiting("choir", 3, 10),
        waiting("choir", 2, 4, deferred=True),
        waiting("choir", 1, 7, parked=True),
    ]
    left = expected_by_list(to_send, Splits(), with_resends=False, whole=False)["choir"]
    assert (left.recipients, left.deferred_recipients, left.parked_recipients) == (45, 8, 7)
