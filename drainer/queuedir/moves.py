"""Single moves of queue files, and what makes them last.

In    paths of files, names to give them
Out   the files under other names, or unlinked; directories synced
Raises    EntryVanished if the file is not there; CustodyRefused if the filesystem refuses: then nothing has moved
Not here  which entry moves where (custody.py)

INVARIANT one-owner: an entry has one name, in one directory, at every moment.
  Each move is one rename(2): atomic, no new inode, no data block (the directory may have to grow, and if it cannot the
  entry stays where it was). Whoever renames first owns the entry; the other gets ENOENT.
INVARIANT never-overwrite: rename(2) would replace an existing name silently, so each move looks first.
  The look can be trusted in backlog/, held/ and duplicates/: names appear there only by the process that holds the
  flock on drainer/lock, in one thread. In out/, retry/ and bad/ Mailman makes new names from the present time and a
  SHA-1 of the content, never one of ours. The only risk left is a person who copies the very same name there within the
  same microseconds. `take` looks only into backlog/, where it renames to. Whether the name is in held/ or duplicates/, which
  it keeps from having twice, it mostly knows from a listing (known_names.py). Two names of one inode (a hard-linked
  restore): rename(2) does nothing and reports success, so the superfluous name is unlinked instead.
INVARIANT durable-when-reported: a power failure undoes renames whose directories were not synced.
  A lost `take`: the entry is back in out/, and Mailman's runner may deliver it. So sync before a taken entry's first
  attempt. A lost `hand_back`: the entry is ours again, and Mailman may have delivered it. So sync at once, before anything
  is reported. A lost hold, release, suppress or restore: the entry is in backlog/ or held/ as before; the ledger knows its
  holds and settled recipients, and the next start moves it again. A lost `finish`: the ledger has every recipient
  settled, and the entry is finished again. These need no sync.
Held by tests/queuedir/test_custody.py and test_custody_crash.py.
"""

from __future__ import annotations

import contextlib
import os
import stat
import threading
from collections.abc import Callable, Iterator, Sequence
from itertools import count
from pathlib import Path

from drainer.errors import CustodyRefused, EntryVanished
from drainer.files.fsync import sync_directory
from drainer.queuedir.filebase import (
    HOME_QUEUE,
    QUEUE_MARK,
    Suffix,
    custody_filebase,
    mailman_filebase,
    queue_of,
    renamed_filebase,
)
from drainer.queuedir.premises import refusing

_SUFFIXES = tuple(suffix.value for suffix in Suffix)


class Moves:
    """Remembers which directories changed, until they are synced.

    step  called with a name between two steps of a move; tests kill the process there
    """

    def __init__(self, step: Callable[[str], None]) -> None:
        self._step = step
        self._unsynced: dict[str, None] = {}
        self._syncing = threading.Lock()

    def rename(self, source: Path | str, destination: Path | str) -> None:
        """One rename(2). The caller has looked that `destination` is free."""
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

    def unlink(self, path: Path | str) -> None:
        """Remove one name."""
        self._step("before unlink")
        with refusing(f"remove {path}"):
            try:
                os.unlink(path)  # noqa: PTH108
            except FileNotFoundError as exc:
                raise EntryVanished(f"{path} was gone when it was to be removed") from exc
        self._step("after unlink")

    def move(self, source: str, directory: str, names: Iterator[str], suffix: str) -> str:
        """A file into a directory, under the first of `names` that is free there. A second name of the same file that is
        there already stays, and `source` goes. Returns where the file is."""
        for filebase in names:
            known = find(filebase, (directory,))
            if known is None:
                destination = f"{directory}/{filebase}{suffix}"
                self.rename(source, destination)
                return destination
            if is_same_file(known, source):
                self.unlink(source)
                return known
        raise AssertionError("unreachable: there is always another name")

    def sync(self) -> None:
        """Make all moves so far survive a power failure: fsync of each directory that changed, destinations first. (A
        filesystem that orders nothing may then show an entry twice, as one inode, but it never loses one.)

        May be called in threads: a move made before a call is durable when that call returns, whichever thread synced it.
        Raises CustodyRefused: some of it is not durable yet; the next call tries again
        """
        with self._syncing:
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


def find(filebase: str, directories: Sequence[str]) -> str | None:
    """Where an entry is among these directories, whatever its suffix."""
    access = os.access
    for directory in directories:
        path = f"{directory}/{filebase}"
        for suffix in _SUFFIXES:
            if access(path + suffix, os.F_OK, follow_symlinks=False):
                return path + suffix
    return None


def is_same_file(one: str, other: str) -> bool:
    """Whether both are names of one inode; False if one of them is gone."""
    try:
        return os.path.samestat(os.lstat(one), os.lstat(other))
    except FileNotFoundError:
        return False


def names_for(filebase: str, queue: str) -> Iterator[str]:
    """Names for an entry of a queue, best first: its own, then others with the same time, without end."""
    own = custody_filebase(filebase, queue)
    is_plain = queue == HOME_QUEUE and QUEUE_MARK not in filebase  # as nearly all are
    if is_plain or (queue_of(own) == queue and mailman_filebase(own) == filebase):
        yield own
    for salt in count(1):
        yield custody_filebase(renamed_filebase(filebase, str(salt)), queue)


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
