"""What the filter in front of the backlog index may say, and how often it is wrong."""

from __future__ import annotations

import random

from drainer.backlog.key_filter import KeyFilter


def test_a_key_added_is_never_denied_and_few_others_are_taken_for_known() -> None:
    chance = random.Random(20261122)
    keys = KeyFilter()
    added = [chance.randrange(-(2**63), 2**63) for _ in range(100_000)]
    keys.add(added)
    assert all(keys.may_have(key) for key in added)
    assert not KeyFilter().may_have(added[0])
    others = [chance.randrange(-(2**63), 2**63) for _ in range(100_000)]
    assert sum(keys.may_have(key) for key in others) < 100
