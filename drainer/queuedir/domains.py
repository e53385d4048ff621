"""The domain of a recipient, and how an entry's recipients are spread over some domains.

Pure  values only
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence


def domain_of(recipient: str) -> str:
    """The domain of an address in lower case; "" if it has none."""
    _, at, domain = recipient.rpartition("@")
    return domain.lower() if at else ""


def in_domains(recipients: Iterable[str], domains: Sequence[str]) -> tuple[int, ...]:
    """How many recipients are in each of these domains, in lower case; () if none is."""
    counted = Counter(map(domain_of, recipients)) if domains else Counter[str]()
    found = tuple(counted[domain] for domain in domains)
    return found if any(found) else ()
