"""The rows of the table of aims: ours beside a peer's, in turns, and whether the aim is reached.

In    two measurements that can be repeated
Out   Row: medians of pairs, the ratio, the aim; printed as a table

Ours and the peer's are measured in turns, each time the other one first: a machine that gets faster or slower does neither
of them a favour. The ratio is the median of the pairs' ratios, not the ratio of the medians.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from statistics import median

PAIRS = 3


@dataclass(frozen=True, slots=True)
class Aim:
    """value: the least, or with `at_most` the most. unit: of the compared number, "x" for a ratio."""

    value: float
    unit: str = "x"
    at_most: bool = False

    def is_reached(self, found: float) -> bool:
        return found <= self.value if self.at_most else found >= self.value

    def __str__(self) -> str:
        return f"{'<=' if self.at_most else '>='} {self.value:g} {self.unit}"


@dataclass(frozen=True, slots=True)
class Row:
    """work: what is done; against: by what it is compared. ours, theirs: in words. found: compared with the aim."""

    work: str
    against: str
    ours: str
    theirs: str
    found: float
    aim: Aim | None


def in_turns(ours: Callable[[], float], theirs: Callable[[], float], pairs: int = PAIRS) -> list[tuple[float, float]]:
    """Measure both so many times, in turns. (ours, theirs) of each time."""
    found = []
    for number in range(pairs):
        if number % 2:
            other = theirs()
            found.append((ours(), other))
        else:
            own = ours()
            found.append((own, theirs()))
    return found


def compared(work: str, against: str, found: Iterable[tuple[float, float]], aim: Aim | None, unit: str) -> Row:
    """Of rates: ours as a multiple of theirs."""
    pairs = list(found)
    own, other = median(one for one, _ in pairs), median(two for _, two in pairs)
    ratio = median(one / two for one, two in pairs)
    return Row(work, against, f"{own:,.0f} {unit}", f"{other:,.0f} {unit}", ratio, aim)


def table(rows: Iterable[Row]) -> Iterator[str]:
    """Lines, as they come: a measurement takes minutes."""
    yield (
        f"{'work':44} {'against':34} {'ours':>18} {'theirs':>18} {'found':>9} {'aim':>15} reached\n"
        f"{'-' * 44} {'-' * 34} {'-' * 18} {'-' * 18} {'-' * 9} {'-' * 15} -------"
    )
    for row in rows:
        aim = row.aim
        aim = row.aim
        found = f"{row.found:.3g} {aim.unit if aim else 'x'}"
        reached = "" if aim is None else "yes" if aim.is_reached(row.found) else "NO"
        compared = f"{row.work:44} {row.against:34} {row.ours:>18} {row.theirs:>18}"
        yield f"{compared} {found:>9} {aim or 'a limit'!s:>15} {reached}".rstrip()
