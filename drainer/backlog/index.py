"""What waits in drainer/backlog/ and drainer/held/: a cache in SQLite, rebuilt from the files at each start.

In    listed files; what reading them showed; state changes
Out   who is next; who came earlier with the same identity; selections for the operator; totals
Refuses to know  what is durable. The files, the ledger and the operator's state are; this file is deleted at each start

The state of a million entries is on disk and not in Python objects. Totals are kept as a small table in memory, by list
and state, and change with every write, so that asking each second costs nothing. No journal, no sync, and one
transaction that never ends: a lost index is a restart's work, and SQLite writes only what its cache has no room for.
Every method is short, except `select` and `matching` by text, which look at every entry.
"""

from __future__ import annotations

import heapq
import sqlite3
from collections import Counter, deque
from collections.abc import Collection, Generator, Iterable, Iterator, Sequence, Set
from contextlib import closing
from pathlib import Path
from typing import Any, TypeVar

from drainer.backlog.filter import KeyFilter
from drainer.backlog.selection import Selectors, condition, contains_folded, stored_octets
from drainer.backlog.totals import IndexedRow, IndexSums
from drainer.backlog.values import (
    BacklogTotals,
    Description,
    EarlierEntry,
    EntryLine,
    EntryState,
    ListTotals,
    Order,
    Resembled,
    Selection,
    WaitingEntry,
    tie_order,
)
from drainer.backlog.work import ToSend
from drainer.duplicates.classes import DuplicateClass
from drainer.duplicates.fingerprint import Fingerprint
from drainer.duplicates.summary import EntrySummary
from drainer.errors import IndexUnusable
from drainer.ledger.evidence import Ended, Fate
from drainer.ledger.records import DIGEST_BYTES, KIN_BYTES, RECIPIENT_KEY_BYTES, kin_of
from drainer.queuedir.filebase import QueueFile

_Value = TypeVar("_Value")

_CACHE_KIB = 32_768
_MOST_VALUES_A_QUERY = 500

