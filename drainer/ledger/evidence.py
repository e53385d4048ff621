"""What the ledger keeps for the report: why an entry or a recipient ended otherwise than by a plain delivery.

Pure  values only

A plain delivery leaves no evidence, so the size of this part is that of the exceptions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from itertools import pairwise
from typing import Generic, TypeVar

from drainer.ledger.records import DsnBacklog, Hold, JournalLine, OpenAttempt, Totals
from drainer.ledger.states import State

T = TypeVar("T")

MOST_EVENTS = 500
"""Events of one kind the ledger keeps: of more, those that lasted shortest are forgotten."""

BASELINES_APART = 0.1
"""Part of its age by which a baseline is at most apart from the next."""


class Fate(StrEnum):
    """What an Evidence is of. The first six say how an entry left our custody (SETTLED: it delivered to no recipient, since
    each had failed, was skipped or had the mail already). A DOUBT ended as its word says."""

    DELIVERED = "delivered"
    SETTLED = "settled"
    SUPPRESSED = "suppressed"
    DROPPED = "dropped"
    UNREADABLE = "unreadable"
    HANDED_BACK = "handed_back"
    DOUBT_DELIVERED = "doubt_delivered"
    DOUBT_RESENT = "doubt_resent"
    DOUBT_HELD = "doubt_held"
    DSN_SENT = "dsn_sent"
    DSN_DROPPED = "dsn_dropped"


DOUBTS = frozenset({Fate.DOUBT_DELIVERED, Fate.DOUBT_RESENT, Fate.DOUBT_HELD})
DSNS = frozenset({Fate.DSN_SENT, Fate.DSN_DROPPED})


@dataclass(frozen=True, slots=True)
class Evidence:
    """One line of it.

    at_s        when it was decided, seconds since the epoch
    recipients  how many it concerns
    of, of_at_s SUPPRESSED: the entry that had delivered to them, and when it last had; "" and 0.0 otherwise
    addresses   in clear: of a doubt, of a DSN; else empty
    detail      why: of a doubt its resolution, of a drop who and why, of an unreadable file what is wrong with it
    """

    fate: Fate
    filebase: str
    at_s: float
    list_id: str = ""
    message_id: str = ""
    recipients: int = 0
    of: str = ""
    of_at_s: float = 0.0
    addresses: tuple[str, ...] = ()
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Ended:
    """How many entries of one list and class of duplicate left our custody in the same way.

    kind        class of duplicate found by scanning (duplicates/classes.py); "" where it was never read
    recipients  all their entries had, delivered to or not
    """

    fate: Fate
    list_id: str = ""
    kind: str = ""
    entries: int = 1
    recipients: int = 0
    bytes: int = 0


@dataclass(frozen=True, slots=True)
class Finish:
    """The end of an entry, to be written in the commit of the outcome that settled its last recipients.

    As Ledger.finish_entry has them: what is counted, how the entry ended and why.
    """

    filebase: str
    counts: Mapping[str, int] = field(default_factory=dict)
    ended: Ended | None = None
    evidence: Sequence[Evidence] = ()


@dataclass(frozen=True, slots=True)
class Event:
    """What began at at_s, and lasted until the next event of its kind: "state", "run" (started, stopped) or "notice"."""

    at_s: float
    kind: str
    what: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Failure:
    """A recipient that failed, with the MTA's answer or our reason."""

    filebase: str
    list_id: str
    message_id: str
    address: str
    reply: str
    at_s: float


@dataclass(frozen=True, slots=True)
class Some(Generic[T]):
    """The first lines of a list, oldest first, and how long it is."""

    total: int = 0
    lines: tuple[T, ...] = ()


@dataclass(frozen=True, slots=True)
class Baseline:
    """What had been counted up to a moment, for reports that begin there. ended: as in Account."""

    at_s: float
    counts: Mapping[str, int]
    ended: tuple[Ended, ...] = ()


