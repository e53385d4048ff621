"""What a comparison found, and how it is shown.

Pure  values only
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Compared:
    """One entry. group: its row;  kind: what it shows;  deliveries: recipients Mailman delivered it to"""

    group: str
    kind: str
    is_equal: bool
    deliveries: int
    detail: str = ""


@dataclass(slots=True)
class Comparison:
    """Everything compared with one Mailman.

    wanted  kind = why it is right that we differ there
    """

    mailman: str
    entries: list[Compared] = field(default_factory=list)
    wanted: dict[str, str] = field(default_factory=dict)

    def unwanted(self) -> list[Compared]:
        return [entry for entry in self.entries if not entry.is_equal and entry.kind not in self.wanted]

    def differing_kinds(self) -> set[str]:
        return {entry.kind for entry in self.entries if not entry.is_equal}


def summary(comparisons: Sequence[Comparison]) -> str:
    """One line for each Mailman."""
    rows = [("Mailman", "kinds of entries", "entries", "equal", "deliveries", "differing on purpose", "wrong")]
    for comparison in comparisons:
        entries = comparison.entries
        equal = sum(entry.is_equal for entry in entries)
        wrong = len(comparison.unwanted())
        rows.append(
            (
                comparison.mailman,
                _number(len({entry.kind for entry in entries})),
                _number(len(entries)),
                _number(equal),
                _number(sum(entry.deliveries for entry in entries)),
                _number(len(entries) - equal - wrong),
                _number(wrong),
            )
        )
    return _markdown(rows)


def by_group(comparisons: Sequence[Comparison]) -> str:
    """One line for each group of entries: equal of total, for each Mailman."""
    groups = dict.fromkeys(entry.group for comparison in comparisons for entry in comparison.entries)
    rows = [("entries", *(comparison.mailman for comparison in comparisons))]
    rows += [(group, *(_share(comparison, group) for comparison in comparisons)) for group in groups]
    return _markdown(rows)


def differences(comparisons: Iterable[Comparison]) -> str:
    """Each difference that is there on purpose, with its reason."""
    return "\n".join(
        f"- {comparison.mailman}, `{kind}`: {comparison.wanted[kind]}"
        for comparison in comparisons
        for kind in sorted(comparison.differing_kinds() & set(comparison.wanted))
    )


def _share(comparison: Comparison, group: str) -> str:
    of_group = [entry for entry in comparison.entries if entry.group == group]
    return f"{sum(entry.is_equal for entry in of_group)} of {len(of_group)}" if of_group else "-"


def _number(value: int) -> str:
    return f"{value:,}"


def _markdown(rows: Sequence[Sequence[str]]) -> str:
    head, *body = rows
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]

    def line(row: Sequence[str]) -> str:
        cells = [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        return f"| {' | '.join(cells)} |"

    rule = "|".join(["", "-" * (widths[0] + 2), *("-" * (width + 1) + ":" for width in widths[1:]), ""])
    return "\n".join([line(head), rule, *map(line, body)])
