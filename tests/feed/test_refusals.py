"""When refusals in a row are too many, and what ends the row."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from drainer.feed.refusals import (
    FEWEST_ENTRIES,
    FEWEST_TRANSACTIONS,
    MOST_RECIPIENTS,
    Refusals,
    after_transaction,
    is_believed,
)
from drainer.ledger.records import Outcome
from drainer.ledger.states import State


def outcome(state: State, recipients: int = 5) -> Outcome:
    return Outcome(state, tuple(f"r{number}@example.org" for number in range(recipients)), "554 5.7.1 denied", 1.0)


def heard(transactions: Iterable[tuple[str, Outcome]]) -> Refusals:
    refusals = Refusals()
    for filebase, what in transactions:
        refusals = after_transaction(refusals, filebase, [what])
    return refusals


def refused(transactions: int, recipients: int = 5, entries: int = FEWEST_ENTRIES) -> list[tuple[str, Outcome]]:
    return [(f"entry{number % entries}", outcome(State.FAILED, recipients)) for number in range(transactions)]


def test_nothing_but_refusals_is_too_much_and_its_words_are_kept() -> None:
    refusals = heard(refused(FEWEST_TRANSACTIONS))
    assert refusals.recipients == MOST_RECIPIENTS and refusals.are_too_many
    assert "554 5.7.1 denied" in refusals.text() and "drainer resume" in refusals.text()


def test_few_recipients_transactions_or_entries_are_not_too_much() -> None:
    assert not heard(refused(FEWEST_TRANSACTIONS, recipients=4)).are_too_many
    assert not heard(refused(FEWEST_TRANSACTIONS - 1, recipients=50)).are_too_many
    assert not heard(refused(500, entries=FEWEST_ENTRIES - 1)).are_too_many


def test_one_recipient_accepted_ends_the_row_and_a_deferral_does_not() -> None:
    long = refused(FEWEST_TRANSACTIONS * 5)
    for state in (State.DELIVERED, State.IN_DOUBT):
        assert heard([*long, ("other", outcome(state, 1))]) == Refusals()
    assert heard([*long, ("other", outcome(State.DEFERRED, 1))]).are_too_many


def test_a_transaction_that_accepts_some_ends_the_row_whatever_it_refuses() -> None:
    mixed = after_transaction(Refusals(99, 99), "entry", [outcome(State.FAILED), outcome(State.DELIVERED, 1)])
    assert mixed == Refusals()


@pytest.mark.parametrize(
    ("failed_at_s", "accepted_at_s", "quiet_s", "nothing_waits", "believed"),
    [
        (100.0, None, 10.0, False, False),
        (100.0, None, 10.0, True, False),
        (100.0, 99.0, 10.0, False, False),
        (100.0, 101.0, 0.0, False, True),
        (100.0, 99.0, 0.0, True, True),
        (100.0, None, 300.0, False, True),
    ],
    ids=[
        "nobody_yet",
        "nobody_ever",
        "nobody_since",
        "somebody_since",
        "nothing_left_to_prove_it",
        "quiet_long_enough",
    ],
)
def test_failure_is_believed_once_the_mta_has_shown_that_it_takes_mail(
    failed_at_s: float, accepted_at_s: float | None, quiet_s: float, nothing_waits: bool, believed: bool
) -> None:
    assert is_believed(failed_at_s, accepted_at_s, quiet_s, 300.0, nothing_waits) is believed
