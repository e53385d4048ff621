"""When refusals in a row are too many, and what ends the row."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from drainer.feed.refusals import (
    FEWEST_DOMAINS,
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
        ended = heard([*long, ("other", outcome(state, 1))])
        assert (ended.recipients, ended.transactions, ended.are_doubtful) == (0, 0, False)
    assert heard([*long, ("other", outcome(State.DEFERRED, 1))]).are_too_many


def test_relay_refusal_lengthens_the_row_though_it_only_defers() -> None:
    denied = Outcome(State.DEFERRED, ("r@example.org",) * 5, "554 5.7.1 <r@example.org>: Relay access denied", 1.0)
    assert heard([(f"entry{number % 5}", denied) for number in range(FEWEST_TRANSACTIONS)]).are_too_many


def of_domain(state: State, domain: str, recipients: int = 1, at_s: float = 1.0) -> Outcome:
    return Outcome(state, tuple(f"r{number}@{domain}" for number in range(recipients)), "550 5.1.1 unknown", at_s)


def mixed(transactions: int, refused: int, accepted: int) -> list[list[Outcome]]:
    """Outcomes of transactions to so many domains, one recipient each."""
    return [
        [of_domain(State.FAILED, f"dead{number}.example", at_s=at) for number in range(refused)]
        + [of_domain(State.DELIVERED, f"live{number}.example", at_s=at) for number in range(accepted)]
        for at in range(transactions)
    ]


def after_all(transactions: list[list[Outcome]], before: Refusals | None = None) -> Refusals:
    refusals = before or Refusals()
    for number, outcomes in enumerate(transactions):
        refusals = after_transaction(refusals, f"entry{number}", outcomes)
    return refusals


def test_relay_that_takes_mail_for_its_own_domain_only_is_noticed() -> None:
    refusals = after_all(mixed(FEWEST_TRANSACTIONS, refused=12, accepted=3))
    assert refusals.are_too_many and refusals.are_doubtful and refusals.doubtful_since_s == 0.0
    assert "12 domains" in refusals.text() and "for 3 only" in refusals.text() and "550 5.1.1" in refusals.text()


def test_dead_domains_among_many_that_live_are_everyday_life() -> None:
    for refused, accepted in ((12, 4), (FEWEST_DOMAINS - 1, 0), (15, 15)):
        refusals = after_all([*mixed(50, refused, accepted), [of_domain(State.DELIVERED, "live0.example")]])
        assert not (refusals.are_too_many or refusals.of_most_domains), (refused, accepted)


def test_domains_count_by_the_last_word_on_each() -> None:
    live = [[of_domain(State.DELIVERED, f"dead{number}.example") for number in range(12)]]
    broken = after_all(mixed(FEWEST_TRANSACTIONS, refused=12, accepted=1), after_all(live * 50))
    assert broken.are_too_many, "what it took before it broke says nothing of now"
    assert not after_all(live, broken).of_most_domains


def test_few_refusals_of_most_domains_raise_doubt_and_stop_nothing() -> None:
    refusals = after_all(mixed(3, refused=12, accepted=1))
    assert refusals.of_most_domains and refusals.are_doubtful and not refusals.are_too_many


def test_a_transaction_that_accepts_some_ends_the_row_whatever_it_refuses() -> None:
    after = after_transaction(Refusals(99, 99), "entry", [outcome(State.FAILED), outcome(State.DELIVERED, 1)])
    assert (after.recipients, after.transactions, after.are_doubtful) == (0, 0, False)


@pytest.mark.parametrize(
    ("failed_at_s", "accepted_at_s", "quiet_s", "nothing_waits", "of_most_domains", "believed"),
    [
        (100.0, None, 10.0, False, False, False),
        (100.0, None, 10.0, True, False, False),
        (100.0, 99.0, 10.0, False, False, False),
        (100.0, 101.0, 0.0, False, False, True),
        (100.0, 99.0, 0.0, True, False, True),
        (100.0, None, 300.0, False, False, True),
        (100.0, 101.0, 0.0, True, True, False),
        (100.0, 101.0, 300.0, True, True, True),
    ],
    ids=[
        "nobody_yet",
        "nobody_ever",
        "nobody_since",
        "somebody_since",
        "nothing_left_to_prove_it",
        "quiet_long_enough",
        "somebody_of_a_few_domains",
        "a_few_domains_and_quiet",
    ],
)
def test_failure_is_believed_once_the_mta_has_shown_that_it_takes_mail(
    failed_at_s: float,
    accepted_at_s: float | None,
    quiet_s: float,
    nothing_waits: bool,
    of_most_domains: bool,
    believed: bool,
) -> None:
    assert is_believed(failed_at_s, accepted_at_s, quiet_s, 300.0, nothing_waits, of_most_domains) is believed
