"""What is learnt of destinations while the drain runs: each transaction and each look behind the MTA moves their paces.

In    transactions as they end; DestinationsSeen every few seconds
Out   the learnt ceiling of each destination; what it is kept by in the ledger
Not here  the law (destinations/domain_pace.py); which ceiling is in force (domain_ceilings.py)

A reply "too fast" of the MTA that we feed counts for a destination only if it is about that one: every recipient it hit is
there, or it names one of its domains. Any other is the MTA's own, and its rate's business (feed/adaptive_rate.py). So is one
with which it closes a session, where it did so for SEVERAL destinations in a row: providers do not conspire.
"""

from __future__ import annotations

import contextlib
import logging
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from drainer.destinations.ceilings import Learnt
from drainer.destinations.domain_pace import PROVEN_PER_S, DomainPace, Look, next_pace
from drainer.destinations.kept_paces import KEPT_AS, kept, learnt, paces_from
from drainer.destinations.limits import Limits
from drainer.destinations.looks import Own, looks, own_look
from drainer.destinations.seen import DestinationsSeen
from drainer.destinations.too_fast import TooFastReplies
from drainer.destinations.traffic import TrafficBehind
from drainer.errors import LedgerNotDurable
from drainer.feed.transaction import Transaction
from drainer.ledger.records import JournalLine
from drainer.ledger.states import State
from drainer.queuedir.domains import domain_of
from drainer.settings import Settings
from drainer.stages.background import Background
from drainer.stages.resources import Resources
from drainer.text.logfmt import logfmt

log = logging.getLogger("drainer")

LOOK_EVERY_S = 5.0
AT_ONCE_S = 1.0
_UNKNOWN = DomainPace()
_MOST_ON_PROBATION, _MUCH = 30, 100
KEEP_EVERY_S = 10.0
SEVERAL = 3
"""Destinations for which the MTA closed sessions, and took no mail meanwhile: then it is the MTA itself that refuses us."""
_UNSEEN_S = 20.0
"""Without a look behind the MTA for this long, our own transactions are all that is known."""


