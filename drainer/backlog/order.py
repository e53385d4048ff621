"""Which entry goes next: waiting entries, and deferred ones that are due, in the order the settings ask for.

In    the order, the lists that are closed, the weights of lists, the time; the lane of a destination that has room
Out   entries that may become active
Raises    IndexUnusable
Not here  the change to ACTIVE (index.py); how many are asked for, and when (feed/); whose turn it is (fair_shares.py)
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Generator, Iterator, Mapping, Sequence, Set
from contextlib import closing
from typing import Any

from drainer.backlog.fair_shares import LEAST_COST, FairShares
from drainer.backlog.keys import split
from drainer.backlog.rows import IndexedRow
from drainer.backlog.schema import ROW, ROW_COLUMNS, row_of
from drainer.backlog.store import Store
from drainer.backlog.sums import IndexSums
from drainer.backlog.values import Order, WaitingEntry
from drainer.ledger.records import kin_of

_Candidate = tuple[Any, ...]
"""The columns of schema.ROW, then tie, message_id, and what a list is charged for the entry."""
_FILEBASE, _WHEN, _LIST, _IDENTITY, _TIE = 1, 2, 3, 15, ROW_COLUMNS

_SKIPPED_FOR_A_LIST = 20
"""Passing over this many entries of closed lists takes as long as asking for the first entry of one list (measured)."""
_MADE_READY_AT_A_TIME = 1000
"""A pick that makes so many ready takes some milliseconds."""
_OF_A_LIST = 1
"""So many of its entries are asked for when a list has its turn among others."""


class PickOrder:
    """Two entries that may be one mail are never picked while one of them is in delivery."""

    def __init__(self, store: Store, sums: IndexSums) -> None:
        self._store = store
        self._sums = sums
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
        self._store.remember_picked(())
        self._make_ready(now_s)
        lists = self._store.lists
        closed = frozenset(lists[name] for name in closed_lists if name in lists)
        by_number = {lists[name]: weight for name, weight in (weights or {}).items() if name in lists}
        of_lane = self._store.lane_number(lane)
        candidates = self._in_order(order, closed, priority, by_number, of_lane, limit)
        return self._picked(candidates, limit, lane, shares=self._shares_of(of_lane) if order == "fair" else None)

    def next_fresh(
        self, received_s: tuple[float, float], closed_lists: Set[str] = frozenset(), limit: int = 1
    ) -> list[WaitingEntry]:
        """Fresh entries that may become active, oldest first: received between these moments, never deferred, and no copy of
        another entry as far as the survey can tell. Otherwise as next_waiting; a list is not charged for them."""
        numbers = self._store.lists
        closed = frozenset(numbers[name] for name in closed_lists if name in numbers)
        return self._picked(self._by_age(0, closed, limit, received_s), limit, "", is_fresh=True)

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
        rows: list[IndexedRow] = []
        taken: set[bytes] = set()
        in_delivery = self._store.in_delivery
        with closing(candidates):
            for candidate in candidates:
                names = set(map(kin_of, split(candidate[_IDENTITY])))
                if not taken.isdisjoint(names) or in_delivery.has_any(names):
                    continue
                taken |= names
                row, (_, message_id, cost) = row_of(candidate), candidate[ROW_COLUMNS:]
                rows.append(row)
                if shares is not None:
                    shares.charge(row.list, cost)
                list_id, counts = self._store.list_names[row.list], self._store.named(row.domains)
                found.append(
                    WaitingEntry(
                        row.filebase, row.when_s, list_id, row.owed, row.identity, row.duplicate, message_id, cost, counts,
                        lane, None, is_fresh, row.due_s,
                    )
                )  # fmt: skip
                if len(found) >= limit:
                    break
        self._store.remember_picked(rows)
        return found

    def not_sent(self, list_id: str, recipients: int, lane: str = "") -> None:
        """So many recipients of a picked entry were expected to be sent to, and were not: its list has not had its turn."""
        if recipients > 0 and list_id in self._store.lists:
            self._shares_of(self._store.lane_number(lane)).refund(self._store.lists[list_id], recipients)

    def _shares_of(self, lane: int) -> FairShares:
        """The lists take turns in each lane by itself."""
        return self._shares.setdefault(lane, FairShares())

    def last_due_s(self) -> float | None:
        """When the last deferred entry is due, seconds since the epoch; None if none is deferred."""
        is_deferred = "FROM entry WHERE state = 'deferred' AND ready ="
        latest_s = self._due_s(f"SELECT max(due_s) {is_deferred} 0")
        return self._due_s(f"SELECT max(due_s) {is_deferred} 1") if latest_s is None else latest_s

    def next_due_s(self) -> float | None:
        """When the next deferred entry is due, or leaves its lane, seconds since the epoch; None if none does."""
        deferred_s = self._due_s("SELECT min(due_s) FROM entry WHERE state = 'deferred' AND ready = 0")
        in_lane_s = self._due_s(f"SELECT min(due_s) FROM entry WHERE {_DUE_IN_LANE}") if self._store.has_lanes else None
        return min((due_s for due_s in (deferred_s, in_lane_s) if due_s is not None), default=None)

    def shift_due(self, by_s: float) -> None:
        """The clock was set forward by this much (back, if negative): each deferred entry waits as long as before."""
        self._store.remember_picked(())
        self._store.execute_many("UPDATE entry SET due_s = due_s + ? WHERE due_s IS NOT NULL", [(by_s,)])

    def _due_s(self, sql: str) -> float | None:
        ((value,),) = self._store.query_waiting(sql)
        return float(value) if isinstance(value, float | int) else None

    def _make_ready(self, now_s: float) -> None:
        """Deferred entries that are due can be picked from now on, and parked ones whose refused recipients are due. If many
        are due at once, as after a restart, the rest of them follow with the next picks."""
        store, ready = self._store, self._sums.ready
        due = store.query_waiting(
            "SELECT id, list, when_s FROM entry WHERE state = 'deferred' AND ready = 0 AND is_read = 1 AND due_s <= ?"
            " ORDER BY due_s LIMIT ?",
            (now_s, _MADE_READY_AT_A_TIME),
        )
        if due:
            store.execute_many("UPDATE entry SET ready = 1 WHERE id = ?", [(id_,) for id_, *_ in due])
            for _, number, when_s in due:
                ready.add(0, number, when_s)
        if not store.has_lanes:
            return
        is_due = f"SELECT filebase FROM entry WHERE {_DUE_IN_LANE} AND due_s <= ? ORDER BY due_s LIMIT ?"
        parked = store.query_waiting(is_due, (now_s, _MADE_READY_AT_A_TIME))
        if parked:
            rows = store.rows([str(filebase) for (filebase,) in parked]).values()
            for row in rows:
                self._sums.move(row, row.state, ready=row.ready)
            store.write_lane(rows, "")

    def _in_order(
        self,
        order: Order,
        closed: frozenset[int],
        priority: Sequence[str],
        weights: Mapping[int, float],
        lane: int,
        limit: int,
    ) -> Generator[_Candidate, None, None]:
        match order:
            case "fair":
                yield from self._in_turns(lane, self._sums.ready.of(lane).keys() - closed, weights)
            case "priority":
                numbers, there = self._store.lists, self._sums.ready.of(lane)
                named = [numbers[name] for name in dict.fromkeys(priority) if numbers.get(name) in there]
                first = [number for number in named if number not in closed]
                for number in first:
                    yield from self._ready_of(lane, number, limit)
                yield from self._by_age(lane, closed.union(first), limit)
            case "fresh" | "oldest":
                yield from self._by_age(lane, closed, limit)

    def _in_turns(self, lane: int, lists: Set[int], weights: Mapping[int, float]) -> Generator[_Candidate, None, None]:
        """The next entry of the list whose turn it is, until no list has any."""
        shares = self._shares_of(lane)
        shares.enter(lists, weights)
        sources: dict[int, Iterator[_Candidate]] = {}
        with closing(shares.next_in_turn()) as turns:
            number = next(turns, None)
            while number is not None:
                if number not in sources:
                    sources[number] = self._ready_of(lane, number, _OF_A_LIST)
                if (candidate := next(sources[number], None)) is not None:
                    yield candidate
                number = _sent(turns, candidate is None)

    def _by_age(
        self, lane: int, without: Set[int], limit: int, fresh_s: tuple[float, float] | None = None
    ) -> Generator[_Candidate, None, None]:
        """Entries of all lists but some, oldest first. Those of the others are passed over where they are few. Where they
        are many, every list is asked by itself, or each pick would read a million paused entries on its way."""
        lists = self._sums.ready.of(lane)
        passed_over = [entries for number in without if (entries := lists.get(number))]
        if sum(passed_over) <= _SKIPPED_FOR_A_LIST * (len(lists) - len(passed_over)):
            for candidate in self._ready_of(lane, None, limit, fresh_s):
                if candidate[_LIST] not in without:
                    yield candidate
        else:
            yield from self._merged(lane, lists.keys() - without, fresh_s)

    def _merged(
        self, lane: int, lists: Set[int], fresh_s: tuple[float, float] | None
    ) -> Generator[_Candidate, None, None]:
        """Oldest first. A list is asked once it may have the next entry: to ask a thousand took 260 ms (measured)."""
        ready = self._sums.ready
        since_s = fresh_s[0] if fresh_s else -math.inf
        waiting: list[tuple[float, int, str, int, _Candidate | None]] = [
            (max(since_s, ready.not_before(lane, number)), -1, "", number, None) for number in lists
        ]
        heapq.heapify(waiting)
        sources: dict[int, Iterator[_Candidate]] = {}
        while waiting:
            *_, number, candidate = waiting[0]
            if candidate is not None:
                yield candidate
            else:
                sources[number] = self._ready_of(lane, number, _OF_A_LIST, fresh_s)
            following = next(sources[number], None)
            if candidate is None and following is not None and fresh_s is None:
                ready.found_first(lane, number, following[_WHEN])
            if following is None:
                heapq.heappop(waiting)
            else:
                heapq.heapreplace(waiting, (following[_WHEN], following[_TIE], following[_FILEBASE], number, following))

    def _ready_of(
        self, lane: int, number: int | None, limit: int, fresh_s: tuple[float, float] | None = None
    ) -> Iterator[_Candidate]:
        """number: of the list, None for all. limit: so many should do. fresh_s: only those received between these moments
        that are fresh.

        Some at a time: SQLite compiles a statement again while it is in use, which takes longer than to run it.
        """
        query = _READY[number is not None, fresh_s is not None]
        values = [lane, *(() if number is None else (number,)), *(fresh_s or ())]
        at_a_time, passed = max(1, limit), 0
        while True:
            rows = self._store.query_waiting(query, (*values, at_a_time, passed))
            yield from rows
            passed += len(rows)
            if len(rows) < at_a_time:
                return
            at_a_time *= 4


_DUE_IN_LANE = "ready = 1 AND lane > 0 AND due_s IS NOT NULL"

_CANDIDATE = f"{ROW}, tie, message_id, max(owed - covered, {LEAST_COST})"


def _ready(of_list: bool, is_fresh: bool) -> str:
    """Takes the lane, the list, the moments between which it was received, LIMIT and OFFSET."""
    list_ = "AND list = ?" if of_list else ""
    fresh = "AND when_s BETWEEN ? AND ? AND duplicate = 'none' AND state = 'waiting'" if is_fresh else ""
    return (
        f"SELECT {_CANDIDATE} FROM entry WHERE ready = 1 AND lane = ? {list_} {fresh}"
        " ORDER BY when_s, tie, filebase LIMIT ? OFFSET ?"
    )


_READY = {(of_list, is_fresh): _ready(of_list, is_fresh) for of_list in (False, True) for is_fresh in (False, True)}


def _sent(turns: Generator[int, bool, None], is_empty: bool) -> int | None:
    try:
        return turns.send(is_empty)
    except StopIteration:
        return None
