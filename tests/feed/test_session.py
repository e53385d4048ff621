"""What a session puts on the wire, and losing it."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from drainer.clock import StoppedClock
from drainer.compose.wire import Envelope
from drainer.demo.misbehaviour import Behaviour, Rule, SinkStep
from drainer.demo.sink import Sink, SinkOptions
from drainer.demo.sink_session import SinkSession
from drainer.feed.deliver import deliver
from drainer.feed.outcome import SessionLost, Stage
from drainer.feed.session import Session
from drainer.feed.smtp_commands import UnsafeAddress
from drainer.ledger.states import State
from drainer.settings.mta import MtaSettings
from tests.feed.conftest import CONTENT, composed, mta_settings, record_of, sent
from tests.ledger.memory import MemoryLedger


async def test_parameters_go_out_only_where_offered() -> None:
    wanted = ("BODY=8BITMIME", "RET=HDRS", "XSTRANGE=1")
    for offered, seen in [
        ((), ()),
        (("SIZE",), ("SIZE=37",)),
        (("SIZE", "8BITMIME", "DSN"), ("SIZE=37", "BODY=8BITMIME", "RET=HDRS")),
    ]:
        async with Sink(SinkOptions(extensions=offered)) as sink:
            session = await Session.open(mta_settings(sink.port))
            await sent(session, Envelope("", ("b@example.org",), wanted, size=None if not seen else 37))
            await session.quit()
            assert sink.taken[0].parameters == seen and sink.taken[0].reverse_path == ""


async def test_address_outside_ascii_announces_smtputf8(sink: Sink, mta: MtaSettings) -> None:
    session = await Session.open(mta)
    await sent(session, Envelope("a@example.org", ("jörg@exämple.org",)))
    await sent(session, Envelope("a@example.org", ("ann@example.org",)))
    await session.quit()
    assert "SMTPUTF8" in sink.taken[0].parameters and sink.taken[0].recipients == ("jörg@exämple.org",)
    assert "SMTPUTF8" not in sink.taken[1].parameters


async def test_address_outside_ascii_is_not_sent_where_smtputf8_is_not_offered(ledger: MemoryLedger) -> None:
    async with Sink(SinkOptions(extensions=("SIZE",))) as sink:
        session = await Session.open(mta_settings(sink.port))
        message = composed("jörg@example.org", "ann@example.org")
        done = await deliver(message, "1.0+a", record_of(message), ledger, session, StoppedClock())
        assert done.recipients(State.FAILED) == ("jörg@example.org",)
        assert "does not offer SMTPUTF8" in done.outcomes[1].reply
        await session.quit()
        assert sink.commands["RCPT"] == 1 and sink.taken[0].recipients == ("ann@example.org",)


@pytest.mark.parametrize("character", ["\r", "\n", "\0", ">", "<", "\t", "\x7f", "\x85", "\u2028", "\udc80"])
@pytest.mark.parametrize("offered", [(), ("PIPELINING", "SMTPUTF8", "DSN")])
async def test_unsafe_address_never_reaches_the_wire(
    ledger: MemoryLedger, character: str, offered: tuple[str, ...]
) -> None:
    address = f"eve{character}@example.org"
    async with Sink(SinkOptions(extensions=offered)) as sink:
        session = await Session.open(mta_settings(sink.port))
        bad_path = composed("b@example.org", reverse_path=address)
        bad_parameter = replace(
            composed("b@example.org"), envelope=Envelope("a@b.org", ("b@example.org",), (f"RET=HDRS{character}RSET",))
        )
        for message in (bad_path, bad_parameter):
            with pytest.raises(UnsafeAddress):
                await deliver(message, "1.0+a", record_of(message), ledger, session, StoppedClock())
        message = composed("b@example.org", address)
        done = await deliver(message, "1.0+a", record_of(message), ledger, session, StoppedClock())
        assert done.recipients(State.FAILED) == (address,)
        await session.quit()
        assert sink.commands == {"EHLO": 1, "MAIL": 1, "RCPT": 1, "DATA": 1, "QUIT": 1}


@pytest.mark.parametrize(
    ("content", "arrives"),
    [
        (b"", b"\r\n"),
        (b".", b".\r\n"),
        (b".\r\n", b".\r\n"),
        (b"\r\n..\r\n.\r\n\r\n.\r\n", b"\r\n..\r\n.\r\n\r\n.\r\n"),
        (b"a\r\n.\r\nMAIL FROM:<x>\r\n", b"a\r\n.\r\nMAIL FROM:<x>\r\n"),
        (b"x" * 200_000 + b"\r\n.", b"x" * 200_000 + b"\r\n.\r\n"),
        (b"a\n.\nb\r\n", b"a\n..\nb\r\n"),  # a bare LF might end a line for a careless MTA: never a lone dot behind it
    ],
)
async def test_content_arrives_octet_for_octet(sink: Sink, mta: MtaSettings, content: bytes, arrives: bytes) -> None:
    session = await Session.open(mta)
    for _ in range(2):
        await sent(session, Envelope("a@example.org", ("b@example.org",)), content)
    await session.quit()
    assert [taken.content for taken in sink.taken] == [arrives, arrives]


async def lost_at(mta: MtaSettings, content: bytes = CONTENT) -> SessionLost:
    session = await Session.open(mta)
    with pytest.raises(SessionLost) as caught:
        await sent(session, Envelope("a@example.org", ("b@example.org",)), content)
    assert not session.usable and session.lost is caught.value
    return caught.value


@pytest.mark.parametrize(
    ("rule", "stage"),
    [
        ("mail hang-up", Stage.MAIL),
        ("rcpt hang-up", Stage.RCPT),
        ("data hang-up", Stage.DATA),
        ("dot hang-up", Stage.FINAL_DOT),
        ("dot half", Stage.FINAL_DOT),
    ],
)
async def test_loss_names_its_stage_and_only_the_final_dot_is_in_doubt(
    sink: Sink, mta: MtaSettings, rule: str, stage: Stage
) -> None:
    sink.scripts.append(Rule.parse(rule))
    lost = await lost_at(mta)
    assert lost.stage is stage and lost.in_doubt is (stage is Stage.FINAL_DOT)


async def test_hang_up_in_the_middle_of_large_content_is_not_in_doubt(sink: Sink, mta: MtaSettings) -> None:
    sink.scripts.append(
        lambda step: Behaviour(b"", "hang_up", after_bytes=100_000) if step.stage == "content" else None
    )
    lost = await lost_at(mta, b"x" * 70_000_000)
    assert lost.stage is Stage.CONTENT and not lost.in_doubt


async def test_mta_that_stops_taking_in_content_is_left_after_the_content_timeout(sink: Sink) -> None:
    def stop_reading(step: SinkStep) -> None:
        if step.stage == "content":
            for connection in sink.open_sessions:
                assert isinstance(connection, SinkSession) and connection._transport is not None
                connection._transport.pause_reading()

    sink.scripts.append(stop_reading)
    lost = await lost_at(mta_settings(sink.port, content_timeout=0.05), b"x" * 70_000_000)
    assert lost.stage is Stage.CONTENT


async def test_cancelled_command_closes_the_session(sink: Sink, mta: MtaSettings, ledger: MemoryLedger) -> None:
    sink.scripts.append(Rule.parse("mail delay=3600"))
    session = await Session.open(mta)
    message = composed("b@example.org")
    task = asyncio.create_task(deliver(message, "1.0+a", record_of(message), ledger, session, StoppedClock()))
    while "MAIL" not in sink.commands:  # noqa: ASYNC110 - the sink has no event for it
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not session.usable
