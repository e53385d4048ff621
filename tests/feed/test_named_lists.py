"""The lists that [feed] names, as list-ids."""

from __future__ import annotations

import pytest

from drainer.feed.named_lists import named_lists, weights_of, with_hint
from drainer.queuedir.entry import Flavour
from drainer.queuedir.list_names import list_of
from drainer.settings.feed import FeedSettings

KNOWN = [list_of(name, Flavour.MAILMAN3) for name in ("announce.a.example", "announce.b.example", "choir.a.example")]


@pytest.mark.parametrize(
    ("named", "found"),
    [
        ({}, {}),
        ({"announce@a.example": 4.0}, {"announce.a.example": 4.0}),
        ({"choir": 2.0}, {"choir.a.example": 2.0}),
        ({"*": 3.0, "choir": 1.0}, {"announce.a.example": 3.0, "announce.b.example": 3.0}),
        ({"announce@*": 5.0, "*": 3.0, "announce.b.example": 0.5},
         {"announce.a.example": 5.0, "announce.b.example": 0.5, "choir.a.example": 3.0}),
        ({"gone@a.example": 9.0}, {}),
    ],
)  # fmt: skip
def test_a_name_counts_more_than_a_wildcard_and_a_longer_wildcard_more_than_a_shorter(
    named: dict[str, float], found: dict[str, float]
) -> None:
    assert weights_of(named, KNOWN) == found


@pytest.mark.parametrize(
    ("only", "withheld", "left_out"),
    [
        ([], [], set()),
        (["announce@*"], [], {"choir.a.example"}),
        (["@gmail.com"], ["@web.example"], set()),  # domains only: every list is served
        ([], ["*@b.example", "@gmail.com"], {"announce.b.example"}),
        (["announce@*"], ["announce@a.example"], {"announce.a.example", "choir.a.example"}),
        (["gone"], [], {one.list_id for one in KNOWN}),  # a name that no list has serves none
    ],
)
def test_lists_that_are_not_served_have_the_setting_that_leaves_them_out(
    only: list[str], withheld: list[str], left_out: set[str]
) -> None:
    feed = FeedSettings.model_validate({"only": only, "not": withheld})
    found = named_lists(feed, KNOWN).unserved
    assert found.keys() == left_out
    assert all(why.startswith(("feed.not names", "feed.only does not name")) for why in found.values())


def test_a_domain_without_its_sign_is_a_likely_mistake() -> None:
    assert with_hint("feed.not", "gmail.com", "no list is known as gmail.com").endswith(
        'a domain is written "@gmail.com"'
    )
    assert with_hint("feed.priority", "gmail.com", "no list") == with_hint("feed.not", "choir", "no list") == "no list"
