"""Two drainers, each with its own queue, write one ledger: deliveries are common, what is in flight belongs to one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from drainer.clock import StoppedClock
from drainer.errors import IllegalTransition, LedgerUnusable, OperatorStateChanged
from drainer.ledger.contract import Ledger
from drainer.ledger.records import Deferral, Hold, JournalLine, Outcome, Pause, Queue
from drainer.ledger.sqlite import SqliteLedger
from drainer.ledger.states import DsnState, State
from tests.contract.test_deliveries import ANN, AT, BOB, EVE, FIRST, MESSAGE, SECOND, attempt, deliver, row, states
from tests.contract.test_dsns import fail, owed

ONE, TWO = Queue("11" * 8, "/queue", "host1:1"), Queue("22" * 8, "/queue", "host2:2")
ELSEWHERE = f"{FIRST}@{ONE.queue_id}"


@pytest.fixture
async def both(tmp_path: Path) -> AsyncIterator[tuple[Ledger, Ledger]]:
    ledgers = tuple(SqliteLedger(tmp_path / "ledger.sqlite", StoppedClock(), is_alone=False) for _ in "12")
    for ledger, queue in zip(ledgers, (ONE, TWO), strict=True):
        await ledger.open()
        await ledger.claim(queue)
    yield ledgers[0], ledgers[1]
    for ledger in ledgers:
        await ledger.close()


async def test_of_two_that_open_an_attempt_for_one_recipient_at_once_one_is_refused(
    both: tuple[Ledger, Ledger],
) -> None:
    one, two = both
    for number in range(30):
        recipient = f"{number}@example.org"
        results = await asyncio.gather(
            one.open_attempt(attempt(f"one.{recipient}", recipient)),
            two.open_attempt(attempt(f"two.{recipient}", recipient)),
            return_exceptions=True,
        )
        assert sorted(isinstance(result, IllegalTransition) for result in results) == [False, True]
    assert len(await one.unresolved_attempts()) + len(await two.unresolved_attempts()) == 30


async def test_what_one_delivered_the_other_does_not_send_though_it_remembers_otherwise(
    both: tuple[Ledger, Ledger],
) -> None:
    one, two = both
    await deliver(two, EVE)
    await deliver(one, ANN)
    with pytest.raises(IllegalTransition):
        await two.open_attempt(attempt(ANN, filebase=SECOND))
    await deliver(two, BOB)
    assert await states(two) == row(ELSEWHERE, State.DELIVERED, ANN) | row(FIRST, State.DELIVERED, EVE, BOB)


@pytest.mark.parametrize("state", [State.DELIVERED, State.FAILED, State.DEFERRED])
async def test_one_waits_for_the_others_attempt_and_then_sends_or_does_not(
    both: tuple[Ledger, Ledger], state: State
) -> None:
    one, two = both
    opened = await one.open_attempt(attempt(ANN))
    with pytest.raises(IllegalTransition):
        await two.open_attempt(attempt(ANN))
    await one.close_attempt(opened, state, "words", AT)
    if state is State.DELIVERED:
        with pytest.raises(IllegalTransition):
            await two.open_attempt(attempt(ANN))
    else:
        await deliver(two, ANN)
        assert await states(one) >= row(FIRST, state, ANN)


async def test_entries_of_one_name_in_two_queues_are_two_entries(both: tuple[Ledger, Ledger]) -> None:
    one, two = both
    await one.record(
        FIRST, MESSAGE, [Outcome(State.FAILED, (ANN,), "550", AT), Outcome(State.HELD, (BOB,), "operator", AT)]
    )
    await one.hold([Hold(FIRST, "operator", "", "ann", AT)])
    await one.defer(Deferral(FIRST, 1, AT, AT + 60, 1, "450"))
    assert await states(two) == row(ELSEWHERE, State.FAILED, ANN) | row(ELSEWHERE, State.HELD, BOB)
    await two.record(FIRST, MESSAGE, [Outcome(State.DEFERRED, (ANN, BOB), "450", AT)])
    assert await two.undo_failures([FIRST], AT) == 0
    await deliver(two, ANN, BOB)
    await two.release([FIRST], held_recipients=True)
    await two.finish_entry(FIRST)
    assert await states(one) >= row(FIRST, State.FAILED, ANN) | row(FIRST, State.HELD, BOB)
    assert [len(await one.holds()), len(await one.deferrals()), await one.held_recipients([FIRST])] == [1, 1, 1]
    assert [len(await two.holds()), len(await two.deferrals()), await two.held_recipients([FIRST])] == [0, 0, 0]
    assert await one.undo_failures([FIRST], AT) == 1


async def test_recovery_touches_attempts_of_its_own_queue_only(both: tuple[Ledger, Ledger]) -> None:
    one, two = both
    of_one = await one.open_attempt(attempt(ANN))
    of_two = await two.open_attempt(attempt(BOB))
    assert [found.attempt_id for found in await one.unresolved_attempts()] == [of_one]
    assert (await one.attempt(of_two), await two.attempt(of_two)) == (None, State.ATTEMPTING)
    for touch in (
        one.resolve(of_two, State.IN_DOUBT, "died", AT),
        one.close_attempt(of_two, State.DELIVERED, "250", AT),
    ):
        with pytest.raises(IllegalTransition):
            await touch
    assert await two.attempt(of_two) is State.ATTEMPTING


async def test_dsns_counters_journal_and_what_is_kept_are_the_queues_own(both: tuple[Ledger, Ledger]) -> None:
    one, two = both
    await fail(one, ANN)
    (dsn,) = await owed(one)
    assert (await owed(two), (await two.dsn_backlog()).owed) == ([], 0)
    with pytest.raises(IllegalTransition):
        await two.move_dsns([dsn.dsn_id], DsnState.SENDING, AT)
    await one.count({"dropped_entries": 3})
    await two.count({"dropped_entries": 4})
    await two.keep({"name": b"two"})
    number = await two.write_journal(JournalLine(AT, "bob", "hold", ""))
    assert [(await ledger.totals()).get("dropped_entries") for ledger in both] == [3, 4]
    assert [(await ledger.totals()).get("bounced_recipients") for ledger in both] == [1, 0]
    assert [await ledger.kept("name") for ledger in both] == [None, b"two"]
    assert [await ledger.action(number) is None for ledger in both] == [True, False]
    assert [len(await ledger.journal()) for ledger in both] == [0, 1]
    # One DSN reported the recipient, whichever host's copy failed first.
    await fail(two, ANN, BOB)
    assert [[recipient.owed for recipient in found.recipients] for found in await owed(two)] == [[BOB]]


async def test_pauses_and_rates_are_both_drainers_and_the_second_to_decide_sees_the_first(
    both: tuple[Ledger, Ledger],
) -> None:
    one, two = both
    seen = await two.operator_state()
    pause = Pause("", AT, None, "ann", "MTA upgrade")
    await one.set_operator_state(seen.changed(pauses=(pause,)), JournalLine(AT, "ann", "pause", ""))
    with pytest.raises(OperatorStateChanged):
        await two.set_operator_state(seen.changed(messages_per_s=5.0), JournalLine(AT, "bob", "rate", ""))
    assert await two.operator_state() == await one.operator_state() == seen.changed(pauses=(pause,))
    assert await two.journal() == []


async def test_drainer_whose_queue_another_owner_has_claimed_writes_nothing_any_more(
    both: tuple[Ledger, Ledger],
) -> None:
    one, two = both
    opened = await one.open_attempt(attempt(ANN))
    taken_over = replace(ONE, owner="host2:3")
    await two.claim(taken_over)
    assert (await two.queues())[0] == taken_over
    for write in (
        one.close_attempt(opened, State.DELIVERED, "250", AT),
        one.open_attempt(attempt(BOB)),
        one.count({"transactions": 1}),
    ):
        with pytest.raises(LedgerUnusable, match="host2:3 has queue 1111111111111111 now"):
            await write
    assert [found.attempt_id for found in await two.unresolved_attempts()] == [opened]
    await two.resolve(opened, State.IN_DOUBT, "host1 is gone", AT)
    assert await states(two) == row(FIRST, State.IN_DOUBT, ANN)


async def test_queue_known_by_another_id_keeps_what_is_in_flight_under_its_new_one(tmp_path: Path) -> None:
    ledger = SqliteLedger(tmp_path / "ledger.sqlite", StoppedClock())
    await ledger.open()
    opened = await ledger.open_attempt(attempt(ANN))
    await ledger.claim(ONE, known_as="")
    await ledger.claim(TWO, known_as=ONE.queue_id)
    assert await ledger.queues() == [TWO]
    assert [found.attempt_id for found in await ledger.unresolved_attempts()] == [opened]
    await ledger.claim(ONE)
    assert (await ledger.queues(), await ledger.unresolved_attempts()) == ([ONE, TWO], [])
    await ledger.close()
    await ledger.open()
    assert (await ledger.queues())[0] == ONE
    await ledger.close()
