"""The one table of a run, and whether every promise was kept.

In    Rows
Out   text; figures as they were counted
Pure  values only
"""

from __future__ import annotations

from collections.abc import Sequence

from tests.torture.place import Row

_HEADER = ("fault", "times", "entries", "recipients", "lost", "second copies", "in doubt", "for a person", "verdict")

_LEGEND = """In doubt are recipients; over several kills one may be so more than once, and under `resend`, only there, get a
copy each time, as the verdicts count. For a person: what is held in the end.
Lost, and second copies of those who were never in doubt, have to be 0."""


def table(rows: Sequence[Row]) -> str:
    """One line per fault, and the sum."""
    lines = [_HEADER, *map(_cells, rows)]
    found = [row.found for row in rows]
    total = (
        "all",
        *(sum(numbers) for numbers in (
            [row.injected for row in rows], [one.entries for one in found], [one.owed for one in found],
            [one.lost for one in found], [one.second for one in found], [one.in_doubt for one in found],
            [one.held for one in found],
        )),
        "",
    )  # fmt: skip
    lines.append(tuple(map(str, total)))
    widths = [max(len(line[column]) for line in lines) for column in range(len(_HEADER))]
    shown = [
        " | ".join(
            cell.ljust(width) if column in (0, len(widths) - 1) else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    ]
    return "\n".join([shown[0], "-+-".join("-" * width for width in widths), *shown[1:], "", _LEGEND])


def _cells(row: Row) -> tuple[str, ...]:
    found = row.found
    verdict = ", ".join(f"{number} {word}" for word, number in sorted(found.verdicts.items()))
    numbers = (row.injected, found.entries, found.owed, found.lost, found.second, found.in_doubt, found.held)
    return (row.fault, *map(str, numbers), verdict)


def broken(rows: Sequence[Row]) -> list[str]:
    """Every promise that was not kept, with where the site is."""
    return [f"{row.fault}: {wrong}\n  kept in {row.where}" for row in rows for wrong in row.found.wrong]
