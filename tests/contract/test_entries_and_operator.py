"""Entries that wait, what the operator decided, counters and questions."""

from __future__ import annotations

import asyncio
import math

import pytest

from drainer.clock import StoppedClock
from drainer.errors import IllegalTransition, OperatorStateChanged
from drainer.ledger.contract import Ledger
from drainer.ledger.evidence import Ended, Evidence, Fate, Finish
from drainer.ledger.records import (
    AttemptId,
    Deferral,
    DomainOrder,
    Hold,
    JournalLine,
    MessageRecord,
    OperatorState,
    Outcome,
    Pause,
    new_attempt_id,
)
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
    C,
    attempt,
    deliver,
    row,
    states,
)


def deferral(filebase: str, due_s: float, attempts: int = 1) -> Deferral:
    return Deferral(filebase, attempts, AT, due_s, 2, "450 4.2.0 später")


async def test_deferral_is_replaced_and_survives_restart(ledger: Ledger) -> None:
    await ledger.defer(deferral(FIRST, AT + 300.5))
    await ledger.defer(deferral(SECOND, AT + 10))
    await ledger.defer(deferral(FIRST, AT + 600.25, attempts=2))
    await ledger.close()
    await ledger.open()
    assert await ledger.deferrals() == [deferral(SECOND, AT + 10), deferral(FIRST, AT + 600.25, attempts=2)]


async def test_one_entry_is_asked_about_by_name(ledger: Ledger) -> None:
    await ledger.defer(deferral(FIRST, AT))
    await ledger.hold([Hold(SECOND, "operator", "", "ann", AT)])
    assert (await ledger.deferral(FIRST), await ledger.hold_of(FIRST)) == (deferral(FIRST, AT), None)
    assert (await ledger.deferral(SECOND), await ledger.hold_of(SECOND)) == (
        None,
        Hold(SECOND, "operator", "", "ann", AT),
    )


async def test_finished_entry_waits_for_nothing_and_its_counts_are_added(ledger: Ledger) -> None:
    await deliver(ledger, ANN)
    await ledger.defer(deferral(FIRST, AT))
    await ledger.hold([Hold(FIRST, "resend", "", "drainer", AT)])
    await ledger.finish_entry(FIRST, {"delivered_entries": 1})
    assert (await ledger.deferrals(), await ledger.holds()) == ([], [])
    assert (await ledger.totals()).get("delivered_entries") == 1
    assert await states(ledger) == row(FIRST, State.DELIVERED, ANN)


@pytest.mark.parametrize("last", ["closed", "recorded"])
async def test_entry_ends_in_the_commit_of_its_last_outcome_or_not_at_all(ledger: Ledger, last: str) -> None:
    await ledger.record(FIRST, MESSAGE, [Outcome(State.DEFERRED, (BOB,), "450", AT)])
    await ledger.defer(deferral(FIRST, 50.0))
    opened = await ledger.open_attempt(attempt(ANN))
    ended = Ended(Fate.DELIVERED, "list", recipients=2)
    finish = Finish(FIRST, {"delivered_entries": 1}, ended, [Evidence(Fate.SUPPRESSED, FIRST, AT)])

    async def end(attempt_id: AttemptId) -> None:
        if last == "closed":
            await ledger.close_attempt(attempt_id, State.DELIVERED, "250", AT + 1, finish=finish)
        else:
            outcome = Outcome(State.FAILED, (EVE if attempt_id == opened else ANN,), "550", AT)
            await ledger.record(FIRST, MESSAGE, [outcome], finish=finish)

    with pytest.raises(IllegalTransition):
        await end(new_attempt_id())  # another attempt; a recipient that is being sent to
    assert await ledger.deferrals() == [deferral(FIRST, 50.0)]
    await end(opened)
    if last == "closed":
        await end(opened)
    account = await ledger.account(10)
    assert account.totals.get("delivered_entries") == 1
    assert account.ended == (ended,)
    assert account.evidence[Fate.SUPPRESSED].total == 1
    assert await ledger.deferrals() == []
    assert not {state for _, state, _ in await states(ledger, *MESSAGE.identity)} & {State.DEFERRED}


