"""Any request to any route of the control socket: an answer an operator can read, never a failure of the service."""

from __future__ import annotations

import json
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote_from_bytes

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from drainer.backlog.selection import Selectors
from drainer.control.messages.entries import EntryQuery, SelectRequest
from drainer.control.messages.finish import EtaQuery
from drainer.control.messages.log_import import ImportRequest
from drainer.control.messages.pauses_and_rates import PauseRequest, RateRequest, ResumeRequest
from tests.control.small_service import SmallService, serving

_WITHIN_S = 60.0
_CHANGES = ("pause", "resume", "rate", "hold", "release", "drop", "handback", "import", "undo")
_QUESTIONS = ("status", "metrics", "eta", "entries", "rate", "config", "entries/1772438466", "nowhere", "")
_FIELDS = sorted(
    {name for kind in (EntryQuery, EtaQuery, PauseRequest, RateRequest, SelectRequest) for name in kind.model_fields}
)
_HUGE = st.sampled_from([10**400, -1, 1e308, 5e-324, 2**63, 10**30])
_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | _HUGE
    | st.text()
    | st.sampled_from(["\ud800", "\0", "20/s"]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(_FIELDS) | st.text(), inner, max_size=3)
    ),
    max_leaves=6,
)
_SELECTORS = st.fixed_dictionaries({}, optional=dict.fromkeys(Selectors.model_fields, _JSON))
_ASKED = st.fixed_dictionaries({}, optional=dict.fromkeys(_FIELDS, _JSON) | {"selectors": _SELECTORS})


@pytest.fixture(scope="module")
def path() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="drainer-any-") as directory:
        socket_path = Path(directory) / "control.sock"
        with serving(socket_path, SmallService()):
            yield socket_path


def answered(path: Path, octets: bytes, *, and_hang_up: bool = False) -> tuple[int, bytes]:
    """Status and body of what is answered to these bytes; (0, b"") for a hang-up."""
    with socket.socket(socket.AF_UNIX) as service:
        service.settimeout(_WITHIN_S)
        service.connect(str(path))
        service.sendall(octets)
        if and_hang_up:
            service.shutdown(socket.SHUT_WR)
        with service.makefile("rb") as answer:
            head, _, body = answer.read().partition(b"\r\n\r\n")
    return (int(head.split()[1]), body) if head else (0, b"")


def request(method: str, target: str, body: bytes = b"", headers: str = "") -> bytes:
    head = f"{method} {target} HTTP/1.1\r\nHost: drainer\r\nConnection: close\r\n{headers}"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def is_for_an_operator(status: int, body: bytes) -> None:
    assert status in (200, 400, 404, 405, 409, 413, 415), (status, body)
    if status != 200:
        assert json.loads(body)["error"]


@settings(max_examples=80, deadline=None)
@given(st.sampled_from(_CHANGES), _ASKED | _JSON)
@example("pause", {"for_s": 1e308})
@example("rate", {"messages": 5e-324})
@example("rate", {"recipients": 1e308})
def test_any_json_is_done_or_refused_with_words(path: Path, action: str, asked: object) -> None:
    is_for_an_operator(*answered(path, request("POST", f"/{action}", json.dumps(asked).encode())))


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(_CHANGES), st.binary(max_size=60), st.sampled_from(["", "utf-16", "nonsense", "\xff"]))
@example("pause", b"[" * 100_000, "")
@example("pause", b'{"for_s": ' + b"9" * 5000 + b"}", "")
@example("pause", b"\xff\xfe", "utf-8")
def test_any_body_is_done_or_refused_with_words(path: Path, action: str, body: bytes, charset: str) -> None:
    header = f"Content-Type: application/json; charset={charset}\r\n" if charset.isascii() and charset else ""
    is_for_an_operator(*answered(path, request("POST", f"/{action}", body, header)))


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(["GET", "POST", "PUT", "DELETE"]),
    st.sampled_from(_QUESTIONS),
    st.dictionaries(
        st.sampled_from(_FIELDS), st.binary(max_size=20) | _JSON.map(lambda v: json.dumps(v).encode()), max_size=3
    ),
)
@example("GET", "entries", {"limit": b"9" * 30})
@example("GET", "entries", {"older_than_s": b"1e999"})
@example("GET", "eta", {"at": b"9" * 400, "by": b"-1e308"})
def test_any_query_is_answered_or_refused_with_words(
    path: Path, method: str, route: str, query: dict[str, bytes]
) -> None:
    asked = "&".join(f"{name}={quote_from_bytes(value)}" for name, value in query.items())
    status, body = answered(path, request(method, f"/{route}?{asked}"))
    if (status, route) != (200, "metrics"):
        is_for_an_operator(status, body)


