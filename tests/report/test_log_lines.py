"""The log: the same lines as logging itself writes, in fewer writes, and none is lost."""

from __future__ import annotations

import asyncio
import io
import logging
import os
import select
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drainer.report import log_lines
from drainer.report.log_lines import WITH_TIME, WITHOUT_TIME, LineFormatter, LinesOfTurn

WITHIN_S = 60.0
SCRIPT = """
import asyncio, logging, sys
from drainer.report.log_lines import to_standard_error
log = logging.getLogger("drainer")
async def main():
    log.info("first")
    log.info("second")
    {end}
with to_standard_error("INFO", with_time=False):
    asyncio.run(main())
"""


class Written:
    """A log that goes into a pipe."""

    def __init__(self, line: str = WITHOUT_TIME) -> None:
        self.reads, writes = os.pipe()
        self._stream = os.fdopen(writes, "w", encoding="utf-8", errors="backslashreplace")
        self.handler = LinesOfTurn(self._stream)
        self.handler.setFormatter(LineFormatter(line))
        self.log = logging.Logger("of this test", logging.INFO)
        self.log.addHandler(self.handler)

    def now(self) -> str:
        """What has been written and not been read yet."""
        found = b""
        while select.select([self.reads], [], [], 0)[0] and (octets := os.read(self.reads, 65_536)):
            found += octets
        return found.decode()

    def awaited(self) -> str:
        """As now(), once there is something."""
        assert select.select([self.reads], [], [], WITHIN_S)[0], "nothing was written"
        return self.now()

    def close(self) -> None:
        self.handler.close()
        self._stream.close()
        os.close(self.reads)


@contextmanager
def written(line: str = WITHOUT_TIME) -> Iterator[Written]:
    made = Written(line)
    try:
        yield made
    finally:
        made.close()


