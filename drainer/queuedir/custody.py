"""Custody of queue entries: the only code that renames or unlinks there.

In    Mailman's queue_dir, entries by name
Out   the same files, moved: taken, held, suppressed, handed back, preserved as bad, finished
Refuses to know  why; the callers decide, this keeps every file whole

    drainer/            0770, group of queue_dir, on the filesystem of out/ so that every move is one rename
      lock              flock'ed by the drainer at work; holds its pid, and the mark of the ledger that belongs here
      cutoff            scope "backlog" only: its mtime is when the drain began
      backlog/          taken: waiting, deferred, in delivery; .bak until the ledger has it as in doubt
      held/             set aside for a person
      duplicates/       suppressed or dropped; goes after `duplicates.keep`
      *.tmp             half-written rewrites; removed at the next start

INVARIANT one-owner: an entry has one name, in one directory, at every moment.
  Each move is one rename(2): atomic, no new inode, no data block (the directory may have to grow, and if it cannot the
  entry stays where it was). Whoever renames first owns the entry; the other gets ENOENT.
INVARIANT never-overwrite: rename(2) would replace an existing name silently, so each move looks first.
  The look can be trusted in backlog/, held/ and duplicates/: names appear there only by the process that holds the
  flock on drainer/lock, in one thread. In out/, retry/ and bad/ Mailman makes new names from the present time and a
  SHA-1 of the content, never one of ours; what remains is a person copying the very same name there in the same
  microseconds. Two names of one inode (a hard-linked restore): rename(2) does nothing and reports success, so the
  superfluous name is unlinked instead.
INVARIANT durable-where-told: renames are lost together with the directory's cache at power failure unless `sync` ran.
  A lost `take`: the entry is back in out/, and Mailman's runner may deliver it. So sync before a taken entry's first
  attempt. A lost `hand_back`: Mailman may have delivered what is ours again. So sync at once, before anything else is
  reported. A lost hold, release, suppress, restore: the entry is in backlog/ or held/ as before; the ledger knows its
  holds and settled recipients, and the next start moves it again. A lost `finish`: the ledger has every recipient
  settled and the entry is finished again. These need no sync.
Held by tests/queuedir/test_custody.py and test_custody_crash.py.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import math
import os
import stat
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import count
from pathlib import Path
from typing import Literal, Self

from drainer.clock import Clock
from drainer.errors import CustodyRefused, EntryVanished
from drainer.files.access import advice_for, and_advice
from drainer.files.fsync import sync_directory
from drainer.files.regular_file import DIRECTORY, kind_of
from drainer.queuedir.filebase import (
    HOME_QUEUE,
    QUEUE_MARK,
    QueueFile,
    Suffix,
    custody_filebase,
    mailman_filebase,
    parse_name,
    queue_of,
    renamed_filebase,
)
from drainer.queuedir.scan import CUSTODY_DIRECTORY, ListedFile, QueueScan

MAILMAN_QUEUES = frozenset(
    {
        "archive", "bad", "bounces", "command", "commands", "digest", "in", "news", "nntp", "out", "pipeline", "retry",
        "shunt", "virgin",
    }
)  # fmt: skip
"""Queues of Mailman 2.1 and 3. A directory with out/ and at least one other of these is a Mailman queue directory."""

_MODE = 0o770
_FILE_MODE = 0o660
_PROBE = ".drainer-probe"
_PID_LINE = b"%10d\n"
_LOCK_BYTES = 128
_SUFFIXES = tuple(suffix.value for suffix in Suffix)


class Custody:
    """One queue_dir's entries in our hands. `prepare` before anything else; `close` gives up the lock, not the entries
    (a `with` block does both).

    queues  names of Mailman's queues taken from, "out" first
    scope   "all", or "backlog": only what was written before the drain began
    bak_age_s  a .bak that was claimed longer ago than this is taken if no runner of its queue lives
    step    called with a name between two steps of a move; tests kill the process there
    Every method raises EntryVanished if the entry is not where it should be, and CustodyRefused if the filesystem
    refuses (no space to grow a directory, read-only, no permission): then nothing has moved. `take` refused for want of
    space is no reason to stop: each entry finished makes room for more. (ext4 with not one block free let 16 of 200
    entries in, and 129 more after those were finished; tmpfs, whose directories take no blocks, let all in.)
    """

    def __init__(
        self,
        queue_dir: Path,
        *,
        clock: Clock,
        queues: Sequence[str] = (HOME_QUEUE,),
        scope: Literal["all", "backlog"] = "all",
        bak_age_s: float = 3600.0,
        step: Callable[[str], None] = lambda name: None,
    ) -> None:
        self.queue_dir = queue_dir
        self.queues = tuple(queues)
        self.home = queue_dir / CUSTODY_DIRECTORY
        self.backlog = self.home / "backlog"
        self.held = self.home / "held"
        self.duplicates = self.home / "duplicates"
        self.bad = queue_dir / "bad"
        self._scope = scope
        self._bak_age_s = bak_age_s
        self._clock = clock
        self._step = step
        self._lock_fd: int | None = None
        self._cutoff_s: float | None = None
        self._unsynced: dict[str, None] = {}
        self._syncing = threading.Lock()

    def reconfigure(self, bak_age_s: float) -> None:
        """Settings read again."""
        self._bak_age_s = bak_age_s

    def __enter__(self) -> Self:
        self.prepare()
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def check(self) -> None:
        """Look whether custody is possible; change nothing. Raises CustodyRefused with what would be right."""
        if advice_for(self.queue_dir):  # it cannot even be looked at
            raise CustodyRefused(self._cannot_write(self.queue_dir))
        if not self.queue_dir.is_dir():
            raise CustodyRefused(
                f"queue_dir {self.queue_dir} does not exist or is no directory; right would be the directory that holds "
                "Mailman's out/, such as /var/lib/mailman3/queue or /var/lib/mailman/qfiles"
            )
        present = {name for name in MAILMAN_QUEUES if (self.queue_dir / name).is_dir()}
        if HOME_QUEUE not in present or len(present) < 2:
            hint = ""
            if self.queue_dir.name in MAILMAN_QUEUES and (self.queue_dir.parent / HOME_QUEUE).is_dir():
                hint = f": {self.queue_dir.parent}"
            for below in ("queue", "qfiles"):  # Mailman's var directory, or the home of 2.1
                if (self.queue_dir / below / HOME_QUEUE).is_dir():
                    hint = f": {self.queue_dir / below}"
            raise CustodyRefused(
                f"queue_dir {self.queue_dir} is not a Mailman queue directory (it has {_listed(present)}); right would "
                f"be the directory that holds out/, bad/, shunt/ and the others{hint}"
            )
        for name in self.queues:
            if name not in present:
                raise CustodyRefused(
                    f"custody.queues names {name!r}, but {self.queue_dir / name} is no directory; right would be to "
                    f"leave it out, or to start Mailman once so that it makes it"
                )
        for directory in (self.home, self.backlog, self.held, self.duplicates):
            with contextlib.suppress(FileNotFoundError):
                if (kind := kind_of(directory.lstat().st_mode)) != DIRECTORY:
                    raise CustodyRefused(
                        f"{directory} is {kind or 'a file'} and no directory: entries would lie where somebody else may "
                        "write, or nowhere; right would be to move it away, and to let drainer make a directory there"
                    )
        ours = self.home if self.home.exists() else self.queue_dir
        touched = [self.queue_dir, *(self.queue_dir / name for name in self._touched_queues())]
        for directory in [*touched, *(d for d in (self.home, self.backlog, self.held, self.duplicates) if d.exists())]:
            if not os.access(directory, os.R_OK | os.W_OK | os.X_OK, effective_ids=True):
                raise CustodyRefused(self._cannot_write(directory))
            if _other_filesystem(directory, ours):
                raise CustodyRefused(
                    f"{directory} is on another filesystem (or mount) than {self.home} is or would be, so entries cannot "
                    "be moved by one rename; right would be one filesystem for the whole queue_dir, or a queue_dir "
                    "without symbolic links and mounts in it"
                )

    @staticmethod
    def _cannot_write(directory: Path) -> str:
        advice = and_advice(directory, writing=True, of_mailman=True)
        return f"{directory} cannot be written by user {os.geteuid()}{advice}"

    def prepare(self) -> None:
        """Check, make our directories, take the lock, clear away half-written rewrites, draw the cut-off line.

        Raises  CustodyRefused, naming the pid if a second drainer works here; for want of space, at the first start on a
                full disk, entries make room (loan.py)
        """
        self.check()
        status = self.queue_dir.stat()
        with refusing(f"make {self.home} (it needs five free inodes, once)"):
            for directory in (self.home, self.backlog, self.held, self.duplicates):
                _make_directory(directory, status)
            # An entry synced into backlog/ is lost with backlog/ itself, if that or drainer/ was never synced. Also when
            # nothing was made now: whoever made them may have been killed before this.
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

    def close(self) -> None:
        """Make moves durable and let another drainer have the queue."""
        if self._lock_fd is not None:
            self.sync()
            os.close(self._lock_fd)
            self._lock_fd = None

    @property
    def has_entries(self) -> bool:
        """Whether anything lies in backlog/ or held/."""
        return any(next(iter(QueueScan(directory)), None) is not None for directory in (self.backlog, self.held))

    def ledger_mark(self) -> str:
        """What was written there last by `mark_ledger`; "": nothing."""
        lines = os.pread(self._locked(), _LOCK_BYTES, 0).decode("ascii", "replace").split("\n")
        return lines[1].strip() if len(lines) > 1 else ""

    def mark_ledger(self, mark: str) -> None:
        """Write, durably and in place, which ledger belongs to this queue. Raises CustodyRefused."""
        with refusing(f"write {self.home / 'lock'}"):
            os.pwrite(self._locked(), _PID_LINE % os.getpid() + mark.encode("ascii") + b"\n", 0)
            os.fdatasync(self._locked())
            sync_directory(self.home)  # the lock's name, which may be as new; without it no old ledger is recognised

    def _locked(self) -> int:
        assert self._lock_fd is not None, "used before prepare()"
        return self._lock_fd

    def end_drain(self) -> None:
        """Scope "backlog": the drain is done, so that the next start draws a new cut-off line."""
        (self.home / "cutoff").unlink(missing_ok=True)

    def sync(self) -> None:
        """Make all moves so far survive a power failure: fsync of each directory that changed, destinations first (a
        filesystem that orders nothing may then show an entry twice, as one inode, but never not at all).

        May be called in threads: what was moved before a call is durable when that call returns, whoever does it.
        Raises CustodyRefused: some of it is not durable yet; the next call tries again
        """
        with self._syncing:
            self._sync()

    def _sync(self) -> None:
        moved, self._unsynced = self._unsynced, {}
        directories = list(moved)
        while directories:
            try:
                with refusing(f"make moves in {directories[0]} durable"):
                    sync_directory(directories[0])
            except CustodyRefused:
                self._unsynced = {**dict.fromkeys(directories), **self._unsynced}
                raise
            directories.pop(0)

    @property
    def wanted_until_s(self) -> float:
        """What was written later is not taken (scope "backlog")."""
        return math.inf if self._cutoff_s is None else self._cutoff_s

    def wants(self, queue: str, listed: ListedFile, runner_lives: bool) -> bool:
        """Whether an entry of Mailman's is to be taken.

        runner_lives  a Mailman runner that works this queue lives, or it cannot be told that none does

        Scope "backlog" goes by time, not by a list of names: wanted is what was written no later than drainer/cutoff,
        whose own mtime was set by the same filesystem when the drain began. That holds across restarts, needs no
        space, and takes in a backup restored with its old times; mail that Mailman writes later is newer.
        """
        if queue not in self.queues:
            return False
        if listed.written_s > self.wanted_until_s:
            return False
        if listed.file.suffix is Suffix.CLAIMED:
            return not runner_lives and self._clock.now_s() - listed.changed_s >= self._bak_age_s
        return listed.file.suffix is Suffix.WAITING

    def take(self, queue: str, file: QueueFile) -> QueueFile:
        """Make an entry of Mailman's ours; the caller has asked `wants`. Sync before its first attempt.

        Returns  its name in drainer/backlog/: its own, or another with the same time if that is in use there. From
                 retry/ it carries the queue's name. A .bak from out/ is still a .bak: its recipients are in doubt until
                 the ledger says so (promote_bak). A .bak from retry/ is a .pck: RetryRunner delivers to nobody
        Raises   EntryVanished: somebody else took it, or it was a second name of a file already ours
        """
        # Names are put together as text here and below: for 100,000 entries Path objects took twice as long as the renames.
        source = f"{self.queue_dir}/{queue}/{file.filebase}{file.suffix}"
        suffix = file.suffix if queue == HOME_QUEUE else Suffix.WAITING
        for filebase in _names_for(file.filebase, queue):
            known = self._in_custody(filebase)
            if known is None:
                # INVARIANT take: one rename makes the entry ours.
                #   Crash before: it is in out/, Mailman's. Crash after: it is in backlog/ and found at the next start.
                self._rename(source, f"{self.backlog}/{filebase}{suffix}")
                return QueueFile(file.when_s, filebase, suffix)
            if _same_file(known, source):
                self._unlink(source)
                raise EntryVanished(f"{source} was a second name of {known}, which is in custody already")
        raise AssertionError("unreachable: there is always another name")

    def take_in(self, file: QueueFile, content: bytes, like: os.stat_result) -> bool:
        """An entry that lay elsewhere is in backlog/, durably. Returns False if its name is in custody already.

        like    whose mode, owner and group it gets
        Raises  CustodyRefused when there is no room to write it; nothing half-written is left
        """
        if self._in_custody(file.filebase):
            return False
        written = self.home / f"{mailman_filebase(file.filebase)[:200]}.tmp"
        try:
            with refusing(f"write {written}"):
                write_like(written, content, like)
            self._rename(written, f"{self.backlog}/{file.name}")
        except BaseException:
            written.unlink(missing_ok=True)
            raise
        self.sync()
        return True

    def promote_bak(self, filebase: str) -> None:
        """The ledger has the recipients of a taken .bak in doubt: from now on it is as any entry, in backlog/ or, if an
        operator was faster than the reading of it, in held/.

        Crash before: still .bak at the next start, put in doubt again, which changes nothing. Crash after: the ledger
        was first, so nothing is forgotten. Done already: nothing happens.
        """
        found = self.path(filebase)
        if found.suffix == Suffix.CLAIMED:
            self._rename(found, found.with_suffix(Suffix.WAITING))

    def path(self, filebase: str) -> Path:
        """Where an entry of ours is now: in backlog/, held/ or duplicates/."""
        found = self._in_custody(filebase)
        if found is None:
            raise EntryVanished(f"{filebase} is not in {self.home}")
        return found

    def put_here_s(self, filebase: str) -> float:
        """When its file was last moved, seconds since the epoch: taken, or released from held/. Raises EntryVanished"""
        try:
            return self.path(filebase).stat().st_ctime
        except FileNotFoundError as exc:
            raise EntryVanished(f"{filebase} is not in {self.home}") from exc

    def hold(self, filebase: str) -> str:
        """backlog/ to held/. Returns its filebase, another one only if a person has put that name there by hand; then
        the ledger and the index have to be told. Done already: nothing happens. The same holds for the next four."""
        return self._move(filebase, (self.backlog,), self.held)

    def release(self, filebase: str) -> str:
        """held/ to backlog/."""
        return self._move(filebase, (self.held,), self.backlog)

    def suppress(self, filebase: str) -> str:
        """backlog/ or held/ to duplicates/, where `expire_duplicates` finds it."""
        return self._move(filebase, (self.backlog, self.held), self.duplicates)

    def drop(self, filebase: str) -> str:
        """As suppress: what an operator drops stays on disk as long, so that a person can still have it back."""
        return self.suppress(filebase)

    def restore(self, filebase: str, *, hold: bool = False) -> str:
        """duplicates/ to backlog/, or to held/."""
        return self._move(filebase, (self.duplicates,), self.held if hold else self.backlog)

    def kept(self, filebase: str) -> Path | None:
        """Where an entry is that was suppressed or dropped; None: it is not in duplicates/ (any more)."""
        return self._find(filebase, (self.duplicates,))

    def try_again(self, filebase: str) -> tuple[QueueFile, int]:
        """duplicates/ to backlog/ under another name of the same time, to which nothing in the ledger is final.

        Returns  the new name, and the size in bytes. Raises EntryVanished: not there (any more)
        """
        source = self._find(filebase, (self.duplicates,))
        if source is None:
            raise EntryVanished(f"{filebase} is not in {self.duplicates}")
        name, queue = mailman_filebase(filebase), queue_of(filebase)
        names = (custody_filebase(renamed_filebase(name, f"again {salt}"), queue) for salt in count(1))
        moved = self._move_file(source, self.backlog, names, Suffix.WAITING)
        parsed = parse_name(moved.name)
        assert isinstance(parsed, QueueFile)
        return parsed, moved.stat().st_size

    def finish(self, filebase: str) -> bool:
        """Remove a completed entry; the ledger has every recipient settled. Returns False if it was gone already.

        One that was held may be completed too: copies of it had what it still owed.
        Crash before: it is in backlog/, the ledger says that nobody is owed, it is finished again.
        """
        found = self._find(filebase, (self.backlog, self.held))
        if found is None:
            return False
        self._unlink(found)
        return True

    def expire_duplicates(self, keep_s: float, limit: int = 1000) -> int:
        """Remove what was moved to duplicates/ longer than keep_s ago (by ctime, which a rename sets).

        limit    most removed in one call, so that it stays short
        Returns  how many were removed
        """
        removed = 0
        now_s = self._clock.now_s()
        with refusing(f"clear {self.duplicates} of what is too old"):
            for listed in QueueScan(self.duplicates):
                if now_s - listed.changed_s > keep_s:
                    with contextlib.suppress(EntryVanished):  # a person cleared away there too
                        self._unlink(self.duplicates / listed.file.name)
                    removed += 1
                    if removed == limit:
                        break
        return removed

    def preserve_bad(self, filebase: str) -> Path:
        """An unreadable entry goes to Mailman's bad/ as .psv, as Mailman itself does it. Returns where it is."""
        source = self._find(filebase, (self.backlog, self.held))
        if source is None:
            raise EntryVanished(f"{filebase} is neither in {self.backlog} nor in {self.held}")
        return self._move_file(source, self.bad, _names_for(mailman_filebase(filebase), HOME_QUEUE), Suffix.PRESERVED)

    def hand_back(self, filebase: str, queue: str = "") -> Path:
        """Give an entry in backlog/ or held/ back to Mailman, untouched. Sync at once after the last of a batch.

        queue    "": the one it came from; "out" to have Mailman's runner deliver now. An entry of retry/ has a
                 `deliver_after`: in out/, while that lies ahead, the runner writes it anew on every pass, which on a
                 full disk can fail and shunt it
        Returns  where it is: under its old name, or another with the same time if Mailman has that name

        INVARIANT hand-back: one rename makes the entry Mailman's.
          Crash before: it is ours, nothing has changed. Crash after: it is in out/ only; the next start takes it again
          as it takes any entry, and the ledger knows what was settled.
        """
        source = self._find(filebase, (self.backlog, self.held))
        if source is None:
            raise EntryVanished(f"{filebase} is neither in {self.backlog} nor in {self.held}")
        target = queue or queue_of(filebase)
        if not (self.queue_dir / target).is_dir():
            target = HOME_QUEUE
        names = _names_for(mailman_filebase(filebase), HOME_QUEUE)
        return self._move_file(source, self.queue_dir / target, names, Suffix(source.suffix))

    def hand_back_rewritten(self, filebase: str, raw: bytes, queue: str = "") -> Path:
        """Give a part-delivered entry back with its metadata rewritten to the recipients still owed.

        raw      the whole file: message pickle byte for byte, then the new metadata pickle
        Returns  where it is, as hand_back. Raises CustodyRefused when there is no room to write it (an inode and its
                 size are needed for a moment): the entry is unchanged in custody, nothing half-written is left

        INVARIANT rewritten-in-custody: the new file replaces the old one here, before Mailman can see either.
          1 write drainer/FILEBASE.tmp, fsync   Crash: a .tmp, removed at the next start.
          2 rename it over the entry, fsync     Crash: the entry in custody owes exactly whom the ledger says it owes.
          3 hand_back, one rename               Crash: Mailman's alone.
          At no moment can Mailman see one of the two while the other is still ours. Writing the new one into out/ first
          and unlinking the old one after would leave both at a crash, and everybody still owed would get two.
        """
        self.rewrite(filebase, raw)
        return self.hand_back(filebase, queue)

    def rewrite(self, filebase: str, raw: bytes) -> None:
        """The first two of these steps alone, and what they raise: for copies of one mail that go back together."""
        source = self.path(filebase)
        rewritten = self.home / f"{mailman_filebase(filebase)[:200]}.tmp"
        try:
            with refusing(f"write {rewritten}, so {source} stays in custody unchanged"):
                write_like(rewritten, raw, source.stat())
            self._step("rewritten")
            self._rename(rewritten, source)
        except BaseException:
            rewritten.unlink(missing_ok=True)
            raise
        self.sync()
        self._step("replaced")

    def take_back(self, queue: str, file: QueueFile, filebase: str, *, hold: bool = False) -> Path:
        """What was handed back for Mailman to deliver, and was not delivered, becomes ours again under the name it had.

        queue, file  what Mailman has made of it: another name in out/ or shunt/, a .psv in bad/
        filebase     the name it had in custody
        hold         to held/, else to backlog/
        Returns      where it is: a .pck, but a .bak stays one until promote_bak

        Crash before: Mailman has it. Crash after: it is found in custody at the next start, under a name that the ledger
        has an open attempt for.
        """
        if known := self._in_custody(filebase):
            raise CustodyRefused(f"cannot take {file.name} back from {queue}/: {known} is there")
        suffix = Suffix.CLAIMED if file.suffix is Suffix.CLAIMED else Suffix.WAITING
        destination = (self.held if hold else self.backlog) / (filebase + suffix)
        self._rename(self.queue_dir / queue / file.name, destination)
        return destination

    def _move(self, filebase: str, sources: Sequence[Path], destination: Path) -> str:
        source = self._find(filebase, sources)
        if source is None:
            if self._find(filebase, (destination,)):
                return filebase
            raise EntryVanished(f"{filebase} is not in {_listed(d.name + '/' for d in sources)} of {self.home}")
        names = _names_for(mailman_filebase(filebase), queue_of(filebase))
        moved = self._move_file(source, destination, names, Suffix(source.suffix))
        return moved.name.removesuffix(moved.suffix)

    def _move_file(self, source: Path, directory: Path, names: Iterator[str], suffix: Suffix) -> Path:
        for filebase in names:
            known = self._find(filebase, (directory,))
            if known is None:
                destination = directory / (filebase + suffix)
                self._rename(source, destination)
                return destination
            if _same_file(known, source):
                self._unlink(source)
                return known
        raise AssertionError("unreachable: there is always another name")

    def _in_custody(self, filebase: str) -> Path | None:
        return self._find(filebase, (self.backlog, self.held, self.duplicates))

    def _find(self, filebase: str, directories: Sequence[Path]) -> Path | None:
        access = os.access
        for directory in directories:
            path = f"{directory}/{filebase}"
            for suffix in _SUFFIXES:
                if access(path + suffix, os.F_OK, follow_symlinks=False):
                    return Path(path + suffix)
        return None

    def _rename(self, source: Path | str, destination: Path | str) -> None:
        self._step("before rename")
        directory = os.fspath(destination).rpartition("/")[0]
        try:
            os.rename(source, destination)  # noqa: PTH104
        except FileNotFoundError as exc:
            if os.path.lexists(source):
                raise CustodyRefused(f"{directory} is gone; right would be to restart drainer") from exc
            raise EntryVanished(f"{source} was gone when it was to be moved") from exc
        except OSError as exc:
            raise CustodyRefused(f"cannot move {source} to {directory}: {exc.strerror or exc}") from exc
        self._unsynced[directory] = None
        self._unsynced[os.fspath(source).rpartition("/")[0]] = None
        self._step("after rename")

    def _unlink(self, path: Path | str) -> None:
        self._step("before unlink")
        with refusing(f"remove {path}"):
            try:
                os.unlink(path)  # noqa: PTH108
            except FileNotFoundError as exc:
                raise EntryVanished(f"{path} was gone when it was to be removed") from exc
        self._step("after unlink")

    def _touched_queues(self) -> list[str]:
        """The queues entries may be moved from or to."""
        return [name for name in dict.fromkeys((*self.queues, "bad", "retry")) if (self.queue_dir / name).exists()]

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
        with contextlib.suppress(
            OSError
        ):  # the lock is the flock; the pid is for people, and a full disk may refuse it
            os.pwrite(fd, _PID_LINE % os.getpid(), 0)
        self._lock_fd = fd

    def _draw_cutoff(self) -> None:
        marker = self.home / "cutoff"
        if self._scope == "all":
            marker.unlink(missing_ok=True)
            self._cutoff_s = None
            return
        if not marker.exists():
            _touch(marker, self.home.stat())
        self._cutoff_s = marker.stat().st_mtime
        self._unsynced[os.fspath(self.home)] = None
        self.sync()


