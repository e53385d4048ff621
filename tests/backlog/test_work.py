"""What is left, with entries that are not read yet."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drainer.backlog.work import EntrySizes, Work, amount


def sizes(*recipients: int) -> EntrySizes:
    found = EntrySizes()
    for one in recipients:
        found = found.plus(one)
    return found


def test_unread_entries_count_by_the_mean_of_the_read_ones() -> None:
    left = amount(Work(recipients=60, unread_entries=10, sizes=sizes(10, 20, 30)))
    assert left is not None
    assert left.recipients == 60 + 10 * 20
    assert left.deviation > 0


def test_duplicates_among_the_read_lower_what_the_unread_are_taken_for() -> None:
    left = amount(Work(recipients=40, unread_entries=10, sizes=sizes(20, 20, 0, 0)))
    assert left is not None
    assert left.recipients == 40 + 10 * 10


def test_unread_entries_of_unknown_size_leave_the_amount_unknown() -> None:
    assert amount(Work(recipients=0, unread_entries=3)) is None


def test_more_reading_makes_the_amount_surer() -> None:
    few = amount(Work(recipients=0, unread_entries=100, sizes=sizes(10, 50)))
    many = amount(Work(recipients=0, unread_entries=100, sizes=sizes(*[10, 50] * 50)))
    assert few is not None
    assert many is not None
    assert many.deviation < few.deviation / 3


def test_everything_read_is_exact() -> None:
    left = amount(Work(recipients=1234, sizes=sizes(1, 2, 3)))
    assert left is not None
    assert (left.recipients, left.deviation) == (1234, 0)


@settings(deadline=None)
@given(st.lists(st.integers(0, 100_000), min_size=2, max_size=50))
def test_variance_of_sizes_is_that_of_statistics(recipients: list[int]) -> None:
    import statistics

    assert sizes(*recipients).variance == pytest.approx(statistics.variance(recipients), rel=1e-6, abs=1e-6)
