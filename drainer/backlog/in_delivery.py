"""The entries in delivery, in memory, and what the tables have not been given yet of what became of them.

In    rows of entries that are ACTIVE, and changes of them
Out   those rows; those to be written, and those to be removed from the tables
Pure  values only; store.py writes

A turn asks for its entry several times, and changes it. That needs no table. Most entries are finished in their turn, so the
tables learn that they are gone, and nothing else. An index that is lost is built again from the files at the next start.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Set

from drainer.backlog.rows import IndexedRow


class InDelivery:
    """All rows whose state is ACTIVE, by the names of their entries; two copies of one mail are never among them unless an
    operator took one out."""

    def __init__(self) -> None:
        self._rows: dict[str, IndexedRow] = {}
        self._names: dict[str, Set[bytes]] = {}
        self._in_use: Counter[bytes] = Counter()
        self._unwritten: dict[str, IndexedRow] = {}
        self._gone: dict[str, IndexedRow] = {}

    @property
    def rows(self) -> Mapping[str, IndexedRow]:
        return self._rows

    def has_any(self, names: Set[bytes]) -> bool:
        """Whether one of these is a beginning of a digest of such an entry (IndexedRow.names)."""
        return not self._in_use.keys().isdisjoint(names)

    def begin(self, row: IndexedRow) -> None:
        """It is in delivery from now on. Called again, it counts once, with the digests it has now; what was not written
        of it is written later, as before."""
        self._forget(row.filebase)
        names = row.names
        self._rows[row.filebase], self._names[row.filebase] = row, names
        for name in names:
            self._in_use[name] += 1

    def end(self, filebase: str) -> None:
        """It is not in delivery any more, and the tables have it as it is; nothing happens if it was not."""
        if self._forget(filebase):
            self._unwritten.pop(filebase, None)

    def _forget(self, filebase: str) -> bool:
        if self._rows.pop(filebase, None) is None:
            return False
        for name in self._names.pop(filebase):
            self._in_use[name] -= 1
            if not self._in_use[name]:
                del self._in_use[name]
        return True

    def changed(self, row: IndexedRow) -> None:
        """What it owes is another number than the tables have."""
        self._unwritten[row.filebase] = row

    def removed(self, row: IndexedRow) -> int:
        """It is gone, and the tables still have it. Returns how many such entries there are now."""
        self.end(row.filebase)
        self._gone[row.filebase] = row
        return len(self._gone)

    def is_gone(self, filebase: str) -> bool:
        return filebase in self._gone

    def take_unwritten(self) -> list[IndexedRow]:
        """Those to be written; the caller does it."""
        rows = list(self._unwritten.values())
        self._unwritten.clear()
        return rows

    def take_gone(self) -> list[IndexedRow]:
        """Those to be removed; the caller does it."""
        rows = list(self._gone.values())
        self._gone.clear()
        return rows

    def oldest_s(self) -> float | None:
        """When the oldest was received."""
        return min((row.when_s for row in self._rows.values()), default=None)

    def oldest_of_lists(self) -> dict[int, float]:
        """The same for each list, of those that were read."""
        oldest: dict[int, float] = {}
        for row in self._rows.values():
            if row.is_read:
                oldest[row.list] = min(row.when_s, oldest.get(row.list, math.inf))
        return oldest
