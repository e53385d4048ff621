"""The limits in force, and the time that they impose.

Pure  values only
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from drainer.estimate.ahead import UNLIMITED, Ahead, Pace


@dataclass(frozen=True, slots=True)
class Ceilings:
    """Limits in force per second; None: unlimited, 0: paused.

    earliest_s  seconds that the recipient domains with their own ceilings need at least; see slowest_domain_s
    ahead       windows in messages and caps in recipients, from now on; the first window is the limit on messages of now
    """

    messages_per_s: float | None = None
    recipients_per_s: float | None = None
    earliest_s: float = 0.0
    ahead: Ahead = field(default=Ahead(), compare=False)

    @property
    def are_zero(self) -> bool:
        """Whether nothing goes, and no window to come changes that."""
        return self.recipients_per_s == 0 or (self.messages_per_s == 0 and not self.ahead.goes_on)

    @property
    def are_zero_now(self) -> bool:
        return 0 in (self.messages_per_s, self.recipients_per_s)

    def ahead_in_work(self, work: float, messages: float, recipients: float) -> Ahead:
        """What is ahead in another unit, of which that many messages and recipients are worth `work`."""
        windows = tuple(
            (at_s, replace(self, messages_per_s=per_s).work_per_s(work, messages, recipients))
            for at_s, per_s in self.ahead.windows
        )
        return Ahead(windows, tuple(cap.times(work / recipients) for cap in self.ahead.caps))

    def work_per_s(self, work: float, messages: float, recipients: float) -> float | None:
        """The limits as one, in work per second; None: none."""
        least_s = self.least_s(messages, recipients)
        return work / least_s if least_s else None

    def most_by(self, seconds: float, recipients_per_message: float | None, left: float) -> float:
        """The most recipients that limits, windows and caps let go within this time; infinite: any number.

        left  of interest
        """
        if not self.ahead or left <= 0:
            return math.inf
        ahead = self.ahead_in_work(left, left / (recipients_per_message or 1.0), left)
        limit = self.work_per_s(left, left / (recipients_per_message or 1.0), left)
        return Ahead(ahead.windows or ((0.0, limit),), ahead.caps).course(Pace(UNLIMITED), left).by(seconds)

    @property
    def lifted_from_zero(self) -> Ceilings:
        """Without limits of zero: to resume, an operator has to lift them."""
        return replace(self, messages_per_s=self.messages_per_s or None, recipients_per_s=self.recipients_per_s or None)

    @property
    def slowest_per_s(self) -> float | None:
        """The lowest limit that is not zero."""
        return min((limit for limit in (self.messages_per_s, self.recipients_per_s) if limit), default=None)

    def least_s(self, messages: float | None, recipients: float) -> float:
        """Seconds that this much work takes at least; 0 without a limit, infinite under a limit of zero.

        messages  None: not known; then the limit on messages does not count
        """
        return max(_at_least_s(messages or 0.0, self.messages_per_s), _at_least_s(recipients, self.recipients_per_s))

    def short_of(self, recipients_per_s: float, recipients_per_message: float | None) -> Ceilings:
        """The limits needed for this rate, where those in force are too low; None where a limit allows it."""
        messages_per_s = None
        if self.messages_per_s is not None and recipients_per_message:
            messages_per_s = recipients_per_s / recipients_per_message
            if messages_per_s <= self.messages_per_s:
                messages_per_s = None
        is_short = self.recipients_per_s is not None and self.recipients_per_s < recipients_per_s
        return Ceilings(messages_per_s, recipients_per_s if is_short else None)


def slowest_domain_s(domains: Iterable[tuple[float, float | None]]) -> float:
    """Seconds that the slowest of the domains needs.

    domains  (recipients left, ceiling per second) of each; None: unlimited; 0: held back, which takes infinitely long
    """
    return max((_at_least_s(recipients, per_s) for recipients, per_s in domains), default=0.0)


def _at_least_s(amount: float, per_s: float | None) -> float:
    if per_s is None or amount <= 0:
        return 0.0
    return amount / per_s if per_s else math.inf
