"""An SMTP sink on loopback: it takes mail, keeps it, and misbehaves on request.

In    SMTP sessions; Rules that say where to refuse, fall silent, hang up or send garbage
Out   a Taken for each message it owns, in memory and as JSON lines; a mail log in Postfix's format
Not here  any delivery, any address but loopback

The sink writes a message to the capture file and the log before it sends the final reply. So the file is true even after
the other side was killed. In the same process: `async with Sink() as sink: sink.port, sink.taken`. With a thread of its
own: `with SinkThread() as sink`. As a process:
    python -m drainer.demo.sink --port 0 --capture FILE --log FILE --rule "rcpt 450 4.2.0 later recipient=*@a.org first=3"
"""

from __future__ import annotations

import argparse
import asyncio
import ipaddress
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from drainer.demo.misbehaviour import Greylisting, Rule, Script
from drainer.demo.sink_session import SinkSession
from drainer.demo.sink_state import SinkOptions, SinkState

__all__ = ["Sink", "SinkOptions", "SinkThread", "main"]  # `drainer.demo.sink` is a public name


class Sink(SinkState):
    """The server: what its sessions share, and a socket that listens at `port`."""

    def __init__(self, options: SinkOptions | None = None, *scripts: Script) -> None:
        options = options or SinkOptions()
        if options.host != "localhost" and not _is_loopback(options.host):
            raise ValueError(f"the sink listens on loopback only, not on {options.host!r}")
        super().__init__(options, *scripts)
        self.port = 0
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def start(self) -> None:
        """Listen at `port`. Raises OSError."""
        options = self.options
        self.open_files()
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
            self.hang_up_all()
            await self._server.wait_closed()
            self._server = None
        self.close_files()


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class SinkThread:
    """A sink in a thread of its own with its own event loop: `with SinkThread(options) as sink: sink.port`."""

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
    """Run the sink as a process; its first line of output says where it listens."""
    parser = argparse.ArgumentParser(prog="python -m drainer.demo.sink", description="SMTP sink on loopback")
    parser.add_argument("--host", default="127.0.0.1", help="an address of loopback, such as 127.0.0.2")
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
