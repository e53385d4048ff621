"""The service's end of the control socket.

In    HTTP/1.1 requests as messages.py documents them
Out   calls on Operations; its replies as JSON, its errors as {"error": text} with 400, 404, 409 or 500
Refuses to know what a request does

Whoever may open the socket (mode 0660: its owner and group) may operate. Who that was comes from the kernel
(SO_PEERCRED), not from the request, goes to Operations as Peer, and is logged with each request that changes something.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import grp
import json
import logging
import os
import pwd
import socket
import stat
import struct
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import unquote_to_bytes

from aiohttp import web
from pydantic import BaseModel, ValidationError

from drainer.backlog.selection import Selectors
from drainer.control.messages import (
    EntryQuery,
    EtaQuery,
    ImportRequest,
    JournalQuery,
    Operations,
    PauseRequest,
    Peer,
    RateRequest,
    ReportQuery,
    ResumeRequest,
    SelectRequest,
    UndoRequest,
)
from drainer.control.replies import json_reply
from drainer.errors import DrainerError, HaltError, NoRoomForSocket, RequestRefused, SettingsError, UsageError
from drainer.files.access import and_advice, membership_advice
from drainer.report.metrics import CONTENT_TYPE, exposition
from drainer.settings_file import mistakes
from drainer.text.foreign import has_surrogate
from drainer.text.logfmt import logfmt

SOCKET_MODE = 0o660
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EIO}
_NOT_LOGGED = {"deliveries"}
"""Fields of requests that are too long for a line."""
_SHUTDOWN_S = 2.0
_LIVE_CHECK_S = 2.0
_UCRED = struct.Struct("3i")

_Request = TypeVar("_Request", bound=BaseModel)
_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

log = logging.getLogger(__name__)


class ControlServer:
    """Listens on the control socket for as long as the service lives."""

    def __init__(self, socket_path: Path, operations: Operations, group: str = "") -> None:
        """group  whose members may operate, by name or number; "": the process's own group."""
        self._path = socket_path
        self._group = group
        self._operations = operations
        self._runner: web.AppRunner | None = None
        self._server: asyncio.Server | None = None
        self._bound: tuple[int, int] | None = None

    async def start(self) -> None:
        """Listen. A socket file nobody answers on (a service that died) is replaced.

        Raises  RequestRefused when another service answers there; SettingsError when the path cannot be listened on;
                NoRoomForSocket when it could be, with room on its filesystem: call again later
        """
        await asyncio.to_thread(_refuse_unless_free, self._path)
        listening = _listen(self._path, _group_id(self._group))
        try:
            named = self._path.stat()
            self._bound = (named.st_dev, named.st_ino)
            self._runner = web.AppRunner(
                self._application(), access_log=None, shutdown_timeout=_SHUTDOWN_S, logger=_http_log()
            )
            await self._runner.setup()
            assert self._runner.server is not None
            # aiohttp's SockSite would do, but under uvloop it takes any socket for TCP.
            self._server = await asyncio.get_running_loop().create_unix_server(self._runner.server, sock=listening)
        except BaseException:
            listening.close()
            await self.stop()
            raise

    async def stop(self) -> None:
        """Close every connection and remove the socket file, if it is still ours. May be called twice."""
        if self._server is not None:
            self._server.close()
            self._server = None
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None
        if self._bound is not None:
            with contextlib.suppress(OSError):
                named = self._path.lstat()
                if (named.st_dev, named.st_ino) == self._bound:
                    self._path.unlink()
            self._bound = None

    def _application(self) -> web.Application:
        application = web.Application(middlewares=[_errors_as_json])
        application.add_routes(
            [
                web.get("/status", self._status),
                web.get("/metrics", self._metrics),
                web.get("/eta", self._eta),
                web.get("/entries", self._entries),
                web.get("/entries/{key:.+}", self._show),
                web.post("/pause", self._pause),
                web.post("/resume", self._resume),
                web.get("/rate", self._rate),
                web.post("/rate", self._set_rate),
                web.post("/hold", self._hold),
                web.post("/release", self._release),
                web.post("/drop", self._drop),
                web.post("/handback", self._handback),
                web.post("/import", self._import),
                web.post("/undo", self._undo),
                web.get("/journal", self._journal),
                web.get("/report", self._report),
                web.get("/config", self._config),
            ]
        )
        return application

    async def _status(self, request: web.Request) -> web.Response:
        return json_reply(await self._operations.status())

    async def _metrics(self, request: web.Request) -> web.Response:
        text = exposition(await self._operations.status())
        return web.Response(body=text, headers={"Content-Type": CONTENT_TYPE})

    async def _eta(self, request: web.Request) -> web.Response:
        asked = _query(request, EtaQuery)
        return json_reply(await self._operations.eta(asked.at, asked.by, asked.list))

    async def _entries(self, request: web.Request) -> web.Response:
        asked = _query(request, EntryQuery)
        selectors = Selectors(**{name: getattr(asked, name) for name in Selectors.model_fields})
        return json_reply(await self._operations.entries(selectors, asked.limit))

    async def _show(self, request: web.Request) -> web.Response:
        key = request.match_info["key"]
        try:
            return json_reply(await self._operations.show(key))
        except KeyError as exc:
            raise _no_such(f"no entry and no message known as {key!r}") from exc

    async def _pause(self, request: web.Request) -> web.Response:
        return await self._change(request, PauseRequest, self._operations.pause)

    async def _resume(self, request: web.Request) -> web.Response:
        return await self._change(request, ResumeRequest, self._operations.resume)

    async def _rate(self, request: web.Request) -> web.Response:
        return json_reply(await self._operations.rate())

    async def _set_rate(self, request: web.Request) -> web.Response:
        return await self._change(request, RateRequest, self._operations.set_rate)

    async def _hold(self, request: web.Request) -> web.Response:
        return await self._change(request, SelectRequest, self._operations.hold)

    async def _release(self, request: web.Request) -> web.Response:
        return await self._change(request, SelectRequest, self._operations.release)

    async def _drop(self, request: web.Request) -> web.Response:
        return await self._change(request, SelectRequest, self._operations.drop)

    async def _handback(self, request: web.Request) -> web.Response:
        return await self._change(request, SelectRequest, self._operations.handback)

    async def _import(self, request: web.Request) -> web.Response:
        return await self._change(request, ImportRequest, self._operations.import_log)

    async def _undo(self, request: web.Request) -> web.Response:
        return await self._change(request, UndoRequest, self._operations.undo)

    async def _journal(self, request: web.Request) -> web.Response:
        return json_reply(await self._operations.journal(_query(request, JournalQuery).limit))

    async def _report(self, request: web.Request) -> web.Response:
        return json_reply(await self._operations.report(_query(request, ReportQuery).since))

    async def _config(self, request: web.Request) -> web.Response:
        return json_reply(await self._operations.config())

    async def _change(
        self,
        request: web.Request,
        kind: type[_Request],
        operation: Callable[[_Request, Peer], Awaitable[BaseModel]],
    ) -> web.Response:
        """Let one peer change something, and write down who asked for what and how it ended."""
        peer = _peer(request)
        asked = await _body(request, kind)
        action = request.path.lstrip("/")
        shown = asked.model_dump_json(exclude=_NOT_LOGGED)

        def say(**result: str) -> None:
            log.info(logfmt(action=action, by=peer.user, uid=peer.uid, pid=peer.pid, request=shown, **result))

        try:
            answer = await operation(asked, peer)
        except KeyError as exc:
            say(result="not_found")
            raise _no_such(f"nothing known as {exc.args[0]!r}" if exc.args else "no such entry") from exc
        except DrainerError as exc:
            say(result="refused", reason=str(exc))
            raise
        say(result="done")
        return json_reply(answer)


