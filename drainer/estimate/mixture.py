"""The unit of work: transactions, recipients, octets, or a mixture of them.

In    amounts in each unit, of the whole drain and of neighbouring rows of it
Out   one number, in recipients
Pure  values only

Work is counted in the mixture whose rate is most even. If every transaction costs the MTA the same, or a limit is on
messages, that is transactions. If every recipient costs, it is recipients. If large mails fill the line, it is octets.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

Shares = tuple[float, float, float]

REMEMBERED_ROWS = 25
"""The unevenness is measured over about this many rows."""
_SHARES_AT_FIRST: Shares = (0.5, 0.5, 0.0)
_SHARE_STEPS = 20
_RELUCTANCE = 0.002
"""Another mixture is chosen only if its variance is smaller by this much."""
_SHARES = [
    (one / _SHARE_STEPS, other / _SHARE_STEPS, (_SHARE_STEPS - one - other) / _SHARE_STEPS)
    for one in range(_SHARE_STEPS + 1)
    for other in range(_SHARE_STEPS + 1 - one)
]
"""The mixtures that are tried if octets are known."""


@dataclass(frozen=True, slots=True)
class Units:
    """An amount of work in each unit.

    messages  transactions; entries, if transactions are not known
    octets    0 everywhere: not known
    """

    messages: float
    recipients: float
    octets: float = 0.0

    def __add__(self, other: Units) -> Units:
        return Units(self.messages + other.messages, self.recipients + other.recipients, self.octets + other.octets)

    def per(self, seconds: float) -> Units:
        return Units(self.messages / seconds, self.recipients / seconds, self.octets / seconds)


NOTHING = Units(0.0, 0.0)


class Mixture:
    """A weighted sum of the three units, each converted to recipients by its total in the whole drain.

    shares  weights of messages, recipients and octets; their sum is 1
    whole   the work of the whole drain, done and left
    """

    def __init__(self) -> None:
        self.shares = _SHARES_AT_FIRST
        self.whole = Units(1.0, 1.0)
        self._unevenness = [[0.0] * 3 for _ in range(3)]

    def of(self, units: Units) -> float:
        return _mixed(self.shares, self._worth(units))

    def learn(self, before: Units, now: Units) -> float:
        """Learn from the rates of neighbouring rows. Returns their relative difference in the new mixture."""
        before_worth, now_worth = self._worth(before), self._worth(now)
        measured = 3 if self.whole.octets else 2
        level = max(1e-9, (sum(before_worth[:measured]) + sum(now_worth[:measured])) / (2 * measured))
        off = [(after - earlier) / level for earlier, after in zip(before_worth, now_worth, strict=True)]
        keep = 1 - 1 / REMEMBERED_ROWS
        self._unevenness = [
            [keep * old + one * other for old, other in zip(row, off, strict=True)]
            for row, one in zip(self._unevenness, off, strict=True)
        ]
        self.shares = self._evenest() if measured == 2 else min(_SHARES, key=self._variance)
        return _mixed(self.shares, off)

    def _worth(self, units: Units) -> tuple[float, float, float]:
        whole = self.whole
        octet = whole.recipients / whole.octets if whole.octets else 0.0
        return units.messages * whole.recipients / max(whole.messages, 1e-9), units.recipients, units.octets * octet

    def _evenest(self) -> Shares:
        """The shares with the least _variance, without octets."""
        (messages, both, _), (_, recipients, _), _ = self._unevenness
        reluctance = _RELUCTANCE * (messages + recipients + 1e-12)
        share = (recipients - both + reluctance) / (messages + recipients - 2 * both + 2 * reluctance)
        share = min(1.0, max(0.0, share))
        return share, 1 - share, 0.0

    def _variance(self, shares: Shares) -> float:
        """Variance of the differences so far; among equals, the first shares have the least."""
        found = sum(
            one * other * self._unevenness[row][column]
            for row, one in enumerate(shares)
            for column, other in enumerate(shares)
        )
        scale = sum(self._unevenness[at][at] for at in range(3)) + 1e-12
        far = sum((one - first) ** 2 for one, first in zip(shares, _SHARES_AT_FIRST, strict=True))
        return found + _RELUCTANCE * scale * far


def _mixed(shares: Shares, values: Iterable[float]) -> float:
    return sum(share * value for share, value in zip(shares, values, strict=True))
