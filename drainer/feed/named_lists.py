"""The lists that [feed] names, as list-ids: which go first, and by which weight lists share.

In    FeedSettings; the lists there are
Out   list-ids in the order of feed.priority; weights by list-id
Pure  values only
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from drainer.queuedir.list_names import WILDCARD, MailingList, in_order, is_wildcard, lists_named
from drainer.settings.feed import FeedSettings


@dataclass(frozen=True, slots=True)
class NamedLists:
    """priority: list-ids in the order they go. weights: by list-id; a list that is absent has the weight 1."""

    priority: tuple[str, ...] = ()
    weights: Mapping[str, float] = field(default_factory=dict)


def named_lists(feed: FeedSettings, known: Collection[MailingList]) -> NamedLists:
    """What the settings say of these lists."""
    return NamedLists(in_order(feed.priority, known), weights_of(feed.weights, known))


def weights_of(named: Mapping[str, float], known: Collection[MailingList]) -> dict[str, float]:
    """The weight of each list that has another one than 1. A list that is named without `*` goes by that; of several names
    with `*` the longest counts."""
    found: dict[str, float] = {}
    for name in sorted(named, key=lambda name: (not is_wildcard(name), len(name.strip()), name)):
        found.update((one.list_id, named[name]) for one in lists_named(name, known))
    return {list_id: weight for list_id, weight in found.items() if weight != 1}


def names_in(feed: FeedSettings) -> list[tuple[str, str]]:
    """(setting, name) of every list that the settings name; what `*` alone stands for needs no list."""
    named = [("feed.priority", name) for name in feed.priority]
    return named + [("feed.weights", name) for name in feed.weights if name.strip() != WILDCARD]
