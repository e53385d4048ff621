"""An SMTP server on loopback that accepts everything and notes what it got.

In    SMTP sessions, one after the other or side by side
Out   Captured: envelopes and contents, dot-stuffing undone
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

_PATH = re.compile(rb"(?:mail from|rcpt to):\s*<([^>]*)>\s*(.*)", re.IGNORECASE)
_BOUNDARY = re.compile(rb"={15}\d{19}==")


@dataclass(slots=True)
class Captured:
    """One transaction. `parameters`: of MAIL, without SIZE. `entry`: argument of the last NOOP before it."""

    reverse_path: str
    parameters: tuple[str, ...]
    size: int | None = None
    recipients: list[str] = field(default_factory=list)
    content: bytes = b""
    entry: str = ""


@dataclass(slots=True)
class Capture:
    """port  where it listens;  captured  the transactions, in order of their final dots;  entry  the last NOOP's argument"""

    port: int
    entry: str = ""
    captured: list[Captured] = field(default_factory=list)


@asynccontextmanager
async def capturing() -> AsyncIterator[Capture]:
    """A server for the length of a `with`."""
    capture = Capture(0)

    async def session(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await _session(reader, writer, capture)

    server = await asyncio.start_server(session, "127.0.0.1", 0, limit=2**24)
    capture.port = server.sockets[0].getsockname()[1]
    async with server:
        yield capture


def boundaries_numbered(content: bytes) -> bytes:
    """The content with the random MIME boundaries of Python's email package replaced by their order of appearance."""
    seen: dict[bytes, bytes] = {}
    return _BOUNDARY.sub(lambda found: seen.setdefault(found[0], b"boundary-%d" % len(seen)), content)


async def _session(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, capture: Capture) -> None:
    current = Captured("", ())
    writer.write(b"220 capture\r\n")
    while line := await reader.readline():
        verb = line[:4].upper()
        if verb == b"EHLO":
            writer.write(b"250-capture\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n250 SIZE\r\n")
        elif verb == b"MAIL":
            current = _mail(line)
            writer.write(b"250 ok\r\n")
        elif verb == b"RCPT":
            current.recipients.append(_argument(line)[0])
            writer.write(b"250 ok\r\n")
        elif verb == b"DATA":
            writer.write(b"354 go on\r\n")
            current.content = (await reader.readuntil(b"\r\n.\r\n"))[:-3].replace(b"\r\n..", b"\r\n.")
            current.entry = capture.entry
            capture.captured.append(current)
            writer.write(b"250 ok\r\n")
        elif verb == b"NOOP":
            capture.entry = line[4:].strip().decode()
            writer.write(b"250 ok\r\n")
        elif verb == b"QUIT":
            writer.write(b"221 bye\r\n")
            break
        else:
            writer.write(b"250 ok\r\n")
    writer.close()


def _mail(line: bytes) -> Captured:
    path, parameters = _argument(line)
    sizes = [int(item[5:]) for item in parameters if item.lower().startswith("size=")]
    others = tuple(item for item in parameters if not item.lower().startswith("size="))
    return Captured(path, others, sizes[0] if sizes else None)


def _argument(line: bytes) -> tuple[str, list[str]]:
    found = _PATH.match(line.strip())
    assert found is not None, line
    return found[1].decode(), found[2].decode().split()
