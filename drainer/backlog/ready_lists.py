"""Which lists have entries that can be picked, in each lane.

In    entries that become ready, and that are ready no longer
Out   for each lane its lists, each with the number of such entries, and a moment before which none of them was received
Pure  values only; lanes and lists are numbers, as the index has them

The moments spare a query for each list: only the lists with the earliest ones have to be asked for their next entry.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping


class ReadyLists:
    """Lane 0 has the entries that wait for no destination."""

    def __init__(self) -> None:
        self._entries: dict[int, dict[int, int]] = {}
        self._total: dict[int, int] = {}
        self._since_s: dict[int, dict[int, float]] = {}

    def add(self, lane: int, number: int, when_s: float) -> None:
        """An entry of this list that was received then can be picked."""
        entries = self._entries.get(lane)
        if entries is None:
            entries = self._entries[lane] = {}
            self._total[lane], self._since_s[lane] = 0, {}
        entries[number] = entries.get(number, 0) + 1
        self._total[lane] += 1
        since_s = self._since_s[lane]
        if when_s < since_s.get(number, math.inf):
            since_s[number] = when_s

    def remove(self, lane: int, number: int) -> None:
        """One that could be picked cannot be any more."""
        entries = self._entries[lane]
        self._total[lane] -= 1
        if entries[number] > 1:
            entries[number] -= 1
        else:
            del entries[number]
            del self._since_s[lane][number]

    def of(self, lane: int) -> Mapping[int, int]:
        """The lists with such entries, each with their number; it goes on changing."""
        return self._entries.get(lane, {})

    def total(self, lane: int) -> int:
        """Such entries of all lists."""
        return self._total.get(lane, 0)

    def not_before(self, lane: int, number: int) -> float:
        """No such entry of this list was received earlier, seconds since the epoch."""
        return self._since_s[lane][number]

    def found_first(self, lane: int, number: int, when_s: float) -> None:
        """The first of them was looked up, and was received then."""
        if number in self._since_s[lane]:
            self._since_s[lane][number] = when_s

    @property
    def lanes(self) -> Collection[int]:
        """Those that have such entries."""
        return [lane for lane, total in self._total.items() if total]
