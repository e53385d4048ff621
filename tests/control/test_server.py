"""The control socket, spoken to as curl would, over real sockets."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import socket
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from drainer.control.server import ControlServer
from drainer.errors import RequestRefused, SettingsError
from tests.control.small_service import SmallService


@asynccontextmanager
async def listening(path: Path, service: SmallService) -> AsyncIterator[ControlServer]:
    server = ControlServer(path, service)
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


async def ask(path: Path, method: str, target: str, body: str = "") -> tuple[int, Any]:
    """One HTTP/1.1 request written by hand."""
    return await _exchange(*await asyncio.open_unix_connection(path), method, target, body)


async def _exchange(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, method: str, target: str, body: str
) -> tuple[int, Any]:
    content = body.encode()
    writer.write(
        f"{method} {target} HTTP/1.1\r\nHost: drainer\r\nConnection: close\r\n"
        f"Content-Length: {len(content)}\r\n\r\n".encode()
        + content
    )
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    head, _, rest = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(rest)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def notes(path: Path) -> Path:
    path.write_text("somebody's notes")
    return path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "control.sock"


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077, 0o777])
async def test_socket_is_0660_whatever_the_umask(path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        async with listening(path, SmallService()):
            assert mode(path) == 0o660
    finally:
        os.umask(before)


async def test_socket_left_by_a_dead_service_is_replaced(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    async with listening(path, SmallService()):
        assert (await ask(path, "GET", "/status"))[0] == 200


async def test_second_service_on_a_live_socket_is_refused_and_the_first_goes_on(path: Path) -> None:
    async with listening(path, SmallService()):
        with pytest.raises(RequestRefused, match="another drainer answers"):
            await ControlServer(path, SmallService()).start()
        assert (await ask(path, "GET", "/status"))[0] == 200


def test_file_that_is_no_socket_is_left_alone(notes: Path) -> None:
    with pytest.raises(SettingsError, match="no socket"):
        asyncio.run(ControlServer(notes, SmallService()).start())
    assert notes.read_text() == "somebody's notes"


async def test_missing_directory_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="does not exist"):
        await ControlServer(tmp_path / "none" / "control.sock", SmallService()).start()


async def test_path_longer_than_unix_sockets_allow_is_a_settings_error(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"control\.socket"):
        await ControlServer(tmp_path / ("x" * 120), SmallService()).start()


async def test_stop_removes_the_socket_file_and_nothing_else_is_left(path: Path) -> None:
    async with listening(path, SmallService()):
        assert [found.name for found in path.parent.iterdir()] == ["control.sock"]
    assert list(path.parent.iterdir()) == []


async def test_stop_leaves_the_socket_of_a_successor_alone(path: Path) -> None:
    first = ControlServer(path, SmallService())
    await first.start()
    os.rename(path, path.with_name("moved"))  # noqa: PTH104
    async with listening(path, SmallService()):
        await first.stop()
        assert (await ask(path, "GET", "/status"))[0] == 200


async def test_stop_does_not_wait_for_idle_connections(path: Path) -> None:
    server = ControlServer(path, SmallService())
    await server.start()
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(b"GET /rate HTTP/1.1\r\nHost: drainer\r\n\r\n")
    assert await reader.readuntil(b"\r\n\r\n")
    await server.stop()
    assert (await reader.read()).endswith(b"}")
    writer.close()
    await writer.wait_closed()


async def test_status_has_the_public_fields(path: Path) -> None:
    async with listening(path, SmallService()):
        status, answer = await ask(path, "GET", "/status")
    assert status == 200
    assert answer["state"] == "draining"
    assert answer["backlog"] == {
        "entries": 3,
        "recipients": 180,
        "bytes": 22000,
        "oldest_age_s": 61534.0,
        "deferred_recipients": 0,
        "in_doubt_recipients": 0,
        "held_entries": 1,
        "unread_entries": 0,
        "duplicate_entries": 0,
        "duplicate_recipients": 0,
        "dsns_owed": 0,
        "next_due_s": None,
        "not_served_recipients": 0,
        "not_served": "",
    }
    assert {"state", "finish", "seconds", "low_s", "high_s", "confidence"} == set(answer["eta"])


async def test_change_is_passed_on_with_the_user_the_kernel_names_and_logged(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    service = SmallService()
    with caplog.at_level(logging.INFO, "drainer.control"):
        async with listening(path, service):
            status, answer = await ask(path, "POST", "/pause", '{"reason": "disk", "for_s": 60}')
    assert (status, answer) == (200, {"message": "Paused everything.", "number": None})
    action, peer, request = service.seen[0]
    assert (action, peer.uid, peer.pid, request.reason, request.for_s) == (
        "pause",
        os.getuid(),
        os.getpid(),
        "disk",
        60,
    )
    line = next(record.getMessage() for record in caplog.records if "action=pause" in record.getMessage())
    assert f"by={peer.user}" in line
    assert "result=done" in line


async def test_request_without_a_body_takes_the_defaults(path: Path) -> None:
    service = SmallService()
    async with listening(path, service):
        assert (await ask(path, "POST", "/drop"))[0] == 200
    assert service.seen[0][2].yes is False
    assert len(service.backlog) == 4


@pytest.mark.parametrize(
    ("method", "target", "body", "status", "text"),
    [
        ("POST", "/pause", "{", 400, "not JSON"),
        ("POST", "/pause", "[]", 400, "not a JSON object"),
        ("POST", "/pause", '{"lst": "x"}', 400, "lst: no such field; known are list, for_s, reason"),
        ("POST", "/pause", '{"for_s": -1}', 400, "for_s"),
        ("POST", "/pause", '{"for_s": NaN}', 400, "for_s"),
        ("POST", "/undo", '{"number": true, "yes": true}', 400, "number = True"),
        ("POST", "/pause", '{"for_s": true}', 400, "for_s = True"),
        ("POST", "/rate", '{"messages": true}', 400, "messages = True"),
        ("POST", "/drop", '{"selectors": {"older_than_s": true}, "yes": true}', 400, "older_than_s = True"),
        (
            "POST",
            "/import",
            '{"name": "import-1", "deliveries": [{"lists": ["a"], "message_id": "<1@a>", "recipients": [], '
            '"at_s": 1, "carried": true}]}',
            400,
            "carried = True",
        ),
        ("POST", "/rate", '{"messages": "fast"}', 400, "messages = 'fast': not a rate; right would be"),
        ("POST", "/rate", '{"messages": -1}', 400, "messages = -1: not a rate; right would be"),
        ("POST", "/drop", '{"selectors": {"list": ""}, "yes": true}', 400, "selectors.list"),
        ("POST", "/drop", '{"selectors": {"liste": "x"}, "yes": true}', 400, "selectors.liste"),
        ("POST", "/drop", '{"list": "x", "yes": true}', 400, "list: no such field"),
        ("GET", "/entries?state=wating", "", 400, "state"),
        ("GET", "/entries?colour=red", "", 400, "colour: no such field"),
        ("GET", "/entries?list=a&list=b", "", 400, "given twice: list"),
        ("GET", "/eta?at=fast", "", 400, "not a rate"),
        ("GET", "/entries/nothing", "", 404, "no entry and no message known as 'nothing'"),
        ("GET", "/entries/17724384", "", 409, "give more of it"),
        ("POST", "/resume", "{}", 409, "not paused"),
        ("GET", "/nowhere", "", 404, "no such request: GET /nowhere"),
        ("GET", "/pause", "", 405, "/pause takes POST, not GET"),
    ],
)
async def test_bad_request_says_what_is_wrong_and_changes_nothing(
    path: Path, method: str, target: str, body: str, status: int, text: str
) -> None:
    service = SmallService()
    async with listening(path, service):
        answered, answer = await ask(path, method, target, body)
    assert answered == status
    assert text in answer["error"]
    assert service.paused == {}
    assert len(service.backlog) == 4
    assert service.limits == {"messages": 20.0, "recipients": None}


async def test_decision_that_could_not_be_made_durable_is_a_500_with_the_reason(path: Path) -> None:
    async with listening(path, SmallService(ledger_full=True)):
        assert await ask(path, "POST", "/pause", "{}") == (
            500,
            {"error": "the ledger cannot commit: No space left on device"},
        )


async def test_unexpected_failure_is_answered_and_the_service_goes_on(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    service = SmallService()
    service.limits = {}
    async with listening(path, service):
        service.backlog = [service.backlog[0].model_copy(update={"recipients": "many"})]
        status, answer = await ask(path, "GET", "/status")
        assert status == 500
        assert "TypeError" in answer["error"]
        assert (await ask(path, "GET", "/config"))[0] == 200
    assert "Traceback" in caplog.text


async def test_message_id_with_a_slash_is_found(path: Path) -> None:
    async with listening(path, SmallService()):
        status, answer = await ask(path, "GET", "/entries/%3Csunday%2F1@example.org%3E")
    assert status == 200
    assert answer["entry"]["subject"] == "Kites on Sunday"


async def test_what_mail_headers_and_metadata_hold_becomes_json_any_parser_reads(path: Path) -> None:
    async with listening(path, SmallService()):
        status, answer = await ask(path, "GET", "/entries/1772438467.5")
    assert status == 200
    assert answer["entry"]["subject"] == "Apples \\x1b[31mred\\x1b[0m \\xe9"
    assert answer["recipients"] == ["dan@example.org", "\\xff@example.org"]
    assert answer["metadata"]["raw"] == "\\xff\\x00"
    assert answer["metadata"]["odd"] == {"1": [2.0, None]}


async def test_eta_takes_a_rate_and_a_time(path: Path) -> None:
    service = SmallService()
    async with listening(path, service):
        assert (await ask(path, "GET", "/eta?at=600/m&by=1772503600.5"))[0] == 200
        assert (await ask(path, "GET", "/eta?at=2.5"))[0] == 200
        assert (await ask(path, "GET", "/eta?list=choir"))[0] == 200
    assert [asked for _action, _peer, asked in service.seen] == [
        (10.0, 1772503600.5, ""),
        (2.5, None, ""),
        (None, None, "choir"),
    ]


async def test_entries_are_selected_and_limited(path: Path) -> None:
    async with listening(path, SmallService()):
        _, answer = await ask(path, "GET", "/entries?list=ORCHARD&limit=1")
    assert answer["total"] == 3
    assert len(answer["entries"]) == 1