@dataclass(frozen=True, slots=True)
class Account:
    """What a report is made of, read at one moment; or what came after a baseline: totals.since_s says since when.

    ended      summed up per fate, list and kind
    evidence   per fate; a fate without any is absent
    dsns       fate of the DSN for each failed recipient that is among `failures`: (filebase, address) to DSN_SENT or
               DSN_DROPPED
    dsns_owed  the same pairs of those whose DSN is not settled. A failed recipient in neither was owed none
    by_people, by_service  the journal, newest last
    kept       what the service wrote under a name (Ledger.keep)
    baselines  when baselines were written (Ledger.write_baseline) that had counted something, oldest first
    """

    totals: Totals = field(default_factory=Totals)
    ended: tuple[Ended, ...] = ()
    evidence: Mapping[Fate, Some[Evidence]] = field(default_factory=dict)
    failures: Some[Failure] = Some()
    dsns: Mapping[tuple[str, str], Fate] = field(default_factory=dict)
    dsns_owed: frozenset[tuple[str, str]] = frozenset()
    dsn_backlog: DsnBacklog = field(default_factory=DsnBacklog)
    open_doubts: tuple[OpenAttempt, ...] = ()
    holds: tuple[Hold, ...] = ()
    by_people: Some[JournalLine] = Some()
    by_service: Some[JournalLine] = Some()
    events: tuple[Event, ...] = ()
    kept: Mapping[str, bytes] = field(default_factory=dict)
    baselines: tuple[float, ...] = ()


def counted_since(
    baseline: Baseline, counts: Mapping[str, int], ended: Sequence[Ended]
) -> tuple[Totals, tuple[Ended, ...]]:
    """What was counted after a baseline. counts, ended: of now. Less than then only for drops that were undone since."""
    before = {(one.fate, one.list_id, one.kind): one for one in baseline.ended}
    nothing = Ended(Fate.DELIVERED, entries=0)
    since = [
        replace(
            one,
            entries=one.entries - had.entries,
            recipients=one.recipients - had.recipients,
            bytes=one.bytes - had.bytes,
        )
        for one in ended
        for had in [before.get((one.fate, one.list_id, one.kind), nothing)]
    ]
    return (
        Totals(baseline.at_s, {name: count - baseline.counts.get(name, 0) for name, count in counts.items()}),
        tuple(one for one in since if one.entries > 0),
    )


def baselines_to_forget(times: Sequence[float]) -> list[float]:
    """Of these times, oldest first, those that leave no gap wider than BASELINES_APART of their age: of a day ago some stay
    that are two hours apart, of a month ago three days; some hundred in three months, the first and the last among them."""
    forgotten: list[float] = []
    older_s = times[0] if times else 0.0
    for at_s, newer_s in pairwise(times[1:]):
        if newer_s - older_s <= BASELINES_APART * (times[-1] - at_s):
            forgotten.append(at_s)
        else:
            older_s = at_s
    return forgotten


def doubt_resolved(
    filebase: str, list_id: str, message_id: str, addresses: tuple[str, ...], state: State, why: str, at_s: float
) -> Evidence:
    """state: PENDING (they are sent to again), DELIVERED or HELD."""
    fate = {State.DELIVERED: Fate.DOUBT_DELIVERED, State.HELD: Fate.DOUBT_HELD}.get(state, Fate.DOUBT_RESENT)
    return Evidence(fate, filebase, at_s, list_id, message_id, len(addresses), addresses=addresses, detail=why)


def sum_of(one: Ended, other: Ended) -> Ended:
    """Of the same fate, list and kind."""
    return replace(
        one,
        entries=one.entries + other.entries,
        recipients=one.recipients + other.recipients,
        bytes=one.bytes + other.bytes,
    )


def too_short(events: list[Event]) -> int | None:
    """Which event of one kind to forget when there are more than MOST_EVENTS: the one that lasted shortest, never the first
    or the last two. None: all may stay."""
    if len(events) <= MOST_EVENTS:
        return None
    return min(range(1, len(events) - 2), key=lambda index: events[index + 1].at_s - events[index].at_s)
