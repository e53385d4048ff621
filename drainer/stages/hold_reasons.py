"""Why the ledger has a Hold for an entry: the words that `drainer entries` shows and a restart reads.

Pure  values only

A Hold may also note what an operator decided (RELEASED), or what has to be known later (RESEMBLES): then the entry is not
held. via_mailman/ adds one reason of its own, SHUNTED.
"""

from __future__ import annotations

RESEND, DUPLICATE, IN_DOUBT = "resend", "duplicate", "in_doubt"
"""Why the duplicate decision holds an entry."""

UNDECIDED = "undecided"
"""The entry may be the same mail as another one: the names are the same, one of the two contains a list's header and
footer, and nothing shows whether the rest is the same."""

RELEASED = "released"
"""No hold any more: an operator released this entry. `detail` says from which of RESEND, DUPLICATE and UNDECIDED, since
that policy no longer applies to it. Kept in the ledger, as everything that an operator decided."""

RESEMBLES = "resembles"
"""No hold yet: this entry repeats the text of the entry `detail`. The index forgets at a restart what was finished before
it; without this note a resend would go out afterwards as if it were the first mail."""

HANDED_BACK = "handback"
"""Copies of this entry's mail were being given back to Mailman, and this one still has to follow."""


def why_held(reason: str, detail: str) -> str:
    """In one text, as the index keeps it."""
    return f"{reason}: {detail}" if detail else reason
