"""The octets of an open SMTP connection: commands out, replies in, in order, several commands at a time if wanted.

In    an asyncio transport, open, greeted and encrypted (connect.py, by aiosmtplib)
Out   replies as code and text; ConnectionResetError, UnreadableReply or TimeoutError where none comes
Not here  what may be sent when (session.py), what a reply means (outcome.py)

aiosmtplib's own protocol takes one command at a time, and drops a reply that no command waits for. This protocol takes its
place (asyncio's Transport.set_protocol) and allows pipelining (RFC 2920): 100 recipients cost one write and one round
trip, not a hundred. An unexpected reply is kept, so that it is never taken for the reply to the next command.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections import deque

_LONGEST_LINE = 8192
_LONGEST_REPLY = 4 * _LONGEST_LINE


class UnreadableReply(Exception):
    """The octets that arrived are no SMTP reply."""


class WireReplies(asyncio.Protocol):
    """The protocol of one connection. For one task at a time."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._loop = asyncio.get_running_loop()
        self._transport = transport
        self._octets = bytearray()
        self._lines: list[str] = []
        self._replies: deque[tuple[int, str]] = deque()
        self._end: Exception | None = None
        self._paused = False
        self._waiter: asyncio.Future[None] | None = None
        self._socket = transport.get_extra_info("socket")
        transport.set_protocol(self)

    @property
    def is_connected(self) -> bool:
        return self._end is None and not self._transport.is_closing()

    @property
    def is_answered(self) -> bool:
        """A reply, or the end of the connection, waits to be looked at."""
        return bool(self._replies) or self._end is not None

    def unasked(self) -> str:
        """What arrived beyond the replies taken so far, "" if nothing."""
        replies = [f"{code} {text}" for code, text in self._replies]
        return " ".join([*replies, *self._lines, self._octets.decode("ascii", "replace")]).strip()

    def write(self, octets: bytes) -> None:
        """Raises ConnectionResetError if the connection is known to be gone."""
        if not self.is_connected:
            raise self._end or ConnectionResetError("connection lost")
        self._acknowledge_at_once()
        self._transport.write(octets)

    async def reply(self, timeout_s: float) -> tuple[int, str]:
        """The next reply, lines joined by newlines. Replies that arrived before the connection ended come first.

        Raises   TimeoutError, ConnectionResetError, UnreadableReply
        """
        while not self._replies:
            if self._end is not None:
                raise self._end
            await self._something_new(timeout_s)
        return self._replies.popleft()

    async def drained(self, timeout_s: float) -> None:
        """Wait until more may be written, or something has arrived. Raises TimeoutError."""
        while self._paused and not self.is_answered:
            await self._something_new(timeout_s)

    def close(self) -> None:
        """Drop the connection at once; nothing that is still buffered goes out."""
        self._ended(ConnectionResetError("connection closed"))
        self._transport.abort()

    async def _something_new(self, timeout_s: float) -> None:
        waiter = self._waiter = self._loop.create_future()
        timer = self._loop.call_later(timeout_s, _time_out, waiter)
        try:
            await waiter
        finally:
            timer.cancel()
            self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def data_received(self, data: bytes) -> None:
        if self._end is not None:
            return
        self._acknowledge_at_once()
        self._octets += data
        try:
            self._take_lines()
        except UnreadableReply as exc:
            self._ended(exc)
        if self.is_answered:
            self._wake()

    def _acknowledge_at_once(self) -> None:
        """An MTA that answers each pipelined command in a write of its own has its second answer held back by Nagle's
        algorithm until the first is acknowledged, which Linux puts off by up to 40 ms: per transaction, on loopback too.
        The option lasts for one exchange only, so it is set again with each segment (tcp(7), TCP_QUICKACK)."""
        with contextlib.suppress(OSError):
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)

    def _take_lines(self) -> None:
        *complete, rest = self._octets.split(b"\n")
        self._octets = rest
        for line in complete:
            if len(line) > _LONGEST_LINE:
                raise UnreadableReply("reply too long")
            code = line[:3]
            if not (len(code) == 3 and code.isdigit()):
                raise UnreadableReply(f"malformed reply: {ascii(bytes(line[:80]))[2:-1]}")
            self._lines.append(line[4:].strip(b" \t\r\n").decode("utf-8", "surrogateescape"))
            if line[3:4] != b"-":
                self._replies.append((int(code), "\n".join(self._lines)))
                self._lines.clear()
        if len(rest) + sum(map(len, self._lines)) > _LONGEST_REPLY:
            raise UnreadableReply("reply too long")

    def eof_received(self) -> None:
        self._ended(ConnectionResetError("connection closed by the MTA"))

    def connection_lost(self, exc: Exception | None) -> None:
        self._ended(ConnectionResetError(f"connection lost: {exc}" if exc else "connection lost"))

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        self._wake()

    def _ended(self, why: Exception) -> None:
        if self._end is None:
            self._end = why
        self._wake()


def _time_out(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_exception(TimeoutError())
