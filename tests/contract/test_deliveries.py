"""What becomes of recipients: attempts, outcomes, and what binds a second copy."""

from __future__ import annotations

import asyncio

import pytest

from drainer.errors import IllegalTransition
from drainer.ledger.contract import Ledger
from drainer.ledger.evidence import Ended, Fate
from drainer.ledger.records import (
    Coverage,
    History,
    JournalLine,
    Learnt,
    MessageRecord,
    NewAttempt,
    OperatorState,
    Outcome,
    kin_of,
    new_attempt_id,
    recipient_key,
)
from drainer.ledger.states import State

A, B, C = b"\x01" + b"a" * 15, b"\x01" + b"b" * 15, b"\x01" + b"c" * 15
FIRST = "1700000000.5+" + "1" * 40
SECOND = "1700000099.25+" + "2" * 40
AT = 1_700_000_100.75
ANN, BOB, EVE = "ann@example.org", "bob@example.org", "eve@example.net"
MESSAGE = MessageRecord((A,), "list.example.org", "<one@example.org>")
OTHER = MessageRecord((B,), "list.example.org", "<two@example.org>")
KEYS_OF_EVE = frozenset({recipient_key("eve@example.net")})


def attempt(
    *recipients: str,
    filebase: str = FIRST,
    message: MessageRecord = MESSAGE,
    at_s: float = AT,
    reverse_path: str = "b@l",
) -> NewAttempt:
    return NewAttempt(filebase, message, reverse_path, recipients, at_s)


async def deliver(ledger: Ledger, *recipients: str, filebase: str = FIRST, message: MessageRecord = MESSAGE) -> None:
    opened = await ledger.open_attempt(attempt(*recipients, filebase=filebase, message=message))
    await ledger.close_attempt(opened, State.DELIVERED, "250 2.0.0 Ok", AT + 1)


async def states(ledger: Ledger, *identity: bytes) -> set[tuple[str, State, bytes]]:
    return coverage(await ledger.history(identity or (A,)))


def coverage(history: History) -> set[tuple[str, State, bytes]]:
    return {(part.filebase, part.state, key) for part in history.coverage for key in part.recipients}


def row(filebase: str, state: State, *recipients: str) -> set[tuple[str, State, bytes]]:
    return {(filebase, state, recipient_key(recipient)) for recipient in recipients}


async def test_message_never_seen_has_no_history(ledger: Ledger) -> None:
    await deliver(ledger, ANN)
    assert (await ledger.history([B, C])).coverage == ()


async def test_delivery_binds_a_message_that_was_known_before_another_came_to_share_a_digest_with_it(
    ledger: Ledger,
) -> None:
    both = MessageRecord((A, B), "list.example.org", "<one@example.org>")
    await deliver(ledger, ANN)
    await deliver(ledger, BOB, filebase=SECOND, message=both)
    with pytest.raises(IllegalTransition):
        await ledger.open_attempt(attempt(BOB))
    await deliver(ledger, EVE, message=OTHER)
    for message, refused in ((both, EVE), (both, ANN), (OTHER, BOB)):
        with pytest.raises(IllegalTransition):
            await ledger.open_attempt(attempt(refused, message=message))


async def test_histories_are_those_of_each_message_in_the_order_asked_for(ledger: Ledger) -> None:
    many = [(number.to_bytes(8, "big") * 2,) for number in range(300)]
    await deliver(ledger, ANN)
    await deliver(ledger, BOB, filebase=SECOND, message=OTHER)
    await deliver(ledger, EVE, filebase=SECOND, message=MessageRecord((B, many[7][0]), "list", ""))
    found = await ledger.histories([*many, (B,), (C,), (A, B), (A,)])
    assert [coverage(one) for one in found[-4:]] == [
        row(SECOND, State.DELIVERED, BOB, EVE),
        set(),
        row(FIRST, State.DELIVERED, ANN) | row(SECOND, State.DELIVERED, BOB, EVE),
        row(FIRST, State.DELIVERED, ANN),
    ]
    assert [number for number, one in enumerate(found[:300]) if one.coverage] == [7]
    assert found == [await ledger.history(identity) for identity in [*many, (B,), (C,), (A, B), (A,)]]
    assert await ledger.histories([]) == []


