"""Hourly and daily caps: the window slides, and what is about to be sent counts."""

from __future__ import annotations

import math

from hypothesis import given, settings
from hypothesis import strategies as st

from drainer.schedule.caps import GRAIN_S, Account


def sent(account: Account, now_s: float, recipients: int) -> None:
    account.reserve(recipients)
    account.settle(now_s, recipients, recipients)


def test_cap_that_is_reached_says_when_the_next_may_go() -> None:
    account = Account()
    account.limit(300, 0)
    sent(account, 0.0, 200)
    sent(account, 600.0, 100)
    (hourly,) = account.in_force(1000.0)
    assert (hourly.name, hourly.used, hourly.next_s) == ("hourly", 300, 2600.0)
    assert hourly.leaving == ((2600.0, 200), (3200.0, 100))
    assert account.due_s(1000.0, 201) == (4200.0, "hourly")
    assert account.due_s(3600.0, 200) == (3600.0, "")


def test_the_cap_that_lets_go_last_is_the_one_that_binds() -> None:
    account = Account()
    account.limit(10, 15)
    sent(account, 0.0, 10)
    sent(account, 3600.0, 5)
    assert account.due_s(3700.0, 1) == (86_400.0, "daily")
    assert account.most == 10


def test_reserved_recipients_count_until_it_is_known_that_they_were_not_sent_to() -> None:
    account = Account()
    account.limit(10, 0)
    account.reserve(10)
    assert account.room(50_000.0) == 0
    assert account.due_s(50_000.0, 1) == (math.inf, "hourly"), "nobody knows yet when they will have been sent to"
    account.settle(50_100.0, 10, 4)
    assert account.room(50_100.0) == 6
    assert account.due_s(50_100.0, 10) == (53_700.0, "hourly")


def test_what_was_sent_without_a_cap_counts_against_one_that_is_set_later() -> None:
    account = Account()
    sent(account, 0.0, 50)
    assert account.room(0.0) == math.inf
    account.limit(60, 0)
    assert account.room(10.0) == 10


def test_what_earlier_runs_sent_counts_and_a_clock_set_back_meanwhile_makes_it_no_younger_than_now() -> None:
    account = Account()
    account.limit(10, 100)
    account.restore(1000.0, [(90_000.0, 7), (3000.0, 4), (-500.0, 5)])
    assert {cap.name: cap.used for cap in account.in_force(1000.0)} == {"hourly": 9, "daily": 9}
    assert account.due_s(1000.0, 2) == (1600.0, "hourly")


def test_what_earlier_runs_sent_is_told_anew_beside_what_this_one_has_sent() -> None:
    account = Account()
    account.limit(20, 0)
    account.restore(10_000.0, [(2000.0, 4), (1000.0, 5)])
    sent(account, 10_000.0, 3)
    account.restore(10_100.0, [(3900.0, 2), (100.0, 4), (100.0, 5)])
    (hourly,) = account.in_force(10_100.0)
    assert (hourly.used, hourly.leaving) == (12, ((3500.0, 3), (3500.0, 9)))
    assert account.due_s(10_100.0, 9) == (13_600.0, "hourly")


ROUNDING_S = 1e-6
ARRIVALS = st.lists(st.tuples(st.floats(0, 1500), st.integers(1, 40), st.floats(0, 300)), max_size=120)


@settings(max_examples=80)
@given(ARRIVALS, st.integers(1, 60), st.integers(0, 200), st.sets(st.integers(0, 119)))
def test_no_hour_and_no_day_ever_holds_more_than_its_cap_however_often_the_service_is_killed(
    arrivals: list[tuple[float, int, float]], hourly: int, daily: int, killed: set[int]
) -> None:
    """Transactions come at random, are sent as soon as the caps allow, last a while, and are cut where they do not fit. Now
    and then the service is killed: the ledger's buckets of ten seconds are all that the next one knows."""
    account, now_s = Account(), 0.0
    account.limit(hourly, daily)
    seen: list[tuple[float, int]] = []
    for number, (pause_s, recipients, lasts_s) in enumerate(arrivals):
        now_s += pause_s
        left = recipients
        while left:
            at_least = min(left, account.smallest_piece)
            due_s, _ = account.due_s(now_s, at_least)
            assert math.isfinite(due_s)
            now_s = max(now_s, due_s)
            piece = int(min(left, account.room(now_s)))
            assert at_least <= piece
            account.reserve(piece)
            at_s = now_s + lasts_s / 2  # the MTA may count at any moment of the transaction
            now_s += lasts_s
            if number in killed:
                at_s = now_s - lasts_s
                seen.append((at_s, piece))
                buckets: dict[float, int] = {}
                for moment_s, some in seen:
                    buckets[moment_s // GRAIN_S * GRAIN_S] = buckets.get(moment_s // GRAIN_S * GRAIN_S, 0) + some
                account = Account()
                account.limit(hourly, daily)
                account.restore(now_s, [(now_s - at - GRAIN_S, some) for at, some in sorted(buckets.items())])
            else:
                account.settle(now_s, piece, piece)
                seen.append((at_s, piece))
            left -= piece
    for window_s, most in ((3600.0, hourly), (86_400.0, daily)):
        for end_s, _ in seen:
            within = sum(some for at_s, some in seen if end_s - window_s + ROUNDING_S < at_s <= end_s)
            assert not most or within <= most


@given(st.integers(1, 300), st.integers(1, 1000))
def test_full_use_is_made_of_a_cap(most: int, recipients: int) -> None:
    """Of a transaction larger than the cap, an hour takes all but a twentieth of the cap at least."""
    account = Account()
    account.limit(most, 0)
    left, now_s = most * 10 + recipients, 0.0
    while left:
        now_s = account.due_s(now_s, min(left, account.smallest_piece))[0]
        if now_s >= 8 * 3600:
            break
        piece = int(min(left, account.room(now_s)))
        sent(account, now_s, piece)
        left -= piece
    assert most * 10 + recipients - left >= 8 * most * 0.95
