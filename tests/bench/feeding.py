"""Senders into an smtp-sink: drainer, Mailman 3's own outgoing runner, Postfix's smtp-source.

In    a genuine Mailman 3 (tests/mailman3/site.py), entries as Mailman 2.1 writes them
Out   Drained: messages/s of each into the same kind of sink, and its CPU
Not here  which are compared, and with which aim (into_sink.py)

Measured is the steady drain: from the first to the last content that the sink accepted, by its own counter. What goes before
the first one, from the start of the process, is given apart as start-up.
"""

from __future__ import annotations

import itertools
import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from drainer.demo.sample_queue import write_plain
from drainer.pickles.restricted import load_pair
from drainer.queuedir.entry import entry_from_pickles
from tests.mailman3.site import KIND, MailingList, Member, Post, Site, mailman_python
from tests.scenarios.running import site_settings

SESSIONS = 20
BARE = "bare loop"
"""Row of a sender that only does what no drainer can leave out (bare_loop.py)."""
_SINK, SOURCE = "/usr/sbin/smtp-sink", "/usr/sbin/smtp-source"
_COUNTED = re.compile(rb"mesg=\s*(\d+)")
_LONGEST_S = 300.0
_SETTLING_S, _LOOK_EVERY_S = 0.5, 0.02
_LIST, _PERSONAL_LIST = "plain@lists.example.org", "personal@lists.example.org"
VERP, PERSONALISED = "verp", "personalised"
_SERIAL = itertools.count()

Through = Callable[[int], AbstractContextManager[int]]
"""Another port, through which this one is reached."""


@dataclass(frozen=True, slots=True)
class Drained:
    """entries: of the queue. contents: that the sink accepted, several for an entry that is split, in so many `seconds`.
    start_up_s: until the first. cpu_us: of the process and its children for each content; None: not known."""

    entries: int
    contents: int
    seconds: float
    start_up_s: float = 0.0
    cpu_us: float | None = None

    @property
    def per_s(self) -> float:
        """Entries per second. Contents that were seen in one look came within the time between two."""
        return self.entries * (1 - 1 / self.contents) / max(self.seconds, _LOOK_EVERY_S)


