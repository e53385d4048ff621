"""Reads one file of a queue directory into a QueueEntry.

In    the path of a .pck or .bak file
Out   the entry, or the named reason why there is none
Refuses to know  what the mail is about, and whose turn it is
"""

from __future__ import annotations

import os
from pathlib import Path

from drainer.errors import EntryNotUnderstood, EntryTooLarge, EntryVanished
from drainer.files.regular_file import NotRegular, TooLarge, read_regular
from drainer.pickles.restricted import load_pair
from drainer.queuedir.entry import QueueEntry, entry_from_pickles

DEFAULT_MAX_BYTES = 64 * 2**20


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
        return read_regular(path, max_bytes, follow=False)
    except FileNotFoundError:
        raise EntryVanished("the file is gone") from None
    except NotRegular as exc:
        raise EntryNotUnderstood(str(exc.strerror)) from None
    except TooLarge as exc:
        raise EntryTooLarge(str(exc.strerror)) from None
