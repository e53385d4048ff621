"""The states of an entry in the backlog index, and every legal transition.

Pure  a table; every change of a state passes through `check`, and a test holds the SQL CHECK equal to it
"""

from __future__ import annotations

from enum import StrEnum

from drainer.errors import IllegalTransition


class EntryState(StrEnum):
    """State of an entry. LISTED: not read yet; the operator sees it as waiting (control/messages/)."""

    LISTED = "listed"
    WAITING = "waiting"
    ACTIVE = "active"
    DEFERRED = "deferred"
    HELD = "held"


FIRST = frozenset({EntryState.LISTED, EntryState.HELD})
"""States in which an entry enters the index: found in drainer/backlog/ or in drainer/held/."""
LEGAL: dict[EntryState, frozenset[EntryState]] = {
    EntryState.LISTED: frozenset(
        {EntryState.LISTED, EntryState.WAITING, EntryState.ACTIVE, EntryState.DEFERRED, EntryState.HELD}
    ),
    EntryState.WAITING: frozenset({EntryState.WAITING, EntryState.ACTIVE, EntryState.DEFERRED, EntryState.HELD}),
    EntryState.ACTIVE: frozenset(
        {EntryState.ACTIVE, EntryState.LISTED, EntryState.WAITING, EntryState.DEFERRED, EntryState.HELD}
    ),
    EntryState.DEFERRED: frozenset(
        {EntryState.DEFERRED, EntryState.LISTED, EntryState.WAITING, EntryState.ACTIVE, EntryState.HELD}
    ),
    EntryState.HELD: frozenset({EntryState.HELD, EntryState.LISTED, EntryState.WAITING, EntryState.DEFERRED}),
}
"""A pair that is absent is a bug. HELD to ACTIVE: an entry that a person holds is sent only after its release. WAITING to
LISTED: an entry is read once.

LISTED to ACTIVE    an operator's action took it out before it was read; or Mailman's runner has it since before a restart
ACTIVE to LISTED    such an entry is put back
LISTED to DEFERRED  the ledger knows the deferral from before a restart
DEFERRED to WAITING  it is released, or woken; or reading showed that not all it owes were refused
HELD to HELD, DEFERRED to DEFERRED   another reason, another time
WAITING to WAITING  woken twice: a copy was settled, and an operator released it
ACTIVE to ACTIVE    Mailman's runner has it, and the ledger has an attempt for each part of its recipients
"""


def check(before: EntryState, after: EntryState) -> None:
    """Raises IllegalTransition unless `before` may become `after`."""
    if after not in LEGAL[before]:
        raise IllegalTransition(f"an entry of the backlog cannot go from {before} to {after}")


def check_first(state: EntryState) -> None:
    """Raises IllegalTransition unless an entry may enter the index in this state."""
    if state not in FIRST:
        raise IllegalTransition(f"an entry cannot enter the backlog as {state}")
