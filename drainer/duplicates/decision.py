"""Entry + what came before it = deliver, skip, wait or hold, per recipient.

In    summaries of entries, and what the ledger knows of their message
Out   decide(): what to do with each recipient now, and with the entry; this is the decision that counts
      classify(): the class an entry has in reports and the forecast; it decides nothing
Pure  no clock, no ledger, no queue

What covers a recipient
  DELIVERED              whoever delivered it: the recipient has the message
  IN_DOUBT, ATTEMPTING   may have it: wait until reconciling, or the attempt, says
  HELD                   single recipients are held when they are in doubt and a person has to say (entries held whole have
                         no rows): hold, whichever entry it was
  FAILED, SKIPPED        settle the entry they belong to and nothing else. A refusal of one copy may have been the outage
                         itself (relaying denied, a broken map), and dropping one copy means keeping the other: a second
                         copy is free to deliver. Cost: an address that is gone is refused once per copy
  undecided              a message that is called as this one is, where one of the two is decorated and nothing tells whether
                         they are one mail (carried.py): who has had it is held here, whoever may have it is waited for,
                         the others get it. Whichever of the two comes first is delivered; neither goes to anybody twice
                         before a person has said that they are two mails
  DEFERRED               covers nothing. While another entry is retrying the recipient this one waits, so that a grey-listing
                         host is not asked twice in a row; with a deferral of its own it goes ahead, so that no two entries
                         wait for each other, and whoever comes first settles it for both
Coverage never depends on order: History is a set of claims.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Literal, Protocol

from drainer.duplicates.classes import DuplicateClass, EntrySummary
from drainer.ledger.records import (
    RECIPIENT_KEY_BYTES,
    Akin,
    Coverage,
    History,
    RecipientKey,
    is_mark,
    kin_of,
    recipient_key,
)
from drainer.ledger.states import State

Policy = Literal["suppress", "hold", "deliver"]

_MAY_HAVE_IT = frozenset({State.DELIVERED, State.IN_DOUBT, State.ATTEMPTING})
_OPEN_FOR_OTHERS = frozenset({State.FAILED, State.SKIPPED})


class Earlier(Protocol):
    """An entry that came before, as an index remembers it. `recipient_keys` concatenated, as in EntrySummary."""

    @property
    def filebase(self) -> str: ...

    @property
    def when_s(self) -> float: ...

    @property
    def recipient_keys(self) -> bytes: ...


class Lookalike(Earlier, Protocol):
    """One that is called the same."""

    @property
    def identity(self) -> tuple[bytes, ...]: ...

    @property
    def is_decorated(self) -> bool: ...


@dataclass(frozen=True, slots=True)
class Kin:
    """The entries an entry has something in common with, oldest first; itself and later ones do no harm if `same` is
    limited to earlier ones.

    same             earlier in FIFO order, sharing an identity digest
    resembling       sharing the resend digest
    same_message_id  sharing the message_id digest
    copies           filebases among `same` with the same `copy` digest
    to_be_held       filebases among `same` of class UNDECIDED: nobody gets the mail from them before a person says so
    undecided        called the same, one of the two decorated, not known to be the same and not known not to be
    """

    same: Sequence[Earlier] = ()
    resembling: Sequence[Earlier] = ()
    same_message_id: Sequence[Earlier] = ()
    copies: Collection[str] = ()
    to_be_held: Collection[str] = ()
    undecided: Sequence[Lookalike] = ()


@dataclass(frozen=True, slots=True)
class Classification:
    """A forecast for reports and the ETA.

    of       the oldest entry it repeats or resembles, which may be known to the ledger only; None for an original.
             Class NONE with `of`: the same message to other recipients
    covered  keys of its recipients that others have had or, going by the queue, will have had by then
    """

    kind: DuplicateClass
    of: str | None = None
    covered: frozenset[RecipientKey] = frozenset()


class Action(StrEnum):
    """What becomes of the entry. DELIVER: to Decision.deliver; ask again afterwards for the others.

    FINISH    every recipient is settled, at least one by this entry (a crash came after the outcome, or the entry is back
              from a backup: stages/settle.py tells by its file), or it has none
    SUPPRESS  every recipient is settled, all by other entries
    WAIT      nothing to do until another entry's attempt, deferral or doubt is over
    HOLD      a person has to say
    """

    DELIVER = "deliver"
    FINISH = "finish"
    SUPPRESS = "suppress"
    WAIT = "wait"
    HOLD = "hold"


@dataclass(frozen=True, slots=True)
class Claim:
    """Why a recipient is not delivered to now: an entry that settled, attempts, defers or holds it, since when.

    filebase "" and at_s 0.0: nobody's claim, but the policy's
    is_undecided  that entry's mail may be another one
    """

    recipient: str
    filebase: str
    state: State
    at_s: float
    is_undecided: bool = False


@dataclass(frozen=True, slots=True)
class Decision:
    """Every recipient of the entry is in exactly one of the four, in the entry's order."""

    action: Action
    deliver: tuple[str, ...] = ()
    skip: tuple[Claim, ...] = ()
    wait: tuple[Claim, ...] = ()
    hold: tuple[Claim, ...] = ()


