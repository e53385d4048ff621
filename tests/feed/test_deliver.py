"""One transaction against a real sink: each misbehaviour gives the right outcome, and ledger and sink agree."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from drainer.clock import StoppedClock
from drainer.demo.misbehaviour import (
    GARBAGE,
    HALF_A_REPLY,
    HANG_UP,
    TAKE_AND_HANG_UP,
    Behaviour,
    Rule,
    SinkStep,
    answer,
)
from drainer.demo.sink import Sink, SinkOptions
from drainer.demo.sink_session import SinkSession
from drainer.errors import LedgerNotDurable
from drainer.feed.deliver import TooLargeForMta, deliver
from drainer.feed.session import Session
from drainer.feed.smtp_commands import UnsafeAddress
from drainer.feed.transaction import Transaction
from drainer.ledger.evidence import Finish
from drainer.ledger.records import AttemptId, NewAttempt, NewDsn, recipient_key
from drainer.ledger.states import DsnState, State
from drainer.settings.mta import MtaSettings
from tests.feed.conftest import composed, mta_settings, record_of
from tests.ledger.memory import MemoryLedger

ANN, BEN, CAT = "ann@example.org", "ben@example.net", "cat@example.com"
FILEBASE = "1700000000.1+ab12"


async def carried_out(
    mta: MtaSettings, ledger: MemoryLedger, *recipients: str, content: bytes | None = None, holds_refused: bool = False
) -> tuple[Transaction, dict[State, set[str]]]:
    """One transaction on a session of its own, and what the ledger says of each recipient afterwards."""
    message = composed(*recipients, content=content)
    record = record_of(message)
    session = await Session.open(mta)
    try:
        done = await deliver(
            message, FILEBASE, record, ledger, session, StoppedClock(), owes_dsns=True, holds_refused=holds_refused
        )
    finally:
        await session.quit()
    history = await ledger.history(record.identity)
    names = {recipient_key(recipient): recipient for recipient in recipients}
    states = {state: {names[key] for key in history.with_state(state)} for state in State}
    return done, {state: found for state, found in states.items() if found}


async def test_accepted_message_is_delivered_and_arrives_as_composed(
    sink: Sink, mta: MtaSettings, ledger: MemoryLedger
) -> None:
    content = b"Message-ID: <dots@example.org>\r\n\r\n.\r\n..two\r\nend."
    done, in_ledger = await carried_out(mta, ledger, ANN, BEN, content=content)
    assert in_ledger == {State.DELIVERED: {ANN, BEN}}
    assert done.recipients(State.DELIVERED) == (ANN, BEN) and done.untouched == () and done.trouble == ""
    (taken,) = sink.taken
    assert taken.recipients == (ANN, BEN) and taken.reverse_path == "ants-bounces@example.org"
    assert taken.content == content + b"\r\n"


@pytest.mark.parametrize("size", ["100", "0", ""], ids=["too_small", "no_limit", "no_figure"])
async def test_content_above_the_size_the_mta_announces_is_not_begun(ledger: MemoryLedger, size: str) -> None:
    async with Sink(SinkOptions(extensions=("PIPELINING", f"SIZE {size}".strip()))) as sink:
        large = b"Message-ID: <large@example.org>\r\n\r\n" + b"x" * 100
        if size == "100":
            with pytest.raises(TooLargeForMta, match="the MTA takes 100"):
                await carried_out(mta_settings(sink.port), ledger, ANN, content=large)
        else:
            done, _ = await carried_out(mta_settings(sink.port), ledger, ANN, content=large)
            assert done.recipients(State.DELIVERED) == (ANN,)
        assert ("MAIL" in sink.commands) is (size != "100")


@pytest.mark.parametrize(
    ("rule", "in_ledger"),
    [
        ("rcpt 550 5.1.1 no such user recipient=ann@*", {State.FAILED: {ANN}, State.DELIVERED: {BEN, CAT}}),
        ("rcpt 450 4.2.0 greylisted recipient=ann@*", {State.DEFERRED: {ANN}, State.DELIVERED: {BEN, CAT}}),
        ("rcpt 552 5.2.2 mailbox full recipient=cat@*", {State.DEFERRED: {CAT}, State.DELIVERED: {ANN, BEN}}),
        ("rcpt 552 mailbox full beyond=1", {State.DEFERRED: {BEN, CAT}, State.DELIVERED: {ANN}}),
        ("rcpt 452 who knows recipient=cat@*", {State.DEFERRED: {CAT}, State.DELIVERED: {ANN, BEN}}),
        ("rcpt 452 4.5.3 too many recipients", {State.DEFERRED: {ANN, BEN, CAT}}),
        ("rcpt 550 5.1.1 no such user", {State.FAILED: {ANN, BEN, CAT}}),
        ("mail 451 4.3.0 try later", {State.DEFERRED: {ANN, BEN, CAT}}),
        ("mail 550 5.7.1 reverse-path refused", {State.FAILED: {ANN, BEN, CAT}}),
        ("data 451 4.3.0 try later", {State.DEFERRED: {ANN, BEN, CAT}}),
        ("data 554 5.5.1 no valid recipients", {State.FAILED: {ANN, BEN, CAT}}),
        ("dot 451 4.3.0 try later", {State.DEFERRED: {ANN, BEN, CAT}}),
        ("dot 554 5.7.1 content refused", {State.FAILED: {ANN, BEN, CAT}}),
        ("dot 552 5.3.4 too big", {State.DEFERRED: {ANN, BEN, CAT}}),
    ],
)
async def test_refusal_blames_the_entry_for_the_recipients_it_concerns(
    sink: Sink, mta: MtaSettings, ledger: MemoryLedger, rule: str, in_ledger: dict[State, set[str]]
) -> None:
    sink.scripts.append(Rule.parse(rule))
    done, found = await carried_out(mta, ledger, ANN, BEN, CAT)
    assert found == in_ledger
    assert done.untouched == () and done.trouble == ""
    assert {recipient for recipient, _ in sink.delivered()} == in_ledger.get(State.DELIVERED, set())
    dsns = await ledger.dsns(DsnState.OWED, 10)
    assert {recipient.owed for dsn in dsns for recipient in dsn.recipients} == in_ledger.get(State.FAILED, set())


@pytest.mark.parametrize("extensions", [("PIPELINING",), ()], ids=["pipelined", "one_by_one"])
@pytest.mark.parametrize(
    "rule",
    [
        "rcpt 452 4.5.3 Error: too many recipients beyond=1",
        "rcpt 452 too many recipients beyond=1",
        "rcpt 552 Too many recipients beyond=1",
        "rcpt 552 5.5.3 recipients exceed the limit beyond=1",
        "rcpt 452 requested action not taken beyond=1",
    ],
)
async def test_recipients_beyond_the_mtas_limit_are_owed_as_before(
    ledger: MemoryLedger, rule: str, extensions: tuple[str, ...]
) -> None:
    async with Sink(SinkOptions(extensions=extensions)) as sink:
        sink.scripts.append(Rule.parse(rule))
        done, in_ledger = await carried_out(mta_settings(sink.port), ledger, ANN, BEN, CAT)
    assert in_ledger == {State.DELIVERED: {ANN}}
    assert (done.over_limit, done.accepted) == ((BEN, CAT), 1)
    assert done.untouched == () and done.trouble == "" and done.recipients(State.DEFERRED) == ()


async def test_session_lost_after_the_mtas_limit_leaves_every_recipient_untouched(
    sink: Sink, mta: MtaSettings, ledger: MemoryLedger
) -> None:
    sink.scripts += [Rule.parse("rcpt 421 4.3.2 closing recipient=cat@*"), Rule.parse("rcpt 452 4.5.3 many beyond=1")]
    done, in_ledger = await carried_out(mta, ledger, ANN, BEN, CAT)
    assert in_ledger == {} and set(done.untouched) == {ANN, BEN, CAT} and done.over_limit == ()


@pytest.mark.parametrize("step", ["mail", "data", "dot"])
async def test_refusal_of_the_message_fails_no_recipient_where_the_entry_is_held_for_it(
    sink: Sink, mta: MtaSettings, ledger: MemoryLedger, step: str
) -> None:
    sink.scripts += [
        Rule.parse(f"{step} 554 5.6.0 line too long"),
        Rule.parse("rcpt 550 5.1.1 unknown recipient=cat@*"),
    ]
    done, in_ledger = await carried_out(mta, ledger, ANN, BEN, CAT, holds_refused=True)
    asked = step != "mail"
    assert in_ledger == (
        {State.DEFERRED: {ANN, BEN}, State.FAILED: {CAT}} if asked else {State.DEFERRED: {ANN, BEN, CAT}}
    )
    assert done.message_refused == "554 5.6.0 line too long" and done.trouble == ""
    dsns = await ledger.dsns(DsnState.OWED, 10)
    assert [recipient.owed for dsn in dsns for recipient in dsn.recipients] == [CAT] * asked


@pytest.mark.parametrize(
    "rule",
    [
        "mail hang-up",
        "mail garbage",
        "mail 421 4.3.2 closing",
        "mail 530 5.7.0 authentication required",
        "mail 503 5.5.1 EHLO first",
        "rcpt hang-up recipient=ben@*",
        "rcpt 421 4.7.0 closing recipient=ben@*",
        "rcpt half recipient=ben@*",
        "mail twice 250 2.1.0 Ok",
    ],
)
async def test_trouble_before_data_leaves_recipients_untouched(
    sink: Sink, mta: MtaSettings, ledger: MemoryLedger, rule: str
) -> None:
    sink.scripts.append(Rule.parse(rule))
    done, in_ledger = await carried_out(mta, ledger, ANN, BEN, CAT)
    assert in_ledger == {} and await ledger.unresolved_attempts() == []
    assert set(done.untouched) == {ANN, BEN, CAT} and done.trouble
    assert sink.taken == []


@pytest.mark.parametrize(
    "rule",
    ["data hang-up", "data 421 4.3.2 closing", "data 250 2.0.0 Ok", "content hang-up", "dot 421 4.3.2 closing"],
)
async def test_trouble_before_the_mta_can_own_the_message_defers_without_blame(
    sink: Sink, mta: MtaSettings, ledger: MemoryLedger, rule: str
) -> None:
    content = b"Message-ID: <large@example.org>\r\n\r\n" + b"x" * 70_000_000 if rule == "content hang-up" else None
    sink.scripts.append(Rule.parse(rule))
    done, in_ledger = await carried_out(mta, ledger, ANN, BEN, content=content)
    assert in_ledger == {State.DEFERRED: {ANN, BEN}}
    assert set(done.untouched) == {ANN, BEN} and done.trouble
    assert sink.taken == []


@pytest.mark.parametrize(
    ("at_final_dot", "taken"),
    [
        (HANG_UP, False),
        (TAKE_AND_HANG_UP, True),
        (HALF_A_REPLY, True),
        (GARBAGE, False),
        (answer("354 go ahead"), False),
        (answer("220 2.0.0 hello"), True),
        (Behaviour(b"250 Ok\r\n250 Ok\r\n"), True),
        (Behaviour(b"099 what\r\n"), False),
    ],
)
async def test_anything_but_a_plain_reply_after_the_final_dot_is_in_doubt(
    sink: Sink, mta: MtaSettings, ledger: MemoryLedger, at_final_dot: Behaviour, taken: bool
) -> None:
    sink.scripts.append(lambda step: at_final_dot if step.stage == "dot" else None)
    done, in_ledger = await carried_out(mta, ledger, ANN, BEN)
    assert in_ledger == {State.IN_DOUBT: {ANN, BEN}}
    assert done.untouched == () and done.trouble
    assert bool(sink.taken) is taken


async def test_silence_after_the_final_dot_is_in_doubt_when_its_own_timeout_ends(
    sink: Sink, ledger: MemoryLedger
) -> None:
    sink.scripts.append(Rule.parse("dot take-and-silence"))
    mta = mta_settings(sink.port, final_dot_timeout=0.05)
    _, in_ledger = await carried_out(mta, ledger, ANN)
    assert in_ledger == {State.IN_DOUBT: {ANN}}


async def test_silence_before_354_defers_when_the_command_timeout_ends(sink: Sink, ledger: MemoryLedger) -> None:
    sink.scripts.append(Rule.parse("data silence"))
    mta = mta_settings(sink.port, command_timeout=0.05)
    done, in_ledger = await carried_out(mta, ledger, ANN)
    assert in_ledger == {State.DEFERRED: {ANN}} and done.untouched == (ANN,)


async def test_closing_notice_behind_a_250_does_not_undo_the_delivery(
    sink: Sink, mta: MtaSettings, ledger: MemoryLedger
) -> None:
    both = Behaviour(b"250 2.0.0 Ok\r\n421 4.3.2 closing\r\n", "hang_up")
    sink.scripts.append(lambda step: both if step.stage == "dot" else None)
    _, in_ledger = await carried_out(mta, ledger, ANN)
    assert in_ledger == {State.DELIVERED: {ANN}}


async def test_failing_quit_after_250_is_still_delivered(sink: Sink, mta: MtaSettings, ledger: MemoryLedger) -> None:
    sink.scripts.append(Rule.parse("quit hang-up"))
    _, in_ledger = await carried_out(mta, ledger, ANN)
    assert in_ledger == {State.DELIVERED: {ANN}} and len(sink.taken) == 1


async def test_early_refusal_of_large_content_is_the_outcome(
    sink: Sink, mta: MtaSettings, ledger: MemoryLedger
) -> None:
    sink.scripts.append(Rule.parse("content 552 5.3.4 too big"))
    content = b"Message-ID: <large@example.org>\r\n\r\n" + b"x" * 70_000_000
    done, in_ledger = await carried_out(mta, ledger, ANN, content=content)
    assert in_ledger == {State.DEFERRED: {ANN}}
    assert done.outcomes[0].reply == "552 5.3.4 too big"


async def test_message_without_accepted_recipients_sends_no_data_and_session_carries_the_next(
    sink: Sink, mta: MtaSettings, ledger: MemoryLedger
) -> None:
    sink.scripts.append(Rule.parse("rcpt 550 5.1.1 no such user recipient=ann@*"))
    session = await Session.open(mta)
    for recipient in (ANN, BEN):
        message = composed(recipient)
        await deliver(message, FILEBASE, record_of(message), ledger, session, StoppedClock())
    await session.quit()
    assert sink.commands["DATA"] == 1 and sink.commands["RSET"] == 1 and sink.sessions_seen == 1
    assert [recipient for recipient, _ in sink.delivered()] == [BEN]


async def test_hostile_recipient_fails_without_reaching_the_wire(
    sink: Sink, mta: MtaSettings, ledger: MemoryLedger
) -> None:
    hostile = "eve@example.org>\r\nRCPT TO:<victim@example.org"
    done, in_ledger = await carried_out(mta, ledger, hostile, ANN)
    assert in_ledger == {State.FAILED: {hostile}, State.DELIVERED: {ANN}}
    assert done.recipients(State.FAILED) == (hostile,)
    assert sink.commands["RCPT"] == 1


async def test_hostile_reverse_path_is_refused_whole(sink: Sink, mta: MtaSettings, ledger: MemoryLedger) -> None:
    message = composed(ANN, reverse_path="a@example.org>\r\nRSET")
    session = await Session.open(mta)
    with pytest.raises(UnsafeAddress):
        await deliver(message, FILEBASE, record_of(message), ledger, session, StoppedClock())
    await session.quit()
    assert "MAIL" not in sink.commands and "RSET" not in sink.commands


class FullDisk(MemoryLedger):
    """A ledger whose disk is full for a number of writes of one kind."""

    def __init__(self, open_fails: int = 0, close_fails: int = 0) -> None:
        super().__init__()
        self.open_fails = open_fails
        self.close_fails = close_fails
        self.closing = asyncio.Event()

    async def open_attempt(self, attempt: NewAttempt) -> AttemptId:
        if self.open_fails:
            self.open_fails -= 1
            raise LedgerNotDurable("disk full")
        return await super().open_attempt(attempt)

    async def close_attempt(
        self,
        attempt_id: AttemptId,
        state: State,
        reply: str,
        at_s: float,
        dsns: Sequence[NewDsn] = (),
        finish: Finish | None = None,
    ) -> None:
        self.closing.set()
        if self.close_fails:
            self.close_fails -= 1
            raise LedgerNotDurable("disk full")
        await super().close_attempt(attempt_id, state, reply, at_s, dsns, finish)


async def test_attempt_is_written_before_data_and_outcome_before_anything_else(sink: Sink, mta: MtaSettings) -> None:
    order: list[str] = []

    class Noting(MemoryLedger):
        async def open_attempt(self, attempt: NewAttempt) -> AttemptId:
            await asyncio.sleep(0.01)  # as a disk would
            attempt_id = await super().open_attempt(attempt)
            order.append("attempt")
            return attempt_id

        async def close_attempt(
            self,
            attempt_id: AttemptId,
            state: State,
            reply: str,
            at_s: float,
            dsns: Sequence[NewDsn] = (),
            finish: Finish | None = None,
        ) -> None:
            await asyncio.sleep(0.01)
            await super().close_attempt(attempt_id, state, reply, at_s, dsns, finish)
            order.append("outcome")

    def noting(step: SinkStep) -> None:
        order.append(step.stage)

    sink.scripts.append(noting)
    message = composed(ANN, BEN)
    session = await Session.open(mta)
    await deliver(message, FILEBASE, record_of(message), Noting(), session, StoppedClock())
    order.append("returned")
    assert order[2:] == ["mail", "rcpt", "rcpt", "attempt", "data", "content", "dot", "outcome", "returned"]
    await session.quit()


async def test_nothing_is_sent_when_the_attempt_cannot_be_written(sink: Sink, mta: MtaSettings) -> None:
    ledger = FullDisk(open_fails=1)
    message = composed(ANN)
    session = await Session.open(mta)
    with pytest.raises(LedgerNotDurable):
        await deliver(message, FILEBASE, record_of(message), ledger, session, StoppedClock())
    assert "DATA" not in sink.commands and sink.commands["RSET"] == 1 and session.usable
    await session.quit()


async def test_outcome_is_written_once_the_ledger_can_again(sink: Sink, mta: MtaSettings) -> None:
    ledger = FullDisk(close_fails=2)
    _, in_ledger = await carried_out(mta, ledger, ANN)
    assert in_ledger == {State.DELIVERED: {ANN}} and ledger.close_fails == 0 and len(sink.taken) == 1


async def test_outcome_that_cannot_be_written_when_cancelled_stays_open_and_is_logged(
    sink: Sink, mta: MtaSettings, caplog: pytest.LogCaptureFixture
) -> None:
    ledger = FullDisk(close_fails=1_000)
    task = asyncio.create_task(carried_out(mta, ledger, ANN))
    await ledger.closing.wait()
    task.cancel()
    with pytest.raises(LedgerNotDurable):
        await task
    (attempt,) = await ledger.unresolved_attempts()
    assert attempt.state is State.ATTEMPTING and len(sink.taken) == 1
    assert any("outcome=delivered" in record.message and ANN in record.message for record in caplog.records)


async def test_cancelling_finishes_a_transaction_whose_content_is_out(
    sink: Sink, mta: MtaSettings, ledger: MemoryLedger
) -> None:
    reached = asyncio.Event()

    def slow(step: SinkStep) -> Behaviour | None:
        if step.stage != "dot":
            return None
        reached.set()
        return Behaviour(delay_s=0.05, takes=True)

    sink.scripts.append(slow)
    message = composed(ANN)
    session = await Session.open(mta)
    task = asyncio.create_task(deliver(message, FILEBASE, record_of(message), ledger, session, StoppedClock()))
    await reached.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    history = await ledger.history(record_of(message).identity)
    assert history.with_state(State.DELIVERED) == {recipient_key(ANN)} and len(sink.taken) == 1
    await session.quit()


async def test_cancelling_before_the_attempt_sends_nothing_and_closes_the_session(
    sink: Sink, mta: MtaSettings, ledger: MemoryLedger
) -> None:
    reached = asyncio.Event()

    def stuck(step: SinkStep) -> Behaviour | None:
        if step.stage != "rcpt":
            return None
        reached.set()
        return Behaviour(b"", "silence")

    sink.scripts.append(stuck)
    message = composed(ANN)
    session = await Session.open(mta)
    task = asyncio.create_task(deliver(message, FILEBASE, record_of(message), ledger, session, StoppedClock()))
    await reached.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not session.usable and await ledger.unresolved_attempts() == []


async def test_envelope_goes_out_in_one_write_where_the_mta_pipelines(ledger: MemoryLedger) -> None:
    seen: dict[tuple[str, ...], set[int]] = {}
    for extensions in [("PIPELINING",), ()]:
        async with Sink(SinkOptions(extensions=extensions)) as sink:
            behind: set[int] = set()

            def count(step: SinkStep, sink: Sink = sink, behind: set[int] = behind) -> None:
                if step.stage in ("mail", "rcpt"):
                    (connection,) = sink.open_sessions
                    assert isinstance(connection, SinkSession)
                    behind.add(bytes(connection._buffer).count(b"RCPT TO"))

            sink.scripts.append(count)
            await carried_out(mta_settings(sink.port), ledger, ANN, BEN, CAT)
            seen[extensions] = behind
    assert seen == {("PIPELINING",): {0, 1, 2, 3}, (): {0}}


async def test_one_reply_too_many_blames_no_recipient(sink: Sink, mta: MtaSettings, ledger: MemoryLedger) -> None:
    sink.scripts.append(Rule.parse("rcpt twice 550 5.1.1 gone recipient=ann@* first=1"))
    done, in_ledger = await carried_out(mta, ledger, ANN, BEN, CAT)
    assert in_ledger == {} and set(done.untouched) == {ANN, BEN, CAT} and "more than one reply" in done.trouble
    assert sink.taken == []


async def test_address_not_fit_for_smtp_fails_alone_among_pipelined_ones(
    sink: Sink, mta: MtaSettings, ledger: MemoryLedger
) -> None:
    _, in_ledger = await carried_out(mta, ledger, "a>b@example.org", ANN, "c>d@example.org", BEN)
    assert in_ledger == {State.FAILED: {"a>b@example.org", "c>d@example.org"}, State.DELIVERED: {ANN, BEN}}
