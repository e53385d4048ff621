"""One entry as the index has it, beside what people see of it.

In    columns of the tables (store.py)
Out   IndexedRow; counts by domain as a text and back
Pure  values only; lists, lanes and domains are numbers, as the index has them
"""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass
from functools import lru_cache

from drainer.backlog.states import EntryState
from drainer.duplicates.classes import DuplicateClass
from drainer.ledger.records import kin_of

NumberedCounts = tuple[tuple[int, int], ...]
"""Recipients by the number of their domain."""

SumKey = tuple[int, EntryState, DuplicateClass, bool, bool]
"""List, state, duplicate; whether it was read; whether it waits in the lane of a destination."""

_TEXTS_REMEMBERED = 4096


@dataclass(slots=True)
class IndexedRow:
    """What changes while an entry waits and is delivered, and what is needed to find and to remove it.

    id              0: the entry is listed, and nothing has happened to it yet
    recipients      all that it names; owed: those of them it still owes
    ready           it can be picked
    due_s           as in BacklogIndex.set_state
    identity        the digests of the mail; () until it was read
    message_id_key  Fingerprint.message_id
    """

    id: int
    filebase: str
    when_s: float
    list: int = 0
    state: EntryState = EntryState.LISTED
    duplicate: DuplicateClass = DuplicateClass.NONE
    is_read: bool = False
    ready: bool = False
    recipients: int = 0
    owed: int = 0
    covered: int = 0
    size_bytes: int = 0
    domains: NumberedCounts = ()
    lane: int = 0
    due_s: float | None = None
    identity: tuple[bytes, ...] = ()
    message_id_key: bytes | None = None

    @property
    def key(self) -> SumKey:
        return self.list, self.state, self.duplicate, self.is_read, self.lane != 0

    @property
    def names(self) -> Set[bytes]:
        """The beginnings of its digests: two entries that share one may be one mail (records.kin_of)."""
        return frozenset(map(kin_of, self.identity))

    @property
    def to_send_by_domain(self) -> NumberedCounts:
        """Owed and not covered, in each domain that is counted; covered recipients are taken to be spread evenly."""
        if not self.covered or not self.owed:
            return self.domains
        return tuple((number, count * (self.owed - self.covered) // self.owed) for number, count in self.domains)


def spread(domains: NumberedCounts, before: int, owed: int) -> NumberedCounts:
    """Recipients in each domain when `owed` of `before` are left: in proportion."""
    if owed == before:
        return domains
    return tuple((number, left) for number, count in domains if (left := count * owed // before)) if before else ()


def joined_counts(counts: NumberedCounts) -> str:
    """Recipients by the number of their domain, as the column `domains` holds them."""
    return " ".join([f"{number}:{count}" for number, count in counts])


@lru_cache(_TEXTS_REMEMBERED)
def counts_in(joined: str) -> NumberedCounts:
    """What joined_counts made a text of. Most entries have a text that many others have: one recipient, one domain."""
    pairs = (pair.partition(":") for pair in joined.split())
    return tuple((int(number), int(count)) for number, _, count in pairs)