def _names_for(filebase: str, queue: str) -> Iterator[str]:
    """Names for an entry of a queue, best first: its own, then others with the same time, without end."""
    own = custody_filebase(filebase, queue)
    is_plain = queue == HOME_QUEUE and QUEUE_MARK not in filebase  # as nearly all are
    if is_plain or (queue_of(own) == queue and mailman_filebase(own) == filebase):
        yield own
    for salt in count(1):
        yield custody_filebase(renamed_filebase(filebase, str(salt)), queue)


def _same_file(one: Path, other: Path | str) -> bool:
    try:
        return os.path.samestat(one.lstat(), os.lstat(other))
    except FileNotFoundError:
        return False


def _other_filesystem(directory: Path, ours: Path) -> bool:
    """Whether a rename from one to the other is impossible. Asked by renaming a name that is not there: the kernel
    compares the mounts before it looks the name up (also of one filesystem mounted twice, which st_dev does not show).
    """
    try:
        (directory / _PROBE).rename(ours / _PROBE)
    except OSError as exc:
        return exc.errno == errno.EXDEV or directory.stat().st_dev != ours.stat().st_dev
    return False


def _make_directory(directory: Path, beside: os.stat_result) -> None:
    """Ours, 0770 whatever the umask, in the group of queue_dir (and its owner's, if we are root)."""
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


def write_like(path: Path, content: bytes, original: os.stat_result) -> None:
    """Write and fsync a file with the mode and, as far as permitted, the owner and group of another."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600)
    with os.fdopen(fd, "wb") as file:
        with contextlib.suppress(PermissionError):  # not ours to give away: we own it then, and its group reads it
            os.fchown(fd, -1, original.st_gid)
            os.fchown(fd, original.st_uid, -1)
        os.fchmod(fd, stat.S_IMODE(original.st_mode))
        file.write(content)
        file.flush()
        os.fsync(fd)


@contextlib.contextmanager
def refusing(what: str) -> Iterator[None]:
    """Translates what the filesystem refuses."""
    try:
        yield
    except OSError as exc:
        raise CustodyRefused(f"cannot {what}: {exc.strerror or exc}") from exc


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "none of Mailman's queues"