class _OneLine(logging.Filter):
    """What is no HTTP is answered with 400, and is worth a line; aiohttp would log a traceback of its own parser."""

    def filter(self, record: logging.LogRecord) -> bool:
        if record.exc_info:
            record.msg, record.args = logfmt(event="no_http", detail=record.exc_info[1]), ()
            record.exc_info = None
        return True


def _http_log() -> logging.Logger:
    http = log.getChild("http")
    if not http.filters:
        http.addFilter(_OneLine())
    return http


def _refuse_unless_free(path: Path) -> None:
    """Raises RequestRefused when a service answers on `path`, SettingsError when something else is there."""
    try:
        there = path.lstat()
    except FileNotFoundError:
        return
    except OSError as exc:
        raise _cannot_listen(path, exc) from exc
    if not stat.S_ISSOCK(there.st_mode):
        raise SettingsError(f"control.socket = {str(path)!r}: there is a file that is no socket; move it away first")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(_LIVE_CHECK_S)
        try:
            probe.connect(os.fspath(path))
        except (ConnectionRefusedError, FileNotFoundError):
            return
        except OSError as exc:
            # Neither dead nor ours to judge (no permission, a full accept queue): replacing it could hide a live service.
            raise RequestRefused(
                f"{path} may belong to a drainer that is running ({exc.strerror or exc}); stop that one first"
            ) from exc
    raise RequestRefused(
        f"another drainer answers on {path}; stop that one first, or set control.socket to another path"
    )