async def test_the_kin_of_any_messages_digests_is_known_and_no_other(ledger: Ledger) -> None:
    many = [number.to_bytes(8, "big") * 2 for number in range(1200)]
    assert await ledger.kin_known([A, *many]) == frozenset()
    await deliver(ledger, ANN, message=MessageRecord((A, many[1100]), "list.example.org", ""))
    await ledger.record(SECOND, MessageRecord((B,), "list.example.org", ""), [Outcome(State.SKIPPED, (BOB,), "", AT)])
    assert await ledger.kin_known([A, B, C, *many]) == {kin_of(A), kin_of(B), kin_of(many[1100])}
    assert await ledger.kin_known([kin_of(A) + bytes(8), kin_of(A)[:7] + bytes(9)]) == {kin_of(A)}


async def test_what_is_called_the_same_and_says_something_else_is_akin_and_no_copy(ledger: Ledger) -> None:
    other, marked = kin_of(A) + bytes(8), kin_of(A) + bytes(7) + b"\1"
    await deliver(ledger, ANN, message=MessageRecord((other,), "list", "<one@x>"))
    await deliver(ledger, BOB, filebase=SECOND, message=MessageRecord((C, marked), "list", "<one@x>"))
    assert (await ledger.history([A])).coverage == ()
    plain, decorated = await ledger.akin([A, B])
    assert (plain.is_decorated, decorated.is_decorated) == (False, True)
    assert coverage(plain.history) == row(FIRST, State.DELIVERED, ANN)
    assert coverage(decorated.history) == row(SECOND, State.DELIVERED, BOB)
    assert [one.is_decorated for one in await ledger.akin([A, C])] == [False]
    assert await ledger.akin([B]) == []


async def test_delivered_recipients_are_given_with_entry_and_whole_second(ledger: Ledger) -> None:
    await deliver(ledger, ANN, BOB)
    await ledger.finish_entry(FIRST)
    assert (await ledger.history([A])).coverage == (
        Coverage(FIRST, State.DELIVERED, 1_700_000_101.0, frozenset({recipient_key(ANN), recipient_key(BOB)})),
    )


async def test_failed_recipients_are_given_with_address_and_reply_after_finish(ledger: Ledger) -> None:
    await ledger.record(FIRST, MESSAGE, [Outcome(State.FAILED, (ANN,), "550 5.1.1 no such user", AT)])
    opened = await ledger.open_attempt(attempt(BOB))
    await ledger.close_attempt(opened, State.FAILED, "554 5.7.1 spam", AT)
    await ledger.finish_entry(FIRST)
    failed = {(part.addresses, part.reply) for part in (await ledger.history([A])).coverage}
    assert failed == {((ANN,), "550 5.1.1 no such user"), ((BOB,), "554 5.7.1 spam")}


async def test_open_attempt_is_found_after_restart(ledger: Ledger) -> None:
    opened = await ledger.open_attempt(attempt(ANN, BOB, reverse_path=""))
    await ledger.close()
    await ledger.open()
    (found,) = await ledger.unresolved_attempts()
    assert (found.attempt_id, found.state, found.filebase) == (opened, State.ATTEMPTING, FIRST)
    assert (found.list_id, found.message_id) == ("list.example.org", "<one@example.org>")
    assert (found.recipients, found.reverse_path, found.at_s) == ((ANN, BOB), "", AT)


async def test_attempt_opened_before_a_restart_can_be_resolved_and_settles_its_recipients(ledger: Ledger) -> None:
    opened = await ledger.open_attempt(attempt(ANN, BOB))
    await ledger.close()
    await ledger.open()
    await ledger.resolve(opened, State.IN_DOUBT, "service died", AT)
    await ledger.resolve(opened, State.DELIVERED, "in the MTA's log", AT)
    assert await states(ledger) == row(FIRST, State.DELIVERED, ANN, BOB)
    assert (await ledger.totals()).get("delivered_recipients") == 2
    assert await ledger.unresolved_attempts() == []


async def test_new_attempts_get_ids_of_their_own_after_restart(ledger: Ledger) -> None:
    before = await ledger.open_attempt(attempt(ANN))
    await ledger.close()
    await ledger.open()
    assert await ledger.open_attempt(attempt(BOB)) != before


