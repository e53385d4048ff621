"""The command line for tests: `drainer ...` in a process of its own, or within the test's.

In    the arguments, and what the environment holds besides
Out   exit status, standard output, standard error
Not here  `drainer run` within the test's process: it takes signals, the log and the event loop for itself

Starting a process and importing everything takes longer than nearly every command; so each command has one test that
starts a process, and the others call it here. What it sees is the same: its arguments, its environment with the time
zone, streams that are no terminal, and no handler of log lines but Python's last resort.
"""

from __future__ import annotations

import io
import logging
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path

import pytest

from drainer.cli.main import main
from tests.forked import Forked
from tests.runners_here import looked_for

PROGRAM = (sys.executable, "-m", "drainer")
PROCESS_WITHIN_S = 120.0

Ran = subprocess.CompletedProcess[str]


def run_process(*arguments: str | Path, environment: Mapping[str, str] | None = None) -> Ran:
    """environment: all of it; None: that of the test"""
    return subprocess.run(
        [*PROGRAM, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=PROCESS_WITHIN_S,
        check=False,
        env=None if environment is None else dict(environment),
    )


def run_forked(*arguments: str | Path) -> Ran:
    """As run_process, for `run`: a process that has imported everything, see tests/forked.py."""
    words = ["drainer", *map(str, arguments)]
    with looked_for(), tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        process = Forked(words, out, err, os.environ)
        try:
            status = process.wait(PROCESS_WITHIN_S)
        finally:
            process.kill()
        out.seek(0)
        err.seek(0)
        return Ran(words, status, out.read(), err.read())


def run_here(*arguments: str | Path, environment: Mapping[str, str] | None = None) -> Ran:
    """As run_process, within this process; in a thread of its own, so it may be called where an event loop runs."""
    words = ["drainer", *map(str, arguments)]
    out, err = _stream(), _stream()
    with (
        _surroundings(words, environment),
        redirect_stdout(out),
        redirect_stderr(err),
        ThreadPoolExecutor(1) as thread,
        pytest.raises(SystemExit) as left,
    ):
        thread.submit(main).result()
    return Ran(words, int(left.value.code or 0), _text(out), _text(err))


def _stream() -> io.TextIOWrapper:
    return io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True)


def _text(stream: io.TextIOWrapper) -> str:
    stream.flush()
    assert isinstance(stream.buffer, io.BytesIO)
    return stream.buffer.getvalue().decode()


@contextmanager
def _surroundings(words: list[str], environment: Mapping[str, str] | None) -> Iterator[None]:
    """Arguments, environment and log handlers of a process of its own; as they were afterwards."""
    root = logging.getLogger()
    arguments, variables, handlers = sys.argv, dict(os.environ), root.handlers
    try:
        sys.argv, root.handlers = words, []
        if environment is not None:
            _set(environment)
        yield
    finally:
        sys.argv, root.handlers = arguments, handlers
        if environment is not None:
            _set(variables)


def _set(variables: Mapping[str, str]) -> None:
    for name in os.environ.keys() - variables.keys():
        del os.environ[name]
    os.environ.update(variables)
    time.tzset()
