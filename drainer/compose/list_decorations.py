"""The header and footer that a decorated entry of Mailman 2.1 already contains, so that its fingerprint can leave them out.

In    a decorated queue entry (one that was in retry/)
Out   the Decoration that its list's settings give; None if it is not known, and the text stays as it is
Shell reads config.pck, and looks once a second whether it has changed (list_settings.py)

The object is pickled and sent to the processes that read entries; each copy keeps the lists it has read.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from drainer.compose.list_settings import ListSettingsStore
from drainer.compose.mailman2 import bulk_decoration
from drainer.compose.mailman2_site import site_settings
from drainer.duplicates.decoration import Decoration
from drainer.duplicates.mail_facts import is_decorated
from drainer.errors import EntryError
from drainer.queuedir.entry import Flavour, QueueEntry

_Site = Mapping[str, str | int | float | bool]


class ListDecorations:
    """Looks decorations up.

    lists_dir  holds <list>/config.pck
    site       values of mm_cfg.py that differ from Mailman's defaults
    Raises     SettingsError for impossible values in `site`
    """

    def __init__(self, lists_dir: Path, site: _Site) -> None:
        self._made_of = (lists_dir, dict(site))
        self._lists = ListSettingsStore(lists_dir)
        self._site = site_settings(site)

    def __reduce__(self) -> tuple[type[ListDecorations], tuple[Path, _Site]]:
        return ListDecorations, self._made_of

    def __call__(self, entry: QueueEntry) -> Decoration | None:
        """None for an entry that is not decorated, or whose list cannot be read. May read a file."""
        if entry.flavour is not Flavour.MAILMAN2 or not is_decorated(entry):
            return None
        try:
            settings = self._lists.recent(entry.list_id) or self._lists.get(entry.list_id)
            return Decoration(*bulk_decoration(settings, self._site, entry))
        except (EntryError, MemoryError, RecursionError):
            return None
