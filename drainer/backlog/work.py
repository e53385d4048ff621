"""How much is left to do, in recipients, transactions and octets.

In    counts of the entries read so far, and of the entries not read yet
Out   Amount: recipients still to be serviced, with a standard deviation; the transactions and octets that takes
Pure  values only
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

from drainer.backlog.splits import Splits


@dataclass(frozen=True, slots=True)
class EntrySizes:
    """Recipients owed per entry, over all entries read in this drain; an expected duplicate counts as owing none.

    squares  sum of the squares, for the variance
    """

    entries: int = 0
    recipients: int = 0
    squares: int = 0

    def plus(self, recipients: int) -> EntrySizes:
        return EntrySizes(self.entries + 1, self.recipients + recipients, self.squares + recipients**2)

    @property
    def mean(self) -> float | None:
        return self.recipients / self.entries if self.entries else None

    @property
    def variance(self) -> float:
        """Of one entry's recipients; with a single entry read, as wide as an exponential distribution would be."""
        if not self.entries:
            return 0.0
        mean = self.recipients / self.entries
        if self.entries == 1:
            return mean**2
        return max(0.0, (self.squares - self.entries * mean**2) / (self.entries - 1))


@dataclass(frozen=True, slots=True)
class ToSend:
    """What the entries of one list, in one state, are expected to send. Held entries and covered recipients do not count.

    is_resend    mails that a person sent again, about which duplicates.resend decides
    is_deferred  deferred by the MTA; is_parked: it waits for the ceiling of a recipient domain
    bytes        sizes of the entries; bytes_each: each size once for every recipient owed
    """

    list_id: str
    is_resend: bool
    is_deferred: bool
    is_parked: bool
    entries: int
    recipients: int
    bytes: int
    bytes_each: int


@dataclass(frozen=True, slots=True)
class Expected:
    """What some lists still have to send.

    deferred_recipients  part of `recipients`; parked_recipients: another part, which waits for the ceilings of domains
    messages, octets     transactions, and the octets they carry
    """

    recipients: float = 0.0
    deferred_recipients: float = 0.0
    parked_recipients: float = 0.0
    messages: float = 0.0
    octets: float = 0.0

    def __add__(self, other: Expected) -> Expected:
        return Expected(
            self.recipients + other.recipients,
            self.deferred_recipients + other.deferred_recipients,
            self.parked_recipients + other.parked_recipients,
            self.messages + other.messages,
            self.octets + other.octets,
        )


def without_unserved(going: Expected, recipients: float, entries_left: int) -> Expected:
    """The same, but so many of the recipients are in domains that are not served.

    entries_left  entries that have recipients in other domains: each needs a transaction
    """
    if not going.recipients or not recipients:
        return going
    share = max(0.0, 1 - recipients / going.recipients)
    return Expected(
        going.recipients * share,
        min(going.deferred_recipients, going.recipients * share),
        max(0.0, going.parked_recipients - recipients),
        max(going.messages * share, min(going.messages, float(entries_left) if share else 0.0)),
        going.octets * share,
    )


def expected_by_list(to_send: Iterable[ToSend], splits: Splits, with_resends: bool, whole: bool) -> dict[str, Expected]:
    """What each list still has to send, less what the entries in delivery have done already.

    with_resends  resends are sent too
    whole         each entry counts as one transaction: Mailman's runner gets it as it is
    """
    sums: dict[str, list[float]] = {}  # in the order of Expected's fields
    learnt = splits.learnt
    for part in to_send:
        if part.is_resend and not with_resends:
            continue
        recipients, name = part.recipients, part.list_id
        of_list = sums.setdefault(name, [0.0, 0.0, 0.0, 0.0, 0.0])
        of_list[0] += recipients
        of_list[1] += recipients if part.is_deferred else 0
        of_list[2] += recipients if part.is_parked else 0
        of_list[3] += part.entries if whole else learnt.transactions(name, part.entries, recipients)
        of_list[4] += part.bytes if whole else learnt.octets(name, part.bytes, part.bytes_each)
    found = {name: Expected(*of_list) for name, of_list in sums.items()}
    for entry in splits.in_delivery:
        if (left := found.get(entry.list_id)) is not None:
            found[entry.list_id] = replace(
                left,
                recipients=max(0.0, left.recipients - entry.settled),
                messages=max(0.0, left.messages - entry.transactions),
                octets=max(0.0, left.octets - entry.transactions * entry.size_bytes),
            )
    return found


@dataclass(frozen=True, slots=True)
class Work:
    """What is still to be serviced, without held entries and without recipients expected to be suppressed.

    recipients           owed by entries that were read, deferred ones included
    deferred_recipients  the part of these that is deferred; the last of them is due in `last_due_in_s`
    retry_wait_s         how long a recipient waits that is deferred once more
    paused_recipients    owed on lists the operator paused; not in `recipients`, nor the others in `messages`, `octets`
    unserved_recipients  owed on lists, or in domains, that the settings leave out; in no other number
    unread_entries       entries not read yet; each counts as the mean of `sizes`
    messages             transactions they are expected to need (backlog/splits.py); 0: not known
    octets               octets that these carry: an entry's size for each; 0: not known
    """

    recipients: int
    deferred_recipients: int = 0
    last_due_in_s: float = 0.0
    retry_wait_s: float = 0.0
    paused_recipients: int = 0
    unread_entries: int = 0
    sizes: EntrySizes = EntrySizes()
    messages: float = 0.0
    octets: float = 0.0
    paused_messages: float = 0.0
    paused_octets: float = 0.0
    unserved_recipients: int = 0

    @property
    def resumed(self) -> Work:
        """The same after the end of all pauses."""
        return replace(
            self,
            recipients=self.recipients + self.paused_recipients,
            messages=self.messages + self.paused_messages,
            octets=self.octets + self.paused_octets,
            paused_recipients=0,
            paused_messages=0.0,
            paused_octets=0.0,
        )


@dataclass(frozen=True, slots=True)
class Amount:
    """Recipients to be serviced, and the standard deviation of that; messages and octets as in Work."""

    recipients: float
    deviation: float
    messages: float = 0.0
    octets: float = 0.0


def amount(work: Work) -> Amount | None:
    """All that is left; None while entries are unread and no entry was read whose size could stand for theirs."""
    if not work.unread_entries:
        return Amount(float(work.recipients), 0.0, work.messages, work.octets)
    mean = work.sizes.mean
    if mean is None:
        return None
    unread, read = work.unread_entries, work.sizes.entries
    # The scatter of the unread entries, and the uncertainty of the mean, which is the same for all of them.
    variance = work.sizes.variance * unread * (1 + unread / read)
    # Entries not read yet are taken to be like the entries read.
    more = unread * mean / work.recipients if work.recipients else 0.0
    return Amount(
        work.recipients + unread * mean, math.sqrt(variance), work.messages * (1 + more), work.octets * (1 + more)
    )
