"""The states of an entry in the backlog index, and every legal transition.

Pure  a table; every change of a state passes through `check`, and a test holds the SQL CHECK equal to it
"""

from __future__ import annotations

from enum import StrEnum


class EntryState(StrEnum):
    """State of an entry. LISTED: not read yet; the operator sees it as waiting (control/messages/)."""

    LISTED = "listed"
    WAITING = "waiting"
    ACTIVE = "active"
    DEFERRED = "deferred"
    HELD = "held"


FIRST = frozenset({EntryState.LISTED, EntryState.HELD})
"""States in which an entry enters the index: found in drainer/backlog/ or in drainer/held/."""
