"""Reads a Mailman 2.1 list's settings from its config.pck.

In    the directory of all lists, a list's name
Out   ListSettings, kept until the file changes
Shell reads files of the list; never writes one

If config.pck is damaged, config.pck.last is read, as Mailman does. An extend.py in the same directory is noticed but never
run. Mailman runs it whenever it opens the list, usually to take the members from MySQL or LDAP.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from drainer.clock import Clock, SystemClock
from drainer.compose.mailman2_site import ListSettings, list_settings
from drainer.errors import EntryError, ListConfigUnreadable, NoSuchList
from drainer.files.regular_file import read_regular
from drainer.pickles.restricted import load_one
from drainer.text.foreign import clean

__all__ = ["READ_WITHIN_S", "ListSettings", "ListSettingsStore", "extended_lists", "what_extensions_mean"]

_FILES = ("config.pck", "config.pck.last")
_EXTENSION = "extend.py"
_MARSHALLED = ("config.db", "config.db.last")
_REMEMBERED = 1000
LOOKED_AT_EVERY_S = 1.0
"""Seconds within which a list's files need not be looked at again. A look takes some 50 us, and a disk may not answer."""
READ_WITHIN_S = 30.0
"""Reading a list's settings takes milliseconds; a disk that spins up takes some seconds."""
MOST_BYTES = 256 * 2**20
"""Of a config.pck: a list of a million members takes about half of it."""

_Stamp = tuple[tuple[int, int, int] | None, ...]
_LISTS_NAMED = 10


class _Known(NamedTuple):
    stamp: _Stamp
    settings: ListSettings
    looked_at_s: float


class ListSettingsStore:
    """The settings of all lists of a site, read when needed. May be used from several threads.

    lists_dir  holds <list>/config.pck
    """

    def __init__(self, lists_dir: Path, clock: Clock | None = None) -> None:
        self._lists_dir = lists_dir
        self._clock = clock or SystemClock()
        self._known: OrderedDict[str, _Known] = OrderedDict()
        self._lock = threading.Lock()

    def recent(self, name: str) -> ListSettings | None:
        """The settings, if the list's files were looked at less than LOOKED_AT_EVERY_S ago; goes to no disk."""
        known = self._known.get(name)
        if known is None or self._clock.monotonic_s() - known.looked_at_s >= LOOKED_AT_EVERY_S:
            return None
        return known.settings

    def _unchanged(self, name: str) -> ListSettings | None:
        """The settings from memory, if the list's files have not changed. Raises NoSuchList."""
        looked_at_s, stamp = self._clock.monotonic_s(), _stamp(self._directory(name))
        with self._lock:
            known = self._known.get(name)
            if known is None or known.stamp != stamp:
                return None
            self._known[name] = known._replace(looked_at_s=looked_at_s)
            self._known.move_to_end(name)
            return known.settings

    def get(self, name: str) -> ListSettings:
        """The settings of the list with this internal name, as its files are now; case matters, as it does for Mailman.

        Raises  NoSuchList, ListConfigUnreadable
        """
        known = self._unchanged(name)
        if known is not None:
            return known
        directory = self._directory(name)
        looked_at_s, stamp = self._clock.monotonic_s(), _stamp(directory)
        settings = _read(name, directory)
        with self._lock:
            self._known[name] = _Known(stamp, settings, looked_at_s)
            if len(self._known) > _REMEMBERED:
                self._known.popitem(last=False)
        return settings

    def _directory(self, name: str) -> Path:
        if not name or name in (".", "..") or "/" in name or not name.isprintable():
            raise NoSuchList(f"'{clean(name)}' cannot be the name of a list")
        return self._lists_dir / name


def extended_lists(lists_dir: Path) -> list[str]:
    """Names of the lists with an extend.py, sorted; none if lists_dir cannot be listed, as on a Mailman 3 host."""
    try:
        return sorted(found.name for found in lists_dir.iterdir() if _is_extended(found))
    except OSError:
        return []


def what_extensions_mean(names: Sequence[str]) -> str:
    """What an operator must know about lists with an extend.py, in one line; "" for no such list."""
    if not names:
        return ""
    some = ", ".join(clean(name) for name in names[:_LISTS_NAMED])
    more = f" and {len(names) - _LISTS_NAMED} more" if len(names) > _LISTS_NAMED else ""
    return (
        f"members of {some}{more} are not in config.pck (extend.py): personalised and VERP delivery of such a list is held; "
        'with mailman.release_lists = ["NAME"] Mailman\'s own runner delivers it'
    )


def _is_extended(directory: Path) -> bool:
    try:
        (directory / _EXTENSION).stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True  # Mailman may be able to read it
    return True


def _stamp(directory: Path) -> _Stamp:
    return tuple(_file_stamp(directory / file) for file in (*_FILES, _EXTENSION))


def _file_stamp(file: Path) -> tuple[int, int, int] | None:
    try:
        status = file.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino


def _read(name: str, directory: Path) -> ListSettings:
    reasons = []
    for file in _FILES:
        try:
            found = list_settings(name, load_one(read_regular(directory / file, MOST_BYTES, follow=False)))
            return replace(found, is_extended=_is_extended(directory))
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as exc:
            reasons.append(f"{file}: {exc.strerror}")
        except EntryError as exc:
            reasons.append(f"{file}: {exc}")
    if reasons:
        raise ListConfigUnreadable(f"list {name}: {'; '.join(reasons)}")
    if any((directory / file).exists() for file in _MARSHALLED):
        raise ListConfigUnreadable(f"list {name}: only config.db is there; Mailman 2.1 itself has to convert it first")
    raise NoSuchList(f"no list {name} in {directory.parent}")
