"""The place where custody works: our directories in Mailman's queue_dir, and the lock that makes them ours.

In    Mailman's queue_dir, and the names of the queues entries are taken from
Out   the directories, made and locked; the moment from which mail counts as fresh; which ledger belongs here
Raises    CustodyRefused, with what would be right
Not here  moving an entry (moves.py, custody.py)

    drainer/            0770, group of queue_dir, on the filesystem of out/ so that every move is one rename
      lock              flock'ed by the drainer at work; holds its pid, and the stamp of the ledger that belongs here
      cutoff            scope "backlog" only: its mtime is when the drain began
      backlog/          taken: waiting, deferred, in delivery; .bak until the ledger has it as in doubt
      held/             set aside for a person
      duplicates/       suppressed or dropped; goes after `duplicates.keep`
      *.tmp             half-written rewrites; removed at the next start
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import math
import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Literal

from drainer.errors import CustodyRefused
from drainer.files.access import advice_for, and_advice
from drainer.files.fsync import sync_directory
from drainer.files.regular_file import DIRECTORY, kind_of
from drainer.queuedir.filebase import HOME_QUEUE
from drainer.queuedir.queue_names import MAILMAN_QUEUES
from drainer.queuedir.scan import CUSTODY_DIRECTORY, QueueScan

Scope = Literal["all", "backlog"]

_MODE = 0o770
_FILE_MODE = 0o660
_PROBE = ".drainer-probe"
_PID_LINE = b"%10d\n"
_LOCK_BYTES = 128


class Premises:
    """`check` changes nothing. `prepare` takes the lock, `close` gives it up.

    queues  names of Mailman's queues taken from, "out" first
    scope   "all", or "backlog": only what was written before the drain began
    """

    def __init__(self, queue_dir: Path, queues: Sequence[str] = (HOME_QUEUE,), scope: Scope = "all") -> None:
        self.queue_dir = queue_dir
        self.queues = tuple(queues)
        self.home = queue_dir / CUSTODY_DIRECTORY
        self.backlog = self.home / "backlog"
        self.held = self.home / "held"
        self.duplicates = self.home / "duplicates"
        self.bad = queue_dir / "bad"
        self._scope = scope
        self._lock_fd: int | None = None
        self._cutoff_s: float | None = None

    @property
    def own_directories(self) -> tuple[Path, ...]:
        """The directories that are ours, each after the one it lies in."""
        return self.home, self.backlog, self.held, self.duplicates

    def check(self) -> None:
        """Look whether custody is possible; change nothing. Raises CustodyRefused with what would be right."""
        self._check_queue_dir()
        self._check_own_directories()
        self._check_filesystem()

    def _check_queue_dir(self) -> None:
        if advice_for(self.queue_dir):  # it cannot even be looked at
            raise CustodyRefused(_cannot_write(self.queue_dir))
        if not self.queue_dir.is_dir():
            raise CustodyRefused(
                f"queue_dir {self.queue_dir} does not exist or is no directory; right would be the directory that holds "
                "Mailman's out/, such as /var/lib/mailman3/queue or /var/lib/mailman/qfiles"
            )
        present = {name for name in MAILMAN_QUEUES if (self.queue_dir / name).is_dir()}
        if HOME_QUEUE not in present or len(present) < 2:
            raise CustodyRefused(
                f"queue_dir {self.queue_dir} is not a Mailman queue directory (it has {listed_names(present)}); right would "
                f"be the directory that holds out/, bad/, shunt/ and the others{self._queue_dir_nearby()}"
            )
        for name in self.queues:
            if name not in present:
                raise CustodyRefused(
                    f"custody.queues names {name!r}, but {self.queue_dir / name} is no directory; right would be to "
                    f"leave it out, or to start Mailman once so that it makes it"
                )

    def _queue_dir_nearby(self) -> str:
        """Where the queue directory is, if the setting names one of its queues, or the directory above it."""
        nearby = ""
        if self.queue_dir.name in MAILMAN_QUEUES and (self.queue_dir.parent / HOME_QUEUE).is_dir():
            nearby = f": {self.queue_dir.parent}"
        for below in ("queue", "qfiles"):  # Mailman's var directory, or the home of 2.1
            if (self.queue_dir / below / HOME_QUEUE).is_dir():
                nearby = f": {self.queue_dir / below}"
        return nearby

    def _check_own_directories(self) -> None:
        for directory in self.own_directories:
            with contextlib.suppress(FileNotFoundError):
                if (kind := kind_of(directory.lstat().st_mode)) != DIRECTORY:
                    raise CustodyRefused(
                        f"{directory} is {kind or 'a file'} and no directory: entries would lie where somebody else may "
                        "write, or nowhere; right would be to move it away, and to let drainer make a directory there"
                    )

    def _check_filesystem(self) -> None:
        """Every directory that entries move between can be written, and lies on one filesystem."""
        ours = self.home if self.home.exists() else self.queue_dir
        queues = (name for name in dict.fromkeys((*self.queues, "bad", "retry")) if (self.queue_dir / name).exists())
        touched = [self.queue_dir, *(self.queue_dir / name for name in queues)]
        for directory in [*touched, *(own for own in self.own_directories if own.exists())]:
            if not os.access(directory, os.R_OK | os.W_OK | os.X_OK, effective_ids=True):
                raise CustodyRefused(_cannot_write(directory))
            if _other_filesystem(directory, ours):
                raise CustodyRefused(
                    f"{directory} is on another filesystem (or mount) than {self.home} is or would be, so entries cannot "
                    "be moved by one rename; right would be one filesystem for the whole queue_dir, or a queue_dir "
                    "without symbolic links and mounts in it"
                )

    def prepare(self) -> None:
        """Check, make our directories, take the lock, clear away half-written rewrites, draw the cut-off line.

        Raises  CustodyRefused. It names the pid if a second drainer works here. At the first start on a full disk there
                is no room for the directories: entries can make room (loan.py)
        """
        self.check()
        status = self.queue_dir.stat()
        with refusing(f"make {self.home} (it needs five free inodes, once)"):
            for directory in self.own_directories:
                _make_directory(directory, status)
            # An entry synced into backlog/ is lost with backlog/ itself, if that or drainer/ was never synced. Synced even
            # if nothing was made now: an earlier start may have been killed between making and syncing.
            sync_directory(self.home)
            sync_directory(self.queue_dir)
        self._take_lock()
        try:
            for left in self.home.glob("*.tmp"):
                left.unlink()
            self._draw_cutoff()
        except OSError as exc:
            self.close()
            raise CustodyRefused(f"cannot prepare {self.home}: {exc.strerror}") from exc

    @property
    def are_locked(self) -> bool:
        """Whether they are ours: between `prepare` and `close`."""
        return self._lock_fd is not None

    def close(self) -> None:
        """Let another drainer have the queue."""
        if self._lock_fd is not None:
            os.close(self._lock_fd)
            self._lock_fd = None

    @property
    def has_entries(self) -> bool:
        """Whether anything lies in backlog/ or held/."""
        return any(next(iter(QueueScan(directory)), None) is not None for directory in (self.backlog, self.held))

    def ledger_stamp(self) -> str:
        """The stamp that `stamp_ledger` wrote last; "": none."""
        lines = os.pread(self._locked(), _LOCK_BYTES, 0).decode("ascii", "replace").split("\n")
        return lines[1].strip() if len(lines) > 1 else ""

    def stamp_ledger(self, stamp: str) -> None:
        """Write, durably and in place, which ledger belongs to this queue. Raises CustodyRefused."""
        with refusing(f"write {self.home / 'lock'}"):
            os.pwrite(self._locked(), _PID_LINE % os.getpid() + stamp.encode("ascii") + b"\n", 0)
            os.fdatasync(self._locked())
            sync_directory(self.home)  # the lock may be new: without its name no old ledger is recognised

    @property
    def wanted_until_s(self) -> float:
        """Mail written later is not taken (scope "backlog"); seconds since the epoch."""
        return math.inf if self._cutoff_s is None else self._cutoff_s

    def end_drain(self) -> None:
        """Scope "backlog": the drain is done, so that the next start draws a new cut-off line."""
        (self.home / "cutoff").unlink(missing_ok=True)

    def _locked(self) -> int:
        assert self._lock_fd is not None, "used before prepare()"
        return self._lock_fd

    def _take_lock(self) -> None:
        lock = self.home / "lock"
        with refusing(f"open {lock}"):
            _touch(lock, self.home.stat())
            if kind := kind_of(lock.lstat().st_mode):
                raise CustodyRefused(f"{lock} is {kind}; right would be to move it away")
            fd = os.open(lock, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            holder = os.pread(fd, 32, 0).partition(b"\n")[0].strip().decode("ascii", "replace") or "unknown"
            os.close(fd)
            raise CustodyRefused(
                f"another drainer (pid {holder}) already works on {self.queue_dir}; right would be to leave it to that one "
                "(drainer status), or to stop it first"
            ) from exc
        with contextlib.suppress(OSError):  # the pid is for people only, and a full disk may refuse it
            os.pwrite(fd, _PID_LINE % os.getpid(), 0)
        self._lock_fd = fd

    def _draw_cutoff(self) -> None:
        """The line is the mtime of a file, which the queue's own filesystem sets: mail is compared with the same clock."""
        marker = self.home / "cutoff"
        if self._scope == "all":
            marker.unlink(missing_ok=True)
            self._cutoff_s = None
            return
        if not marker.exists():
            _touch(marker, self.home.stat())
        self._cutoff_s = marker.stat().st_mtime
        sync_directory(self.home)


