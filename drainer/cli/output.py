"""How answers are printed: one JSON object, or lines folded at the width of the terminal."""

from __future__ import annotations

import json
import os
import re
import sys
from typing import TYPE_CHECKING, TextIO

from drainer.text.columns import columns, wrapped

if TYPE_CHECKING:
    from pydantic import BaseModel

_CELLS = re.compile(r"\s*(?:.*\S\s{2,})?")
_FIRST_CELL = re.compile(r"\s*\S+\s{2,}")
_WIDEST_HANGING = 12
_NARROWEST_LAST_CELL = 16


def print_json(value: BaseModel | dict[str, object]) -> None:
    """One object on standard output, indented for a person."""
    from drainer.text.clean_model import cleaned  # here, since `drainer --help` prints too, and needs no pydantic

    plain = cleaned(value) if isinstance(value, dict) else value.model_dump(mode="json")
    print(json.dumps(plain, indent=2 if sys.stdout.isatty() else None))


def wants_colour() -> bool:
    """Whether standard output is a terminal that may be coloured (https://no-color.org)."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def print_folded(text: str, stream: TextIO | None = None) -> None:
    """Print to standard output, or to `stream`. On a terminal long lines are broken between words, since it would
    break them within words. A file or pipe gets whole lines, for grep."""
    stream = stream or sys.stdout
    if not stream.isatty():
        print(text, file=stream)
        return
    width = max(terminal_width(stream), 20)
    for line in text.split("\n"):
        print("\n".join(_folded(line, width)), file=stream)


def _folded(line: str, width: int) -> list[str]:
    """The line, or its pieces. Cells before the last one stay as they are; the pieces of the last are indented."""
    if columns(line) <= width:
        return [line]
    cells = _CELLS.match(line)
    before = cells.group() if cells else ""
    if len(before) + _NARROWEST_LAST_CELL > width:
        before = line[: len(line) - len(line.lstrip())]
    first = _FIRST_CELL.match(before)
    hanging = len(first.group()) if first and len(first.group()) <= _WIDEST_HANGING else 2
    return wrapped(line[len(before) :], width, before, " " * hanging)


def terminal_width(stream: TextIO | None = None) -> int:
    """Columns of the terminal that standard output or `stream` is; COLUMNS counts, and a pipe is 80 wide."""
    given = os.environ.get("COLUMNS", "")
    if given.isdecimal() and int(given) > 0:
        return int(given)
    try:
        return os.get_terminal_size((stream or sys.stdout).fileno()).columns or 80
    except (OSError, ValueError):
        return 80


def table_width() -> int | None:
    """As terminal_width, but None into a pipe or file: there is no right side to cut at."""
    given = os.environ.get("COLUMNS", "")
    return terminal_width() if sys.stdout.isatty() or given.isdecimal() else None