_SCHEMA = """
CREATE TABLE entry (
    id INTEGER PRIMARY KEY,
    filebase TEXT NOT NULL UNIQUE,
    when_s REAL NOT NULL,
    size_bytes INTEGER NOT NULL,
    state TEXT NOT NULL,
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
    limited TEXT NOT NULL DEFAULT ''
);
CREATE INDEX unfinished ON entry (when_s) WHERE state <> 'held';
CREATE INDEX unfinished_of_list ON entry (list, when_s) WHERE state <> 'held' AND is_read = 1;
CREATE INDEX unread ON entry (when_s) WHERE is_read = 0;
CREATE INDEX ready ON entry (when_s) WHERE ready = 1;
CREATE INDEX ready_of_list ON entry (list, when_s) WHERE ready = 1;
CREATE INDEX due ON entry (due_s) WHERE state = 'deferred' AND ready = 0;
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


_STATES = {state.value: state for state in EntryState}
_DUPLICATES = {kind.value: kind for kind in DuplicateClass}

_Candidate = tuple[str, float, int, int, str, bytes, str, int]
_ROW = "id, list, state, duplicate, is_read, ready, recipients, owed, covered, size_bytes, limited"
_EARLIER_COLUMNS = "SELECT e.filebase, e.when_s, d.recipient_keys, e.duplicate, d.copy, d.identity"
_EARLIER = f"{_EARLIER_COLUMNS} FROM entry e JOIN detail d ON d.id = e.id"
_EARLIER_AND_TIE = f"{_EARLIER_COLUMNS}, e.tie FROM entry e JOIN detail d ON d.id = e.id"


class BacklogIndex:
    """One writer, one thread: the event loop's. Every method raises IndexUnusable if SQLite cannot do it."""

    def __init__(self, path: Path) -> None:
        """Start empty at `path`; an older index there is deleted. `:memory:` is for tests."""
        self._lists: dict[str, int] = {"": 0}
        self._list_names: list[str] = [""]
        self._sums = IndexSums()
        self._ready: Counter[int] = Counter()
        self._active: dict[int, frozenset[bytes]] = {}
        self._active_kin: Counter[bytes] = Counter()
        self._last_list = 0
        self._seen = KeyFilter()
        try:
            if str(path) != ":memory:":
                for leftover in (path, *(path.with_name(path.name + end) for end in ("-journal", "-wal", "-shm"))):
                    leftover.unlink(missing_ok=True)
            self._db = sqlite3.connect(path, isolation_level=None)
            self._db.text_factory = _text
            self._db.executescript(
                "PRAGMA locking_mode=EXCLUSIVE; PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF;"
                f"PRAGMA cache_size=-{_CACHE_KIB}; PRAGMA temp_store=MEMORY;" + _SCHEMA
            )
            self._db.execute("BEGIN")
            self._db.create_function("contains_folded", 2, contains_folded, deterministic=True)
        except (sqlite3.Error, OSError) as exc:
            raise IndexUnusable(f"the backlog index {path} cannot be made: {exc}") from exc

    def close(self) -> None:
        self._db.close()

    def add_listed(self, files: Iterable[tuple[QueueFile, int]], state: EntryState = EntryState.LISTED) -> int:
        """Entries found in drainer/backlog/ (LISTED) or held/ (HELD), each with its size in bytes.

        Returns  how many were new; an entry that is known already stays as it is
        """
        ((last,),) = self._query("SELECT coalesce(max(id), 0) FROM entry")
        self._execute_many(
            f"INSERT OR IGNORE INTO entry (filebase, when_s, size_bytes, state) VALUES (?, ?, ?, '{state.value}')",
            [(file.filebase, file.when_s, size_bytes) for file, size_bytes in files],
        )
        ((added, size),) = self._query("SELECT count(*), coalesce(sum(size_bytes), 0) FROM entry WHERE id > ?", (last,))
        self._sums.add_listed(state, added, size)
        return int(added)

    def strangers(self, batch: Sequence[EntrySummary]) -> set[str]:
        """Filebases of those that certainly share no key (identity, resend, message_id) with any entry read nor with each
        other."""
        keys = {summary.filebase: set(map(_start, _keys(summary.fingerprint))) for summary in batch}
        counted = Counter(start for own in keys.values() for start in own)
        known = {start for start, times in counted.items() if times > 1}
        for some in _portions([start for start in counted if self._seen.may_have(start)]):
            marks = ",".join("?" * len(some))
            for table in ("key", "text"):
                known.update(
                    start for (start,) in self._query(f"SELECT start FROM {table} WHERE start IN ({marks})", some)
                )
        return {filebase for filebase, own in keys.items() if known.isdisjoint(own)}

    def describe(self, batch: Iterable[Description]) -> None:
        """What reading showed, for entries listed before; one that was removed meanwhile is passed over.

        A LISTED entry is WAITING then; any other state stays.
        """
        described_by_name = {described.summary.filebase: described for described in batch}
        rows = self._rows(list(described_by_name))
        entries: list[tuple[object, ...]] = []
        details: list[tuple[object, ...]] = []
        texts: list[tuple[int, bytes, float, str, bytes]] = []
        keys: list[tuple[int, int]] = []
        for filebase, row in rows.items():
            described = described_by_name[filebase]
            summary, print_ = described.summary, described.summary.fingerprint
            self._subtract(row)
            if row.is_read:
                self._forget_detail(row.id)
            if row.state is EntryState.LISTED:
                row.state = EntryState.WAITING
            row.list = self._list_number(summary.list_id)
            row.duplicate, row.covered = described.duplicate, described.covered
            row.recipients = summary.recipients
            row.owed = summary.recipients if described.owed is None else described.owed
            row.size_bytes, row.is_read = summary.size_bytes, True
            row.limited = _spread(described.limited, summary.recipients, row.owed)
            row.ready = row.state is EntryState.WAITING
            self._add(row)
            entries.append(
                (row.state.value, row.ready, row.list, row.recipients, row.owed, row.covered, row.duplicate.value,
                 described.of, row.size_bytes, tie_order(summary), _joined(row.limited), row.id)
            )  # fmt: skip
            identity = b"".join(print_.identity)
            details.append(
                (row.id, stored_octets(summary.message_id), stored_octets(summary.sender),
                 stored_octets(summary.subject), identity, print_.message_id, print_.copy, summary.recipient_keys)
            )  # fmt: skip
            if print_.resend and not self._has_text(print_.resend, filebase):
                texts.append((_start(print_.resend), print_.resend, summary.when_s, filebase, identity))
            id_ = row.id
            keys += [(_start(key), id_) for key in _keys_of_entry(print_.identity, print_.message_id)]
        self._execute_many(
            "UPDATE entry SET state=?, is_read=1, ready=?, list=?, recipients=?, owed=?, covered=?, duplicate=?, of=?,"
            " size_bytes=?, tie=?, limited=? WHERE id=?",
            entries,
        )
        self._execute_many(
            "INSERT INTO detail VALUES (?, CAST(? AS TEXT), CAST(? AS TEXT), CAST(? AS TEXT), ?, ?, ?, ?)", details
        )
        self._execute_many(
            "INSERT INTO text (start, resend_key, when_s, filebase, identity) VALUES (?, ?, ?, ?, ?)", texts
        )
        self._execute_many("INSERT OR IGNORE INTO key VALUES (?, ?)", sorted(keys))
        self._seen.add(start for start, _ in keys)
        self._seen.add(text[0] for text in texts)
        for row in rows.values():
            if row.state is EntryState.ACTIVE:
                self._activate(row.id)

    def set_state(self, filebase: str, state: EntryState, reason: str = "", due_s: float | None = None) -> bool:
        """Move an entry; WAITING for one that was not read yet is LISTED. Returns False if the index has no such entry.

        due_s  for DEFERRED: when it may go again, seconds since the epoch
        Raises ValueError for DEFERRED without due_s
        """
        if state is EntryState.DEFERRED and due_s is None:
            raise ValueError("a deferred entry needs a time when it is due")
        row = self._row(filebase)
        if row is None:
            return False
        self._subtract(row)
        if not row.is_read and state is EntryState.WAITING:
            state = EntryState.LISTED
        row.state = state
        row.ready = state is EntryState.WAITING
        self._execute(
            "UPDATE entry SET state=?, ready=?, reason=CAST(? AS TEXT), due_s=? WHERE id=?",
            (state.value, row.ready, stored_octets(reason), due_s, row.id),
        )
        self._add(row)
        self._deactivate(row.id)
        if state is EntryState.ACTIVE:
            self._activate(row.id)
        return True

    def set_owed(self, filebase: str, recipients: int, limited: tuple[int, ...] | None = None) -> bool:
        """Some recipients were settled: this many are still owed. Returns False if the index has no such entry,
        or it was not read yet.

        limited  as in Description; None: spread as they were
        """
        row = self._row(filebase)
        if row is None or not row.is_read:
            return False
        self._subtract(row)
        if limited is None:
            limited = _spread(row.limited, row.owed, recipients)
        row.owed, row.covered, row.limited = recipients, min(row.covered, recipients), limited
        self._execute(
            "UPDATE entry SET owed=?, covered=?, limited=? WHERE id=?",
            (row.owed, row.covered, _joined(limited), row.id),
        )
        self._add(row)
        return True

    def set_duplicate(self, filebase: str, duplicate: DuplicateClass, of: str | None, covered: int) -> bool:
        """Another forecast for an entry read before. Returns False if there is no such entry."""
        row = self._row(filebase)
        if row is None or not row.is_read:
            return False
        self._subtract(row)
        row.duplicate, row.covered = duplicate, min(covered, row.owed)
        self._execute(
            "UPDATE entry SET duplicate=?, of=?, covered=? WHERE id=?", (duplicate.value, of, row.covered, row.id)
        )
        self._add(row)
        return True

    def covered_by_others(self) -> list[str]:
        """Filebases of those read, any of whose recipients others are expected to have had."""
        return [
            str(filebase) for (filebase,) in self._query("SELECT filebase FROM entry WHERE covered > 0 ORDER BY when_s")
        ]

    def rename(self, before: str, after: str) -> bool:
        """The entry's file got another name (Custody says so). Returns False if the index has no such entry."""
        return bool(self._execute("UPDATE entry SET filebase=? WHERE filebase=?", (after, before)).rowcount)

    def remove(self, filebase: str) -> bool:
        """The entry is finished, suppressed, handed back, or was unreadable. Returns False if there was none."""
        row = self._row(filebase)
        if row is None:
            return False
        self._subtract(row)
        self._deactivate(row.id)
        if row.is_read:
            self._forget_detail(row.id)
        self._execute("DELETE FROM entry WHERE id=?", (row.id,))
        return True

    def unread(self, limit: int) -> list[str]:
        """Filebases not read yet, oldest first, held ones included: who holds an entry has to see what it is."""
        return [
            str(filebase)
            for (filebase,) in self._query(
                "SELECT filebase FROM entry WHERE is_read = 0 ORDER BY when_s, filebase LIMIT ?", (limit,)
            )
        ]

    def next_waiting(
        self,
        order: Order,
        now_s: float,
        paused_lists: Set[str] = frozenset(),
        limit: int = 1,
        priority: Sequence[str] = (),
    ) -> list[WaitingEntry]:
        """Entries that may become active, in order: waiting ones, and deferred ones that are due.

        priority  list-ids in the order they go, for order "priority"; the others after them, oldest first
        Returns   at most `limit`; none is called as an active entry is, or as another one returned: what becomes of the
                  first decides about the second, and also where it is not known yet whether they are one mail. Nothing is
                  changed: set_state(ACTIVE) is the caller's
        """
        self._ready_what_is_due(now_s)
        paused = {self._lists[name] for name in paused_lists if name in self._lists}
        found: list[WaitingEntry] = []
        taken: set[bytes] = set()
        with closing(self._in_order(order, paused, priority)) as candidates:
            for filebase, when_s, number, owed, duplicate, joined, message_id, _ in candidates:
                if len(found) == limit:
                    break
                identity = _split(joined)
                kin = set(map(kin_of, identity))
                if any(called_so in self._active_kin or called_so in taken for called_so in kin):
                    continue
                taken |= kin
                found.append(
                    WaitingEntry(
                        filebase,
                        when_s,
                        self._list_names[number],
                        owed,
                        identity,
                        DuplicateClass(duplicate),
                        message_id,
                    )
                )
                self._last_list = number
        return found

    def last_due_s(self) -> float | None:
        """When the last deferred entry is due, seconds since the epoch; None if none is deferred."""
        rows = self._query("SELECT max(due_s) FROM entry WHERE state = 'deferred'")
        value = rows[0][0]
        return float(value) if isinstance(value, float | int) else None

    def shift_due(self, by_s: float) -> None:
        """The clock was put right or wrong by so much: every deferral is due as long from now as it was before."""
        self._execute_many("UPDATE entry SET due_s = due_s + ? WHERE state = 'deferred'", [(by_s,)])

    def next_due_s(self) -> float | None:
        """When the next deferred entry is due, seconds since the epoch; None if none waits for its time."""
        rows = self._query("SELECT min(due_s) FROM entry WHERE state = 'deferred' AND ready = 0")
        value = rows[0][0]
        return float(value) if isinstance(value, float | int) else None

    def earlier_with(self, identity: Sequence[bytes], before: tuple[float, int, str]) -> list[EarlierEntry]:
        """Entries read that share any digest and come before (when_s, tie_order, filebase) in FIFO order, oldest first."""
        wanted = frozenset(identity)
        found: dict[tuple[float, int, str], EarlierEntry] = {}
        for some in _portions(identity):
            for *row, tie in self._query(
                f"{_EARLIER_AND_TIE} JOIN key k ON k.id = e.id WHERE k.start IN ({','.join('?' * len(some))})"
                " AND (e.when_s, e.tie, e.filebase) < (?, ?, ?)",
                (*map(_start, some), *before),
            ):
                earlier = _earlier(tuple(row))
                if not wanted.isdisjoint(earlier.identity):
                    found[earlier.when_s, tie, earlier.filebase] = earlier
        return [found[key] for key in sorted(found)]

    def akin(self, filebase: str, identity: Sequence[bytes]) -> list[EarlierEntry]:
        """Other entries read that are called as one with these digests is, and share none of them; oldest first."""
        wanted, called_so = frozenset(identity), set(map(kin_of, identity))
        found: dict[str, EarlierEntry] = {}
        for some in _portions(sorted(set(map(_start, identity)))):
            for row in self._query(
                f"{_EARLIER} JOIN key k ON k.id = e.id WHERE k.start IN ({','.join('?' * len(some))})", some
            ):
                other = _earlier(row)
                if wanted.isdisjoint(other.identity) and not called_so.isdisjoint(map(kin_of, other.identity)):
                    found[other.filebase] = other
        found.pop(filebase, None)
        return sorted(found.values(), key=lambda other: (other.when_s, other.filebase))

    def identity_of(self, filebase: str) -> tuple[bytes, ...]:
        """The digests an entry was described with; none if it was not read, or is not here."""
        row = self._row(filebase)
        return self._identity(row.id) if row else ()

    def copies_of(self, filebase: str) -> frozenset[str]:
        """This entry, and those read that carry the same message to any of the same recipients, or to any of theirs."""
        row = self._row(filebase)
        of_message: dict[str, frozenset[bytes]] = {}
        asked: set[bytes] = set()
        wanted = set(self._identity(row.id)) if row else set()
        while wanted:
            asked |= wanted
            found: set[bytes] = set()
            for some in _portions(sorted(wanted)):
                marks = ",".join("?" * len(some))
                for name, keys, joined in self._query(
                    "SELECT e.filebase, d.recipient_keys, d.identity FROM key k JOIN entry e ON e.id = k.id"
                    f" JOIN detail d ON d.id = k.id WHERE k.start IN ({marks})",
                    [_start(digest) for digest in some],
                ):
                    identity = _split(joined)
                    if not wanted.isdisjoint(identity):
                        of_message[str(name)] = frozenset(_split(keys, RECIPIENT_KEY_BYTES))
                        found.update(identity)
            wanted = found - asked
        copies, theirs = {filebase}, of_message.pop(filebase, frozenset())
        while near := {name for name, keys in of_message.items() if not keys.isdisjoint(theirs)}:
            copies |= near
            theirs = theirs.union(*(of_message.pop(name) for name in near))
        return frozenset(copies)

    def with_resend_key(self, key: bytes) -> list[Resembled]:
        """Entries read with this Fingerprint.resend, oldest first, those that were finished since the start too."""
        rows = self._query(
            "SELECT filebase, when_s, identity FROM text WHERE start = ? AND resend_key = ? ORDER BY when_s, filebase",
            (_start(key), key),
        )
        return [Resembled(filebase, when_s, _split(identity)) for filebase, when_s, identity in rows]

    def with_message_id_key(self, key: bytes) -> list[EarlierEntry]:
        """Entries read with this Fingerprint.message_id, oldest first."""
        return [
            _earlier(row)
            for row in self._query(
                f"{_EARLIER} JOIN key k ON k.id = e.id WHERE k.start = ? AND d.message_id_key = ?"
                " ORDER BY e.when_s, e.filebase",
                (_start(key), key),
            )
        ]

    def state_of(self, filebase: str) -> EntryState | None:
        """None if the index has no such entry."""
        row = self._row(filebase)
        return row.state if row else None

    def ended_as(self, filebase: str, fate: Fate, recipients: int) -> Ended:
        """How the report counts an entry that is about to leave. recipients: all it had."""
        row = self._row(filebase)
        if row is None or not row.is_read:
            return Ended(fate, recipients=recipients, bytes=row.size_bytes if row else 0)
        return Ended(fate, self._list_names[row.list], row.duplicate.value, 1, recipients, row.size_bytes)

    def by_list_and_class(self) -> list[tuple[str, str, int, int, int]]:
        """List, class, entries, recipients they name, bytes of all there is, held entries too; unread ones as "" and ""."""
        return self._sums.by_list_and_class(self._list_names)

    def select(self, selectors: Selectors, now_s: float, limit: int, lists: Collection[str] | None = None) -> Selection:
        """Entries that match, for the operator. lists: list-ids that selectors.list stands for; None: that itself."""
        where, values = condition(selectors, now_s, self._lists, lists)
        source = f"FROM entry e LEFT JOIN detail d ON d.id = e.id WHERE {where}"
        counts = f"SELECT count(*), coalesce(sum(e.owed), 0), coalesce(sum(NOT e.is_read), 0) {source}"
        ((total, recipients, unread),) = self._query(counts, values)
        lines = [
            self._line(row, now_s)
            for row in self._query(
                "SELECT e.filebase, e.state, e.list, d.sender, d.subject, d.message_id, e.owed, e.is_read, e.size_bytes,"
                f" e.when_s, e.duplicate, e.of, e.reason, e.due_s {source} ORDER BY e.when_s, e.filebase LIMIT ?",
                (*values, limit),
            )
        ]
        return Selection(total, recipients, lines, unread)

    def matching(self, selectors: Selectors, now_s: float, lists: Collection[str] | None = None) -> list[str]:
        """Filebases of all that match, oldest first. lists: as for `select`."""
        where, values = condition(selectors, now_s, self._lists, lists)
        query = f"SELECT e.filebase FROM entry e LEFT JOIN detail d ON d.id = e.id WHERE {where}"
        return [str(filebase) for (filebase,) in self._query(f"{query} ORDER BY e.when_s, e.filebase", values)]

    def totals(self) -> BacklogTotals:
        """Cheap enough for each second."""
        ((oldest_s,),) = self._query("SELECT min(when_s) FROM entry WHERE state <> 'held'")
        return self._sums.totals(oldest_s)

    def to_send(self) -> list[ToSend]:
        """Of the entries read so far; cheap enough for each second."""
        return self._sums.to_send(self._list_names)

    def list_ids(self) -> tuple[str, ...]:
        """Of all entries read since the start; it only grows."""
        return tuple(self._list_names[1:])

    def per_list(self) -> list[ListTotals]:
        """One for each list that has entries, most recipients first. Cheap enough for each second."""
        found = []
        for number, counted in self._sums.per_list().items():
            ((oldest_s,),) = self._query(
                "SELECT min(when_s) FROM entry WHERE state <> 'held' AND is_read = 1 AND list = ?", (number,)
            )
            last_due_s = None
            if counted["deferred_recipients"]:
                query = "SELECT max(due_s) FROM entry WHERE state = 'deferred' AND list = ?"
                ((last_due_s,),) = self._query(query, (number,))
            found.append(
                ListTotals(
                    self._list_names[number],
                    counted["entries"],
                    counted["recipients"],
                    counted["bytes"],
                    counted["deferred_recipients"],
                    counted["held_entries"],
                    oldest_s,
                    last_due_s,
                )
            )
        return sorted(found, key=lambda totals: (-totals.recipients, totals.list_id))

    def _in_order(self, order: Order, paused: Set[int], priority: Sequence[str]) -> Generator[_Candidate, None, None]:
        lists = [number for number, count in self._ready.items() if count and number not in paused]
        match order:
            case "fair":
                lists.sort(key=lambda number: (number <= self._last_list, number))
                yield from _in_turns([self._ready_of(number) for number in lists])
            case "priority":
                first = [self._lists[name] for name in dict.fromkeys(priority) if self._lists.get(name) in lists]
                for number in first:
                    yield from self._ready_of(number)
                yield from self._merged([number for number in lists if number not in first])
            case "fresh" | "fifo":
                newest_first = order == "fresh"
                if paused:
                    yield from self._merged(lists, newest_first)
                else:
                    yield from self._ready_of(None, newest_first)

    def _merged(self, lists: Sequence[int], newest_first: bool = False) -> Iterator[_Candidate]:
        """By list, not by one index with the paused lists left out: a million paused entries would have to be passed."""
        return heapq.merge(
            *(self._ready_of(number, newest_first) for number in lists),
            key=lambda candidate: (candidate[1], -candidate[7] if newest_first else candidate[7], candidate[0]),
            reverse=newest_first,
        )

    def _ready_of(self, number: int | None, newest_first: bool = False) -> Generator[_Candidate, None, None]:
        direction = "DESC" if newest_first else "ASC"
        of_list = "" if number is None else "AND e.list = ?"
        cursor = self._execute(
            "SELECT e.filebase, e.when_s, e.list, e.owed, e.duplicate, d.identity, d.message_id, e.tie FROM entry e"
            f" JOIN detail d ON d.id = e.id WHERE e.ready = 1 {of_list}"
            f" ORDER BY e.when_s {direction}, e.tie, e.filebase {direction}",
            () if number is None else (number,),
        )
        with closing(cursor):
            yield from cursor

    def _ready_what_is_due(self, now_s: float) -> None:
        due = self._query(
            "SELECT id, list FROM entry WHERE state = 'deferred' AND ready = 0 AND is_read = 1 AND due_s <= ?", (now_s,)
        )
        if due:
            self._execute_many("UPDATE entry SET ready = 1 WHERE id = ?", [(id_,) for id_, _ in due])
            self._ready.update(number for _, number in due)

    def _line(self, row: tuple[Any, ...], now_s: float) -> EntryLine:
        (
            filebase,
            state,
            number,
            sender,
            subject,
            message_id,
            owed,
            is_read,
            size,
            when_s,
            duplicate,
            of,
            reason,
            due,
        ) = row
        return EntryLine(
            entry=filebase,
            state=EntryState.WAITING.value if state == EntryState.LISTED else state,
            list=self._list_names[number],
            sender=sender or "",
            subject=subject or "",
            message_id=message_id or "",
            recipients=owed if is_read else None,
            bytes=size,
            age_s=max(0.0, now_s - when_s),
            duplicate=duplicate,
            of=of,
            reason=reason,
            due=due,
        )

    def _row(self, filebase: str) -> IndexedRow | None:
        return self._rows([filebase]).get(filebase)

    def _rows(self, filebases: Sequence[str]) -> dict[str, IndexedRow]:
        """Of those there are, in the order given."""
        found: dict[str, IndexedRow] = {}
        for some in _portions(filebases):
            marks = ",".join("?" * len(some))
            for row in self._query(f"SELECT filebase, {_ROW} FROM entry WHERE filebase IN ({marks})", some):
                filebase, id_, number, state, duplicate, is_read, ready, recipients, owed, covered, size, limited = row
                found[filebase] = IndexedRow(
                    id_, number, _STATES[state], _DUPLICATES[duplicate], bool(is_read), bool(ready), recipients, owed,
                    covered, size, _counts(limited),
                )  # fmt: skip
        return {filebase: found[filebase] for filebase in filebases if filebase in found}

    def _add(self, row: IndexedRow) -> None:
        self._sums.add(row)
        self._ready[row.list] += row.ready

    def _subtract(self, row: IndexedRow) -> None:
        self._sums.subtract(row)
        self._ready[row.list] -= row.ready

    def _activate(self, id_: int) -> None:
        kin = frozenset(map(kin_of, self._identity(id_)))
        self._active[id_] = kin
        self._active_kin.update(kin)

    def _deactivate(self, id_: int) -> None:
        for called_so in self._active.pop(id_, ()):
            self._active_kin[called_so] -= 1
            if not self._active_kin[called_so]:
                del self._active_kin[called_so]

    def _identity(self, id_: int) -> tuple[bytes, ...]:
        rows = self._query("SELECT identity FROM detail WHERE id = ?", (id_,))
        return _split(rows[0][0]) if rows else ()

    def _forget_detail(self, id_: int) -> None:
        for joined, message_id in self._query("SELECT identity, message_id_key FROM detail WHERE id = ?", (id_,)):
            self._execute_many(
                "DELETE FROM key WHERE start = ? AND id = ?",
                [(_start(key), id_) for key in _keys_of_entry(_split(joined), message_id)],
            )
        self._execute("DELETE FROM detail WHERE id = ?", (id_,))

    def _has_text(self, key: bytes, filebase: str) -> bool:
        """Whether `text` has this entry: one is read again, for instance, that was handed back and taken anew."""
        if not self._seen.may_have(_start(key)):
            return False
        found = "SELECT 1 FROM text WHERE start = ? AND resend_key = ? AND filebase = ?"
        return bool(self._query(found, (_start(key), key, filebase)))

    def _list_number(self, name: str) -> int:
        number = self._lists.setdefault(name, len(self._list_names))
        if number == len(self._list_names):
            self._list_names.append(name)
        return number

    def _query(self, sql: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        try:
            return self._db.execute(sql, values).fetchall()
        except sqlite3.Error as exc:
            raise _unusable(exc) from exc

    def _execute(self, sql: str, values: Sequence[object] = ()) -> sqlite3.Cursor:
        try:
            return self._db.execute(sql, values)
        except sqlite3.Error as exc:
            raise _unusable(exc) from exc

    def _execute_many(self, sql: str, values: Iterable[Sequence[object]]) -> None:
        try:
            self._db.executemany(sql, values)
        except sqlite3.Error as exc:
            raise _unusable(exc) from exc


def _in_turns(sources: Sequence[Iterator[_Candidate]]) -> Iterator[_Candidate]:
    waiting = deque(sources)
    while waiting:
        source = waiting.popleft()
        candidate = next(source, None)
        if candidate is not None:
            yield candidate
            waiting.append(source)


def _unusable(exc: sqlite3.Error) -> IndexUnusable:
    return IndexUnusable(f"the backlog index failed ({exc}); it is rebuilt when drainer starts again")


def _earlier(row: tuple[Any, ...]) -> EarlierEntry:
    filebase, when_s, recipient_keys, duplicate, copy, identity = row
    return EarlierEntry(filebase, when_s, recipient_keys, DuplicateClass(duplicate), copy, _split(identity))


def _spread(limited: tuple[int, ...], before: int, owed: int) -> tuple[int, ...]:
    """Recipients in each limited domain, once so many of those before are still owed."""
    return tuple(count * owed // before for count in limited if before)


def _keys(print_: Fingerprint) -> list[bytes]:
    """All that it may have in common with others."""
    keys = _keys_of_entry(print_.identity, print_.message_id)
    if print_.resend:
        keys.append(print_.resend)
    return keys


def _keys_of_entry(identity: Iterable[bytes], message_id: bytes | None) -> list[bytes]:
    """What `key` leads to an entry by."""
    return [*identity, message_id] if message_id else list(identity)


def _start(key: bytes) -> int:
    """The part of a digest that it is found by: what follows the version of the rules in its kin (ledger/records.py), as
    SQLite's integer. Whoever finds a row by it compares the whole digest, or need not know for certain.

    The tables of keys are in no order but that of the digests, so what counts is that they fit into the cache.
    """
    return int.from_bytes(key[1:KIN_BYTES], "big")


def _portions(values: Sequence[_Value]) -> Iterator[Sequence[_Value]]:
    """As many at a time as fit into one query."""
    for start in range(0, len(values), _MOST_VALUES_A_QUERY):
        yield values[start : start + _MOST_VALUES_A_QUERY]


def _split(joined: bytes, size: int = DIGEST_BYTES) -> tuple[bytes, ...]:
    return tuple(joined[start : start + size] for start in range(0, len(joined), size))


def _joined(counts: Sequence[int]) -> str:
    return " ".join(map(str, counts))


def _counts(joined: str) -> tuple[int, ...]:
    return tuple(map(int, joined.split())) if joined else ()


def _text(stored: bytes) -> str:
    return stored.decode("utf-8", "surrogateescape")
