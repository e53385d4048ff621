"""Opens files that others name or make: regular files only, and nothing that could hang or never end.

In    a path
Out   the file, open for reading; its bytes; or an OSError whose text says what is there instead
Used by  everything that reads a path of Mailman's, of the settings or of a command line. What is opened otherwise, with its
         reason, is listed in tests/files/test_regular_file.py

Opening a FIFO waits for a writer for ever, and our thread with it. Opening a device may already do something. /dev/zero
never ends. So a path is checked before it is opened, opened without waiting, and checked again.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO

_FLAGS = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC

DIRECTORY = "a directory"

_KINDS = {
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFDIR: DIRECTORY,
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


class NotRegular(OSError):
    """The path is no regular file. `strerror` says what it is."""


class TooLarge(OSError):
    """The file is larger than we read. `strerror` says how large."""


def kind_of(mode: int) -> str:
    """What the file type in `st_mode` is called: "a FIFO"; "" for a regular file."""
    return "" if stat.S_ISREG(mode) else _KINDS.get(stat.S_IFMT(mode), "no regular file")


def open_regular(path: Path | str, *, follow: bool = True) -> BinaryIO:
    """A regular file, for reading.

    follow  False: a symbolic link is not followed (its last component; where others may write)
    Raises  NotRegular; OSError as open(2)
    """
    return os.fdopen(_descriptor(path, follow), "rb")


def read_regular(path: Path | str, most_bytes: int, *, follow: bool = True) -> bytes:
    """The bytes of a regular file, as long as it was when opened.

    Raises  NotRegular; TooLarge for one of more than `most_bytes`; OSError as open(2) and read(2)
    """
    descriptor = _descriptor(path, follow)
    try:
        size = os.fstat(descriptor).st_size
        if size > most_bytes:
            raise TooLarge(errno.EFBIG, f"{size} bytes, more than the {most_bytes} that are read", os.fspath(path))
        raw = os.read(descriptor, size)
        while len(raw) < size and (more := os.read(descriptor, size - len(raw))):
            raw += more
        return raw
    finally:
        os.close(descriptor)


def _descriptor(path: Path | str, follow: bool) -> int:
    _require_regular(path, os.stat(path, follow_symlinks=follow))  # noqa: PTH116 - a Path for each of 100,000 entries takes longer
    descriptor = os.open(path, _FLAGS if follow else _FLAGS | os.O_NOFOLLOW)
    try:
        _require_regular(path, os.fstat(descriptor))  # another file may have been put there in between
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _require_regular(path: Path | str, status: os.stat_result) -> None:
    if kind := kind_of(status.st_mode):
        raise NotRegular(errno.EINVAL, f"it is {kind}, not a regular file", os.fspath(path))