@contextlib.contextmanager
def refusing(what: str) -> Iterator[None]:
    """Translates what the filesystem refuses into CustodyRefused: "cannot <what>: ..."."""
    try:
        yield
    except OSError as exc:
        raise CustodyRefused(f"cannot {what}: {exc.strerror or exc}") from exc


def listed_names(names: Iterable[str]) -> str:
    """Names of queues, for a sentence."""
    return ", ".join(sorted(names)) or "none of Mailman's queues"


def _cannot_write(directory: Path) -> str:
    advice = and_advice(directory, writing=True, of_mailman=True)
    return f"{directory} cannot be written by user {os.geteuid()}{advice}"


def _other_filesystem(directory: Path, ours: Path) -> bool:
    """Whether a rename from one to the other is impossible. Asked by renaming a name that is not there: the kernel
    compares the mounts before it looks the name up. This also finds one filesystem that is mounted twice, which st_dev
    does not show.
    """
    try:
        (directory / _PROBE).rename(ours / _PROBE)
    except OSError as exc:
        return exc.errno == errno.EXDEV or directory.stat().st_dev != ours.stat().st_dev
    return False


def _make_directory(directory: Path, beside: os.stat_result) -> None:
    """A directory of ours, 0770 whatever the umask, in the group of queue_dir (and its owner's, if we are root)."""
    with contextlib.suppress(FileExistsError):
        directory.mkdir(_MODE)
    status = directory.stat()
    owner = beside.st_uid if os.geteuid() == 0 else status.st_uid
    if (status.st_uid, status.st_gid) != (owner, beside.st_gid):
        os.chown(directory, owner, beside.st_gid)
    if stat.S_IMODE(status.st_mode) != _MODE:
        directory.chmod(_MODE)


def _touch(path: Path, beside: os.stat_result) -> None:
    """An empty file of ours if there is none, 0660 whatever the umask, in the group of our directory (and its owner's, if
    we are root)."""
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _FILE_MODE)
    except FileExistsError:
        return
    try:
        os.fchown(fd, beside.st_uid if os.geteuid() == 0 else -1, beside.st_gid)
        os.fchmod(fd, _FILE_MODE)
    finally:
        os.close(fd)
