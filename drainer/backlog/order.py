"""Which entry goes next: waiting entries, and deferred ones that are due, in the order the settings ask for.

In    the order, the lists that are paused, the time
Out   entries that may become active
Raises    IndexUnusable
Not here  the change to ACTIVE (index.py); how many are asked for, and when (feed/)
"""

from __future__ import annotations

import heapq
from collections import Counter, deque
from collections.abc import Generator, Iterator, Sequence, Set
from contextlib import closing

from drainer.backlog.store import Store, split
from drainer.backlog.sums import IndexSums
from drainer.backlog.values import Order, WaitingEntry
from drainer.duplicates.classes import DuplicateClass
from drainer.ledger.records import kin_of

_Candidate = tuple[str, float, int, int, str, bytes, str, int]


class PickOrder:
    """Knows which entries are active, so that two copies of one mail are never active at once."""

    def __init__(self, store: Store, sums: IndexSums) -> None:
        self._store = store
        self._sums = sums
        self._names_by_entry: dict[int, frozenset[bytes]] = {}
        self._active_names: Counter[bytes] = Counter()
        self._last_list = 0

    def next_waiting(
        self,
        order: Order,
        now_s: float,
        paused_lists: Set[str] = frozenset(),
        limit: int = 1,
        priority: Sequence[str] = (),
    ) -> list[WaitingEntry]:
        """Entries that may become active, in order: waiting ones, and deferred ones that are due.

        priority  list-ids in the order they go, for order "priority"; the other lists follow, oldest entry first
        Returns   at most `limit`. No digest of them begins like one of an active entry, or of another one returned
                  (records.kin_of): two such entries may be one mail, and the outcome of the first decides about the
                  second. The entries stay as they are: the caller calls set_state(ACTIVE)
        """
        self._make_ready(now_s)
        lists = self._store.lists
        paused = {lists[name] for name in paused_lists if name in lists}
        found: list[WaitingEntry] = []
        taken: set[bytes] = set()
        with closing(self._in_order(order, paused, priority)) as candidates:
            for filebase, when_s, number, owed, duplicate, joined, message_id, _ in candidates:
                if len(found) == limit:
                    break
                identity = split(joined)
                names = set(map(kin_of, identity))
                if any(name in self._active_names or name in taken for name in names):
                    continue
                taken |= names
                found.append(
                    WaitingEntry(
                        filebase,
                        when_s,
                        self._store.list_names[number],
                        owed,
                        identity,
                        DuplicateClass(duplicate),
                        message_id,
                    )
                )
                self._last_list = number
        return found

    def begin(self, id_: int, identity: Sequence[bytes]) -> None:
        """An entry is active from now on. Called again, it counts once, with the digests it has now."""
        self.end(id_)
        names = frozenset(map(kin_of, identity))
        self._names_by_entry[id_] = names
        self._active_names.update(names)

    def end(self, id_: int) -> None:
        """It is not active any more; nothing happens if it was not."""
        for name in self._names_by_entry.pop(id_, ()):
            self._active_names[name] -= 1
            if not self._active_names[name]:
                del self._active_names[name]

    def last_due_s(self) -> float | None:
        """When the last deferred entry is due, seconds since the epoch; None if none is deferred."""
        return self._due_s("SELECT max(due_s) FROM entry WHERE state = 'deferred'")

    def next_due_s(self) -> float | None:
        """When the next deferred entry is due, seconds since the epoch; None if none waits for its time."""
        return self._due_s("SELECT min(due_s) FROM entry WHERE state = 'deferred' AND ready = 0")

    def shift_due(self, by_s: float) -> None:
        """The clock was set forward by this much (back, if negative): each deferred entry waits as long as before."""
        self._store.execute_many("UPDATE entry SET due_s = due_s + ? WHERE state = 'deferred'", [(by_s,)])

    def _due_s(self, sql: str) -> float | None:
        ((value,),) = self._store.query(sql)
        return float(value) if isinstance(value, float | int) else None

    def _make_ready(self, now_s: float) -> None:
        """Deferred entries that are due can be picked from now on."""
        due = self._store.query(
            "SELECT id, list FROM entry WHERE state = 'deferred' AND ready = 0 AND is_read = 1 AND due_s <= ?", (now_s,)
        )
        if due:
            self._store.execute_many("UPDATE entry SET ready = 1 WHERE id = ?", [(id_,) for id_, _ in due])
            self._sums.ready.update(number for _, number in due)

    def _in_order(self, order: Order, paused: Set[int], priority: Sequence[str]) -> Generator[_Candidate, None, None]:
        lists = [number for number, count in self._sums.ready.items() if count and number not in paused]
        match order:
            case "fair":
                lists.sort(key=lambda number: (number <= self._last_list, number))
                yield from _in_turns([self._ready_of(number) for number in lists])
            case "priority":
                numbers = self._store.lists
                first = [numbers[name] for name in dict.fromkeys(priority) if numbers.get(name) in lists]
                for number in first:
                    yield from self._ready_of(number)
                yield from self._merged([number for number in lists if number not in first])
            case "fresh" | "fifo":
                newest_first = order == "fresh"
                if paused:
                    yield from self._merged(lists, newest_first)
                else:
                    yield from self._ready_of(None, newest_first)

    def _merged(self, lists: Sequence[int], newest_first: bool = False) -> Iterator[_Candidate]:
        """One query for each list that is not paused. A single query over all lists would read every paused entry on its
        way, and there may be a million."""
        return heapq.merge(
            *(self._ready_of(number, newest_first) for number in lists),
            key=lambda candidate: (candidate[1], -candidate[7] if newest_first else candidate[7], candidate[0]),
            reverse=newest_first,
        )

    def _ready_of(self, number: int | None, newest_first: bool = False) -> Generator[_Candidate, None, None]:
        direction = "DESC" if newest_first else "ASC"
        of_list = "" if number is None else "AND e.list = ?"
        cursor = self._store.execute(
            "SELECT e.filebase, e.when_s, e.list, e.owed, e.duplicate, d.identity, d.message_id, e.tie FROM entry e"
            f" JOIN detail d ON d.id = e.id WHERE e.ready = 1 {of_list}"
            f" ORDER BY e.when_s {direction}, e.tie, e.filebase {direction}",
            () if number is None else (number,),
        )
        with closing(cursor):
            yield from cursor


def _in_turns(sources: Sequence[Iterator[_Candidate]]) -> Iterator[_Candidate]:
    """One from each source in turn, until all are empty."""
    waiting = deque(sources)
    while waiting:
        source = waiting.popleft()
        candidate = next(source, None)
        if candidate is not None:
            yield candidate
            waiting.append(source)
