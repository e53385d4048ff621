"""One queue entry as we hold it in memory: content and metadata, alike for Mailman 2.1 and 3.

In    the two inert pickles of an entry
Out   a QueueEntry
Pure  no file is touched; read.py does that
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from drainer.pickles.standins import Message


class Flavour(StrEnum):
    MAILMAN2 = "mailman2"
    MAILMAN3 = "mailman3"


@dataclass(frozen=True, slots=True)
class QueueEntry:
    """A readable entry.

    filebase       its name without suffix
    flavour        which Mailman wrote it
    list_id        2.1: `listname`, "mailman" when absent, as Mailman does; 3: `listid`, "" when absent
    recipients     the addresses still owed, in Mailman's order (3 pickles a set: sorted), each once;
                   2.1: `undelivered` replaces `recips` where present, as in Mailman's own delivery
    message        the inert message; an entry pickled as plain text (`_parsemsg`) has it as `plaintext` instead
    plaintext      the bytes of the mail of a `_parsemsg` entry, else None
    metadata       the second pickle, inert
    raw            the whole file, unchanged
    message_bytes  length of the first pickle in `raw`; the metadata pickle begins there
    """

    filebase: str
    flavour: Flavour
    list_id: str
    recipients: tuple[str, ...]
    message: Message
    plaintext: bytes | None
    metadata: Mapping[str, object]
    raw: bytes
    message_bytes: int