def decide(
    filebase: str,
    recipients: Sequence[str],
    history: History,
    exact: Literal["suppress", "hold"] = "suppress",
    resend: Policy = "deliver",
    resembled: History | None = None,
    undecided: History | None = None,
) -> Decision:
    """What to do with an entry's recipients at the moment of sending.

    filebase    the entry
    recipients  the addresses it still owes
    history     the ledger's, of the entry's identity
    exact       an entry all of whose recipients others have had is suppressed, or held for a person. (To deliver all
                the same, give the ledger an identity of its own: then history knows this entry only.)
    resend      what is done with a person's second sending of one text; matters only if `resembled` is given
    resembled   the ledger's history of the messages whose text this one repeats (class RESEND); None: it repeats none,
                or an operator has released it

    A resend is held only if it is untouched and someone may yet get, or has had, the first sending; where every recipient
    of the first failed, the second is what the sender sent it for. Suppressed are only recipients who have had the first.
    """
    claims = _by_recipient(history)
    decision = _Sorted()
    resembled_claims = _by_recipient(resembled) if resembled is not None and resend == "suppress" else {}
    undecided_claims = _by_recipient(undecided) if undecided is not None else {}
    for address in recipients:
        key = recipient_key(address)
        decision.add(
            address, filebase, claims.get(key, ()), resembled_claims.get(key, ()), undecided_claims.get(key, ())
        )
    if resend == "hold" and resembled is not None and _may_arrive(resembled) and not _is_begun(filebase, history):
        decision.hold_the_rest()
    return decision.decided(filebase, exact)


def undecided_among(akin: Iterable[Akin], identity: Iterable[bytes]) -> History | None:
    """Of messages that are called as an entry is and share no digest with it, those that may be its mail all the same.

    identity  its own
    Where neither is decorated, the bodies were compared as they are: another one is another mail (CONFLICT).
    """
    is_decorated = any(map(is_mark, identity))
    found = [one.history for one in akin if is_decorated or one.is_decorated]
    return History(tuple(part for history in found for part in history.coverage)) if found else None


def classify(
    summary: EntrySummary, kin: Kin, history: History, window_s: float, undecided: History | None = None
) -> Classification:
    """The class of an entry, going by the entries before it and the ledger.

    history    the ledger's, of the entry's identity; what this entry did itself does not make it a duplicate
    window_s   how far apart, in seconds of received time, two sendings of one text count as a resend
    undecided  as for decide
    """
    own = _keys(summary.recipient_keys)
    others = [part for part in history.coverage if part.filebase != summary.filebase and part.state in _MAY_HAVE_IT]
    same = [entry for entry in kin.same if entry.filebase != summary.filebase]
    had = frozenset().union(*(_keys(entry.recipient_keys) for entry in same), *(part.recipients for part in others))
    doubted = [part for part in undecided.coverage if part.state in _MAY_HAVE_IT] if undecided else []
    in_question = frozenset().union(
        *(_keys(entry.recipient_keys) for entry in kin.undecided), *(part.recipients for part in doubted)
    )
    to_be_held = (_keys(entry.recipient_keys) for entry in same if entry.filebase in kin.to_be_held)
    if own & (in_question - had.difference(*to_be_held)):
        of = kin.undecided[0].filebase if kin.undecided else doubted[0].filebase
        return Classification(DuplicateClass.UNDECIDED, of, own & (had | in_question))
    if same or others:
        covered = own & had
        of = same[0].filebase if same else others[0].filebase
        if not covered:
            return Classification(DuplicateClass.NONE, of)
        if covered != own:
            return Classification(DuplicateClass.PARTIAL, of, covered)
        is_copy = any(entry.filebase in kin.copies for entry in same)
        return Classification(DuplicateClass.RESTORED if is_copy else DuplicateClass.EXACT, of, covered)
    for entry in kin.resembling:
        if _precedes(entry, summary) and summary.when_s - entry.when_s <= window_s:
            return Classification(DuplicateClass.RESEND, entry.filebase)
    for entry in kin.same_message_id:
        if _precedes(entry, summary):
            return Classification(DuplicateClass.CONFLICT, entry.filebase)
    return Classification(DuplicateClass.NONE)


