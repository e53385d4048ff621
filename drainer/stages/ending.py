"""How one entry's turn ends: the one value that a turn (turn.py) gives to settle.py.

In    the decision after sending, or the error that ended the turn
Out   an Ending
Pure  values only
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from drainer.duplicates.decision import Decision
from drainer.errors import (
    ComposeDeferred,
    ComposerUnavailable,
    CustodyRefused,
    EntryError,
    EntryUnreadable,
    EntryVanished,
    HaltError,
    IllegalTransition,
    MtaError,
)
from drainer.ledger.evidence import Ended, Evidence
from drainer.ledger.records import MessageRecord
from drainer.queuedir.domains import DomainCounts
from drainer.queuedir.entry import QueueEntry


@dataclass(frozen=True, slots=True)
class Decided:
    """The ledger says what becomes of it: finish, suppress, hold, wait, or deliver to the rest later.

    blameless  the recipients still owed were not refused: the turn was interrupted, or it was the MTA's state
    parked     the others wait for a ceiling, not for those that were refused; None: nobody does
    finished   the ledger has its end already, written with its last outcome; None: it has not
    """

    entry: QueueEntry
    record: MessageRecord
    decision: Decision
    blameless: bool
    parked: Parked | None = None
    finished: Finished | None = None


@dataclass(frozen=True, slots=True)
class Finished:
    """What the ledger writes of an entry whose recipients are all settled, and what decides where its file goes.

    counts, ended, evidence  as in Ledger.finish_entry
    by_others    recipients whom another entry had delivered to
    failed_at_s  when its own recipients failed, seconds since the epoch
    is_dropped   an operator's drop had settled some of them
    """

    counts: Mapping[str, int]
    ended: Ended
    evidence: Sequence[Evidence]
    by_others: int
    failed_at_s: Sequence[float]
    is_dropped: bool


@dataclass(frozen=True, slots=True)
class NotBefore:
    """It waits for a moment of Mailman's, or of its own deferral: `due_s` (seconds since the epoch).

    owed  recipients that it owes; None: as many as before
    """

    due_s: float
    reason: str
    owed: int | None = None


@dataclass(frozen=True, slots=True)
class Parked:
    """The recipients that are left wait for the ceiling of this destination, and perhaps for others.

    owed     recipients it owes; domains: how many of them are in each domain that is counted
    due_s    when those go again that were refused for now, seconds since the epoch; None: nobody was
    """

    lane: str
    owed: int
    domains: DomainCounts
    due_s: float | None = None


@dataclass(frozen=True, slots=True)
class LookAgain:
    """It waits for something that has no moment: another copy, a composer, a filesystem.

    logged  at this level, with `error` for its detail; "" if not at all
    """

    reason: str
    logged: Literal["", "warning", "error"] = ""
    error: Exception | None = None


@dataclass(frozen=True, slots=True)
class Held:
    """It is set aside for a person."""

    reason: str
    detail: str


@dataclass(frozen=True, slots=True)
class Unreadable:
    """It goes to Mailman's bad/."""

    reason: str
    detail: str


@dataclass(frozen=True, slots=True)
class Vanished:
    """Its file is gone."""

    error: EntryVanished


@dataclass(frozen=True, slots=True)
class Halted:
    """The ledger cannot be written: nothing more is sent, and the entry waits as before."""

    error: HaltError


@dataclass(frozen=True, slots=True)
class MtaUnavailable:
    """No transaction was possible: the entry waits as before."""

    error: MtaError


@dataclass(frozen=True, slots=True)
class WithMailman:
    """Mailman has it (via_mailman/)."""


Ending = (
    Decided | NotBefore | Parked | LookAgain | Held | Unreadable | Vanished | Halted | MtaUnavailable | WithMailman
)  # fmt: skip

ENDS_TURN = (EntryError, ComposerUnavailable, CustodyRefused, HaltError, MtaError, OSError)
"""Errors that end a turn and nothing else. Any other exception is a bug."""

ENDS_SETTLING = (EntryVanished, HaltError, CustodyRefused, OSError)
"""Errors that may come when an ending without a decision is carried out."""


def ending_of(error: Exception, may_hold: bool = True) -> Ending:
    """How a turn ends that an error of ENDS_TURN ended.

    may_hold  False: holding was tried, and failed with this error
    """
    match error:
        case EntryVanished():
            return Vanished(error)
        case EntryUnreadable() if error.belongs_in_bad:
            return Unreadable(error.reason, error.detail)
        case ComposeDeferred() | ComposerUnavailable():
            return LookAgain(str(error), "warning", error)
        case EntryError():
            return Held(error.reason, error.detail)
        case IllegalTransition() if may_hold:
            # A bug, and one that concerns this entry only: the ledger wrote nothing, and nothing was sent.
            return Held("illegal_transition", str(error))
        case HaltError():
            return Halted(error)
        case MtaError():
            return MtaUnavailable(error)
        case CustodyRefused():
            # The ledger has it all; the file follows when the filesystem lets it. Nothing is sent again meanwhile.
            return LookAgain(str(error), "error", error)
        case OSError():
            return LookAgain(f"cannot be read: {error.strerror}", "error", error)
    raise TypeError(f"{error!r} ends no turn")
