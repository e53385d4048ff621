"""Mailman's pickles, opened: exact names only, inert classes in their place, cost bounded by size.

In    the bytes of a queue entry (two pickles) or of a config.pck (one)
Out   inert objects: text, bytes, numbers, containers, stand-ins
Pure  nothing in a pickle is ever run; nothing is imported for it

A pickle is first checked without loading it (prescan.py). Then C's unpickler loads it, and asks the table in allowed.py for
every class.
"""

from __future__ import annotations

import io
import pickle
from dataclasses import dataclass

from drainer.errors import EntryEmpty, EntryGarbage, UnsafePickle
from drainer.pickles.allowed import ALLOWED
from drainer.pickles.machine import MAX_DEPTH
from drainer.pickles.prescan import pickle_end

METADATA_MAX_DEPTH = 100
_PREFETCH_BYTES = 2**17


@dataclass(frozen=True, slots=True)
class LoadedPair:
    """The two pickles of an entry.

    message_bytes   length of the first pickle; the metadata pickle begins there
    metadata_end    where the metadata pickle ends; Mailman ignores the bytes after it
    """

    message_object: object
    metadata_object: object
    message_bytes: int
    metadata_end: int


def load_pair(raw: bytes) -> LoadedPair:
    """Open a queue entry: the pickle of the message and, right behind it, that of the metadata.

    Raises  EntryEmpty, EntryTruncated, EntryGarbage, UnsafePickle; nothing else, whatever the bytes
    """
    if not raw:
        raise EntryEmpty("the file has no bytes")
    message_bytes = pickle_end(raw)
    metadata_end = pickle_end(raw, message_bytes, max_depth=METADATA_MAX_DEPTH)
    message_object = _load(raw[:message_bytes])
    return LoadedPair(message_object, _load(raw[message_bytes:metadata_end]), message_bytes, metadata_end)


def load_one(raw: bytes) -> object:
    """Open a file of one pickle, such as a 2.1 list's config.pck; bytes behind it are ignored.

    Raises  EntryEmpty, EntryTruncated, EntryGarbage, UnsafePickle; nothing else, whatever the bytes
    """
    if not raw:
        raise EntryEmpty("the file has no bytes")
    return _load(raw[: pickle_end(raw, max_depth=MAX_DEPTH)])


class _Unpickler(pickle.Unpickler):
    """Asks the table for every name, and for nothing else."""

    def find_class(self, module: str, name: str) -> object:
        try:
            return ALLOWED[module, name]
        except KeyError:
            raise UnsafePickle(f"{module!r} {name!r} is not on the list of allowed names") from None

    def persistent_load(self, _pid: object) -> object:
        raise UnsafePickle("persistent ids are none of Mailman's")


def _load(pickled: bytes) -> object:
    source = io.BufferedReader(io.BytesIO(pickled), min(len(pickled), _PREFETCH_BYTES))
    try:
        return _Unpickler(source, encoding="ascii", errors="surrogateescape").load()
    except (EOFError, ValueError) as exc:
        raise EntryGarbage(f"{type(exc).__name__}: {exc}"[:200]) from exc
    except (pickle.UnpicklingError, TypeError, AttributeError, LookupError, OverflowError) as exc:
        # Mailman may be able to load it: perhaps only our stand-ins cannot.
        raise UnsafePickle(f"{type(exc).__name__}: {exc}"[:200]) from exc
