"""The ledger's file: created, recognised, brought up to date, and proved durable before it is trusted.

In    a path
Out   a LedgerFile: the lock, a connection that writes and one that reads
Not here  what is in the tables (sqlite.py); when it is committed (group_commit.py)

The lock is a file beside it (PATH.lock, flock): opening and closing the database file itself, even to look at it, would
drop the locks SQLite holds in this process (POSIX fcntl locks; https://www.sqlite.org/howtocorrupt.html §2.2).
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import sqlite3
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from drainer.errors import HaltError, LedgerNotDurable, LedgerUnusable
from drainer.files.access import and_advice
from drainer.files.fsync import make_directories, sync_directory
from drainer.files.regular_file import kind_of, open_regular
from drainer.ledger.queue_rows import create_first

APPLICATION_ID = 0x6472_6E72  # "drnr"
FILE_MODE = 0o600
PAGE_SIZE = 4096
_LOCK_FLAGS = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_MAGIC = b"SQLite format 3\0"
_DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
_OF_A_DAMAGED_ONE = (
    "right would be to move it away, with its -wal and -shm, and put a backup in its place, or none; the next start says "
    "what that one does not know, and how to go on (`drainer import-log`, `drainer accept-ledger`)"
)


@dataclass(frozen=True, slots=True)
class Migration:
    """One step of the schema: the number its file name begins with, and its statements."""

    number: int
    statements: tuple[str, ...]


@dataclass(slots=True)
class LedgerFile:
    """Both connections are in autocommit mode and may be used from any thread, by one thread at a time each."""

    path: Path
    writer: sqlite3.Connection
    reader: sqlite3.Connection
    lock_fd: int
    inode: tuple[int, int]

    @property
    def is_in_place(self) -> bool:
        """Whether the open file still has its name: it was neither deleted nor replaced."""
        try:
            return _inode(self.path) == self.inode
        except OSError:
            return False

    def close(self) -> None:
        """Fold the write-ahead log into the file and let go of it. A file that lost its name is written anew first.

        Raises LedgerUnusable: that failed, or its name is taken; the text says where what it held is
        """
        saved = None if self.is_in_place else self._save()
        try:
            self.reader.close()
            self.writer.close()  # removes the -wal and -shm of that name, so they cannot be taken for another file's
            if saved is not None:
                self._put_back(saved)
        finally:
            os.close(self.lock_fd)

    def _save(self) -> Path:
        """All that was committed, in a new file beside it, durably."""
        saved = self.path.with_name(f"{self.path.name}.saved-{os.getpid()}")
        try:
            make_directories(saved.parent, 0o750)
            _create_if_missing(saved)
            self.writer.execute("VACUUM INTO ?", (os.fspath(saved),))
            _sync(saved)
        except (OSError, sqlite3.Error, HaltError) as exc:
            raise LedgerUnusable(f"{self.path} lost its name while in use, and cannot be written anew: {exc}") from exc
        return saved

    def _put_back(self, saved: Path) -> None:
        try:
            os.link(saved, self.path)
        except OSError as exc:
            raise LedgerUnusable(
                f"{self.path} was replaced while in use: what was written down since is in {saved}; right would be to put "
                "that in its place before the next start"
            ) from exc
        saved.unlink()
        sync_directory(self.path.parent)


def open_ledger_file(path: Path, now_s: float, *, is_alone: bool = True) -> LedgerFile:
    """Open or create the ledger at `path`.

    now_s     written as the beginning of the drain when the file is new
    is_alone  False: drainers of other queues may have it open too, all of them so
    Raises  LedgerUnusable: in use by another process, not a ledger, damaged, of a newer version, or a setting that
            durability rests on did not take; LedgerNotDurable: cannot be created or written
    """
    path = path.absolute()
    lock_fd = _lock(path, is_alone)
    try:
        _create_if_missing(path)
        writer = _connect(path)
        try:
            _prepare(writer, path, now_s)
            reader = open_reader(path)
            inode = _inode(path)
        except BaseException:
            writer.close()
            raise
    except sqlite3.Error as exc:
        os.close(lock_fd)
        raise translated(exc, path) from exc
    except BaseException:
        os.close(lock_fd)
        raise
    return LedgerFile(path, writer, reader, lock_fd, inode)


def open_reader(path: Path) -> sqlite3.Connection:
    """A further connection to an open ledger, that cannot write."""
    reader = _connect(path)
    reader.execute("PRAGMA query_only = ON")
    return reader


def translated(exc: sqlite3.Error, path: Path) -> HaltError:
    """What SQLite's error means to the caller: damaged for good, or not to be written at the moment."""
    code = getattr(exc, "sqlite_errorcode", None)
    if code is not None and code & 0xFF in _DAMAGED:
        return LedgerUnusable(f"{path} is damaged: {exc}; {_OF_A_DAMAGED_ONE}")
    return LedgerNotDurable(f"cannot write {path}: {exc}{_no_space_hint(path)}")


def _no_space_hint(path: Path) -> str:
    """SQLite says "unable to open database file" where there is no inode for the files beside it."""
    with contextlib.suppress(OSError):
        there = os.statvfs(path.parent)
        if there.f_files and not there.f_favail:
            return f"; the filesystem of {path.parent} has no free inode"
        if not there.f_bavail:
            return f"; the filesystem of {path.parent} has no free byte"
    return ""