@pytest.mark.parametrize("state", [State.DELIVERED, State.IN_DOUBT, None], ids=["delivered", "in_doubt", "attempting"])
@pytest.mark.parametrize("filebase", [FIRST, SECOND], ids=["same_entry", "other_entry"])
async def test_recipient_is_not_attempted_twice(ledger: Ledger, state: State | None, filebase: str) -> None:
    opened = await ledger.open_attempt(attempt(ANN))
    if state is not None:
        await ledger.close_attempt(opened, state, "reply", AT)
    before = await states(ledger)
    with pytest.raises(IllegalTransition):
        await ledger.open_attempt(attempt(BOB, ANN, filebase=filebase))
    assert await states(ledger) == before


async def test_two_attempts_at_once_for_one_recipient_let_only_one_through(ledger: Ledger) -> None:
    results = await asyncio.gather(
        *(ledger.open_attempt(attempt(ANN, filebase=filebase)) for filebase in (FIRST, SECOND, FIRST)),
        ledger.open_attempt(attempt(BOB)),
        return_exceptions=True,
    )
    assert [isinstance(result, IllegalTransition) for result in results] == [False, True, True, False]
    assert len(await ledger.unresolved_attempts()) == 2


@pytest.mark.parametrize("state", [State.FAILED, State.SKIPPED])
async def test_failed_or_dropped_first_copy_leaves_second_free_but_not_itself(ledger: Ledger, state: State) -> None:
    await ledger.record(FIRST, MESSAGE, [Outcome(state, (ANN,), "why", AT)])
    with pytest.raises(IllegalTransition):
        await ledger.open_attempt(attempt(ANN))
    await deliver(ledger, ANN, filebase=SECOND)
    assert await states(ledger) == row(FIRST, state, ANN) | row(SECOND, State.DELIVERED, ANN)


async def test_settled_recipients_bind_after_restart(ledger: Ledger) -> None:
    await deliver(ledger, ANN)
    await ledger.record(FIRST, MESSAGE, [Outcome(State.FAILED, (BOB,), "550", AT)])
    await ledger.close()
    await ledger.open()
    for refused in (attempt(ANN, filebase=SECOND), attempt(BOB)):
        with pytest.raises(IllegalTransition):
            await ledger.open_attempt(refused)


async def test_deferred_recipient_is_superseded_by_a_later_attempt(ledger: Ledger) -> None:
    await ledger.record(FIRST, MESSAGE, [Outcome(State.DEFERRED, (ANN, BOB), "450 later", AT)])
    opened = await ledger.open_attempt(attempt(ANN))
    assert await states(ledger) == row(FIRST, State.ATTEMPTING, ANN) | row(FIRST, State.DEFERRED, BOB)
    await ledger.close_attempt(opened, State.DEFERRED, "451 later still", AT + 5)
    assert await states(ledger) == row(FIRST, State.DEFERRED, ANN, BOB)
    await ledger.finish_entry(FIRST)
    assert await states(ledger) == set()


async def test_deferred_recipient_of_one_entry_leaves_the_other_free(ledger: Ledger) -> None:
    await ledger.record(FIRST, MESSAGE, [Outcome(State.DEFERRED, (ANN,), "450 later", AT)])
    await deliver(ledger, ANN, filebase=SECOND)
    assert await states(ledger) == row(FIRST, State.DEFERRED, ANN) | row(SECOND, State.DELIVERED, ANN)


async def test_in_doubt_resolved_to_pending_frees_the_recipients(ledger: Ledger) -> None:
    opened = await ledger.open_attempt(attempt(ANN))
    await ledger.close_attempt(opened, State.IN_DOUBT, "connection lost after the final dot", AT)
    (found,) = await ledger.unresolved_attempts()
    assert found.state is State.IN_DOUBT
    await ledger.resolve(opened, State.PENDING, "not in the MTA's log", AT)
    assert await states(ledger) == set()
    await deliver(ledger, ANN, filebase=SECOND)


async def test_in_doubt_resolved_to_held_waits_for_release(ledger: Ledger) -> None:
    opened = await ledger.open_attempt(attempt(ANN, BOB))
    await ledger.close_attempt(opened, State.IN_DOUBT, "connection lost", AT)
    await ledger.resolve(opened, State.HELD, "policy: hold", AT)
    (part,) = (await ledger.history([A])).coverage
    assert (part.state, part.addresses, part.reply) == (State.HELD, (ANN, BOB), "policy: hold")
    with pytest.raises(IllegalTransition):
        await ledger.open_attempt(attempt(ANN))
    await ledger.release([FIRST], held_recipients=True)
    await deliver(ledger, ANN, BOB)


