"""The service's log on standard error: the lines of one turn of the event loop in one write.

In    records of the logging module, from the event loop and from other threads
Out   lines, in the order and with the times at which they were logged, the same octets as logging.StreamHandler writes
Not here  what a line says (text/logfmt.py)

A write for each line costs more than all else about it. So lines wait until the loop has done what it is doing. They are
written at once where waiting could lose them, or nothing would end it: a warning or worse, a thread of its own, a loop that
is not there yet or has ended. kill -9 in the middle of a turn loses the lines of that turn; the ledger has what they say. A
turn that hangs, in a system call on a disk that is gone for example, has its lines written by a thread after LATE_S.

Whoever reads slowly holds up the writer, as with any handler of the logging module; no line is lost for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import select
import sys
import threading
import time
from collections.abc import Iterator
from typing import TextIO

LATE_S = 1.0
MOST_WAITING = 200
"""So many lines are written at once: a turn that logs without end does not fill the memory."""

WITH_TIME = "%(asctime)s %(levelname)s %(message)s"
WITHOUT_TIME = "%(message)s"


@contextlib.contextmanager
def to_standard_error(level: int | str, *, with_time: bool) -> Iterator[None]:
    """Log to standard error from now on. At the end of the block all lines are written. If somebody has set up the log
    already, that stays as it is.

    with_time  lines begin with time and level; systemd's journal has both by itself
    """
    # No line of ours names a file, a thread or a process, so logging need not look for them (Python's Logging HOWTO,
    # "Optimization").
    logging._srcfile = None
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    handler = logging.NullHandler() if sys.stderr is None else LinesOfTurn(sys.stderr)
    handler.setFormatter(LineFormatter(WITH_TIME if with_time else WITHOUT_TIME))
    logging.basicConfig(level=level, handlers=[handler])
    try:
        yield
    finally:
        handler.flush()


class LineFormatter(logging.Formatter):
    """As logging.Formatter, but a second is put into words once for all lines of it."""

    def __init__(self, line: str) -> None:
        super().__init__(line)
        self._second = -1
        self._in_words = ""

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: N802 - logging's name
        second = int(record.created)
        if second != self._second:
            self._in_words = time.strftime(self.default_time_format, self.converter(second))
            self._second = second
        return f"{self._in_words},{int(record.msecs):03d}"


class LinesOfTurn(logging.Handler):
    """Writes to the file descriptor of a stream, in its encoding; what that does not have is escaped, as on standard error.
    logging.shutdown, which Python calls at exit, flushes it."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        self._descriptor = stream.fileno()
        self._encoding = stream.encoding
        self._waiting: list[str] = []
        self._since_s = 0.0
        self._called_by: asyncio.AbstractEventLoop | None = None
        self._is_closed = threading.Event()
        threading.Thread(target=self._write_what_is_late, name="late log lines", daemon=True).start()

    def emit(self, record: logging.LogRecord) -> None:
        """Called with the handler's lock."""
        try:
            line = self.format(record)
        except Exception:  # noqa: BLE001 - a record that cannot be put into words: logging says so, as with any handler
            self.handleError(record)
            return
        loop = _running_loop()
        if not self._waiting:
            self._since_s = time.monotonic()
        self._waiting.append(line)
        if loop is None or record.levelno >= logging.WARNING or len(self._waiting) >= MOST_WAITING:
            self.flush()
        elif self._called_by is not loop:
            self._called_by = loop
            loop.call_soon(self._turn_ends)

    def _turn_ends(self) -> None:
        self._called_by = None
        self.flush()

    def flush(self) -> None:
        """Write what waits."""
        self.acquire()
        try:
            # In one step: what is collected as garbage meanwhile may log in this very thread.
            lines, self._waiting = self._waiting, []
            if lines:
                text = "\n".join(lines) + "\n"
                _write(self._descriptor, text.encode(self._encoding, "backslashreplace"))
        finally:
            self.release()

    def close(self) -> None:
        self._is_closed.set()
        super().close()

    def _write_what_is_late(self) -> None:
        while not self._is_closed.wait(LATE_S):
            if self._waiting and time.monotonic() - self._since_s >= LATE_S:
                self.flush()


def _running_loop() -> asyncio.AbstractEventLoop | None:
    """That of this thread."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def _write(descriptor: int, octets: bytes) -> None:
    """All of them, however slowly they are read. If nobody can read them any more, they are lost and the service goes on, as
    with any handler of the logging module."""
    with contextlib.suppress(OSError):
        while octets:
            try:
                octets = octets[os.write(descriptor, octets) :]
            except BlockingIOError:  # a pipe that somebody else has made non-blocking, and that is full
                waits = select.poll()
                waits.register(descriptor, select.POLLOUT)
                waits.poll()
