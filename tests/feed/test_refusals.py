"""When refusals in a row are too many, and what ends the row."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import cycle, islice

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from drainer.feed.refusals import (
    DOMAINS_OF_A_TRANSACTION,
    FEWEST_DOMAINS,
    FEWEST_ENTRIES,
    FEWEST_TRANSACTIONS,
    LAST_TRANSACTIONS,
    MOST_RECIPIENTS,
    REFUSED_PER_ACCEPTED,
    Refusals,
    is_believed,
)
from drainer.ledger.records import Outcome
from drainer.ledger.states import State
from drainer.queuedir.domains import domain_of


def outcome(state: State, recipients: int = 5) -> Outcome:
    return Outcome(state, tuple(f"r{number}@example.org" for number in range(recipients)), "554 5.7.1 denied", 1.0)


def heard(transactions: Iterable[tuple[str, Outcome]]) -> Refusals:
    refusals = Refusals()
    for filebase, what in transactions:
        refusals.heard(filebase, [what])
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
        refusals.heard(f"entry{number}", outcomes)
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
    after = heard(refused(FEWEST_TRANSACTIONS))
    after.heard("entry", [outcome(State.FAILED), outcome(State.DELIVERED, 1)])
    assert (after.recipients, after.transactions, after.are_doubtful) == (0, 0, False)


Told = tuple[str, Sequence[Outcome]]


def plainly(told: Sequence[Told]) -> tuple[bool, bool, bool, float]:
    """are_too_many, of_most_domains, are_doubtful and doubtful_since_s, from the definition: all that was told is walked
    through each time."""
    row: list[Told] = []
    for filebase, outcomes in told:
        row = [] if any(one.state is State.DELIVERED for one in outcomes) else [*row, (filebase, outcomes)]
    recipients = sum(len(one.recipients) for _, outcomes in row for one in outcomes)
    since_s = min((one.at_s for _, outcomes in row for one in outcomes), default=math.inf)
    is_row_much = is_much(recipients, len(row), len({filebase for filebase, _ in row}))

    refused_since: dict[str, int] = {}
    taking: set[str] = set()
    ever_taking: set[str] = set()
    rows: list[Told] = []
    for filebase, outcomes in reversed(told[-LAST_TRANSACTIONS:]):
        takes = in_domains(outcomes, State.DELIVERED)
        others = {domain: n for domain, n in in_domains(outcomes, State.FAILED).items() if domain not in takes}
        accepted = set(list(takes)[:DOMAINS_OF_A_TRANSACTION])
        refused = dict(islice(others.items(), DOMAINS_OF_A_TRANSACTION))
        still = {domain: count for domain, count in refused.items() if domain not in ever_taking}
        for domain, count in still.items():
            refused_since[domain] = refused_since.get(domain, 0) + count
        taking |= accepted - refused_since.keys()
        ever_taking |= accepted
        if still:
            rows.append((filebase, outcomes))
    most = len(refused_since) >= FEWEST_DOMAINS and len(refused_since) >= REFUSED_PER_ACCEPTED * len(taking)
    of_rows = (sum(refused_since.values()), len(rows), len({filebase for filebase, _ in rows}))
    if most:
        since_s = min(since_s, *(outcomes[0].at_s for _, outcomes in rows))
    return is_row_much or (most and is_much(*of_rows)), most, bool(recipients) or most, since_s


def is_much(recipients: int, transactions: int, entries: int) -> bool:
    return recipients >= MOST_RECIPIENTS and transactions >= FEWEST_TRANSACTIONS and entries >= FEWEST_ENTRIES


def in_domains(outcomes: Sequence[Outcome], state: State) -> dict[str, int]:
    found: dict[str, int] = {}
    for one in outcomes:
        for address in one.recipients if one.state is state else ():
            found[domain_of(address)] = found.get(domain_of(address), 0) + 1
    return found


DOMAINS = st.integers(0, 29).map("d{}.example".format)
KIND = st.tuples(
    st.integers(0, 7).map("entry{}".format),
    st.lists(DOMAINS, max_size=30),
    st.lists(DOMAINS, max_size=4),
)


@settings(deadline=None)  # it is the walk that takes so long
@given(st.lists(KIND.filter(lambda kind: bool(kind[1] or kind[2])), min_size=1, max_size=30), st.integers(1, 260))
@example([(f"entry{n}", [f"d{n}.example", f"d{n + 1}.example"] * 3, []) for n in range(20)], 60)
@example([("entry1", [f"d{n}.example" for n in range(30)], []), ("entry2", ["d1.example"], ["d2.example"])], 250)
def test_running_counts_say_what_a_walk_over_the_last_transactions_says(
    kinds: list[tuple[str, list[str], list[str]]], transactions: int
) -> None:
    refusals, told = Refusals(), list[Told]()
    for at, (filebase, refused, accepted) in enumerate(islice(cycle(kinds), transactions)):
        at_s = float(at % 17)  # a clock that is set back now and then
        outcomes = [
            Outcome(state, tuple(f"r@{domain}" for domain in domains), "550 5.1.1 unknown", at_s)
            for state, domains in ((State.FAILED, refused), (State.DELIVERED, accepted))
            if domains
        ]
        refusals.heard(filebase, outcomes)
        told.append((filebase, outcomes))
        found = (
            refusals.are_too_many,
            refusals.of_most_domains,
            refusals.are_doubtful,
            refusals.doubtful_since_s,
        )
        if at % 23 == 0 or at == transactions - 1:
            assert found == plainly(told)


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