async def test_bak_left_behind_becomes_an_unresolved_attempt(ledger: Ledger) -> None:
    await ledger.record(FIRST, MESSAGE, [Outcome(State.IN_DOUBT, (ANN, BOB), "left as .bak", AT)])
    (found,) = await ledger.unresolved_attempts()
    assert (found.state, found.recipients, found.reverse_path) == (State.IN_DOUBT, (ANN, BOB), "")
    await ledger.resolve(found.attempt_id, State.PENDING, "resend", AT)
    await deliver(ledger, ANN, BOB)


ILLEGAL_STEPS = [
    (State.ATTEMPTING, State.PENDING),
    (State.ATTEMPTING, State.DELIVERED),
    (State.ATTEMPTING, State.HELD),
    (State.IN_DOUBT, State.IN_DOUBT),
    (State.IN_DOUBT, State.FAILED),
    (State.IN_DOUBT, State.SKIPPED),
]


@pytest.mark.parametrize(("before", "after"), ILLEGAL_STEPS, ids=lambda state: state.value)
async def test_illegal_resolution_is_refused_and_changes_nothing(ledger: Ledger, before: State, after: State) -> None:
    opened = await ledger.open_attempt(attempt(ANN))
    if before is State.IN_DOUBT:
        await ledger.close_attempt(opened, State.IN_DOUBT, "lost", AT)
    with pytest.raises(IllegalTransition):
        await ledger.resolve(opened, after, "", AT)
    assert await states(ledger) == row(FIRST, before, ANN)


async def test_attempt_ends_once(ledger: Ledger) -> None:
    opened = await ledger.open_attempt(attempt(ANN))
    with pytest.raises(IllegalTransition):
        await ledger.close_attempt(opened, State.HELD, "", AT)
    await ledger.close_attempt(opened, State.DELIVERED, "250", AT)
    for closing in (
        ledger.close_attempt(opened, State.DELIVERED, "250", AT + 1),
        ledger.close_attempt(opened, State.DEFERRED, "250", AT),
        ledger.resolve(opened, State.IN_DOUBT, "", AT),
        ledger.close_attempt(new_attempt_id(), State.DELIVERED, "250", AT),
    ):
        with pytest.raises(IllegalTransition):
            await closing
    assert (await ledger.totals()).get("transactions") == 1


async def test_attempt_in_doubt_is_not_closed_by_a_late_reply(ledger: Ledger) -> None:
    opened = await ledger.open_attempt(attempt(ANN))
    await ledger.close_attempt(opened, State.IN_DOUBT, "lost", AT)
    with pytest.raises(IllegalTransition):
        await ledger.close_attempt(opened, State.DELIVERED, "250", AT)


async def test_record_is_all_or_nothing(ledger: Ledger) -> None:
    await ledger.record(FIRST, MESSAGE, [Outcome(State.FAILED, (ANN,), "550", AT)])
    with pytest.raises(IllegalTransition):
        await ledger.record(
            FIRST, MESSAGE, [Outcome(State.DEFERRED, (BOB,), "450", AT), Outcome(State.DEFERRED, (ANN,), "450", AT)]
        )
    assert await states(ledger) == row(FIRST, State.FAILED, ANN)


async def test_record_cannot_claim_a_delivery_that_was_not_attempted(ledger: Ledger) -> None:
    with pytest.raises(IllegalTransition):
        await ledger.record(FIRST, MESSAGE, [Outcome(State.DELIVERED, (ANN,), "250", AT)])
    assert await states(ledger) == set()


@pytest.mark.parametrize("state", [State.SKIPPED, State.HELD, State.DELIVERED, State.IN_DOUBT])
async def test_record_does_not_settle_beside_an_attempt_in_doubt(ledger: Ledger, state: State) -> None:
    opened = await ledger.open_attempt(attempt(ANN))
    await ledger.close_attempt(opened, State.IN_DOUBT, "lost", AT)
    with pytest.raises(IllegalTransition):
        await ledger.record(FIRST, MESSAGE, [Outcome(state, (BOB, ANN), "", AT)])
    assert await states(ledger) == row(FIRST, State.IN_DOUBT, ANN)


