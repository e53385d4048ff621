"""The file that gives a part-delivered entry back to Mailman: only the recipients still owed are left in it.

In    an entry and those of its recipients that are still owed
Out   the bytes of a queue file
Pure  no file is touched; custody.py writes it

The message pickle is copied byte for byte; in the metadata pickle nothing but the recipients changes (narrowed.py).
"""

from __future__ import annotations

from collections.abc import Sequence

from drainer.errors import EntryNotUnderstood
from drainer.pickles.narrowed import narrowed
from drainer.pickles.restricted import load_pair
from drainer.queuedir.entry import Flavour, QueueEntry, entry_from_pickles

_KEYS = {Flavour.MAILMAN2: ("recips", "undelivered"), Flavour.MAILMAN3: ("recipients",)}


def with_recipients(entry: QueueEntry, keep: Sequence[str]) -> bytes:
    """The entry's file with only some of its recipients, each once. Bytes behind the metadata pickle are left out.

    keep     at least one; all of them among entry.recipients
    Raises   ValueError for any other `keep`; EntryNotUnderstood when the recipients are pickled in a form none of Mailman's
             has, so that the entry cannot be narrowed: it has to be kept as it is
    """
    if not keep or not set(keep) <= set(entry.recipients):
        raise ValueError("recipients to keep are none, or are not among the entry's")
    raw = entry.raw[: entry.message_bytes] + narrowed(entry.raw[entry.message_bytes :], keep, _KEYS[entry.flavour])
    if set(entry_from_pickles(entry.filebase, raw, load_pair(raw)).recipients) != set(keep):
        raise EntryNotUnderstood("the recipients cannot be taken out of this metadata: others would stay in it")
    return raw
