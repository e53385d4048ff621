"""Entries for tests of the index: described by a few words, listed, put into an index."""

from __future__ import annotations

import hashlib

from drainer.backlog.index import BacklogIndex
from drainer.backlog.values import Description, Order, tie_order
from drainer.duplicates.classes import DuplicateClass
from drainer.duplicates.fingerprint import Fingerprint
from drainer.duplicates.summary import EntrySummary
from drainer.queuedir.entry import Flavour
from drainer.queuedir.filebase import QueueFile, Suffix

NOW_S = 1_000_000.0


def digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=16).digest()


def described(
    filebase: str,
    *,
    list_id: str = "birds.example.org",
    identity: tuple[str, ...] = (),
    recipients: int = 2,
    duplicate: DuplicateClass = DuplicateClass.NONE,
    of: str | None = None,
    covered: int = 0,
    subject: str = "",
    sender: str = "ann@example.org",
    resend: str | None = None,
    message_id: str | None = None,
) -> Description:
    fingerprint = Fingerprint(
        identity=tuple(digest(text) for text in identity or (filebase,)),
        resend=digest(resend) if resend else None,
        message_id=digest(message_id) if message_id else None,
        copy=digest("copy " + filebase),
    )
    when_s = float(filebase.partition("+")[0])
    keys = filebase.encode().ljust(10)[:10] * recipients
    summary = EntrySummary(
        filebase, when_s, Flavour.MAILMAN2, list_id, f"<{filebase}@example.org>", sender, subject, 100, recipients,
        keys, False, fingerprint,
    )  # fmt: skip
    return Description(summary, duplicate, of, covered)


TIE = tie_order(described("1.5+any").summary)


def listed(*filebases: str) -> list[tuple[QueueFile, int]]:
    return [(QueueFile(float(name.partition("+")[0]), name, Suffix.WAITING), 100) for name in filebases]


def fill(index: BacklogIndex, *descriptions: Description) -> None:
    index.add_listed(listed(*(description.summary.filebase for description in descriptions)))
    index.describe(descriptions)


def following(
    index: BacklogIndex, order: Order = "oldest", limit: int = 100, paused: frozenset[str] = frozenset(), **more: object
) -> list[str]:
    priority = more.get("priority", ())
    assert isinstance(priority, tuple)
    return [row.filebase for row in index.order.next_waiting(order, NOW_S, paused, limit, priority)]