def _group_id(group: str) -> int:
    """-1 where none is named: leave it as it is. Raises SettingsError."""
    if not group:
        return -1
    try:
        return int(group) if group.isascii() and group.isdigit() else grp.getgrnam(group).gr_gid
    except KeyError as exc:
        raise SettingsError(
            f"control.group = {group!r}: there is no such group; right would be one of `getent group`"
        ) from exc


def _listen(path: Path, group_id: int) -> socket.socket:
    """A socket listening under `path`.

    Bound under a name of its own and renamed, so the name never leads to a socket that is not listening yet or whose
    mode is not yet right. fchmod before bind keeps the mode from being wider even for a moment under umask 0.
    """
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        beside.unlink(missing_ok=True)
        os.fchmod(listening.fileno(), SOCKET_MODE)
        listening.bind(os.fspath(beside))
        _give_to_group(beside, group_id)
        beside.chmod(SOCKET_MODE)
        listening.listen(64)
        listening.setblocking(False)
        beside.replace(path)
    except (OSError, SettingsError) as exc:
        listening.close()
        with contextlib.suppress(OSError):
            beside.unlink(missing_ok=True)
        if isinstance(exc, SettingsError):
            raise
        raise _cannot_listen(path, exc) from exc
    return listening


def _give_to_group(path: Path, group_id: int) -> None:
    try:
        os.chown(path, -1, group_id)
    except (PermissionError, OverflowError) as exc:
        raise SettingsError(
            f"control.group: the socket cannot be given to group {group_id}: {membership_advice(group_id).text()}"
        ) from exc


def _cannot_listen(path: Path, exc: OSError) -> SettingsError | NoRoomForSocket:
    said = exc.strerror or str(exc)
    if exc.errno in _NO_ROOM:
        return NoRoomForSocket(
            f"control.socket = {str(path)!r}: cannot listen there: {said}; `drainer` commands get no answer"
        )
    if exc.errno == errno.ENOENT:
        said = f"{path.parent} does not exist; create it (systemd does with RuntimeDirectory=drainer)"
    else:
        said += and_advice(path.parent, writing=True)
    return SettingsError(f"control.socket = {str(path)!r}: cannot listen there: {said}")


def _peer(request: web.Request) -> Peer:
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


async def _body(request: web.Request, kind: type[_Request]) -> _Request:
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
    """Raises UsageError for half a character (a lone surrogate): it could not be written down, nor answered."""
    if has_surrogate(json.dumps(value, ensure_ascii=False)):
        raise UsageError('the body has half a character in it, such as "\\ud800"; right would be whole ones')


def _refuse_broken_target(request: web.Request) -> None:
    """Raises UsageError for a path or query string that is not UTF-8: what it names could only be guessed."""
    try:
        unquote_to_bytes(request.raw_path.encode("utf-8", "surrogateescape")).decode()
    except UnicodeDecodeError as exc:
        raise UsageError(f"the path or the query string is not UTF-8: {request.raw_path[:200]!a}") from exc


def _query(request: web.Request, kind: type[_Request]) -> _Request:
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


def _no_such(text: str) -> web.HTTPNotFound:
    return web.HTTPNotFound(text=text)


@web.middleware
async def _errors_as_json(request: web.Request, handler: _Handler) -> web.StreamResponse:
    """Every error leaves as {"error": text for the operator}; what nobody foresaw is logged with its traceback."""
    try:
        _refuse_broken_target(request)
        return await handler(request)
    except web.HTTPNotFound as exc:
        known = request.match_info.route.resource is not None
        return _error(404, exc.text if known and exc.text else f"no such request: {request.method} {request.path}")
    except web.HTTPMethodNotAllowed as exc:
        return _error(405, f"{request.path} takes {' or '.join(sorted(exc.allowed_methods))}, not {exc.method}")
    except web.HTTPException as exc:
        return _error(exc.status, exc.reason)
    except UsageError as exc:
        return _error(400, str(exc))
    except HaltError as exc:
        return _error(500, str(exc))
    except DrainerError as exc:
        return _error(409, str(exc))
    except Exception as exc:
        log.exception(logfmt(event="request_failed", method=request.method, path=request.path))
        return _error(500, f"the service failed on this request: {type(exc).__name__}: {exc}")


def _error(status: int, text: str) -> web.Response:
    return json_reply({"error": text}, status)
