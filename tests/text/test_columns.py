"""Widths of text, and lines that fit a terminal."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from drainer.text.columns import columns, padded, wrapped


def test_wide_characters_count_twice_and_numbers_stay_with_their_unit() -> None:
    assert (columns("caf\u00e9"), columns("cafe\u0301"), columns("\u6d77\u6d77")) == (4, 4, 4)
    assert wrapped("it ends at 18:40 CET", 14) == ["it ends at", "18:40 CET"]
    assert wrapped("about 2 h 05 min", 13, rest="  ") == ["about", "  2 h 05 min"]
    assert wrapped("\u6d77" * 5, 5) == ["\u6d77\u6d77", "\u6d77\u6d77", "\u6d77"]


@settings(deadline=None)
@given(st.text("a \u6d77\u0301\u2601\ufe0f\u200d\U0001f469\U0001f52c", max_size=60), st.integers(4, 30))
def test_whatever_the_characters_no_line_is_wider_and_a_cell_is_filled(text: str, width: int) -> None:
    assert all(columns(line) <= width for line in wrapped(text, width, "* ", "  "))
    assert columns(padded(text, width)) == width
