"""What the ledger keeps, as frozen rows.

Pure  values only

A recipient is stored as a RecipientKey of ten bytes: small (DESIGN: 16 bytes a delivery), and two recipients of one
message share a key with probability below 1e-14 for 100,000 recipients. Addresses in clear are kept only where a
person has to act on them (failed, in doubt) and while an attempt is open.
"""

from __future__ import annotations

import functools
import hashlib
import uuid
from dataclasses import dataclass, field, replace
from typing import Any

from drainer.ledger.states import DsnState, State

RECIPIENT_KEY_BYTES = 10
RecipientKey = bytes

DIGEST_BYTES = 16
KIN_BYTES = 8
"""Digests of mails with the same name (list, author, Message-ID) begin with the same octets, whatever their bodies are
(duplicates/fingerprint.py)."""
DECORATED_BIT = 1
"""The last bit of a digest. Set: the mail has the list's header and footer in it already."""


def kin_of(digest: bytes) -> bytes:
    return digest[:KIN_BYTES]


def is_of_decorated(digest: bytes) -> bool:
    return bool(digest[-1] & DECORATED_BIT)


_REMEMBERED_KEYS = 16_384
"""The key of an address is wanted some six times for one entry, and again for the next entry of its list. About 4 MB."""


@functools.lru_cache(_REMEMBERED_KEYS)
def recipient_key(address: str) -> RecipientKey:
    """The ten bytes that stand for an address: local part as it is, domain in lower case (RFC 5321 §2.4)."""
    local, at, domain = address.rpartition("@")
    text = local + at + domain.lower()
    return hashlib.blake2b(text.encode("utf-8", "surrogateescape"), digest_size=RECIPIENT_KEY_BYTES).digest()


AttemptId = uuid.UUID
"""Made by the caller, at random: it is the only one of its kind on any number of hosts, without a question to the ledger, a
counter that must survive a crash, or a clock that must not go back."""


def new_attempt_id() -> AttemptId:
    return uuid.uuid4()


@dataclass(frozen=True, slots=True)
class Queue:
    """A queue that a ledger writes for.

    queue_id   names one Mailman queue directory for good; "": not claimed yet (a new ledger, or one of an earlier schema)
    queue_dir  where the directory was when the queue was claimed
    owner      the drainer instance that has the queue: host, process and a random part
    """

    queue_id: str
    queue_dir: str
    owner: str


@dataclass(frozen=True, slots=True)
class MessageRecord:
    """What the ledger remembers of a message.

    identity    digests, at least one; two entries carry the same message if any digest is equal
                (duplicates/fingerprint.py); given back in ascending order
    list_id, message_id   for people; message_id "" if the mail has none
    """

    identity: tuple[bytes, ...]
    list_id: str
    message_id: str


@dataclass(frozen=True, slots=True)
class NewAttempt:
    """One transaction about to send its content.

    filebase      the entry it belongs to
    reverse_path, recipients  as they stand in the envelope's MAIL and in the entry's own recipient list
    at_s          seconds since the epoch
    attempt_id    made here; the same value written again is the same attempt
    """

    filebase: str
    message: MessageRecord
    reverse_path: str
    recipients: tuple[str, ...]
    at_s: float
    attempt_id: AttemptId = field(default_factory=new_attempt_id)


