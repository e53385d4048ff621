"""The classes of duplicates, and the values that pass between fingerprint, decision, index and ledger.

Pure  values only
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from drainer.queuedir.entry import Flavour


class DuplicateClass(StrEnum):
    """DESIGN §4. NONE: an original, or something that only resembles one. UNDECIDED: called as another one is, and one of
    the two has a header and footer in it that cannot be taken out: it may be the same mail."""

    NONE = "none"
    EXACT = "exact"
    PARTIAL = "partial"
    RESTORED = "restored"
    RESEND = "resend"
    CONFLICT = "conflict"
    UNDECIDED = "undecided"


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """What a message is. Every digest has 16 bytes and begins with the version of the rules that made it.

    identity    two entries carry the same message if they share any of these
    resend      list + author + subject + canonical body; None where a resend cannot be told from routine (notices)
    message_id  list + Message-ID; None if the mail has none
    copy        identity and metadata together: equal for an entry and its restored backup
    """

    identity: tuple[bytes, ...]
    resend: bytes | None
    message_id: bytes | None
    copy: bytes

    def __reduce__(self) -> tuple[type[Fingerprint], tuple[object, ...]]:
        # Between processes: the pickling a frozen dataclass comes with takes four times as long, for every entry.
        return Fingerprint, (self.identity, self.resend, self.message_id, self.copy)


@dataclass(frozen=True, slots=True)
class EntrySummary:
    """What the index keeps of an entry once it was read.

    when_s          received time from the file name
    list_id, sender, subject   for people, clean (text/foreign.py)
    message_id      as the mail has it: the MTA's log is asked for it
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
