"""The TCP listener, spoken to over real sockets by well-meaning clients and by others."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator

import pytest
from aiohttp import web
from pydantic import ValidationError

from drainer.clock import StoppedClock, SystemClock
from drainer.control import web_connection
from drainer.control.web import StatusListener
from drainer.control.web_connection import MOST_BYTES, MOST_CONNECTIONS
from drainer.errors import SettingsError
from drainer.report.snapshot import Snapshot
from drainer.settings.surroundings import WebSettings
from drainer.text.quantities import tcp_address
from tests.control.small_service import SmallService, control_routes

SOON_S = 60.0
PATHS = ("/", "/page.css", "/page.js", "/icon.svg", "/status.json", "/history.json", "/metrics", "/health")
CONTROL_PATHS = sorted({path for _, path in control_routes()} - {*PATHS})
METHODS = "GET HEAD POST PUT PATCH DELETE OPTIONS TRACE CONNECT PROPFIND".split()


@pytest.fixture
def service() -> SmallService:
    return SmallService()


@pytest.fixture
async def listener(service: SmallService) -> AsyncIterator[StatusListener]:
    settings = WebSettings(listen="127.0.0.1:0", hosts=("lists.example.org",))
    listener = StatusListener(settings, service.status, SystemClock())
    await listener.start()
    yield listener
    await listener.stop()


async def said_to(port: int, request: bytes, host: str = "127.0.0.1") -> bytes:
    """All that comes back until the listener closes the connection."""
    async with asyncio.timeout(SOON_S):
        reader, writer = await asyncio.open_connection(host, port)
        try:
            writer.write(request)
            return await reader.read()
        except ConnectionResetError:
            return b""
        finally:
            writer.close()


async def asked(
    port: int,
    target: str = "/health",
    method: str = "GET",
    host: str = "localhost",
    fields: str = "",
    body: bytes = b"",
) -> tuple[int, dict[str, str], bytes]:
    """Status, header fields by lower-case name, and body of one request."""
    head = f"{method} {target} HTTP/1.1\r\nHost: {host}\r\n{fields}\r\n"
    return parsed(await said_to(port, head.encode() + body))


def parsed(answer: bytes) -> tuple[int, dict[str, str], bytes]:
    head, _, body = answer.partition(b"\r\n\r\n")
    status, *lines = head.decode().split("\r\n")
    return int(status.split()[1]), dict(line.lower().split(": ", 1) for line in lines), body


@pytest.mark.parametrize("method", METHODS)
async def test_nothing_of_the_control_socket_is_reached(
    listener: StatusListener, service: SmallService, method: str
) -> None:
    before = service.backlog[:], dict(service.limits)
    for path in CONTROL_PATHS:
        status, _, body = await asked(listener.port, path, method, fields="Content-Length: 2\r\n", body=b"{}")
        assert status in (400, 404, 405, 413), (method, path, body)
    for path in PATHS:
        status, fields, body = await asked(listener.port, path, method)
        assert status == 200 if method in ("GET", "HEAD") else status in (400, 405, 413), (method, path)
        if status == 405:
            assert fields["allow"] == "get, head"
    assert (service.seen, service.paused) == ([], {})
    assert (service.backlog, service.limits) == before


async def test_figures_are_those_of_the_control_socket(listener: StatusListener, service: SmallService) -> None:
    status, fields, body = await asked(listener.port, "/status.json")
    assert (status, fields["content-type"]) == (200, "application/json; charset=utf-8")
    assert Snapshot.model_validate_json(body) == await service.status()
    assert json.loads((await asked(listener.port, "/health"))[2]) == {"state": "draining"}
    metrics = await asked(listener.port, "/metrics")
    assert metrics[1]["content-type"].startswith("text/plain; version=0.0.4")
    assert b"drainer_backlog_recipients 180.0" in metrics[2]


async def test_head_has_the_same_header_and_no_body(listener: StatusListener) -> None:
    _, got, body = await asked(listener.port, "/status.json")
    status, head, nothing = await asked(listener.port, "/status.json", "HEAD")
    assert (status, nothing, head["content-length"]) == (200, b"", str(len(body)))
    assert head["content-security-policy"] == got["content-security-policy"]


@pytest.mark.parametrize(
    "host",
    ["localhost", "LOCALHOST:9000", "localhost.", "127.0.0.1", "127.0.0.1:8025", "lists.example.org:443"],
)
async def test_known_host_is_answered(listener: StatusListener, host: str) -> None:
    assert (await asked(listener.port, "/status.json", host=host))[0] == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example.com", "127.0.0.1.evil.example.com", "localhost.evil.example.com", "[::1]", "127.0.0.2", "0.0.0.0",
        "xlists.example.org", "lists.example.org.evil.example.com:8025", "evil.example.com:80:127.0.0.1", "127.1", "",
    ],
)  # fmt: skip
async def test_request_for_another_host_gets_nothing(listener: StatusListener, host: str) -> None:
    for path in (*PATHS, "/none"):
        status, _, body = await asked(listener.port, path, host=host)
        assert (status, body) == (421, b"421 Misdirected Request\n"), path


async def test_ambiguous_targets_and_hosts_are_refused(listener: StatusListener) -> None:
    for request in (
        b"GET /health HTTP/1.1\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n",
        b"GET http://evil.example.com/health HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET evil HTTP/1.1\r\nHost: localhost\r\n\r\n",
    ):
        assert parsed(await said_to(listener.port, request))[0] == 400, request


@pytest.mark.parametrize(
    "request_line",
    [b"\x16\x03\x01\x02\x00\x01\x00", b"GET\r\n\r\n", b"GET / FTP/1.1\r\n\r\n", b"GET / HTTP/1.1\r\nHost\r\n\r\n",
     b"GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n"],
    ids=["tls", "word", "other-protocol", "no-colon", "length"],
)  # fmt: skip
async def test_what_is_not_http_gets_a_short_answer_without_the_inside(
    listener: StatusListener, request_line: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    answer = await said_to(listener.port, request_line + b"\r\n\r\n")
    status, fields, body = parsed(answer)
    assert (status, body) == (400, b"400 Bad Request\n")
    assert fields["server"] == "drainer"
    assert not caplog.records


@pytest.mark.parametrize(
    "target",
    ["/../../etc/passwd", "/page.css/../../settings.py", "/%2e%2e/%2e%2e/etc/passwd", "//etc/passwd", "/static/page.html",
     "/status.json/", "/..%5c..%5cetc", "/status.json%00", "/page.html", "/Status.json", "/ledger-history.json"],
)  # fmt: skip
async def test_only_the_paths_there_are_exist(listener: StatusListener, target: str) -> None:
    status, _, body = await asked(listener.port, target)
    assert (status, body) in ((404, b"404 Not Found\n"), (400, b"400 Bad Request\n"))


async def test_every_answer_has_the_protecting_headers(listener: StatusListener) -> None:
    answers = [await asked(listener.port, path) for path in (*PATHS, "/none")]
    answers.append(await asked(listener.port, method="POST"))
    answers.append(await asked(listener.port, host="evil.example.com"))
    answers.append(parsed(await said_to(listener.port, b"nonsense\r\n\r\n")))
    assert {status for status, _, _ in answers} == {200, 404, 405, 421, 400}
    for status, fields, _ in answers:
        assert fields["content-security-policy"].startswith("default-src 'none'; "), status
        assert "unsafe" not in fields["content-security-policy"]
        assert fields["x-content-type-options"] == "nosniff"
        assert fields["referrer-policy"] == "no-referrer"
        assert fields["cross-origin-resource-policy"] == "same-origin"
        assert fields["cache-control"] == "no-store"
        assert fields["server"] == "drainer"
        assert "access-control-allow-origin" not in fields


async def test_http_1_0_without_a_host_is_answered_and_closed(listener: StatusListener) -> None:
    answer = await said_to(listener.port, b"GET /health HTTP/1.0\r\n\r\n")
    assert answer.startswith(b"HTTP/1.0 200 OK\r\n")
    assert answer.endswith(b'{"state": "draining"}')


async def test_pipelined_requests_get_one_answer(listener: StatusListener) -> None:
    one = b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: keep-alive\r\n\r\n"
    answer = await said_to(listener.port, one * 50)
    assert answer.count(b"HTTP/1.1 ") <= 1
    assert parsed(await said_to(listener.port, one))[1]["connection"] == "close"


async def test_body_is_not_read(listener: StatusListener) -> None:
    for fields in ("Content-Length: 1000000000\r\n", "Transfer-Encoding: chunked\r\n"):
        assert (await asked(listener.port, "/status.json", fields=fields))[0] == 413
    endless = b"GET /status.json HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9999999\r\n\r\n" + b"x" * 2 * MOST_BYTES
    await said_to(listener.port, endless)
    assert (await asked(listener.port))[0] == 200


@pytest.mark.parametrize(
    "head",
    ["GET /" + "a" * 20_000, "GET / HTTP/1.1\r\nX: " + "a" * 20_000, "GET / HTTP/1.1\r\n" + "X: 1\r\n" * 200,
     "GET / HTTP/1.1\r\n" + "X: 1\r\n" * 20_000, "a" * 100_000],
    ids=["target", "field", "fields", "endless-fields", "no-line"],
)  # fmt: skip
async def test_oversized_header_is_refused_or_cut_off(listener: StatusListener, head: str) -> None:
    answer = await said_to(listener.port, head.encode() + b"\r\n\r\n")
    assert answer == b"" or parsed(answer)[0] == 400
    assert (await asked(listener.port))[0] == 200


async def test_those_who_never_ask_do_not_keep_others_out(listener: StatusListener) -> None:
    silent = [await asyncio.open_connection("127.0.0.1", listener.port) for _ in range(2 * MOST_CONNECTIONS)]
    for _, writer in silent:
        writer.write(b"GET /status.json HTTP/1.1\r\nHost: local")
    assert (await asked(listener.port))[0] == 200
    for _, writer in silent:
        writer.close()


@pytest.mark.parametrize("request_so_far", [b"", b"GET /health HTTP/1.1\r\nHost: local"], ids=["silent", "half"])
async def test_request_that_does_not_come_ends_the_connection(
    service: SmallService, monkeypatch: pytest.MonkeyPatch, request_so_far: bytes
) -> None:
    monkeypatch.setattr(web_connection, "REQUEST_WITHIN_S", 0.2)
    listener = StatusListener(WebSettings(listen="127.0.0.1:0"), service.status, SystemClock())
    await listener.start()
    assert await said_to(listener.port, request_so_far) == b""
    await listener.stop()


async def test_answer_that_is_not_read_ends_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web_connection, "ANSWERED_WITHIN_S", 0.3)
    never = asyncio.Event()

    async def hangs() -> Snapshot:
        await never.wait()
        raise AssertionError

    listener = StatusListener(WebSettings(listen="127.0.0.1:0"), hangs, SystemClock())
    await listener.start()
    assert await said_to(listener.port, b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n") == b""
    await listener.stop()


async def test_failure_is_logged_and_not_shown(caplog: pytest.LogCaptureFixture) -> None:
    async def fails() -> Snapshot:
        raise OSError(28, "No space left on device", "/var/lib/drainer/ledger.sqlite")

    listener = StatusListener(WebSettings(listen="127.0.0.1:0"), fails, SystemClock())
    await listener.start()
    assert (await asked(listener.port))[0::2] == (500, b"500 Internal Server Error\n")
    await listener.stop()
    assert "ledger.sqlite" in caplog.text


async def test_many_readers_cost_one_look(service: SmallService) -> None:
    looks = 0

    async def status() -> Snapshot:
        nonlocal looks
        looks += 1
        return await service.status()

    listener = StatusListener(WebSettings(listen="127.0.0.1:0"), status, StoppedClock())
    await listener.start()
    await asyncio.gather(*(asked(listener.port, "/status.json") for _ in range(40)))
    await listener.stop()
    assert looks == 1


async def test_connection_made_after_the_end_is_closed_at_once() -> None:
    connections = web_connection.Connections(web.Server(lambda _: _never()))
    connections.end()
    async with await asyncio.get_running_loop().create_server(connections, "127.0.0.1", 0) as server:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        async with asyncio.timeout(60):
            assert await reader.read() == b""
        writer.close()


async def _never() -> web.StreamResponse:
    raise AssertionError("it was asked")


async def test_port_in_use_is_named_with_its_setting(service: SmallService) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(SettingsError, match=f"web.listen = '{listen}': cannot listen there: .*in use; right would"):
            await StatusListener(WebSettings(listen=listen), service.status, SystemClock()).start()


async def test_ipv6_is_listened_on_and_its_own_address_is_a_known_host(service: SmallService) -> None:
    listener = StatusListener(WebSettings(listen="[::1]:0"), service.status, SystemClock())
    await listener.start()
    request = f"GET /health HTTP/1.1\r\nHost: [::1]:{listener.port}\r\n\r\n".encode()
    assert parsed(await said_to(listener.port, request, "::1"))[0] == 200
    await listener.stop()


async def test_listening_everywhere_answers_to_the_address_that_was_asked(service: SmallService) -> None:
    listener = StatusListener(WebSettings(listen="0.0.0.0:0"), service.status, SystemClock())
    await listener.start()
    assert (await asked(listener.port, host="127.0.0.1"))[0] == 200
    assert (await asked(listener.port, host="10.0.0.1"))[0] == 421
    await listener.stop()


@pytest.mark.parametrize(
    ("listen", "meant"),
    [
        ("8025", ("127.0.0.1", 8025)),
        (":8025", ("127.0.0.1", 8025)),
        ("[::1]:80", ("::1", 80)),
        ("0.0.0.0:1", ("0.0.0.0", 1)),
        ("localhost:1", ("localhost", 1)),
    ],
)
def test_listen_without_a_host_means_the_loopback(listen: str, meant: tuple[str, int]) -> None:
    assert tcp_address(listen) == meant


@pytest.mark.parametrize(
    "listen", ["localhost", "127.0.0.1:", "127.0.0.1:99999", "127.0.0.1:http", "::1:80", "[::1:80"]
)
def test_impossible_listen_is_refused_with_what_would_be_right(listen: str) -> None:
    with pytest.raises(ValidationError, match=r"listen\n.*not an address; right would be \"127\.0\.0\.1:8025\""):
        WebSettings(listen=listen)
