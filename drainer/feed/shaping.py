"""Ceilings per destination: which of an entry's recipients may go now, and when the next ones may.

In    recipients, the ceilings in force, what each destination has used up, the time
Out   those ready, those to wait and for which destination; what the destinations have used up
Pure  no clock; Shaping is a value

Recipients without a ceiling never wait for recipients that have one: they go first, in a transaction of their own. Those
that have to wait stand in the lane of their destination, first come, first served: while somebody stands there, a
newcomer goes to its end. An entry leaves the lane when there is room for it, so it is read once for each transaction.

The rule is that of a leaky bucket used as a meter (GCRA, ITU-T I.371): each recipient moves the moment at which its
destination is due by 1/rate, and may go while that moment is less than BATCH_S ahead. So 10/s means transactions of ten
rather than ten transactions, and a wake-up that comes late is made up for.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from drainer.destinations.limits import Limits

BATCH_S = 1.0


NO_LANES: Mapping[str, int] = {}


@dataclass(frozen=True, slots=True)
class Shaping:
    """When each destination with a ceiling is due, monotonic seconds; one that is absent is due."""

    due_s: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Shaped:
    """Recipients of one entry, in its order.

    ready   may be sent now
    later   have to wait
    lane    the destination of `later` whose turn comes first; "" if nobody waits
    """

    ready: tuple[str, ...]
    later: tuple[str, ...] = ()
    lane: str = ""


@dataclass(frozen=True, slots=True)
class Turn:
    """It is the turn of this destination's lane: so many of its recipients may go, and are counted already."""

    destination: str
    recipients: int


def room(shaping: Shaping, destination: str, limits: Limits, now_s: float) -> float:
    """How many recipients of a destination may go at `now_s`; infinite if it has no ceiling."""
    per_s = limits.ceiling(destination)
    if math.isinf(per_s):
        return math.inf
    if per_s == 0:
        return 0
    ahead_s = max(0.0, shaping.due_s.get(destination, now_s) - now_s)
    whole = math.floor((BATCH_S - ahead_s) * per_s + _ROUNDING)
    return max(whole, 0 if ahead_s > 0 else 1)


def at_once(destination: str, limits: Limits) -> int:
    """The most recipients of a destination that ever go at once, at least one; of one without a ceiling, any number."""
    per_s = limits.ceiling(destination)
    return 1_000_000 if math.isinf(per_s) else max(1, math.floor(per_s * BATCH_S + _ROUNDING))


def due_s(shaping: Shaping, destination: str, limits: Limits, now_s: float, recipients: int = 1) -> float:
    """When so many recipients of it may go, at_once at most; infinite if only a changed ceiling can tell."""
    per_s = limits.ceiling(destination)
    if per_s == 0:
        return math.inf
    due = shaping.due_s.get(destination, now_s)
    if math.isinf(per_s):
        return now_s
    at_most = min(recipients, at_once(destination, limits))
    return max(now_s, due - max(0.0, BATCH_S - at_most / per_s))


def first_lane(
    shaping: Shaping, destinations: Iterable[str], limits: Limits, now_s: float, lanes: Mapping[str, int]
) -> str:
    """The destination whose turn comes first, by those who wait there already: an entry that waits for several must not wait
    for the slowest before it may go on with the others. destinations: one at least."""

    def turn_s(name: str) -> float:
        per_s = limits.ceiling(name)
        ahead_s = lanes.get(name, 0) / per_s if per_s else math.inf
        return due_s(shaping, name, limits, now_s) + ahead_s

    return min(destinations, key=turn_s)


