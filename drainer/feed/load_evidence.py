"""Is a trouble caused by our load? Two samples are compared before anything is slowed down.

In    how many transactions were tried and how many of them ended badly, here and there
Out   whether it is more likely here than there
Pure  values only

A loss that is as likely at any rate is no sign of load: a flaky link, a poison entry, greylisting of everybody, one bad
domain. TCP slows down at each loss, because on a wire almost every loss is a full queue (RFC 5681). Between two MTAs most
losses are not, so a slowdown at each of them starves the feed. PCC (Dong, 2015) has the answer that is used here: compare
what happens at two rates, and believe that instead of the single event.

The comparison is the z test for two shares with one success and one failure added to each (Agresti and Caffo, 2000), which
keeps it honest for small samples. It is made several times a second, so it asks for more than the usual two deviations.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

FEWEST_BAD = 5
"""Fewer events than this are no evidence, however short the time."""
CERTAIN_DEVIATIONS = 3.0
"""To slow down: one look in a thousand is wrong by chance. A wrong one costs a few seconds (see adaptive_rate.py)."""
LIKELY_DEVIATIONS = 2.0
"""To believe that a slowdown helped."""
REMEMBERED = 400.0
"""Transactions that the usual share is made of; older ones fade."""


@dataclass(frozen=True, slots=True)
class Sample:
    """Transactions tried, and how many of them ended badly; both may be fractions, since old ones fade."""

    tried: float = 0.0
    bad: float = 0.0

    @property
    def share(self) -> float:
        return self.bad / self.tried if self.tried else 0.0

    def __add__(self, other: Sample) -> Sample:
        return Sample(self.tried + other.tried, self.bad + other.bad)

    def remembered(self) -> Sample:
        """The same share, and no more than REMEMBERED transactions."""
        if self.tried <= REMEMBERED:
            return self
        return Sample(REMEMBERED, self.bad * REMEMBERED / self.tried)


NOTHING_KNOWN = Sample(30.0, 0.5)
"""What is usual before anything was seen: a mail system refuses one in sixty."""


def deviations(here: Sample, there: Sample) -> float:
    """By how many standard deviations the bad share is larger here than there; negative: smaller.

    Source  Agresti, Caffo: Simple and effective confidence intervals for proportions (2000)
    """
    more, less = (here.bad + 1) / (here.tried + 2), (there.bad + 1) / (there.tried + 2)
    variance = more * (1 - more) / (here.tried + 2) + less * (1 - less) / (there.tried + 2)
    return (more - less) / math.sqrt(variance)


def is_unusual(now: Sample, usual: Sample) -> bool:
    """Whether so many bad ends are no chance: something changed, and it may be our rate."""
    return now.bad >= FEWEST_BAD and deviations(now, usual) >= CERTAIN_DEVIATIONS


def has_helped(before: Sample, after: Sample) -> bool:
    """Whether bad ends became less likely."""
    return deviations(before, after) >= LIKELY_DEVIATIONS


def is_one_domains(domains: Mapping[str, tuple[int, int]], usual: Sample) -> bool:
    """Whether a single domain explains the deferrals: without it nothing is unusual. An MTA that has too much defers
    recipients of every domain.

    domains  name -> recipients answered, and deferred
    """
    if len(domains) < 2:
        return False
    worst = max(domains, key=lambda name: domains[name][1])
    others = Sample()
    for name, (answered, deferred) in domains.items():
        if name != worst:
            others += Sample(answered, deferred)
    return others.tried >= 2 * FEWEST_BAD and not is_unusual(others, usual)
