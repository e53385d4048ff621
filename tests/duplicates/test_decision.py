"""The decision at the moment of sending: which recipients get the message, are skipped, wait or are held."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drainer.duplicates.decision import Decision, NextStep, Policy, decide
from drainer.ledger.records import Coverage, History, recipient_key
from drainer.ledger.states import State

ADDRESSES = ("ann@example.org", "ben@example.org", "cleo@example.org", "dora@example.org")
ENTRY, OTHER, THIRD = "2.5+aa", "1.5+bb", "1.7+cc"
ROWS = [state for state in State if state is not State.PENDING]
HISTORIES = st.lists(
    st.builds(
        lambda filebase, state, at_s, addresses: claim(filebase, state, *addresses, at_s=at_s),
        st.sampled_from([ENTRY, OTHER, THIRD]),
        st.sampled_from(ROWS),
        st.sampled_from([10.0, 20.0]),
        st.sets(st.sampled_from(ADDRESSES)),
    ),
    max_size=8,
)
RECIPIENTS = st.lists(st.sampled_from(ADDRESSES), unique=True)


def claim(filebase: str, state: State, *addresses: str, at_s: float = 10.0) -> Coverage:
    return Coverage(filebase, state, at_s, frozenset(recipient_key(address) for address in addresses))


def decided(*claims: Coverage, recipients: tuple[str, ...] = ADDRESSES[:2]) -> Decision:
    return decide(ENTRY, recipients, History(claims))


def all_addresses(decision: Decision) -> list[str]:
    refused = (*decision.skip, *decision.wait, *decision.hold)
    return sorted([*decision.deliver, *(part.recipient for part in refused)])


@given(
    claims=HISTORIES,
    recipients=RECIPIENTS,
    resembled=st.none() | HISTORIES,
    resend=st.sampled_from(["suppress", "hold", "deliver"]),
)
@settings(max_examples=300)
def test_every_recipient_is_in_exactly_one_of_the_four_groups(
    claims: list[Coverage], recipients: list[str], resembled: list[Coverage] | None, resend: Policy
) -> None:
    first = None if resembled is None else History(tuple(resembled))
    decision = decide(ENTRY, recipients, History(tuple(claims)), "suppress", resend, first)
    assert all_addresses(decision) == sorted(recipients)
    assert (decision.next_step is NextStep.DELIVER) == bool(decision.deliver)


@given(claims=HISTORIES, recipients=RECIPIENTS)
@settings(max_examples=300)
def test_recipient_that_may_have_the_message_never_gets_it_again(claims: list[Coverage], recipients: list[str]) -> None:
    history = History(tuple(claims))
    may_have_it = history.with_state(State.DELIVERED, State.IN_DOUBT, State.ATTEMPTING, State.HELD)
    decision = decide(ENTRY, recipients, history)
    assert not {recipient_key(address) for address in decision.deliver} & may_have_it


@given(recipients=RECIPIENTS)
def test_original_goes_to_all_recipients(recipients: list[str]) -> None:
    decision = decide(ENTRY, recipients, History())
    assert decision.deliver == tuple(recipients)
    assert decision.next_step is (NextStep.DELIVER if recipients else NextStep.FINISH)


@given(claims=HISTORIES, recipients=RECIPIENTS)
def test_recipient_is_skipped_only_for_its_own_claims(claims: list[Coverage], recipients: list[str]) -> None:
    decision = decide(ENTRY, recipients, History(tuple(claims)))
    for part in (*decision.skip, *decision.wait, *decision.hold):
        assert any(
            (row.filebase, row.state, row.at_s) == (part.filebase, part.state, part.at_s)
            and recipient_key(part.recipient) in row.recipients
            for row in claims
        )


@given(claims=HISTORIES, recipients=RECIPIENTS, data=st.data())
def test_the_order_of_claims_does_not_matter(
    claims: list[Coverage], recipients: list[str], data: st.DataObject
) -> None:
    shuffled = data.draw(st.permutations(claims))
    assert decide(ENTRY, recipients, History(tuple(claims))) == decide(ENTRY, recipients, History(tuple(shuffled)))


@given(claims=HISTORIES, recipients=RECIPIENTS)
def test_after_the_decision_is_carried_out_nothing_is_left_to_deliver(
    claims: list[Coverage], recipients: list[str]
) -> None:
    decision = decide(ENTRY, recipients, History(tuple(claims)))
    after = History((*claims, claim(ENTRY, State.DELIVERED, *decision.deliver, at_s=30.0)))
    assert decide(ENTRY, recipients, after).deliver == ()


@given(claims=HISTORIES)
def test_two_entries_of_one_message_never_wait_for_each_other_over_a_deferral(claims: list[Coverage]) -> None:
    deferred = [row for row in claims if row.state is State.DEFERRED]
    history = History(tuple(deferred))
    waits = {name: {part.recipient for part in decide(name, ADDRESSES, history).wait} for name in (ENTRY, OTHER, THIRD)}
    assert not waits[ENTRY] & waits[OTHER] & waits[THIRD]


def test_resubmission_is_suppressed_once_the_first_copy_is_delivered() -> None:
    decision = decided(claim(OTHER, State.DELIVERED, *ADDRESSES))
    assert decision.next_step is NextStep.SUPPRESS
    assert [(part.filebase, part.state, part.at_s) for part in decision.skip] == [(OTHER, State.DELIVERED, 10.0)] * 2


def test_resubmission_is_held_if_the_settings_say_hold() -> None:
    history = History((claim(OTHER, State.DELIVERED, *ADDRESSES),))
    assert decide(ENTRY, ADDRESSES[:2], history, exact="hold").next_step is NextStep.HOLD


def test_after_a_crash_that_followed_the_written_outcome_only_finishing_is_left() -> None:
    assert decided(claim(ENTRY, State.DELIVERED, *ADDRESSES)).next_step is NextStep.FINISH
    mixed = decided(claim(ENTRY, State.FAILED, ADDRESSES[0]), claim(OTHER, State.DELIVERED, ADDRESSES[1]))
    assert mixed.next_step is NextStep.FINISH


def test_recipient_that_other_entries_did_not_have_gets_the_message() -> None:
    decision = decided(claim(OTHER, State.DELIVERED, ADDRESSES[0]))
    assert decision.deliver == (ADDRESSES[1],)


@pytest.mark.parametrize("state", [State.FAILED, State.SKIPPED])
def test_first_copy_that_fails_or_is_dropped_leaves_the_second_free_to_deliver(state: State) -> None:
    assert decided(claim(OTHER, state, *ADDRESSES)).deliver == ADDRESSES[:2]
    assert decided(claim(ENTRY, state, *ADDRESSES)).next_step is NextStep.FINISH


@pytest.mark.parametrize("state", [State.ATTEMPTING, State.IN_DOUBT, State.DEFERRED])
def test_entry_waits_while_another_one_attempts_the_recipient(state: State) -> None:
    decision = decided(claim(OTHER, state, *ADDRESSES))
    assert (decision.next_step, decision.deliver) == (NextStep.WAIT, ())


def test_an_entry_with_a_deferral_of_its_own_is_tried_again() -> None:
    decision = decided(claim(ENTRY, State.DEFERRED, *ADDRESSES), claim(OTHER, State.DEFERRED, *ADDRESSES))
    assert decision.deliver == ADDRESSES[:2]


def test_recipients_held_in_doubt_hold_every_copy() -> None:
    assert decided(claim(OTHER, State.HELD, *ADDRESSES)).next_step is NextStep.HOLD


def test_dropping_an_entry_does_not_free_a_copy_for_those_who_may_have_the_mail() -> None:
    dropped = claim(OTHER, State.SKIPPED, *ADDRESSES), claim(OTHER, State.HELD, ADDRESSES[0])
    assert [part.recipient for part in decided(*dropped).hold] == [ADDRESSES[0]]
    first = History(dropped)
    suppressed = decide(ENTRY, ADDRESSES, History(), "suppress", "suppress", first)
    assert [(part.recipient, part.filebase) for part in suppressed.hold] == [(ADDRESSES[0], "")], "the policy holds"
    assert decide(ENTRY, ADDRESSES, History(), "suppress", "hold", first).next_step is NextStep.HOLD


def test_resend_is_held_for_an_operator() -> None:
    for first in (History(), History((claim(OTHER, State.DELIVERED, *ADDRESSES),))):
        decision = decide(ENTRY, ADDRESSES, History(), "suppress", "hold", first)
        assert (decision.next_step, len(decision.hold)) == (NextStep.HOLD, len(ADDRESSES))


def test_resend_is_delivered_if_the_first_sending_failed_for_all() -> None:
    failed = History((claim(OTHER, State.FAILED, *ADDRESSES),))
    assert decide(ENTRY, ADDRESSES, History(), "suppress", "hold", failed).deliver == ADDRESSES


def test_resend_that_has_begun_is_not_held() -> None:
    begun = History((claim(ENTRY, State.DEFERRED, ADDRESSES[0]),))
    first = History((claim(OTHER, State.DELIVERED, *ADDRESSES),))
    assert decide(ENTRY, ADDRESSES, begun, "suppress", "hold", first).deliver == ADDRESSES


def test_suppressed_resend_still_goes_to_recipients_that_missed_the_first() -> None:
    first = History((claim(OTHER, State.DELIVERED, *ADDRESSES[:3]),))
    assert decide(ENTRY, ADDRESSES, History(), "suppress", "suppress", first).deliver == ADDRESSES[3:]
