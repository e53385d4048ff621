"""How soon a service that starts before a large backlog knows it: `python -m tests.bench.backlog [ENTRIES]`.

In    a number of entries, cloned from a genuine one (4 KB, 20 recipients)
Out   seconds until the first true backlog figure and until every entry is fingerprinted, and the memory used, printed
      beside the aims
Note  the real service, paused by its operator before it starts, asked through its control socket every few moments. It
      leaves composing to Mailman's own runner, which needs no co-process: nothing is composed
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from drainer.ledger.records import JournalLine, OperatorState, Pause
from drainer.ledger.sqlite import SqliteLedger
from tests.bench.clones import write_clones
from tests.scenarios.running import site_settings

FIGURE_AIM_S = 2.0
FINGERPRINTED_AIM_S = 20.0
MEMORY_AIM_BYTES = 200 * 10**6
_ASK_EVERY_S = 0.1
_GIVE_UP_AFTER_S = 3600.0


@dataclass(frozen=True, slots=True)
class Measured:
    """Seconds since the process was started; bytes of resident memory at their highest, workers' included.

    processor_s        processor time of all processes until every entry was fingerprinted
    longest_answer_s   the control socket's slowest answer meanwhile: how long the event loop was busy with one thing
    load               load average of the machine at the end
    """

    entries: int
    ready_s: float
    figure_s: float
    fingerprinted_s: float
    service_bytes: int
    workers_bytes: int
    service_processor_s: float
    workers_processor_s: float
    longest_answer_s: float
    load: float


def main(entries: int = 100_000) -> Measured:
    """Measure and print."""
    measured = measure(entries)
    memory = measured.service_bytes + measured.workers_bytes
    per_entry_us = 1e6 / entries
    print(f"A backlog of {entries:,} entries, 4 KB and 20 recipients each (load {measured.load:.1f}):")
    print(f"  first true figure        {measured.figure_s:8.1f} s   aim {FIGURE_AIM_S:g} s")
    print(f"  every entry fingerprinted{measured.fingerprinted_s:8.1f} s   aim {FINGERPRINTED_AIM_S:g} s")
    print(
        f"  resident memory          {memory / 1e6:8.0f} MB  aim {MEMORY_AIM_BYTES / 1e6:.0f} MB"
        f" (service {measured.service_bytes / 1e6:.0f}, workers {measured.workers_bytes / 1e6:.0f})"
    )
    print(
        f"  ready after {measured.ready_s:.1f} s; processor time per entry {measured.service_processor_s * per_entry_us:.0f}"
        f" us in the service, {measured.workers_processor_s * per_entry_us:.0f} us in the workers; slowest answer of the"
        f" control socket {measured.longest_answer_s * 1000:.0f} ms"
    )
    return measured


def measure(entries: int) -> Measured:
    """Build the backlog in a directory of its own, start the service before it, and watch."""
    with tempfile.TemporaryDirectory(prefix="drainer-backlog-") as directory:
        home = Path(directory)
        queue_dir = home / "queue"
        for name in ("out", "bad", "shunt", "in"):
            (queue_dir / name).mkdir(parents=True)
        total_bytes = write_clones(queue_dir / "out", entries)
        settings = site_settings(home, 9, {"flavour": "mailman3", "queue_dir": queue_dir}, feed={"via": "mailman"})
        asyncio.run(pause(home / "ledger.sqlite"))
        with _service(settings, home / "log") as (process, begun_s):
            try:
                return _watch(process, begun_s, home / "control.sock", entries, total_bytes)
            except AssertionError as exc:
                raise AssertionError(f"{exc}; the log ends:\n{(home / 'log').read_text()[-3000:]}") from exc


async def pause(ledger: Path) -> None:
    opened = SqliteLedger(ledger)
    await opened.open()
    state = OperatorState().changed(pauses=(Pause("", time.time(), None, "benchmark", ""),))
    await opened.set_operator_state(state, JournalLine(time.time(), "benchmark", "pause", ""))
    await opened.close()


@contextmanager
def _service(settings: Path, log: Path) -> Iterator[tuple[psutil.Popen, float]]:
    begun_s = time.monotonic()
    with log.open("wb") as output:
        process = psutil.Popen(
            [sys.executable, "-m", "drainer", "run", "--config", str(settings)], stdout=output, stderr=output
        )
        try:
            yield process, begun_s
        finally:
            process.terminate()
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _watch(process: psutil.Popen, begun_s: float, control: Path, entries: int, total_bytes: int) -> Measured:
    ready_s = figure_s = longest_answer_s = 0.0
    service_bytes = workers_bytes = 0
    while time.monotonic() - begun_s < _GIVE_UP_AFTER_S:
        assert process.poll() is None, f"the service ended with {process.returncode}"
        asked_s = time.monotonic()
        answer = _status(control)
        now_s = time.monotonic()
        if answer is not None:
            ready_s = ready_s or now_s - begun_s
            longest_answer_s = max(longest_answer_s, now_s - asked_s)
            own, workers = _memory(process)
            service_bytes, workers_bytes = max(service_bytes, own), max(workers_bytes, workers)
            backlog = answer["backlog"]
            if backlog["entries"] == entries and not figure_s:
                assert backlog["bytes"] == total_bytes, f"{backlog['bytes']} bytes, not {total_bytes}"
                figure_s = now_s - begun_s
            if figure_s and backlog["unread_entries"] == 0:
                assert backlog["entries"] == entries and answer["state"] == "paused", answer
                service_s, workers_s = _processor_s(process)
                return Measured(
                    entries, ready_s, figure_s, now_s - begun_s, service_bytes, workers_bytes, service_s, workers_s,
                    longest_answer_s, os.getloadavg()[0],
                )  # fmt: skip
        time.sleep(_ASK_EVERY_S)
    raise AssertionError(f"not done in {_GIVE_UP_AFTER_S:g} s: {answer}")


def _status(control: Path) -> dict[str, Any] | None:
    """None while the service does not listen yet."""
    with socket.socket(socket.AF_UNIX) as asking:
        try:
            asking.connect(str(control))
        except (FileNotFoundError, ConnectionRefusedError):
            return None
        asking.sendall(b"GET /status HTTP/1.1\r\nHost: drainer\r\nConnection: close\r\n\r\n")
        octets = b""
        while more := asking.recv(65536):
            octets += more
    found: dict[str, Any] = json.loads(octets.partition(b"\r\n\r\n")[2])
    return found


def _memory(process: psutil.Popen) -> tuple[int, int]:
    workers = 0
    for child in process.children():
        try:
            workers += child.memory_info().rss
        except psutil.NoSuchProcess:
            continue
    return process.memory_info().rss, workers


def _processor_s(process: psutil.Popen) -> tuple[float, float]:
    own, workers = process.cpu_times(), [child.cpu_times() for child in process.children()]
    return own.user + own.system, sum(times.user + times.system for times in workers)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:2]))
