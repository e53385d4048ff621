"""What goes next: how many entries are begun, when an entry may go at the earliest, and which of its recipients now.

In    settings, entries in delivery, an entry's metadata; recipients owed, ceilings of their domains, the time
Out   numbers of entries; moments; the recipients that go now, and when the others may
Pure  no index, no clock

The index gives the entries in order (backlog/, feed.order), so that no list starves another. Here no recipient domain
starves another: a domain without a ceiling never waits for one that has used up its own (shaping.py).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import datetime

from drainer.destinations.limits import Limits
from drainer.errors import ComposeError
from drainer.feed.shaping import NO_LANES, Shaped, Shaping, Turn, after_sending, shape
from drainer.ledger.records import recipient_key

_YEAR_10000_S = 253_402_300_800.0


def entries_to_begin(sessions: int, in_delivery: int) -> int:
    """How many entries to begin now, 0 or more.

    sessions  the most SMTP sessions (mta.sessions)
    Some more entries than sessions are in delivery, so that a session finds the next one composed. They are asked for
    together: a query of the index takes as long for ten as for one.
    """
    ahead = max(1, sessions // 4)
    room = sessions + ahead - in_delivery
    return room if room >= ahead else 0


def deliver_after_s(metadata: Mapping[str, object]) -> float:
    """When Mailman would deliver it at the earliest, seconds since the epoch, >= 0; 0.0 if it says nothing.

    Raises  ComposeError for a time that never comes: Mailman would put the entry back for ever
    Source  metadata `deliver_after`: a float in Mailman 2.1, a naive datetime in local time in 3
    """
    value = metadata.get("deliver_after")
    try:
        if isinstance(value, datetime):
            due_s = value.timestamp() if value.year > 1970 else 0.0
        else:
            due_s = float(value) if isinstance(value, int | float) and not isinstance(value, bool) else 0.0
    except (OverflowError, ValueError):
        due_s = math.inf
    if due_s > _YEAR_10000_S:
        raise ComposeError(f"metadata 'deliver_after' is {value!r:.60}, a time that never comes")
    return due_s if due_s > 0 else 0.0


def recipients_to_send(
    shaping: Shaping,
    owed: Sequence[str],
    limits: Limits,
    now_s: float,
    lanes: Mapping[str, int] = NO_LANES,
    turn: Turn | None = None,
) -> tuple[Shaped, Shaping]:
    """The recipients of an entry that go now, and what their destinations have used up after that.

    owed   recipients that the decision says to deliver to
    now_s  monotonic seconds
    lanes, turn  as in `shape`
    """
    shaped = shape(shaping, one_per_recipient(owed), limits, now_s, lanes, turn)
    return shaped, after_sending(shaping, shaped.ready, limits, now_s, turn) if shaped.ready or turn else shaping


def one_per_recipient(addresses: Sequence[str]) -> tuple[str, ...]:
    """The same addresses, in order, without those that are one recipient to the ledger (another case of the domain)."""
    if len(set(map(str.lower, addresses))) == len(addresses):  # no two are alike, whatever is lower case in a key
        return tuple(addresses)
    return tuple({recipient_key(address): address for address in reversed(addresses)}.values())[::-1]
