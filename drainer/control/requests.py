"""Reads a request of the control socket: who sent it, its body or query string as one of messages/.

In    an HTTP request
Out   a Peer; a model of messages/
Raises  UsageError (400): not JSON, not UTF-8, an unknown field, an impossible value
"""

from __future__ import annotations

import json
import pwd
import socket
import struct
from collections.abc import Mapping
from typing import Any, TypeVar
from urllib.parse import unquote_to_bytes

from aiohttp import web
from pydantic import BaseModel, ValidationError

from drainer.control.messages.base import Peer
from drainer.errors import UsageError
from drainer.settings_file import mistakes
from drainer.text.foreign import has_surrogate

_UCRED = struct.Struct("3i")

_Request = TypeVar("_Request", bound=BaseModel)


def peer_of(request: web.Request) -> Peer:
    transport = request.transport
    if transport is None:
        raise ConnectionResetError("the client has gone")
    credentials = transport.get_extra_info("socket").getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
    pid, uid, _gid = _UCRED.unpack(credentials)
    try:
        user = pwd.getpwuid(uid).pw_name
    except KeyError:
        user = str(uid)
    return Peer(pid=pid, uid=uid, user=user)


async def request_of(request: web.Request, kind: type[_Request]) -> _Request:
    """The request's JSON object; no body counts as {}. Raises UsageError."""
    try:
        octets = await request.read()
        value = json.loads(octets) if octets.strip() else {}
    except (ValueError, RecursionError, web.RequestPayloadError) as exc:
        raise UsageError(f"the body is not JSON: {exc}") from exc
    _refuse_broken_text(value)
    if not isinstance(value, dict):
        raise UsageError("the body is not a JSON object")
    return _valid(kind, value)


def _refuse_broken_text(value: object) -> None:
    """Raises UsageError for half a character (a lone surrogate): it can be neither stored nor answered."""
    if has_surrogate(json.dumps(value, ensure_ascii=False)):
        raise UsageError('the body has half a character in it, such as "\\ud800"; right would be whole ones')


def refuse_broken_target(request: web.Request) -> None:
    """Raises UsageError for a path or query string that is not UTF-8: what it names could only be guessed."""
    try:
        unquote_to_bytes(request.raw_path.encode("utf-8", "surrogateescape")).decode()
    except UnicodeDecodeError as exc:
        raise UsageError(f"the path or the query string is not UTF-8: {request.raw_path[:200]!a}") from exc


def query_of(request: web.Request, kind: type[_Request]) -> _Request:
    """The query string as `kind`. Raises UsageError."""
    twice = {name for name in request.query if len(request.query.getall(name)) > 1}
    if twice:
        raise UsageError(f"given twice: {', '.join(sorted(twice))}")
    return _valid(kind, dict(request.query))


def _valid(kind: type[_Request], value: Mapping[str, Any]) -> _Request:
    try:
        return kind.model_validate(value)
    except ValidationError as exc:
        known = ", ".join(kind.model_fields)
        lines = [
            f"{line.split(':', 1)[0].strip()}: no such field; known are {known}"
            if ": no such setting" in line
            else line
            for line in mistakes(exc)
        ]
        raise UsageError("; ".join(line.strip() for line in lines)) from exc
