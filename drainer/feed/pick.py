"""Which waiting entry goes next: oldest first, newest first, lists in turn, or by list priority.

In    Candidates as they come; entries put off until a time; lists that are paused
Out   the next Candidate, None when none may go, and when to look again
Pure  no clock, no file

An entry whose recipients cannot go now (a domain at its ceiling, a deferral) is put off and not in the way of the others:
no domain and no list starves another.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal

Order = Literal["fair", "fresh", "fifo", "priority"]


@dataclass(frozen=True, slots=True)
class Candidate:
    """A waiting entry. when_s: received time, as in QueueFile."""

    filebase: str
    when_s: float
    list_id: str


class Waiting:
    """The waiting entries in the order they go. Each entry is in it once; adding it again changes nothing.

    Costs O(log entries + lists) per entry picked.
    """

    def __init__(self, order: Order, priority: Sequence[str] = ()) -> None:
        """priority  lists in the order they go when `order` is priority; the others after them, oldest first"""
        self._order = order
        self._rank = {list_id: rank for rank, list_id in enumerate(priority)}
        self._heaps: dict[str, list[tuple[float, str]]] = {}
        self._put_off: list[tuple[float, str]] = []
        self._candidates: dict[str, Candidate] = {}
        self._due_s: dict[str, float] = {}
        self._turn: dict[str, int] = {}
        self._turns = 0

    def __len__(self) -> int:
        return len(self._candidates)

    def __contains__(self, filebase: object) -> bool:
        return filebase in self._candidates

    def add(self, candidate: Candidate) -> None:
        """Let an entry wait for its turn."""
        if candidate.filebase in self._candidates:
            return
        self._candidates[candidate.filebase] = candidate
        self._push(candidate)

    def put_off(self, candidate: Candidate, due_s: float) -> None:
        """Let an entry wait before it takes its place again.

        due_s  until when, of the clock `pick` is asked with; infinite: until recalled
        """
        if candidate.filebase in self._candidates:
            self.remove(candidate.filebase)
        self._candidates[candidate.filebase] = candidate
        self._due_s[candidate.filebase] = due_s
        heapq.heappush(self._put_off, (due_s, candidate.filebase))

    def recall(self) -> None:
        """Let every entry put off take its place again now: ceilings or retry times have changed."""
        for filebase in self._due_s:
            self._push(self._candidates[filebase])
        self._due_s.clear()
        self._put_off.clear()

    def remove(self, filebase: str) -> None:
        """Forget an entry, if it is there: dropped, held, handed back."""
        self._candidates.pop(filebase, None)
        self._due_s.pop(filebase, None)

    def pick(self, now_s: float, paused: Collection[str] = ()) -> Candidate | None:
        """Take the entry that goes now.

        now_s   of the clock put_off was given
        paused  lists whose entries stay
        Returns  None if no entry may go now
        """
        self._take_up(now_s)
        heads = [
            (self._place(list_id, heap[0]), list_id)
            for list_id, heap in list(self._heaps.items())
            if list_id not in paused and self._tidied(list_id, heap)
        ]
        if not heads:
            return None
        _, list_id = min(heads)
        _, filebase = heapq.heappop(self._heaps[list_id])
        if not self._heaps[list_id]:
            del self._heaps[list_id]
        self._turns += 1
        self._turn[list_id] = self._turns
        return self._candidates.pop(filebase)

    def next_due_s(self) -> float:
        """When the first entry put off is due; infinite if none is."""
        while self._put_off and self._due_s.get(self._put_off[0][1]) != self._put_off[0][0]:
            heapq.heappop(self._put_off)
        return self._put_off[0][0] if self._put_off else math.inf

    def _take_up(self, now_s: float) -> None:
        while (due_s := self.next_due_s()) <= now_s and due_s < math.inf:
            _, filebase = heapq.heappop(self._put_off)
            del self._due_s[filebase]
            self._push(self._candidates[filebase])

    def _push(self, candidate: Candidate) -> None:
        age = -candidate.when_s if self._order == "fresh" else candidate.when_s
        heapq.heappush(self._heaps.setdefault(candidate.list_id, []), (age, candidate.filebase))

    def _place(self, list_id: str, head: tuple[float, str]) -> tuple[float, float, str]:
        """Where a list's first entry stands among those of the other lists; the smallest goes."""
        if self._order == "fair":
            return (self._turn.get(list_id, 0), *head)
        if self._order == "priority":
            return (self._rank.get(list_id, len(self._rank)), *head)
        return (0.0, *head)

    def _tidied(self, list_id: str, heap: list[tuple[float, str]]) -> bool:
        """Drop what was removed from the head of a list's heap. False: nothing is left."""
        while heap and (heap[0][1] not in self._candidates or heap[0][1] in self._due_s):
            heapq.heappop(heap)
        if not heap:
            del self._heaps[list_id]
        return bool(heap)
