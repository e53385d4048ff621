"""Looks at destinations, made of what was seen behind the MTA and of what our own transactions met.

In    DestinationsSeen; Own: recipients fed and refused by destination
Out   a Look for each destination that has anything to say
Pure  values only
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass

from drainer.destinations.domain_pace import Look
from drainer.destinations.seen import DestinationsSeen, DomainSeen

MOST_LOOKED_AT = 300
"""Destinations that are looked at each time, those with the most recipients first. A log may name thousands."""


@dataclass(slots=True)
class Own:
    """What our own transactions met in one destination since the last look. refused: with a reply that says "too fast"."""

    fed: int = 0
    refused: int = 0
    reply: str = ""

    def was_fed(self, recipients: int) -> None:
        self.fed += recipients

    def was_refused(self, recipients: int, reply: str) -> None:
        self.refused += recipients
        self.reply = reply


@dataclass(slots=True)
class _Sum:
    queued: int | None = None
    waiting: int = 0
    waiting_too_fast: int = 0
    oldest_s: float | None = None
    accepted: int = 0
    refused: int = 0
    too_fast: int = 0
    reply: str = ""

    def add(self, seen: DomainSeen) -> None:
        if seen.queued is not None:
            self.queued = (self.queued or 0) + seen.queued
        self.waiting += seen.waiting
        self.waiting_too_fast += seen.waiting_too_fast
        if seen.oldest_s is not None:
            self.oldest_s = seen.oldest_s if self.oldest_s is None else min(seen.oldest_s, self.oldest_s)
        tried = seen.deferred - seen.not_tried
        # What the MTA put off by itself is no try; where it tries nobody any more, it is all that the provider said.
        stands_still = not seen.accepted and tried <= 0
        too_fast = seen.too_fast if stands_still else min(seen.too_fast, tried + seen.refused)
        self.accepted += seen.accepted
        self.refused += max(tried, too_fast)
        self.too_fast += too_fast
        if too_fast or seen.waiting_too_fast or not self.reply:
            self.reply = seen.reply or self.reply


def looks(
    seen: DestinationsSeen,
    own: dict[str, Own],
    known: Collection[str],
    bound: Collection[str],
    destination_of: Callable[[str], str],
    lasted_s: float,
    now_s: float,
) -> dict[str, Look]:
    """One for each destination that was seen, fed, or is known to the law already (`known`).

    bound     destinations for whose ceiling somebody waits
    lasted_s  seconds since the last look; now_s: seconds since the epoch
    """
    by_name: dict[str, _Sum] = {}
    for domain, one in seen.domains.items():
        by_name.setdefault(destination_of(domain), _Sum()).add(one)
    found = {}
    queue_read = seen.messages is not None
    for name in _most({*by_name, *own}, by_name, own, known):
        behind, ours = by_name.get(name, _Sum()), own.get(name, Own())
        found[name] = Look(
            at_s=seen.at_s,
            lasted_s=lasted_s,
            fed=ours.fed,
            bound=name in bound,
            accepted=behind.accepted if seen.log_read else None,
            refused=behind.refused + ours.refused,
            too_fast=behind.too_fast + ours.refused,
            queued=(behind.queued or 0) if queue_read else None,
            waiting=behind.waiting,
            waiting_too_fast=behind.waiting_too_fast,
            oldest_age_s=None if behind.oldest_s is None else max(0.0, now_s - behind.oldest_s),
            reply=ours.reply or behind.reply,
        )
    return found


def own_look(own: Own, is_bound: bool, at_s: float, lasted_s: float) -> Look:
    """The same where nothing behind the MTA is read: what the MTA took is taken."""
    return Look(at_s, lasted_s, own.fed, is_bound, None, own.refused, own.refused, reply=own.reply)


def _most(
    names: Collection[str], by_name: dict[str, _Sum], own: dict[str, Own], known: Collection[str]
) -> Iterable[str]:
    def size(name: str) -> int:
        behind, ours = by_name.get(name, _Sum()), own.get(name, Own())
        return (behind.queued or 0) + behind.accepted + behind.refused + ours.fed + ours.refused

    return {*known, *sorted(names, key=lambda name: (-size(name), name))[:MOST_LOOKED_AT]}
