"""What goes next: how many entries are begun, and which recipients of one go now."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drainer.destinations.limits import Limits
from drainer.feed.pick import entries_to_begin, one_per_recipient, recipients_to_send
from drainer.feed.shaping import Shaping
from drainer.ledger.records import recipient_key

ANN, BOB, EVE = "ann@example.org", "bob@example.net", "eve@example.net"


@pytest.mark.parametrize(
    ("sessions", "in_delivery", "begun"), [(1, 0, 2), (1, 1, 1), (1, 2, 0), (20, 0, 25), (20, 20, 5), (20, 21, 0)]
)
def test_some_more_entries_than_sessions_are_begun_several_at_a_time(
    sessions: int, in_delivery: int, begun: int
) -> None:
    assert entries_to_begin(sessions, in_delivery) == begun


def test_domain_without_a_ceiling_goes_though_another_has_used_up_its_own() -> None:
    limits = Limits({"example.net": 1.0})
    going, after = recipients_to_send(Shaping(), (ANN, BOB, EVE), limits, 100.0)
    assert (going.ready, going.later, going.lane) == ((ANN, BOB), (EVE,), "example.net")
    assert recipients_to_send(after, (ANN, EVE), limits, 100.5)[0].ready == (ANN,)


def test_ceilings_count_nothing_when_nothing_goes() -> None:
    before = Shaping({"example.net": 7.0})
    going, after = recipients_to_send(before, (BOB,), Limits({"example.net": 0.0}), 1.0)
    assert going.ready == () and after is before


def test_two_spellings_of_one_recipient_are_sent_once() -> None:
    assert one_per_recipient(("ann@EXAMPLE.org", ANN, BOB)) == ("ann@EXAMPLE.org", BOB)


# Capital sigma has two small letters, depending on what follows it.
_PARTS = st.sampled_from(["a", "A", "a\u03a3", "a\u03c2", "a\u03c3"])


@given(st.lists(st.lists(_PARTS, min_size=1, max_size=3).map("@".join), max_size=12))
def test_of_any_addresses_the_first_of_each_recipient_goes(addresses: list[str]) -> None:
    firsts: dict[bytes, str] = {}
    for address in addresses:
        firsts.setdefault(recipient_key(address), address)
    found = one_per_recipient(addresses)
    assert sorted(found) == sorted(firsts.values())
    assert len(found) < len(addresses) or found == tuple(addresses)
