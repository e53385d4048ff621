"""What operators did, in the journal with the steps it came to, and entries put back as they stood."""

from __future__ import annotations

from drainer.ledger.actions import Action, Before, NewAction, PutBack, Step, StepKind, Waiting
from drainer.ledger.contract import Ledger
from drainer.ledger.evidence import Ended, Evidence, Fate
from drainer.ledger.records import Deferral, Hold, JournalLine, MessageRecord, OperatorState, Outcome, recipient_key
from drainer.ledger.states import State
from tests.contract.test_deliveries import (
    ANN,
    AT,
    BOB,
    EVE,
    FIRST,
    MESSAGE,
    SECOND,
    A,
    B,
    attempt,
    deliver,
    row,
    states,
)

HELD = Hold(FIRST, "resend", "2 recipients", "drainer", AT)
DEFERRAL = Deferral(FIRST, 3, AT, AT + 600, 2, "450 später \udce9")


def line(verb: str, at_s: float = AT) -> JournalLine:
    return JournalLine(at_s, "jörg", verb, f"{verb} it")


async def step_of(ledger: Ledger, number: int, filebase: str = FIRST) -> Step:
    return next(step for step in await ledger.steps(number) if step.filebase == filebase)


async def test_action_is_numbered_after_all_before_it_and_survives_restart_with_its_steps(ledger: Ledger) -> None:
    await ledger.write_journal(JournalLine(AT, "drainer", "clock", ""))
    new = NewAction("spam \udce9", payload='{"pauses":{}}')
    number = await ledger.write_journal(line("drop"), new)
    before = Before(
        True, HELD, DEFERRAL, "resend", (Waiting(State.HELD, (recipient_key(ANN), recipient_key(BOB)), "421", AT),),
        (recipient_key(EVE),),
    )  # fmt: skip
    steps = [
        Step(number, FIRST, StepKind.DROP, before, None, Ended(Fate.DROPPED, "list \udce9", "exact", 1, 3, 900)),
        Step(number, SECOND, StepKind.HOLD, hold=HELD),
    ]
    await ledger.finish_entry(FIRST, step=steps[0])
    await ledger.hold([HELD], steps[1])
    await ledger.end_action(number, "2 entries: drop it", AT + 1)
    await ledger.close()
    await ledger.open()
    assert (number, await ledger.steps(number)) == (2, steps)
    ended = NewAction("spam \udce9", ended_s=AT + 1, payload='{"pauses":{}}')
    assert await ledger.actions() == [
        Action(1, AT, "drainer", "clock", ""),
        Action(2, AT, "jörg", "drop", "2 entries: drop it", ended, 2),
    ]
    assert await ledger.actions(1) == [await ledger.action(2)]
    assert (await ledger.action(3), await ledger.steps(3)) == (None, [])
    assert [one.detail for one in await ledger.journal()] == ["", "2 entries: drop it"]
    assert await ledger.set_operator_state(OperatorState().changed(), line("pause"), NewAction(ended_s=AT)) == 3


async def test_step_that_is_taken_back_is_so_until_that_is_taken_back_as_well(ledger: Ledger) -> None:
    """The first drops, the second undoes it, the third that, the fourth that again."""
    numbers = [await ledger.write_journal(line("drop"), NewAction())]
    await ledger.finish_entry(FIRST, step=Step(1, FIRST, StepKind.DROP))
    await ledger.finish_entry(SECOND, step=Step(1, SECOND, StepKind.DROP))
    seen = []
    for depth in (1, 2, 3):
        number = await ledger.write_journal(line("undo"), NewAction(undoes=numbers[-1], depth=depth))
        await ledger.finish_entry(FIRST, step=Step(number, FIRST, StepKind.RESTORE, takes_back=numbers[-1]))
        numbers.append(number)
        seen.append([(await step_of(ledger, one)).undone_by for one in numbers])
    assert seen == [[2, None], [None, 3, None], [2, None, 4, None]]
    assert [(one.entries, one.undone_entries) for one in await ledger.actions()] == [(2, 1), (1, 0), (1, 1), (1, 0)]
    assert await ledger.steps_after(1) == {FIRST: 4}
    assert await ledger.steps_after(0) == {FIRST: 4, SECOND: 1}


