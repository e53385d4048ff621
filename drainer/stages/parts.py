"""What the stages work with, and what is known of entries that neither their files nor the index say.

Parts      one of each: settings, custody, index, ledger, composers, sessions; put together by service.py
Standing   entries claimed by Mailman's runner, come late, released by an operator, or known to repeat a text; and with it
           the rule by which an entry is known to the ledger
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from hashlib import blake2b

from drainer.backlog.index import BacklogIndex
from drainer.backlog.readers import Surveyor
from drainer.backlog.states import EntryState
from drainer.backlog.work import EntrySizes
from drainer.blocking import InTime
from drainer.clock import Clock
from drainer.compose import Composer
from drainer.compose.list_settings import READ_WITHIN_S
from drainer.compose.mailman3_decorations import Mailman3Decorations
from drainer.duplicates.decoration import Decoration
from drainer.duplicates.known_from_log import imported_identity
from drainer.duplicates.mail_facts import is_decorated
from drainer.duplicates.summary import EntrySummary, summarise
from drainer.errors import ComposeDeferred, OtherMailman
from drainer.feed.gate import Gate
from drainer.feed.rate_in_force import RateInForce
from drainer.feed.session_pool import SessionPool
from drainer.feed.throttle import Throttle
from drainer.guards.mailman import SkippedFiles
from drainer.in_doubt.resolve import InDoubt
from drainer.ledger.contract import Ledger
from drainer.ledger.records import MessageRecord
from drainer.queuedir.custody import Custody
from drainer.queuedir.entry import Flavour, QueueEntry
from drainer.queuedir.list_names import in_order, list_of
from drainer.queuedir.read import read_entry
from drainer.queuedir.scan import QueueScan
from drainer.settings import Settings
from drainer.text.logfmt import logfmt
from drainer.via_mailman.handover import Release

log = logging.getLogger("drainer")

RESEND, DUPLICATE, IN_DOUBT = "resend", "duplicate", "in_doubt"
"""Why the duplicate decision holds an entry."""

UNDECIDED = "undecided"
"""Why an entry is held that may be the mail another one is: they are called the same, one of the two has a list's header
and footer in it, and nothing tells whether the rest is the same."""


RELEASED = "released"
"""Reason of a Hold that is none any more: an operator released this entry, and `detail` says from which of RESEND,
DUPLICATE and UNDECIDED, since that policy no longer applies to it. Kept in the ledger, as everything an operator decided."""

RESEMBLES = "resembles"
"""Reason of a Hold that is none yet: this entry repeats the text of the entry `detail`. The index forgets at a restart
what was finished before it; without this a resend would then go out as if it were the first."""


HANDED_BACK = "handback"
"""Reason of a Hold: copies of this entry's mail were being given back to Mailman, and this one still has to follow."""


@dataclass(slots=True)
class Parts:
    """What the stages work with; service.py puts it together.

    limited_domains  those the surveyor counts recipients of: all that had a ceiling when the service started
    mailman3_decorations  asked by the survey for decorated entries of Mailman 3, which no worker can ask for
    decoration_of  as the surveyor's, so that survey and delivery know an entry by the same fingerprint; may read a file
    """

    settings: Settings
    clock: Clock
    custody: Custody
    index: BacklogIndex
    ledger: Ledger
    composers: dict[Flavour, Composer]
    surveyor: Surveyor
    pool: SessionPool
    throttle: Throttle
    gate: Gate
    in_doubt: InDoubt
    rate: RateInForce
    release: Release
    limited_domains: tuple[str, ...] = ()
    decoration_of: Callable[[QueueEntry], Decoration | None] | None = None
    mailman3_decorations: Mailman3Decorations | None = None
    _priority: tuple[tuple[object, ...], tuple[str, ...]] = ((), ())

    @property
    def priority(self) -> tuple[str, ...]:
        """List-ids of those that `feed.priority` names, in that order. Cheap enough for each pick."""
        known_by = (self.settings.feed.priority, len(ids := self.index.totals.list_ids()))
        if self._priority[0] != known_by:
            flavour = next(iter(self.composers))
            lists = [list_of(list_id, flavour) for list_id in ids]
            self._priority = known_by, in_order(self.settings.feed.priority, lists)
        return self._priority[1]

    def composer_of(self, entry: QueueEntry) -> Composer:
        """Raises OtherMailman."""
        if entry.flavour not in self.composers:
            ours = next(iter(self.composers))
            raise OtherMailman(
                f"{entry.flavour.product} wrote it, and drainer composes for {ours.product} here; right would be a drainer "
                f'with mailman.flavour = "{entry.flavour}", or to give it back (`drainer handback`)'
            )
        return self.composers[entry.flavour]


@dataclass(frozen=True, slots=True)
class Outside:
    """What the first listing is about to take, and has not yet: so that the backlog is known before it is ours.

    oldest_s  least received time, seconds since the epoch; None if there is nothing
    """

    entries: int = 0
    bytes: int = 0
    oldest_s: float | None = None