@dataclass(frozen=True, slots=True)
class OpenAttempt:
    """An attempt whose outcome was never written: found at start, it means the service died in the middle."""

    attempt_id: AttemptId
    state: State
    filebase: str
    list_id: str
    message_id: str
    reverse_path: str
    recipients: tuple[str, ...]
    at_s: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of some recipients of an entry, all alike.

    state         DELIVERED, DEFERRED, FAILED, IN_DOUBT, HELD or SKIPPED
    recipients    addresses as the entry has them
    reply         the server's answer "550 5.1.1 no such user", or our reason
    attempt_id    IN_DOUBT: the attempt that `record` makes of it
    """

    state: State
    recipients: tuple[str, ...]
    reply: str
    at_s: float
    attempt_id: AttemptId = field(default_factory=new_attempt_id, compare=False)


@dataclass(frozen=True, slots=True)
class DsnRecipient:
    """One recipient that a DSN reports.

    owed, sent  as the entry has it, and as it stood in RCPT
    reply       the MTA's last answer "550 5.1.1 no such user", or our reason
    status      enhanced status code to report; "": as the reply says
    """

    owed: str
    sent: str
    reply: str
    status: str = ""


@dataclass(frozen=True, slots=True)
class NewDsn:
    """What a reverse-path is owed for recipients that failed; written in the commit that makes them FAILED.

    reverse_path  of the transaction, never null
    headers       the header of what was sent, as octets with CRLF, bounded
    envelope_id   the ENVID given with MAIL, decoded; "" if none (RFC 3461 §4.4)
    at_s          when they failed, seconds since the epoch
    """

    filebase: str
    message: MessageRecord
    reverse_path: str
    recipients: tuple[DsnRecipient, ...]
    headers: bytes
    envelope_id: str
    at_s: float


@dataclass(frozen=True, slots=True)
class OwedDsn:
    """A DSN that is not settled.

    failed_at_s  when the recipients failed
    tried_at_s   when sending was last begun; None: never
    due_s        not to be tried before
    attempts     tries that ended in a deferral
    """

    dsn_id: int
    state: DsnState
    filebase: str
    list_id: str
    message_id: str
    reverse_path: str
    recipients: tuple[DsnRecipient, ...]
    headers: bytes
    envelope_id: str
    failed_at_s: float
    tried_at_s: float | None
    due_s: float
    attempts: int


@dataclass(frozen=True, slots=True)
class DsnBacklog:
    """How many DSNs are not settled.

    owed        all of them, those being sent and those in doubt included
    in_doubt    of these, sent perhaps
    untried_failed_at_s  when the latest recipient failed of those never tried; None if there is none
    next_due_s  least due_s of those to be sent; None if there is none
    """

    owed: int = 0
    in_doubt: int = 0
    untried_failed_at_s: float | None = None
    next_due_s: float | None = None


@dataclass(frozen=True, slots=True)
class Learnt:
    """Recipients that had a message before, according to a log. at_s: when the last of them had it."""

    message: MessageRecord
    recipients: frozenset[RecipientKey]
    at_s: float


@dataclass(frozen=True, slots=True)
class Coverage:
    """One earlier claim on recipients of a message: an entry of the ledger.

    filebase   of an entry of another queue: FILEBASE@QUEUE_ID, which no entry of this queue has
    at_s       whole seconds: the ledger drops the fraction
    reply      the server's answer or our reason; "" for DELIVERED (the log line has it) and while ATTEMPTING
    addresses  in clear where a person has to act: FAILED, IN_DOUBT, HELD and while ATTEMPTING; else empty
    """

    filebase: str
    state: State
    at_s: float
    recipients: frozenset[RecipientKey]
    reply: str = ""
    addresses: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class History:
    """All the ledger knows of one message, oldest first."""

    coverage: tuple[Coverage, ...] = ()

    def with_state(self, *states: State) -> frozenset[RecipientKey]:
        """Keys of the recipients in any of `states`."""
        keys: set[RecipientKey] = set()
        for part in self.coverage:
            if part.state in states:
                keys |= part.recipients
        return frozenset(keys)


@dataclass(frozen=True, slots=True)
class Akin:
    """A message with the same name as another one (kin_of) that shares no digest with it.

    is_decorated  an entry of it had the list's header and footer in it already
    """

    is_decorated: bool
    history: History


@dataclass(frozen=True, slots=True)
class Deferral:
    """When a deferred entry is due again.

    attempts     passes made so far, >= 1
    first_at_s   when it was first deferred: `feed.give_up_after` counts from here
    recipients   how many wait
    """

    filebase: str
    attempts: int
    first_at_s: float
    due_s: float
    recipients: int
    reply: str


@dataclass(frozen=True, slots=True)
class Hold:
    """An entry set aside for a person."""

    filebase: str
    reason: str
    detail: str
    by: str
    at_s: float


INTAKE = "*"
"""Pause.list_id that pauses intake from Mailman's queues. Set after a hand-back, or the entries would be taken again."""


@dataclass(frozen=True, slots=True)
class Pause:
    """A pause the operator ordered. list_id "" pauses all delivery; until_s None lasts until resumed."""

    list_id: str
    since_s: float
    until_s: float | None
    by: str
    reason: str

    def set_back(self, by_s: float) -> Pause:
        """As it reads on a clock that was set back by so much. One without an end stays as it is."""
        if self.until_s is None:
            return self
        return replace(self, since_s=self.since_s - by_s, until_s=self.until_s - by_s)


@dataclass(frozen=True, slots=True)
class DomainOrder:
    """What an operator ordered for a destination: a recipient domain in lower case, or a group of the settings.

    per_s           recipients per second, whatever was learnt; infinite: no ceiling, None: as learnt
    paused_until_s  held back until then, seconds since the epoch; infinite: until ordered otherwise, None: not held back
    """

    destination: str
    per_s: float | None
    paused_until_s: float | None
    since_s: float
    by: str
    reason: str

    def set_back(self, by_s: float) -> DomainOrder:
        """As Pause.set_back. One that holds nothing back stays as it is."""
        if self.paused_until_s is None:
            return self
        return replace(self, since_s=self.since_s - by_s, paused_until_s=self.paused_until_s - by_s)


@dataclass(frozen=True, slots=True)
class OperatorState:
    """What the operator decided, as it survives a restart.

    messages_per_s, recipients_per_s  None: as the settings file says
    domains  at most one for each destination
    version  grows by one with every decision; 0: nothing was decided yet
    """

    pauses: tuple[Pause, ...] = ()
    messages_per_s: float | None = None
    recipients_per_s: float | None = None
    version: int = 0
    domains: tuple[DomainOrder, ...] = ()

    def changed(self, **changes: Any) -> OperatorState:
        """The next state: this one with other pauses or rates."""
        return replace(self, **changes, version=self.version + 1)


@dataclass(frozen=True, slots=True)
class JournalLine:
    """One thing an operator (or the service itself) did, with who and why."""

    at_s: float
    by: str
    action: str
    detail: str


@dataclass(frozen=True, slots=True)
class Totals:
    """Durable counters since the drain began (`since_s`), added up in the same commit as what they count."""

    since_s: float = 0.0
    counts: dict[str, int] = field(default_factory=dict)

    def get(self, name: str) -> int:
        return self.counts.get(name, 0)
