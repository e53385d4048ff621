"""Ceilings per recipient domain hold over any time, and slow no other domain."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from drainer.feed.shaping import BATCH_S, Shaping, after_sending, shape
from drainer.queuedir.domains import domain_of

MANY = tuple(f"member{number}@gmail.com" for number in range(25))
CEILINGS = {"gmail.com": 10.0}


def test_recipients_of_other_domains_go_at_once() -> None:
    found = shape(Shaping(), ("ann@example.org", *MANY, "ben@GMAIL.com"), CEILINGS, 0)
    assert found.ready == ("ann@example.org", *MANY[:10])
    assert found.later == (*MANY[10:], "ben@GMAIL.com") and found.due_s == 1.0


def test_domain_that_used_up_its_share_waits_until_it_is_due_again() -> None:
    shaping = after_sending(Shaping(), MANY[:10], CEILINGS, 100)
    assert shape(shaping, MANY, CEILINGS, 100.9).ready == ()
    assert shape(shaping, MANY, CEILINGS, 100.9).due_s == 101
    assert len(shape(shaping, MANY, CEILINGS, 101).ready) == 10


def test_zero_holds_a_domain_back_until_the_ceiling_changes() -> None:
    found = shape(Shaping(), MANY, {"gmail.com": 0.0}, 0)
    assert found.ready == () and found.due_s == math.inf
    assert shape(Shaping(), MANY, {"gmail.com": None}, 0).ready == MANY


def test_address_without_a_domain_has_none() -> None:
    assert domain_of("postmaster") == "" and domain_of('"a@b"@Example.ORG') == "example.org"


@given(
    per_s=st.floats(0.01, 500),
    waits=st.lists(st.floats(0, 30), max_size=60),
    backlog=st.integers(1, 800),
)
def test_no_domain_gets_more_than_its_ceiling_over_any_time(per_s: float, waits: list[float], backlog: int) -> None:
    recipients = tuple(f"member{number}@gmail.com" for number in range(backlog))
    shaping, now_s, sent = Shaping(), 0.0, 0
    for wait_s in (0.0, *waits):
        now_s += wait_s
        found = shape(shaping, recipients, {"gmail.com": per_s}, now_s)
        assert sorted(found.ready + found.later) == sorted(recipients)
        shaping = after_sending(shaping, found.ready, {"gmail.com": per_s}, now_s)
        sent += len(found.ready)
        assert sent <= per_s * (now_s + BATCH_S) + 1


@given(st.floats(0.01, 500), st.integers(1, 50))
def test_waiting_until_due_always_lets_a_recipient_go(per_s: float, backlog: int) -> None:
    recipients = tuple(f"member{number}@gmail.com" for number in range(backlog))
    ceilings = {"gmail.com": per_s}
    shaping, now_s = Shaping(), 1_000.0
    for _ in range(backlog):
        found = shape(shaping, recipients, ceilings, now_s)
        assert found.ready
        recipients = found.later
        if not recipients:
            return
        shaping = after_sending(shaping, found.ready, ceilings, now_s)
        now_s = shape(shaping, recipients, ceilings, now_s).due_s
    raise AssertionError("somebody was left waiting")