def with_digests_of(summary: EntrySummary, other: Lookalike) -> EntrySummary:
    """The summary of an entry that was found to be the same mail as another one: it is known by what either says. That it is
    decorated is said by its own digests only."""
    print_ = summary.fingerprint
    digests = (*print_.identity, *(digest for digest in other.identity if not is_mark(digest)))
    return replace(summary, fingerprint=replace(print_, identity=tuple(dict.fromkeys(digests))))


def fifo_key(summary: EntrySummary) -> tuple[float, bool, int, int, str]:
    """First in, first out. Equal received times are one mail written again: the undecorated before its decorated remainder,
    the one with more recipients, then the larger (a mail pickled a second time comes out smaller) before the others.
    """
    return summary.when_s, summary.decorated, -summary.recipients, -summary.size_bytes, summary.filebase


class Backlog:
    """Entries seen so far, to be asked for the kin of the next. For as many as fit in memory: some 500 bytes each."""

    def __init__(self) -> None:
        self._entries: list[_Remembered] = []
        self._same: dict[bytes, list[int]] = defaultdict(list)
        self._called: dict[bytes, list[int]] = defaultdict(list)
        self._resembling: dict[bytes, int] = {}
        self._message_id: dict[bytes, int] = {}

    def kin_of(self, summary: EntrySummary, window_s: float) -> Kin:
        """The kin among the entries added, which have to be those before it in FIFO order."""
        print_ = summary.fingerprint
        numbers = sorted({number for digest in print_.identity for number in self._same.get(digest, ())})
        same = [self._entries[number] for number in numbers]
        called_so = {number for digest in print_.identity for number in self._called.get(kin_of(digest), ())}
        undecided = [
            entry
            for entry in (self._entries[number] for number in sorted(called_so.difference(numbers)))
            if (summary.decorated or entry.is_decorated) and entry.duplicate is not DuplicateClass.UNDECIDED
        ]
        resembling = self._resembling.get(print_.resend) if print_.resend else None
        message_id = self._message_id.get(print_.message_id) if print_.message_id else None
        return Kin(
            same=same,
            resembling=[] if resembling is None else [self._entries[resembling]],
            same_message_id=[] if message_id is None else [self._entries[message_id]],
            copies={entry.filebase for entry in same if entry.copy == print_.copy},
            to_be_held={entry.filebase for entry in same if entry.duplicate is DuplicateClass.UNDECIDED},
            undecided=undecided,
        )

    def add(self, summary: EntrySummary, window_s: float, kind: DuplicateClass = DuplicateClass.NONE) -> None:
        """Remember an entry, of the class it was found to be. Of several sendings of one text the oldest within the window
        is kept."""
        print_ = summary.fingerprint
        number = len(self._entries)
        self._entries.append(
            _Remembered(
                summary.filebase, summary.when_s, summary.recipient_keys, print_.copy, print_.identity,
                summary.decorated, kind,
            )
        )  # fmt: skip
        for digest in print_.identity:
            self._same[digest].append(number)
        for called in set(map(kin_of, print_.identity)):
            self._called[called].append(number)
        if print_.message_id:
            self._message_id.setdefault(print_.message_id, number)
        if print_.resend:
            first = self._resembling.setdefault(print_.resend, number)
            if summary.when_s - self._entries[first].when_s > window_s:
                self._resembling[print_.resend] = number