def shape(
    shaping: Shaping,
    recipients: Sequence[str],
    limits: Limits,
    now_s: float,
    lanes: Mapping[str, int] = NO_LANES,
    turn: Turn | None = None,
) -> Shaped:
    """Which recipients may go at `now_s`.

    lanes  destinations for which others wait already, with the recipients that do
    turn   the lane that this entry was picked from; None: it stood in none
    """
    if not limits.per_s:
        return Shaped(tuple(recipients))
    left: dict[str, float] = {} if turn is None else {turn.destination: turn.recipients}
    destinations = [limits.of_recipient(recipient) for recipient in recipients]
    goes: list[bool] = []
    for destination in destinations:
        if destination not in left:
            limited = destination in limits.per_s
            left[destination] = 0 if limited and destination in lanes else room(shaping, destination, limits, now_s)
        goes.append(left[destination] > 0)
        left[destination] -= 1
    goes = _apart(destinations, goes, limits.alone, turn)
    later = dict.fromkeys(name for name, may_go in zip(destinations, goes, strict=True) if not may_go)
    return Shaped(
        tuple(recipient for recipient, may_go in zip(recipients, goes, strict=True) if may_go),
        tuple(recipient for recipient, may_go in zip(recipients, goes, strict=True) if not may_go),
        first_lane(shaping, later, limits, now_s, lanes) if later else "",
    )


def _apart(destinations: Sequence[str], goes: list[bool], alone: frozenset[str], turn: Turn | None) -> list[bool]:
    """A destination that goes in transactions of its own waits while others of the entry go: a reply that is about it alone
    would hit them too."""
    going = {name for name, may_go in zip(destinations, goes, strict=True) if may_go}
    if len(going) < 2 or alone.isdisjoint(going):
        return goes
    if turn is not None and turn.destination in alone:
        chosen = {turn.destination}
    else:
        chosen = going.difference(alone) or {min(going)}
    return [may_go and name in chosen for name, may_go in zip(destinations, goes, strict=True)]


def after_sending(
    shaping: Shaping, recipients: tuple[str, ...], limits: Limits, now_s: float, turn: Turn | None = None
) -> Shaping:
    """What the destinations have used up once these recipients go at `now_s`. What was counted for `turn` and does not go
    is given back."""
    if not limits.per_s:
        return Shaping()
    counted = limits.counted(recipients)
    if turn is not None:
        counted[turn.destination] = counted.get(turn.destination, 0) - turn.recipients
    return _moved(shaping, counted, limits, now_s)


def booked(shaping: Shaping, turn: Turn, limits: Limits, now_s: float) -> Shaping:
    """What they have used up once a turn has been given."""
    return _moved(shaping, {turn.destination: turn.recipients}, limits, now_s)


def given_back(shaping: Shaping, counted: Mapping[str, int], limits: Limits, now_s: float) -> Shaping:
    """What they have used up, without recipients that were counted for an entry and do not go now."""
    return _moved(shaping, {name: -recipients for name, recipients in counted.items()}, limits, now_s)


def _moved(shaping: Shaping, counted: Mapping[str, int], limits: Limits, now_s: float) -> Shaping:
    """Destinations due since are forgotten."""
    due = {name: at_s for name, at_s in shaping.due_s.items() if at_s > now_s and limits.ceiling(name) < math.inf}
    for destination, count in counted.items():
        per_s = limits.per_s.get(destination)
        if per_s and count:
            at_s = max(shaping.due_s.get(destination, now_s), now_s) + count / per_s
            due[destination] = at_s
    return Shaping({name: at_s for name, at_s in due.items() if at_s > now_s})


def at_new_ceilings(shaping: Shaping, limits: Limits, now_s: float) -> Shaping:
    """What was used up, where ceilings have changed. A destination waits no longer than the new ceiling asks for: one that
    was low for a moment does not hold it back for hours, and one that rises allows no burst."""
    due = {}
    for name, at_s in shaping.due_s.items():
        per_s = limits.ceiling(name)
        if at_s > now_s and per_s and not math.isinf(per_s):
            due[name] = min(at_s, now_s + max(BATCH_S, 1 / per_s))
    return Shaping(due)


_ROUNDING = 1e-6
"""Seconds on the monotonic clock are sums: a whole recipient must not fall short by the last bit."""
