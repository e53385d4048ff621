"""The least that Python can do for an entry: what no drainer in one Python process can be faster than.

In    entries as Mailman 2.1 writes them; an MTA on loopback that takes PIPELINING
Out   every entry to the MTA: its file read and plainly unpickled, two durable rows, MAIL to the final dot, its file unlinked
Not here  all that makes it safe to use: no duplicate is looked for, nothing is composed, no limit, no pause, no refusal
          answered, no status

python -m tests.bench.bare_loop PORT OUT_DIRECTORY: the two rows of an entry go into a ledger beside OUT_DIRECTORY.
"""

from __future__ import annotations

import asyncio
import io
import os
import pickle
import sqlite3
import sys
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, NoReturn, cast

import uvloop

SESSIONS = 20
_SCHEMA = (
    "CREATE TABLE attempt (id INTEGER PRIMARY KEY, filebase TEXT, recipients TEXT, state TEXT, reply TEXT);"
    "CREATE INDEX by_filebase ON attempt (filebase)"
)


class _Anything:
    """In place of every class; it has what the pickle says."""

    def __new__(cls, *_: object) -> _Anything:
        return object.__new__(cls)

    def __init__(self, *_: object) -> None:
        pass


class _Plain(pickle.Unpickler):
    """What C can do: no name is refused, none is looked up."""

    def find_class(self, module: str, name: str) -> Any:
        return set if name == "set" else _Anything


class Rows:
    """Two rows for each mail; a caller goes on once its row is committed. No file: it goes on at once."""

    def __init__(self, file: Path) -> None:
        self._connection = sqlite3.connect(file, check_same_thread=False, isolation_level=None)
        self._thread = ThreadPoolExecutor(1)
        self._waiting: list[Callable[[], object]] = []
        self._is_committing = False
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA synchronous = FULL")
        self._connection.executescript(_SCHEMA)

    def write(self, statement: str, values: tuple[Any, ...], then: Callable[[], object]) -> None:
        if not self._is_committing:
            asyncio.get_running_loop().call_soon(self._commit)
        self._waiting.append(lambda: self._execute(statement, values, then))

    def _execute(self, statement: str, values: tuple[Any, ...], then: Callable[[], object]) -> Callable[[], object]:
        self._connection.execute(statement, values)
        return then

    def _commit(self) -> None:
        if self._is_committing or not self._waiting:
            return
        self._is_committing = True
        group, self._waiting = self._waiting, []
        self._connection.execute("BEGIN")
        answers = [one() for one in group]
        done = asyncio.get_running_loop().run_in_executor(self._thread, self._connection.commit)
        done.add_done_callback(lambda _: self._committed(answers))

    def _committed(self, answers: list[Any]) -> None:
        self._is_committing = False
        for answer in answers:
            answer()
        asyncio.get_running_loop().call_soon(self._commit)


class Session(asyncio.Protocol):
    """One mail after the other. Replies are counted, not looked at."""

    def __init__(self, entries: Iterator[Path], rows: Rows, done: Callable[[], object]) -> None:
        self._entries = entries
        self._rows = rows
        self._done = done
        self._steps: deque[tuple[int, Callable[[], object]]] = deque()
        self._tail = b""
        self._serial = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._steps.append((1, lambda: self._ask(b"EHLO bare.example.org\r\n", 1, self._next)))

    def data_received(self, data: bytes) -> None:
        lines = (self._tail + data).split(b"\r\n")
        self._tail = lines.pop()
        for line in lines:
            if line[3:4] == b"-":
                continue
            if line[:1] not in b"23":
                raise RuntimeError(f"the MTA refuses: {line!r}")
            left, step = self._steps.popleft()
            if left > 1:
                self._steps.appendleft((left - 1, step))
            else:
                step()

    def _ask(self, octets: bytes, replies: int, then: Callable[[], object]) -> None:
        self._steps.append((replies, then))
        self._transport.write(octets)

    def _next(self) -> None:
        path = next(self._entries, None)
        if path is None:
            self._ask(b"QUIT\r\n", 1, self._done)
            return
        self._path = path
        octets = io.BytesIO(path.read_bytes())
        message, metadata = (_Plain(octets).load() for _ in range(2))
        fields = "".join(f"{name}: {value}\n" for name, value in message._headers)
        text = f"{fields}\n{message._payload}".encode("ascii")
        self._content = text.replace(b"\n", b"\r\n").replace(b"\r\n.", b"\r\n..") + b"\r\n.\r\n"
        self._recipients = metadata["recips"]
        envelope = b"MAIL FROM:<bench-bounces@example.org>\r\n" + b"".join(
            b"RCPT TO:<%s>\r\n" % address.encode() for address in self._recipients
        )
        self._ask(envelope, 1 + len(self._recipients), self._attempt)

    def _attempt(self) -> None:
        values = (self._path.name, " ".join(self._recipients))
        self._rows.write("INSERT INTO attempt (filebase, recipients) VALUES (?, ?)", values, self._data)

    def _data(self) -> None:
        self._ask(b"DATA\r\n", 1, lambda: self._ask(self._content, 1, self._outcome))

    def _outcome(self) -> None:
        values = ("delivered", "250 2.0.0 Ok", self._path.name)
        self._rows.write("UPDATE attempt SET state = ?, reply = ? WHERE filebase = ?", values, self._finish)

    def _finish(self) -> None:
        self._path.unlink()
        self._next()


def _ended(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> NoReturn:
    """An error in a callback: there is nothing to go on with."""
    loop.default_exception_handler(context)
    os._exit(1)


async def main(port: int, entries: Iterator[Path], ledger: Path) -> None:
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(_ended)
    rows = Rows(ledger)
    ended = [loop.create_future() for _ in range(SESSIONS)]
    for future in ended:
        session = partial(Session, entries, rows, partial(future.set_result, None))
        await loop.create_connection(session, "127.0.0.1", port)
    await asyncio.gather(*ended)


if __name__ == "__main__":
    out = Path(sys.argv[2])
    uvloop.run(main(int(sys.argv[1]), iter(sorted(out.iterdir())), out.parent / "bare.sqlite"))
