"""Who gets the message now, and what class an entry has."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drainer.duplicates.classes import DuplicateClass, EntrySummary, Fingerprint
from drainer.duplicates.decision import Action, Backlog, Decision, Kin, Policy, classify, decide, fifo_key
from drainer.ledger.records import Coverage, History, recipient_key
from drainer.ledger.states import State
from drainer.queuedir.entry import Flavour

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


def everybody(decision: Decision) -> list[str]:
    refused = (*decision.skip, *decision.wait, *decision.hold)
    return sorted([*decision.deliver, *(part.recipient for part in refused)])


@given(
    claims=HISTORIES,
    recipients=RECIPIENTS,
    resembled=st.none() | HISTORIES,
    resend=st.sampled_from(["suppress", "hold", "deliver"]),
)
@settings(max_examples=300)
def test_every_recipient_is_delivered_skipped_waited_for_or_held_and_only_one_of_these(
    claims: list[Coverage], recipients: list[str], resembled: list[Coverage] | None, resend: Policy
) -> None:
    first = None if resembled is None else History(tuple(resembled))
    decision = decide(ENTRY, recipients, History(tuple(claims)), "suppress", resend, first)
    assert everybody(decision) == sorted(recipients)
    assert (decision.action is Action.DELIVER) == bool(decision.deliver)


@given(claims=HISTORIES, recipients=RECIPIENTS)
@settings(max_examples=300)
def test_who_has_it_or_may_have_it_never_gets_it_again(claims: list[Coverage], recipients: list[str]) -> None:
    history = History(tuple(claims))
    may_have_it = history.with_state(State.DELIVERED, State.IN_DOUBT, State.ATTEMPTING)
    decision = decide(ENTRY, recipients, history)
    assert not {recipient_key(address) for address in decision.deliver} & may_have_it


@given(recipients=RECIPIENTS)
def test_an_original_goes_to_everybody(recipients: list[str]) -> None:
    decision = decide(ENTRY, recipients, History())
    assert decision.deliver == tuple(recipients)
    assert decision.action is (Action.DELIVER if recipients else Action.FINISH)


@given(claims=HISTORIES, recipients=RECIPIENTS)
def test_nobody_is_skipped_for_what_happened_to_somebody_else(claims: list[Coverage], recipients: list[str]) -> None:
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
def test_once_what_was_decided_is_done_there_is_nothing_left_to_deliver(
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


def test_a_resubmission_is_suppressed_once_the_first_copy_is_out() -> None:
    decision = decided(claim(OTHER, State.DELIVERED, *ADDRESSES))
    assert decision.action is Action.SUPPRESS
    assert [(part.filebase, part.state, part.at_s) for part in decision.skip] == [(OTHER, State.DELIVERED, 10.0)] * 2


def test_a_resubmission_is_held_instead_where_the_operator_wants_to_see_them() -> None:
    history = History((claim(OTHER, State.DELIVERED, *ADDRESSES),))
    assert decide(ENTRY, ADDRESSES[:2], history, exact="hold").action is Action.HOLD


def test_a_crash_after_the_outcome_was_written_leaves_only_finishing() -> None:
    assert decided(claim(ENTRY, State.DELIVERED, *ADDRESSES)).action is Action.FINISH
    mixed = decided(claim(ENTRY, State.FAILED, ADDRESSES[0]), claim(OTHER, State.DELIVERED, ADDRESSES[1]))
    assert mixed.action is Action.FINISH


def test_a_newcomer_gets_what_the_others_had() -> None:
    decision = decided(claim(OTHER, State.DELIVERED, ADDRESSES[0]))
    assert decision.deliver == (ADDRESSES[1],)


@pytest.mark.parametrize("state", [State.FAILED, State.SKIPPED])
def test_a_first_copy_that_fails_or_is_dropped_leaves_the_second_free(state: State) -> None:
    assert decided(claim(OTHER, state, *ADDRESSES)).deliver == ADDRESSES[:2]
    assert decided(claim(ENTRY, state, *ADDRESSES)).action is Action.FINISH


@pytest.mark.parametrize("state", [State.ATTEMPTING, State.IN_DOUBT, State.DEFERRED])
def test_while_another_entry_is_at_it_this_one_waits(state: State) -> None:
    decision = decided(claim(OTHER, state, *ADDRESSES))
    assert (decision.action, decision.deliver) == (Action.WAIT, ())


def test_an_entry_with_a_deferral_of_its_own_is_tried_again() -> None:
    decision = decided(claim(ENTRY, State.DEFERRED, *ADDRESSES), claim(OTHER, State.DEFERRED, *ADDRESSES))
    assert decision.deliver == ADDRESSES[:2]


def test_recipients_held_in_doubt_hold_every_copy() -> None:
    assert decided(claim(OTHER, State.HELD, *ADDRESSES)).action is Action.HOLD


def test_a_resend_is_held_for_a_person() -> None:
    for first in (History(), History((claim(OTHER, State.DELIVERED, *ADDRESSES),))):
        decision = decide(ENTRY, ADDRESSES, History(), "suppress", "hold", first)
        assert (decision.action, len(decision.hold)) == (Action.HOLD, len(ADDRESSES))


def test_a_resend_of_what_failed_for_everybody_is_delivered() -> None:
    failed = History((claim(OTHER, State.FAILED, *ADDRESSES),))
    assert decide(ENTRY, ADDRESSES, History(), "suppress", "hold", failed).deliver == ADDRESSES


def test_a_resend_half_delivered_is_not_held_then() -> None:
    begun = History((claim(ENTRY, State.DEFERRED, ADDRESSES[0]),))
    first = History((claim(OTHER, State.DELIVERED, *ADDRESSES),))
    assert decide(ENTRY, ADDRESSES, begun, "suppress", "hold", first).deliver == ADDRESSES


def test_a_suppressed_resend_still_goes_to_those_who_missed_the_first() -> None:
    first = History((claim(OTHER, State.DELIVERED, *ADDRESSES[:3]),))
    assert decide(ENTRY, ADDRESSES, History(), "suppress", "suppress", first).deliver == ADDRESSES[3:]


@dataclass(frozen=True)
class Known:
    filebase: str
    when_s: float
    recipient_keys: bytes


def keys(*addresses: str) -> bytes:
    return b"".join(recipient_key(address) for address in addresses)


def summary(
    filebase: str, *addresses: str, identity: tuple[bytes, ...] = (b"i",), resend: bytes | None = b"r",
    copy: bytes = b"c", decorated: bool = False, size_bytes: int = 100,
) -> EntrySummary:  # fmt: skip
    when_s = float(filebase.partition("+")[0])
    return EntrySummary(
        filebase, when_s, Flavour.MAILMAN2, "talk", "<1@a>", "ann@example.net", "Plan", size_bytes, len(addresses),
        keys(*addresses), decorated, Fingerprint(identity, resend, b"m", copy),
    )  # fmt: skip


def test_classes_follow_from_who_is_covered() -> None:
    ann, ben, cleo = ADDRESSES[:3]
    first = Known(OTHER, 1.5, keys(ann, ben))
    same = Kin(same=[first])
    assert classify(summary(ENTRY, ann), same, History(), 60).kind is DuplicateClass.EXACT
    assert classify(summary(ENTRY, ann, cleo), same, History(), 60).kind is DuplicateClass.PARTIAL
    assert (
        classify(summary(ENTRY, ann), Kin(same=[first], copies={OTHER}), History(), 60).kind is DuplicateClass.RESTORED
    )
    apart = classify(summary(ENTRY, cleo), same, History(), 60)
    assert (apart.kind, apart.of, apart.covered) == (DuplicateClass.NONE, OTHER, frozenset())


def test_what_the_ledger_knows_from_before_counts_and_what_failed_does_not() -> None:
    ann, ben = ADDRESSES[:2]
    delivered, failed = History((claim(OTHER, State.DELIVERED, ann),)), History((claim(OTHER, State.FAILED, ann),))
    assert classify(summary(ENTRY, ann, ben), Kin(), delivered, 60).covered == {recipient_key(ann)}
    assert classify(summary(ENTRY, ann, ben), Kin(), failed, 60).kind is DuplicateClass.NONE


def test_an_entry_half_delivered_is_no_duplicate_of_itself() -> None:
    own = History((claim(ENTRY, State.DELIVERED, ADDRESSES[0]),))
    found = classify(summary(ENTRY, *ADDRESSES), Kin(same=[Known(ENTRY, 2.5, keys(*ADDRESSES))]), own, 60)
    assert (found.kind, found.of) == (DuplicateClass.NONE, None)


def test_a_resend_counts_within_the_window_and_only_after_the_first() -> None:
    ann = ADDRESSES[0]
    near, far = Known("90.0+aa", 90.0, keys(ann)), Known("10.0+aa", 10.0, keys(ann))
    later = summary("100.0+bb", ann)
    assert classify(later, Kin(resembling=[far, near]), History(), 60).of == "90.0+aa"
    assert classify(later, Kin(resembling=[far]), History(), 60).kind is DuplicateClass.NONE
    assert classify(summary("80.0+bb", ann), Kin(resembling=[near]), History(), 60).kind is DuplicateClass.NONE


def test_backlog_finds_kin_by_any_shared_digest() -> None:
    ann = ADDRESSES[0]
    backlog = Backlog()
    backlog.add(summary("1.0+aa", ann, identity=(b"1", b"2"), resend=b"x"), 60)
    backlog.add(summary("2.0+bb", ann, identity=(b"3",), resend=b"y"), 60)
    kin = backlog.kin_of(summary("3.0+cc", ann, identity=(b"2", b"4"), resend=b"y"), 60)
    assert [entry.filebase for entry in kin.same] == ["1.0+aa"]
    assert [entry.filebase for entry in kin.resembling] == ["2.0+bb"]
    assert set(kin.copies) == {"1.0+aa"}


def test_of_two_entries_of_one_received_time_the_whole_undecorated_one_is_first() -> None:
    whole = summary("5.0+ff", *ADDRESSES)
    rest = summary("5.0+aa", ADDRESSES[0])
    decorated = summary("5.0+bb", *ADDRESSES, decorated=True, size_bytes=900)
    rewritten = summary("5.0+cc", *ADDRESSES, size_bytes=90)
    assert sorted([decorated, rest, rewritten, whole], key=fifo_key) == [whole, rewritten, rest, decorated]
