"""Ceilings per destination hold over any time, and slow no other one."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from drainer.destinations.limits import Limits
from drainer.feed.shaping import (
    BATCH_S,
    Shaping,
    Turn,
    after_sending,
    at_new_ceilings,
    booked,
    due_s,
    room,
    shape,
)
from drainer.queuedir.domains import domain_of

MANY = tuple(f"member{number}@gmail.com" for number in range(25))
TEN = Limits({"gmail.com": 10.0})


def test_recipients_of_other_domains_go_at_once() -> None:
    found = shape(Shaping(), ("ann@example.org", *MANY, "ben@GMAIL.com"), TEN, 0)
    assert found.ready == ("ann@example.org", *MANY[:10])
    assert found.later == (*MANY[10:], "ben@GMAIL.com") and found.lane == "gmail.com"


def test_domain_that_used_up_its_share_waits_until_it_is_due_again() -> None:
    shaping = after_sending(Shaping(), MANY[:10], TEN, 100)
    assert shape(shaping, MANY, TEN, 100.09).ready == ()
    assert due_s(shaping, "gmail.com", TEN, 100.05) == 100.1
    assert len(shape(shaping, MANY, TEN, 100.1).ready) == 1
    assert len(shape(shaping, MANY, TEN, 101).ready) == 10


def test_zero_holds_a_domain_back_until_the_ceiling_changes() -> None:
    none = Limits({"gmail.com": 0.0})
    assert shape(Shaping(), MANY, none, 0).ready == () and due_s(Shaping(), "gmail.com", none, 0) == math.inf
    assert shape(Shaping(), MANY, Limits(), 0).ready == MANY


def test_address_without_a_domain_has_none() -> None:
    assert domain_of("postmaster") == "" and domain_of('"a@b"@Example.ORG') == "example.org"


def test_domains_of_a_group_share_one_ceiling() -> None:
    limits = Limits({"google": 10.0}, {"gmail.com": "google", "googlemail.com": "google"})
    both = (*MANY[:6], *(f"member{number}@googlemail.com" for number in range(6)))
    found = shape(Shaping(), both, limits, 0)
    assert found.ready == both[:10] and found.lane == "google"
    assert shape(after_sending(Shaping(), found.ready, limits, 0), both[:1], limits, 0.01).ready == ()


def test_newcomer_stands_behind_those_who_wait_already() -> None:
    found = shape(Shaping(), ("ann@example.org", *MANY[:2]), TEN, 0, lanes={"gmail.com": 5000})
    assert (found.ready, found.later, found.lane) == (("ann@example.org",), MANY[:2], "gmail.com")


def test_turn_counts_once_and_gives_back_what_it_does_not_use() -> None:
    turn = Turn("gmail.com", 10)
    shaping = booked(Shaping(), turn, TEN, 0)
    assert room(shaping, "gmail.com", TEN, 0) == 0, "counted as soon as it is given"
    found = shape(shaping, MANY[:4], TEN, 0, {"gmail.com": 99}, turn)
    assert found.ready == MANY[:4]
    assert room(after_sending(shaping, found.ready, TEN, 0, turn), "gmail.com", TEN, 0) == 6


def test_destination_that_the_replies_are_about_never_shares_a_transaction() -> None:
    alone = Limits({"gmail.com": 10.0, "web.de": 10.0}, alone=frozenset({"gmail.com", "web.de"}))
    mixed = ("ann@example.org", MANY[0], "ben@web.de")
    found = shape(Shaping(), mixed, alone, 0)
    assert (found.ready, found.later) == (mixed[:1], mixed[1:])
    assert len(shape(Shaping(), mixed[1:], alone, 0).ready) == 1
    turn = shape(Shaping(), mixed, alone, 0, {"web.de": 1}, Turn("web.de", 1))
    assert turn.ready == ("ben@web.de",)


def test_ceiling_that_rises_lets_those_go_at_once_that_a_low_one_held_for_hours() -> None:
    slow = Limits({"gmail.com": 0.001})
    shaping = after_sending(Shaping(), MANY[:1], slow, 0)
    assert due_s(shaping, "gmail.com", slow, 0) == 1000
    assert due_s(at_new_ceilings(shaping, TEN, 0), "gmail.com", TEN, 0) < 0.2


@given(
    per_s=st.floats(0.01, 500),
    waits=st.lists(st.floats(0, 30), max_size=30),
    backlog=st.integers(1, 300),
)
def test_no_domain_gets_more_than_its_ceiling_over_any_time(per_s: float, waits: list[float], backlog: int) -> None:
    recipients = tuple(f"member{number}@gmail.com" for number in range(backlog))
    limits = Limits({"gmail.com": per_s})
    shaping, now_s, sent = Shaping(), 0.0, 0
    for wait_s in (0.0, *waits):
        now_s += wait_s
        found = shape(shaping, recipients, limits, now_s)
        assert sorted(found.ready + found.later) == sorted(recipients)
        shaping = after_sending(shaping, found.ready, limits, now_s)
        sent += len(found.ready)
        assert sent <= per_s * (now_s + BATCH_S) + 1.001


@given(st.floats(0.01, 500), st.integers(1, 50))
def test_waiting_until_due_always_lets_a_recipient_go(per_s: float, backlog: int) -> None:
    recipients = tuple(f"member{number}@gmail.com" for number in range(backlog))
    limits = Limits({"gmail.com": per_s})
    shaping, now_s = Shaping(), 1_000.0
    for _ in range(backlog):
        found = shape(shaping, recipients, limits, now_s)
        assert found.ready
        recipients = found.later
        if not recipients:
            return
        shaping = after_sending(shaping, found.ready, limits, now_s)
        now_s = due_s(shaping, "gmail.com", limits, now_s)
    raise AssertionError("somebody was left waiting")


def test_entry_that_waits_for_two_destinations_stands_where_its_turn_comes_first() -> None:
    limits = Limits({"gmail.com": 10.0, "web.de": 1.0})
    both = (MANY[0], "ben@web.de")
    assert shape(Shaping(), both, limits, 0, {"gmail.com": 300, "web.de": 2}).lane == "web.de"
    assert shape(Shaping(), both, limits, 0, {"gmail.com": 300, "web.de": 200}).lane == "gmail.com"
