"""The backlog index's tables in SQLite.

In    a path; SQL with its values
Out   rows; a number for each list
Raises    IndexUnusable for whatever SQLite or the filesystem refuses
Not here  what a change means for the totals, the order and related entries (index.py and the modules beside it)

The facts of a million entries are on disk and not in Python objects. No journal, no sync, and one transaction that never
ends: a lost index costs a restart, and SQLite writes only what does not fit into its cache.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from drainer.backlog.selection import contains_folded
from drainer.backlog.states import EntryState
from drainer.backlog.sums import IndexedRow, NumberedCounts
from drainer.duplicates.classes import DuplicateClass
from drainer.errors import IndexUnusable
from drainer.ledger.records import DIGEST_BYTES
from drainer.queuedir.domains import DomainCounts

_Value = TypeVar("_Value")

_CACHE_KIB = 32_768
MOST_DOMAINS = 5_000
_MOST_VALUES_A_QUERY = 500

SCHEMA = """
CREATE TABLE entry (
    id INTEGER PRIMARY KEY,
    filebase TEXT NOT NULL UNIQUE,
    when_s REAL NOT NULL,
    size_bytes INTEGER NOT NULL,
    state TEXT NOT NULL CHECK (
        state = 'listed' OR state = 'waiting' OR state = 'active' OR state = 'deferred' OR state = 'held'
    ),
    is_read INTEGER NOT NULL DEFAULT 0,
    ready INTEGER NOT NULL DEFAULT 0,
    list INTEGER NOT NULL DEFAULT 0,
    recipients INTEGER NOT NULL DEFAULT 0,
    owed INTEGER NOT NULL DEFAULT 0,
    covered INTEGER NOT NULL DEFAULT 0,
    duplicate TEXT NOT NULL DEFAULT 'none',
    of TEXT,
    reason TEXT NOT NULL DEFAULT '',
    due_s REAL,
    tie INTEGER NOT NULL DEFAULT 0,
    domains TEXT NOT NULL DEFAULT '',
    lane INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX unfinished ON entry (when_s) WHERE state <> 'held';
CREATE INDEX unfinished_of_list ON entry (list, when_s) WHERE state <> 'held' AND is_read = 1;
CREATE INDEX unread ON entry (when_s) WHERE is_read = 0;
CREATE INDEX ready ON entry (lane, when_s) WHERE ready = 1;
CREATE INDEX ready_of_list ON entry (lane, list, when_s) WHERE ready = 1;
CREATE INDEX due ON entry (due_s) WHERE state = 'deferred' AND ready = 0;
CREATE INDEX due_in_lane ON entry (due_s) WHERE ready = 1 AND lane > 0 AND due_s IS NOT NULL;
CREATE INDEX deferred_of_list ON entry (list, due_s) WHERE state = 'deferred';
CREATE TABLE detail (
    id INTEGER PRIMARY KEY,
    message_id TEXT NOT NULL,
    sender TEXT NOT NULL,
    subject TEXT NOT NULL,
    identity BLOB NOT NULL,
    message_id_key BLOB,
    copy BLOB NOT NULL,
    recipient_keys BLOB NOT NULL
);
CREATE TABLE key (start INTEGER NOT NULL, id INTEGER NOT NULL, PRIMARY KEY (start, id)) WITHOUT ROWID;
CREATE TABLE text (
    id INTEGER PRIMARY KEY,
    start INTEGER NOT NULL,
    resend_key BLOB NOT NULL,
    when_s REAL NOT NULL,
    filebase TEXT NOT NULL,
    identity BLOB NOT NULL
);
CREATE INDEX text_key ON text (start);
"""
"""The states are not checked with IN: SQLite makes a table of the list at each write, which took 5 us (measured)."""

_STATES = {state.value: state for state in EntryState}
_DUPLICATES = {kind.value: kind for kind in DuplicateClass}

_ROW = "id, list, state, duplicate, is_read, ready, recipients, owed, covered, size_bytes, domains, lane"


class Store:
    """One connection, one thread: the event loop's."""

    def __init__(self, path: Path) -> None:
        """Start empty at `path`; an older index there is deleted. `:memory:` is for tests and dry runs."""
        self.lists: dict[str, int] = {"": 0}
        """The number of each list seen since the start, by list-id; number 0 stands for entries not read yet."""
        self.list_names: list[str] = [""]
        """The other way round."""
        self.domain_names: list[str] = []
        self.lanes: dict[str, int] = {"": 0}
        """The number of each destination that entries have waited for; number 0 stands for no lane."""
        self._domains: dict[str, int] = {}
        try:
            if str(path) != ":memory:":
                for leftover in (path, *(path.with_name(path.name + end) for end in ("-journal", "-wal", "-shm"))):
                    leftover.unlink(missing_ok=True)
            self._db = sqlite3.connect(path, isolation_level=None)
            self._db.text_factory = _text
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
        """All rows."""
        try:
            return self._db.execute(sql, values).fetchall()
        except sqlite3.Error as exc:
            raise _unusable(exc) from exc

    def execute(self, sql: str, values: Sequence[object] = ()) -> sqlite3.Cursor:
        """One statement; its cursor, for rows one at a time."""
        try:
            return self._db.execute(sql, values)
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
        """Rows written since the start: what was counted stays true while this stays the same."""
        return self._db.total_changes

    def row(self, filebase: str) -> IndexedRow | None:
        """None if the index has no such entry."""
        return self.rows([filebase]).get(filebase)

    def rows(self, filebases: Sequence[str]) -> dict[str, IndexedRow]:
        """Rows of those the index has, in the order given."""
        found: dict[str, IndexedRow] = {}
        for some in in_portions(filebases):
            marks = ",".join("?" * len(some))
            for row in self.query(f"SELECT filebase, {_ROW} FROM entry WHERE filebase IN ({marks})", some):
                (
                    filebase,
                    id_,
                    number,
                    state,
                    duplicate,
                    is_read,
                    ready,
                    recipients,
                    owed,
                    covered,
                    size,
                    domains,
                    lane,
                ) = row
                found[filebase] = IndexedRow(
                    id_, number, _STATES[state], _DUPLICATES[duplicate], bool(is_read), bool(ready), recipients, owed,
                    covered, size, counts_in(domains), lane,
                )  # fmt: skip
        return {filebase: found[filebase] for filebase in filebases if filebase in found}

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


def in_portions(values: Sequence[_Value]) -> Iterator[Sequence[_Value]]:
    """As many at a time as fit into one query."""
    for start in range(0, len(values), _MOST_VALUES_A_QUERY):
        yield values[start : start + _MOST_VALUES_A_QUERY]


def split(joined: bytes, size: int = DIGEST_BYTES) -> tuple[bytes, ...]:
    """Digests, or recipient keys of `size` bytes, that are stored as one blob."""
    return tuple(joined[start : start + size] for start in range(0, len(joined), size))


def joined_counts(counts: NumberedCounts) -> str:
    """Recipients by the number of their domain, as the column `domains` holds them."""
    return " ".join(f"{number}:{count}" for number, count in counts)


def counts_in(joined: str) -> NumberedCounts:
    """What joined_counts made a text of."""
    pairs = (pair.partition(":") for pair in joined.split())
    return tuple((int(number), int(count)) for number, _, count in pairs)


def _text(stored: bytes) -> str:
    return stored.decode("utf-8", "surrogateescape")


def _unusable(exc: sqlite3.Error) -> IndexUnusable:
    return IndexUnusable(f"the backlog index failed ({exc}); it is rebuilt when drainer starts again")
