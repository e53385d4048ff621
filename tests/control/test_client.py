"""The client against things that are not a well-behaved service."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from drainer.backlog.selection import Selectors
from drainer.control.client import ControlClient
from drainer.control.messages.entries import SelectRequest
from drainer.control.messages.pauses_and_rates import PauseRequest, RateRequest, ResumeRequest
from drainer.control.server import ControlServer
from drainer.errors import DrainerError, RequestRefused, ServiceNotRunning, UsageError
from tests.control.small_service import SmallService


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "control.sock"


@asynccontextmanager
async def answering(path: Path, answer: bytes | None) -> AsyncIterator[None]:
    """Somebody who takes a request and answers with these bytes, or hangs up (None)."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        if answer is not None:
            writer.write(answer)
        writer.close()
        await writer.wait_closed()
        hung_up.set()

    hung_up = asyncio.Event()
    server = await asyncio.start_unix_server(serve, path)
    try:
        yield
        await hung_up.wait()
    finally:
        server.close()
        await server.wait_closed()


async def test_round_trip_of_every_kind_of_request(path: Path) -> None:
    service = SmallService()
    server = ControlServer(path, service)
    await server.start()
    try:
        async with ControlClient(path) as client:
            assert (await client.status()).state == "draining"
            assert (await client.pause(PauseRequest(list="orchard@example.org"))).message.startswith("Paused")
            assert (await client.set_rate(RateRequest(messages="unlimited"))).messages is None
            assert (await client.rate()).messages is None
            assert (await client._exchange("POST", "/rate", body={"messages": "1200/m"}))["messages"] == 20
            assert (await client.eta(at_recipients_per_s=0.001)).what_if is not None
            assert (await client.entries(Selectors(older_than_s=61533.5), 10)).total == 1
            assert (await client.show("<sunday/1@example.org>")).entry is not None
            assert (await client.hold(SelectRequest(selectors=Selectors(sender="ann")))).matched == 1
            assert (await client.config())["feed"]["via"] == "smtp"
            with pytest.raises(RequestRefused, match="not paused"):
                await client.resume(ResumeRequest())
            with pytest.raises(UsageError, match="no such field"):
                await client._exchange("POST", "/rate", body={"speed": 1})
    finally:
        await server.stop()


async def test_socket_without_a_service_is_not_running(path: Path) -> None:
    async with ControlClient(path) as client:
        with pytest.raises(ServiceNotRunning, match="nothing listens"):
            await client.status()


async def test_service_that_dies_over_a_question_is_not_running(path: Path) -> None:
    async with answering(path, None), ControlClient(path) as client:
        with pytest.raises(ServiceNotRunning, match="went away"):
            await client.status()


async def test_service_that_dies_over_a_change_leaves_it_open_and_says_so(path: Path) -> None:
    async with answering(path, None), ControlClient(path) as client:
        with pytest.raises(DrainerError, match="may have happened") as raised:
            await client.pause(PauseRequest())
        assert not isinstance(raised.value, ServiceNotRunning)


async def test_another_program_on_the_socket_is_recognised(path: Path) -> None:
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
    async with answering(path, answer), ControlClient(path) as client:
        with pytest.raises(DrainerError, match="not as drainer does"):
            await client.status()


async def test_answer_of_a_newer_service_is_read_with_what_is_known(path: Path) -> None:
    body = b'{"messages": 5.0, "recipients": null, "octets": 12}'
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
    async with answering(path, answer), ControlClient(path) as client:
        assert (await client.rate()).messages == 5.0


async def test_answer_without_what_is_needed_is_an_error_in_words(path: Path) -> None:
    async with answering(path, b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"), ControlClient(path) as client:
        with pytest.raises(DrainerError, match="does not understand"):
            await client.status()


async def test_service_that_does_not_answer_in_time_is_an_error_in_words(path: Path) -> None:
    hung_up = asyncio.Event()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()
        await writer.wait_closed()
        hung_up.set()

    server = await asyncio.start_unix_server(silent, path)
    try:
        async with ControlClient(path, answer_within_s=0.2) as client:
            with pytest.raises(DrainerError, match="gave no answer"):
                await client.status()
        await hung_up.wait()
    finally:
        server.close()
        await server.wait_closed()
