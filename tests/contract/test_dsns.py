"""DSNs: owed in the commit that makes a recipient FAILED, each settled once."""

from __future__ import annotations

import asyncio

import pytest

from drainer.errors import IllegalTransition
from drainer.ledger.contract import Ledger
from drainer.ledger.records import DsnBacklog, DsnRecipient, JournalLine, MessageRecord, NewDsn, Outcome, OwedDsn
from drainer.ledger.states import DsnState, State
from drainer.report.snapshot import done_of
from tests.contract.test_deliveries import ANN, AT, BOB, EVE, FIRST, MESSAGE, SECOND, A, B, attempt

REPLY = "550 5.1.1 no such user"
BOUNCES = "choir-bounces@example.org"
OTHER = MessageRecord((B,), "other.example.org", "<two@example.org>")


def dsn(*recipients: str, filebase: str = FIRST, message: MessageRecord = MESSAGE, at_s: float = AT) -> NewDsn:
    reported = tuple(DsnRecipient(address, address, REPLY) for address in recipients)
    return NewDsn(filebase, message, BOUNCES, reported, b"Subject: \xfc\r\n", "id \xe9", at_s)


async def fail(
    ledger: Ledger, *recipients: str, filebase: str = FIRST, message: MessageRecord = MESSAGE, at_s: float = AT
) -> None:
    outcome = Outcome(State.FAILED, recipients, REPLY, at_s)
    await ledger.record(filebase, message, [outcome], [dsn(*recipients, filebase=filebase, message=message, at_s=at_s)])


async def owed(ledger: Ledger) -> list[OwedDsn]:
    return await ledger.dsns(DsnState.OWED, 100)


async def reported(ledger: Ledger) -> list[str]:
    return [recipient.owed for one in await owed(ledger) for recipient in one.recipients]


async def test_dsn_is_owed_whole_after_a_restart(ledger: Ledger) -> None:
    await fail(ledger, ANN, BOB)
    await ledger.close()
    await ledger.open()
    (found,) = await owed(ledger)
    reported = (DsnRecipient(ANN, ANN, REPLY), DsnRecipient(BOB, BOB, REPLY))
    assert found == OwedDsn(
        found.dsn_id, DsnState.OWED, FIRST, "list.example.org", "<one@example.org>", BOUNCES, reported, b"Subject: \xfc\r\n",
        "id \xe9", AT, None, AT, 0,
    )  # fmt: skip


async def test_attempt_that_fails_owes_its_dsn_and_one_that_cannot_be_closed_owes_none(ledger: Ledger) -> None:
    opened = await ledger.open_attempt(attempt(ANN))
    await ledger.close_attempt(opened, State.FAILED, REPLY, AT, [dsn(ANN)])
    with pytest.raises(IllegalTransition):
        await ledger.close_attempt(opened, State.FAILED, REPLY, AT + 1, [dsn(BOB)])
    with pytest.raises(IllegalTransition):
        await ledger.record(FIRST, MESSAGE, [Outcome(State.FAILED, (ANN,), REPLY, AT)], [dsn(EVE)])
    assert await reported(ledger) == [ANN]


async def test_undone_failure_is_reported_when_it_comes_again_unless_a_dsn_reported_it(ledger: Ledger) -> None:
    await fail(ledger, ANN)
    (sent,) = await owed(ledger)
    await ledger.move_dsns([sent.dsn_id], DsnState.SENDING, AT + 1)
    await ledger.move_dsns([sent.dsn_id], DsnState.SENT, AT + 2)
    await fail(ledger, BOB)
    (dropped,) = await owed(ledger)
    await ledger.move_dsns([dropped.dsn_id], DsnState.DROPPED, AT + 3)
    assert await ledger.undo_failures([SECOND], AT) == 0
    assert await ledger.undo_failures([FIRST], AT) == 1
    totals = await ledger.totals()
    assert (totals.get("bounced_recipients"), totals.get("undone_recipients")) == (2, 1)
    assert done_of(totals).bounced_recipients == 1
    await ledger.close()
    await ledger.open()
    await fail(ledger, ANN, BOB, filebase=SECOND)
    assert await reported(ledger) == [BOB]
    assert done_of(await ledger.totals()).bounced_recipients == 3


async def test_failure_is_either_undone_or_reported_by_the_dsn_that_is_begun_meanwhile(ledger: Ledger) -> None:
    await fail(ledger, ANN)
    (found,) = await owed(ledger)
    undone, begun = await asyncio.gather(
        ledger.undo_failures([FIRST], AT),
        ledger.move_dsns([found.dsn_id], DsnState.SENDING, AT + 1),
        return_exceptions=True,
    )
    (part,) = (await ledger.history(MESSAGE.identity)).coverage or (None,)
    assert undone == (part is None) == isinstance(begun, IllegalTransition)