@settings(max_examples=60, deadline=None)
@given(st.binary(min_size=1, max_size=40))
def test_any_key_of_an_entry_is_found_or_not(path: Path, key: bytes) -> None:
    is_for_an_operator(*answered(path, request("GET", f"/entries/{quote_from_bytes(key, safe='')}")))


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=200) | st.binary(max_size=80).map(lambda octets: b"GET /status HTTP/1.1\r\n" + octets))
def test_bytes_that_are_no_request_end_with_400_or_a_hang_up(path: Path, octets: bytes) -> None:
    status, _ = answered(path, octets, and_hang_up=True)
    assert status in (0, 200, 400, 404, 405, 431), status
    assert answered(path, request("GET", "/rate"))[0] == 200


HALF = ["\ud800", "a\udce9b", "\udfff\ud83d"]


@pytest.mark.parametrize("half", HALF)
@pytest.mark.parametrize(
    ("action", "field"),
    [
        (action, field)
        for action, kind in (("pause", PauseRequest), ("resume", ResumeRequest), ("rate", RateRequest),
                             ("hold", SelectRequest), ("release", SelectRequest), ("drop", SelectRequest),
                             ("handback", SelectRequest), ("import", ImportRequest))
        for field in [*kind.model_fields, "unknown"]
    ] + [("hold", f"selectors.{field}") for field in Selectors.model_fields],
)  # fmt: skip
def test_half_a_character_in_any_field_is_refused_and_changes_nothing(
    path: Path, caplog: pytest.LogCaptureFixture, action: str, field: str, half: str
) -> None:
    name, _, inner = field.partition(".")
    asked = {name: {inner: half} if inner else half}
    status, body = answered(path, request("POST", f"/{action}", json.dumps(asked).encode()))
    assert (status, "character" in json.loads(body)["error"]) == (400, True), body
    raw = json.dumps(asked, ensure_ascii=False).encode("utf-8", "surrogatepass")
    assert answered(path, request("POST", f"/{action}", raw))[0] == 400
    assert "Traceback" not in caplog.text


@pytest.mark.parametrize(
    "target", ["entries?list=%FF", "entries?%ED%A0%80=1", "entries/%E9t%E9", "eta?list=%C3", "st%FFatus"]
)
def test_target_that_is_not_utf8_is_refused(path: Path, caplog: pytest.LogCaptureFixture, target: str) -> None:
    status, body = answered(path, request("GET", f"/{target}"))
    assert status == 400 and json.loads(body)["error"]
    assert "Traceback" not in caplog.text


@pytest.mark.parametrize("head", [b"GET /entries/\xff HTTP/1.1\r\n", b"GET /status HTTP/1.1\r\nX-Odd: caf\xe9\r\n",
                                  b"GET /st\xc3 HTTP/1.1\r\n"])  # fmt: skip
def test_raw_octets_in_a_request_never_make_the_service_fail(
    path: Path, caplog: pytest.LogCaptureFixture, head: bytes
) -> None:
    status, _ = answered(path, head + b"Host: drainer\r\nConnection: close\r\n\r\n")
    assert status == (200 if b"X-Odd" in head else 400)
    assert "Traceback" not in caplog.text
