"""The ceilings in force by destination: a recipient domain, or a group of domains that share their provider's patience.

In    groups of domains from the settings; ceilings per second
Out   which destination a domain belongs to, and what that destination may take
Pure  values only

A destination is what providers count by: gmail.com and googlemail.com are one to Google. A domain that is in no group is a
destination by itself; its name is the domain's, in lower case. A group's name has no dot. A domain may have none either,
such as localhost: if a group has the same name, that domain is in the group.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from drainer.queuedir.domains import domain_of, recipients_by_domain


@dataclass(frozen=True, slots=True)
class Served:
    """The domains that the settings let us serve; all others are one destination with a ceiling of zero.

    only      empty: every domain
    withheld  not these
    """

    only: frozenset[str] = frozenset()
    withheld: frozenset[str] = frozenset()

    def has(self, domain: str) -> bool:
        return domain not in self.withheld and (not self.only or domain in self.only)

    @property
    def otherwise(self) -> str:
        """The destination of the domains that are not served; "" if all are. It says why, and other settings have another
        one: so whoever waits there leaves it when they change."""
        parts = [("feed.not names", self.withheld), ("feed.only names", self.only)]
        return ", ".join(f"{text} {' '.join(f'@{name}' for name in sorted(names))}" for text, names in parts if names)


@dataclass(frozen=True, slots=True)
class Limits:
    """Ceilings in force.

    per_s    recipients per second by destination; absent: unlimited, 0: held back, as served.otherwise is
    group_of the group of each domain that is in one
    alone    destinations whose recipients go in transactions of their own, since the MTA's replies speak of them only
    served   which domains are served
    """

    per_s: Mapping[str, float] = field(default_factory=dict)
    group_of: Mapping[str, str] = field(default_factory=dict)
    alone: frozenset[str] = frozenset()
    served: Served = Served()

    def of_recipient(self, recipient: str) -> str:
        """The destination of an address."""
        return self.of_domain(domain_of(recipient))

    def of_domain(self, domain: str) -> str:
        """The destination of a domain in lower case."""
        if self.served.has(domain):
            return self.group_of.get(domain, domain)
        return self.served.otherwise

    def counted(self, recipients: tuple[str, ...]) -> dict[str, int]:
        """How many recipients are in each destination."""
        found: dict[str, int] = {}
        for domain, count in recipients_by_domain(recipients).items():
            destination = self.of_domain(domain)
            found[destination] = found.get(destination, 0) + count
        return found

    def ceiling(self, destination: str) -> float:
        """Recipients per second; infinite if there is no ceiling."""
        return self.per_s.get(destination, math.inf)


def group_by_domain(groups: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """The group of each domain that is in one. groups: domains by the name of their group."""
    return {domain: name for name, domains in groups.items() for domain in domains}


def domains_of(destination: str, groups: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    """The domains that a destination stands for."""
    return tuple(dict.fromkeys((*groups.get(destination, ()), destination)))


def destination_meant(name: str, groups: Mapping[str, Sequence[str]]) -> str:
    """The destination with this name: a group, in whatever case; else the group of the domain; else the name itself."""
    lower = name.lower()
    if name in groups:
        return name
    for group, domains in groups.items():
        if lower == group.lower() or lower in domains:
            return group
    return name


def regrouped(before: Mapping[str, str], after: Mapping[str, str]) -> set[str]:
    """The domains whose group changed. before, after: as Limits.group_of"""
    return {domain for domain in {*before, *after} if before.get(domain) != after.get(domain)}


def may_be_a_group(destination: str, groups: Mapping[str, Sequence[str]]) -> bool:
    """Whether it has the name of a group that is not in the settings. A domain may have such a name too."""
    return destination not in groups and "." not in destination and not destination.startswith("[")
