"""The number of sessions: up while they bring throughput, down to what the MTA works on, never more than it greets."""

from __future__ import annotations

import itertools
import math

from hypothesis import given
from hypothesis import strategies as st

from drainer.feed.concurrency import (
    ONE_MORE_FIRST_S,
    ONE_MORE_LONGEST_S,
    START_SESSIONS,
    Concurrency,
    Round,
    first_concurrency,
    greeted,
    next_round,
    refused,
)

MOST = 20


class Workers:
    """An MTA with so many workers, fed by as many sessions as allowed: what each round shows, by Little's law."""

    def __init__(self, workers: float, each_s: float, overhead_s: float = 0.01) -> None:
        self.workers, self.each_s, self.overhead_s = workers, each_s, overhead_s

    def per_s(self, sessions: int) -> float:
        return min(self.workers / self.each_s, sessions / (self.each_s + self.overhead_s))

    def round(self, sessions: int) -> Round:
        per_s = self.per_s(sessions)
        seconds = max(0.25, sessions / per_s)
        reply_s = max(self.each_s, sessions / per_s - self.overhead_s)
        return Round(max(1, round(per_s * seconds)), 0, reply_s, seconds, True)


def driven(mta: Workers, concurrency: Concurrency, seconds: float) -> tuple[Concurrency, float]:
    """The number at the end, and the mean throughput as a part of what the MTA could do."""
    now_s = done = 0.0
    while now_s < seconds:
        sessions = concurrency.allowed(now_s, MOST, adaptive=True)
        round_ = mta.round(sessions)
        now_s += round_.seconds
        done += round_.done
        concurrency = next_round(concurrency, round_, now_s, MOST)
    return concurrency, done / seconds / mta.per_s(1000)


def test_four_workers_get_a_few_more_sessions_than_they_are_and_lose_no_throughput() -> None:
    mta = Workers(4, 0.1)
    concurrency, part = driven(mta, first_concurrency(0), 120)
    assert 4 <= concurrency.sessions <= 8 and part > 0.9
    assert mta.round(concurrency.sessions).reply_s is not None
    assert (mta.round(concurrency.sessions).reply_s or math.inf) <= 2 * mta.each_s


def test_an_mta_that_has_enough_workers_gets_all_sessions_however_slow_it_is() -> None:
    for each_s in (0.001, 0.08, 2.0):
        assert driven(Workers(1000, each_s), first_concurrency(0), 60)[0].sessions == MOST


def test_sessions_that_bring_throughput_are_kept_though_replies_take_longer() -> None:
    class Groups(Workers):
        """A disk that commits in groups: each session more makes it slower, and all of them faster."""

        def per_s(self, sessions: int) -> float:
            return sessions / (0.1 + 0.02 * sessions)

    start = Concurrency(MOST, starting=False, unloaded_s=0.12, unloaded_at_s=0)
    assert driven(Groups(0, 0.1), start, 120)[0].sessions >= 12


def test_half_of_the_sessions_lost_costs_sessions_and_a_few_cost_none() -> None:
    flaky = sick = Concurrency(MOST, starting=False)
    for second in range(1, 200):
        flaky = next_round(flaky, Round(19, 1, 0.01, 1.0, True), second, MOST)
        sick = next_round(sick, Round(5, 15, 0.01, 1.0, True), second, MOST)
    assert flaky.sessions == MOST and sick.sessions == 1


def test_refused_sessions_settle_at_what_stands_and_one_more_is_asked_for_ever_more_rarely() -> None:
    concurrency, now_s, asked = first_concurrency(0), 0.0, []
    for standing in range(1, 9):
        concurrency = greeted(concurrency, standing, now_s)
    concurrency = refused(concurrency, 8, "421 too many", now_s)
    while now_s < 3600:
        now_s += 1
        concurrency = next_round(concurrency, Round(8, 0, 0.01, 1.0, True), now_s, MOST)
        allowed = concurrency.allowed(now_s, MOST, adaptive=True)
        assert allowed in (8, 9)
        if allowed == 9:
            asked.append(now_s)
            concurrency = refused(concurrency, 8, "421 too many", now_s)
    waits = [after - before for before, after in itertools.pairwise(asked)]
    assert waits == sorted(waits) and waits[0] >= ONE_MORE_FIRST_S and waits[-1] <= ONE_MORE_LONGEST_S + 2
    assert len(asked) < 12


def test_a_session_that_is_just_leaving_does_not_cost_one_for_good() -> None:
    concurrency = refused(greeted(first_concurrency(0), 8, 0), 8, "421", 0)
    concurrency = refused(concurrency, 7, "421", 20)
    assert concurrency.allowed(20, MOST, adaptive=True) >= 8 and concurrency.not_before_s > 20
    for second in (21, 22):
        concurrency = refused(concurrency, 5, "421", second)
    assert concurrency.allowed(22, MOST, adaptive=True) == 5


def test_an_mta_that_takes_more_again_gets_them_all() -> None:
    concurrency = refused(first_concurrency(0), 8, "421", 0)
    now_s = 0.0
    while now_s < 60:
        now_s += 1
        allowed = concurrency.allowed(now_s, MOST, adaptive=True)
        concurrency = greeted(concurrency, allowed, now_s)
        concurrency = next_round(concurrency, Round(allowed, 0, 0.01, 1.0, True), now_s, MOST)
    assert concurrency.allowed(60, MOST, adaptive=True) == MOST


def test_without_adaptation_there_are_as_many_as_set_and_fewer_only_where_the_mta_refuses() -> None:
    concurrency = first_concurrency(0)
    assert concurrency.allowed(0, MOST, adaptive=False) == MOST
    assert concurrency.allowed(0, MOST, adaptive=True) == START_SESSIONS
    assert refused(concurrency, 8, "421", 0).allowed(1, MOST, adaptive=False) == 8


rounds = st.builds(
    Round,
    st.integers(0, 1000),
    st.integers(0, 100),
    st.one_of(st.none(), st.floats(0, 600)),
    st.floats(0.01, 60),
    st.booleans(),
)


@given(st.lists(rounds, max_size=60), st.integers(1, 100))
def test_there_is_always_one_session_and_never_more_than_set(seen: list[Round], most: int) -> None:
    concurrency, now_s = first_concurrency(0), 0.0
    for round_ in seen:
        now_s += round_.seconds
        concurrency = next_round(concurrency, round_, now_s, most)
        assert 1 <= concurrency.allowed(now_s, most, adaptive=True) <= most
