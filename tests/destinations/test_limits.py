"""Recipients counted by destination: each counts once, where its domain belongs."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from drainer.destinations.limits import Limits, Served

DOMAINS = st.sampled_from(["gmail.com", "GMail.com", "googlemail.com", "example.org", "localhost", ""])
ADDRESSES = st.tuples(st.sampled_from("abc"), DOMAINS).map("@".join) | st.just("no-domain")


@given(st.lists(ADDRESSES, max_size=12).map(tuple), st.booleans(), st.booleans())
def test_recipients_counted_together_are_those_counted_one_by_one(
    recipients: tuple[str, ...], grouped: bool, served: bool
) -> None:
    limits = Limits(
        group_of={"gmail.com": "google", "googlemail.com": "google"} if grouped else {},
        served=Served() if served else Served(only=frozenset({"gmail.com"})),
    )
    assert limits.counted(recipients) == Counter(map(limits.of_recipient, recipients))