@dataclass(frozen=True, slots=True)
class _Remembered:
    filebase: str
    when_s: float
    recipient_keys: bytes
    copy: bytes
    identity: tuple[bytes, ...]
    is_decorated: bool
    duplicate: DuplicateClass


class _Sorted:
    """Recipients as they fall into the four."""

    def __init__(self) -> None:
        self.deliver: list[str] = []
        self.skip: list[Claim] = []
        self.wait: list[Claim] = []
        self.hold: list[Claim] = []

    def add(
        self,
        address: str,
        filebase: str,
        claims: Collection[Coverage],
        resembled: Collection[Coverage] = (),
        undecided: Collection[Coverage] = (),
    ) -> None:
        if not claims and not resembled and not undecided:
            self.deliver.append(address)
            return
        own = {part.state: part for part in claims if part.filebase == filebase}
        others: dict[State, Coverage] = {}
        for part in claims:
            if part.filebase != filebase:
                others.setdefault(part.state, part)
        firsts: dict[State, Coverage] = {}
        for part in resembled:
            firsts.setdefault(part.state, part)
        akin: dict[State, Coverage] = {}
        for part in undecided:
            akin.setdefault(part.state, part)
        rules: tuple[tuple[list[Claim], dict[State, Coverage], State], ...] = (
            (self.skip, own, State.DELIVERED),
            (self.skip, others, State.DELIVERED),
            (self.wait, own, State.ATTEMPTING),
            (self.wait, others, State.ATTEMPTING),
            (self.wait, own, State.IN_DOUBT),
            (self.wait, others, State.IN_DOUBT),
            (self.skip, own, State.FAILED),
            (self.skip, own, State.SKIPPED),
            (self.hold, own, State.HELD),
            (self.hold, others, State.HELD),
            (self.skip, firsts, State.DELIVERED),
            (self.wait, firsts, State.ATTEMPTING),
            (self.wait, firsts, State.IN_DOUBT),
            (self.hold, akin, State.DELIVERED),
            (self.wait, akin, State.ATTEMPTING),
            (self.wait, akin, State.IN_DOUBT),
            (self.hold, akin, State.HELD),
        )
        for kind, held_by, state in rules:
            if claim := held_by.get(state):
                kind.append(Claim(address, claim.filebase, state, claim.at_s, is_undecided=held_by is akin))
                return
        deferred = others.get(State.DEFERRED)
        if deferred and State.DEFERRED not in own:
            self.wait.append(Claim(address, deferred.filebase, State.DEFERRED, deferred.at_s))
            return
        self.deliver.append(address)

    def hold_the_rest(self) -> None:
        self.hold += [Claim(address, "", State.HELD, 0.0) for address in self.deliver]
        self.deliver = []

    def decided(self, filebase: str, exact: Literal["suppress", "hold"]) -> Decision:
        if self.deliver:
            action = Action.DELIVER
        elif self.wait:
            action = Action.WAIT
        elif self.hold:
            action = Action.HOLD
        elif not self.skip or any(claim.filebase == filebase for claim in self.skip):
            action = Action.FINISH
        else:
            action = Action.SUPPRESS if exact == "suppress" else Action.HOLD
        return Decision(action, tuple(self.deliver), tuple(self.skip), tuple(self.wait), tuple(self.hold))


def _by_recipient(history: History) -> dict[RecipientKey, list[Coverage]]:
    claims: dict[RecipientKey, list[Coverage]] = defaultdict(list)
    for part in sorted(history.coverage, key=lambda part: (part.at_s, part.filebase, part.state)):
        for key in part.recipients:
            claims[key].append(part)
    return claims


def _may_arrive(resembled: History) -> bool:
    """Someone had the first sending or may still get it, also if nothing is known of it yet."""
    return not resembled.coverage or any(part.state not in _OPEN_FOR_OTHERS for part in resembled.coverage)


def _is_begun(filebase: str, history: History) -> bool:
    return any(part.filebase == filebase for part in history.coverage)


def _precedes(entry: Earlier, summary: EntrySummary) -> bool:
    return (entry.when_s, entry.filebase) < (summary.when_s, summary.filebase)


def _keys(joined: bytes) -> frozenset[RecipientKey]:
    return frozenset(joined[at : at + RECIPIENT_KEY_BYTES] for at in range(0, len(joined), RECIPIENT_KEY_BYTES))
