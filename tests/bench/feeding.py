"""How fast entries leave, beside Mailman 3's own outgoing runner and Postfix's smtp-source.

In    a genuine Mailman 3 (tests/mailman3/site.py), entries as Mailman 2.1 writes them, smtp-sink and smtp-source
Out   a table: messages/s of each into the same kind of sink, absolute and as ratios

Measured is the steady drain: from the first to the last message at the sink, as the sink's own counter shows them. What
goes before the first one, from the start of the process, is given apart as start-up.
"""

from __future__ import annotations

import math
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from drainer.demo.sample_queue import write_plain
from tests.mailman3.site import MailingList, Member, Post, Site, mailman_python
from tests.scenarios.running import site_settings

SESSIONS = 20
SHAPES = (1, 100)
_SINK, _SOURCE = "/usr/sbin/smtp-sink", "/usr/sbin/smtp-source"
_COUNTED = re.compile(rb"mesg=\s*(\d+)")
_LONGEST_S = 120.0
_SETTLING_S = 2.0
_LIST = "plain@lists.example.org"


@dataclass(frozen=True, slots=True)
class Entries:
    """How many messages each of them gets: enough for some seconds of steady drain.

    shapes  recipients of each message; one table for each
    """

    runner: int = 300
    drainer: int = 3000
    source: int = 30_000
    shapes: tuple[int, ...] = SHAPES


@dataclass(frozen=True, slots=True)
class Drained:
    """start_up_s: until the first message; cpu_us: of the process and its children per message, None if not known."""

    messages: int
    seconds: float
    start_up_s: float
    cpu_us: float | None = None

    @property
    def per_s(self) -> float:
        return (self.messages - 1) / self.seconds if self.seconds else math.inf


class CountingSink:
    """An smtp-sink that says when the first and the last of the expected messages came."""

    def __init__(self, expected: int) -> None:
        self._expected = expected
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = int(free.getsockname()[1])
        user = ["-u", "nobody"] if os.geteuid() == 0 else []
        self._process = subprocess.Popen(
            [_SINK, *user, "-c", f"127.0.0.1:{self.port}", "100"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        self.count = 0
        self.first_s = self.last_s = 0.0
        self.first, self.last = threading.Event(), threading.Event()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self._wait_until_it_listens()

    def _wait_until_it_listens(self) -> None:
        deadline_s = time.monotonic() + 10
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except OSError:
                if time.monotonic() > deadline_s or self._process.poll() is not None:
                    raise RuntimeError(f"{_SINK} does not listen on port {self.port}") from None
                time.sleep(0.02)

    def _read(self) -> None:
        assert self._process.stdout is not None
        tail = b""
        while chunk := os.read(self._process.stdout.fileno(), 65536):
            now_s = time.monotonic()
            tail = (tail + chunk)[-200:]
            counts = _COUNTED.findall(tail)
            if counts and (count := int(counts[-1])) > self.count:
                if not self.count:
                    self.first_s = now_s
                    self.first.set()
                self.count, self.last_s = count, now_s
                if count >= self._expected:
                    self.last.set()

    def close(self) -> None:
        self._process.terminate()
        self._process.wait()
        self._reader.join()
        if self._process.stdout is not None:
            self._process.stdout.close()


def measured(messages: int, begin: Callable[[int], subprocess.Popen[Any] | None]) -> Drained:
    """begin  starts what feeds the sink on this port, and may wait for its end

    Raises   RuntimeError if the messages do not all come
    """
    sink = CountingSink(messages)
    process = None
    try:
        begun_s = time.monotonic()
        process = begin(sink.port)
        cpu_us = None
        if process is not None and _happens(sink.first, process):
            before_s = _cpu_s(process.pid)
            if _happens(sink.last, process):
                cpu_us = 1e6 * (_cpu_s(process.pid) - before_s) / messages
        if not sink.last.wait(_SETTLING_S):
            raise RuntimeError(f"only {sink.count} of {messages} messages came")
        if process is not None and process.wait(_LONGEST_S) != 0:
            raise RuntimeError(f"it ended with status {process.returncode}")
        return Drained(messages, sink.last_s - sink.first_s, sink.first_s - begun_s, cpu_us)
    finally:
        if process is not None and process.poll() is None:
            process.kill()
            process.wait()
        sink.close()


def _happens(event: threading.Event, process: subprocess.Popen[Any]) -> bool:
    """Wait for it, but no longer than the process lives."""
    deadline_s = time.monotonic() + _LONGEST_S
    while not event.wait(0.05):
        if process.poll() is not None or time.monotonic() > deadline_s:
            return event.is_set()
    return True


def _cpu_s(pid: int) -> float:
    try:
        family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
        return sum(part.cpu_times().user + part.cpu_times().system for part in family)
    except psutil.NoSuchProcess:
        return 0.0


def smtp_source(messages: int, recipients: int) -> Drained:
    """Postfix's own load generator: nothing read, nothing composed, nothing remembered."""
    options = ["-s", str(SESSIONS), "-m", str(messages), "-r", str(recipients), "-l", "2000", "-d"]
    return measured(messages, lambda port: subprocess.Popen([_SOURCE, *options, f"127.0.0.1:{port}"]))


def drainer(home: Path, mailman: dict[str, Any], messages: int) -> Drained:
    """`drainer run --until-empty`, the rate unlimited, with the settings' defaults but for the number of sessions."""
    home.mkdir()

    def begin(port: int) -> subprocess.Popen[Any]:
        settings = site_settings(home, port, mailman, mta={"sessions": SESSIONS})
        with (home / "drainer.log").open("wb") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "drainer", "run", "--until-empty", "--config", str(settings)],
                stdout=log,
                stderr=log,
            )

    try:
        return measured(messages, begin)
    except RuntimeError as exc:
        raise RuntimeError(f"{exc}; its log ends:\n{(home / 'drainer.log').read_text()[-2000:]}") from exc


