"""The domain of a recipient, and how an entry's recipients are spread over domains.

Pure  values only
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Collection, Iterable, Mapping

LARGEST_OF_AN_ENTRY = 8
"""So many domains of an entry are counted, beside those asked for. A list's members crowd in a few domains: eight of them
hold most recipients of an entry, and a backlog of a million entries stays small."""

DomainCounts = tuple[tuple[str, int], ...]
"""Recipients by domain, in lower case, most first."""


_REMEMBERED = 16_384
"""A list's members are asked about for each of its mails. Some 3 MB."""


@functools.lru_cache(_REMEMBERED)
def domain_of(recipient: str) -> str:
    """The domain of an address in lower case; "" if it has none."""
    _, at, domain = recipient.rpartition("@")
    return domain.lower() if at else ""


@functools.lru_cache(16)
def recipients_by_domain(recipients: tuple[str, ...]) -> Mapping[str, int]:
    """How many recipients are in each domain, in the order in which the domains come first.

    It is remembered for the last few tuples: all who learn from a transaction ask about the same recipients in a row.
    """
    return Counter(map(domain_of, recipients))


def domain_counts(recipients: Iterable[str], always: Collection[str] = ()) -> DomainCounts:
    """How many recipients are in each of the domains `always`, and in the LARGEST_OF_AN_ENTRY others that have the most."""
    counted = sorted(Counter(map(domain_of, recipients)).items(), key=_most_first)
    if len(counted) <= LARGEST_OF_AN_ENTRY:
        return tuple(counted)
    others = [item for item in counted if item[0] not in always][:LARGEST_OF_AN_ENTRY]
    kept = {domain for domain, _ in others}
    return tuple(item for item in counted if item[0] in always or item[0] in kept)


def _most_first(counted: tuple[str, int]) -> tuple[int, str]:
    return -counted[1], counted[0]
