"""Reads one file of a queue directory into a QueueEntry.

In    the path of a .pck or .bak file
Out   the entry, or the named reason why there is none
Refuses to know  what the mail is about, and whose turn it is
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

from drainer.errors import EntryNotUnderstood, EntryTooLarge, EntryVanished
from drainer.pickles.restricted import load_pair
from drainer.queuedir.entry import QueueEntry, entry_from_pickles

DEFAULT_MAX_BYTES = 64 * 2**20
_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def read_entry(path: Path | str, max_bytes: int = DEFAULT_MAX_BYTES) -> QueueEntry:
    """Read and open one queue entry.

    max_bytes  a larger file is not read
    Raises  EntryVanished   the file is gone
            EntryUnreadable, which says whether Mailman could not load it either (`belongs_in_bad`)
            OSError         the file could not be read at all (no permission, I/O error): nothing is known of the entry
    """
    text = os.fspath(path)
    raw = read_file(text, max_bytes)
    filebase = text[text.rfind("/") + 1 :].rpartition(".")[0]
    return entry_from_pickles(filebase, raw, load_pair(raw))


def read_file(path: Path | str, max_bytes: int = DEFAULT_MAX_BYTES) -> bytes:
    """The bytes of a regular file, as long as it was when opened. A symbolic link is not followed, a pipe not waited for.

    Raises  EntryVanished, EntryNotUnderstood (no regular file), EntryTooLarge, OSError
    """
    try:
        descriptor = os.open(path, _FLAGS)
    except FileNotFoundError:
        raise EntryVanished("the file is gone") from None
    except OSError as exc:
        if exc.errno in (errno.ELOOP, errno.ENXIO):
            raise EntryNotUnderstood("not a regular file") from None
        raise
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise EntryNotUnderstood("not a regular file")
        if status.st_size > max_bytes:
            raise EntryTooLarge(f"{status.st_size} bytes, more than the {max_bytes} that are read")
        raw = os.read(descriptor, status.st_size)
        while len(raw) < status.st_size and (more := os.read(descriptor, status.st_size - len(raw))):
            raw += more
        return raw
    finally:
        os.close(descriptor)
