"""Which entries of the backlog have something in common: copies, resends and mails that share a Message-ID.

In    digests of entries that were read (duplicates/fingerprint.py)
Out   the entries that share a digest, or the beginning of one
Raises    IndexUnusable
Not here  what it means that two entries have something in common (duplicates/decision.py)

A digest is looked up by the integer made of a part of it (`_start`), and then compared whole.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from drainer.backlog.key_filter import KeyFilter
from drainer.backlog.selection import stored_octets
from drainer.backlog.store import Store, in_portions, split
from drainer.backlog.values import RelatedEntry, SameTextEntry
from drainer.duplicates.classes import DuplicateClass
from drainer.duplicates.fingerprint import Fingerprint
from drainer.duplicates.summary import EntrySummary
from drainer.ledger.records import KIN_BYTES, RECIPIENT_KEY_BYTES, kin_of

_COLUMNS = "SELECT e.filebase, e.when_s, d.recipient_keys, e.duplicate, d.copy, d.identity"
_ENTRIES = f"{_COLUMNS} FROM entry e JOIN detail d ON d.id = e.id"
_ENTRIES_AND_TIE = f"{_COLUMNS}, e.tie FROM entry e JOIN detail d ON d.id = e.id"


class RelatedLookup:
    """Over the tables `detail`, `key` and `text`, which nothing else writes."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._seen = KeyFilter()

    def add(self, summaries: Iterable[tuple[int, EntrySummary]]) -> None:
        """Entries that were read, each with its id; none of them is here yet, or `forget` was called for it."""
        details: list[tuple[object, ...]] = []
        texts: list[tuple[int, bytes, float, str, bytes]] = []
        keys: list[tuple[int, int]] = []
        for id_, summary in summaries:
            print_ = summary.fingerprint
            identity = b"".join(print_.identity)
            details.append(
                (id_, stored_octets(summary.message_id), stored_octets(summary.sender),
                 stored_octets(summary.subject), identity, print_.message_id, print_.copy, summary.recipient_keys)
            )  # fmt: skip
            if print_.resend and not self._has_text(print_.resend, summary.filebase):
                texts.append((_start(print_.resend), print_.resend, summary.when_s, summary.filebase, identity))
            keys += [(_start(key), id_) for key in _keys_of_entry(print_.identity, print_.message_id)]
        self._store.execute_many(
            "INSERT INTO detail VALUES (?, CAST(? AS TEXT), CAST(? AS TEXT), CAST(? AS TEXT), ?, ?, ?, ?)", details
        )
        self._store.execute_many(
            "INSERT INTO text (start, resend_key, when_s, filebase, identity) VALUES (?, ?, ?, ?, ?)", texts
        )
        self._store.execute_many("INSERT OR IGNORE INTO key VALUES (?, ?)", sorted(keys))
        self._seen.add(start for start, _ in keys)
        self._seen.add(text[0] for text in texts)

    def forget(self, id_: int) -> None:
        """An entry that is removed, or read again. Its text stays known (`with_resend_key`)."""
        for joined, message_id in self._store.query("SELECT identity, message_id_key FROM detail WHERE id = ?", (id_,)):
            self._store.execute_many(
                "DELETE FROM key WHERE start = ? AND id = ?",
                [(_start(key), id_) for key in _keys_of_entry(split(joined), message_id)],
            )
        self._store.execute("DELETE FROM detail WHERE id = ?", (id_,))

    def unrelated(self, batch: Sequence[EntrySummary]) -> set[str]:
        """Filebases of entries that certainly share no key (identity, resend, message_id) with any entry read, nor with
        one another."""
        keys = {summary.filebase: set(map(_start, _keys(summary.fingerprint))) for summary in batch}
        counted = Counter(start for own in keys.values() for start in own)
        known = {start for start, times in counted.items() if times > 1}
        for some in in_portions([start for start in counted if self._seen.may_have(start)]):
            marks = ",".join("?" * len(some))
            for table in ("key", "text"):
                known.update(
                    start for (start,) in self._store.query(f"SELECT start FROM {table} WHERE start IN ({marks})", some)
                )
        return {filebase for filebase, own in keys.items() if known.isdisjoint(own)}

    def earlier_with(self, identity: Sequence[bytes], before: tuple[float, int, str]) -> list[RelatedEntry]:
        """Entries read that share any digest and come before (when_s, tie_order, filebase) in FIFO order, oldest first."""
        wanted = frozenset(identity)
        found: dict[tuple[float, int, str], RelatedEntry] = {}
        for some in in_portions(identity):
            for *row, tie in self._store.query(
                f"{_ENTRIES_AND_TIE} JOIN key k ON k.id = e.id WHERE k.start IN ({','.join('?' * len(some))})"
                " AND (e.when_s, e.tie, e.filebase) < (?, ?, ?)",
                (*map(_start, some), *before),
            ):
                earlier = _related(tuple(row))
                if not wanted.isdisjoint(earlier.identity):
                    found[earlier.when_s, tie, earlier.filebase] = earlier
        return [found[key] for key in sorted(found)]

    def with_same_name(self, filebase: str, identity: Sequence[bytes]) -> list[RelatedEntry]:
        """Other entries read that share the beginning of a digest (records.kin_of), and no whole digest; oldest first."""
        wanted, names = frozenset(identity), set(map(kin_of, identity))
        found: dict[str, RelatedEntry] = {}
        for some in in_portions(sorted(set(map(_start, identity)))):
            for row in self._store.query(
                f"{_ENTRIES} JOIN key k ON k.id = e.id WHERE k.start IN ({','.join('?' * len(some))})", some
            ):
                other = _related(row)
                if wanted.isdisjoint(other.identity) and not names.isdisjoint(map(kin_of, other.identity)):
                    found[other.filebase] = other
        found.pop(filebase, None)
        return sorted(found.values(), key=lambda other: (other.when_s, other.filebase))

    def with_resend_key(self, key: bytes) -> list[SameTextEntry]:
        """Entries read with this Fingerprint.resend, oldest first; those finished since the start too."""
        rows = self._store.query(
            "SELECT filebase, when_s, identity FROM text WHERE start = ? AND resend_key = ? ORDER BY when_s, filebase",
            (_start(key), key),
        )
        return [SameTextEntry(filebase, when_s, split(identity)) for filebase, when_s, identity in rows]

    def with_message_id_key(self, key: bytes) -> list[RelatedEntry]:
        """Entries read with this Fingerprint.message_id, oldest first."""
        return [
            _related(row)
            for row in self._store.query(
                f"{_ENTRIES} JOIN key k ON k.id = e.id WHERE k.start = ? AND d.message_id_key = ?"
                " ORDER BY e.when_s, e.filebase",
                (_start(key), key),
            )
        ]

    def identity_of(self, filebase: str) -> tuple[bytes, ...]:
        """The digests of an entry; () if it was not read, or is not here."""
        row = self._store.row(filebase)
        return self.identity(row.id) if row else ()

    def identity(self, id_: int) -> tuple[bytes, ...]:
        """As identity_of, by the entry's id."""
        rows = self._store.query("SELECT identity FROM detail WHERE id = ?", (id_,))
        return split(rows[0][0]) if rows else ()

    def copies_of(self, filebase: str) -> frozenset[str]:
        """The entry itself, and entries read that carry the same message to one of its recipients, or to a recipient of
        such a copy."""
        of_message = self._recipients_of_message(self.identity_of(filebase))
        copies, theirs = {filebase}, of_message.pop(filebase, frozenset())
        while near := {name for name, keys in of_message.items() if not keys.isdisjoint(theirs)}:
            copies |= near
            theirs = theirs.union(*(of_message.pop(name) for name in near))
        return frozenset(copies)

    def _recipients_of_message(self, identity: Iterable[bytes]) -> dict[str, frozenset[bytes]]:
        """Entries that share a digest with `identity`, or with one of these entries; each with its recipients' keys."""
        of_message: dict[str, frozenset[bytes]] = {}
        asked: set[bytes] = set()
        wanted = set(identity)
        while wanted:
            asked |= wanted
            found: set[bytes] = set()
            for some in in_portions(sorted(wanted)):
                marks = ",".join("?" * len(some))
                for name, keys, joined in self._store.query(
                    "SELECT e.filebase, d.recipient_keys, d.identity FROM key k JOIN entry e ON e.id = k.id"
                    f" JOIN detail d ON d.id = k.id WHERE k.start IN ({marks})",
                    [_start(digest) for digest in some],
                ):
                    digests = split(joined)
                    if not wanted.isdisjoint(digests):
                        of_message[str(name)] = frozenset(split(keys, RECIPIENT_KEY_BYTES))
                        found.update(digests)
            wanted = found - asked
        return of_message

    def _has_text(self, key: bytes, filebase: str) -> bool:
        """Whether `text` has this entry already. It has if the entry was handed back, taken again and read again."""
        if not self._seen.may_have(_start(key)):
            return False
        found = "SELECT 1 FROM text WHERE start = ? AND resend_key = ? AND filebase = ?"
        return bool(self._store.query(found, (_start(key), key, filebase)))


def _related(row: tuple[Any, ...]) -> RelatedEntry:
    filebase, when_s, recipient_keys, duplicate, copy, identity = row
    return RelatedEntry(filebase, when_s, recipient_keys, DuplicateClass(duplicate), copy, split(identity))


def _keys(print_: Fingerprint) -> list[bytes]:
    """All digests that an entry may have in common with others."""
    keys = _keys_of_entry(print_.identity, print_.message_id)
    if print_.resend:
        keys.append(print_.resend)
    return keys


def _keys_of_entry(identity: Iterable[bytes], message_id: bytes | None) -> list[bytes]:
    """The digests that the table `key` has for an entry."""
    return [*identity, message_id] if message_id else list(identity)


def _start(key: bytes) -> int:
    """The part of a digest that it is looked up by, as an SQLite integer: the first eight bytes without the version of the
    rules. Rows found by it have to be compared with the whole digest, unless a false hit does no harm.

    Digests come in random order, so a look-up is fast only while the tables fit into SQLite's cache. Integers keep them
    small.
    """
    return int.from_bytes(key[1:KIN_BYTES], "big")
