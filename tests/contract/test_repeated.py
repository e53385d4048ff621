"""A write whose answer was lost is asked for by the attempt's id, and made again: it happens once."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from drainer.errors import IllegalTransition
from drainer.ledger.contract import Ledger
from drainer.ledger.records import new_attempt_id
from drainer.ledger.states import State
from drainer.ledger.tables import ENDS_REMEMBERED
from tests.contract.test_deliveries import ANN, AT, BOB, EVE, FIRST, SECOND, attempt, row, states
from tests.contract.test_dsns import dsn, reported


async def reopened(ledger: Ledger) -> None:
    await ledger.close()
    await ledger.open()


async def test_attempt_written_again_is_the_same_attempt(ledger: Ledger) -> None:
    asked = attempt(ANN, BOB)
    assert await ledger.attempt(asked.attempt_id) is None
    await ledger.open_attempt(asked)
    await reopened(ledger)
    assert await ledger.attempt(asked.attempt_id) is State.ATTEMPTING
    await ledger.open_attempt(asked)
    (found,) = await ledger.unresolved_attempts()
    assert (found.attempt_id, found.recipients) == (asked.attempt_id, (ANN, BOB))


async def test_another_attempt_is_not_taken_for_one_that_is_open(ledger: Ledger) -> None:
    asked = attempt(ANN)
    await ledger.open_attempt(asked)
    for other in (
        replace(asked, attempt_id=new_attempt_id()),
        replace(asked, at_s=AT + 1),
        replace(asked, reverse_path="other@l"),
        replace(asked, filebase=SECOND),
        replace(asked, recipients=(ANN, BOB)),
    ):
        with pytest.raises(IllegalTransition):
            await ledger.open_attempt(other)
    with pytest.raises(ValueError, match="another attempt's id"):
        await ledger.open_attempt(replace(asked, recipients=(BOB,)))
    assert await states(ledger) == row(FIRST, State.ATTEMPTING, ANN)


async def test_attempt_that_ended_is_not_opened_again_by_a_late_repetition(ledger: Ledger) -> None:
    asked = attempt(ANN)
    await ledger.open_attempt(asked)
    await ledger.close_attempt(asked.attempt_id, State.DELIVERED, "250", AT)
    with pytest.raises(IllegalTransition):
        await ledger.open_attempt(asked)


@pytest.mark.parametrize("state", [State.DELIVERED, State.DEFERRED, State.FAILED, State.IN_DOUBT])
async def test_outcome_written_again_changes_nothing(ledger: Ledger, state: State) -> None:
    opened = await ledger.open_attempt(attempt(ANN, BOB))
    await ledger.close_attempt(opened, state, "words", AT + 1, [dsn(ANN)] if state is State.FAILED else [])
    before = await states(ledger), await ledger.totals(), await reported(ledger)
    await reopened(ledger)
    assert await ledger.attempt(opened) is state
    await ledger.close_attempt(opened, state, "words", AT + 1, [dsn(ANN)] if state is State.FAILED else [])
    assert (await states(ledger), await ledger.totals(), await reported(ledger)) == before
    for other_state, at_s in ((state, AT + 2), (State.HELD, AT + 1)):
        with pytest.raises(IllegalTransition):
            await ledger.close_attempt(opened, other_state, "other words", at_s)


@pytest.mark.parametrize("state", [State.DELIVERED, State.PENDING, State.HELD])
async def test_resolution_written_again_changes_nothing(ledger: Ledger, state: State) -> None:
    opened = await ledger.open_attempt(attempt(ANN))
    for _ in range(2):
        await ledger.resolve(opened, State.IN_DOUBT, "service died", AT)
    assert await ledger.attempt(opened) is State.IN_DOUBT
    for _ in range(2):
        await ledger.resolve(opened, state, "in the MTA's log", AT + 1)
        assert await ledger.attempt(opened) is state
    evidence = [line for some in (await ledger.account(9)).evidence.values() for line in some.lines]
    assert len(evidence) == 1
    assert (await ledger.totals()).get("delivered_recipients") == (state is State.DELIVERED)


async def test_part_split_off_again_is_the_same_part(ledger: Ledger) -> None:
    whole, part = await ledger.open_attempt(attempt(ANN, BOB, EVE)), new_attempt_id()
    for _ in range(2):
        await ledger.split_attempt(whole, (BOB,), part)
    assert {one.attempt_id: one.recipients for one in await ledger.unresolved_attempts()} == {
        whole: (ANN, EVE),
        part: (BOB,),
    }


async def test_ends_are_remembered_for_the_last_attempts_only(ledger: Ledger) -> None:
    first = await ledger.open_attempt(attempt(ANN))
    await ledger.close_attempt(first, State.DEFERRED, "450", AT)

    async def defer(number: int) -> None:
        opened = await ledger.open_attempt(attempt(f"{number}@example.org"))
        await ledger.close_attempt(opened, State.DEFERRED, "450", AT)

    await asyncio.gather(*map(defer, range(ENDS_REMEMBERED - 1)))
    assert await ledger.attempt(first) is State.DEFERRED
    await reopened(ledger)
    last = await ledger.open_attempt(attempt(ANN))
    await ledger.close_attempt(last, State.DEFERRED, "450", AT)
    assert (await ledger.attempt(first), await ledger.attempt(last)) == (None, State.DEFERRED)
