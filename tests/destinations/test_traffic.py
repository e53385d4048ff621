"""What comes into the MTA's queue for a domain, counted from what leaves it and from what it grows by."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drainer.destinations.seen import DestinationsSeen, DomainSeen
from drainer.destinations.traffic import STEP_S, WINDOW_S, Traffic, TrafficBehind


def look(at_s: float, *, log_read: bool = True, messages: int | None = 9, **domains: DomainSeen) -> DestinationsSeen:
    return DestinationsSeen(at_s, domains, log_read=log_read, messages=messages)


steps = st.lists(
    st.tuples(st.integers(0, 40), st.integers(0, 40), st.integers(0, 9), st.integers(0, 30)), min_size=15, max_size=80
)


@settings(max_examples=25, deadline=None)
@given(steps, st.integers(0, 1000))
def test_arrivals_are_those_of_the_window_whatever_leaves_the_queue(
    seconds: list[tuple[int, int, int, int]], queued: int
) -> None:
    """Each second some arrive, some are taken, some refused for good, some deferred: the last ones stay in the queue."""
    traffic, arrived = TrafficBehind(), [0]
    traffic.see(look(0.0, gmail=DomainSeen(queued, accepted=7)))
    for at_s, (arriving, accepted, refused, deferred) in enumerate(seconds, 1):
        accepted = min(accepted, queued + arriving)
        refused = min(refused, queued + arriving - accepted)
        queued += arriving - accepted - refused
        arrived.append(arriving)
        traffic.see(look(float(at_s), gmail=DomainSeen(queued, accepted=accepted, refused=refused, deferred=deferred)))
    found = traffic.of(["gmail", "googlemail"])
    window_s = min(len(seconds), int(WINDOW_S) + len(seconds) % int(STEP_S))
    assert found.arrivals_per_s == pytest.approx(sum(arrived[-window_s:]) / window_s)
    assert found.deferrals_per_s == pytest.approx(sum(one[3] for one in seconds[-window_s:]) / window_s)


def test_what_was_not_read_is_unknown_and_not_zero() -> None:
    traffic = TrafficBehind()
    assert traffic.of(["gmail"]) == Traffic()
    for at_s in range(31):
        traffic.see(look(float(at_s), messages=None, gmail=DomainSeen(None, accepted=2, deferred=1, reply="421 slow")))
    assert traffic.of(["gmail"]) == Traffic(None, 2.0, 1.0, "421 slow"), "the queue is not read"
    assert traffic.of(["example"]) == Traffic(None, 0.0, 0.0), "the log names nobody there: nobody was sent to"
    traffic.see(look(31.0, log_read=False, gmail=DomainSeen(5)))
    assert traffic.of(["gmail"]) == Traffic(), "a gap in the log: nothing is known of that time"


def test_old_traffic_is_forgotten() -> None:
    traffic = TrafficBehind()
    for at_s in range(20):
        traffic.see(look(float(at_s), gmail=DomainSeen(0, accepted=100)))
    for at_s in range(20, 100):
        traffic.see(look(float(at_s)))
    assert traffic.of(["gmail"]) == Traffic(0.0, 0.0, 0.0)
