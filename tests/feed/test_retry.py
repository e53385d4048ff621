"""How long deferred recipients were made to wait, which is what they are given up for."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from drainer.clock import StoppedClock
from drainer.feed.retry import retry_delay_s, waited_s
from drainer.stages.bounces import Quiet


@given(st.integers(1, 500), st.floats(0.001, 1e4), st.floats(1.0, 100.0))
def test_time_waited_grows_by_the_delay_before_each_attempt_from_nothing(
    attempts: int, first_s: float, times: float
) -> None:
    longest_s = first_s * times
    assert waited_s(1, first_s, longest_s) == 0
    more_s = waited_s(attempts + 1, first_s, longest_s) - waited_s(attempts, first_s, longest_s)
    assert abs(more_s - retry_delay_s(attempts, first_s, longest_s)) < 1e-6 * longest_s * attempts


class _JumpingClock(StoppedClock):
    """Whose time of day can be set, while what never jumps stands still."""

    def set_by(self, seconds: float) -> None:
        self._now_s += seconds


def test_clock_set_by_a_day_makes_no_failure_old_enough_for_its_dsn_and_none_younger() -> None:
    clock = _JumpingClock()
    quiet, failed_at_s = Quiet(clock), clock.now_s()
    assert quiet.since(failed_at_s) == 0
    clock.advance(100)
    for by_s in (86_400, -2 * 86_400):
        clock.set_by(by_s)
        assert quiet.since(failed_at_s) == 100
    assert quiet.since(clock.now_s()) == 0, "somebody else has failed since"
