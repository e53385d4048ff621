"""The class of duplicate that an entry has in reports and in the forecast. It decides nothing: decision.py does.

In    summaries of entries, and what the ledger knows of their message
Out   classify(): a Classification; SeenEntries: finds the entries that an entry is related to, in memory
Pure  no clock, no ledger, no queue
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from drainer.duplicates.summary import EntrySummary
from drainer.ledger.records import RECIPIENT_KEY_BYTES, History, RecipientKey, kin_of
from drainer.ledger.states import State

_MAY_HAVE_IT = frozenset({State.DELIVERED, State.IN_DOUBT, State.ATTEMPTING})


class DuplicateClass(StrEnum):
    """DESIGN §4.

    NONE       an original, or something that only resembles one
    UNDECIDED  another mail has the same name, and one of the two contains a header and footer that cannot be taken out:
               it may be the same mail
    """

    NONE = "none"
    EXACT = "exact"
    PARTIAL = "partial"
    RESTORED = "restored"
    RESEND = "resend"
    CONFLICT = "conflict"
    UNDECIDED = "undecided"


class ComparedEntry(Protocol):
    """What classify() needs of another entry. `recipient_keys` are concatenated, as in EntrySummary."""

    @property
    def filebase(self) -> str: ...

    @property
    def when_s(self) -> float: ...

    @property
    def recipient_keys(self) -> bytes: ...


class SameNameEntry(ComparedEntry, Protocol):
    """Another entry whose mail has the same name (list, Message-ID and Date, or author, subject and Date)."""

    @property
    def identity(self) -> tuple[bytes, ...]: ...

    @property
    def is_decorated(self) -> bool: ...


@dataclass(frozen=True, slots=True)
class RelatedEntries:
    """The entries that an entry has something in common with, oldest first.

    The entry itself may be among them, and so may later ones, as long as `same` contains only earlier ones.

    same             earlier in FIFO order, sharing an identity digest
    resembling       sharing the resend digest
    same_message_id  sharing the message_id digest
    copies           filebases among `same` with the same `copy` digest
    to_be_held       filebases among `same` of class UNDECIDED: they deliver to no recipient until an operator decides
    undecided        of the same name, one of the two decorated; they may be the same mail or not
    """

    same: Sequence[ComparedEntry] = ()
    resembling: Sequence[ComparedEntry] = ()
    same_message_id: Sequence[ComparedEntry] = ()
    copies: Collection[str] = ()
    to_be_held: Collection[str] = ()
    undecided: Sequence[SameNameEntry] = ()


@dataclass(frozen=True, slots=True)
class Classification:
    """A forecast for reports and the ETA.

    of       the oldest entry that it repeats or resembles (perhaps one that only the ledger knows); None for an original.
             Class NONE with `of`: the same message to other recipients
    covered  keys of its recipients that other entries have delivered to, or will have delivered to by its turn
    """

    kind: DuplicateClass
    of: str | None = None
    covered: frozenset[RecipientKey] = frozenset()


def classify(
    summary: EntrySummary,
    related: RelatedEntries,
    history: History,
    window_s: float,
    undecided: History | None = None,
) -> Classification:
    """The class of an entry, according to the entries before it and the ledger.

    history    the ledger's, of the entry's identity; what this entry did itself does not make it a duplicate
    window_s   two sendings of one text count as a resend up to this many seconds apart, by received time
    undecided  as for decision.decide
    """
    own = _keys(summary.recipient_keys)
    others = [part for part in history.coverage if part.filebase != summary.filebase and part.state in _MAY_HAVE_IT]
    same = [entry for entry in related.same if entry.filebase != summary.filebase]
    had = frozenset().union(*(_keys(entry.recipient_keys) for entry in same), *(part.recipients for part in others))
    doubted = [part for part in undecided.coverage if part.state in _MAY_HAVE_IT] if undecided else []
    in_question = frozenset().union(
        *(_keys(entry.recipient_keys) for entry in related.undecided), *(part.recipients for part in doubted)
    )
    to_be_held = (_keys(entry.recipient_keys) for entry in same if entry.filebase in related.to_be_held)
    if own & (in_question - had.difference(*to_be_held)):
        of = related.undecided[0].filebase if related.undecided else doubted[0].filebase
        return Classification(DuplicateClass.UNDECIDED, of, own & (had | in_question))
    if same or others:
        covered = own & had
        of = same[0].filebase if same else others[0].filebase
        if not covered:
            return Classification(DuplicateClass.NONE, of)
        if covered != own:
            return Classification(DuplicateClass.PARTIAL, of, covered)
        is_copy = any(entry.filebase in related.copies for entry in same)
        return Classification(DuplicateClass.RESTORED if is_copy else DuplicateClass.EXACT, of, covered)
    for entry in related.resembling:
        if _precedes(entry, summary) and summary.when_s - entry.when_s <= window_s:
            return Classification(DuplicateClass.RESEND, entry.filebase)
    for entry in related.same_message_id:
        if _precedes(entry, summary):
            return Classification(DuplicateClass.CONFLICT, entry.filebase)
    return Classification(DuplicateClass.NONE)


class SeenEntries:
    """The entries of a scan so far; it finds those that the next entry is related to. An entry takes about 500 bytes of
    memory."""

    def __init__(self) -> None:
        self._entries: list[_Seen] = []
        self._by_identity: dict[bytes, list[int]] = defaultdict(list)
        self._by_name: dict[bytes, list[int]] = defaultdict(list)
        self._decorated_by_name: dict[bytes, list[int]] = defaultdict(list)
        self._by_resend: dict[bytes, int] = {}
        self._by_message_id: dict[bytes, int] = {}

    def related_to(self, summary: EntrySummary) -> RelatedEntries:
        """The related entries among those added, which must be those before it in FIFO order."""
        print_ = summary.fingerprint
        numbers = sorted({number for digest in print_.identity for number in self._by_identity.get(digest, ())})
        same = [self._entries[number] for number in numbers]
        named = (self._decorated_by_name, self._by_name) if summary.decorated else (self._decorated_by_name,)
        same_name = {number for by in named for digest in print_.identity for number in by.get(kin_of(digest), ())}
        undecided = [self._entries[number] for number in sorted(same_name.difference(numbers))]
        resembling = self._by_resend.get(print_.resend) if print_.resend else None
        message_id = self._by_message_id.get(print_.message_id) if print_.message_id else None
        return RelatedEntries(
            same=same,
            resembling=[] if resembling is None else [self._entries[resembling]],
            same_message_id=[] if message_id is None else [self._entries[message_id]],
            copies={entry.filebase for entry in same if entry.copy == print_.copy},
            to_be_held={entry.filebase for entry in same if entry.duplicate is DuplicateClass.UNDECIDED},
            undecided=undecided,
        )

    def add(self, summary: EntrySummary, window_s: float, kind: DuplicateClass = DuplicateClass.NONE) -> None:
        """Remember an entry and the class found for it. Of several sendings of one text, the oldest within the window is
        kept."""
        print_ = summary.fingerprint
        number = len(self._entries)
        self._entries.append(
            _Seen(
                summary.filebase, summary.when_s, summary.recipient_keys, print_.copy, print_.identity,
                summary.decorated, kind,
            )
        )  # fmt: skip
        for digest in print_.identity:
            self._by_identity[digest].append(number)
        if kind is not DuplicateClass.UNDECIDED:
            by_name = self._decorated_by_name if summary.decorated else self._by_name
            for name in set(map(kin_of, print_.identity)):
                by_name[name].append(number)
        if print_.message_id:
            self._by_message_id.setdefault(print_.message_id, number)
        if print_.resend:
            first = self._by_resend.setdefault(print_.resend, number)
            if summary.when_s - self._entries[first].when_s > window_s:
                self._by_resend[print_.resend] = number


@dataclass(frozen=True, slots=True)
class _Seen:
    filebase: str
    when_s: float
    recipient_keys: bytes
    copy: bytes
    identity: tuple[bytes, ...]
    is_decorated: bool
    duplicate: DuplicateClass


def _precedes(entry: ComparedEntry, summary: EntrySummary) -> bool:
    return (entry.when_s, entry.filebase) < (summary.when_s, summary.filebase)


def _keys(joined: bytes) -> frozenset[RecipientKey]:
    return frozenset(joined[at : at + RECIPIENT_KEY_BYTES] for at in range(0, len(joined), RECIPIENT_KEY_BYTES))
