"""What a service takes that has nothing to do, and how soon a busy one answers GET /status.

In    the real service with its default settings, entries as Mailman 2.1 writes them, an smtp-sink
Out   rows of the table of aims: part of a core in a minute; 99th percentile of the answers
"""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import psutil

from drainer.demo.sample_queue import write_plain
from tests.bench.backlog import pause
from tests.bench.feeding import SESSIONS, CountingSink
from tests.bench.rows import Aim, Row
from tests.scenarios.running import site_settings

_ASKED_EVERY_S = 0.02
_LONGEST_S = 900.0


@dataclass(frozen=True, slots=True)
class Loads:
    """paused, scanned, fed: entries. watched_s: how long the CPU of an idle service is counted."""

    paused: int = 100_000
    scanned: int = 100_000
    fed: int = 6_000
    watched_s: float = 60.0
    settled_s: float = 10.0


def idle_rows(home: Path, loads: Loads) -> Iterator[Row]:
    for entries, most, name in ((0, 0.3, "an empty queue"), (loads.paused, 0.5, f"{loads.paused:,} paused")):
        with _service(home, entries, is_paused=entries > 0) as service:
            service.until(partial(_is_read, entries=entries))
            time.sleep(loads.settled_s)
            before, begun_s = service.cpu_s(), time.monotonic()
            time.sleep(loads.watched_s)
            percent = 100 * (service.cpu_s() - before) / (time.monotonic() - begun_s)
        aim = Aim(most, "% of a core", at_most=True)
        yield Row(f"idle with {name}", f"CPU time in {loads.watched_s:g} s", f"{percent:.2f} %", "", percent, aim)


def answer_rows(home: Path, loads: Loads) -> Iterator[Row]:
    sink = CountingSink()
    try:
        with _service(home, loads.fed, is_paused=False, port=sink.port) as service:
            service.until(lambda _: sink.count > SESSIONS)
            took_s = service.asked_while(lambda _: sink.count < 0.95 * loads.fed)
    finally:
        sink.close()
    yield _answers("while feeding at full speed", took_s, 20.0)
    with _service(home, loads.scanned, is_paused=True) as service:
        took_s = service.asked_while(lambda status: not _is_read(status, loads.scanned))
    yield _answers(f"while scanning {loads.scanned:,}", took_s, 50.0)


def _is_read(status: dict[str, Any], entries: int) -> bool:
    return status["backlog"]["entries"] == entries and not status["backlog"]["unread_entries"]


def _answers(when: str, took_s: list[float], most_ms: float) -> Row:
    in_order = sorted(took_s)
    p99_ms, p50_ms = (1000 * in_order[int(part * (len(in_order) - 1))] for part in (0.99, 0.5))
    said = f"p50 {p50_ms:.0f} p99 {p99_ms:.0f} ms"
    return Row(f"GET /status {when}", f"{len(took_s)} answers", said, "", p99_ms, Aim(most_ms, "ms", at_most=True))


class _Service:
    def __init__(self, process: psutil.Popen, control: Path, log: Path) -> None:
        self._process = process
        self._control = control
        self._log = log

    def cpu_s(self) -> float:
        times = self._process.cpu_times()
        return float(times.user + times.system)

    def until(self, is_so: Callable[[dict[str, Any]], bool]) -> None:
        """Ask until it is. The service is always asked on the control socket, as `drainer status` does."""
        self.asked_while(lambda status: not is_so(status))

    def asked_while(self, goes_on: Callable[[dict[str, Any]], bool]) -> list[float]:
        """Seconds that each answer took. Raises RuntimeError if it never ends."""
        took_s, deadline_s = list[float](), time.monotonic() + _LONGEST_S
        while time.monotonic() < deadline_s:
            if self._process.poll() is not None:
                raise RuntimeError(f"the service ended; its log ends:\n{self._log.read_text()[-2000:]}")
            begun_s = time.monotonic()
            try:
                status = _status(self._control)
            except (FileNotFoundError, ConnectionRefusedError):
                time.sleep(_ASKED_EVERY_S)
                continue
            took_s.append(time.monotonic() - begun_s)
            if not goes_on(status):
                return took_s
            time.sleep(_ASKED_EVERY_S)
        raise RuntimeError(f"not done in {_LONGEST_S:g} s: {status}")


@contextmanager
def _service(home: Path, entries: int, *, is_paused: bool, port: int = 9) -> Iterator[_Service]:
    """With so many entries in out/. Its settings are the defaults."""
    with tempfile.TemporaryDirectory(dir=home) as directory:
        place = Path(directory)
        outage = write_plain(place / "site", entries, 1, start_s=time.time() - 10 * 86_400)
        mailman = {"flavour": "mailman2", "queue_dir": outage.queue_dir, "lists_dir": outage.lists_dir}
        settings = site_settings(place, port, mailman, custody={"poll": "1s"}, mta={"sessions": SESSIONS})
        if is_paused:
            asyncio.run(pause(place / "ledger.sqlite"))
        with (place / "log").open("wb") as log:
            process = psutil.Popen(
                [sys.executable, "-m", "drainer", "run", "--config", str(settings)], stdout=log, stderr=log
            )
        try:
            yield _Service(process, place / "control.sock", place / "log")
        finally:
            if process.poll() is None:
                process.terminate()
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _status(control: Path) -> dict[str, Any]:
    with socket.socket(socket.AF_UNIX) as asking:
        asking.connect(str(control))
        asking.sendall(b"GET /status HTTP/1.1\r\nHost: drainer\r\nConnection: close\r\n\r\n")
        octets = b""
        while more := asking.recv(65536):
            octets += more
    found: dict[str, Any] = json.loads(octets.partition(b"\r\n\r\n")[2])
    return found
