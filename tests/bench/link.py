"""A link with a delay: `python -m tests.bench.link PORT DELAY_MS` listens on a port of its own, which it prints, and passes
everything on to PORT. Each octet arrives so much later, in both directions; as many are on the way as are sent.

smtp-sink's own delays (-w, -W) are not the same: they delay replies, and a pipelined command waits for each.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, cast

import uvloop


class _End(asyncio.Protocol):
    """One end of a connection; what it reads goes out at the other end, later."""

    def __init__(self, delay_s: float) -> None:
        self._delay_s = delay_s
        self._loop = asyncio.get_running_loop()
        self.transport: asyncio.WriteTransport | None = None
        self.other: _End | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.WriteTransport, transport)

    def data_received(self, data: bytes) -> None:
        self._later(lambda transport: transport.write(data))

    def connection_lost(self, exc: BaseException | None) -> None:
        self._later(lambda transport: transport.close())

    def _later(self, act: Callable[[asyncio.WriteTransport], None]) -> None:
        self._loop.call_later(self._delay_s, self._act, act)

    def _act(self, act: Callable[[asyncio.WriteTransport], None]) -> None:
        if self.other is not None and self.other.transport is not None:
            act(self.other.transport)


async def _serve(port: int, delay_s: float) -> None:
    loop = asyncio.get_running_loop()
    opening = set[asyncio.Task[Any]]()

    class Near(_End):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            super().connection_made(transport)
            self.other = far = _End(delay_s)
            far.other = self
            task = loop.create_task(loop.create_connection(lambda: far, "127.0.0.1", port))
            opening.add(task)
            task.add_done_callback(opening.discard)

    server = await loop.create_server(lambda: Near(delay_s), "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


@contextmanager
def link_to(port: int, delay_s: float) -> Iterator[int]:
    """The port of a link to this one, in a process of its own."""
    command = [sys.executable, "-m", "tests.bench.link", str(port), str(delay_s * 1000)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield int(process.stdout.readline())
        finally:
            process.terminate()


if __name__ == "__main__":
    uvloop.run(_serve(int(sys.argv[1]), float(sys.argv[2]) / 1000))