def plainly(line: str, records: list[logging.LogRecord]) -> str:
    """As the logging module itself writes them."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logging.Formatter(line))
    for record in records:
        record.exc_text = None
        handler.emit(record)
    return stream.getvalue()


def error() -> BaseException:
    try:
        raise ValueError("of a mail")
    except ValueError as exc:
        return exc


@st.composite
def record(draw: st.DrawFn) -> logging.LogRecord:
    level = draw(st.sampled_from([logging.INFO, logging.WARNING, logging.ERROR]))
    text = draw(st.text(st.characters(codec="utf-8"), max_size=20))
    exc = draw(st.none() | st.builds(error))
    info = None if exc is None else (type(exc), exc, exc.__traceback__)
    made = logging.LogRecord("drainer", level, "file", 1, text, (), info)
    made.created = draw(st.floats(0, 4e9) | st.sampled_from([1e9, 1e9 + 0.9996, 1e9 + 1]))
    made.msecs = int((made.created - int(made.created)) * 1000) + 0.0
    return made


@settings(deadline=None)
@given(st.lists(record(), max_size=8), st.sampled_from([WITH_TIME, WITHOUT_TIME]))
def test_any_records_give_the_octets_that_logging_itself_writes(records: list[logging.LogRecord], line: str) -> None:
    async def logged(log: Written) -> None:
        for one in records:
            log.handler.handle(one)

    expected = plainly(line, records)
    with written(line) as log:
        asyncio.run(logged(log))
        log.handler.flush()
        assert log.now() == expected


async def test_lines_of_one_turn_of_the_loop_are_written_together_in_their_order() -> None:
    with written() as log:
        for number in range(5):
            log.log.info("line %d", number)
        assert log.now() == "", "each had a write of its own"
        await asyncio.sleep(0)
        assert log.now() == "".join(f"line {number}\n" for number in range(5))
        log.log.info("of the next turn")
        await asyncio.sleep(0)
        assert log.now() == "of the next turn\n"


async def test_a_warning_is_written_at_once_after_what_came_before_it() -> None:
    with written() as log:
        log.log.info("before")
        log.log.warning("stopped")
        assert log.now() == "before\nstopped\n"
        await asyncio.sleep(0)
        assert log.now() == ""


async def test_a_thread_writes_at_once_and_after_what_came_before_it() -> None:
    with written() as log:
        log.log.info("of the loop")
        thread = threading.Thread(target=log.log.info, args=("of a thread",))
        thread.start()
        thread.join()
        assert log.now() == "of the loop\nof a thread\n"


def test_without_a_loop_and_in_a_loop_after_another_each_line_comes() -> None:
    async def logged(text: str) -> None:
        log.log.info(text)

    with written() as log:
        log.log.info("before any loop")
        assert log.now() == "before any loop\n"
        for number in range(2):
            asyncio.run(logged(f"loop {number}"))
        log.log.info("after them")
        assert log.now() == "loop 0\nloop 1\nafter them\n"


async def test_a_turn_that_logs_without_end_is_written_meanwhile() -> None:
    with written() as log:
        for number in range(2 * log_lines.MOST_WAITING):
            log.log.info("line %d", number)
        assert log.now().count("\n") == 2 * log_lines.MOST_WAITING


async def test_a_turn_that_hangs_has_its_lines_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_lines, "LATE_S", 0.01)
    with written() as log:
        log.log.info("about to hang")
        assert log.awaited() == "about to hang\n", "the loop stands still until it is there"


@pytest.mark.parametrize("is_blocking", [True, False])
def test_a_slow_reader_loses_no_line(is_blocking: bool) -> None:
    with written() as log:
        writes = log.handler._descriptor
        os.set_blocking(writes, is_blocking)
        lines = [f"line {number} {'x' * 1000}" for number in range(300)]
        found: list[bytes] = []

        def read() -> None:
            while sum(map(len, found)) < sum(len(line) + 1 for line in lines):
                found.append(os.read(log.reads, 777))

        async def logged() -> None:
            for line in lines:
                log.log.info(line)

        reader = threading.Thread(target=read)
        reader.start()
        asyncio.run(logged())
        log.handler.flush()
        reader.join(WITHIN_S)
        assert b"".join(found).decode().splitlines() == lines


def test_a_line_that_the_writing_thread_logs_while_it_writes_comes_once_and_so_do_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As an object does that is collected as garbage meanwhile."""
    write, meanwhile = os.write, ["meanwhile"]

    def logging_write(descriptor: int, octets: bytes) -> int:
        if meanwhile:
            log.log.info(meanwhile.pop())
        return write(descriptor, octets)

    async def logged() -> None:
        log.log.info("first")
        log.log.info("second")

    with written() as log:
        monkeypatch.setattr(os, "write", logging_write)
        asyncio.run(logged())
        log.handler.flush()
        assert sorted(log.now().splitlines()) == ["first", "meanwhile", "second"]


def test_what_the_encoding_of_standard_error_does_not_have_is_escaped() -> None:
    reads, writes = os.pipe()
    with os.fdopen(reads) as found, os.fdopen(writes, "w", encoding="latin-1", errors="strict") as stream:
        handler = LinesOfTurn(stream)
        handler.handle(logging.LogRecord("drainer", logging.INFO, "", 0, "\xfc \u0443", (), None))
        handler.close()
        assert os.read(found.fileno(), 100) == b"\xfc \\u0443\n"


def test_a_log_that_nobody_reads_any_more_stops_nothing() -> None:
    with written() as log:
        os.close(log.reads)
        log.log.warning("to nobody")
        log.reads = os.open(os.devnull, os.O_RDONLY)


@pytest.mark.parametrize("end", ["raise RuntimeError('of code')", "sys.exit(3)", "await asyncio.sleep(0)"])
def test_however_python_code_ends_the_process_its_lines_are_there_before_the_error(end: str) -> None:
    ran = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(end=end)], capture_output=True, text=True, check=False, timeout=WITHIN_S
    )
    assert ran.stderr.startswith("first\nsecond\n")
    assert ("RuntimeError" in ran.stderr) == ("RuntimeError" in end)
