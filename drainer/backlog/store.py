"""The backlog index's tables in SQLite, and the rows of entries in delivery, which are in memory.

In    a path; SQL with its values; rows to write
Out   rows; a number for each list, lane and domain
Raises    IndexUnusable for whatever SQLite or the filesystem refuses
Not here  what a change means for the totals, the order and related entries (index.py and the modules beside it)

The facts of a million entries are on disk and not in Python objects. No journal, no sync, and one transaction that never
ends: a lost index costs a restart, and SQLite writes only what does not fit into its cache.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from drainer.backlog.in_delivery import InDelivery
from drainer.backlog.keys import keys_of_entry
from drainer.backlog.rows import IndexedRow, NumberedCounts, joined_counts
from drainer.backlog.schema import INSERT_ENTRY, ROW, SCHEMA, UPDATE_READ, row_of
from drainer.backlog.selection import contains_folded, stored_text
from drainer.backlog.states import EntryState
from drainer.backlog.values import Description, tie_order
from drainer.errors import IndexUnusable
from drainer.queuedir.domains import DomainCounts
from drainer.queuedir.filebase import QueueFile, received_s

_Value = TypeVar("_Value")

_CACHE_KIB = 32_768
MOST_DOMAINS = 5_000
_MOST_VALUES_A_QUERY = 500
_REMOVED_AT_A_TIME = 100
"""Some milliseconds. A statement for a hundred entries costs a third of a hundred statements."""


class Store:
    """One connection, one thread: the event loop's.

    in_delivery  the rows that are ACTIVE; what the tables have of these may be older, until `query` is asked
    """

    def __init__(self, path: Path) -> None:
        """Start empty at `path`; an older index there is deleted. `:memory:` is for tests and dry runs."""
        self.lists: dict[str, int] = {"": 0}
        """The number of each list seen since the start, by list-id; number 0 stands for entries not read yet."""
        self.list_names: list[str] = [""]
        """The other way round."""
        self.domain_names: list[str] = []
        self.lanes: dict[str, int] = {"": 0}
        """The number of each destination that entries have waited for; number 0 stands for no lane."""
        self.in_delivery = InDelivery()
        self._picked: dict[str, IndexedRow] = {}
        self._domains: dict[str, int] = {}
        self._last_id = 0
        self._changes_in_memory = 0
        try:
            if str(path) != ":memory:":
                for leftover in (path, *(path.with_name(path.name + end) for end in ("-journal", "-wal", "-shm"))):
                    leftover.unlink(missing_ok=True)
            self._db = sqlite3.connect(path, isolation_level=None)
            self._db.text_factory = partial(str, encoding="utf-8", errors="surrogateescape")
            self._db.executescript(
                "PRAGMA locking_mode=EXCLUSIVE; PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF;"
                f"PRAGMA cache_size=-{_CACHE_KIB}; PRAGMA temp_store=MEMORY;" + SCHEMA
            )
            self._db.execute("BEGIN")
            self._db.create_function("contains_folded", 2, contains_folded, deterministic=True)
        except (sqlite3.Error, OSError) as exc:
            raise IndexUnusable(f"the backlog index {path} cannot be made: {exc}") from exc

    def close(self) -> None:
        self._db.close()

    def query(self, sql: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        """All rows, once the tables have all that became of entries in delivery."""
        self.write_late()
        return self.query_waiting(sql, values)

    def query_waiting(self, sql: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        """All rows, for a question that entries in delivery have no part in."""
        try:
            return self._db.execute(sql, values).fetchall()
        except sqlite3.Error as exc:
            raise _unusable(exc) from exc

    def execute_many(self, sql: str, values: Iterable[Sequence[object]]) -> None:
        """One statement for each of the values."""
        try:
            self._db.executemany(sql, values)
        except sqlite3.Error as exc:
            raise _unusable(exc) from exc

    @property
    def changes(self) -> int:
        """Changes since the start: what was counted stays true while this stays the same."""
        return self._db.total_changes + self._changes_in_memory

    def row(self, filebase: str) -> IndexedRow | None:
        """None if the index has no such entry."""
        if (row := self.in_delivery.rows.get(filebase)) is not None:
            return row
        return self.rows([filebase]).get(filebase)

    def rows(self, filebases: Sequence[str]) -> dict[str, IndexedRow]:
        """Rows of those the index has, in the order given. Each change of a row is written by one of the methods below."""
        found: dict[str, IndexedRow] = {}
        asked: list[str] = []
        active, picked = self.in_delivery.rows, self._picked
        for filebase in filebases:
            if (row := active.get(filebase) or picked.get(filebase)) is not None:
                found[filebase] = row
            elif not self.in_delivery.is_gone(filebase):
                asked.append(filebase)
        if not asked:
            return found
        for some in in_portions(asked):
            query = f"SELECT {ROW} FROM entry WHERE filebase IN ({_marks(some)})"
            found.update((columns[1], row_of(columns)) for columns in self.query_waiting(query, some))
        if absent := [filebase for filebase in asked if filebase not in found]:
            named = [(name, when_s) for name in absent if (when_s := received_s(name + ".pck")) is not None]
            found.update((row.filebase, row) for row in self.listed(named))
        return {filebase: found[filebase] for filebase in filebases if filebase in found}

    def listed(self, named: Sequence[tuple[str, float]]) -> list[IndexedRow]:
        """Rows of those that were listed, and of which nothing else is known.

        named  filebases, each with its received time
        """
        found: list[IndexedRow] = []
        for some in in_portions(named):
            rows = self.query_waiting(
                f"WITH named (filebase, when_s) AS (VALUES {','.join(['(?, ?)'] * len(some))})"
                " SELECT filebase, when_s, size_bytes FROM named CROSS JOIN listed USING (when_s, filebase)",
                [value for pair in some for value in pair],
            )
            found += [IndexedRow(0, filebase, when_s, size_bytes=size_bytes) for filebase, when_s, size_bytes in rows]
        return found

    def remember_picked(self, rows: Iterable[IndexedRow]) -> None:
        """Rows that were read a moment ago: their entries may become active now. They replace those of the last pick."""
        self._picked = {row.filebase: row for row in rows}

    def add_listed(self, files: Sequence[tuple[QueueFile, int]]) -> None:
        """Entries that the index does not have, each with its size in bytes."""
        self.execute_many(
            "INSERT INTO listed (when_s, filebase, size_bytes) VALUES (?, ?, ?)",
            [(file.when_s, file.filebase, size_bytes) for file, size_bytes in files],
        )

    def insert(self, rows: Iterable[IndexedRow]) -> None:
        """Entries that were not read, and are not listed; each gets an id."""
        self._insert((row, _NOT_READ) for row in rows)

    def describe(self, pairs: Sequence[tuple[IndexedRow, Description]]) -> None:
        """Entries that were read: their rows, which have what the reading showed, and the rest of it. A row without an id
        gets one."""
        listed = [pair for pair in pairs if not pair[0].id]
        again = [pair for pair in pairs if pair[0].id]
        self._forget_listed(row for row, _ in listed)
        self._insert((row, _shown(described)) for row, described in listed)
        if not again:
            return
        self.execute_many(
            UPDATE_READ,
            [
                (row.state.value, row.ready, row.list, row.recipients, row.owed, row.covered, row.duplicate.value,
                 row.size_bytes, joined_counts(row.domains), b"".join(row.identity), row.message_id_key,
                 *_shown(described), row.id)
                for row, described in again
            ],
        )  # fmt: skip
        for row, _ in again:
            if row.state is EntryState.ACTIVE:
                self.in_delivery.begin(row)

    def begin(self, rows: Sequence[IndexedRow]) -> None:
        """These rows are ACTIVE now."""
        self._enter(rows)
        self.execute_many(
            "UPDATE entry SET state='active', ready=0, reason='', due_s=NULL, lane=0 WHERE id=?",
            [(row.id,) for row in rows],
        )
        for row in rows:
            self._picked.pop(row.filebase, None)
            self.in_delivery.begin(row)

    def write_state(self, row: IndexedRow, reason: str) -> None:
        """The row has this state, and owes what it says."""
        self._enter([row])
        self.execute_many(
            "UPDATE entry SET state=?, ready=?, reason=CAST(? AS TEXT), due_s=?, lane=?, owed=?, covered=?, domains=?"
            " WHERE id=?",
            [
                (row.state.value, row.ready, stored_text(reason), row.due_s, row.lane, row.owed, row.covered,
                 joined_counts(row.domains), row.id)
            ],
        )  # fmt: skip
        self.in_delivery.end(row.filebase)

    def write_lane(self, rows: Iterable[IndexedRow], reason: str) -> None:
        """These rows wait in this lane."""
        self.execute_many(
            "UPDATE entry SET lane=?, reason=CAST(? AS TEXT) WHERE id=?",
            [(row.lane, stored_text(reason), row.id) for row in rows],
        )

    def write_owed(self, row: IndexedRow) -> None:
        """The row owes what it says. While its entry is in delivery, that is written later."""
        if row.state is EntryState.ACTIVE:
            self.in_delivery.changed(row)
            self._changes_in_memory += 1
        else:
            self._write_owed([row])

    def remove(self, row: IndexedRow) -> None:
        """The entry is gone. If it was in delivery, the tables learn that later, with others."""
        if not row.id:
            self._forget_listed([row])
            return
        self._picked.pop(row.filebase, None)
        self._changes_in_memory += 1
        if row.state is not EntryState.ACTIVE:
            self._remove([row])
        elif self.in_delivery.removed(row) >= _REMOVED_AT_A_TIME:
            self._remove(self.in_delivery.take_gone())

    def write_late(self) -> None:
        """What became of entries in delivery."""
        if unwritten := self.in_delivery.take_unwritten():
            self._write_owed(unwritten)
        if gone := self.in_delivery.take_gone():
            self._remove(gone)

    def forget_keys(self, rows: Iterable[IndexedRow]) -> None:
        """The digests of these entries find them no longer; their texts stay known."""
        keys = [(*key, row.id) for row in rows for key in keys_of_entry(row.identity, row.message_id_key)]
        self.execute_many("DELETE FROM key WHERE start = ? AND rest = ? AND id = ?", sorted(keys))

    def _enter(self, rows: Iterable[IndexedRow]) -> None:
        """Those that are only listed get a row of the table `entry`."""
        if listed := [row for row in rows if not row.id]:
            self._forget_listed(listed)
            self.insert(listed)

    def _insert(self, rows: Iterable[tuple[IndexedRow, _Shown]]) -> None:
        values = []
        for row, shown in rows:
            self._last_id += 1
            row.id = self._last_id
            values.append(
                (row.id, row.filebase, row.when_s, row.list, row.state.value, row.duplicate.value, row.is_read, row.ready,
                 row.recipients, row.owed, row.covered, row.size_bytes, joined_counts(row.domains), row.lane, row.due_s,
                 b"".join(row.identity), row.message_id_key, *shown)
            )  # fmt: skip
        self.execute_many(INSERT_ENTRY, values)

    def _forget_listed(self, rows: Iterable[IndexedRow]) -> None:
        """They are in `entry` now, or gone."""
        self.execute_many(
            "DELETE FROM listed WHERE when_s = ? AND filebase = ?", [(row.when_s, row.filebase) for row in rows]
        )

    def _write_owed(self, rows: Iterable[IndexedRow]) -> None:
        self.execute_many(
            "UPDATE entry SET owed=?, covered=?, domains=? WHERE id=?",
            [(row.owed, row.covered, joined_counts(row.domains), row.id) for row in rows],
        )

    def _remove(self, rows: Sequence[IndexedRow]) -> None:
        self.execute_many("DELETE FROM entry WHERE id = ?", [(row.id,) for row in rows])
        self.forget_keys(row for row in rows if row.is_read)

    def list_number(self, name: str) -> int:
        """The number of a list, a new one at its first entry."""
        number = self.lists.setdefault(name, len(self.list_names))
        if number == len(self.list_names):
            self.list_names.append(name)
        return number

    def lane_number(self, destination: str) -> int:
        """The number of a destination's lane, a new one when an entry waits for it first."""
        return self.lanes.setdefault(destination, len(self.lanes))

    def lane_name(self, number: int) -> str:
        """The destination of a lane; "" for number 0."""
        return next(name for name, of_lane in self.lanes.items() if of_lane == number)

    @property
    def has_lanes(self) -> bool:
        """Whether an entry has ever waited for a destination."""
        return len(self.lanes) > 1

    def numbered(self, domains: DomainCounts) -> NumberedCounts:
        """Counts by the number of the domain. Of domains that come once MOST_DOMAINS have a number, nothing is counted."""
        found = []
        for name, count in domains:
            number = self._domains.get(name)
            if number is None:
                if len(self.domain_names) == MOST_DOMAINS:
                    continue
                number = self._domains[name] = len(self.domain_names)
                self.domain_names.append(name)
            found.append((number, count))
        return tuple(found)

    def named(self, counts: NumberedCounts) -> DomainCounts:
        """Counts by the name of the domain."""
        return tuple((self.domain_names[number], count) for number, count in counts)

    def domain_number(self, name: str) -> int | None:
        """None: no recipient in this domain was counted."""
        return self._domains.get(name)


_Shown = tuple[str | None, int, bytes | str, bytes | str, bytes | str, bytes, bytes]
_NOT_READ: _Shown = (None, 0, "", "", "", b"", b"")


def _shown(described: Description) -> _Shown:
    """What is written when an entry was read, and does not change: the last columns of INSERT_ENTRY and UPDATE_READ."""
    summary = described.summary
    return (
        described.of, tie_order(summary), stored_text(summary.message_id), stored_text(summary.sender),
        stored_text(summary.subject), summary.fingerprint.copy, summary.recipient_keys,
    )  # fmt: skip


def _marks(values: Sequence[object]) -> str:
    return ",".join("?" * len(values))


def in_portions(values: Sequence[_Value]) -> Iterator[Sequence[_Value]]:
    """As many at a time as fit into one query."""
    for start in range(0, len(values), _MOST_VALUES_A_QUERY):
        yield values[start : start + _MOST_VALUES_A_QUERY]


def _unusable(exc: sqlite3.Error) -> IndexUnusable:
    return IndexUnusable(f"the backlog index failed ({exc}); it is rebuilt when drainer starts again")
