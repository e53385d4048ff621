"""How many transactions the entries of a list take: learnt from those that were sent.

In    entries whose turn came, and every transaction of theirs, with its recipients and the size of the entry
Out   the transactions, and the octets they carry, that entries still to be sent will take
Pure  values only; three numbers for each list, one for each entry in delivery

An entry owed to n recipients takes 1 + beyond * (n - 1) transactions, `beyond` being the list's own: 1 under VERP or on
a personalised list, little where Mailman splits by top-level domain or by the size of a chunk. Whoever knows how a list
is composed could say so at once; but then it would have to be known twice, and plugins may change it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

_AT_FIRST = 0.1
_LIKE_OTHERS = 3.0
"""A list of which nothing was sent yet is as all the others, as if so many further recipients of it had been seen."""


@dataclass(slots=True)
class _Seen:
    entries: int = 0
    transactions: int = 0
    recipients: float = 0.0

    def learn(self, entry: InDelivery) -> None:
        if entry.transactions:
            whole = max(1.0, entry.owed / entry.recipients)
            self.entries += 1
            self.transactions += math.ceil(entry.transactions * whole - 1e-9)
            self.recipients += entry.recipients * whole

    def beyond(self, at_first: float) -> float:
        further = max(0.0, self.recipients - self.entries)
        extra = min(max(0, self.transactions - self.entries), further)
        return (extra + at_first * _LIKE_OTHERS) / (further + _LIKE_OTHERS)


@dataclass(frozen=True, slots=True)
class InDelivery:
    """Of an entry whose turn it is: its transactions so far, whom they were for, and how many of these are settled.

    owed  recipients it was to be sent to when it began
    """

    list_id: str
    size_bytes: int
    owed: int
    transactions: int = 0
    recipients: int = 0
    settled: int = 0


@dataclass(slots=True)
class Splits:
    """octets: of all transactions so far, an entry's size for each."""

    octets: int = 0
    _lists: dict[str, _Seen] = field(default_factory=dict)
    _all: _Seen = field(default_factory=_Seen)
    _in_delivery: dict[str, InDelivery] = field(default_factory=dict)

    def begun(self, filebase: str, list_id: str, size_bytes: int, owed: int) -> None:
        """An entry is about to be sent to somebody."""
        self._in_delivery[filebase] = InDelivery(list_id, size_bytes, owed)

    def sent(self, filebase: str, recipients: int, settled: int) -> None:
        """A transaction of an entry that has begun was answered."""
        before = self._in_delivery[filebase]
        self._in_delivery[filebase] = replace(
            before,
            transactions=before.transactions + 1,
            recipients=before.recipients + recipients,
            settled=before.settled + settled,
        )
        self.octets += before.size_bytes

    def ended(self, filebase: str) -> None:
        """The index knows by now what is owed."""
        if (entry := self._in_delivery.pop(filebase, None)) is not None:
            entry = replace(entry, owed=entry.recipients)
            for seen in (self._all, self._lists.setdefault(entry.list_id, _Seen())):
                seen.learn(entry)

    @property
    def in_delivery(self) -> list[InDelivery]:
        return list(self._in_delivery.values())

    @property
    def learnt(self) -> Learnt:
        """As things are now. Entries in delivery count as what they have done makes expect of them: where all go side by
        side, those of many transactions end last, and would be heard of too late."""
        everything, lists = replace(self._all), dict(self._lists)
        touched = {entry.list_id for entry in self._in_delivery.values() if entry.transactions}
        lists |= {name: replace(lists.get(name, _Seen())) for name in touched}
        for entry in self._in_delivery.values():
            everything.learn(entry)
            if entry.transactions:
                lists[entry.list_id].learn(entry)
        return Learnt(everything.beyond(_AT_FIRST), lists)


@dataclass(frozen=True, slots=True)
class Learnt:
    """others: transactions for each recipient beyond an entry's first, on a list of which nothing was sent."""

    others: float
    lists: Mapping[str, _Seen]

    def transactions(self, list_id: str, entries: float, recipients: float) -> float:
        """That so many entries of a list, owed to so many recipients, will take."""
        return entries + self._beyond(list_id) * max(0.0, recipients - entries)

    def octets(self, list_id: str, bytes_once: float, bytes_each: float) -> float:
        """That they will carry.

        bytes_once, bytes_each  sum of the entries' sizes: each counted once; each as often as it is owed to somebody
        """
        return bytes_once + self._beyond(list_id) * max(0.0, bytes_each - bytes_once)

    def _beyond(self, list_id: str) -> float:
        seen = self.lists.get(list_id)
        return self.others if seen is None else seen.beyond(self.others)
