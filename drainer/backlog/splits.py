"""How many transactions the entries of a list need: learnt from the entries that were sent.

In    entries whose turn came, and each of their transactions, with its recipients and the size of the entry
Out   the transactions that entries still to be sent are expected to need, and the octets these carry
Pure  values only; three numbers for each list, one for each entry in delivery

An entry owed to n recipients needs 1 + beyond * (n - 1) transactions. `beyond` belongs to the list: it is 1 under VERP or
on a personalised list, and small where Mailman splits by top-level domain or by the size of a chunk. The composer could
say it at once; but then it would be known in two places, and plugins may change it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

_AT_FIRST = 0.1
_LIKE_OTHERS = 3.0
"""A list of which nothing was sent yet is taken to be like all the others, with the weight of this many recipients."""


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


@dataclass(slots=True)
class InDelivery:
    """An entry whose turn it is: its transactions so far, their recipients, and how many of these are settled.

    owed  recipients owed when its turn began
    """

    list_id: str
    size_bytes: int
    owed: int
    transactions: int = 0
    recipients: int = 0
    settled: int = 0


@dataclass(slots=True)
class Splits:
    """octets: carried by all transactions so far, an entry's size for each."""

    octets: int = 0
    _lists: dict[str, _Seen] = field(default_factory=dict)
    _all: _Seen = field(default_factory=_Seen)
    _in_delivery: dict[str, InDelivery] = field(default_factory=dict)

    def begun(self, filebase: str, list_id: str, size_bytes: int, owed: int) -> None:
        """An entry is about to be sent."""
        self._in_delivery[filebase] = InDelivery(list_id, size_bytes, owed)

    def sent(self, filebase: str, recipients: int, settled: int) -> None:
        """A transaction of an entry that has begun was answered."""
        entry = self._in_delivery[filebase]
        entry.transactions += 1
        entry.recipients += recipients
        entry.settled += settled
        self.octets += entry.size_bytes

    def ended(self, filebase: str) -> int:
        """The turn is over: the index knows what is owed. Returns how many recipients its transactions had."""
        if (entry := self._in_delivery.pop(filebase, None)) is not None:
            entry.owed = entry.recipients
            for seen in (self._all, self._lists.setdefault(entry.list_id, _Seen())):
                seen.learn(entry)
        return entry.recipients if entry else 0

    @property
    def in_delivery(self) -> list[InDelivery]:
        """As of now; it goes on."""
        return list(self._in_delivery.values())

    @property
    def learnt(self) -> Learnt:
        """As of now. Entries in delivery count by what their transactions so far suggest: entries of many transactions end
        last, so what they teach would come too late."""
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
    """others: transactions for each recipient after an entry's first, on a list of which nothing was sent."""

    others: float
    lists: Mapping[str, _Seen]

    def transactions(self, list_id: str, entries: float, recipients: float) -> float:
        """Transactions that these entries are expected to need."""
        return entries + self._beyond(list_id) * max(0.0, recipients - entries)

    def octets(self, list_id: str, bytes_once: float, bytes_each: float) -> float:
        """Octets that these transactions are expected to carry.

        bytes_once, bytes_each  sum of the entries' sizes: each counted once; each counted for every recipient owed
        """
        return bytes_once + self._beyond(list_id) * max(0.0, bytes_each - bytes_once)

    def _beyond(self, list_id: str) -> float:
        seen = self.lists.get(list_id)
        return self.others if seen is None else seen.beyond(self.others)
