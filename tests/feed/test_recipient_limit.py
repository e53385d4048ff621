"""The limit on recipients of a transaction, as it is learnt and forgotten."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from drainer.feed.recipient_limit import FORGOTTEN_AFTER_S, RecipientLimit, limit_from

MTA = "mail.example.org:25"


def test_limit_is_learnt_at_once_and_forgotten_after_a_week_or_with_another_mta() -> None:
    known = RecipientLimit().met(MTA, 20, 1000.0)
    assert known.most(MTA, 1000.0) == known.most(MTA, 999.0 + FORGOTTEN_AFTER_S) == 20
    assert known.most(MTA, 1000.0 + FORGOTTEN_AFTER_S) == 0
    assert known.most("other.example.org:25", 1000.0) == 0
    assert known.met("other.example.org:25", 5, 1001.0).most("other.example.org:25", 1001.0) == 5
    assert known.met(MTA, 7, 1000.0 + FORGOTTEN_AFTER_S).most(MTA, 1000.0 + FORGOTTEN_AFTER_S) == 7


def test_one_odd_refusal_does_not_cut_every_transaction_down() -> None:
    known = RecipientLimit()
    for accepted in (100, 1, 1, 100):
        known = known.met(MTA, accepted, 1000.0)
    assert known.most(MTA, 1000.0) == 100


def test_limit_that_was_lowered_is_known_after_some_transactions() -> None:
    known = RecipientLimit()
    for accepted in (100, 100, *[10] * 8):
        known = known.met(MTA, accepted, 1000.0)
    assert known.most(MTA, 1000.0) == 10


@given(st.integers(1, 10_000), st.floats(0, 4e9))
def test_limit_survives_a_restart(accepted: int, at_s: float) -> None:
    known = RecipientLimit().met(MTA, accepted, at_s)
    assert limit_from(known.octets()) == known
    assert known.most(MTA, at_s) == accepted and known.most(MTA, at_s - 3600) == 0, "not of the future"


@given(
    st.none()
    | st.binary()
    | st.sampled_from([b"[]", b'["a", 1, 2]', b'["a", [1e999], 0]', b'{"a": 1}', b"3", b"[" * 100_000])
)
def test_octets_that_are_no_limit_are_none(octets: bytes | None) -> None:
    assert limit_from(octets).most(MTA, 0.0) == 0
