"""The lists of a site: those in the queue and the ledger, and those of Mailman.

In    list-ids from queue and ledger; Mailman's own directories
Out   MailingLists
Not here  which of them a name means (queuedir/list_names.py)
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from drainer.compose.list_settings import ListSettingsStore
from drainer.errors import EntryError
from drainer.queuedir.entry import Flavour
from drainer.queuedir.list_names import MailingList, is_wildcard, list_of, lists_named
from drainer.settings.mailman import MailmanSettings

_CONFIG = ("config.pck", "config.pck.last")


class KnownLists:
    """Reads directories at each call, since lists come and go; and the config.pck of a list that the name may mean."""

    def __init__(self, mailman: MailmanSettings, flavour: Flavour) -> None:
        self._queue_dir, self._lists_dir = mailman.queue_dir, mailman.lists_dir
        self._flavour = flavour
        self._settings = ListSettingsStore(mailman.lists_dir)

    def all(self, seen: Iterable[str], asked: str = "") -> list[MailingList]:
        """Every list, those of `seen` (list-ids of queue and ledger) first.

        asked  a name that the caller looks up among them: the hosts of matching lists are read (Mailman 2.1)
        """
        ids = dict.fromkeys([*(list_id for list_id in seen if list_id), *self._of_mailman()])
        lists = [list_of(list_id, self._flavour) for list_id in ids]
        if self._flavour is not Flavour.MAILMAN2:
            return lists
        return [replace(one, host=self._host(one.name)) if _may_be(one, asked) else one for one in lists]

    def _of_mailman(self) -> list[str]:
        """Mailman 2.1: directories with a config.pck. Mailman 3: it creates a directory for each list, named by list-id."""
        if self._flavour is Flavour.MAILMAN2:
            directory = self._lists_dir
            return [name for name in _directories(directory) if any((directory / name / c).exists() for c in _CONFIG)]
        return [name for name in _directories(self._queue_dir.parent / "lists") if "." in name]

    def _host(self, name: str) -> str:
        with contextlib.suppress(EntryError, OSError, MemoryError, RecursionError):
            return self._settings.get(name).host_name
        return ""


def _may_be(one: MailingList, asked: str) -> bool:
    """Whether the host is needed to decide if `asked` means this list, or the list has the same local name."""
    local = asked.strip().partition("@")[0]
    if lists_named(local, [one]):
        return True
    if is_wildcard(asked) or "@" in asked:
        return False
    return asked.strip().casefold().startswith(f"{one.name.casefold()}.")


def _directories(directory: Path) -> list[str]:
    try:
        with os.scandir(directory) as found:
            return sorted(one.name for one in found if one.is_dir())
    except OSError:
        return []