class DomainPaces:
    """seen     the last look behind the MTA; None before the first
    traffic  behind the MTA, by domain
    """

    def __init__(self, resources: Resources) -> None:
        self._resources = resources
        self._too_fast = TooFastReplies(resources.settings.mta.too_fast)
        self._paces: dict[str, DomainPace] = {}
        self._own: dict[str, Own] = {}
        self._about_us: set[str] = set()
        self._closed_for: set[str] = set()
        self._looked_s = resources.clock.monotonic_s()
        self._own_looked_s: dict[str, float] = {}
        self._kept_s = -KEEP_EVERY_S
        self._kept = b""
        self._background = Background()
        self.seen: DestinationsSeen | None = None
        self.traffic = TrafficBehind()

    def reconfigure(self, settings: Settings) -> None:
        """Settings read again."""
        self._too_fast = TooFastReplies(settings.mta.too_fast)

    async def recover(self) -> None:
        """What earlier runs learnt. Before anything is sent."""
        clock = self._resources.clock
        self._kept = await self._resources.ledger.kept(KEPT_AS) or b""
        self._paces = paces_from(self._kept, clock.now_s(), clock.monotonic_s())

    @property
    def learnt(self) -> Mapping[str, Learnt]:
        """The ceilings that were learnt, by destination."""
        ahead_s = self._ahead_s()
        return {name: found for name, pace in self._paces.items() if (found := learnt(pace, ahead_s)) is not None}

    @property
    def alone(self) -> frozenset[str]:
        """Destinations with a learnt ceiling that the MTA's replies to ourselves were about."""
        return frozenset(name for name in self._about_us if name in self._paces and self._paces[name].per_s is not None)

    def on_probation(self, group_of: Mapping[str, str], without: Collection[str]) -> dict[str, float]:
        """How fast destinations may be fed before more is known of them, those for which much waits; only while the MTA's
        queue is read.

        group_of  as Limits.group_of; without: destinations that are not slowed down

        Probation keeps that queue short. A log alone cannot end it: of a domain that it does not name, it says nothing.
        """
        seen = self.seen
        if self._resources.settings.mta.queue == "none" or (seen is not None and seen.messages is None):
            return {}
        names = set(self._much_waits_for(group_of)).difference(without)
        found = {name: self._paces.get(name, _UNKNOWN).probation_per_s for name in names}
        return {name: per_s for name, per_s in found.items() if per_s < PROVEN_PER_S}

    def _much_waits_for(self, group_of: Mapping[str, str]) -> list[str]:
        """Destinations for which so much waits that they could fill the MTA's queue."""
        totals, in_groups = self._resources.index.totals, {*group_of, *group_of.values()}
        much = totals.by_domain(with_resends=False, at_least=_MUCH)
        waiting = Counter({domain: recipients for domain, recipients in much.items() if domain not in in_groups})
        for domain in in_groups:
            waiting[group_of.get(domain, domain)] += totals.in_domain(domain, with_resends=False)
        return [name for name, recipients in waiting.most_common(_MOST_ON_PROBATION) if recipients >= _MUCH]

    def takes_per_s(self, destination: str) -> float | None:
        """What its provider took while it refused some; None: not measured."""
        pace = self._paces.get(destination)
        return pace.takes_per_s if pace is not None else None

    def is_banned(self, destination: str) -> bool:
        """Its provider refused everybody for long."""
        pace = self._paces.get(destination)
        return pace is not None and pace.is_banned

    def _ahead_s(self) -> float:
        return self._resources.clock.now_s() - self._resources.clock.monotonic_s()

    def heard(self, transaction: Transaction, limits: Limits) -> tuple[Transaction, bool]:
        """The outcome of a transaction. Returns what of it is the MTA's own, for its rate; and whether a destination is
        slower for it from now on: then `look` is due at once."""
        told = False
        kept_outcomes = []
        for outcome in transaction.outcomes:
            if outcome.state is State.DELIVERED:
                self._closed_for.clear()
            if outcome.state in (State.DELIVERED, State.IN_DOUBT):
                for destination, recipients in limits.counted(outcome.recipients).items():
                    self._of(destination).was_fed(recipients)
            elif outcome.state is State.DEFERRED and (
                name := self._destination_of(outcome.reply, outcome.recipients, limits)
            ):
                self._was_refused(name, outcome.reply, outcome.recipients, limits)
                told = True
                continue
            kept_outcomes.append(outcome)
        trouble = transaction.trouble
        if trouble and (name := self._destination_of(trouble, transaction.untouched, limits)):
            if not self.is_banned(name):  # of one that is banned nothing else is expected
                self._closed_for.add(name)
            if len(self._closed_for) < SEVERAL:
                self._was_refused(name, trouble, transaction.untouched, limits)
                told, trouble = True, ""
        return replace(transaction, outcomes=tuple(kept_outcomes), trouble=trouble) if told else transaction, told

    def _destination_of(self, reply: str, recipients: Sequence[str], limits: Limits) -> str:
        """The destination that a reply to these recipients is about, if it says that we are too fast for one; else ""."""
        if not recipients or self._too_fast.of(reply) is None:
            return ""
        domains = {domain_of(address) for address in recipients}
        names = {limits.of_domain(domain) for domain in domains}
        if len(names) > 1:
            names = {limits.of_domain(domain) for domain in domains if domain and domain in reply.lower()}
        return names.pop() if len(names) == 1 else ""

    def _was_refused(self, name: str, reply: str, recipients: Sequence[str], limits: Limits) -> None:
        self._of(name).was_refused(sum(limits.of_recipient(address) == name for address in recipients), reply)
        self._about_us.add(name)

    def _of(self, destination: str) -> Own:
        if (own := self._own.get(destination)) is None:
            own = self._own[destination] = Own()
        return own

    def is_limited(self, address: str, reply: str, limits: Limits) -> bool:
        """Whether a recipient was refused only because its destination, which has a learnt ceiling, says "too fast"."""
        pace = self._paces.get(limits.of_recipient(address))
        is_slowed = pace is not None and pace.per_s is not None and not pace.is_banned
        return is_slowed and self._too_fast.of(reply) is not None

    def may_limit(self, reply: str) -> bool:
        """Whether `is_limited` may be so for some recipient who was refused with this reply."""
        is_any_slowed = any(pace.per_s is not None and not pace.is_banned for pace in self._paces.values())
        return is_any_slowed and self._too_fast.of(reply) is not None

    def see(self, seen: DestinationsSeen, bound: Collection[str], limits: Limits) -> None:
        """A look behind the MTA. One that could read neither queue nor log says nothing."""
        self.seen = seen
        self.traffic.see(seen)
        if not seen.log_read and seen.messages is None:
            return
        lasted_s = max(0.001, seen.at_s - self._looked_s)
        now_s = self._resources.clock.now_s()
        self._follow(looks(seen, self._own, self._paces.keys(), bound, limits.of_domain, lasted_s, now_s), seen.at_s)

    def look(self, bound: Collection[str]) -> bool:
        """Where nothing behind the MTA is read: move the paces by our own transactions. Returns whether that was done."""
        moment_s, seen = self._resources.clock.monotonic_s(), self.seen
        if moment_s - self._looked_s < LOOK_EVERY_S:
            return False
        reads = seen is not None and (seen.log_read or seen.messages is not None)
        if seen is not None and reads and moment_s - seen.at_s < _UNSEEN_S:
            return False
        names = {*self._paces, *self._own}
        self._follow({name: self._own_look(name, bound, moment_s) for name in names}, moment_s)
        return True

    def look_at_once(self, bound: Collection[str]) -> bool:
        """Destinations that have just refused us: the next look would come too late. Returns whether there is one."""
        moment_s = self._resources.clock.monotonic_s()
        found: dict[str, Look] = {}
        for name, own in self._own.items():
            if own.refused and moment_s - self._since(name) >= AT_ONCE_S:
                found[name] = self._own_look(name, bound, moment_s)
        for name, look in found.items():
            self._move(name, look)
            del self._own[name]
            self._own_looked_s[name] = moment_s
        return bool(found)

    def _since(self, destination: str) -> float:
        return self._own_looked_s.get(destination, self._looked_s)

    def _own_look(self, name: str, bound: Collection[str], moment_s: float) -> Look:
        lasted_s = max(0.001, moment_s - self._since(name))
        return own_look(self._own.get(name, Own()), name in bound, moment_s, lasted_s)

    def _follow(self, found: Mapping[str, Look], at_s: float) -> None:
        for name, look in found.items():
            self._move(name, look)
        self._own.clear()
        self._own_looked_s.clear()
        self._looked_s = at_s
        self._about_us &= self._paces.keys()
        if at_s - self._kept_s >= KEEP_EVERY_S:
            self._kept_s = at_s
            self._background.begin(self._keep())

    def _move(self, name: str, look: Look) -> None:
        before = self._paces.get(name, DomainPace())
        after = next_pace(before, look)
        if after.is_idle:
            self._paces.pop(name, None)
        else:
            self._paces[name] = after
        if (before.open_per_s is None) != (after.open_per_s is None):
            begins = after.open_per_s is not None
            detail = f"{name}: slowed down: {after.cause}" if begins else f"{name}: not slowed down any more"
            log.warning(logfmt(event="domain", destination=name, slowed="yes" if begins else "no", reply=after.cause))
            self._background.begin(self._write_down(detail))
        elif before.is_banned != after.is_banned:
            log.warning(logfmt(event="domain", destination=name, banned="yes" if after.is_banned else "no"))

    async def _write_down(self, detail: str) -> None:
        with contextlib.suppress(LedgerNotDurable):
            await self._resources.ledger.write_journal(
                JournalLine(self._resources.clock.now_s(), "drainer", "domain", detail)
            )

    async def _keep(self) -> None:
        octets = kept(self._paces, self._ahead_s())
        if octets != self._kept:
            with contextlib.suppress(LedgerNotDurable):  # a restart would learn it again within seconds
                await self._resources.ledger.keep({KEPT_AS: octets})
                self._kept = octets
