"""The read-only TCP listener of `web.listen`: the page, and the same figures for programs.

In    GET and HEAD of a few paths, from any client that reaches the port
Out   the page, JSON, metrics; everything else is refused with a status code and no more
Promise  it changes nothing: it gets two functions that read, and never the operations of the control socket

Any web page can make a browser ask 127.0.0.1, under a name that points there (DNS rebinding). So a request is answered only
if its Host is one that the operator knows: the address listened on, localhost, `web.hosts`.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable
from importlib import resources

from aiohttp import web

from drainer.clock import Clock
from drainer.control.replies import JSON, as_json
from drainer.control.web_connection import Connections, protect, refusal
from drainer.errors import SettingsError
from drainer.report.burn_down import BurnDown
from drainer.report.metrics import CONTENT_TYPE, exposition
from drainer.report.snapshot import Snapshot
from drainer.report.web.page import page
from drainer.settings.surroundings import WebSettings
from drainer.text.logfmt import logfmt
from drainer.text.quantities import tcp_address

AS_OLD_AS_S = 1.0
"""Requests within this time get the same figures: many readers cost the drain no more than one."""
_SHUTDOWN_S = 2.0
_FILES = {"/page.css": "text/css", "/page.js": "text/javascript", "/icon.svg": "image/svg+xml"}
"""Beside page.html in drainer/report/, sent as they are."""

_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

log = logging.getLogger(__name__)


class StatusListener:
    """Listens on TCP for as long as the service lives."""

    def __init__(
        self,
        settings: WebSettings,
        status: Callable[[], Awaitable[Snapshot]],
        clock: Clock,
        history: Callable[[], BurnDown] = BurnDown,
    ) -> None:
        """history  gives the burn-down that the page draws"""
        self.host, self.port = tcp_address(settings.listen)
        self._listen = settings.listen
        self._names = frozenset(name.lower() for name in (self.host, "localhost", *settings.hosts))
        self._status = status
        self._clock = clock
        self._history = history
        self._snapshot: tuple[float, Snapshot] | None = None
        self._faces: dict[str, Callable[[Snapshot], tuple[bytes, str]]] = {
            "/": self._page,
            "/status.json": lambda snapshot: (as_json(snapshot), JSON),
            "/history.json": lambda _: (as_json(self._history()), JSON),
            "/metrics": self._metrics,
            "/health": self._health,
        }
        self._kept: dict[str, tuple[Snapshot, bytes, str]] = {}
        self._asking = asyncio.Lock()
        report = resources.files("drainer.report.web")
        self._template = (report / "page.html").read_text("utf-8")
        self._files = {path: (report / path[1:]).read_text("utf-8") for path in _FILES}
        self._runner: web.AppRunner | None = None
        self._server: asyncio.Server | None = None
        self._connections: Connections | None = None

    async def start(self) -> None:
        """Listen; port 0 takes a free one, readable from `port` afterwards. Raises SettingsError."""
        self._runner = web.AppRunner(self._application(), access_log=None, shutdown_timeout=_SHUTDOWN_S)
        await self._runner.setup()
        assert self._runner.server is not None
        self._connections = Connections(self._runner.server)
        try:
            self._server = await asyncio.get_running_loop().create_server(self._connections, self.host, self.port)
        except OSError as exc:
            await self.stop()
            # asyncio replaces the system's words with a sentence of its own, which repeats the address.
            said = os.strerror(exc.errno) if exc.errno and exc.errno > 0 else exc.strerror or exc
            raise SettingsError(
                f"web.listen = {self._listen!r}: cannot listen there: {said}; "
                'right would be a free port on an address of this host, or "" for none'
            ) from exc
        self.port = int(self._server.sockets[0].getsockname()[1])
        log.info(logfmt(event="web", address=self.host, port=self.port))

    async def stop(self) -> None:
        """Close every connection. May be called twice."""
        if self._server is not None:
            self._server.close()
            self._server = None
        if self._connections is not None:
            self._connections.end()
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    def _application(self) -> web.Application:
        application = web.Application(middlewares=[self._guarded])
        application.add_routes(
            [
                *(web.get(path, self._face) for path in self._faces),
                *(web.get(path, self._file) for path in self._files),
            ]
        )
        return application

    @web.middleware
    async def _guarded(self, request: web.Request, handler: _Handler) -> web.StreamResponse:
        """Refuse requests that are not for us; when something fails, answer with a status and no more."""
        status = self._reason_to_refuse(request)
        if status:
            return refusal(status)
        try:
            response = await handler(request)
        except web.HTTPMethodNotAllowed as exc:
            return refusal(405, allow=", ".join(sorted(exc.allowed_methods)))
        except web.HTTPException as exc:
            return refusal(exc.status)
        except Exception:
            log.exception(logfmt(event="request_failed", method=request.method, path=request.path))
            return refusal(500)
        protect(response)
        return response

    def _reason_to_refuse(self, request: web.Request) -> int:
        """A status code, or 0: the request may be answered."""
        hosts = request.headers.getall("Host", [])
        if not request.raw_path.startswith("/") or len(hosts) > 1:
            return 400
        if not hosts:  # A browser always sends one; HTTP/1.0 need not.
            return 0 if request.version < (1, 1) else 400
        name = _host_name(hosts[0])
        transport = request.transport
        local = transport.get_extra_info("sockname") if transport is not None else None
        if name not in self._names and not (local and name == local[0]):
            return 421
        return 413 if request.body_exists else 0

    async def _file(self, request: web.Request) -> web.Response:
        return web.Response(text=self._files[request.path], content_type=_FILES[request.path], charset="utf-8")

    async def _face(self, request: web.Request) -> web.Response:
        """The figures in the form that the path asks for, made once for all requests of the same second."""
        snapshot = await self._figures()
        kept = self._kept.get(request.path)
        if kept is None or kept[0] is not snapshot:
            body, content_type = self._faces[request.path](snapshot)
            kept = self._kept[request.path] = snapshot, body, content_type
        return web.Response(body=kept[1], headers={"Content-Type": kept[2]})

    def _page(self, snapshot: Snapshot) -> tuple[bytes, str]:
        return page(self._template, snapshot, self._history()).encode(), "text/html; charset=utf-8"

    def _metrics(self, snapshot: Snapshot) -> tuple[bytes, str]:
        return exposition(snapshot), CONTENT_TYPE

    def _health(self, snapshot: Snapshot) -> tuple[bytes, str]:
        """200 while the service can tell how it is, whatever that is."""
        return as_json({"state": snapshot.state}), JSON

    async def _figures(self) -> Snapshot:
        async with self._asking:
            now_s = self._clock.monotonic_s()
            if self._snapshot is None or now_s - self._snapshot[0] > AS_OLD_AS_S:
                self._snapshot = now_s, await self._status()
            return self._snapshot[1]


def _host_name(host: str) -> str:
    """What a Host field names, without port, brackets and final dot."""
    name = host.partition("]")[0].removeprefix("[") if host.startswith("[") else host.rpartition(":")[0] or host
    return name.lower().removesuffix(".")