def require_pragma(connection: sqlite3.Connection, name: str, value: str | int, expected: str | int) -> None:
    """Set a pragma and read it back. Raises LedgerUnusable if it did not take."""
    connection.execute(f"PRAGMA {name} = {value}").fetchall()
    (taken,) = connection.execute(f"PRAGMA {name}").fetchone()
    if taken != expected:
        raise LedgerUnusable(f"SQLite's {name} is {taken!r} instead of {expected!r}: the ledger would not be durable")


def migrations() -> list[Migration]:
    """Every migration, in order. Source: drainer/ledger/migrations/NNNN_name.sql"""
    found = [
        Migration(int(file.name.partition("_")[0]), tuple(_statements(file.read_text("utf-8"))))
        for file in files("drainer.ledger").joinpath("migrations").iterdir()
        if file.name.endswith(".sql")
    ]
    return sorted(found, key=lambda migration: migration.number)


def migrate(connection: sqlite3.Connection, steps: list[Migration], path: Path) -> int:
    """Apply the migrations the file has not seen, each in a transaction of its own. Returns how many.

    Raises LedgerUnusable if the file was written by a newer version
    """
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    newest = steps[-1].number
    if version > newest:
        raise LedgerUnusable(
            f"{path} was written by a newer drainer (schema {version}, this one knows {newest}):"
            " upgrade, or use another file"
        )
    pending = [step for step in steps if step.number > version]
    for step in pending:
        connection.execute("BEGIN IMMEDIATE")
        try:
            for statement in step.statements:
                connection.execute(statement)
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {step.number}")
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
    return len(pending)


def _inode(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_dev, status.st_ino


def _sync(path: Path) -> None:
    with open_regular(path) as file:
        os.fsync(file.fileno())
    sync_directory(path.parent)


def _statements(script: str) -> list[str]:
    statements, current = [], ""
    for line in script.splitlines(keepends=True):
        current += line
        if sqlite3.complete_statement(current):
            statements.append(current.strip())
            current = ""
    return statements


def _lock(path: Path, is_alone: bool) -> int:
    lock_path = path.with_name(path.name + ".lock")
    try:
        lock_fd = os.open(lock_path, _LOCK_FLAGS, FILE_MODE)
    except OSError as exc:
        what = "cannot create"
        with contextlib.suppress(OSError):
            if kind := kind_of(lock_path.lstat().st_mode):
                what = f"there is {kind}, and no regular file: move it away; cannot open"
        advice = and_advice(path.parent, writing=True)
        raise LedgerNotDurable(f"{what} {lock_path}: {exc.strerror}{advice}") from exc
    if kind := kind_of(os.fstat(lock_fd).st_mode):
        os.close(lock_fd)
        raise LedgerUnusable(f"{lock_path} is {kind}; right would be to move it away")
    if os.fstat(lock_fd).st_uid == os.geteuid():
        os.fchmod(lock_fd, FILE_MODE)
    try:
        fcntl.flock(lock_fd, (fcntl.LOCK_EX if is_alone else fcntl.LOCK_SH) | fcntl.LOCK_NB)
    except OSError as exc:
        os.close(lock_fd)
        if exc.errno in {errno.EAGAIN, errno.EACCES}:
            raise LedgerUnusable(f"{path} is in use by another drainer (it holds {lock_path})") from exc
        raise LedgerUnusable(f"{lock_path} cannot be locked: {exc.strerror}") from exc
    return lock_fd


def _create_if_missing(path: Path) -> None:
    """An empty file of the right mode, whatever the umask; SQLite gives its -wal and -shm the same."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, FILE_MODE)
    except FileExistsError:
        _require_sqlite(path)
        return
    except OSError as exc:
        raise LedgerNotDurable(f"cannot create {path}: {exc.strerror}") from exc
    os.fchmod(fd, FILE_MODE)
    os.close(fd)
    # SQLite syncs the directory when it makes its log; by then the file has to be there to be found beside it.
    sync_directory(path.parent)


def _require_sqlite(path: Path) -> None:
    try:
        with open_regular(path) as file:
            start = file.read(len(_MAGIC))
    except OSError as exc:
        raise LedgerNotDurable(f"cannot read {path}: {exc.strerror}{and_advice(path, writing=True)}") from exc
    if start and start != _MAGIC:
        raise LedgerUnusable(f"{path} is not a drainer ledger (not even a SQLite file), or it is damaged")


def _connect(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(path, isolation_level=None, check_same_thread=False, cached_statements=256, timeout=5.0)


def _prepare(writer: sqlite3.Connection, path: Path, now_s: float) -> None:
    (application_id,) = writer.execute("PRAGMA application_id").fetchone()
    (objects,) = writer.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if application_id != APPLICATION_ID and (objects or application_id):
        raise LedgerUnusable(f"{path} is a SQLite file, but not a drainer ledger: use another path")
    if application_id != APPLICATION_ID:
        writer.execute(f"PRAGMA page_size = {PAGE_SIZE}")
    require_pragma(writer, "journal_mode", "WAL", "wal")
    # FULL, not NORMAL: in WAL mode only FULL syncs each commit (https://www.sqlite.org/pragma.html#pragma_synchronous).
    require_pragma(writer, "synchronous", "FULL", 2)
    # FAST (2): freed pages are not written a second time only to clear them; Debian's SQLite would by default.
    require_pragma(writer, "secure_delete", "FAST", 2)
    (verdict,) = writer.execute("PRAGMA quick_check(1)").fetchone()
    if verdict != "ok":
        raise LedgerUnusable(f"{path} is damaged: {verdict}; {_OF_A_DAMAGED_ONE}")
    migrate(writer, migrations(), path)
    create_first(writer, now_s)
