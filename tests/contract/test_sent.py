"""How many recipients were sent to lately: what a cap of an hour or a day has to know, however the service ended."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from drainer.ledger import sent_rows
from drainer.ledger.contract import Ledger
from drainer.ledger.records import DsnRecipient, NewDsn, Outcome, new_attempt_id
from drainer.ledger.sqlite import SqliteLedger
from drainer.ledger.states import DsnState, State
from tests.contract.test_deliveries import ANN, AT, BOB, EVE, FIRST, MESSAGE, attempt

TEN = AT - AT % 10


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


async def test_counts_are_there_after_the_ledger_was_left_open_and_a_clock_far_ahead_forgets_none(
    tmp_path: Path,
) -> None:
    killed = SqliteLedger(tmp_path / "ledger.sqlite", is_alone=False)
    await killed.open()
    await killed.open_attempt(attempt(ANN))
    opened = SqliteLedger(tmp_path / "ledger.sqlite", is_alone=False)
    await opened.open()
    assert await opened.sent_since(AT - 86_400) == [(AT - AT % 10, 1)]
    await opened.open_attempt(replace(attempt(EVE), at_s=AT + 30 * 86_400))
    await opened.expire(AT + 30 * 86_400)
    assert await opened.sent_since(AT - 86_400) == [(AT - AT % 10, 1), (AT + 30 * 86_400 - AT % 10, 1)]
    for ledger in (killed, opened):
        await ledger.close()


async def test_counts_that_are_dated_ahead_count_as_of_now_once(ledger: Ledger) -> None:
    await ledger.open_attempt(attempt(ANN))
    await ledger.open_attempt(replace(attempt(BOB), attempt_id=new_attempt_id(), at_s=AT + 50))
    await ledger.open_attempt(replace(attempt(EVE), attempt_id=new_attempt_id(), at_s=AT + 86_400))
    await ledger.redate_sent(AT + 3)
    assert await ledger.sent_since(0) == [(TEN, 2), (TEN + 50, 1)], "a minute ahead is no clock that is wrong"
    await ledger.redate_sent(AT + 4000)
    assert await ledger.sent_since(0) == [(TEN, 2), (TEN + 50, 1)]


async def test_counts_keep_their_age_when_the_clock_is_set_forward(ledger: Ledger) -> None:
    """As on a host that starts in 1970 and learns the time later: the next run has to know how long ago it was."""
    await ledger.open_attempt(attempt(ANN))
    await ledger.open_attempt(replace(attempt(BOB), attempt_id=new_attempt_id(), at_s=AT + 20))
    forward_s = 50 * 365 * 86_400.0
    await ledger.redate_sent(AT + 100 + forward_s - 5, forward_s - 5)
    right = [(TEN + forward_s, 1), (TEN + 20 + forward_s, 1)]
    assert await ledger.sent_since(0) == right
    await ledger.redate_sent(AT + 3 * 86_400 + forward_s, 600.0)
    assert await ledger.sent_since(0) == right, "older than any cap"


@given(st.dictionaries(st.integers(0, 500), st.integers(1, 9)), st.floats(0, 5000), st.sampled_from([0.0, 12.0, 500.0]))
def test_dating_anew_loses_no_recipient_and_makes_none_older(
    sent: dict[int, int], now_s: float, set_forward_s: float
) -> None:
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.executescript("CREATE TABLE sent (queue, at, recipients, PRIMARY KEY (queue, at))")
        sent_rows.write_sent(connection, 1, {10 * at: number for at, number in sent.items()})
        sent_rows.redate_sent(connection, 1, now_s, set_forward_s)
        found = sent_rows.sent_since(connection, 1, 0)
    assert sum(number for _, number in found) == sum(sent.values())
    for age_s in range(0, 5000, 500):
        before_s = now_s - set_forward_s
        before = sum(n for at, n in sent.items() if before_s - age_s <= 10 * at <= before_s + sent_rows.AHEAD_S)
        after = sum(n for at, n in found if at >= sent_rows.bucket_of(now_s - age_s))
        assert after >= before
    assert all(at <= now_s + sent_rows.AHEAD_S for at, _ in found)


def test_what_two_days_of_sending_fill_is_kept_and_no_more() -> None:
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.executescript("CREATE TABLE sent (queue, at, recipients, PRIMARY KEY (queue, at))")
        for queue in (1, 2):
            sent_rows.write_sent(connection, queue, {10 * at: 1 for at in range(sent_rows.MOST_ROWS + 1)})
        sent_rows.forget_sent(connection, 1)
        sent_rows.forget_sent(connection, 1)
        kept = [len(sent_rows.sent_since(connection, queue, 0)) for queue in (1, 2)]
        assert kept == [sent_rows.MOST_ROWS, sent_rows.MOST_ROWS + 1]
        assert sent_rows.sent_since(connection, 1, 0)[0] == (10.0, 1)
