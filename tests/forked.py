"""Processes of `python -m drainer run` and the like that begin with everything imported: forked from one that has it.

In    the words after `python -m`, files for standard output and error, the environment
Out   a process of its own in the project's directory: pid, signals, exit status, children, as subprocess gives them
Not here  what /proc says of it (command line, environment, memory at the start) is what it was forked from: where a test
          looks there, or at the start itself, it takes subprocess

Importing the service takes more processor time than most of the stories in which it runs. Each worker of the tests has one
process that imports it, starts no thread and opens nothing, and forks whenever a service is asked for. Between the two
stands a keeper, which waits for the service as its parent and reports how it ended.
"""

from __future__ import annotations

import functools
import gc
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

_ROOT = Path(__file__).parents[1]
_MOST_OCTETS = 2**17


class Forked:
    """What a test does with a subprocess.Popen, for a process that was forked.

    words           as after `python -m`
    output, errors  its standard output and error
    environment     all of it
    """

    def __init__(self, words: Sequence[str], output: IO[Any], errors: IO[Any], environment: Mapping[str, str]) -> None:
        self.args = list(words)
        self.returncode: int | None = None
        request = json.dumps({"words": self.args, "environment": dict(environment)}).encode()
        assert len(request) < _MOST_OCTETS
        reports, to_report = os.pipe()
        self._reports = os.fdopen(reports, "rb", buffering=0)
        try:
            socket.send_fds(_forking(), [request], [output.fileno(), errors.fileno(), to_report])
        finally:
            os.close(to_report)
        self.pid = self._report()

    def poll(self) -> int | None:
        if self.returncode is None and select.select([self._reports], [], [], 0)[0]:
            self._ended()
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Its exit status. Raises subprocess.TimeoutExpired"""
        if self.returncode is None:
            if not select.select([self._reports], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired(self.args, timeout or 0.0)
            self._ended()
        assert self.returncode is not None
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def _ended(self) -> None:
        self.returncode = self._report()
        self._reports.close()

    def _report(self) -> int:
        octets = self._reports.read(8)
        if len(octets) != 8:
            raise RuntimeError(f"the process that forks, or the keeper, is gone: {self.args}")
        return int.from_bytes(octets, "little", signed=True)


_first_asked = threading.Lock()


def _forking() -> socket.socket:
    with _first_asked:
        return _begun()


@functools.cache
def _begun() -> socket.socket:
    """The way to this worker's process that forks. It ends with the worker, since no process holds the other end then."""
    here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with there:
        _started.append(
            subprocess.Popen(
                [sys.executable, "-m", "tests.forked", str(there.fileno())], pass_fds=[there.fileno()], cwd=_ROOT
            )
        )
    return here


_started: list[subprocess.Popen[bytes]] = []


def _fork_when_asked(asked: socket.socket) -> None:
    import drainer.cli.main
    import drainer.cli.run
    import drainer.service  # noqa: F401
    from drainer.backlog import readers

    # As where there is one processor: a process that reads takes longer to start than the queue of a story to be read.
    readers._DEFAULT_WORKERS = 1
    gc.collect()
    gc.freeze()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        request, descriptors, _, _ = socket.recv_fds(asked, _MOST_OCTETS, 3)
        if not request:
            return
        if os.fork() == 0:
            asked.detach()
            _keep(json.loads(request), *descriptors)
            return
        for descriptor in descriptors:
            os.close(descriptor)


def _keep(request: dict[str, Any], output: int, errors: int, report: int) -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    pid = os.fork()
    if pid == 0:
        _become(request, output, errors)
        return
    os.write(report, pid.to_bytes(8, "little", signed=True))
    _, status = os.waitpid(pid, 0)
    os.write(report, os.waitstatus_to_exitcode(status).to_bytes(8, "little", signed=True))
    os._exit(0)


def _become(request: dict[str, Any], output: int, errors: int) -> None:
    """The module, run in this process, which ends with it."""
    os.dup2(output, 1)
    os.dup2(errors, 2)
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    os.environ.clear()
    os.environ.update(request["environment"])
    time.tzset()
    sys.argv = request["words"]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    _fork_when_asked(socket.socket(fileno=int(sys.argv[1])))
