"""Which entries of the backlog have something in common: copies, resends and mails that share a Message-ID.

In    digests of entries that were read (duplicates/fingerprint.py)
Out   the entries that share a digest, or the beginning of one
Raises    IndexUnusable
Not here  what it means that two entries have something in common (duplicates/decision.py)

A digest is looked up by the integer made of a part of it (keys.py), and then compared whole.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence, Set
from itertools import chain

from drainer.backlog.crowds import Crowds
from drainer.backlog.key_filter import KeyFilter
from drainer.backlog.keys import Key, key_of, keys_of_entry, shared_keys, split, start_of
from drainer.backlog.rows import IndexedRow
from drainer.backlog.schema import RELATED, related_of
from drainer.backlog.store import Store, in_portions
from drainer.backlog.values import RelatedEntry, SameTextEntry
from drainer.duplicates.summary import EntrySummary
from drainer.ledger.records import RECIPIENT_KEY_BYTES, kin_of

_ENTRIES = f"SELECT {RELATED} FROM key k JOIN entry e ON e.id = k.id"
_OF_KEYS = "FROM wanted CROSS JOIN key k ON k.start = wanted.start AND k.rest = wanted.rest JOIN entry e ON e.id = k.id"
"""In this order: SQLite would read all keys for a condition of two columns, and 500 starts for one of many alternatives."""

_ASKED_FIRST = 4
_IS_DECORATED = "AND k.rest < 0"


class RelatedLookup:
    """Fills the tables `key` and `text`; the store removes what is gone.

    crowds  the names that so many mails have that these are not compared one by one
    """

    def __init__(self, store: Store) -> None:
        self.crowds = Crowds(store)
        self._store = store
        self._seen = KeyFilter()

    def add(self, read: Sequence[tuple[IndexedRow, EntrySummary]]) -> None:
        """Entries that were read, each with its row; none of them is here yet, or Store.forget_keys was called for it."""
        texts: list[tuple[int, bytes, float, str, bytes]] = []
        keys: list[tuple[int, int, int]] = []
        for row, summary in read:
            print_ = summary.fingerprint
            if print_.resend and not self._has_text(print_.resend, summary.filebase):
                identity = b"".join(print_.identity)
                texts.append((start_of(print_.resend), print_.resend, summary.when_s, summary.filebase, identity))
            keys += [(*key, row.id) for key in keys_of_entry(print_.identity, print_.message_id)]
        self._store.execute_many(
            "INSERT INTO text (start, resend_key, when_s, filebase, identity) VALUES (?, ?, ?, ?, ?)", texts
        )
        self._store.execute_many("INSERT OR IGNORE INTO key VALUES (?, ?, ?)", sorted(keys))
        self._seen.add(start for start, *_ in keys)
        self._seen.add(text[0] for text in texts)
        for row, _ in read:
            self.crowds.add(row)

    def unrelated(self, batch: Sequence[EntrySummary]) -> set[str]:
        """Filebases of entries that certainly share no key (identity, resend, message_id) with any entry read, nor with
        one another; and no name either, where one of the two is decorated."""
        keys = {summary.filebase: set(map(key_of, shared_keys(summary.fingerprint))) for summary in batch}
        counted = Counter(chain.from_iterable(keys.values()))
        known = {key for key, times in counted.items() if times > 1}
        seen = [key for key in counted if self._seen.may_have(key[0])]
        known |= self._known(seen)
        names = {filebase: {start for start, _ in own} for filebase, own in keys.items()}
        decorated = {summary.filebase for summary in batch if summary.decorated}
        akin = self._akin(names, decorated, {start for start, _ in seen}) if decorated or seen else set()
        return {filebase for filebase, own in keys.items() if filebase not in akin and known.isdisjoint(own)}

    def _known(self, keys: Sequence[Key]) -> set[Key]:
        """Those that an entry read has, or that begin like the text of one."""
        known: set[Key] = set()
        for some in in_portions(keys):
            known.update(
                self._store.query(
                    f"{_wanted(some)} SELECT start, rest FROM wanted WHERE"
                    " EXISTS (SELECT 1 FROM key k WHERE k.start = wanted.start AND k.rest = wanted.rest)"
                    " OR EXISTS (SELECT 1 FROM text t WHERE t.start = wanted.start)",
                    list(chain.from_iterable(some)),
                )
            )
        return known

    def _akin(self, names: Mapping[str, Set[int]], decorated: Set[str], seen: Set[int]) -> set[str]:
        """Filebases of those that share a name with another entry, and one of the two is decorated.

        names  the starts of each entry's keys; seen: those of them that the tables may have
        """
        times = Counter(chain.from_iterable(names.values()))
        shared = {start for start, number in times.items() if number > 1}
        of_decorated = {start for filebase in decorated for start in names[filebase]}
        asked = {start for filebase in decorated for start in names[filebase] if start in seen}
        shared |= self._named(asked, "")
        asked = {start for filebase, own in names.items() if filebase not in decorated for start in own & seen}
        of_decorated |= self._named(asked, _IS_DECORATED)
        return {
            filebase
            for filebase, own in names.items()
            if not own.isdisjoint(shared if filebase in decorated else of_decorated)
        }

    def _named(self, starts: Collection[int], condition: str) -> set[int]:
        """Those of them that a key of an entry read begins with."""
        found: set[int] = set()
        for some in in_portions(sorted(starts)):
            found.update(
                start
                for (start,) in self._store.query(
                    f"WITH wanted (start) AS (VALUES {','.join(['(?)'] * len(some))}) SELECT start FROM wanted"
                    f" WHERE EXISTS (SELECT 1 FROM key k WHERE k.start = wanted.start {condition})",
                    some,
                )
            )
        return found

    def earlier_with(self, identity: Sequence[bytes], before: tuple[float, int, str]) -> list[RelatedEntry]:
        """Entries read that share any digest and come before (when_s, tie_order, filebase) in FIFO order, oldest first."""
        wanted = frozenset(identity)
        found: dict[tuple[float, int, str], RelatedEntry] = {}
        for some in in_portions(list(map(key_of, identity))):
            for *row, tie in self._store.query(
                f"{_wanted(some)} SELECT {RELATED}, e.tie {_OF_KEYS} WHERE (e.when_s, e.tie, e.filebase) < (?, ?, ?)",
                (*chain.from_iterable(some), *before),
            ):
                earlier = related_of(tuple(row))
                if not wanted.isdisjoint(earlier.identity):
                    found[earlier.when_s, tie, earlier.filebase] = earlier
        return [found[key] for key in sorted(found)]

    def with_same_name(
        self, filebase: str, identity: Sequence[bytes], is_decorated: bool, without: Collection[int] = ()
    ) -> list[RelatedEntry]:
        """Other entries read that share the beginning of a digest (records.kin_of), and no whole digest; oldest first. If
        this one is not decorated, only those that are.

        without  names, as Crowds.names_of gives them, that do not count
        """
        wanted, names = frozenset(identity), set(map(kin_of, identity))
        condition = "" if is_decorated else _IS_DECORATED
        found: dict[str, RelatedEntry] = {}
        for some in in_portions(sorted(set(map(start_of, identity)).difference(without))):
            for row in self._store.query(
                f"{_ENTRIES} WHERE k.start IN ({','.join('?' * len(some))}) {condition}", some
            ):
                other = related_of(row)
                if wanted.isdisjoint(other.identity) and not names.isdisjoint(map(kin_of, other.identity)):
                    found[other.filebase] = other
        found.pop(filebase, None)
        return sorted(found.values(), key=lambda other: (other.when_s, other.filebase))

    def with_resend_key(self, key: bytes) -> list[SameTextEntry]:
        """Entries read with this Fingerprint.resend, oldest first; those finished since the start too."""
        rows = self._store.query(
            "SELECT filebase, when_s, identity FROM text WHERE start = ? AND resend_key = ? ORDER BY when_s, filebase",
            (start_of(key), key),
        )
        return [SameTextEntry(filebase, when_s, split(identity)) for filebase, when_s, identity in rows]

    def resembled(
        self, key: bytes, identity: Sequence[bytes], before: tuple[float, str], window_s: float
    ) -> SameTextEntry | None:
        """The oldest of these that shares no digest with an entry, and was received before it, by at most that long; None if
        there is none. An entry that failed and is tried again is no resend of itself.

        before  when the entry was received, and its filebase
        """
        own, passed, at_a_time = frozenset(identity), 0, _ASKED_FIRST
        while True:
            rows = self._store.query(
                "SELECT filebase, when_s, identity FROM text WHERE start = ? AND resend_key = ? AND when_s BETWEEN ? AND ?"
                " ORDER BY when_s, filebase LIMIT ? OFFSET ?",
                (start_of(key), key, before[0] - window_s - 1, before[0], at_a_time, passed),  # rounding: judged below
            )
            for filebase, when_s, joined in rows:
                if (when_s, filebase) < before and before[0] - when_s <= window_s and own.isdisjoint(split(joined)):
                    return SameTextEntry(filebase, when_s, split(joined))
            passed += len(rows)
            if len(rows) < at_a_time:
                return None
            at_a_time *= 4

    def with_message_id_key(self, key: bytes) -> list[RelatedEntry]:
        """Entries read with this Fingerprint.message_id, oldest first."""
        return [
            related_of(row)
            for row in self._store.query(
                f"{_ENTRIES} WHERE k.start = ? AND k.rest = ? AND e.message_id_key = ? ORDER BY e.when_s, e.filebase",
                (*key_of(key), key),
            )
        ]

    def identity_of(self, filebase: str) -> tuple[bytes, ...]:
        """The digests of an entry; () if it was not read, or is not here."""
        row = self._store.row(filebase)
        return row.identity if row else ()

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
            for some in in_portions(list(map(key_of, wanted))):
                for name, keys, joined in self._store.query(
                    f"{_wanted(some)} SELECT e.filebase, e.recipient_keys, e.identity {_OF_KEYS}",
                    list(chain.from_iterable(some)),
                ):
                    digests = split(joined)
                    if not wanted.isdisjoint(digests):
                        of_message[str(name)] = frozenset(split(keys, RECIPIENT_KEY_BYTES))
                        found.update(digests)
            wanted = found - asked
        return of_message

    def _has_text(self, key: bytes, filebase: str) -> bool:
        """Whether `text` has this entry already. It has if the entry was handed back, taken again and read again."""
        if not self._seen.may_have(start_of(key)):
            return False
        found = "SELECT 1 FROM text WHERE start = ? AND resend_key = ? AND filebase = ?"
        return bool(self._store.query(found, (start_of(key), key, filebase)))


def _wanted(keys: Sequence[Key]) -> str:
    """A table of so many keys."""
    return f"WITH wanted (start, rest) AS (VALUES {','.join(['(?, ?)'] * len(keys))})"
