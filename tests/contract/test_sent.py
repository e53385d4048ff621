"""How many recipients were sent to lately: what a cap of an hour or a day has to know, however the service ended."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from drainer.ledger.contract import Ledger
from drainer.ledger.records import DsnRecipient, NewDsn, Outcome, new_attempt_id
from drainer.ledger.sqlite import SqliteLedger
from drainer.ledger.states import DsnState, State
from tests.contract.test_deliveries import ANN, AT, BOB, EVE, FIRST, MESSAGE, attempt


async def test_recipients_count_from_the_commit_that_opens_their_attempt_whatever_becomes_of_it(ledger: Ledger) -> None:
    first, second = attempt(ANN, BOB), replace(attempt(EVE), at_s=AT + 25)
    await ledger.open_attempt(first)
    await ledger.open_attempt(first)  # its answer was lost: written again, it counts once
    assert await ledger.sent_since(AT - 3600) == [(AT - AT % 10, 2)]
    await ledger.close_attempt(first.attempt_id, State.DEFERRED, "451", AT + 1)
    await ledger.open_attempt(second)
    await ledger.close_attempt(second.attempt_id, State.IN_DOUBT, "lost", AT + 26)
    again = replace(attempt(ANN), attempt_id=new_attempt_id(), at_s=AT + 26)
    await ledger.open_attempt(again)
    assert await ledger.sent_since(AT - 3600) == [(AT - AT % 10, 2), (AT + 25 - (AT + 25) % 10, 2)]
    assert await ledger.sent_since(AT + 20) == [(AT + 25 - (AT + 25) % 10, 2)]


async def test_what_the_mta_refused_before_data_does_not_count(ledger: Ledger) -> None:
    await ledger.record(FIRST, MESSAGE, [Outcome(State.FAILED, (ANN,), "550", AT)])
    assert await ledger.sent_since(0) == []


async def test_dsn_counts_one_recipient_from_the_moment_at_which_sending_begins(ledger: Ledger) -> None:
    dsn = NewDsn(FIRST, MESSAGE, "b@l", (DsnRecipient(ANN, ANN, "550"),), b"A: b\r\n", "", AT)
    await ledger.record(FIRST, MESSAGE, [Outcome(State.FAILED, (ANN,), "550", AT)], [dsn])
    (owed,) = await ledger.dsns(DsnState.OWED, 9)
    await ledger.move_dsns([owed.dsn_id], DsnState.SENDING, AT + 30)
    await ledger.move_dsns([owed.dsn_id], DsnState.SENT, AT + 31)
    assert await ledger.sent_since(0) == [(AT + 30 - AT % 10, 1)]


async def test_counts_are_there_after_the_ledger_was_left_open_and_old_ones_are_forgotten(tmp_path: Path) -> None:
    killed = SqliteLedger(tmp_path / "ledger.sqlite", is_alone=False)
    await killed.open()
    await killed.open_attempt(attempt(ANN))
    opened = SqliteLedger(tmp_path / "ledger.sqlite", is_alone=False)
    await opened.open()
    assert await opened.sent_since(AT - 86_400) == [(AT - AT % 10, 1)]
    later = AT + 3 * 86_400
    await opened.open_attempt(replace(attempt(EVE), at_s=later))
    assert await opened.sent_since(0) == [(later - later % 10, 1)]
    for ledger in (killed, opened):
        await ledger.close()
