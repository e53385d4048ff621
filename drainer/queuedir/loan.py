"""Entries carried to another filesystem while the queue's filesystem has no inode for our directories.

In    Mailman's out/, a place on another filesystem (beside the ledger)
Out   room for drainer/, made once; the same entries in drainer/backlog/ as soon as finished entries have left room

The first start needs five inodes (drainer/, backlog/, held/, duplicates/, lock), and a full queue filesystem has none. So
the newest entries make room, since they are delivered last. The name of a file says how far its move has come:

    NAME.tmp     half a copy; the entry is in out/, Mailman's
    NAME.copy    a whole copy, durable; the entry may be in out/ still
    NAME.pck     we removed the entry in out/, durably: this file is the only one

INVARIANT loan-is-ours: the unlink in out/ decides. It fails if Mailman's runner claimed the entry first: then the entry is
  Mailman's, and the copy is removed. Crash before: the entry is in out/, and the next start removes the copy. Crash after,
  seen as NAME.copy without an entry: Mailman may have had it, so it comes back as a .bak, its recipients in doubt.
INVARIANT back-before-fed: an entry is durable in backlog/, and its loan durably removed, before the index lists it.
  Crash between: it has both names; the file in custody counts, and the loan is removed.
Held by tests/queuedir/test_loan.py.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from drainer.errors import CustodyRefused
from drainer.files.fsync import sync_directory
from drainer.files.regular_file import read_regular
from drainer.queuedir.custody import Custody
from drainer.queuedir.filebase import HOME_QUEUE, QueueFile, Suffix, parse_name
from drainer.queuedir.moves import write_like
from drainer.queuedir.premises import refusing
from drainer.queuedir.read import DEFAULT_MAX_BYTES
from drainer.queuedir.scan import scan_queue

LENT_ENTRIES = 8
"""Five are needed. Some more leave room to bring entries back one at a time, even if others are held meanwhile."""


class Loan:
    """The entries carried over lie in `place`, a directory that is made when it is needed."""

    def __init__(self, queue_dir: Path, place: Path) -> None:
        self._out = queue_dir / HOME_QUEUE
        self._place = place

    @property
    def place(self) -> Path:
        return self._place

    def entries(self) -> list[Path]:
        """The entries that are ours and not back yet."""
        if not self._place.is_dir():
            return []
        return sorted(path for path in self._place.iterdir() if path.suffix in (Suffix.WAITING, Suffix.CLAIMED))

    def make_room(self) -> int:
        """Carry the newest entries of out/ over. Returns how many; 0 if `place` is on the same filesystem. Raises
        CustodyRefused."""
        with refusing(f"carry entries over to {self._place}"):
            self._place.mkdir(mode=0o700, exist_ok=True)
            sync_directory(self._place.parent)
        if self._place.stat().st_dev == self._out.stat().st_dev:
            return 0
        newest = list(scan_queue(self._out))[::-1]
        waiting = (listed.file.name for listed in newest if listed.file.suffix is Suffix.WAITING)
        with self._alone():
            return sum(self._carry_over(name) for name in islice(waiting, LENT_ENTRIES))

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Custody's lock needs an inode too; until it can be made, this lock stands in for it."""
        fd = os.open(self._place, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            with refusing(f"lock {self._place}: another drainer starts there"):
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield
        finally:
            os.close(fd)

    def _carry_over(self, name: str) -> bool:
        source, half, copy = self._out / name, self._place / f"{name}.tmp", self._place / f"{name}.copy"
        with refusing(f"carry {source} over to {self._place}"):
            try:
                write_like(half, read_regular(source, DEFAULT_MAX_BYTES, follow=False), source.stat())
            except FileNotFoundError:
                return False
            half.rename(copy)
            sync_directory(self._place)
            try:
                source.unlink()
            except FileNotFoundError:
                copy.unlink()
                return False
            sync_directory(self._out)
            copy.rename(self._place / name)
            sync_directory(self._place)
        return True

    def settle(self) -> None:
        """After a crash: remove what is only a copy; keep, as a .bak, what may be the last file. Raises CustodyRefused."""
        if not self._place.is_dir():
            return
        with refusing(f"clear up {self._place}"):
            for path in self._place.iterdir():
                name = path.name.removesuffix(path.suffix)
                if path.suffix == ".tmp" or (path.suffix == ".copy" and (self._out / name).exists()):
                    path.unlink()
                elif path.suffix == ".copy":
                    path.rename(self._place / (name.removesuffix(Suffix.WAITING) + Suffix.CLAIMED))

    def bring_back(self, custody: Custody) -> list[tuple[QueueFile, int]]:
        """As many as there is room for, oldest first: durably in custody. Returns each with its size in bytes."""
        back: list[tuple[QueueFile, int]] = []
        for path in self.entries():
            file = parse_name(path.name)
            assert isinstance(file, QueueFile), path
            try:
                content, status = read_regular(path, DEFAULT_MAX_BYTES, follow=False), path.stat()
                taken = custody.take_in(file, content, status)
            except CustodyRefused:
                break
            with refusing(f"remove {path}"):
                path.unlink()
                sync_directory(self._place)
            if taken:
                back.append((file, len(content)))
        return back
