"""What is known of single entries that neither their files nor the index say, and by which digests the ledger knows one.

In    filebases and entries in our custody
Out   facts about them; a QueueEntry, its EntrySummary and its MessageRecord

All of it can be rebuilt from the files and the ledger (intake.py, recover).
"""

from __future__ import annotations

from dataclasses import replace
from hashlib import blake2b

from drainer.backlog.states import EntryState
from drainer.blocking import InTime
from drainer.compose.list_settings import READ_WITHIN_S
from drainer.duplicates.decoration import Decoration
from drainer.duplicates.known_from_log import imported_identity
from drainer.duplicates.mail_facts import MailFacts
from drainer.duplicates.summary import EntrySummary, summary_of
from drainer.errors import ComposeDeferred
from drainer.ledger.records import MessageRecord
from drainer.queuedir.entry import Flavour, QueueEntry
from drainer.queuedir.read import read_entry
from drainer.stages.hold_reasons import DUPLICATE
from drainer.stages.resources import Resources

FINISHED_REMEMBERED_S = 5.0


class EntryFacts:
    """Shared by the stages.

    claimed     filebases that are still .bak in our hands
    late        taken after the first listing, and not read yet
    released    filebase to the reason, RESEND, DUPLICATE or UNDECIDED, that an operator has overruled
    resembling  filebases known to repeat the text of another entry
    illegible   filebases held because they could not be read: not tried again before an operator releases them
    """

    def __init__(self, resources: Resources) -> None:
        self._resources = resources
        self.claimed: set[str] = set()
        self.late: set[str] = set()
        self.released: dict[str, str] = {}
        self.resembling: set[str] = set()
        self.illegible: set[str] = set()
        self._finished: dict[str, float] = {}
        self._decorations = InTime[Decoration | None](READ_WITHIN_S)

    def left_unread(self) -> set[str]:
        """Those of `illegible` that are still held."""
        held = {name for name in self.illegible if self._resources.index.state_of(name) is EntryState.HELD}
        self.illegible &= held
        return held

    def note_finished(self, filebase: str) -> None:
        """The entry is off the disk: if its file comes back, a backup brought it."""
        now_s = self._resources.clock.now_s()
        while self._finished and (oldest := next(iter(self._finished.items())))[1] < now_s - FINISHED_REMEMBERED_S:
            del self._finished[oldest[0]]
        self._finished[filebase] = now_s

    def finished_s(self, filebase: str, otherwise_s: float) -> float:
        """When an entry of this name left, seconds since the epoch, if that is some seconds ago."""
        return self._finished.get(filebase, otherwise_s)

    def read(self, filebase: str) -> QueueEntry:
        """An entry in our custody. Raises EntryError."""
        return read_entry(self._resources.custody.file(filebase))

    async def summarised(self, entry: QueueEntry) -> EntrySummary:
        """Also with the digests of entries that were found to be the same mail, if the index has read this one."""
        facts = MailFacts(entry)
        summary = summary_of(facts, await self._decoration(entry) if facts.is_decorated else None)
        print_ = summary.fingerprint
        identity = tuple(dict.fromkeys((*print_.identity, *self._resources.index.related.identity_of(entry.filebase))))
        return replace(summary, fingerprint=replace(print_, identity=identity))

    async def _decoration(self, entry: QueueEntry) -> Decoration | None:
        """Of an entry that is decorated."""
        of_mailman2, of_mailman3 = self._resources.decoration_of, self._resources.mailman3_decorations
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
        A message that cannot be a copy has no digest of an import either."""
        if record.identity[0].startswith(_OWN) or not record.message_id:
            return record.identity
        return (*record.identity, imported_identity(record.list_id, record.message_id))

    def other_identities(self, filebase: str, record: MessageRecord, digests: tuple[bytes, ...]) -> tuple[bytes, ...]:
        """Digests under which the ledger may have this entry's own deliveries as well, of a time with another
        `duplicates.exact`.

        digests  those of its fingerprint
        """
        return tuple({own_identity(filebase), *digests}.difference(record.identity))

    def identity(self, filebase: str, digests: tuple[bytes, ...]) -> tuple[bytes, ...]:
        """The digests of the message. An entry that cannot be a copy has its own name for an identity: one without digests,
        a duplicate that an operator released, and every entry where duplicates are delivered."""
        released = self.released.get(filebase) == DUPLICATE
        if not digests or released or self._resources.settings.duplicates.exact == "deliver":
            return (own_identity(filebase),)
        return digests


_OWN = b"\xff"


def own_identity(filebase: str) -> bytes:
    """The digest of an entry that is no copy of any other."""
    return _OWN + blake2b(filebase.encode("utf-8", "surrogatepass"), digest_size=15).digest()