async def test_holds_survive_restart_and_go_on_release(ledger: Ledger) -> None:
    holds = [Hold(FIRST, "resend", "of another", "drainer", AT), Hold(SECOND, "operator", "", "jörg", AT + 1)]
    await ledger.hold(holds)
    await ledger.hold([Hold(FIRST, "operator", "looks wrong", "ann", AT)])
    await ledger.defer(deferral(FIRST, AT))
    await ledger.close()
    await ledger.open()
    assert await ledger.holds() == [Hold(FIRST, "operator", "looks wrong", "ann", AT), holds[1]]
    await ledger.release([FIRST, "unknown"], held_recipients=False)
    assert await ledger.holds() == [holds[1]]
    assert await ledger.deferrals() == []


async def test_release_frees_held_recipients_of_that_entry_only_and_on_request(ledger: Ledger) -> None:
    for filebase in (FIRST, SECOND):
        await ledger.record(
            filebase, MESSAGE, [Outcome(State.HELD, (ANN,), "resend", AT), Outcome(State.DEFERRED, (BOB,), "450", AT)]
        )
    assert await ledger.held_recipients([FIRST, SECOND, "unknown"]) == 2
    await ledger.release([FIRST, SECOND], held_recipients=False)
    assert await ledger.held_recipients([FIRST, SECOND]) == 2
    await ledger.release([FIRST], held_recipients=True)
    assert await ledger.held_recipients([FIRST, SECOND]) == 1
    assert await states(ledger) == row(FIRST, State.DEFERRED, BOB) | row(SECOND, State.HELD, ANN) | row(
        SECOND, State.DEFERRED, BOB
    )


async def test_operators_orders_survive_restart_with_their_journal_line(ledger: Ledger) -> None:
    assert await ledger.operator_state() == OperatorState()
    order = OperatorState().changed(
        pauses=(Pause("", AT, None, "ann", "MTA upgrade"), Pause("liste.example.org", AT, AT + 60, "jörg", "")),
        messages_per_s=0.0,
        recipients_per_s=math.inf,
        domains=(
            DomainOrder("gmail.com", 5.0, AT + 60, AT, "ann", "421 4.7.28"),
            DomainOrder("google", math.inf, None, AT, "jörg", ""),
            DomainOrder("zürich.example", None, math.inf, AT, "ann", ""),
        ),
    )
    await ledger.set_operator_state(order, JournalLine(AT, "ann", "pause", "MTA upgrade"))
    await ledger.close()
    await ledger.open()
    assert await ledger.operator_state() == order
    assert await ledger.journal() == [JournalLine(AT, "ann", "pause", "MTA upgrade")]
    resumed = order.changed(pauses=(), messages_per_s=None, recipients_per_s=None, domains=())
    await ledger.set_operator_state(resumed, JournalLine(AT + 9, "ann", "resume", ""))
    assert await ledger.operator_state() == OperatorState(version=2)


async def test_of_two_operators_who_decide_at_once_the_second_sees_that_the_state_changed(ledger: Ledger) -> None:
    seen_by_both = await ledger.operator_state()
    pause = Pause("", AT, None, "ann", "MTA upgrade")
    lines = [JournalLine(AT, "ann", "pause", "MTA upgrade"), JournalLine(AT, "bob", "rate", "messages 5/s")]
    results = await asyncio.gather(
        ledger.set_operator_state(seen_by_both.changed(pauses=(pause,)), lines[0]),
        ledger.set_operator_state(seen_by_both.changed(messages_per_s=5.0), lines[1]),
        return_exceptions=True,
    )
    assert [type(result) for result in results] == [int, OperatorStateChanged]
    found = await ledger.operator_state()
    assert (found.pauses, found.messages_per_s, await ledger.journal()) == ((pause,), None, lines[:1])
    await ledger.set_operator_state(found.changed(messages_per_s=5.0), lines[1])
    found = await ledger.operator_state()
    assert (found.pauses, found.messages_per_s, await ledger.journal()) == ((pause,), 5.0, lines)


async def test_journal_gives_the_newest_lines_in_order(ledger: Ledger) -> None:
    lines = [JournalLine(AT - number, "ann", "hold", str(number)) for number in range(5)]
    for line in lines:
        await ledger.write_journal(line)
    assert await ledger.journal(3) == lines[2:]
    assert await ledger.journal() == lines


