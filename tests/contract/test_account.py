"""What a report is made of: durable in the commits it belongs to, bounded, and read from one moment."""

from __future__ import annotations

import itertools

import pytest

from drainer.errors import IllegalTransition
from drainer.ledger import evidence
from drainer.ledger.contract import Ledger
from drainer.ledger.evidence import Ended, Event, Evidence, Failure, Fate, Some
from drainer.ledger.records import JournalLine
from drainer.ledger.states import DsnState, State
from tests.contract.test_deliveries import ANN, AT, BOB, EVE, FIRST, SECOND, attempt
from tests.contract.test_dsns import REPLY, fail, owed

SUPPRESSED = Evidence(
    Fate.SUPPRESSED, SECOND, AT + 9, "list.example.org", "<two@example.org>", 2, of=FIRST, of_at_s=AT, detail="exact"
)


async def test_evidence_of_a_suppression_is_there_after_a_restart_with_what_it_was_a_copy_of(ledger: Ledger) -> None:
    ended = Ended(Fate.SUPPRESSED, "list.example.org", "exact", recipients=2, bytes=500)
    await ledger.finish_entry(SECOND, {"suppressed_entries": 1}, ended, [SUPPRESSED])
    await ledger.finish_entry("1700000900.5+" + "9" * 40, {"suppressed_entries": 1}, ended)
    await ledger.close()
    await ledger.open()
    account = await ledger.account(10)
    assert account.evidence == {Fate.SUPPRESSED: Some(1, (SUPPRESSED,))}
    assert account.ended == (Ended(Fate.SUPPRESSED, "list.example.org", "exact", 2, 4, 1000),)
    assert await ledger.evidence_of("<two@example.org>", 10) == [SUPPRESSED]
    assert await ledger.evidence_of("<one@example.org>", 10) == []


async def test_long_list_is_cut_and_its_length_shown(ledger: Ledger) -> None:
    for number in range(5):
        await ledger.write_journal(JournalLine(AT + number, "ann", "pause", str(number)))
        await ledger.write_journal(JournalLine(AT + number, "drainer", "resume", str(number)))
    await fail(ledger, ANN, BOB, EVE)
    account = await ledger.account(2)
    assert (account.failures.total, [failure.address for failure in account.failures.lines]) == (3, [ANN, BOB])
    assert (account.by_people.total, [line.detail for line in account.by_people.lines]) == (5, ["3", "4"])
    assert account.by_service.total == 5


async def test_failed_recipient_is_listed_with_its_reply_and_the_state_of_its_dsn(ledger: Ledger) -> None:
    await fail(ledger, ANN, BOB)
    account = await ledger.account(10)
    assert account.failures.lines[0] == Failure(FIRST, "list.example.org", "<one@example.org>", ANN, REPLY, int(AT))
    assert (account.dsns, account.dsn_backlog.owed) == ({}, 1)
    (dsn,) = await owed(ledger)
    await ledger.move_dsns([dsn.dsn_id], DsnState.SENDING, AT + 1)
    await ledger.move_dsns([dsn.dsn_id], DsnState.SENT, AT + 2)
    account = await ledger.account(10)
    assert account.dsns == {(FIRST, ANN): Fate.DSN_SENT, (FIRST, BOB): Fate.DSN_SENT}
    assert account.dsn_backlog.owed == 0


async def test_doubt_is_listed_while_it_is_open_and_with_its_end_afterwards(ledger: Ledger) -> None:
    opened = await ledger.open_attempt(attempt(ANN, BOB))
    await ledger.close_attempt(opened, State.IN_DOUBT, "reply lost", AT)
    (doubt,) = (await ledger.account(10)).open_doubts
    assert doubt.recipients == (ANN, BOB)
    await ledger.resolve(opened, State.DELIVERED, "the log has it", AT + 5)
    with pytest.raises(IllegalTransition):
        await ledger.resolve(opened, State.PENDING, "again", AT + 6)
    account = await ledger.account(10)
    assert account.open_doubts == ()
    assert account.evidence[Fate.DOUBT_DELIVERED].lines == (
        Evidence(
            Fate.DOUBT_DELIVERED, FIRST, AT + 5, "list.example.org", "<one@example.org>", 2, addresses=(ANN, BOB),
            detail="the log has it",
        ),
    )  # fmt: skip


