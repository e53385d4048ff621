"""When each list is finished.

In    the work left of every list, the order of feeding, the DrainModel of the whole drain
Out   for each list: seconds with an interval
Pure  values only

The order of feeding says which part of the whole work is done when a list is finished. The time for that part comes from the
DrainModel of the whole drain, with that part of the work and of the arrivals.
"""

from __future__ import annotations

import bisect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from drainer.estimate.completion import Completion, DrainModel, Expected, completion

_ASKED_AT = (0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.7, 0.85, 1.0)
"""Parts of the work for which the time is computed. Others are interpolated, so a thousand lists cost as much as ten."""


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
    shares: Mapping[str, float], model: DrainModel, *, arrivals_first: bool = False
) -> dict[str, ListFinish]:
    """When each list is finished; lists that will not finish are left out.

    shares  as share_done returns them
    model   of all work left
    arrivals_first  what arrives goes ahead of the backlog of every list (the lane of fresh mail)
    """
    asked = [(share, completion(_part(model, share, arrivals_first))) for share in _ASKED_AT] if shares else []
    ending = [(share, found) for share, found in asked if found.chance >= 0.5]
    known = [(0.0, Completion(0.0, 0.0, 0.0, 1.0)), *ending]
    furthest = known[-1][0]
    return {name: _between(known, share) for name, share in shares.items() if share <= furthest}


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


def _part(model: DrainModel, share: float, arrivals_first: bool) -> DrainModel:
    return replace(
        model,
        left=model.left * share,
        left_deviation=model.left_deviation * share**0.5,
        arrivals=model.arrivals if arrivals_first else _shared(model.arrivals, share),
    )


def _shared(expected: Expected, share: float) -> Expected:
    def shared(seconds: float) -> tuple[float, float]:
        mean, variance = expected(seconds)
        return mean * share, variance * share

    return shared


def _between(known: Sequence[tuple[float, Completion]], share: float) -> ListFinish:
    above = max(1, bisect.bisect_left([at for at, _ in known], share))
    (low, before), (high, after) = known[above - 1], known[above]
    part = (share - low) / (high - low)

    def at(one: float, other: float) -> float:
        return one + part * (other - one)

    return ListFinish(at(before.seconds, after.seconds), at(before.low_s, after.low_s), at(before.high_s, after.high_s))
