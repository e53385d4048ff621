"""Numbers and times in words."""

from __future__ import annotations

from datetime import UTC

from hypothesis import given
from hypothesis import strategies as st

from drainer.text.wording import clock_time, count, duration, finish_time, quantised_s, rate, shown, size

NOW_S = 1_772_536_000.0  # 2026-03-03 11:06:40 UTC


def test_finish_time_goes_in_steps_that_do_not_flicker_and_is_never_in_the_past() -> None:
    times = {finish_time(NOW_S + 7440, NOW_S + at, UTC) for at in range(0, 3600, 10)}
    assert times == {"13:10 UTC"}
    assert finish_time(NOW_S + 5, NOW_S, UTC) == "11:07 UTC"
    assert finish_time(NOW_S + 2 * 86400, NOW_S, UTC) == "Thu 5 Mar 11:00 UTC"


def test_numbers_as_people_read_them() -> None:
    assert [duration(one) for one in (0, 42, 59.6, 310, 1500, 3599, 7500, 86399, 100 * 3600)] == [
        "0 s", "42 s", "1 min", "5 min 10 s", "25 min", "1 h 00 min", "2 h 05 min", "1 d 00 h", "4 d 04 h",
    ]  # fmt: skip
    assert [rate(one) for one in (1820, 18.4, 20, 2.5, 0.25, 0.025, 1e-6, 0)] == [
        "1,820/s", "18.4/s", "20/s", "2.5/s", "0.25/s", "90/h", "0.0036/h", "0/s",
    ]  # fmt: skip
    assert [size(one) for one in (0, 812, 4300, 64 * 2**20, 3 * 2**40)] == [
        "0 B",
        "812 B",
        "4.2 KiB",
        "64 MiB",
        "3.0 TiB",
    ]
    assert [count(1, "entry", "entries"), count(12345, "entry", "entries")] == ["1 entry", "12,345 entries"]
    assert shown("caf\u00e9 \x07") == "caf\u00e9 \\x07"


def test_clock_time_names_the_day_when_it_is_another() -> None:
    assert clock_time(NOW_S, NOW_S, UTC) == "11:06 UTC"
    assert clock_time(NOW_S + 86400, NOW_S, UTC) == "Wed 4 Mar 11:06 UTC"
    assert clock_time(NOW_S + 400 * 86400, NOW_S, UTC) == "Wed 7 Apr 2027 11:06 UTC"


@given(st.floats(0, 1e7) | st.floats(0, 1000))
def test_quantised_estimate_stays_close(seconds: float) -> None:
    half_a_minute = 30.0 if seconds >= 120 else 10.0
    assert abs(quantised_s(seconds) - seconds) <= max(half_a_minute, seconds * 0.05)
