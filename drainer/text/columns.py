"""Text in the columns of a terminal: how wide it is, cut to a width, wrapped to it.

Pure  no terminal; character widths are those of rich.cells: two columns for East Asian wide ones, none for combining ones

Widths add up: a sequence of emoji that a terminal may draw as one counts with all its parts, so no line is ever too wide.
"""

from __future__ import annotations

import re
from itertools import pairwise

from rich.cells import get_character_cell_size

_DOTS = ".."
_NUMBER = re.compile(r"[(]?[0-9][0-9.,:]*(?<=[0-9])")


def columns(text: str) -> int:
    """How many columns the text takes."""
    return len(text) if text.isascii() else sum(map(get_character_cell_size, text))


def cut(text: str, width: int) -> str:
    """As much of the text as fits; dots show that it was cut."""
    if columns(text) <= width:
        return text
    return _beginning(text, max(0, width - len(_DOTS))) + _DOTS[: max(0, width)]


def padded(text: str, width: int) -> str:
    """The text in exactly `width` columns: cut, or filled with blanks."""
    fitting = cut(text, width)
    return fitting + " " * (width - columns(fitting))


def wrapped(text: str, width: int, first: str = "", rest: str = "") -> list[str]:
    """The words of the text in lines no wider than `width`. A word wider than that is broken.

    A number stays with the word after it: "2 h 05 min" and "18:40 CET" are misread when a line ends inside them.

    first, rest  prefixes of the first line and of every other one; narrower than `width` by at least two columns
    """
    lines: list[str] = []
    line, is_begun = first, False
    for word in _kept_together(text.split()):
        if is_begun and columns(line) + 1 + columns(word) <= width:
            line += f" {word}"
            continue
        if is_begun:
            lines.append(line)
            line = rest
        while columns(line) + columns(word) > width:
            piece = _beginning(word, width - columns(line))
            lines.append(line + piece)
            word, line = word[len(piece) :], rest
        line, is_begun = line + word, True
    return [*lines, line.rstrip()]


def _kept_together(words: list[str]) -> list[str]:
    together: list[str] = []
    for before, word in pairwise(["", *words]):
        if _NUMBER.fullmatch(before) or (before in ("d", "h") and _NUMBER.fullmatch(word)):
            together[-1] += f" {word}"
        else:
            together.append(word)
    return together


def _beginning(text: str, width: int) -> str:
    """The longest beginning of the text that fits; "" for a width of 0 or less."""
    room = width
    for at, character in enumerate(text):
        room -= get_character_cell_size(character)
        if room < 0:
            return text[:at]
    return text
