"""Whose turn it is when lists share the feed by recipients: each list by its weight.

In    the lists that have entries to pick, their weights, the recipients of each entry that is picked
Out   the list that goes next
Pure  values only; lists are numbers, as the index has them

Start-time fair queueing (Goyal, Vin, Cheng: "Start-time Fair Queuing", SIGCOMM 1996). Each list has a tag: the recipients it
was served, divided by its weight. The list with the lowest tag goes next. A list that comes back starts at the tag of the
list that was served last, so it claims nothing for the time in which it had no entries. Of any two lists that both have
entries, what each was served by its weight differs by no more than one entry of each.
Deficit round robin (Shreedhar, Varghese, SIGCOMM 1996) costs less for a packet, but needs a quantum. Entries have 1 to
10,000 recipients: a small quantum takes many rounds of all lists for one entry, and with a large one a list sends many
entries in a row. Here a pick costs O(log lists), and what changed since the last one.
"""

from __future__ import annotations

import heapq
from collections.abc import Generator, Mapping, Set

LEAST_COST = 1
"""An entry with nobody left to send to costs a look at its file. Otherwise a list of them would always be next."""
_PAST_TAGS_KEPT = 64


class FairShares:
    """The tags. `enter` with the lists that can go now, then `next_in_turn`; `charge` for each entry that goes."""

    def __init__(self) -> None:
        self._tags: dict[int, float] = {}
        self._present: Set[int] = frozenset()
        self._weights: Mapping[int, float] = {}
        self._served_last = 0.0
        self._in_order: list[tuple[float, int]] = []
        """A heap of tags with their lists. Tags that are past and lists that have left are passed over."""

    def enter(self, lists: Set[int], weights: Mapping[int, float]) -> None:
        """These lists have entries to pick, and no others.

        weights  by list, > 0; a list without one has the weight 1
        """
        self._weights = weights
        if self._present.isdisjoint(lists):
            # All that waited before is gone. Nobody is owed anything.
            self._served_last = max(self._tags.values(), default=0.0)
            self._tags.clear()
        for newcomer in lists - self._present:
            self._set(newcomer, max(self._tags.get(newcomer, 0.0), self._served_last))
        self._present = lists
        if len(self._in_order) > _PAST_TAGS_KEPT + 2 * len(lists):
            self._in_order = [(self._tags[number], number) for number in lists]
            heapq.heapify(self._in_order)

    def next_in_turn(self) -> Generator[int, bool, None]:
        """A list, again and again: the one with the lowest tag, by the charges made meanwhile. `send(True)`: it has no entry
        left. Ends when no list has any; to be closed before `enter` is called again."""
        empty: set[int] = set()
        try:
            while (number := self._lowest()) is not None:
                is_empty = yield number
                if is_empty:
                    heapq.heappop(self._in_order)
                    empty.add(number)
        finally:
            for number in empty:
                heapq.heappush(self._in_order, (self._tags[number], number))

    def _lowest(self) -> int | None:
        """The list with the lowest tag; it is the first in the heap then."""
        while self._in_order:
            tag, number = self._in_order[0]
            if number in self._present and self._tags[number] == tag:
                return number
            heapq.heappop(self._in_order)
        return None

    def _set(self, number: int, tag: float) -> None:
        self._tags[number] = tag
        heapq.heappush(self._in_order, (tag, number))

    def charge(self, number: int, recipients: int) -> None:
        """An entry of this list with so many recipients to send to goes now."""
        tag = self._tags[number]
        self._served_last = max(self._served_last, tag)
        self._set(number, tag + max(LEAST_COST, recipients) / self._weight(number))

    def refund(self, number: int, recipients: int) -> None:
        """So many of the recipients that were charged for were not sent to: the entry was put off, or was a duplicate."""
        if number in self._tags:
            self._set(number, self._tags[number] - recipients / self._weight(number))

    def _weight(self, number: int) -> float:
        return self._weights.get(number, 1.0)
