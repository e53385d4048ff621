"""The service's end of the control socket.

In    HTTP/1.1 requests as messages/ documents them
Out   calls on Operations; its replies as JSON, its errors as {"error": text} with 400, 404, 409 or 500
Not here  what a request does (operations.py); how it is read (requests.py); the socket's file (socket_file.py)

Whoever may open the socket (mode 0660: its owner and group) may operate. The kernel says who that is (SO_PEERCRED), not the
request. Operations gets it as Peer, and each request that changes something is logged with it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

from aiohttp import web
from pydantic import BaseModel

from drainer.backlog.selection import Selectors
from drainer.control.messages.base import Peer
from drainer.control.messages.domains import DomainRequest, DomainsQuery
from drainer.control.messages.entries import EntryQuery, SelectRequest
from drainer.control.messages.finish import EtaQuery
from drainer.control.messages.journal import JournalQuery, ReportQuery, UndoRequest
from drainer.control.messages.log_import import ImportRequest
from drainer.control.messages.pauses_and_rates import PauseRequest, RateRequest, ResumeRequest
from drainer.control.operations import Operations
from drainer.control.replies import json_reply
from drainer.control.requests import peer_of, query_of, refuse_broken_target, request_of
from drainer.control.socket_file import group_id, listening_socket, refuse_unless_free
from drainer.errors import DrainerError, HaltError, UsageError
from drainer.report.metrics import CONTENT_TYPE, exposition
from drainer.text.logfmt import logfmt

_NOT_LOGGED = {"deliveries"}
"""Fields of requests that are too long for a line."""
_SHUTDOWN_S = 2.0

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
        """Listen. A socket file without a listener (its service died) is replaced.

        Raises  RequestRefused when another service answers there; SettingsError when the path cannot be listened on;
                NoRoomForSocket when it could be, with room on its filesystem: call again later
        """
        await asyncio.to_thread(refuse_unless_free, self._path)
        listening = listening_socket(self._path, group_id(self._group))
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
                web.get("/domains", self._domains),
                web.post("/domain", self._order_domain),
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
        asked = query_of(request, EtaQuery)
        return json_reply(await self._operations.eta(asked.at, asked.by, asked.list))

    async def _entries(self, request: web.Request) -> web.Response:
        asked = query_of(request, EntryQuery)
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

    async def _domains(self, request: web.Request) -> web.Response:
        asked = query_of(request, DomainsQuery)
        return json_reply(await self._operations.domains(asked.domain, asked.limit))

    async def _order_domain(self, request: web.Request) -> web.Response:
        return await self._change(request, DomainRequest, self._operations.order_domain)

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
        return json_reply(await self._operations.journal(query_of(request, JournalQuery).limit))

    async def _report(self, request: web.Request) -> web.Response:
        return json_reply(await self._operations.report(query_of(request, ReportQuery).since))

    async def _config(self, request: web.Request) -> web.Response:
        return json_reply(await self._operations.config())

    async def _change(
        self,
        request: web.Request,
        kind: type[_Request],
        operation: Callable[[_Request, Peer], Awaitable[BaseModel]],
    ) -> web.Response:
        """Carry out a change; log who asked for what, and how it ended."""
        peer = peer_of(request)
        asked = await request_of(request, kind)
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
    """One line for octets that are no HTTP (answered with 400); aiohttp would log a traceback of its parser."""

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


def _no_such(text: str) -> web.HTTPNotFound:
    return web.HTTPNotFound(text=text)


@web.middleware
async def _errors_as_json(request: web.Request, handler: _Handler) -> web.StreamResponse:
    """Every error is answered as {"error": text for the operator}; an unexpected one is logged with its traceback."""
    try:
        refuse_broken_target(request)
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