async def test_dropped_entry_is_put_back_as_it_stood_and_other_entries_stay_as_they_are(ledger: Ledger) -> None:
    other = MessageRecord((A, B), "list", "<one@x>")
    await deliver(ledger, EVE)
    await ledger.record(FIRST, MESSAGE, [Outcome(State.HELD, (ANN,), "in doubt", AT)])
    await ledger.record(SECOND, other, [Outcome(State.SKIPPED, (ANN, BOB), "dropped", AT)])
    evidence = Evidence(Fate.DROPPED, FIRST, AT, "list", "<one@x>", 2)
    await ledger.record(FIRST, MESSAGE, [Outcome(State.SKIPPED, (ANN, BOB), "dropped", AT)])
    ended = Ended(Fate.DROPPED, "list", "none", 1, 3, 900)
    await ledger.finish_entry(FIRST, {"dropped_entries": 1}, ended, [evidence])
    skipped = frozenset(map(recipient_key, (ANN, BOB)))
    how = PutBack(FIRST, True, HELD, None, skipped)
    number = await ledger.write_journal(line("undo"), NewAction())
    await ledger.put_back(
        how, MESSAGE, [Outcome(State.HELD, (ANN,), "in doubt", AT)], Step(number, FIRST, StepKind.RESTORE),
        {"undropped_entries": 1}, Ended(Fate.DROPPED, "list", "none", -1, -3, -900),
    )  # fmt: skip
    await ledger.close()
    await ledger.open()
    assert await states(ledger) == (
        row(FIRST, State.DELIVERED, EVE) | row(FIRST, State.HELD, ANN) | row(SECOND, State.SKIPPED, ANN, BOB)
    )
    (held,) = (part for part in (await ledger.history([A])).coverage if part.state is State.HELD)
    assert held.addresses == (ANN,), "there is an entry again that a person can act on"
    assert (await ledger.holds(), await ledger.steps(number)) == ([HELD], [Step(number, FIRST, StepKind.RESTORE)])
    account = await ledger.account(10)
    assert (account.evidence, account.ended) == ({}, (Ended(Fate.DROPPED, "list", "none", 0, 0, 0),))
    await deliver(ledger, BOB)


async def test_who_was_sent_to_meanwhile_does_not_wait_again(ledger: Ledger) -> None:
    """ANN has it by a copy, EVE is being sent to by it, BOB was refused for now by this very entry."""
    await deliver(ledger, ANN, filebase=SECOND)
    await ledger.open_attempt(attempt(EVE, filebase=SECOND))
    await ledger.record(FIRST, MESSAGE, [Outcome(State.DEFERRED, (BOB,), "450", AT)])
    await ledger.defer(DEFERRAL)
    held = [Outcome(State.HELD, (ANN, BOB, EVE), "in doubt", AT)]
    await ledger.put_back(PutBack(FIRST, True, HELD, None), MESSAGE, held, Step(1, FIRST, StepKind.HOLD, hold=HELD))
    assert await states(ledger) == (
        row(SECOND, State.DELIVERED, ANN) | row(SECOND, State.ATTEMPTING, EVE) | row(FIRST, State.HELD, BOB)
    )
    assert (await ledger.deferral(FIRST), await ledger.hold_of(FIRST)) == (None, HELD)
    await ledger.put_back(PutBack(FIRST, False, None, DEFERRAL), None, (), Step(2, FIRST, StepKind.RELEASE))
    assert (await ledger.deferral(FIRST), await ledger.hold_of(FIRST)) == (DEFERRAL, None)


async def test_steps_go_when_their_action_is_too_old(ledger: Ledger) -> None:
    for number, at_s in ((1, AT), (2, AT + 1000)):
        await ledger.write_journal(line("hold", at_s), NewAction())
        await ledger.hold([HELD], Step(number, FIRST, StepKind.HOLD, hold=HELD))
    assert [step.filebase for number in (1, 2) for step in await ledger.steps(number)] == [FIRST, FIRST]
    await ledger.expire(AT + 500)
    assert [len(await ledger.steps(number)) for number in (1, 2)] == [0, 1]
    assert [action.number for action in await ledger.actions()] == [1, 2]
