"""What the length of the MTA's own queue allows: seen in closed loops with MTAs that pass on what they can."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drainer.guards.mta_queue import MtaQueue, uncounted
from drainer.guards.verdict import Guard

LOOK_EVERY_S = 5
HIGH, LOW = 10_000, 5_000
UNSLOWED_PER_S = 500.0


def fed_for(
    seconds: int, passes_on: Callable[[int], float], queue: MtaQueue, *, queued: float = 0.0, others_per_s: float = 0.0
) -> Iterator[tuple[Guard, float, float]]:
    """At each look: the guard, the length of the queue, and our rate until the next look.

    passes_on  messages that the MTA can pass on in that second; queued: at first; others_per_s: mail that is not ours
    """
    fed, rate = 0.0, UNSLOWED_PER_S
    for second in range(seconds):
        if second % LOOK_EVERY_S == 0:
            guard = queue.judge(int(queued), float(second), int(fed))
            rate = {"go": UNSLOWED_PER_S, "stop": 0.0, "slow": UNSLOWED_PER_S / 2}[guard.verdict]
            if guard.verdict == "slow" and guard.at_most_per_s is not None:
                rate = min(UNSLOWED_PER_S, guard.at_most_per_s)
            yield guard, queued, rate
        fed += rate
        queued += rate + others_per_s
        queued -= min(queued, passes_on(second))


def test_queue_of_an_mta_slower_than_we_are_settles_between_the_marks_without_a_stop() -> None:
    looks = list(fed_for(3600, lambda _: 30.0, MtaQueue(HIGH, LOW)))
    assert "stop" not in {guard.verdict for guard, _, _ in looks}
    settled = looks[len(looks) // 3 :]
    assert all(LOW < queued < HIGH for _, queued, _ in settled)
    rates = [rate for _, _, rate in settled]
    assert 29.0 < sum(rates) / len(rates) < 31.0
    assert max(rates) < 33.0 and min(rates) > 27.0, "settled: no swing"


def test_mta_that_passes_everything_on_is_not_slowed() -> None:
    looks = list(fed_for(600, lambda _: 500.0, MtaQueue(HIGH, LOW)))
    assert {guard.verdict for guard, _, _ in looks} == {"go"}


def test_providers_that_refuse_for_a_while_are_followed_down_and_up_again() -> None:
    looks = list(fed_for(3600, lambda second: 20.0 if 600 <= second < 1800 else 400.0, MtaQueue(HIGH, LOW)))
    assert "stop" not in {guard.verdict for guard, _, _ in looks}
    while_refused = [rate for _, _, rate in looks[240:360]]
    assert sum(while_refused) / len(while_refused) < 22.0
    assert looks[-1][0].verdict == "go" or looks[-1][2] > 390.0


@pytest.mark.parametrize("stuck", [5500, 7000, 9900])
def test_mail_that_no_provider_takes_does_not_stop_the_other_mail(stuck: int) -> None:
    """The MTA passes on all that it is fed with, and those stay: their number alone says nothing against more."""
    queue = MtaQueue(HIGH, LOW)
    fed, rates = 0.0, []
    for look in range(100):
        guard = queue.judge(stuck, look * 5.0, int(fed))
        rates.append(min(UNSLOWED_PER_S, guard.at_most_per_s or UNSLOWED_PER_S / 2))
        fed += rates[-1] * LOOK_EVERY_S
    assert rates[-1] == UNSLOWED_PER_S
    assert min(rates) > 200.0


def test_mail_of_others_in_the_same_mta_is_counted_against_ours() -> None:
    looks = list(fed_for(3600, lambda _: 30.0, MtaQueue(HIGH, LOW), others_per_s=20.0))
    rates = [rate for _, _, rate in looks[-100:]]
    assert 9.0 < sum(rates) / len(rates) < 11.0


def test_after_a_stop_the_queue_is_not_flooded_again() -> None:
    looks = list(fed_for(7200, lambda _: 30.0, MtaQueue(HIGH, LOW), queued=15_000.0))
    verdicts = [guard.verdict for guard, _, _ in looks]
    assert verdicts[0] == "stop"
    first_go = next(number for number, verdict in enumerate(verdicts) if verdict != "stop")
    assert "stop" not in verdicts[first_go:]
    assert looks[first_go][1] < LOW, "stopped until it is below queue_low"


def test_marks_that_are_one_look_apart_stop_and_then_settle() -> None:
    """At 500/s between two looks there is no way to see marks of 400 in time; but it is seen only once."""
    looks = list(fed_for(3600, lambda _: 30.0, MtaQueue(400, 200)))
    stops = [number for number, (guard, _, _) in enumerate(looks) if guard.verdict == "stop"]
    assert max(stops) < len(looks) // 3
    assert all(queued < 400 for _, queued, _ in looks[len(looks) // 3 :])


def test_count_that_is_no_news_changes_nothing() -> None:
    queue = MtaQueue(HIGH, LOW)
    queue.judge(6000, 0.0, 0)
    first = queue.judge(7000, 5.0, 2000)
    assert queue.judge(9999, 5.0, 9000) is first


def test_reason_says_what_the_mta_passes_on_and_what_it_gets() -> None:
    queue = MtaQueue(HIGH, LOW)
    queue.judge(6000, 0.0, 0)
    guard = queue.judge(6500, 10.0, 1000)
    assert guard.reason == (
        "messages in the MTA's queue: 6,500, stops at 10,000; it passes on 50/s, and gets at most 75/s"
    )
    assert (guard.verdict, guard.value, guard.limit, guard.at_most_per_s) == ("slow", 6500, 10_000, 75.0)


@given(
    st.lists(st.tuples(st.integers(0, 30_000), st.floats(0.1, 300), st.integers(0, 100_000)), min_size=1, max_size=30)
)
def test_any_counts_give_a_rate_that_is_never_zero_below_the_upper_mark(
    counts: list[tuple[int, float, int]],
) -> None:
    queue, at_s, fed = MtaQueue(HIGH, LOW), 0.0, 0
    for messages, elapsed_s, more in counts:
        at_s += elapsed_s
        fed += more
        guard = queue.judge(messages, at_s, fed)
        assert (guard.verdict == "stop") >= (messages > HIGH)
        if guard.verdict == "slow" and guard.at_most_per_s is not None and messages < HIGH:
            assert guard.at_most_per_s > 0.0
        if guard.verdict == "stop":
            assert messages >= LOW


@pytest.mark.parametrize("why", ["postqueue: no such file"])
def test_length_that_cannot_be_had_slows_and_says_why(why: str) -> None:
    guard = uncounted(why)
    assert (guard.verdict, guard.reason) == ("slow", why)


def test_queue_that_was_too_long_and_cannot_be_counted_any_more_is_not_fed() -> None:
    assert uncounted("postqueue did not answer", was_stopped=True).verdict == "stop"
    assert "postqueue did not answer" in uncounted("postqueue did not answer", was_stopped=True).reason
