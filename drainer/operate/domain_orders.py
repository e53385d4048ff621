"""What an operator orders for a recipient domain: a rate, a pause, or back to the law.

In    DomainRequest, and who sent it
Out   the order in the ledger and in force; the reply in words
Raises  RequestRefused for what is neither a domain nor a group of the settings
"""

from __future__ import annotations

import dataclasses
import math
import re

from drainer.control.messages.base import Peer
from drainer.control.messages.domains import DomainReply, DomainRequest, DomainsReply
from drainer.destinations.ceilings import by_destination
from drainer.destinations.limits import destination_meant
from drainer.errors import RequestRefused
from drainer.ledger.records import DomainOrder
from drainer.observe.domains import Domains
from drainer.operate.pauses_and_rates import PausesAndRates
from drainer.pipeline import Pipeline
from drainer.report.snapshot import NOT_SERVED, DomainStanding
from drainer.text.wording import duration, rate

_LABEL = r"[^\W_](?:[\w-]{0,61}[^\W_])?"
_DOMAIN = re.compile(rf"{_LABEL}(?:\.{_LABEL})+\Z|\[[0-9a-fA-F.:]+\]\Z")
_GROUPS_NAMED = 10


class DomainOrders:
    def __init__(self, pipeline: Pipeline, limits: PausesAndRates) -> None:
        self._pipeline = pipeline
        self._resources = pipeline.resources
        self._limits = limits
        self._domains = Domains(pipeline)

    async def shown(self, asked: str, limit: int) -> DomainsReply:
        """asked: "" for those with a ceiling and those for which most waits."""
        seen = self._pipeline.paces.seen
        found = [self._domains.of(self._destination(asked))] if asked else self._domains.largest(limit)
        return DomainsReply(
            domains=found,
            behind=seen is not None and (seen.log_read or seen.messages is not None),
            trouble="; ".join(filter(None, (seen.trouble, seen.name_trouble))) if seen else "",
        )

    def _destination(self, asked: str) -> str:
        """The destination that is meant: a domain in a group is the group's. Raises RequestRefused."""
        name, feed = asked.strip().rstrip(".").lower(), self._resources.settings.feed
        by_lower = {group.lower(): group for group in feed.domain_groups}
        if name in by_lower:
            return by_lower[name]
        found = self._pipeline.domains.limits.of_domain(name)
        if found != name or _DOMAIN.match(name):
            return found
        if name in (known := self._known()):
            return known[name]
        groups = f"; groups are {', '.join(list(feed.domain_groups)[:_GROUPS_NAMED])}" if feed.domain_groups else ""
        raise RequestRefused(
            f"{asked} is neither a domain nor a group of feed.domain_groups; right would be gmail.com{groups}"
        )

    def _known(self) -> dict[str, str]:
        """Destinations for which something waits, is in force or was ordered, by their names in lower case."""
        names = {standing.domain for standing in self._domains.largest()} - {NOT_SERVED}
        return {name.lower(): name for name in (*names, *(order.destination for order in self._limits.state.domains))}

    async def order(self, request: DomainRequest, peer: Peer) -> DomainReply:
        """Raises RequestRefused, LedgerNotDurable, OperatorStateChanged: nothing has changed."""
        name, now_s = self._destination(request.domain), self._resources.clock.now_s()
        if name == self._pipeline.domains.limits.served.otherwise:
            raise RequestRefused(f"{request.domain} is not served ({name}): it waits, whatever is ordered for it")
        async with self._limits.turn:
            state = self._limits.state
            groups = self._resources.settings.feed.domain_groups
            before = by_destination(state.domains, groups, now_s).get(name)
            others = tuple(order for order in state.domains if destination_meant(order.destination, groups) != name)
            order = _ordered(request, name, before, now_s, peer.user)
            if order is None and before is None:
                return DomainReply(message=f"{name}: nothing was ordered for it", domain=self._domains.of(name))
            detail = ": ".join(filter(None, [name, _in_words(request), request.reason]))
            number = await self._limits.decide(
                dataclasses.replace(state, domains=(*others, order) if order else others),
                peer.user,
                "domain",
                detail,
                request.reason,
            )
        standing = self._domains.of(name)
        return DomainReply(message=self._said(request, standing), domain=standing, number=number)

    def _said(self, request: DomainRequest, standing: DomainStanding) -> str:
        name = standing.domain
        words = [f"{name}: {_in_words(request)}"]
        if standing.group and request.domain.strip().lower() != name.lower():
            words.append(f"{name} is the group of {', '.join(standing.group)}")
        limit_per_s = standing.limit_recipients_per_s
        if standing.set_by == "settings" and limit_per_s is not None:
            words.append(f"feed.domains holds it at {rate(limit_per_s)}")
        elif request.auto and limit_per_s is not None:
            words.append(f"its ceiling is {rate(limit_per_s)}: {standing.cause}")
        if standing.not_in_force:
            words.append("no group of feed.domain_groups has that name: it limits nothing until one has")
        elif not (request.auto or standing.waiting_recipients or standing.queued):
            words.append("no recipient of it is known to wait; it holds for those that come")
        return "; ".join(words)


def _ordered(
    request: DomainRequest, name: str, before: DomainOrder | None, now_s: float, user: str
) -> DomainOrder | None:
    """The order in force from now on; None: there is none. A rate ends a pause; a pause keeps the rate for later."""
    if request.auto:
        return None
    if request.pause_s is not None:
        until_s = now_s + request.pause_s if request.pause_s else math.inf
        return DomainOrder(name, before.per_s if before else None, until_s, now_s, user, request.reason)
    per_s = math.inf if request.rate == "unlimited" else request.rate
    return DomainOrder(name, per_s, None, now_s, user, request.reason)


def _in_words(request: DomainRequest) -> str:
    if request.auto:
        return "as it was learnt, and as the settings say"
    if request.pause_s is not None:
        return f"held back for {duration(request.pause_s)}" if request.pause_s else "held back until --auto"
    if request.rate == "unlimited" or request.rate is None:
        return "no ceiling"
    return f"{rate(request.rate)}" if request.rate else "held back: 0/s"
