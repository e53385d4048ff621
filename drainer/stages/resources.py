"""What every stage works with: one of each, put together at the start (start/assembly.py), and given to every stage.

Not here  what the stages know of single entries (entry_facts.py), and of the run so far (progress.py)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from drainer.backlog.index import BacklogIndex
from drainer.backlog.readers import EntryReaders
from drainer.backlog.signals import Signals
from drainer.clock import Clock
from drainer.compose import Composer
from drainer.compose.mailman3_decorations import Mailman3Decorations
from drainer.duplicates.decoration import Decoration
from drainer.errors import OtherMailman
from drainer.feed.gate import Gate
from drainer.feed.named_lists import NamedLists, named_lists
from drainer.feed.rate_in_force import RateInForce
from drainer.feed.session_pool import SessionPool
from drainer.feed.throttle import Throttle
from drainer.ledger.contract import Ledger
from drainer.queuedir.custody import Custody
from drainer.queuedir.entry import Flavour, QueueEntry
from drainer.queuedir.list_names import list_of
from drainer.settings import Settings
from drainer.settings.feed import FeedSettings


@dataclass(slots=True)
class Resources:
    """counted_domains  those that the readers count in each entry, however few: all that had a ceiling at the start
    mailman3_decorations  the survey asks it for decorated entries of Mailman 3; the reading workers cannot ask it
    decoration_of  the same as the readers have, so that survey and delivery give an entry one fingerprint; may read a file
    """

    settings: Settings
    clock: Clock
    custody: Custody
    index: BacklogIndex
    ledger: Ledger
    composers: dict[Flavour, Composer]
    readers: EntryReaders
    pool: SessionPool
    throttle: Throttle
    gate: Gate
    rate: RateInForce
    signals: Signals = field(default_factory=Signals)
    counted_domains: frozenset[str] = frozenset()
    decoration_of: Callable[[QueueEntry], Decoration | None] | None = None
    mailman3_decorations: Mailman3Decorations | None = None
    _named: tuple[FeedSettings, int, NamedLists] | None = None

    @property
    def named_lists(self) -> NamedLists:
        """What [feed] says of the lists that have entries, by list-id. Cheap enough for each pick."""
        feed, known = self.settings.feed, self.index.totals.list_count
        if self._named is None or self._named[0] is not feed or self._named[1] != known:
            flavour = next(iter(self.composers))
            lists = [list_of(list_id, flavour) for list_id in self.index.totals.list_ids()]
            self._named = feed, known, named_lists(feed, lists)
        return self._named[2]

    def leave_out_unserved(self) -> None:
        """Close the lists that feed.only and feed.not leave out, also those that have had their first entry since."""
        self.gate.leave_out(frozenset(self.named_lists.unserved))

    def composer_of(self, entry: QueueEntry) -> Composer:
        """Raises OtherMailman."""
        if entry.flavour not in self.composers:
            ours = next(iter(self.composers))
            raise OtherMailman(
                f"{entry.flavour.product} wrote it, and drainer composes for {ours.product} here; right would be a drainer "
                f'with mailman.flavour = "{entry.flavour}", or to give it back (`drainer handback`)'
            )
        return self.composers[entry.flavour]

    def reconfigure(self, settings: Settings) -> None:
        """Settings read again."""
        self.settings, self._named = settings, None
        self.leave_out_unserved()
        self.custody.reconfigure(settings.custody.bak_age)
        self.pool.reconfigure(settings.mta, adaptive=settings.feed.adaptive)
