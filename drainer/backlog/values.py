"""Values that go into the backlog index, and values that come out of it.

Pure  values only
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from drainer.backlog.selection import EntryLine
from drainer.duplicates.classes import DuplicateClass
from drainer.duplicates.summary import EntrySummary
from drainer.ledger.records import is_of_decorated
from drainer.queuedir.domains import DomainCounts

_MOST_RECIPIENTS = 2**24 - 1
_MOST_BYTES = 2**36 - 1

Order = Literal["oldest", "fresh", "fair", "priority"]


@dataclass(frozen=True, slots=True)
class Description:
    """What reading an entry showed.

    duplicate, of  the forecast (duplicates/)
    covered        how many of its recipients an earlier entry or the ledger covers
    domains        how many recipients are in each of the domains that are counted (queuedir/domains.py)
    owed           how many recipients the entry did not settle in an earlier run; None: all of them
    goes_on        if it is deferred since an earlier run, it may owe recipients who were not refused; its turn finds out
    """

    summary: EntrySummary
    duplicate: DuplicateClass = DuplicateClass.NONE
    of: str | None = None
    covered: int = 0
    domains: DomainCounts = ()
    owed: int | None = None
    goes_on: bool = False


@dataclass(frozen=True, slots=True)
class WaitingEntry:
    """An entry that may go next.

    recipients  how many it owes, by the last set_owed
    expected    how many of these it is expected to send to, at least 1
    domains     how many of these are in each domain that is counted; those in others are not in it
    lane        the destination in whose lane it waited; "" none
    booked      a destination, and how many of its recipients may go now, counted already; None: nothing was counted
    is_fresh    it was picked as fresh mail (feed/fresh_lane.py)
    due_s       when those are due that were refused for now, seconds since the epoch; None: the index knows no moment
    """

    filebase: str
    when_s: float
    list_id: str
    recipients: int
    identity: tuple[bytes, ...]
    duplicate: DuplicateClass
    message_id: str
    expected: int = 1
    domains: DomainCounts = ()
    lane: str = ""
    booked: tuple[str, int] | None = None
    is_fresh: bool = False
    due_s: float | None = None


@dataclass(frozen=True, slots=True)
class RelatedEntry:
    """An entry that shares a key with another one. `recipient_keys`: joined, as in EntrySummary."""

    filebase: str
    when_s: float
    recipient_keys: bytes
    duplicate: DuplicateClass
    copy: bytes
    identity: tuple[bytes, ...] = ()

    @property
    def is_decorated(self) -> bool:
        return any(map(is_of_decorated, self.identity))


@dataclass(frozen=True, slots=True)
class SameTextEntry:
    """An entry with the same text, finished or not. `recipient_keys` is empty: for what is no copy they do not count."""

    filebase: str
    when_s: float
    identity: tuple[bytes, ...]
    recipient_keys: bytes = b""


@dataclass(frozen=True, slots=True)
class BacklogTotals:
    """All entries that are not finished. Held entries are counted apart, since they wait for a person.

    recipients       still owed by entries read so far; deferred_recipients is a part of it
    unread_entries   entries not read yet, held ones too; their recipients are in no count
    duplicate_*      forecast: entries expected to be suppressed whole, recipients not expected to be sent
    resend_*         mails that a person sent again, about which duplicates.resend decides; not in duplicate_*
    oldest_s         least received time, seconds since the epoch; None if nothing waits
    """

    entries: int = 0
    recipients: int = 0
    bytes: int = 0
    unread_entries: int = 0
    active_entries: int = 0
    deferred_entries: int = 0
    deferred_recipients: int = 0
    held_entries: int = 0
    held_recipients: int = 0
    held_bytes: int = 0
    duplicate_entries: int = 0
    duplicate_recipients: int = 0
    resend_entries: int = 0
    resend_recipients: int = 0
    oldest_s: float | None = None


@dataclass(frozen=True, slots=True)
class ListTotals:
    """The same for one list; entries not read yet have no list. last_due_s: when its last deferred entry is due."""

    list_id: str
    entries: int
    recipients: int
    bytes: int
    deferred_recipients: int
    held_entries: int
    oldest_s: float | None
    last_due_s: float | None


@dataclass(frozen=True, slots=True)
class Selection:
    """`total` and `recipients` count all entries that matched. `lines` has at most the number asked for, oldest first.
    `unread` of them were not read yet: their recipients are not known."""

    total: int
    recipients: int
    lines: list[EntryLine]
    unread: int = 0


def tie_order(summary: EntrySummary) -> int:
    """The part of fifo_key between received time and filebase, as one number: the entry with the lower one comes first."""
    fewer_recipients = _MOST_RECIPIENTS - min(summary.recipients, _MOST_RECIPIENTS)
    smaller = _MOST_BYTES - min(summary.size_bytes, _MOST_BYTES)
    return (summary.decorated * (_MOST_RECIPIENTS + 1) + fewer_recipients) * (_MOST_BYTES + 1) + smaller
