"""How recipients are split into transactions."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drainer.compose.transactions import bulk_chunks, left_over_chunks

_ADDRESSES = st.lists(
    st.builds(
        "{}@host.{}".format, st.integers(0, 999), st.sampled_from(["com", "COM", "net", "org", "edu", "us", "de"])
    ),
    unique=True,
)


def test_buckets_go_from_the_last_to_the_first_and_capitals_are_elsewhere() -> None:
    recipients = ["a@x.com", "b@x.edu", "c@x.org", "d@x.COM", "e@x.net", "f@x.ca", "unqualified", "g@x.us"]
    assert bulk_chunks(recipients, 500) == [
        ("b@x.edu", "f@x.ca", "g@x.us"),
        ("c@x.org", "e@x.net"),
        ("a@x.com",),
        ("d@x.COM", "unqualified"),
    ]


def test_full_chunks_are_cut_in_order_and_sent_from_the_end() -> None:
    assert bulk_chunks(["1@x.com", "2@x.com", "3@x.com"], 2) == [("3@x.com",), ("1@x.com", "2@x.com")]


@pytest.mark.parametrize("most", [0, -1])
def test_no_ceiling_of_the_site_means_one_transaction_for_all_domains(most: int) -> None:
    assert bulk_chunks(["a@x.com", "b@x.org"], most) == [("a@x.com", "b@x.org")]


@given(_ADDRESSES, st.integers(-1, 7), st.integers(0, 5))
def test_every_recipient_is_in_exactly_one_chunk_of_allowed_length(recipients: list[str], most: int, cap: int) -> None:
    chunks = bulk_chunks(recipients, most, cap)
    assert sorted(one for chunk in chunks for one in chunk) == sorted(recipients)
    assert all(0 < len(chunk) <= (cap or len(chunk)) for chunk in chunks)
    assert most <= 0 or all(len(chunk) <= most for chunk in chunks)


def test_left_over_chunks_keep_their_shape_for_recipients_still_owed() -> None:
    left_over = [["a@x.com", "b@x.org"], ["c@x.com"], [], ["d@x.com", "a@x.com"]]
    assert left_over_chunks(left_over, ["a@x.com", "b@x.org", "d@x.com"]) == [("d@x.com",), ("a@x.com", "b@x.org")]