async def test_dropped_entry_takes_its_held_and_deferred_recipients_along(ledger: Ledger) -> None:
    await ledger.record(
        FIRST, MESSAGE, [Outcome(State.DEFERRED, (ANN,), "450", AT), Outcome(State.HELD, (BOB,), "resend", AT)]
    )
    await ledger.record(FIRST, MESSAGE, [Outcome(State.SKIPPED, (ANN, BOB, EVE), "dropped", AT)])
    assert await states(ledger) == row(FIRST, State.SKIPPED, ANN, BOB, EVE) | row(FIRST, State.HELD, BOB)
    for recipient in (ANN, BOB):
        with pytest.raises(IllegalTransition):
            await ledger.record(FIRST, MESSAGE, [Outcome(State.DEFERRED, (recipient,), "450", AT)])


async def test_who_was_in_doubt_when_an_entry_was_dropped_is_held_until_a_copy_is_released(ledger: Ledger) -> None:
    await ledger.record(FIRST, MESSAGE, [Outcome(State.HELD, (ANN, BOB), "lost", AT)])
    await ledger.record(FIRST, MESSAGE, [Outcome(State.SKIPPED, (ANN, BOB), "dropped", AT + 1)])
    await ledger.finish_entry(FIRST, {}, Ended(Fate.DROPPED, "list", "none", 1, 2, 900))
    skipped = row(FIRST, State.SKIPPED, ANN, BOB)
    assert await states(ledger) == skipped | row(FIRST, State.HELD, ANN, BOB)
    (held,) = (part for part in (await ledger.history([A])).coverage if part.state is State.HELD)
    assert held.addresses == (), "of an entry that is gone nobody is named"
    elsewhere = [A], {recipient_key(ANN), recipient_key(EVE)}
    await ledger.release([SECOND], held_recipients=True, held_elsewhere=elsewhere)
    assert await states(ledger) == skipped | row(FIRST, State.HELD, BOB)
    await deliver(ledger, ANN, filebase=SECOND)


async def test_dropping_a_second_copy_is_possible_after_the_first_was_delivered(ledger: Ledger) -> None:
    await deliver(ledger, ANN)
    await ledger.record(SECOND, MESSAGE, [Outcome(State.SKIPPED, (ANN,), "dropped", AT)])
    assert await states(ledger) == row(FIRST, State.DELIVERED, ANN) | row(SECOND, State.SKIPPED, ANN)


async def test_history_is_the_union_of_messages_that_share_a_digest(ledger: Ledger) -> None:
    await deliver(ledger, ANN, message=MessageRecord((A,), "list", "<a@x>"))
    await deliver(ledger, BOB, filebase=SECOND, message=MessageRecord((C,), "list", "<c@x>"))
    both = MessageRecord((A, C), "list", "<both@x>")
    assert await states(ledger, A, C) == row(FIRST, State.DELIVERED, ANN) | row(SECOND, State.DELIVERED, BOB)
    third = "1700000200.0+" + "3" * 40
    for recipient in (ANN, BOB):
        with pytest.raises(IllegalTransition):
            await ledger.open_attempt(attempt(recipient, filebase=third, message=both))
    await deliver(ledger, EVE, filebase=third, message=both)
    assert recipient_key(EVE) in (await ledger.history([A])).with_state(State.DELIVERED)
    assert recipient_key(EVE) in (await ledger.history([C])).with_state(State.DELIVERED)


async def test_resemblance_does_not_spread_along_a_chain(ledger: Ledger) -> None:
    await deliver(ledger, ANN, message=MessageRecord((A,), "list", "<a@x>"))
    await deliver(ledger, BOB, message=MessageRecord((A, C), "list", "<ac@x>"))
    only_c = MessageRecord((C,), "list", "<c@x>")
    assert await states(ledger, C) == row(FIRST, State.DELIVERED, BOB)
    await deliver(ledger, ANN, filebase=SECOND, message=only_c)


