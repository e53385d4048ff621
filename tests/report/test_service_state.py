"""Since when a state has been: what an operator reads first."""

from __future__ import annotations

import pytest

from drainer.estimate.eta import ServiceState
from drainer.report.service_state import state_since_s


@pytest.mark.parametrize(
    ("state", "latest", "before", "since"),
    [
        ("draining", ("mta_down", 998.0), ("draining", 100.0), 100.0),
        ("draining", ("mta_down", 960.0), ("draining", 100.0), 1000.0),
        ("idle", ("mta_down", 998.0), ("draining", 100.0), 1000.0),
        ("draining", ("paused", 998.0), ("draining", 100.0), 1000.0),
        ("mta_down", ("draining", 998.0), ("mta_down", 100.0), 1000.0),
    ],
    ids=["one-session-lost", "outage", "another-state", "pause", "down-again"],
)
def test_one_lost_session_is_no_new_beginning_of_what_goes_on(
    state: ServiceState, latest: tuple[ServiceState, float], before: tuple[ServiceState, float], since: float
) -> None:
    assert state_since_s(state, 1000.0, latest, before) == since
