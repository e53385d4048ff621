"""How much waits: overall, by list and by class, and what is still to be sent.

In    the sums that every write keeps up to date (sums.py); a few queries that an index of SQLite answers at once
Out   BacklogTotals, ListTotals, ToSend
Raises    IndexUnusable

Cheap enough to be asked each second.
"""

from __future__ import annotations

import math
from collections.abc import Collection

from drainer.backlog.store import Store
from drainer.backlog.sums import IndexSums
from drainer.backlog.values import BacklogTotals, ListTotals
from drainer.backlog.work import ToSend


class Totals:
    """Questions only; nothing changes."""

    def __init__(self, store: Store, sums: IndexSums) -> None:
        self._store = store
        self._sums = sums
        self._overall: tuple[int, BacklogTotals] | None = None
        self._per_list: tuple[int, list[ListTotals]] | None = None

    @property
    def changes(self) -> int:
        """Changes of the index since the start. While this stays the same, so does everything here."""
        return self._store.changes

    def overall(self) -> BacklogTotals:
        """Of all entries."""
        if self._overall is None or self._overall[0] != self._store.changes:
            self._overall = self._store.changes, self._sums.totals(self._oldest_s())
        return self._overall[1]

    def _oldest_s(self) -> float | None:
        """Of all that are not held. Each entry is in one of these at least, and each of them is an index of SQLite."""
        store = self._store
        found = [
            store.query_waiting("SELECT min(when_s) FROM listed"),
            store.query_waiting("SELECT min(when_s) FROM entry WHERE state = 'listed'"),
            store.query_waiting("SELECT min(when_s) FROM entry WHERE state = 'deferred'"),
        ]
        of_lane = "SELECT min(when_s) FROM entry WHERE ready = 1 AND lane = ?"
        found += [store.query_waiting(of_lane, (lane,)) for lane in self._sums.ready.lanes]
        moments = [store.in_delivery.oldest_s(), *(when_s for ((when_s,),) in found)]
        return min((when_s for when_s in moments if when_s is not None), default=None)

    def to_send(self) -> list[ToSend]:
        """Of the entries read so far."""
        return self._sums.to_send(self._store.list_names)

    def by_list_and_class(self) -> list[tuple[str, str, int, int, int]]:
        """List, class, entries, recipients they name, bytes; of all entries, held ones too. List and class of entries not
        read yet are ""."""
        return self._sums.by_list_and_class(self._store.list_names)

    def lanes(self) -> dict[str, int]:
        """Destinations that entries wait for, each with the recipients that those entries owe."""
        in_lane, parked = self._sums.in_lane, self._sums.parked
        return {name: parked[number] for name, number in self._store.lanes.items() if in_lane[number]}

    def by_domain(self, with_resends: bool, without_lists: Collection[str] = (), at_least: int = 1) -> dict[str, int]:
        """Recipients to be sent to, in each domain that is counted (queuedir/domains.py, store.MOST_DOMAINS); duplicates and
        held entries do not count.

        with_resends  mails that a person sent again count too
        at_least      only domains with so many
        """
        names, without = self._store.domain_names, self._numbers(without_lists)
        return {names[at]: left for at, left in self._sums.by_domain(with_resends, without).items() if left >= at_least}

    def in_domain(self, domain: str, with_resends: bool, without_lists: Collection[str] = ()) -> int:
        """The same for one domain."""
        number = self._store.domain_number(domain)
        return 0 if number is None else self._sums.in_domain(number, with_resends, self._numbers(without_lists))

    def _numbers(self, lists: Collection[str]) -> set[int]:
        return {self._store.lists[name] for name in lists if name in self._store.lists}

    def in_lane(self, destination: str) -> dict[str, int]:
        """Entries that wait for this destination, by list."""
        ready = self._sums.ready.of(self._store.lane_number(destination))
        return {self._store.list_names[number]: count for number, count in ready.items()}

    def list_ids(self) -> tuple[str, ...]:
        """Lists of all entries read since the start, finished entries included."""
        return tuple(self._store.list_names[1:])

    @property
    def list_count(self) -> int:
        """How many these are."""
        return len(self._store.list_names) - 1

    def per_list(self) -> list[ListTotals]:
        """One for each list that has entries, most recipients first."""
        # One snapshot asks several times, and a thousand lists are a thousand queries.
        if self._per_list is None or self._per_list[0] != self._store.changes:
            self._per_list = self._store.changes, self._counted_per_list()
        return list(self._per_list[1])

    def _counted_per_list(self) -> list[ListTotals]:
        found = []
        oldest = self._oldest_of_lists()
        for number, counted in self._sums.per_list().items():
            oldest_s, last_due_s = oldest.get(number), None
            if counted["deferred_entries"]:
                of_list = "FROM entry WHERE state = 'deferred' AND list = ? AND is_read = 1"
                ((first_s,),) = self._store.query_waiting(f"SELECT min(when_s) {of_list}", (number,))
                oldest_s = first_s if oldest_s is None else min(oldest_s, first_s)
                if counted["deferred_recipients"]:
                    ((last_due_s,),) = self._store.query_waiting(f"SELECT max(due_s) {of_list}", (number,))
            found.append(
                ListTotals(
                    self._store.list_names[number],
                    counted["entries"],
                    counted["recipients"],
                    counted["bytes"],
                    counted["deferred_recipients"],
                    counted["held_entries"],
                    oldest_s,
                    last_due_s,
                )
            )
        return sorted(found, key=lambda totals: (-totals.recipients, totals.list_id))

    def _oldest_of_lists(self) -> dict[int, float]:
        """Of the entries that can be picked, and of those in delivery."""
        store, ready = self._store, self._sums.ready
        found = store.in_delivery.oldest_of_lists()
        query = "SELECT min(when_s) FROM entry WHERE ready = 1 AND lane = ? AND list = ?"
        for lane in ready.lanes:
            for number in ready.of(lane):
                ((when_s,),) = store.query_waiting(query, (lane, number))
                ready.found_first(lane, number, when_s)
                found[number] = min(when_s, found.get(number, math.inf))
        return found