async def test_domain_case_does_not_make_another_recipient(ledger: Ledger) -> None:
    await deliver(ledger, "Ann@Example.ORG")
    with pytest.raises(IllegalTransition):
        await ledger.open_attempt(attempt("Ann@example.org", filebase=SECOND))
    await deliver(ledger, "ann@example.org", filebase=SECOND)


async def test_one_message_in_single_recipient_transactions(ledger: Ledger) -> None:
    recipients = [f"user{number}@example.org" for number in range(300)]
    await asyncio.gather(*(deliver(ledger, recipient) for recipient in recipients))
    assert await states(ledger) == row(FIRST, State.DELIVERED, *recipients)
    with pytest.raises(IllegalTransition):
        await ledger.open_attempt(attempt(recipients[150], filebase=SECOND))
    assert (await ledger.totals()).counts == {"delivered_recipients": 300, "transactions": 300}


STRANGE = [
    "größe+ü@example.org",
    "\udcff\udcfe@example.org",
    'a "quoted\n" \x00 one@example.org',
    "",
    "no-domain",
    "x" * 5000 + "@example.org",
]


@pytest.mark.parametrize("address", STRANGE, ids=["utf8", "undecodable", "control", "empty", "no_domain", "long"])
async def test_strange_addresses_come_back_as_they_were(ledger: Ledger, address: str) -> None:
    message = MessageRecord((A,), "l\udce9ste", "<\udcff@x>")
    filebase = "1700000000.5+\udcff" + address[:100].replace("\x00", "")
    await ledger.open_attempt(
        NewAttempt(filebase=filebase, message=message, reverse_path=address, recipients=(address, ANN), at_s=AT)
    )
    await ledger.close()
    await ledger.open()
    (found,) = await ledger.unresolved_attempts()
    assert (found.filebase, found.reverse_path, found.recipients) == (filebase, address, (address, ANN))
    assert (found.list_id, found.message_id) == (message.list_id, message.message_id)
    (pair,) = await ledger.messages_by_message_id("<\udcff@x>")
    assert pair[0] == message


@pytest.mark.parametrize(
    "filebase",
    [
        "1700000000.5+" + "0" * 40,
        "1700000000.0+" + "f" * 40,
        "1700000000+" + "f" * 40,
        "1700000000.50+" + "f" * 40,
        "1700000000.1234567890123+" + "f" * 40,
        "0.0+" + "0" * 40,
        "1.5+" + "F" * 40,
        "99999999999999.0+" + "a" * 40,
        "1e10+" + "a" * 40,
        "+",
        "",
    ],
)
async def test_every_filebase_comes_back_as_it_was(ledger: Ledger, filebase: str) -> None:
    await deliver(ledger, ANN, filebase=filebase)
    await ledger.record(filebase, MESSAGE, [Outcome(State.DEFERRED, (BOB,), "450", AT)])
    assert {part.filebase for part in (await ledger.history([A])).coverage} == {filebase}


async def test_attempt_that_is_begun_is_open_when_it_is_done_and_binds_like_any_other(ledger: Ledger) -> None:
    one = attempt(ANN)
    assert await ledger.begin_attempt(one) == one.attempt_id
    assert await ledger.begin_attempt(one) == one.attempt_id, "alike in all: it changes nothing"
    assert [open_.attempt_id for open_ in await ledger.unresolved_attempts()] == [one.attempt_id]
    with pytest.raises(IllegalTransition):
        await ledger.begin_attempt(attempt(ANN, filebase=SECOND))
    await ledger.close_attempt(one.attempt_id, State.DELIVERED, "", AT)
    assert await states(ledger, A) == row(FIRST, State.DELIVERED, ANN)


async def test_attempt_of_a_cancelled_caller_is_withdrawn(ledger: Ledger) -> None:
    """No caller has the attempt's id, so nothing was sent under it. Open, it would bind its recipients for ever."""
    for turns in range(6):
        opening = asyncio.ensure_future(ledger.open_attempt(attempt(ANN)))
        for _ in range(turns):
            await asyncio.sleep(0)
        if opening.done():
            await ledger.close_attempt(opening.result(), State.DEFERRED, "450", AT)
            continue
        opening.cancel()
        with pytest.raises(asyncio.CancelledError):
            await opening
        await ledger.count({"unreadable_entries": 1})
        await ledger.count({"unreadable_entries": 1})
        assert await ledger.unresolved_attempts() == []
    await deliver(ledger, ANN)