async def test_dsn_that_is_owed_for_an_undone_failure_is_dropped_with_it_and_owed_again_if_it_fails(
    ledger: Ledger,
) -> None:
    await ledger.record(FIRST, MESSAGE, [Outcome(State.FAILED, (ANN, BOB), REPLY, AT)], [dsn(ANN), dsn(BOB)])
    await fail(ledger, EVE, filebase=SECOND)
    first, *_ = await owed(ledger)
    await ledger.move_dsns([first.dsn_id], DsnState.SENDING, AT + 1)
    await ledger.move_dsns([first.dsn_id], DsnState.OWED, AT + 2, AT + 60)  # the MTA deferred it
    assert await ledger.undo_failures([FIRST], AT + 3) == 1
    assert sorted(await reported(ledger)) == sorted([ANN, EVE])
    assert (await ledger.totals()).get("dsns_dropped") == 1
    await fail(ledger, BOB)
    assert sorted(await reported(ledger)) == sorted([ANN, BOB, EVE])


async def test_failures_of_one_row_are_undone_apart(ledger: Ledger) -> None:
    await ledger.record(FIRST, MESSAGE, [Outcome(State.FAILED, (ANN, BOB, EVE), REPLY, AT)], [dsn(ANN), dsn(BOB, EVE)])
    first, _ = await owed(ledger)
    await ledger.move_dsns([first.dsn_id], DsnState.SENDING, AT + 1)
    assert await ledger.undo_failures([FIRST], AT) == 2
    (part,) = (await ledger.history(MESSAGE.identity)).coverage
    assert (part.state, part.addresses) == (State.FAILED, (ANN,))


async def test_second_copy_refused_for_the_same_recipient_is_reported_once(ledger: Ledger) -> None:
    await fail(ledger, ANN)
    await fail(ledger, ANN, BOB, filebase=SECOND)
    await fail(ledger, ANN, filebase=SECOND, message=OTHER)
    assert await reported(ledger) == [ANN, BOB, ANN]
    await ledger.move_dsns([one.dsn_id for one in await owed(ledger)], DsnState.DROPPED, AT)
    await fail(ledger, ANN, filebase="1700000300.5+" + "3" * 40)
    assert await reported(ledger) == []


async def test_dsn_is_begun_once_and_sent_once(ledger: Ledger) -> None:
    await fail(ledger, ANN)
    (found,) = await owed(ledger)
    with pytest.raises(IllegalTransition):
        await ledger.move_dsns([found.dsn_id], DsnState.SENT, AT)
    await ledger.move_dsns([found.dsn_id], DsnState.SENDING, AT + 7)
    with pytest.raises(IllegalTransition):
        await ledger.move_dsns([found.dsn_id], DsnState.SENDING, AT)
    await ledger.close()
    await ledger.open()
    (sending,) = await ledger.dsns(DsnState.SENDING, 100)
    assert (sending.dsn_id, sending.tried_at_s) == (found.dsn_id, AT + 7)
    line = JournalLine(AT, "drainer", "dsn", "sent")
    await ledger.move_dsns([found.dsn_id], DsnState.SENT, AT, journal=line)
    with pytest.raises(IllegalTransition):
        await ledger.move_dsns([found.dsn_id], DsnState.SENT, AT)
    totals = await ledger.totals()
    assert (totals.get("dsns_sent"), totals.get("dsns_dropped")) == (1, 0)
    assert await ledger.journal() == [line]
    assert await ledger.dsn_backlog() == DsnBacklog()


async def test_nothing_is_written_if_one_of_several_cannot_go_there(ledger: Ledger) -> None:
    await fail(ledger, ANN)
    (found,) = await owed(ledger)
    with pytest.raises(IllegalTransition):
        await ledger.move_dsns([found.dsn_id, found.dsn_id + 99], DsnState.DROPPED, AT)
    assert await reported(ledger) == [ANN]


async def test_deferred_dsn_waits_until_it_is_due_and_counts_its_attempts(ledger: Ledger) -> None:
    await fail(ledger, ANN)
    await fail(ledger, BOB, at_s=AT + 10)
    await fail(ledger, EVE, filebase=SECOND, message=OTHER, at_s=AT + 20)
    first = (await owed(ledger))[0]
    await ledger.move_dsns([first.dsn_id], DsnState.SENDING, AT + 30)
    await ledger.move_dsns([first.dsn_id], DsnState.OWED, AT + 31, AT + 400)
    assert await reported(ledger) == [BOB, EVE, ANN]
    due = await ledger.dsns(DsnState.OWED, 100, AT + 100, ["other.example.org"])
    assert [one.recipients[0].owed for one in due] == [BOB]
    assert [one.attempts for one in await owed(ledger)] == [0, 0, 1]
    assert await ledger.dsn_backlog() == DsnBacklog(3, 0, AT + 20, AT + 10)
    second = (await owed(ledger))[0]
    await ledger.move_dsns([second.dsn_id], DsnState.SENDING, AT + 50)
    await ledger.move_dsns([second.dsn_id], DsnState.IN_DOUBT, AT + 50)
    assert await ledger.dsn_backlog() == DsnBacklog(3, 1, AT + 20, AT + 20)


async def test_dsn_outlives_its_entry_and_what_is_remembered_of_the_message(ledger: Ledger) -> None:
    await fail(ledger, ANN)
    await ledger.finish_entry(FIRST)
    assert await ledger.expire(AT + 1_000_000) == 1
    assert (await ledger.history([A])).coverage == ()
    assert await reported(ledger) == [ANN]
