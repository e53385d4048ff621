"""The text of `drainer status`, laid out for a terminal.

In    a Snapshot; the columns, and if need be the lines, of the terminal
Out   lines no wider than that, plain ASCII but for names that are not
Pure  no terminal, no clock: "now" is when the snapshot was taken
Not here  what is said (rows.py, ../words.py, ../hints.py)

Where lines are few, calm rows are left out first, then those that are only good to know. What is wrong always stays.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import tzinfo

from drainer.report.hints import hints
from drainer.report.snapshot import ListBacklog, Snapshot
from drainer.report.terminal.rows import NEEDED, USEFUL, Row, above_the_bar, below_the_bar
from drainer.report.words import progress
from drainer.text.columns import columns, cut, padded, wrapped
from drainer.text.wording import count, duration, short_time, shown

NARROWEST = 40
_LABEL = 11
_LABELS_BESIDE_FROM = 60
"""From this width on, labels stand in a column of their own."""
_ALL_COLUMNS_FROM = 76
"""From this width on, the table of lists has all its columns."""
_FEWEST_LISTS = 3
_PLAIN = "\x1b[0m"


@dataclass(frozen=True, slots=True)
class _Block:
    """Lines that are shown or left out together."""

    rank: int
    lines: list[str]


def status_lines(
    snapshot: Snapshot,
    width: int = 80,
    *,
    height: int | None = None,
    lists: int = 10,
    colour: bool = False,
    zone: tzinfo | None = None,
) -> list[str]:
    """The whole text of `drainer status`.

    width   columns; less than 40 counts as 40
    height  lines; None: as many as needed
    lists   lines of the table of lists, the longest backlog first; 0: no table
    colour  ANSI colours on the state and on what is wrong
    zone    for clock times; None: the machine's own
    """
    width = max(NARROWEST, width)
    above = _blocks(above_the_bar(snapshot, zone), width, colour)
    above += [_Block(NEEDED, line) for line in [_progress_line(snapshot, width)] if line]
    above += _blocks(below_the_bar(snapshot, zone), width, colour)
    hints_ = _blocks((Row("" if at else "Next", hint) for at, hint in enumerate(hints(snapshot))), width, colour)
    below = [line for block in hints_ for line in block.lines]
    if height is not None:
        room = height - len(below)
        above, lists = _fitted(above, lists, lambda fewer: room - len(_table(snapshot, width, fewer, zone)))
    lines = [line for block in above for line in block.lines] + _table(snapshot, width, lists, zone) + below
    if height is not None and len(lines) > height:
        lines = [*lines[: max(0, height - 1)], cut("... more than fits: `drainer status`", width)][-max(1, height) :]
    return lines


def _fitted(above: list[_Block], lists: int, room_above: Callable[[int], int]) -> tuple[list[_Block], int]:
    """The blocks and the number of lists that fit: the table shrinks, then calm blocks go, then the table, then the rest.

    room_above  from a number of lists to the lines that its table leaves for the blocks
    """
    while (missing := sum(len(block.lines) for block in above) - room_above(lists)) > 0:
        calmest = max((block.rank for block in above), default=NEEDED)
        if lists > _FEWEST_LISTS:
            lists = max(_FEWEST_LISTS, lists - missing)
        elif calmest > USEFUL:
            del above[max(at for at, block in enumerate(above) if block.rank == calmest)]
        elif lists:
            lists = 0
        elif calmest > NEEDED:
            above = [block for block in above if block.rank == NEEDED]
        else:
            break
    return above, lists


def _blocks(rows: Iterable[Row], width: int, colour: bool) -> list[_Block]:
    return [_Block(row.rank, _laid_out(row, width, colour)) for row in rows]


def _laid_out(row: Row, width: int, colour: bool) -> list[str]:
    if row.label is None:
        first, rest = "", "  "
    elif width >= _LABELS_BESIDE_FROM:
        first, rest = f"{row.label:<{_LABEL}}", " " * (_LABEL + 2)
    else:
        first, rest = (f"{row.label}: " if row.label else "  "), "  "
    lines = wrapped(row.text, width, first, rest)
    if colour and row.marked is not None:
        word, ansi = row.marked
        lines[0] = lines[0].replace(word, f"{ansi}{word}{_PLAIN}", 1)
    return lines


def _progress_line(snapshot: Snapshot, width: int) -> list[str]:
    share = progress(snapshot)
    if share is None:
        return []
    margin = _LABEL if width >= _LABELS_BESIDE_FROM else 0
    room = min(100, width - margin - 8)
    # Rounded down: 100 % is shown only when nothing is left.
    filled = int(share * room)
    return [f"{'':<{margin}}[{'#' * filled}{'-' * (room - filled)}] {int(share * 100):>3} %"]


def _table(snapshot: Snapshot, width: int, rows: int, zone: tzinfo | None) -> list[str]:
    """The lists, those with the most recipients first; a line of blanks above and below."""
    if not snapshot.lists or rows <= 0:
        return []
    longest = sorted(snapshot.lists, key=lambda one: (-one.recipients, -one.entries, one.list))
    shown_rows = [_cells(one, snapshot.at, zone) for one in longest[:rows]]
    if rest := longest[rows:]:
        entries, recipients = sum(one.entries for one in rest), sum(one.recipients for one in rest)
        shown_rows.append((f"and {count(len(rest), 'other list')}", count(entries), count(recipients), "", ""))
    titles = ("List", "entries", "recipients", "oldest", "done by")
    kept = (
        [0, 1, 2, 3, 4] if width >= _ALL_COLUMNS_FROM else [0, 1, 2, 4] if width >= _LABELS_BESIDE_FROM else [0, 2, 4]
    )
    widths = [max(columns(row[at]) for row in (titles, *shown_rows)) for at in range(len(titles))]
    name_width = min(width - sum(widths[at] + 2 for at in kept[1:]), widths[0])
    lines = [
        padded(row[0], name_width) + "".join(f"  {row[at]:>{widths[at]}}" for at in kept[1:])
        for row in (titles, *shown_rows)
    ]
    return ["", *(line.rstrip() for line in lines), ""]


def _cells(one: ListBacklog, now_s: float, zone: tzinfo | None) -> tuple[str, str, str, str, str]:
    finish = "" if one.finish is None else short_time(one.finish, now_s, zone)
    if one.paused or one.not_served:
        finish = "paused" if one.paused else "not served"
    oldest = "" if one.oldest_age_s is None else duration(one.oldest_age_s)
    return shown(one.list), count(one.entries), count(one.recipients), oldest, finish
