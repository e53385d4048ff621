"""When each list is finished.

In    the work left of every list, the order of feeding, the DrainModel of the whole drain
Out   for each list: seconds with an interval
Pure  values only

The order of feeding says which part of the whole work is done when a list is finished. The time for that part comes from the
DrainModel of the whole drain, with that part of the work and of the arrivals.
"""

from __future__ import annotations

import bisect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from drainer.estimate.completion import Completion, DrainModel, completion

_ASKED_AT = (0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.7, 0.85, 1.0)
"""Parts of the work for which the time is computed, if a list needs it. Others are interpolated, so a thousand lists cost no
more than nine."""
_ENDS = 0.5
"""A list that is finished with less than this chance gets no time."""
_AT_ONCE = Completion(0.0, 0.0, 0.0, 1.0)


@dataclass(frozen=True, slots=True)
class ListLeft:
    """Entries and recipients still owed on one list; deferred_recipients of these wait, the last for `last_due_in_s`."""

    entries: int
    recipients: int
    deferred_recipients: int = 0
    last_due_in_s: float = 0.0


@dataclass(frozen=True, slots=True)
class ListFinish:
    """low_s <= seconds <= high_s from now."""

    seconds: float
    low_s: float
    high_s: float


def share_done(
    lists: Mapping[str, ListLeft],
    order: str,
    priority: Sequence[str] = (),
    weights: Mapping[str, float] | None = None,
) -> dict[str, float]:
    """The part (0 to 1) of all work that is done when a list is finished; 0 for a list with nothing left.

    order  as feed.order. "fair": lists share by recipients, each by its weight (1 if it has none), so lists with few
           recipients finish early.
           "priority": the lists named in `priority` one after the other, the rest by age.
           "oldest", "fresh": by age; every list has entries of every age and finishes about when everything does
    """
    total = sum(one.recipients for one in lists.values())
    if not total:
        return dict.fromkeys(lists, 0.0)
    if order == "fair":
        done = _by_weight(lists, weights or {})
    elif order == "priority":
        done = _in_order(lists, priority)
    else:
        done = dict.fromkeys(lists, float(total))
    return {name: done[name] / total if one.recipients else 0.0 for name, one in lists.items()}


def list_finishes(
    shares: Mapping[str, float],
    model: DrainModel,
    *,
    arrivals_first: bool = False,
    completion_of: Callable[[DrainModel], Completion] = completion,
) -> dict[str, ListFinish]:
    """When each list is finished; lists that will not finish are left out.

    shares  as share_done returns them
    model   of all work left
    arrivals_first  what arrives goes ahead of the backlog of every list (the lane of fresh mail)
    completion_of   completion(), or what remembers its results
    """
    asked: dict[int, Completion] = {}

    def ending(numbers: Iterable[int]) -> int | None:
        """The first of these parts of the work that will be done."""
        for number in numbers:
            if number not in asked:
                asked[number] = completion_of(model.part(_ASKED_AT[number], arrivals_first=arrivals_first))
            if asked[number].chance >= _ENDS:
                return number
        return None

    found = {}
    for name, share in shares.items():
        if share <= 0:
            found[name] = ListFinish(0.0, 0.0, 0.0)
            continue
        above = bisect.bisect_left(_ASKED_AT, min(share, 1.0))
        high = ending(range(above, len(_ASKED_AT)))
        if high is None:
            continue
        # Between two parts of the work the time is interpolated. At one of them the part below it does not count.
        is_asked = _ASKED_AT[high] == share
        low = None if is_asked else ending(range(above - 1, -1, -1))
        before = (0.0, _AT_ONCE) if low is None else (_ASKED_AT[low], asked[low])
        found[name] = _between(before, (_ASKED_AT[high], asked[high]), share)
    return found


def not_before_due(
    found: Mapping[str, ListFinish], lists: Mapping[str, ListLeft], retry_wait_s: float
) -> dict[str, ListFinish]:
    """The same times, but no list before its last deferred recipient is due. A list that only waits for these finishes then.

    retry_wait_s  the wait of a recipient that is deferred once more
    """
    lifted = dict(found)
    for name, left in lists.items():
        if not left.deferred_recipients:
            continue
        due_s = max(0.0, left.last_due_in_s)
        waits_only = left.deferred_recipients >= left.recipients
        before = ListFinish(0.0, 0.0, 0.0) if waits_only else lifted.get(name)
        if before is not None:
            high_s = max(before.high_s, due_s + max(0.0, retry_wait_s))
            lifted[name] = ListFinish(max(before.seconds, due_s), max(before.low_s, due_s), high_s)
    return lifted


def _by_weight(lists: Mapping[str, ListLeft], weights: Mapping[str, float]) -> dict[str, float]:
    """When a list of the weight w has sent its r recipients, one of the weight v has sent r / w * v, or all it had."""

    def rounds(name: str) -> float:
        return lists[name].recipients / weights.get(name, 1.0)

    rising = sorted(lists, key=rounds)
    finished, still = 0.0, sum(weights.get(name, 1.0) for name in lists)
    done: dict[str, float] = {}
    for name in rising:
        still -= weights.get(name, 1.0)
        finished += lists[name].recipients
        done[name] = finished + rounds(name) * max(0.0, still)
    # Lists that need the same number of rounds finish together.
    for before, name in pairwise(reversed(rising)):
        if rounds(before) == rounds(name):
            done[name] = done[before]
    return done


def _in_order(lists: Mapping[str, ListLeft], priority: Sequence[str]) -> dict[str, float]:
    total = float(sum(one.recipients for one in lists.values()))
    done = dict.fromkeys(lists, total)
    finished = 0.0
    for name in priority:
        if name in lists:
            finished += lists[name].recipients
            done[name] = finished
    return done


def _between(before: tuple[float, Completion], after: tuple[float, Completion], share: float) -> ListFinish:
    """before, after: parts of the work, with the times at which they are done."""
    (low, early), (high, late) = before, after
    part = (share - low) / (high - low)

    def at(one: float, other: float) -> float:
        return one + part * (other - one)

    return ListFinish(at(early.seconds, late.seconds), at(early.low_s, late.low_s), at(early.high_s, late.high_s))