async def test_counters_add_up_and_survive_restart(ledger: Ledger) -> None:
    await deliver(ledger, ANN, BOB)
    await ledger.record(
        FIRST, MESSAGE, [Outcome(State.FAILED, (EVE,), "550", AT), Outcome(State.SKIPPED, ("x",), "", AT)]
    )
    doubtful = await ledger.open_attempt(attempt("f@x", "g@x", "h@x"))
    await ledger.close_attempt(doubtful, State.IN_DOUBT, "", AT)
    await ledger.resolve(doubtful, State.DELIVERED, "log", AT)
    await ledger.count({"unreadable_entries": 2, "dropped_entries": 1})
    await ledger.count({"unreadable_entries": 1})
    await ledger.close()
    await ledger.open()
    totals = await ledger.totals()
    assert totals.since_s == StoppedClock().now_s()
    assert totals.counts == {
        "delivered_recipients": 5,
        "bounced_recipients": 1,
        "transactions": 2,
        "unreadable_entries": 3,
        "dropped_entries": 1,
    }


async def test_fate_of_a_message_names_every_list_it_went_to(ledger: Ledger) -> None:
    news = MessageRecord((A, B), "news.example.org", "<cross@x>")
    talk = MessageRecord((C,), "talk.example.org", "<cross@x>")
    await deliver(ledger, ANN, message=news)
    await deliver(ledger, BOB, filebase=SECOND, message=talk)
    await deliver(ledger, EVE, filebase=SECOND, message=MessageRecord((b"z" * 16,), "talk.example.org", "<other@x>"))
    fates = await ledger.messages_by_message_id("<cross@x>")
    assert [message for message, _ in fates] == [news, talk]
    assert [[part.filebase for part in history.coverage] for _, history in fates] == [[FIRST], [SECOND]]
    assert await ledger.messages_by_message_id("<nobody@x>") == []


async def test_expire_forgets_old_messages_and_keeps_what_is_not_settled(ledger: Ledger) -> None:
    digests = [bytes([number]) * 16 for number in range(6)]
    old, fresh, deferred, in_doubt, held, both = (
        MessageRecord((digest, b"\xff" + digest[1:]), "list", f"<{digest.hex()}@x>") for digest in digests
    )
    await deliver(ledger, ANN, message=old)
    await deliver(ledger, ANN, message=fresh)
    await ledger.record(FIRST, fresh, [Outcome(State.FAILED, (BOB,), "550", AT + 1000)])
    await ledger.record(FIRST, deferred, [Outcome(State.DEFERRED, (ANN,), "450", AT)])
    await ledger.open_attempt(attempt(ANN, message=in_doubt))
    await ledger.record(FIRST, held, [Outcome(State.HELD, (ANN,), "resend", AT)])
    await deliver(ledger, ANN, message=both)
    await ledger.record(FIRST, both, [Outcome(State.HELD, (BOB,), "resend", AT)])
    dropped = MessageRecord((b"d" * 16,), "list", "<dropped@x>")
    await ledger.record(SECOND, dropped, [Outcome(State.HELD, (ANN,), "in doubt", AT)])
    await ledger.record(SECOND, dropped, [Outcome(State.SKIPPED, (ANN,), "dropped", AT)])
    await ledger.finish_entry(SECOND, {}, Ended(Fate.DROPPED, "list", "none", 1, 1, 900))
    assert await ledger.expire(AT - 1000) == 0
    assert await ledger.expire(AT + 500) == 2
    assert await ledger.expire(AT + 500) == 0
    kept = [bool((await ledger.history([digest])).coverage) for digest in (*digests, b"d" * 16)]
    assert kept == [False, True, True, True, True, True, False]
    await deliver(ledger, ANN, message=old)


async def test_expire_forgets_many(ledger: Ledger) -> None:
    async def drop(number: int) -> None:
        message = MessageRecord((number.to_bytes(16, "big"),), "list", "")
        await ledger.record(f"{number}.5+{'0' * 40}", message, [Outcome(State.SKIPPED, (ANN,), "", AT)])

    await asyncio.gather(*map(drop, range(450)))
    assert await ledger.expire(AT + 10) == 450
    assert await ledger.messages_by_message_id("") == []
