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
entries in a row. Here a pick costs O(log lists).
"""

from __future__ import annotations

import heapq
from collections.abc import Generator, Mapping, Sequence, Set

LEAST_COST = 1
"""An entry with nobody left to send to costs a look at its file. Otherwise a list of them would always be next."""


class FairShares:
    """The tags. `enter` with the lists that can go now, then `next_in_turn`; `charge` for each entry that goes."""

    def __init__(self) -> None:
        self._tags: dict[int, float] = {}
        self._present: Set[int] = frozenset()
        self._weights: Mapping[int, float] = {}
        self._served_last = 0.0

    def enter(self, lists: Sequence[int], weights: Mapping[int, float]) -> None:
        """These lists have entries to pick, and no others.

        weights  by list, > 0; a list without one has the weight 1
        """
        self._weights = weights
        present = frozenset(lists)
        if self._present.isdisjoint(present):
            # All that waited before is gone. Nobody is owed anything.
            self._served_last = max(self._tags.values(), default=0.0)
            self._tags.clear()
        for newcomer in present - self._present:
            self._tags[newcomer] = max(self._tags.get(newcomer, 0.0), self._served_last)
        self._present = present

    def next_in_turn(self) -> Generator[int, bool, None]:
        """A list, again and again: the one with the lowest tag, by the charges made meanwhile. `send(True)`: it has no entry
        left. Ends when no list has any."""
        waiting = [(self._tags[number], number) for number in self._present]
        heapq.heapify(waiting)
        while waiting:
            _, number = waiting[0]
            is_empty = yield number
            if is_empty:
                heapq.heappop(waiting)
            else:
                heapq.heapreplace(waiting, (self._tags[number], number))

    def charge(self, number: int, recipients: int) -> None:
        """An entry of this list with so many recipients to send to goes now."""
        tag = self._tags[number]
        self._served_last = max(self._served_last, tag)
        self._tags[number] = tag + max(LEAST_COST, recipients) / self._weight(number)

    def refund(self, number: int, recipients: int) -> None:
        """So many of the recipients that were charged for were not sent to: the entry was put off, or was a duplicate."""
        if number in self._tags:
            self._tags[number] -= recipients / self._weight(number)

    def _weight(self, number: int) -> float:
        return self._weights.get(number, 1.0)
