"""A sink on loopback and what is fed to it."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Sequence

import pytest

from drainer.compose.wire import ComposedMessage, Envelope
from drainer.demo.sink import Sink, SinkOptions
from drainer.feed.outcome import Reply, SessionLost, Stage
from drainer.feed.session import Session
from drainer.feed.smtp_client import Answer
from drainer.feed.smtp_commands import mail_command, rcpt_commands
from drainer.ledger.records import MessageRecord
from drainer.settings.mta import MtaSettings
from tests.ledger.memory import MemoryLedger

CONTENT = b"Message-ID: <1@example.org>\r\n\r\nText\r\n"

Compose = Callable[..., ComposedMessage]

_numbers = itertools.count(1)


@pytest.fixture
async def sink() -> AsyncIterator[Sink]:
    offered = ("PIPELINING", "SIZE 104857600", "8BITMIME", "SMTPUTF8", "ENHANCEDSTATUSCODES", "DSN")
    async with Sink(SinkOptions(keep_content=True, extensions=offered)) as running:
        yield running


@pytest.fixture
async def ledger() -> AsyncIterator[MemoryLedger]:
    memory = MemoryLedger()
    await memory.open()
    yield memory
    await memory.close()


@pytest.fixture
def mta(sink: Sink) -> MtaSettings:
    """Settings that feed the sink; timeouts of a few seconds, which no test waits for on purpose."""
    return mta_settings(sink.port)


def mta_settings(port: int, **changes: object) -> MtaSettings:
    settings = {"host": "127.0.0.1", "port": port, "helo": "drainer.example", "sessions": 4}
    return MtaSettings.model_validate(settings | changes)


def composed(
    *recipients: str, content: bytes | None = None, reverse_path: str = "ants-bounces@example.org"
) -> ComposedMessage:
    """A message of its own, for these recipients."""
    if content is None:
        content = f"Message-ID: <{next(_numbers)}@example.org>\r\nSubject: ants\r\n\r\nText\r\n".encode()
    return ComposedMessage(Envelope(reverse_path, recipients), content, recipients)


def record_of(message: ComposedMessage) -> MessageRecord:
    message_id = message.content.partition(b"Message-ID: ")[2].partition(b"\r\n")[0].decode()
    return MessageRecord((message_id.encode().ljust(16)[:16],), "ants.example.org", message_id)


async def answered(begin: Callable[[Callable[[Answer], None]], None]) -> Sequence[Reply]:
    """The replies to an exchange that `begin` begins. Raises SessionLost."""
    answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
    begin(answer.set_result)
    said = await answer
    if isinstance(said, SessionLost):
        raise said
    return said


async def asked(session: Session, command: bytes, stage: Stage) -> int:
    """The code of the reply to one command. Raises SessionLost."""
    (reply,) = await answered(lambda then: session.ask(command, (stage,), then))
    return reply.code


async def sent(session: Session, envelope: Envelope, content: bytes = CONTENT) -> str:
    """One accepted transaction; the reply to its final dot. Raises SessionLost."""
    assert await asked(session, mail_command(envelope, len(content), session.offered), Stage.MAIL) == 250
    for recipient in envelope.recipients:
        assert await asked(session, rcpt_commands((recipient,)), Stage.RCPT) == 250
    assert await asked(session, b"DATA\r\n", Stage.DATA) == 354
    (reply,) = await answered(lambda then: session.carry(content, then))
    return str(reply)
