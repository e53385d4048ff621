"""Splits recipients into transactions like Mailman 2.1.

In    recipients in Mailman's order, the site's limit and ours
Out   chunks of recipients, in Mailman's order of sending
Pure  values only

Source  MAILMAN21.md §4 "Chunks (bulk)"
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

_BUCKETS = {"com": 1, "net": 2, "org": 2, "edu": 3, "us": 3, "ca": 3}
_ELSEWHERE = 0


def bulk_chunks(recipients: Iterable[str], most: int, cap: int = 0) -> list[tuple[str, ...]]:
    """The recipients of each transaction of a bulk delivery.

    most  SMTP_MAX_RCPTS; 0 or less: all recipients in one chunk, whatever their domains
    cap   our own limit besides it; 0: none
    Returns  chunks that never mix Mailman's four buckets of top-level domains (case matters), last bucket first
    """
    if most <= 0:
        return capped([tuple(recipients)], cap)
    buckets: dict[int, list[str]] = {}
    for recipient in recipients:
        _, dot, top_level = recipient.rpartition(".")
        buckets.setdefault(_BUCKETS.get(top_level, _ELSEWHERE) if dot else _ELSEWHERE, []).append(recipient)
    chunks = [chunk for number in sorted(buckets) for chunk in _cut(buckets[number], most)]
    return capped(chunks[::-1], cap)


def left_over_chunks(
    undelivered: Iterable[Iterable[str]], recipients: Iterable[str], cap: int = 0
) -> list[tuple[str, ...]]:
    """The chunks that Mailman had not sent when it crashed, last one first, with the recipients still owed, each once."""
    owed = set(recipients)
    chunks = []
    for chunk in undelivered:
        mine = tuple(dict.fromkeys(recipient for recipient in chunk if recipient in owed))
        owed.difference_update(mine)
        chunks.append(mine)
    return capped([chunk for chunk in reversed(chunks) if chunk], cap)


def capped(chunks: Iterable[Sequence[str]], cap: int) -> list[tuple[str, ...]]:
    """The chunks, cut to at most `cap` recipients (0: not cut)."""
    return [part for chunk in chunks if chunk for part in _cut(chunk, cap or len(chunk))]


def _cut(recipients: Sequence[str], most: int) -> Iterator[tuple[str, ...]]:
    for at in range(0, len(recipients), most):
        yield tuple(recipients[at : at + most])
