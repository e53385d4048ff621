"""The lists that [feed] names, as list-ids."""

from __future__ import annotations

import pytest

from drainer.feed.named_lists import weights_of
from drainer.queuedir.entry import Flavour
from drainer.queuedir.list_names import list_of

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
