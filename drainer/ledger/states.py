"""The states of a delivery (one recipient of one message), of a DSN, and every legal transition.

Pure  a table; every write passes through `check`, and a test holds the SQL CHECK equal to it
"""

from __future__ import annotations

from collections.abc import Collection
from enum import StrEnum

from drainer.errors import IllegalTransition


class State(StrEnum):
    """State of a delivery. PENDING has no row: it is what a recipient is before anything was written."""

    PENDING = "pending"
    ATTEMPTING = "attempting"
    DELIVERED = "delivered"
    DEFERRED = "deferred"
    FAILED = "failed"
    IN_DOUBT = "in_doubt"
    HELD = "held"
    SKIPPED = "skipped"


LEGAL: dict[State, frozenset[State]] = {
    State.PENDING: frozenset(
        {State.ATTEMPTING, State.DEFERRED, State.FAILED, State.HELD, State.SKIPPED, State.IN_DOUBT}
    ),
    State.ATTEMPTING: frozenset({State.DELIVERED, State.DEFERRED, State.FAILED, State.IN_DOUBT}),
    State.DEFERRED: frozenset({State.ATTEMPTING, State.DEFERRED, State.FAILED, State.HELD, State.SKIPPED}),
    State.IN_DOUBT: frozenset({State.PENDING, State.DELIVERED, State.HELD}),
    State.HELD: frozenset({State.PENDING, State.SKIPPED}),
    State.DELIVERED: frozenset(),
    State.FAILED: frozenset(),
    State.SKIPPED: frozenset(),
}
"""PENDING to DEFERRED or FAILED: refused at MAIL or RCPT, before any attempt was open. PENDING to IN_DOUBT: a `.bak`
Mailman's runner left behind. SKIPPED: dropped by an operator, or Mailman itself would skip the address. HELD to SKIPPED
settles the recipient for this entry; for other entries it stays HELD (contract.py).
"""

SETTLED = frozenset({State.DELIVERED, State.FAILED, State.SKIPPED})
"""Final states: the entry owes the recipient nothing more."""


class DsnState(StrEnum):
    """State of a DSN that is owed to a reverse-path. SENT and DROPPED have no row."""

    OWED = "owed"
    SENDING = "sending"
    IN_DOUBT = "in_doubt"
    SENT = "sent"
    DROPPED = "dropped"


DSN_LEGAL: dict[DsnState, frozenset[DsnState]] = {
    DsnState.OWED: frozenset({DsnState.SENDING, DsnState.OWED, DsnState.DROPPED}),
    DsnState.SENDING: frozenset({DsnState.SENT, DsnState.OWED, DsnState.IN_DOUBT, DsnState.DROPPED}),
    DsnState.IN_DOUBT: frozenset({DsnState.SENT, DsnState.OWED, DsnState.DROPPED}),
    DsnState.SENT: frozenset(),
    DsnState.DROPPED: frozenset(),
}
"""SENDING to OWED: deferred. IN_DOUBT to OWED: only when the MTA's log shows that it has none. A second copy would be worse
than no DSN, so all other doubts end DROPPED."""


def check_dsn(before: DsnState | None, after: DsnState) -> None:
    """Raises IllegalTransition unless `before` (None: there is no such DSN) may become `after`."""
    if before is None or after not in DSN_LEGAL[before]:
        raise IllegalTransition(f"a DSN cannot go from {before or 'nothing'} to {after}")


def check(before: State, after: State) -> None:
    """Raises IllegalTransition unless `before` may become `after`."""
    if after not in LEGAL[before]:
        raise IllegalTransition(f"a delivery cannot go from {before} to {after}")


def check_close(before: State, after: State) -> None:
    """As check, for an attempt that ends by itself: only an open one can."""
    if before is not State.ATTEMPTING:
        raise IllegalTransition(f"an attempt that is {before} cannot end as {after}: it is not open")
    check(before, after)


def check_resolve(before: State, after: State) -> None:
    """As check, for an attempt that will not end by itself: it goes in doubt first, and from there by a decision."""
    if before is State.ATTEMPTING and after is not State.IN_DOUBT:
        raise IllegalTransition(f"an open attempt cannot be resolved to {after}: it has to be in doubt first")
    check(before, after)


def check_split(before: State, recipients: Collection[str], some: Collection[str]) -> None:
    """Raises IllegalTransition unless the attempt is open, ValueError unless `some` are a part of its recipients."""
    if before is not State.ATTEMPTING:
        raise IllegalTransition(f"an attempt that is {before} cannot be split: it is not open")
    if not set() < set(some) < set(recipients):
        raise ValueError("recipients to split off are none, all, or not the attempt's")


def check_record(before: State, after: State) -> None:
    """As check, for an outcome that had no attempt: one under way or in doubt ends as an attempt, not beside it."""
    if before in (State.ATTEMPTING, State.IN_DOUBT) or after in (State.PENDING, State.ATTEMPTING):
        raise IllegalTransition(f"a delivery that is {before} cannot be recorded as {after}")
    check(before, after)