@contextmanager
def genuine_site(directory: Path) -> Iterator[Site]:
    """A Mailman 3 with one list and one mail in out/, to be cloned."""
    site = Site(directory, mailman_python())
    members = [Member(f"member{number}@example.org") for number in range(3)]
    text = (
        f"From: poster@example.org\nTo: {_LIST}\nSubject: bench\nMessage-ID: <bench@posts.example.org>\n"
        "Date: Mon, 02 Mar 2026 10:00:00 +0000\nMIME-Version: 1.0\nContent-Type: text/plain; charset=us-ascii\n\n"
    ) + "A line of some seventy characters, as people write them in their mails.\n" * 20
    site.populate([MailingList(_LIST, members, display_name="Plain")], [Post(_LIST, text.encode())])
    yield site


Clones = list[tuple[str, bytes]]
"""File name and content of queue entries."""


def _clones(site: Site, copies: int, recipients: int) -> Clones:
    _fill(site, [])
    addresses = [f"somebody{number}@example{number % 7}.org" for number in range(recipients)]
    site.clone_entry(next(iter(site.entries)), copies, addresses)
    return [(path.name, path.read_bytes()) for path in sorted(site.out.iterdir())]


def _fill(site: Site, clones: Clones) -> None:
    """These in out/, and nothing else."""
    for path in site.out.iterdir():
        path.unlink()
    for name, raw in clones:
        (site.out / name).write_bytes(raw)


def mailman3_runner(site: Site, clones: Clones) -> Drained:
    """Mailman 3's own outgoing runner."""
    _fill(site, clones)
    return measured(len(clones), site.run_outgoing_once)


def mailman3_drainer(site: Site, home: Path, clones: Clones) -> Drained:
    """drainer on the same site's queue."""
    _fill(site, clones)
    mailman = {
        "flavour": "mailman3", "queue_dir": site.var / "queue", "python": site.python, "config": site.config,
    }  # fmt: skip
    return drainer(home, mailman, len(clones))


def mailman2_drainer(home: Path, messages: int, recipients: int) -> Drained:
    """drainer on a queue of Mailman 2.1."""
    outage = write_plain(home / "site", messages, recipients, start_s=time.time() - 10 * 86_400)
    mailman = {"flavour": "mailman2", "queue_dir": outage.queue_dir, "lists_dir": outage.lists_dir}
    return drainer(home / "drainer", mailman, messages)


def main(entries: Entries | None = None) -> None:
    """Measure and print."""
    for program in (_SINK, _SOURCE):
        if not Path(program).exists():
            print(f"{program} is missing: it comes with Debian's postfix package")
            return
    entries = entries or Entries()
    load = os.getloadavg()[0]
    print(f"Feeding one smtp-sink on loopback; {os.cpu_count()} CPUs, load average {load:.2f} at the start.")
    if load > 1:
        print("WARNING: something else is busy on this machine; these figures are too low, and the ratios uncertain.")
    print("Steady drain, from the first to the last message at the sink; start-up is what goes before the first.\n")
    home = Path(tempfile.mkdtemp(prefix="drainer-bench-"))
    try:
        with genuine_site(home / "mailman3") as site:
            for recipients in entries.shapes:
                _print_shape(home, site, entries, recipients)
    finally:
        shutil.rmtree(home, ignore_errors=True)


def _print_shape(home: Path, site: Site, entries: Entries, recipients: int) -> None:
    scale = 1 if recipients == 1 else 0.4
    few, many, source = (max(2, int(number * scale)) for number in (entries.runner, entries.drainer, entries.source))
    if recipients > 1:
        source = max(2, source // 10)
    clones = _clones(site, max(few, many), recipients)
    runner = mailman3_runner(site, clones[:few])
    rows = [
        ("Mailman 3's outgoing runner", runner),
        ("drainer, same Mailman 3 queue", mailman3_drainer(site, home / f"three-{recipients}", clones[:many])),
        ("drainer, Mailman 2.1 queue", mailman2_drainer(home / f"two-{recipients}", many, recipients)),
        (f"smtp-source, {SESSIONS} sessions", smtp_source(source, recipients)),
    ]
    fastest = rows[-1][1]
    print(f"{recipients} recipient{'s' * (recipients > 1)} per entry")
    print(
        f"  {'':30} {'messages/s':>10} {'recipients/s':>12} {'x runner':>9} {'x source':>9} {'start-up s':>10} "
        f"{'CPU us/msg':>10} {'messages':>9}"
    )
    for name, drained in rows:
        cpu = "" if drained.cpu_us is None or drained is fastest else f"{drained.cpu_us:,.0f}"
        print(
            f"  {name:30} {drained.per_s:10,.0f} {drained.per_s * recipients:12,.0f} "
            f"{drained.per_s / runner.per_s:9.2f} {drained.per_s / fastest.per_s:9.3f} {drained.start_up_s:10.2f} "
            f"{cpu:>10} {drained.messages:9,}"
        )
    print(flush=True)
