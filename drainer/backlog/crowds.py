"""Crowds: mails that share their name with many others, one of which is decorated, so that they may be one mail.

In    entries as they come, change and go; the parts of their texts (duplicates/carried.py), which the caller reads
Out   for one entry of a crowd: which others may contain it, or be contained in it; which others are undecided beside it
Raises    IndexUnusable
Not here  whether two entries are one mail (duplicates/carried.py); what follows from that (duplicates/classes.py)

A script whose Date never changes fills retry/ with thousands of mails of one name. To compare each with each other takes the
square of their number: a thousand took 23 s. Here each is looked up by its parts. Small groups are no crowds: their members
are compared one by one (related.py).

Whoever contains a text of several lines has each of these lines. So a text is looked for by that line of it which the fewest
others have, and the other way round each text hangs on one line, its anchor, on which few others hang.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, insort
from collections.abc import Collection, Iterable, Iterator, Sequence, Set
from dataclasses import dataclass, field

from drainer.backlog.keys import split, start_of
from drainer.backlog.rows import IndexedRow
from drainer.backlog.schema import RELATED, related_of
from drainer.backlog.store import Store, in_portions
from drainer.backlog.values import RelatedEntry
from drainer.duplicates.carried import Parts
from drainer.duplicates.classes import DuplicateClass
from drainer.ledger.records import RECIPIENT_KEY_BYTES, is_of_decorated

FEW = 32
"""A name that has at most so many keys is no crowd. An entry has one to three under a name."""

_COUNTED = 8
_WALKED_AT_A_TIME = 16
_READ_REMEMBERED = 100

_Identity = tuple[bytes, ...]
_Place = tuple[float, str]
"""When an entry was received, and its filebase: oldest first."""


@dataclass(slots=True)
class _Crowd:
    """Of one name.

    unread     its members whose parts are not known yet, each with its id, and whether it is decorated
    undecided  its members of class UNDECIDED that were not released; released: those that were
    others     all but the former by their digests: those with the same digests are copies of each other; oldest first
    first      the oldest of each of these, oldest first
    """

    unread: dict[str, tuple[int, bool]] = field(default_factory=dict)
    undecided: dict[str, tuple[_Place, _Identity]] = field(default_factory=dict)
    released: dict[str, tuple[_Place, _Identity]] = field(default_factory=dict)
    others: dict[_Identity, list[_Place]] = field(default_factory=dict)
    first: list[tuple[_Place, _Identity]] = field(default_factory=list)

    def enter(self, place: _Place, identity: _Identity, *, is_undecided: bool) -> None:
        if is_undecided:
            self.undecided[place[1]] = place, identity
            return
        places = self.others.setdefault(identity, [])
        if not places or place < places[0]:
            if places:
                del self.first[bisect_left(self.first, (places[0], identity))]
            insort(self.first, (place, identity))
        insort(places, place)

    def leave(self, place: _Place, identity: _Identity) -> None:
        """Nothing happens if it is no member."""
        self.released.pop(place[1], None)
        if self.undecided.pop(place[1], None):
            return
        places = self.others.get(identity, [])
        at = bisect_left(places, place)
        if places[at : at + 1] != [place]:
            return
        del places[at]
        if at == 0:
            del self.first[bisect_left(self.first, (place, identity))]
            if places:
                insort(self.first, (places[0], identity))
            else:
                del self.others[identity]

    def release(self, filebases: Collection[str]) -> None:
        """These were released, and no others."""
        for name in [*(self.undecided.keys() & filebases)]:
            place, identity = self.undecided.pop(name)
            self.enter(place, identity, is_undecided=False)
            self.released[name] = place, identity
        for name in self.released.keys() - filebases:
            place, identity = self.released[name]
            self.leave(place, identity)
            self.enter(place, identity, is_undecided=True)

    def unlike(self, identity: Set[bytes], is_decorated: bool) -> Iterator[list[_Place]]:
        """The others that share no digest with an entry, where either is decorated; copies of each other together."""
        for _, theirs in self.first:
            if identity.isdisjoint(theirs) and (is_decorated or _is_decorated(theirs)):
                yield self.others[theirs]


class Crowds:
    """Fills the tables `part`, `anchor` and `parts`."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._crowds: dict[int, _Crowd] = {}
        self._just_read: dict[str, Parts] = {}

    def names_of(self, identity: Iterable[bytes], is_decorated: bool) -> list[int]:
        """The names (keys.start_of) by which an entry belongs to crowds. A name may become a crowd at this question."""
        return [
            start
            for start in dict.fromkeys(map(start_of, identity))
            if start in self._crowds or self._has_become_one(start, is_decorated)
        ]

    def _has_become_one(self, start: int, is_decorated: bool) -> bool:
        condition = "" if is_decorated else "AND rest < 0"
        query = f"SELECT count(*) FROM (SELECT 1 FROM key WHERE start = ? {condition} LIMIT ?)"
        ((keys,),) = self._store.query(query, (start, FEW + 1))
        if keys <= FEW:
            return False
        crowd = self._crowds[start] = _Crowd()
        rows = self._store.query(
            "SELECT DISTINCT e.id, e.filebase, e.when_s, e.identity, e.duplicate FROM key k JOIN entry e ON e.id = k.id"
            " WHERE k.start = ?",
            (start,),
        )
        for id_, filebase, when_s, joined, duplicate in rows:
            identity = split(joined)
            crowd.unread[filebase] = id_, _is_decorated(identity)
            crowd.enter((when_s, filebase), identity, is_undecided=duplicate == DuplicateClass.UNDECIDED)
        return True

    def add(self, row: IndexedRow) -> None:
        """An entry was read."""
        if not (names := self._crowds_of(row)):
            return
        for start in names:
            self._enter(start, row)
            self._crowds[start].unread[row.filebase] = row.id, _is_decorated(row.identity)
        if (parts := self._just_read.pop(row.filebase, None)) is not None:
            self.note(names, row.filebase, parts)

    def forget(self, row: IndexedRow) -> None:
        """An entry is gone, or is read again."""
        if not (names := self._crowds_of(row)):
            return
        for start in names:
            self._crowds[start].leave((row.when_s, row.filebase), row.identity)
            self._crowds[start].unread.pop(row.filebase, None)
        for parts in self._parts([row.id]).values():
            self._store.execute_many("DELETE FROM parts WHERE id = ?", [(row.id,)])
            whole = () if parts.whole is None else (parts.whole,)
            tokens = [token for start in names for token in _tokens(start, (*parts.lines, *parts.inner, *whole))]
            for table in ("part", "anchor"):
                self._store.execute_many(
                    f"DELETE FROM {table} WHERE start = ? AND id = ?", [(token, row.id) for token in tokens]
                )

    def reclassified(self, row: IndexedRow) -> None:
        """An entry has another class of duplicate."""
        for start in self._crowds_of(row):
            self._crowds[start].leave((row.when_s, row.filebase), row.identity)
            self._enter(start, row)

    def _enter(self, start: int, row: IndexedRow) -> None:
        is_undecided = row.duplicate is DuplicateClass.UNDECIDED
        self._crowds[start].enter((row.when_s, row.filebase), row.identity, is_undecided=is_undecided)

    def _crowds_of(self, row: IndexedRow) -> list[int]:
        if not self._crowds:
            return []
        return [start for start in dict.fromkeys(map(start_of, row.identity)) if start in self._crowds]

    def unread(self, names: Iterable[int]) -> list[str]:
        """Filebases of members whose parts have to be noted before `may_be_one` is asked."""
        return list(dict.fromkeys(filebase for start in names for filebase in self._crowds[start].unread))

    def note(self, names: Iterable[int], filebase: str, parts: Parts | None) -> None:
        """The parts of a member; None if it cannot be read. Nothing happens if it is gone, or was noted before."""
        for start in names:
            id_, is_decorated = self._crowds[start].unread.pop(filebase, (0, False))
            if not id_ or parts is None:
                continue
            self._store.execute_many("INSERT OR REPLACE INTO parts VALUES (?, ?)", [(id_, _blob(parts))])
            anchors = [] if parts.whole is None else [_token(start, parts.whole)]
            if anchors and parts.lines:
                anchors.append(self._rarest("anchor", _tokens(start, parts.lines))[0])
            self._insert("anchor", anchors, id_)
            if is_decorated:
                self._insert("part", _tokens(start, parts.lines or parts.inner), id_)

    def may_be_one(
        self, names: Iterable[int], filebase: str, identity: Sequence[bytes], is_decorated: bool, parts: Parts
    ) -> list[RelatedEntry]:
        """Members of these crowds that share no digest with an entry, and contain its text or are contained in it, as far as
        hashes say; oldest first. Its parts are remembered until it is added."""
        while len(self._just_read) >= _READ_REMEMBERED:
            del self._just_read[next(iter(self._just_read))]
        self._just_read[filebase] = parts
        ids: set[int] = set()
        for start in names:
            if parts.whole is not None:
                ids |= self._with("part", [_token(start, parts.whole)])
                if parts.lines:
                    token, times = self._rarest("part", _tokens(start, parts.lines))
                    ids |= self._with("part", [token]) if times else set()
            if is_decorated:
                ids |= self._with("anchor", _tokens(start, parts.lines or parts.inner))
        read = self._parts(sorted(ids))
        contain = {id_ for id_, theirs in read.items() if theirs.carry(parts)}
        contained = {id_ for id_, theirs in read.items() if is_decorated and parts.carry(theirs)}
        own = frozenset(identity)
        found: list[RelatedEntry] = []
        for some in in_portions(sorted(contain | contained)):
            for id_, *columns in self._store.query(
                f"SELECT e.id, {RELATED} FROM entry e WHERE e.id IN ({','.join('?' * len(some))})", some
            ):
                other = related_of(tuple(columns))
                is_wanted = id_ in contained or other.is_decorated
                if is_wanted and other.filebase != filebase and own.isdisjoint(other.identity):
                    found.append(other)
        return sorted(found, key=lambda other: (other.when_s, other.filebase))

    def undecided_beside(
        self,
        names: Iterable[int],
        identity: Sequence[bytes],
        is_decorated: bool,
        recipient_keys: bytes,
        released: Collection[str],
    ) -> list[RelatedEntry]:
        """Members of these crowds that may be the mail of an entry, oldest first: without those of class UNDECIDED, unless
        they were released. The oldest one is among them, and of the others so many that each of the entry's recipients is
        named whom any of them names."""
        own, keys = frozenset(identity), frozenset(split(recipient_keys, RECIPIENT_KEY_BYTES))
        found: dict[str, RelatedEntry] = {}
        for start in names:
            crowd, left, is_first = self._crowds[start], set(keys), True
            crowd.release(released)
            for other in self._walked(crowd, own, is_decorated):
                named = split(other.recipient_keys, RECIPIENT_KEY_BYTES)
                if is_first or not left.isdisjoint(named):
                    found[other.filebase], is_first = other, False
                    left.difference_update(named)
                if not left:
                    break
        return sorted(found.values(), key=lambda other: (other.when_s, other.filebase))

    def _walked(self, crowd: _Crowd, identity: Set[bytes], is_decorated: bool) -> Iterator[RelatedEntry]:
        for places in crowd.unlike(identity, is_decorated):
            for at in range(0, len(places), _WALKED_AT_A_TIME):
                names = [filebase for _, filebase in places[at : at + _WALKED_AT_A_TIME]]
                rows = self._store.query(
                    f"SELECT {RELATED} FROM entry e WHERE e.filebase IN ({','.join('?' * len(names))})"
                    " ORDER BY e.when_s, e.filebase",
                    names,
                )
                yield from map(related_of, rows)

    def _insert(self, table: str, tokens: Iterable[int], id_: int) -> None:
        self._store.execute_many(
            f"INSERT OR IGNORE INTO {table} VALUES (?, ?)", [(token, id_) for token in sorted(tokens)]
        )

    def _with(self, table: str, tokens: Collection[int]) -> set[int]:
        """Ids that have one of these tokens in the table."""
        found: set[int] = set()
        for some in in_portions(list(tokens)):
            query = f"SELECT id FROM {table} WHERE start IN ({','.join('?' * len(some))})"
            found.update(id_ for (id_,) in self._store.query(query, some))
        return found

    def _rarest(self, table: str, tokens: Iterable[int]) -> tuple[int, int]:
        """A token that comes least often in the table, and how often. It is counted to a few, and further only if all come
        more often."""
        left, counted_to = list(dict.fromkeys(tokens)), _COUNTED
        while True:
            found: list[tuple[int, int]] = []
            for some in in_portions(left):
                found += self._store.query(
                    f"WITH wanted (start) AS (VALUES {','.join(['(?)'] * len(some))}) SELECT (SELECT count(*) FROM"
                    f" (SELECT 1 FROM {table} t WHERE t.start = wanted.start LIMIT {counted_to})), start FROM wanted",
                    some,
                )
            times, token = min(found)
            if times < counted_to:
                return token, times
            counted_to *= _COUNTED

    def _parts(self, ids: Sequence[int]) -> dict[int, Parts]:
        found: dict[int, Parts] = {}
        for some in in_portions(ids):
            query = f"SELECT id, hashes FROM parts WHERE id IN ({','.join('?' * len(some))})"
            found.update((id_, _parts_in(blob)) for id_, blob in self._store.query(query, some))
        return found


def _is_decorated(identity: _Identity) -> bool:
    return any(map(is_of_decorated, identity))


def _token(start: int, part: int) -> int:
    """A part under a name."""
    return hash((start, part))


def _tokens(start: int, parts: Iterable[int]) -> set[int]:
    return {_token(start, part) for part in parts}


def _blob(parts: Parts) -> bytes:
    whole = () if parts.whole is None else (parts.whole,)
    return array("q", (len(parts.lines), len(whole), *parts.lines, *whole, *parts.inner)).tobytes()


def _parts_in(blob: bytes) -> Parts:
    numbers = array("q", blob)
    lines, whole = 2 + numbers[0], 2 + numbers[0] + numbers[1]
    return Parts(tuple(numbers[2:lines]), numbers[lines] if numbers[1] else None, tuple(numbers[whole:]))