async def test_account_since_a_baseline_leaves_out_what_was_before_it(ledger: Ledger) -> None:
    early = Ended(Fate.DELIVERED, "list.example.org", "none", recipients=2, bytes=500)
    await ledger.finish_entry(FIRST, {"delivered_entries": 1, "delivered_recipients": 2}, early)
    await ledger.write_journal(JournalLine(AT, "ann", "pause", "everything"))
    await ledger.write_event(Event(AT, "run", "started"))
    await fail(ledger, ANN)
    await ledger.write_baseline(AT + 5)
    await ledger.finish_entry(SECOND, {"suppressed_entries": 1}, Ended(Fate.SUPPRESSED, "w\udce4lder"), [SUPPRESSED])
    late = "1700000900.5+" + "9" * 40
    await ledger.finish_entry(late, {"delivered_entries": 1, "delivered_recipients": 4}, early)
    await ledger.close()
    await ledger.open()
    everything, since = await ledger.account(10), await ledger.account(10, AT + 6)
    assert everything.totals.get("delivered_entries") == 2 and everything.failures.total == 1
    assert (since.totals.since_s, everything.baselines) == (AT + 5, (AT + 5,))
    assert [since.totals.get(name) for name in ("delivered_entries", "delivered_recipients", "suppressed_entries")] == [
        1,
        4,
        1,
    ]
    assert since.ended == (early, Ended(Fate.SUPPRESSED, "w\udce4lder"))
    assert since.evidence == {Fate.SUPPRESSED: Some(1, (SUPPRESSED,))}
    assert (since.failures, since.by_people, since.events) == (Some(), Some(), ())
    # Before the first baseline there is nothing to begin with.
    assert (await ledger.account(10, AT + 4)).totals == everything.totals


async def test_baselines_are_at_most_a_part_of_their_age_apart_and_few(ledger: Ledger) -> None:
    await ledger.finish_entry(FIRST, {}, Ended(Fate.DELIVERED, "list.example.org"))
    for half_hour in range(200):
        await ledger.write_baseline(AT + half_hour)
    ages = [AT + 199 - at_s for at_s in (await ledger.account(1)).baselines]
    assert ages[0] == 199 and ages[-11:] == [10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0]
    assert len(ages) < 80
    assert all(older - newer <= max(1, 0.1 * older) for older, newer in itertools.pairwise(ages))


async def test_flapping_state_never_pushes_out_the_long_states_nor_the_beginning(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evidence, "MOST_EVENTS", 20)
    await ledger.write_event(Event(AT, "run", "started"))
    await ledger.write_event(Event(AT, "state", "scanning"))
    await ledger.write_event(Event(AT + 1, "state", "mta_down", "connection refused"))
    for step in range(40):
        await ledger.write_event(Event(AT + 5000 + step, "state", "idle" if step % 2 else "draining"))
    events = (await ledger.account(1)).events
    assert len(events) == 20 + 1
    assert [event.what for event in events[:3]] == ["started", "scanning", "mta_down"]
    assert events[-1].at_s == AT + 5039


async def test_what_is_kept_under_a_name_is_replaced(ledger: Ledger) -> None:
    await ledger.keep({"present": b"one", "history": b"\0"})
    await ledger.keep({"present": b"two"})
    await ledger.close()
    await ledger.open()
    assert (await ledger.account(1)).kept == {"present": b"two", "history": b"\0"}
    assert [await ledger.kept(name) for name in ("present", "history", "none")] == [b"two", b"\0", None]


async def test_evidence_goes_when_it_is_too_old(ledger: Ledger) -> None:
    await ledger.finish_entry(SECOND, {}, None, [SUPPRESSED])
    (kept,) = await ledger.evidence_of("<two@example.org>", 9)
    assert kept.of == FIRST
    await ledger.expire(AT + 9.5)
    assert await ledger.evidence_of("<two@example.org>", 9) == []
