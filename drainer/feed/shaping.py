"""Ceilings per recipient domain: which of an entry's recipients may go now, and when the others may.

In    recipients, ceilings per domain, what each domain has used up, the time
Out   those ready, those to wait and until when; what the domains have used up after a transaction
Pure  no clock; Shaping is a value

Recipients in a domain without a ceiling never wait for recipients in one that has a ceiling: they go first, in a
transaction of their own.
A domain may use up at once what it is due in BATCH_S: 10/s means transactions of ten rather than ten transactions.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from drainer.queuedir.domains import domain_of

BATCH_S = 1.0

Ceilings = Mapping[str, float | None]
"""Recipients per second by domain in lower case; None is unlimited, zero holds the domain back."""


@dataclass(frozen=True, slots=True)
class Shaping:
    """When each domain with a ceiling is due again, monotonic seconds; a domain that is absent is due."""

    due_s: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Shaped:
    """Recipients of one entry, in its order.

    ready   may be sent now
    later   have to wait
    due_s   when the first of `later` may go, monotonic seconds; infinite if only a changed ceiling can tell
    """

    ready: tuple[str, ...]
    later: tuple[str, ...]
    due_s: float


def shape(shaping: Shaping, recipients: Sequence[str], ceilings: Ceilings, now_s: float) -> Shaped:
    """Which recipients may go at `now_s`."""
    if not ceilings:
        return Shaped(tuple(recipients), (), now_s)
    left: dict[str, int] = {}
    ready: list[str] = []
    later: list[str] = []
    due_s = math.inf
    for recipient in recipients:
        domain = domain_of(recipient)
        per_s = ceilings.get(domain)
        if per_s is None:
            ready.append(recipient)
            continue
        if domain not in left:
            left[domain] = _allowed(per_s, shaping.due_s.get(domain, -math.inf), now_s)
        if left[domain] > 0:
            left[domain] -= 1
            ready.append(recipient)
        else:
            later.append(recipient)
            due_s = min(due_s, _due_s(per_s, shaping.due_s.get(domain, now_s), now_s))
    return Shaped(tuple(ready), tuple(later), due_s if later else now_s)


def after_sending(shaping: Shaping, recipients: Iterable[str], ceilings: Ceilings, now_s: float) -> Shaping:
    """What the domains have used up once these recipients were sent at `now_s`; domains due since are forgotten."""
    due_s = {domain: due for domain, due in shaping.due_s.items() if due > now_s and ceilings.get(domain)}
    for domain, count in Counter(map(domain_of, recipients)).items():
        if per_s := ceilings.get(domain):
            due_s[domain] = max(due_s.get(domain, now_s), now_s) + count / per_s
    return Shaping(due_s)


def _allowed(per_s: float, due_s: float, now_s: float) -> int:
    if per_s == 0 or due_s > now_s:
        return 0
    return max(1, math.floor(per_s * BATCH_S))


def _due_s(per_s: float, due_s: float, now_s: float) -> float:
    """When a domain is due after `now_s`, once the recipients that may go now have gone."""
    if per_s == 0:
        return math.inf
    return due_s if due_s > now_s else now_s + _allowed(per_s, -math.inf, now_s) / per_s
