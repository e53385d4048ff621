"""The ceiling in force for one destination: the strictest of what the settings, an operator and experience say.

In    a rate of the settings, an operator's order, a learnt pace
Out   Ceiling, with by whom it was set and why
Pure  values only

An operator's rate takes the place of what was learnt: whoever calls it up knows something that drainer does not. The rate of
the settings holds all the same; whoever wrote it there may lift it there.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from drainer.destinations.limits import destination_meant
from drainer.ledger.records import DomainOrder

SetBy = Literal["settings", "operator", "learnt"]


@dataclass(frozen=True, slots=True)
class Learnt:
    """What experience says. cause: the provider's reply; since_s: seconds since the epoch."""

    per_s: float
    cause: str
    since_s: float


@dataclass(frozen=True, slots=True)
class Ceiling:
    """In force for a destination.

    per_s    recipients per second; 0: held back
    by       the operator's name; "" otherwise
    since_s  seconds since the epoch; None: from the settings
    until_s  when it ends by itself, seconds since the epoch; None: it does not
    """

    per_s: float
    set_by: SetBy
    cause: str = ""
    by: str = ""
    since_s: float | None = None
    until_s: float | None = None


def in_force(
    settings_per_s: float | None, order: DomainOrder | None, learnt: Learnt | None, now_s: float
) -> Ceiling | None:
    """None: no ceiling. now_s: seconds since the epoch. Of two that are alike, the operator's counts first."""
    found: list[Ceiling] = []
    if order is not None:
        found += _ordered(order, now_s)
    if learnt is not None and (order is None or order.per_s is None):
        found.append(Ceiling(learnt.per_s, "learnt", learnt.cause, since_s=learnt.since_s))
    if settings_per_s is not None:
        found.append(Ceiling(settings_per_s, "settings"))
    return min(found, key=lambda ceiling: ceiling.per_s, default=None)


def _ordered(order: DomainOrder, now_s: float) -> list[Ceiling]:
    found = []
    if order.paused_until_s is not None and order.paused_until_s > now_s:
        until_s = None if math.isinf(order.paused_until_s) else order.paused_until_s
        found.append(Ceiling(0.0, "operator", order.reason, order.by, order.since_s, until_s))
    if order.per_s is not None and not math.isinf(order.per_s):
        found.append(Ceiling(order.per_s, "operator", order.reason, order.by, order.since_s))
    return found


def by_destination(
    orders: Iterable[DomainOrder], groups: Mapping[str, Sequence[str]], now_s: float
) -> dict[str, DomainOrder]:
    """The order in force for each destination. One for a domain that has come into a group since is the group's; of several
    for one destination, the strictest counts now: when each was made does not tell, since clocks are set back.

    groups  domains by the name of their group
    now_s   seconds since the epoch
    """
    found: dict[str, DomainOrder] = {}
    for order in sorted(orders, key=lambda order: _strictness(order, now_s), reverse=True):
        found[destination_meant(order.destination, groups)] = order
    return found


def _strictness(order: DomainOrder, now_s: float) -> tuple[float, float, str]:
    """Less is stricter. Of two that hold their destination back, the one that does so for longer."""
    ceiling = in_force(None, order, None, now_s)
    if ceiling is None:
        return math.inf, 0.0, order.destination
    is_paused = order.paused_until_s is not None and order.paused_until_s > now_s
    return ceiling.per_s, -(order.paused_until_s or 0.0) if is_paused else -math.inf, order.destination


def is_over(order: DomainOrder, now_s: float) -> bool:
    """Its pause has ended by itself, and it orders nothing else."""
    return order.per_s is None and order.paused_until_s is not None and order.paused_until_s <= now_s
