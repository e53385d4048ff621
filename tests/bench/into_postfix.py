"""How fast entries go into a genuine Postfix, beside smtp-source into the same Postfix.

In    a private Postfix (tests/postfix.py): own configuration, a queue on a disk, every mail synced as Postfix does it, then
      discarded; entries as Mailman 2.1 writes them
Out   rows of the table of aims

Counted are the mails that Postfix's queue manager takes over, as its log says it, for both alike. The log names a mail when
its file is synced.
"""

from __future__ import annotations

import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from drainer.demo.sample_queue import write_plain
from tests import postfix
from tests.bench.feeding import BARE, SESSIONS, SOURCE, begin_bare_loop, begin_drainer
from tests.bench.into_sink import Runs, Scale
from tests.bench.rows import Aim, Row, compared, in_turns
from tests.postfix import Postfix, running_postfix

LEAST = 0.9
_DISCARDS = "default_transport = discard\nlocal_transport = discard\n"
_TAKEN = b": from=<"
_LOOK_EVERY_S, _SETTLING_S = 0.01, 1.0


class _TakenOver:
    """Mails that a Postfix has taken over from now on: how many, and when the first and the last was seen in its log."""

    def __init__(self, mta: Postfix) -> None:
        self.count = 0
        self.first_s = self.last_s = 0.0
        self._log = mta.log_file
        self._at = self._log.stat().st_size if self._log.exists() else 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._follow)
        self._thread.start()

    def _follow(self) -> None:
        tail = b""
        while not self._ended.wait(_LOOK_EVERY_S):
            if not self._log.exists():
                continue
            now_s = time.monotonic()
            with self._log.open("rb") as log:
                log.seek(self._at)
                read = log.read()
            self._at += len(read)
            *lines, tail = (tail + read).split(b"\n")
            if taken := sum(b"/qmgr[" in line and _TAKEN in line for line in lines):
                self.first_s = self.first_s or now_s
                self.count, self.last_s = self.count + taken, now_s

    def per_s(self) -> float:
        """Once the sender has ended and no more come."""
        ended_s = time.monotonic()
        while time.monotonic() - max(self.last_s, ended_s) < _SETTLING_S:
            time.sleep(_LOOK_EVERY_S)
        self._ended.set()
        self._thread.join()
        return self.count / max(_LOOK_EVERY_S, self.last_s - self.first_s)


def postfix_rows(home: Path, scale: Scale) -> Iterator[Row]:
    """home: where the queues of drainer are; Postfix's own is in /var/tmp, which is on a disk."""
    postfix.needed()
    runs, many = Runs(home), scale.of_many(0.2)[0]
    with _postfix() as mta:
        for recipients, entries in ((1, scale.drainer), (scale.many, many)):
            each = mta, entries, recipients
            found = in_turns(partial(_drained, runs, *each), partial(_sourced, *each), scale.pairs)
            work = f"genuine Postfix, {recipients} rcpt{'s' * (recipients > 1)}"
            yield compared(work, f"smtp-source, {SESSIONS} sessions, same", found, Aim(LEAST), "rcpt/s")
            bare = in_turns(partial(_bare, runs, *each), partial(_sourced, *each), scale.pairs)
            yield compared(f"{BARE}, {work}", f"smtp-source, {SESSIONS} sessions, same", bare, None, "rcpt/s")


@contextmanager
def _postfix() -> Iterator[Postfix]:
    with tempfile.TemporaryDirectory(prefix="drainer-bench-", dir="/var/tmp") as place:
        Path(place).chmod(0o755)
        with running_postfix(Path(place) / "mta", outbound=_DISCARDS) as mta:
            yield mta


def _drained(runs: Runs, mta: Postfix, entries: int, recipients: int) -> float:
    """Recipients per second."""
    home = runs.directory()
    home.mkdir()
    outage = write_plain(home / "site", entries, recipients, start_s=time.time() - 10 * 86_400)
    mailman = {"flavour": "mailman2", "queue_dir": outage.queue_dir, "lists_dir": outage.lists_dir}
    taken = _TakenOver(mta)
    process = begin_drainer(home, mailman, mta.port)
    return _recipients_per_s(taken, entries * recipients, lambda: process.wait())


def _bare(runs: Runs, mta: Postfix, entries: int, recipients: int) -> float:
    home = runs.directory()
    outage = write_plain(home, entries, recipients, start_s=time.time() - 10 * 86_400)
    taken = _TakenOver(mta)
    process = begin_bare_loop(outage.queue_dir / "out", mta.port)
    return _recipients_per_s(taken, entries * recipients, lambda: process.wait())


def _sourced(mta: Postfix, messages: int, recipients: int) -> float:
    taken = _TakenOver(mta)
    options = ["-s", str(SESSIONS), "-m", str(messages), "-r", str(recipients), "-l", "2000", "-d"]
    command = [SOURCE, *options, f"127.0.0.1:{mta.port}"]
    return _recipients_per_s(taken, messages * recipients, lambda: subprocess.run(command, check=False).returncode)


def _recipients_per_s(taken: _TakenOver, recipients: int, end: Callable[[], int]) -> float:
    """Raises RuntimeError if the sender fails."""
    status = end()
    contents_per_s = taken.per_s()
    if status or not taken.count:
        raise RuntimeError(f"it ended with status {status}, {taken.count} mails came")
    return recipients / taken.count * contents_per_s
