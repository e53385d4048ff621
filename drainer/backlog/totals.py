"""How much waits: overall, by list and by class, and what is still to be sent.

In    the sums that every write keeps up to date (sums.py); a few queries that an index of SQLite answers at once
Out   BacklogTotals, ListTotals, ToSend
Raises    IndexUnusable

Cheap enough to be asked each second.
"""

from __future__ import annotations

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

    def overall(self) -> BacklogTotals:
        """Of all entries."""
        if self._overall is None or self._overall[0] != self._store.changes:
            ((oldest_s,),) = self._store.query("SELECT min(when_s) FROM entry WHERE state <> 'held'")
            self._overall = self._store.changes, self._sums.totals(oldest_s)
        return self._overall[1]

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

    def by_domain(self, with_resends: bool, without_lists: Collection[str] = ()) -> dict[str, int]:
        """Recipients to be sent to, in each domain that is counted (queuedir/domains.py, store.MOST_DOMAINS); duplicates and
        held entries do not count.

        with_resends  mails that a person sent again count too
        """
        names, without = self._store.domain_names, self._numbers(without_lists)
        return {names[at]: left for at, left in self._sums.by_domain(with_resends, without).items() if left > 0}

    def in_domain(self, domain: str, with_resends: bool, without_lists: Collection[str] = ()) -> int:
        """The same for one domain."""
        number = self._store.domain_number(domain)
        return 0 if number is None else self._sums.in_domain(number, with_resends, self._numbers(without_lists))

    def _numbers(self, lists: Collection[str]) -> set[int]:
        return {self._store.lists[name] for name in lists if name in self._store.lists}

    def in_lane(self, destination: str) -> dict[str, int]:
        """Entries that wait for this destination, by list."""
        lane = self._store.lane_number(destination)
        ready = self._sums.ready.items()
        return {
            self._store.list_names[number]: count for (of_lane, number), count in ready if of_lane == lane and count
        }

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
        for number, counted in self._sums.per_list().items():
            ((oldest_s,),) = self._store.query(
                "SELECT min(when_s) FROM entry WHERE state <> 'held' AND is_read = 1 AND list = ?", (number,)
            )
            last_due_s = None
            if counted["deferred_recipients"]:
                query = "SELECT max(due_s) FROM entry WHERE state = 'deferred' AND list = ?"
                ((last_due_s,),) = self._store.query(query, (number,))
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
