"""`feed.windows`: what is understood, and how a mistake is said."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drainer.schedule.windows import Window, window_of, windows_of

WEEK = frozenset(range(7))


@pytest.mark.parametrize(
    ("text", "window"),
    [
        ("22:00-06:00 unlimited", Window("22:00-06:00", None, WEEK, 22 * 60, 6 * 60)),
        ("08:00-18:00 5/s", Window("08:00-18:00", 5.0, WEEK, 8 * 60, 18 * 60)),
        ("Mon-Fri 22:00-06:00 5000/h", Window("Mon-Fri 22:00-06:00", 5000 / 3600, frozenset(range(5)), 1320, 360)),
        ("Sat,Sun unlimited", Window("Sat,Sun", None, frozenset({5, 6}), 0, 1440)),
        ("sat, sun 9:30-24:00 0", Window("sat, sun 9:30-24:00", 0.0, frozenset({5, 6}), 570, 1440)),
        ("Fri-Mon,Wed pause", Window("Fri-Mon,Wed", 0.0, frozenset({4, 5, 6, 0, 2}), 0, 1440)),
        ("20:00-00:00 pause", Window("20:00-00:00", 0.0, WEEK, 1200, 1440)),
        ("else 20/s", Window("else", 20.0)),
    ],
)
def test_window_is_days_times_and_a_rate_of_messages(text: str, window: Window) -> None:
    assert window_of(text) == window


@pytest.mark.parametrize(
    ("texts", "wrong", "right"),
    [
        (["22:00-06:00"], "'22:00-06:00' is not a window with its rate", "22:00-06:00 unlimited"),
        ([""], "'' is not a window with its rate", "22:00-06:00 unlimited"),
        (["22:00-06:00 fast"], "ends with 'fast', which is not a rate", '"20/s"'),
        (["22-6 5/s"], "has '22-6' for its times", '"22:00-06:00"'),
        (["22:00-6 5/s"], "has '22:00-6' for its times", '"22:00-06:00"'),
        (["24:00-06:00 5/s"], "has '24:00-06:00' for its times", "00:00 to 23:59"),
        (["22:60-06:00 5/s"], "has '22:60-06:00' for its times", "00:00 to 23:59"),
        (["06:00-06:00 5/s"], "ends when it begins", '"00:00-24:00"'),
        (["Mo-Fr 5/s"], "has 'Mo' for a day", "Mon, Tue"),
        (["else 1/s", "Sat 5/s"], "'Sat 5/s' never applies", '"else" as the last'),
    ],
)
def test_mistake_is_named_with_what_would_be_right(texts: list[str], wrong: str, right: str) -> None:
    with pytest.raises(ValueError, match="right would be") as said:
        windows_of(texts)
    assert wrong in str(said.value)
    assert right in str(said.value)


@given(st.text(alphabet="0123456789:-, /shMonFriSatelunimtd\0é", max_size=40) | st.text(max_size=12))
def test_any_text_is_a_window_within_the_week_or_a_mistake_in_words(text: str) -> None:
    try:
        window = window_of(text)
    except ValueError as exc:
        assert "right would be" in str(exc)
        return
    assert window.days <= WEEK
    assert window.days
    assert 0 <= window.from_min < 1440
    assert 0 < window.to_min <= 1440
    assert window.covers(min(window.days), window.from_min)