class CountingSink:
    """An smtp-sink that says how many contents came, and when the first and the last."""

    def __init__(self) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = int(free.getsockname()[1])
        user = ["-u", "nobody"] if os.geteuid() == 0 else []
        self._process = subprocess.Popen(
            [_SINK, *user, "-c", f"127.0.0.1:{self.port}", "100"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        self.count = 0
        self.first_s = self.last_s = 0.0
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
                self.count, self.last_s = count, now_s

    def settled(self) -> int:
        """The count, once the sender has ended and no more come."""
        ended_s = time.monotonic()
        while time.monotonic() - max(self.last_s, ended_s) < _SETTLING_S and self._process.poll() is None:
            time.sleep(_LOOK_EVERY_S)
        return self.count

    def close(self) -> None:
        self._process.terminate()
        self._process.wait()
        self._reader.join()
        if self._process.stdout is not None:
            self._process.stdout.close()


def measured(
    entries: int, begin: Callable[[int], subprocess.Popen[Any] | None], through: Through = nullcontext
) -> Drained:
    """begin  starts what feeds these entries into the sink on this port, and may wait for its end

    Raises   RuntimeError if it fails, or if fewer contents than entries come
    """
    sink, stack = CountingSink(), ExitStack()
    process = None
    try:
        begun_s = time.monotonic()
        process = begin(stack.enter_context(through(sink.port)))
        cpu_s = 0.0 if process is None else _cpu_of(process, sink)
        if process is not None and process.wait() != 0:
            raise RuntimeError(f"it ended with status {process.returncode}")
        contents = sink.settled()
        if contents < entries:
            raise RuntimeError(f"only {contents} contents of {entries} entries came")
        cpu_us = 1e6 * cpu_s / contents if process is not None else None
        return Drained(entries, contents, sink.last_s - sink.first_s, sink.first_s - begun_s, cpu_us)
    finally:
        if process is not None and process.poll() is None:
            process.kill()
            process.wait()
        stack.close()
        sink.close()


def _cpu_of(process: subprocess.Popen[Any], sink: CountingSink) -> float:
    """Seconds between the first and the last content. How many will come is known only when the process has ended."""
    deadline_s = time.monotonic() + _LONGEST_S
    first_s = last_s = 0.0
    seen = 0
    while process.poll() is None:
        if time.monotonic() > deadline_s:
            raise RuntimeError(f"not done within {_LONGEST_S:g} s: {sink.count} contents came")
        now_s, count = _cpu_s(process.pid), sink.count
        if not seen:
            first_s = now_s
        if count != seen and now_s:
            seen, last_s = count, now_s
        time.sleep(_LOOK_EVERY_S)
    return last_s - first_s


def _cpu_s(pid: int) -> float:
    try:
        family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
        return sum(part.cpu_times().user + part.cpu_times().system for part in family)
    except psutil.NoSuchProcess:
        return 0.0


def smtp_source(messages: int, recipients: int) -> Drained:
    """Postfix's own load generator: nothing read, nothing composed, nothing remembered."""
    options = ["-s", str(SESSIONS), "-m", str(messages), "-r", str(recipients), "-l", "2000", "-d"]
    return measured(messages, lambda port: subprocess.Popen([SOURCE, *options, f"127.0.0.1:{port}"]))


def drainer(home: Path, mailman: dict[str, Any], messages: int, through: Through = nullcontext) -> Drained:
    """`drainer run --until-empty`, the rate unlimited, with the settings' defaults but for the number of sessions."""
    home.mkdir()

    def begin(port: int) -> subprocess.Popen[Any]:
        return begin_drainer(home, mailman, port)

    try:
        return measured(messages, begin, through)
    except RuntimeError as exc:
        raise RuntimeError(f"{exc}; its log ends:\n{(home / 'drainer.log').read_text()[-2000:]}") from exc


def begin_drainer(home: Path, mailman: dict[str, Any], port: int, program: str = "drainer") -> subprocess.Popen[Any]:
    """program  a module that runs as `drainer` does"""
    settings = site_settings(home, port, mailman, mta={"sessions": SESSIONS})
    with (home / "drainer.log").open("wb") as log:
        return subprocess.Popen(
            [sys.executable, "-m", program, "run", "--until-empty", "--config", str(settings)], stdout=log, stderr=log
        )


@contextmanager
def genuine_site(directory: Path, members: int = 3) -> Iterator[Site]:
    """A Mailman 3 with one mail of each kind in out/, to be cloned: plain, with VERP, and on a personalised list."""
    site = Site(directory, mailman_python())
    recipients = [f"member{number}@example.org" for number in range(members)]
    people = [Member(address) for address in recipients]
    site.populate(
        [
            MailingList(_LIST, people, display_name="Plain"),
            MailingList(_PERSONAL_LIST, people, display_name="Personal", personalize="individual"),
        ],
        [
            Post(_LIST, _mail(_LIST)),
            Post(_LIST, _mail(_LIST), recipients, kind=VERP, metadata={"verp": True}),
            Post(_PERSONAL_LIST, _mail(_PERSONAL_LIST), recipients, kind=PERSONALISED),
        ],
    )
    yield site


def _mail(to: str) -> bytes:
    text = (
        f"From: poster@example.org\nTo: {to}\nSubject: bench\nMessage-ID: <bench-{next(_SERIAL)}@posts.example.org>\n"
        "Date: Mon, 02 Mar 2026 10:00:00 +0000\nMIME-Version: 1.0\nContent-Type: text/plain; charset=us-ascii\n\n"
    ) + "A line of some seventy characters, as people write them in their mails.\n" * 20
    return text.encode()


Clones = list[tuple[str, bytes]]
"""File name and content of queue entries."""


def clones_of(site: Site, copies: int, recipients: int, kind: str = "") -> Clones:
    """Copies of the site's mail of this kind. Those of another kind than "" go to members of the list."""
    _fill(site, [])
    address = "member{0}@example.org" if kind else "somebody{0}@example{1}.org"
    addresses = [address.format(number, number % 7) for number in range(recipients)]
    original = next(name for name, raw in site.entries.items() if _kind_of(name, raw) == kind)
    site.clone_entry(original, copies, addresses)
    return [(path.name, path.read_bytes()) for path in sorted(site.out.iterdir())]


def _kind_of(name: str, raw: bytes) -> str:
    return str(entry_from_pickles(name, raw, load_pair(raw)).metadata.get(KIND, ""))


def _fill(site: Site, clones: Clones) -> None:
    """These in out/, and nothing else."""
    for path in site.out.iterdir():
        path.unlink()
    for name, raw in clones:
        (site.out / name).write_bytes(raw)


def mailman3_runner(site: Site, clones: Clones, through: Through = nullcontext) -> Drained:
    """Mailman 3's own outgoing runner."""
    _fill(site, clones)
    return measured(len(clones), site.run_outgoing_once, through)


def mailman3_drainer(site: Site, home: Path, clones: Clones, through: Through = nullcontext) -> Drained:
    """drainer on the same site's queue."""
    _fill(site, clones)
    mailman = {
        "flavour": "mailman3", "queue_dir": site.var / "queue", "python": site.python, "config": site.config,
    }  # fmt: skip
    return drainer(home, mailman, len(clones), through)


def mailman2_drainer(home: Path, messages: int, recipients: int) -> Drained:
    """drainer on a queue of Mailman 2.1."""
    outage = write_plain(home / "site", messages, recipients, start_s=time.time() - 10 * 86_400)
    mailman = {"flavour": "mailman2", "queue_dir": outage.queue_dir, "lists_dir": outage.lists_dir}
    return drainer(home / "drainer", mailman, messages)


def bare_loop(home: Path, messages: int, recipients: int) -> Drained:
    """What Python needs at least, on a queue of Mailman 2.1."""
    outage = write_plain(home, messages, recipients, start_s=time.time() - 10 * 86_400)
    return measured(messages, lambda port: begin_bare_loop(outage.queue_dir / "out", port))


def begin_bare_loop(out: Path, port: int) -> subprocess.Popen[Any]:
    """out  the entries; the two rows of each go into a ledger beside its parent"""
    return subprocess.Popen([sys.executable, "-m", "tests.bench.bare_loop", str(port), str(out), "rows"])