@dataclass(slots=True)
class Progress:
    """Counts since the start of the process that no file or ledger keeps.

    arrived_recipients  of entries taken after the first listing
    listed              the first listing of every queue is done: the backlog's entries and bytes are known
    outside             still in Mailman's queues while that goes on
    on_the_way          taken since, and not in the index before they are durably ours
    taken_by_runner     entries Mailman's outgoing runner was seen to take before us
    skipped             directory to what lies there that is no entry, as of its last listing
    sizes               recipients per entry, as far as entries were read
    """

    arrived_recipients: int = 0
    listed: bool = False
    outside: Outside = field(default_factory=Outside)
    on_the_way: int = 0
    taken_by_runner: int = 0
    skipped: dict[str, SkippedFiles] = field(default_factory=dict)
    sizes: EntrySizes = field(default_factory=EntrySizes)

    def note_skipped(self, directory: str, scan: QueueScan) -> None:
        """What a whole listing passed over: said in the log when it changes."""
        found, before = scan.skipped, self.skipped.pop(directory, None)
        if not found:
            return
        now = SkippedFiles(directory=directory, files=scan.skipped_count, name=found[0].name, reason=found[0].reason)
        self.skipped[directory] = now
        if now != before:
            log.warning(logfmt(event="not_entries", directory=directory, files=now.files, name=now.name,
                               reason=now.reason))  # fmt: skip


class Standing:
    """Shared by the stages; everything in it can be rebuilt from the files and the ledger (intake.py, recover).

    claimed     filebases that are still .bak in our hands
    late        taken after the first listing, and not read yet
    released    filebase to the reason, RESEND, DUPLICATE or UNDECIDED, that an operator has overruled
    resembling  filebases known to repeat the text of another
    illegible   filebases held because they could not be read: not tried again before somebody releases them
    listed      set while no directory is being listed
    unread      set when there may be entries to read
    news        set when an entry may go that could not before
    owing       set when there may be DSNs to send or to settle
    set_back_s  by how much the clock was set back since DSNs were given the times they are due
    """

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self.claimed: set[str] = set()
        self.late: set[str] = set()
        self.released: dict[str, str] = {}
        self.resembling: set[str] = set()
        self.illegible: set[str] = set()
        self.listed = asyncio.Event()
        self.unread = asyncio.Event()
        self.news = asyncio.Event()
        self.owing = asyncio.Event()
        self.set_back_s = 0.0
        self._decorations = InTime[Decoration | None](READ_WITHIN_S)

    def wake(self) -> None:
        """Something changed that may let an entry go."""
        self.news.set()

    def left_unread(self) -> set[str]:
        """Of `illegible`, those that are held still."""
        held = {name for name in self.illegible if self._parts.index.state_of(name) is EntryState.HELD}
        self.illegible &= held
        return held

    def read(self, filebase: str) -> QueueEntry:
        """An entry in our custody. Raises EntryError."""
        return read_entry(self._parts.custody.path(filebase))

    async def summarised(self, entry: QueueEntry) -> EntrySummary:
        """With the digests of entries it was found to be the same mail as, if the index knows it already."""
        summary = summarise(entry, await self._decoration(entry))
        print_ = summary.fingerprint
        identity = tuple(dict.fromkeys((*print_.identity, *self._parts.index.related.identity_of(entry.filebase))))
        return replace(summary, fingerprint=replace(print_, identity=identity))

    async def _decoration(self, entry: QueueEntry) -> Decoration | None:
        of_mailman2, of_mailman3 = self._parts.decoration_of, self._parts.mailman3_decorations
        if not is_decorated(entry):
            return None
        if entry.flavour is Flavour.MAILMAN3:
            return await of_mailman3(entry) if of_mailman3 else None
        if of_mailman2 is None:
            return None
        try:
            return await self._decorations.ask(entry.filebase, lambda: of_mailman2(entry))
        except TimeoutError as exc:
            raise ComposeDeferred(f"the settings of list {entry.list_shown} could not be read in time") from exc

    def record(self, summary: EntrySummary) -> MessageRecord:
        """The message as the ledger knows it."""
        identity = self.identity(summary.filebase, summary.fingerprint.identity)
        return MessageRecord(identity, summary.list_id, summary.message_id)

    def known_as(self, record: MessageRecord) -> tuple[bytes, ...]:
        """The digests under which the ledger may know of deliveries: the message's own, and that of an import from a log.
        A message that is nobody's copy is not what a log tells of either."""
        if record.identity[0].startswith(_OWN) or not record.message_id:
            return record.identity
        return (*record.identity, imported_identity(record.list_id, record.message_id))

    def known_otherwise_as(self, filebase: str, record: MessageRecord, digests: tuple[bytes, ...]) -> tuple[bytes, ...]:
        """The digests under which this entry's own deliveries may be known as well: `duplicates.exact` was another then.

        digests  those of its fingerprint
        """
        return tuple({own_identity(filebase), *digests}.difference(record.identity))

    def identity(self, filebase: str, digests: tuple[bytes, ...]) -> tuple[bytes, ...]:
        """An entry without identity, or where duplicates are to be delivered, is nobody's copy, as is a duplicate that an
        operator released: its own name is its identity."""
        released = self.released.get(filebase) == DUPLICATE
        if not digests or released or self._parts.settings.duplicates.exact == "deliver":
            return (own_identity(filebase),)
        return digests


_OWN = b"\xff"


def own_identity(filebase: str) -> bytes:
    """The digest of an entry that shares its message with nobody."""
    return _OWN + blake2b(filebase.encode("utf-8", "surrogatepass"), digest_size=15).digest()


def why_held(reason: str, detail: str) -> str:
    return f"{reason}: {detail}" if detail else reason
