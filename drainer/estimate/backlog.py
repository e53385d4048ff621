"""How much is left to do, in recipients.

In    counts of the entries read so far and of those nobody has read yet
Out   Amount: recipients still to be serviced, with a standard deviation
Pure  values only
"""

from __future__ import annotations

import math
from dataclasses import dataclass


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
class Work:
    """What is still to be serviced. Held entries and recipients expected to be suppressed are no work and not in it.

    recipients           owed by entries that were read, deferred ones included
    deferred_recipients  of these, not due before some moment; the last of them is due in `last_due_in_s`
    retry_wait_s         how long one waits that is deferred once more
    paused_recipients    owed on lists the operator paused; not in `recipients`
    unread_entries       entries nobody has read yet; they count by the mean of `sizes`
    entries              that `recipients` are owed by; 0: not known
    """

    recipients: int
    deferred_recipients: int = 0
    last_due_in_s: float = 0.0
    retry_wait_s: float = 0.0
    paused_recipients: int = 0
    unread_entries: int = 0
    sizes: EntrySizes = EntrySizes()
    entries: int = 0


@dataclass(frozen=True, slots=True)
class Amount:
    """Recipients to be serviced, and the standard deviation of that."""

    recipients: float
    deviation: float


def amount(work: Work) -> Amount | None:
    """All that is left; None while entries are unread and none was read to tell their size."""
    if not work.unread_entries:
        return Amount(float(work.recipients), 0.0)
    mean = work.sizes.mean
    if mean is None:
        return None
    unread, read = work.unread_entries, work.sizes.entries
    # The scatter of the unread entries, and how unsure the mean of the read ones is, for all of them alike.
    variance = work.sizes.variance * unread * (1 + unread / read)
    return Amount(work.recipients + unread * mean, math.sqrt(variance))
