"""Which entry goes next: waiting entries, and deferred ones that are due, in the order the settings ask for.

In    the order, the lists that are closed, the weights of lists, the time; the lane of a destination that has room
Out   entries that may become active
Raises    IndexUnusable
Not here  the change to ACTIVE (index.py); how many are asked for, and when (feed/); whose turn it is (fair_shares.py)
"""

from __future__ import annotations

import heapq
import math
from collections import Counter
from collections.abc import Generator, Mapping, Sequence, Set
from contextlib import ExitStack, closing

from drainer.backlog.fair_shares import LEAST_COST, FairShares
from drainer.backlog.store import Store, counts_in, split
from drainer.backlog.sums import IndexSums
from drainer.backlog.values import Order, WaitingEntry
from drainer.duplicates.classes import DuplicateClass
from drainer.ledger.records import kin_of

_Candidate = tuple[str, float, int, int, str, bytes, str, int, int, str, float | None]
_SKIPPED_FOR_A_LIST = 20
"""Passing over this many entries of closed lists takes as long as asking for the first entry of one list (measured)."""


class PickOrder:
    """Knows which entries are active, so that two copies of one mail are never active at once."""

    def __init__(self, store: Store, sums: IndexSums) -> None:
        self._store = store
        self._sums = sums
        self._names_by_entry: dict[int, frozenset[bytes]] = {}
        self._active_names: Counter[bytes] = Counter()
        self._shares: dict[int, FairShares] = {}

    def next_waiting(
        self,
        order: Order,
        now_s: float,
        closed_lists: Set[str] = frozenset(),
        limit: int = 1,
        priority: Sequence[str] = (),
        weights: Mapping[str, float] | None = None,
        lane: str = "",
    ) -> list[WaitingEntry]:
        """Entries that may become active, in order: waiting ones, and deferred ones that are due.

        closed_lists  paused, or not served: none of their entries is read
        priority  list-ids in the order they go, for order "priority"; the other lists follow, oldest entry first
        weights   by list-id, > 0, for order "fair"; a list without one has the weight 1
        lane      entries that wait for the ceiling of this destination; "": those that wait for none
        Returns   at most `limit`. No digest of them begins like one of an active entry, or of another one returned
                  (records.kin_of): two such entries may be one mail, and the outcome of the first decides about the
                  second. The entries stay as they are: the caller calls set_state(ACTIVE). In order "fair" they count as
                  served: for one that sends less than it was expected to, the caller calls `not_sent`
        """
        self._make_ready(now_s)
        lists = self._store.lists
        closed = {lists[name] for name in closed_lists if name in lists}
        by_number = {lists[name]: weight for name, weight in (weights or {}).items() if name in lists}
        of_lane = self._store.lane_number(lane)
        candidates = self._in_order(order, closed, priority, by_number, of_lane)
        return self._picked(candidates, limit, lane, shares=self._shares_of(of_lane) if order == "fair" else None)

    def next_fresh(
        self, received_s: tuple[float, float], closed_lists: Set[str] = frozenset(), limit: int = 1
    ) -> list[WaitingEntry]:
        """Fresh entries that may become active, oldest first: received between these moments, never deferred, and no copy of
        another entry as far as the survey can tell. Otherwise as next_waiting; a list is not charged for them."""
        numbers = self._store.lists
        closed = {numbers[name] for name in closed_lists if name in numbers}
        return self._picked(self._fresh(received_s, closed), limit, "", is_fresh=True)

    def _picked(
        self,
        candidates: Generator[_Candidate, None, None],
        limit: int,
        lane: str,
        *,
        shares: FairShares | None = None,
        is_fresh: bool = False,
    ) -> list[WaitingEntry]:
        found: list[WaitingEntry] = []
        taken: set[bytes] = set()
        with closing(candidates):
            for filebase, when_s, number, owed, duplicate, joined, message_id, _, cost, domains, due_s in candidates:
                identity = split(joined)
                names = set(map(kin_of, identity))
                if any(name in self._active_names or name in taken for name in names):
                    continue
                taken |= names
                if shares is not None:
                    shares.charge(number, cost)
                list_id, kind = self._store.list_names[number], DuplicateClass(duplicate)
                counts = self._store.named(counts_in(domains))
                found.append(
                    WaitingEntry(
                        filebase, when_s, list_id, owed, identity, kind, message_id, cost, counts, lane, None, is_fresh,
                        due_s,
                    )
                )  # fmt: skip
                if len(found) == limit:
                    break
        return found

    def not_sent(self, list_id: str, recipients: int, lane: str = "") -> None:
        """So many recipients of a picked entry were expected to be sent to, and were not: its list has not had its turn."""
        if recipients > 0 and list_id in self._store.lists:
            self._shares_of(self._store.lane_number(lane)).refund(self._store.lists[list_id], recipients)

    def _shares_of(self, lane: int) -> FairShares:
        """The lists take turns in each lane by itself."""
        return self._shares.setdefault(lane, FairShares())

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
        """When the next deferred entry is due, or leaves its lane, seconds since the epoch; None if none does."""
        deferred_s = self._due_s("SELECT min(due_s) FROM entry WHERE state = 'deferred' AND ready = 0")
        in_lane_s = self._due_s(f"SELECT min(due_s) FROM entry WHERE {_DUE_IN_LANE}")
        return min((due_s for due_s in (deferred_s, in_lane_s) if due_s is not None), default=None)

    def shift_due(self, by_s: float) -> None:
        """The clock was set forward by this much (back, if negative): each deferred entry waits as long as before."""
        self._store.execute_many("UPDATE entry SET due_s = due_s + ? WHERE due_s IS NOT NULL", [(by_s,)])

    def _due_s(self, sql: str) -> float | None:
        ((value,),) = self._store.query(sql)
        return float(value) if isinstance(value, float | int) else None

    def _make_ready(self, now_s: float) -> None:
        """Deferred entries that are due can be picked from now on, and parked ones whose refused recipients are due."""
        due = self._store.query(
            "SELECT id, list FROM entry WHERE state = 'deferred' AND ready = 0 AND is_read = 1 AND due_s <= ?", (now_s,)
        )
        if due:
            self._store.execute_many("UPDATE entry SET ready = 1 WHERE id = ?", [(id_,) for id_, _ in due])
            self._sums.ready.update((0, number) for _, number in due)
        parked = self._store.query(f"SELECT filebase FROM entry WHERE {_DUE_IN_LANE} AND due_s <= ?", (now_s,))
        if parked:
            rows = self._store.rows([str(filebase) for (filebase,) in parked])
            self._store.execute_many(
                "UPDATE entry SET lane = 0, reason = '' WHERE id = ?",
                [(row.id,) for row in rows.values()],
            )
            for row in rows.values():
                self._sums.subtract(row)
                row.lane = 0
                self._sums.add(row)

    def _in_order(
        self, order: Order, closed: Set[int], priority: Sequence[str], weights: Mapping[int, float], lane: int
    ) -> Generator[_Candidate, None, None]:
        ready = self._sums.ready.items()
        lists = [number for (of_lane, number), count in ready if of_lane == lane and count and number not in closed]
        match order:
            case "fair":
                yield from self._in_turns(lane, lists, weights)
            case "priority":
                numbers, there = self._store.lists, set(lists)
                first = [numbers[name] for name in dict.fromkeys(priority) if numbers.get(name) in there]
                for number in first:
                    yield from self._ready_of(lane, number)
                set_apart = set(first)
                yield from self._by_age(lane, [number for number in lists if number not in set_apart])
            case "fresh" | "oldest":
                yield from self._by_age(lane, lists)

    def _in_turns(
        self, lane: int, lists: Sequence[int], weights: Mapping[int, float]
    ) -> Generator[_Candidate, None, None]:
        """The next entry of the list whose turn it is, until no list has any."""
        shares = self._shares_of(lane)
        shares.enter(lists, weights)
        turns = shares.next_in_turn()
        with ExitStack() as opened:
            sources: dict[int, Generator[_Candidate, None, None]] = {}
            number = next(turns, None)
            while number is not None:
                if number not in sources:
                    sources[number] = opened.enter_context(closing(self._ready_of(lane, number)))
                if (candidate := next(sources[number], None)) is not None:
                    yield candidate
                number = _sent(turns, candidate is None)

    def _by_age(self, lane: int, lists: Sequence[int]) -> Generator[_Candidate, None, None]:
        """Entries of these lists, oldest first. Entries of others are passed over where they are few; where they are many,
        every list is asked by itself, or each pick would read a million paused entries on its way."""
        ready = self._sums.ready
        in_lane = sum(count for (of_lane, _), count in ready.items() if of_lane == lane)
        passed_over = in_lane - sum(ready[lane, number] for number in lists)
        if passed_over <= _SKIPPED_FOR_A_LIST * len(lists):
            wanted = set(lists)
            for candidate in self._ready_of(lane, None):
                if candidate[2] in wanted:
                    yield candidate
        else:
            yield from self._merged(lane, lists)

    def _merged(
        self, lane: int, lists: Sequence[int], fresh_s: tuple[float, float] | None = None
    ) -> Generator[_Candidate, None, None]:
        """Oldest first. A list's own query begins when its turn has come: a thousand open ones took 260 ms (measured)."""
        query = "SELECT min(when_s) FROM entry WHERE ready = 1 AND lane = ? AND list = ? AND when_s >= ?"
        since_s = fresh_s[0] if fresh_s else -math.inf
        heads = ((self._store.query(query, (lane, number, since_s))[0][0], number) for number in lists)
        waiting: list[tuple[float, int, str, int, _Candidate | None]] = [
            (head_s, -1, "", number, None) for head_s, number in heads if head_s is not None
        ]
        heapq.heapify(waiting)
        with ExitStack() as opened:
            sources: dict[int, Generator[_Candidate, None, None]] = {}
            while waiting:
                *_, number, candidate = waiting[0]
                if candidate is None:
                    sources[number] = opened.enter_context(closing(self._ready_of(lane, number, fresh_s)))
                else:
                    yield candidate
                if (following := next(sources[number], None)) is None:
                    heapq.heappop(waiting)
                else:
                    heapq.heapreplace(waiting, (following[1], following[7], following[0], number, following))

    def _fresh(self, received_s: tuple[float, float], closed: Set[int]) -> Generator[_Candidate, None, None]:
        """Oldest first; none of those that wait for a destination."""
        ready = {number: count for (lane, number), count in self._sums.ready.items() if not lane and count}
        if sum(ready.get(number, 0) for number in closed) <= _SKIPPED_FOR_A_LIST * len(ready):
            for candidate in self._ready_of(0, None, received_s):
                if candidate[2] not in closed:
                    yield candidate
            return
        yield from self._merged(0, [number for number in ready if number not in closed], received_s)

    def _ready_of(
        self, lane: int, number: int | None, fresh_s: tuple[float, float] | None = None
    ) -> Generator[_Candidate, None, None]:
        """number: of the list, None for all. fresh_s: only those received between these moments that are fresh."""
        of_list = "" if number is None else "AND e.list = ?"
        fresh = (
            "" if fresh_s is None else "AND e.when_s BETWEEN ? AND ? AND e.duplicate = 'none' AND e.state = 'waiting'"
        )
        cursor = self._store.execute(
            f"SELECT {_CANDIDATE} FROM entry e JOIN detail d ON d.id = e.id WHERE e.ready = 1 AND e.lane = ?"
            f" {of_list} {fresh} ORDER BY e.when_s, e.tie, e.filebase",
            [lane, *(() if number is None else (number,)), *(fresh_s or ())],
        )
        with closing(cursor):
            yield from cursor


_DUE_IN_LANE = "ready = 1 AND lane > 0 AND due_s IS NOT NULL"

_CANDIDATE = (
    "e.filebase, e.when_s, e.list, e.owed, e.duplicate, d.identity, d.message_id, e.tie,"
    f" max(e.owed - e.covered, {LEAST_COST}), e.domains, e.due_s"
)


def _sent(turns: Generator[int, bool, None], is_empty: bool) -> int | None:
    try:
        return turns.send(is_empty)
    except StopIteration:
        return None