async def test_part_of_an_attempt_ends_apart_from_the_rest(ledger: Ledger) -> None:
    whole = await ledger.open_attempt(attempt(ANN, BOB, EVE))
    part = new_attempt_id()
    await ledger.split_attempt(whole, (BOB,), part)
    both = await ledger.unresolved_attempts()
    assert {open_.attempt_id: open_.recipients for open_ in both} == {whole: (ANN, EVE), part: (BOB,)}
    assert {(open_.filebase, open_.reverse_path, open_.at_s, open_.message_id) for open_ in both} == {
        (FIRST, "b@l", AT, "<one@example.org>")
    }
    await ledger.close_attempt(whole, State.DELIVERED, "", AT + 1)
    assert await states(ledger, A) == row(FIRST, State.DELIVERED, ANN, EVE) | row(FIRST, State.ATTEMPTING, BOB)
    await ledger.close_attempt(part, State.FAILED, "550 5.1.1 no such user", AT + 2)
    assert await states(ledger, A) == row(FIRST, State.DELIVERED, ANN, EVE) | row(FIRST, State.FAILED, BOB)


@pytest.mark.parametrize("some", [(), (ANN, BOB), ("mallory@example.org",)], ids=["none", "all", "strangers"])
async def test_attempt_is_split_into_two_parts_of_its_own_recipients_only(
    ledger: Ledger, some: tuple[str, ...]
) -> None:
    whole = await ledger.open_attempt(attempt(ANN, BOB))
    with pytest.raises(ValueError, match="recipients to split off"):
        await ledger.split_attempt(whole, some, new_attempt_id())
    assert await states(ledger, A) == row(FIRST, State.ATTEMPTING, ANN, BOB)


async def test_attempt_in_doubt_cannot_be_split(ledger: Ledger) -> None:
    whole = await ledger.open_attempt(attempt(ANN, BOB))
    await ledger.close_attempt(whole, State.IN_DOUBT, "connection lost", AT + 1)
    with pytest.raises(IllegalTransition):
        await ledger.split_attempt(whole, (ANN,), new_attempt_id())


async def test_what_was_learnt_covers_its_recipients_is_counted_nowhere_and_can_be_forgotten(ledger: Ledger) -> None:
    await ledger.close_attempt(await ledger.open_attempt(attempt(ANN)), State.DELIVERED, "", AT)
    before = await ledger.totals()
    news = [Learnt(MESSAGE, frozenset(map(recipient_key, (ANN, BOB))), AT - 900), Learnt(OTHER, KEYS_OF_EVE, AT - 900)]
    assert await ledger.learn("import-1", news) == 2, "ann had it from us"
    assert await ledger.learn("import-2", news) == 0, "known already"
    assert await states(ledger, A) == row(FIRST, State.DELIVERED, ANN) | row("import-1", State.DELIVERED, BOB)
    assert await states(ledger, B) == row("import-1", State.DELIVERED, EVE)
    with pytest.raises(IllegalTransition):
        await ledger.open_attempt(attempt(BOB, filebase=SECOND))
    assert (await ledger.totals()).counts == before.counts
    assert await ledger.unlearn("import-2") == 0
    assert await ledger.unlearn("import-1") == 2
    assert await states(ledger, A) == row(FIRST, State.DELIVERED, ANN)
    assert await ledger.kin_known([A, B]) == {kin_of(A)}
    await ledger.open_attempt(attempt(BOB, filebase=SECOND))


async def test_attempt_whose_caller_is_cancelled_just_as_it_became_durable_is_withdrawn(ledger: Ledger) -> None:
    """A pause written in the same commit wakes first and cancels the waiting caller: none has the attempt's id then."""

    async def paused() -> None:
        await ledger.set_operator_state(OperatorState(), JournalLine(AT, "ann", "pause", ""))
        opening.cancel()

    pausing = asyncio.create_task(paused())
    opening = asyncio.create_task(ledger.open_attempt(attempt(ANN)))
    await asyncio.wait((pausing, opening))
    await ledger.write_journal(JournalLine(AT, "ann", "resume", ""))
    assert [one.attempt_id for one in await ledger.unresolved_attempts()] == (
        [] if opening.cancelled() else [opening.result()]
    )
