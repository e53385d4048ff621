"""The lists that [feed] names, as list-ids: which go first, by which weight lists share, which are not served.

In    FeedSettings; the lists there are
Out   list-ids in the order of feed.priority; weights by list-id; why a list is not served
Pure  values only
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from drainer.queuedir.list_names import WILDCARD, MailingList, in_order, is_wildcard, lists_named
from drainer.settings.feed import FeedSettings


@dataclass(frozen=True, slots=True)
class NamedLists:
    """List-ids.

    priority  in the order they go
    weights   by list; one that is absent has the weight 1
    unserved  lists that are not served, each with the reason
    """

    priority: tuple[str, ...] = ()
    weights: Mapping[str, float] = field(default_factory=dict)
    unserved: Mapping[str, str] = field(default_factory=dict)


def named_lists(feed: FeedSettings, known: Collection[MailingList]) -> NamedLists:
    """What the settings say of these lists."""
    return NamedLists(in_order(feed.priority, known), weights_of(feed.weights, known), _unserved(feed, known))


def _unserved(feed: FeedSettings, known: Collection[MailingList]) -> dict[str, str]:
    found: dict[str, str] = {}
    if feed.only_lists:
        served = set(in_order(feed.only_lists, known))
        found.update((one.list_id, "feed.only does not name it") for one in known if one.list_id not in served)
    for name in feed.withheld_lists:
        found.update((one.list_id, f"feed.not names {name}") for one in lists_named(name, known))
    return found


def weights_of(named: Mapping[str, float], known: Collection[MailingList]) -> dict[str, float]:
    """The weight of each list that has another one than 1. A list that is named without `*` goes by that; of several names
    with `*` the longest counts."""
    found: dict[str, float] = {}
    for name in sorted(named, key=lambda name: (not is_wildcard(name), len(name.strip()), name)):
        found.update((one.list_id, named[name]) for one in lists_named(name, known))
    return {list_id: weight for list_id, weight in found.items() if weight != 1}


def with_hint(setting: str, name: str, trouble: str) -> str:
    """What is wrong with a list named there; a domain that lacks its "@" is a likely mistake."""
    is_like_domain = setting in ("feed.only", "feed.not") and "." in name and "@" not in name
    return f'{trouble}; a domain is written "@{name}"' if is_like_domain else trouble


def names_in(feed: FeedSettings) -> list[tuple[str, str]]:
    """(setting, name) of every list that the settings name; what `*` alone stands for needs no list."""
    named = [("feed.priority", name) for name in feed.priority]
    named += [("feed.weights", name) for name in feed.weights if name.strip() != WILDCARD]
    return (
        named + [("feed.only", name) for name in feed.only_lists] + [("feed.not", name) for name in feed.withheld_lists]
    )
