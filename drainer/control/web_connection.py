"""One connection of the read-only TCP listener: one request, no body, a time limit, and never more than a few at once.

In    bytes from any client that reaches the port
Out   at most one request for aiohttp to answer; the connection is closed after it, or when it takes too long
Not here  what is asked for (web.py)

A client that sends its request byte by byte, or reads the answer as slowly, holds one of `MOST_CONNECTIONS` until its
time is over. A new connection replaces the oldest one that has sent no request yet. The control socket and the drain share
only the event loop with it; a connection costs that loop a timer and some kilobytes.
"""

from __future__ import annotations

import asyncio
import logging

from aiohttp import web
from aiohttp.web_request import BaseRequest

from drainer.text.logfmt import logfmt

MOST_CONNECTIONS = 64
REQUEST_WITHIN_S = 10.0
ANSWERED_WITHIN_S = 30.0
"""From the connection to its end, so that a slow reader of the answer leaves too."""
MOST_BYTES = 32_768
"""All that a client may send: a request line and header fields, in whatever number."""
LONGEST_LINE = 4_096
MOST_FIELDS = 64

log = logging.getLogger(__name__)


class Connections:
    """The open ones, oldest first; makes new ones."""

    def __init__(self, server: web.Server) -> None:
        self.server = server
        self._open: dict[Connection, None] = {}
        self._has_ended = False

    def end(self) -> None:
        """Admit no connection any more. Some that the listening socket accepted before it was closed are made only now, when
        the server no longer closes any."""
        self._has_ended = True

    def __call__(self) -> asyncio.Protocol:
        return Connection(self)

    def admit(self, newcomer: Connection) -> bool:
        """Whether it may stay. Makes room by closing the oldest one without a request."""
        if self._has_ended:
            return False
        if len(self._open) >= MOST_CONNECTIONS:
            silent = next((one for one in self._open if not one.has_asked), None)
            if silent is None:
                return False
            silent.abort()
            self.forget(silent)
        self._open[newcomer] = None
        return True

    def forget(self, gone: Connection) -> None:
        self._open.pop(gone, None)


class Connection(web.RequestHandler):
    """aiohttp's, with time limits for a request's header and for its answer, and without its version in the errors."""

    def __init__(self, connections: Connections) -> None:
        loop = asyncio.get_running_loop()
        super().__init__(
            connections.server,
            loop=loop,
            access_log=None,  # type: ignore[arg-type]  # aiohttp's own AppRunner takes None as well
            keepalive_timeout=ANSWERED_WITHIN_S,
            lingering_time=0,
            max_line_size=LONGEST_LINE,
            max_field_size=LONGEST_LINE,
            max_headers=MOST_FIELDS,
        )
        self._connections = connections
        self._timers: tuple[asyncio.TimerHandle, ...] = ()
        self._received_bytes = 0
        self.has_asked = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        if not self._connections.admit(self):
            self.abort()
            return
        loop = asyncio.get_running_loop()
        self._timers = (
            loop.call_later(REQUEST_WITHIN_S, self._request_is_late),
            loop.call_later(ANSWERED_WITHIN_S, self.abort),
        )

    def data_received(self, data: bytes) -> None:
        self._received_bytes += len(data)
        if self._received_bytes > MOST_BYTES:
            self.abort()
            return
        super().data_received(data)
        self.has_asked = self._request_count > 0

    def connection_lost(self, exc: BaseException | None) -> None:
        for timer in self._timers:
            timer.cancel()
        self._connections.forget(self)
        super().connection_lost(exc)

    def abort(self) -> None:
        if self.transport is not None:
            self.transport.abort()

    def _request_is_late(self) -> None:
        if not self.has_asked:
            self.abort()

    def handle_error(
        self,
        request: BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Not HTTP, or a failure: a status for the client, and a line in the log only if the fault is ours."""
        if status >= 500:
            log.error(logfmt(event="request_failed", method=request.method, path=request.path), exc_info=exc)
        return refusal(status if status >= 500 else 400)


def refusal(status: int, allow: str = "") -> web.Response:
    """A response with its status code and no more."""
    response = web.Response(status=status)
    response.text = f"{response.status} {response.reason}\n"
    if allow:
        response.headers["Allow"] = allow
    protect(response)
    return response


def protect(response: web.StreamResponse) -> None:
    """The headers of every answer, and the end of the connection after it."""
    response.headers.update(HEADERS)
    response.force_close()


HEADERS = {
    "Server": "drainer",
    "Cache-Control": "no-store",
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
