"""What the index keeps of an entry after reading it once.

In    a QueueEntry; if Mailman has decorated it, also the header and footer that are in its text already
Out   an EntrySummary
Pure  no file, no clock
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from drainer.compiled import python_class
from drainer.duplicates.canonical import header_text, readable
from drainer.duplicates.decoration import Decoration
from drainer.duplicates.fingerprint import Fingerprint, fingerprint_of
from drainer.duplicates.mail_facts import MailFacts
from drainer.ledger.records import is_of_decorated, recipient_key
from drainer.queuedir.entry import Flavour, QueueEntry
from drainer.text.foreign import clean


@python_class
@dataclass(frozen=True, slots=True)
class EntrySummary:
    """An entry without its content.

    when_s          received time from the file name
    list_id, sender, subject   for people, clean (text/foreign.py)
    message_id      as the mail has it: the MTA's log is searched for it
    recipient_keys  ledger.records.recipient_key of each recipient, concatenated
    decorated       header and footer are in the message already (an entry that was in retry)
    """

    filebase: str
    when_s: float
    flavour: Flavour
    list_id: str
    message_id: str
    sender: str
    subject: str
    size_bytes: int
    recipients: int
    recipient_keys: bytes
    decorated: bool
    fingerprint: Fingerprint

    def __reduce__(self) -> tuple[type[EntrySummary], tuple[object, ...]]:
        return EntrySummary, (
            self.filebase, self.when_s, self.flavour, self.list_id, self.message_id, self.sender, self.subject,
            self.size_bytes, self.recipients, self.recipient_keys, self.decorated, self.fingerprint,
        )  # fmt: skip


def summarise(entry: QueueEntry, decoration: Decoration | None = None) -> EntrySummary:
    """The summary of an entry. `when_s` is the received time in its file name, which must be a valid one.

    decoration  as for fingerprint.fingerprint
    """
    return summary_of(MailFacts(entry), decoration)


def summary_of(facts: MailFacts, decoration: Decoration | None) -> EntrySummary:
    """The same, of an entry whose facts were looked up already."""
    entry = facts.entry
    return EntrySummary(
        filebase=entry.filebase,
        when_s=float(entry.filebase.partition("+")[0]),
        flavour=entry.flavour,
        list_id=entry.list_shown,
        message_id=readable(facts.message_id),
        sender=clean(readable(facts.author)),
        subject=clean(readable(header_text(facts.headers.get("subject")))),
        size_bytes=len(entry.raw),
        recipients=len(entry.recipients),
        recipient_keys=b"".join([recipient_key(address) for address in entry.recipients]),
        decorated=facts.is_decorated,
        fingerprint=fingerprint_of(facts, decoration),
    )


def with_digests_of(summary: EntrySummary, identity: Iterable[bytes]) -> EntrySummary:
    """The summary of an entry that proved to be the same mail as another one: the digests of either find it.

    identity  digests of the other entry. Its marked digests are left out: they say that the other one is decorated
    """
    print_ = summary.fingerprint
    digests = (*print_.identity, *(digest for digest in identity if not is_of_decorated(digest)))
    return replace(summary, fingerprint=replace(print_, identity=tuple(dict.fromkeys(digests))))


def fifo_key(summary: EntrySummary) -> tuple[float, bool, int, int, str]:
    """Sort key for first in, first out.

    Entries with equal received times are one mail written again. The undecorated one comes before its decorated remainder,
    then the one with more recipients, then the larger one (a mail pickled a second time comes out smaller).
    """
    return summary.when_s, summary.decorated, -summary.recipients, -summary.size_bytes, summary.filebase
