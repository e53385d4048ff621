"""An SMTP sink on loopback: takes mail, remembers it, and misbehaves on request.

In    SMTP sessions; Rules that say where to refuse, fall silent, hang up or talk nonsense
Out   a Taken per message it owns, in memory and as JSON lines; a mail log as Postfix writes it
Not here  any delivery, any address but loopback

What it owns is written to the capture file and the log before the final reply leaves, so after a kill of the other side
the file tells the truth about who got what. In the same process: `async with Sink() as sink: sink.port, sink.taken`.
With a thread of its own: `with SinkThread() as sink`. As a process:
    python -m drainer.demo.sink --port 0 --capture FILE --log FILE --rule "rcpt 450 4.2.0 later recipient=*@a.org first=3"
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import os
import signal
import ssl
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

from drainer.demo.misbehaviour import Behaviour, Greylisting, Rule, Script, Step
from drainer.demo.sink_session import SinkSession
from drainer.demo.taken import Taken


@dataclass(frozen=True, slots=True)
class SinkOptions:
    """host is 127.0.0.1 or ::1; port 0: any free one.

    scripts        asked in turn, the first that has something to say is followed
    capture        JSON lines of what was taken; log: Postfix's mail log format; both appended to
    keep_content   remember content too, in memory and in the capture file
    keep_taken     remember Taken in memory
    session_limit  sessions open at once; further ones are greeted with 421. 0: any number
    idle_s         a session without a command for so long is closed with 421. 0: never
    extensions     offered at EHLO
    accounts       user names and passwords for AUTH PLAIN and LOGIN; empty: AUTH is not offered
    """

    host: str = "127.0.0.1"
    port: int = 0
    scripts: tuple[Script, ...] = ()
    capture: Path | None = None
    log: Path | None = None
    keep_content: bool = False
    keep_taken: bool = True
    session_limit: int = 0
    idle_s: float = 0.0
    extensions: tuple[str, ...] = ("PIPELINING", "SIZE 52428800", "8BITMIME", "SMTPUTF8", "ENHANCEDSTATUSCODES", "DSN")
    accounts: tuple[tuple[str, str], ...] = ()
    tls: Literal["none", "starttls", "implicit"] = "none"
    tls_context: ssl.SSLContext | None = None


class Sink:
    """The server. `taken` grows while it runs; `sessions` counts those open, `sessions_seen` all there ever were."""

    def __init__(self, options: SinkOptions | None = None, *scripts: Script) -> None:
        self.options = options or SinkOptions()
        if self.options.host not in ("127.0.0.1", "::1", "localhost"):
            raise ValueError(f"the sink listens on loopback only, not on {self.options.host!r}")
        self.scripts: list[Script] = [*self.options.scripts, *scripts]
        self.taken: list[Taken] = []
        self.taken_count = 0
        self.taken_recipients = 0
        self.sessions_seen = 0
        self.most_sessions = 0
        self.closed_idle = 0
        self.commands: dict[str, int] = {}
        self.port = 0
        self.open_sessions: set[SinkSession] = set()
        self._server: asyncio.Server | None = None
        self._capture: int | None = None
        self._log: int | None = None
        self._queue_ids = itertools.count(int(time.time()) << 20)
        self._host_name = "sink"
        self._stamp = (0, "")

    @property
    def sessions(self) -> int:
        return len(self.open_sessions)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def start(self) -> None:
        """Listen; `port` says where. Raises OSError."""
        options = self.options
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
        self._capture = os.open(options.capture, flags, 0o644) if options.capture else None
        self._log = os.open(options.log, flags, 0o644) if options.log else None
        self._server = await asyncio.get_running_loop().create_server(
            lambda: SinkSession(self),
            options.host,
            options.port,
            backlog=1024,
            ssl=options.tls_context if options.tls == "implicit" else None,
        )
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """Stop listening and drop every session."""
        if self._server is not None:
            self._server.close()
            for connection in list(self.open_sessions):
                connection.drop()
            await self._server.wait_closed()
            self._server = None
        for descriptor in (self._capture, self._log):
            if descriptor is not None:
                os.close(descriptor)
        self._capture = self._log = None

    def hang_up_all(self) -> None:
        """Drop every session, go on listening."""
        for connection in list(self.open_sessions):
            connection.drop()

    def delivered(self) -> list[tuple[str, str]]:
        """(recipient, Message-ID) of every copy taken, in order of arrival."""
        return [(recipient, taken.message_id) for taken in self.taken for recipient in taken.recipients]

    def next_queue_id(self) -> str:
        return f"{next(self._queue_ids):X}"

    def behaviour(self, step: Step) -> Behaviour | None:
        for script in self.scripts:
            if (behaviour := script(step)) is not None:
                return behaviour
        return None

    def take(self, taken: Taken) -> None:
        """Own a message: on disk before this returns, as far as the page cache is (it outlives every process)."""
        if self._capture is not None:
            os.write(self._capture, taken.as_json().encode() + b"\n")
        if self._log is not None:
            os.write(self._log, self._log_lines(taken).encode("utf-8", "surrogateescape"))
        if self.options.keep_taken:
            self.taken.append(taken)
        self.taken_count += 1
        self.taken_recipients += len(taken.recipients)

    def _log_lines(self, taken: Taken) -> str:
        second = int(taken.at_s)
        if second != self._stamp[0]:
            now = time.localtime(second)
            self._stamp = (second, time.strftime("%b ", now) + f"{now.tm_mday:2d}" + time.strftime(" %H:%M:%S", now))
        begin = f"{self._stamp[1]} {self._host_name} postfix"
        queue_id = taken.queue_id
        sent = "relay=local, delay=0, delays=0/0/0/0, dsn=2.0.0, status=sent (delivered to sink)"
        lines = [
            f"{begin}/cleanup[1]: {queue_id}: message-id={taken.message_id}",
            f"{begin}/qmgr[1]: {queue_id}: from=<{taken.reverse_path}>, size={taken.size}, "
            f"nrcpt={len(taken.recipients)} (queue active)",
        ]
        lines += [f"{begin}/local[1]: {queue_id}: to=<{recipient}>, {sent}" for recipient in taken.recipients]
        lines.append(f"{begin}/qmgr[1]: {queue_id}: removed\n")
        return "\n".join(lines)


class SinkThread:
    """A sink with an event loop in a thread of its own: `with SinkThread(options) as sink: sink.port`."""

    def __init__(self, options: SinkOptions | None = None, *scripts: Script) -> None:
        self.sink = Sink(options, *scripts)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="smtp-sink", daemon=True)

    def __enter__(self) -> Sink:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self.sink.start(), self._loop).result()
        return self.sink

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        asyncio.run_coroutine_threadsafe(self.sink.close(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


async def _serve(options: SinkOptions) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with Sink(options) as sink:
        print(f"listening on {options.host}:{sink.port}", flush=True)
        await stop.wait()
        print(f"taken {sink.taken_count} messages, {sink.taken_recipients} recipients", flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """The sink as a process; the first line it prints says where it listens."""
    parser = argparse.ArgumentParser(prog="python -m drainer.demo.sink", description="SMTP sink on loopback")
    parser.add_argument("--host", default="127.0.0.1", help="127.0.0.1 or ::1")
    parser.add_argument("--port", type=int, default=0, help="0: any free one, printed at start")
    parser.add_argument("--capture", type=Path, help="append a JSON line for every message taken")
    parser.add_argument("--log", type=Path, help="append a mail log as Postfix writes it")
    parser.add_argument("--keep-content", action="store_true", help="put the content into the capture file, in base64")
    parser.add_argument("--session-limit", type=int, default=0, help="greet further sessions with 421")
    parser.add_argument("--greylist", action="store_true", help="450 at the first attempt for each recipient")
    parser.add_argument("--rule", action="append", default=[], help=Rule.__doc__)
    given = parser.parse_args(arguments)
    try:
        scripts: tuple[Script, ...] = tuple(Rule.parse(line) for line in given.rule)
        options = SinkOptions(
            host=given.host,
            port=given.port,
            scripts=(*scripts, Greylisting()) if given.greylist else scripts,
            capture=given.capture,
            log=given.log,
            keep_content=given.keep_content,
            keep_taken=False,
            session_limit=given.session_limit,
        )
        asyncio.run(_serve(options))
    except (ValueError, OSError) as exc:
        print(f"sink: {exc}", file=sys.stderr)
        return 2 if isinstance(exc, ValueError) else 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
