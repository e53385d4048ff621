"""What arrives, foreseen from what arrived."""

from __future__ import annotations

import math

import pytest

from drainer.estimate.arrivals import Arrivals


def test_huge_entry_in_the_first_row_is_not_believed_for_long() -> None:
    arrivals = Arrivals()
    for at in range(200):
        arrivals.observe(10.0, 500.0 if at == 0 else 20.0 * (at % 10 == 0), 50.0, 30.0)
    mean, _ = arrivals.expected(3600.0)
    assert mean / 3600 == pytest.approx(0.45, rel=0.2)


def test_lumps_are_less_sure_than_a_trickle_of_the_same_mean() -> None:
    lumps, trickle = Arrivals(), Arrivals()
    for at in range(400):
        lumps.observe(10.0, 400.0 * (at % 20 == 0), 1.0)
        trickle.observe(10.0, 20.0, 1.0)
    (lumps_mean, lumps_variance), (trickle_mean, trickle_variance) = lumps.expected(600.0), trickle.expected(600.0)
    assert lumps_mean == pytest.approx(trickle_mean, rel=0.3)
    assert lumps_variance > 4 * trickle_variance


def test_wave_is_foreseen_once_a_day_was_seen() -> None:
    arrivals = Arrivals()
    for at in range(2 * 288):
        arrivals.observe(300.0, 300.0 * (10 + 8 * math.sin(math.tau * at / 288)), 10.0, 30.0)
    mean, _ = arrivals.expected(6 * 3600.0)
    assert mean / (6 * 3600) == pytest.approx(10 + 8 * 2 / math.pi, rel=0.1)
