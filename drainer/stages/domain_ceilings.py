"""Ceilings per recipient domain, in force: who goes, who stands in the lane of a destination, and whose turn it is there.

In    the ceilings of the settings, of operators, and learnt ones (domain_paces.py); entries that are picked; recipients of
      an entry in its turn
Out   recipients that go now; entries parked in a lane of the index, and picked from it as soon as there is room
Not here  the rule itself (feed/shaping.py); the index's lanes (backlog/order.py)

An entry whose recipients all have to wait is parked without being read. One that is read is parked with what is left of it,
and is read again when it is its turn: thousands of parked entries cost the others nothing.

It stands in one lane, and may owe recipients in several. A destination that has room, and in whose lane nobody can be begun,
takes over those who wait for another one: a domain that is paused, banned or slow holds back its own recipients only.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace

from drainer.backlog.states import EntryState
from drainer.backlog.values import WaitingEntry
from drainer.destinations.ceilings import Ceiling, by_destination, in_force
from drainer.destinations.limits import Limits, Served, domains_of, group_by_domain, may_be_a_group, regrouped
from drainer.destinations.seen import DestinationsSeen
from drainer.duplicates.classes import DuplicateClass
from drainer.feed.pick import recipients_to_send
from drainer.feed.session import Session
from drainer.feed.shaping import (
    NO_LANES,
    Shaped,
    Shaping,
    Turn,
    at_new_ceilings,
    at_once,
    booked,
    due_s,
    first_lane,
    given_back,
    room,
)
from drainer.feed.transaction import Transaction
from drainer.ledger.records import DomainOrder
from drainer.queuedir.domains import DomainCounts, domain_counts
from drainer.settings import Settings
from drainer.settings.feed import FeedSettings
from drainer.stages.domain_paces import DomainPaces
from drainer.stages.resources import Resources
from drainer.via_mailman.whereabouts import is_released_list

_MOVED_AT_A_TIME, _TAKEN_OVER_AT_A_TIME = 500, 50
ON_PROBATION = "what its provider takes is not known yet, so it starts slowly"
_SENT_AT_ONCE = frozenset({DuplicateClass.EXACT, DuplicateClass.RESTORED})
"""Classes of entries that are expected to send nothing."""


class DomainCeilings:
    """limits        what the ceilings in force allow, and probation
    in_force      the ceilings, by destination
    not_in_force  those ordered or set for the name of a group that the settings do not have: they limit nothing, as long as
                  no domain with that name has mail
    """

    def __init__(self, resources: Resources, paces: DomainPaces) -> None:
        self._resources = resources
        self._paces = paces
        self._shaping = Shaping()
        self._counted: dict[str, Counter[str]] = {}
        self._wanted: dict[str, int] = {}
        self._ordered: tuple[DomainOrder, ...] = ()
        self._orders: Mapping[str, DomainOrder] = {}
        self._freed: set[str] = set()
        self._regrouped: set[str] = set()
        self._nowhere: set[str] = set()
        self._nowhere_else: set[str] = set()
        self._stand_still: set[str] = set()
        self._closed_lists: frozenset[str] = frozenset()
        self.in_force: Mapping[str, Ceiling] = {}
        self.not_in_force: Mapping[str, Ceiling] = {}
        self.limits = Limits()
        self._renew(resources.settings.feed)

    def reconfigure(self, settings: Settings) -> None:
        """Settings read again."""
        self._renew(settings.feed)

    def follow(self, orders: Sequence[DomainOrder]) -> None:
        """What operators ordered, from now on."""
        self._ordered = tuple(orders)
        self.renew()

    def see(self, seen: DestinationsSeen) -> None:
        """A look behind the MTA."""
        self._paces.see(seen, self._lanes, self.limits)
        self.renew()

    def look(self) -> None:
        """Each second: pauses that end, and paces where nothing behind the MTA is read."""
        if not self._paces.look(self._lanes):
            self._paces.look_at_once(self._lanes)
        self.renew()

    def heard(self, transaction: Transaction, session: Session, filebase: str = "") -> Transaction:
        """The outcome of a transaction in this session. Returns what of it is the MTA's own.

        filebase  the entry whose turn it was; "": a DSN
        """
        of_mta, told = self._paces.heard(transaction, self.limits)
        is_of_destination = bool(transaction.trouble) and not of_mta.trouble
        if is_of_destination:
            session.closed_for_destination()
        if (counted := self._counted.get(filebase)) is not None:
            for tried in (*(one.recipients for one in transaction.outcomes), transaction.untouched * is_of_destination):
                counted.subtract(self.limits.counted(tried))
        if told and self._paces.look_at_once(self._lanes):
            self.renew()
        return of_mta

    def is_limited(self, address: str, reply: str) -> bool:
        """Whether a recipient was refused only because its destination, which has a learnt ceiling, says "too fast"."""
        return self._paces.is_limited(address, reply, self.limits)

    def renew(self) -> None:
        """The ceilings of this moment in force."""
        self._renew(self._resources.settings.feed)

    def _renew(self, feed: FeedSettings) -> None:
        learnt, now_s = self._paces.learnt, self._resources.clock.now_s()
        group_of = group_by_domain(feed.domain_groups)
        self._orders = by_destination(self._ordered, feed.domain_groups, now_s)
        found = {}
        for name in {*feed.domains, *self._orders, *learnt}:
            ceiling = in_force(feed.domains.get(name), self._orders.get(name), learnt.get(name), now_s)
            if ceiling is not None:
                found[name] = ceiling
        self._nowhere = nowhere = {name for name in found if self._is_nowhere(name, feed)}
        wanted = {name: in_force(feed.domains.get(name), self._orders.get(name), None, now_s) for name in nowhere}
        self.not_in_force = {name: ceiling for name, ceiling in wanted.items() if ceiling is not None}
        self.in_force = {name: ceiling for name, ceiling in found.items() if name not in nowhere}
        alone = frozenset(name for name in self._paces.alone if name in found)
        unlimited = {name for name, order in self._orders.items() if order.per_s is not None}
        per_s = self._paces.on_probation(group_of, unlimited)
        per_s |= {name: ceiling.per_s for name, ceiling in found.items()}
        served = Served(feed.only_domains, feed.withheld_domains)
        if served.otherwise:
            per_s[served.otherwise] = 0.0
        self._put_in_force(Limits(per_s, group_of, alone, served))

    def _is_nowhere(self, name: str, feed: FeedSettings) -> bool:
        """Whether it is the name of a group that the settings do not have, and of no domain that is known to have mail."""
        if not may_be_a_group(name, feed.domain_groups):
            return False
        is_behind = (seen := self._paces.seen) is not None and name in seen.domains
        return not is_behind and not self._resources.index.totals.in_domain(name, with_resends=True)

    @property
    def on_probation(self) -> dict[str, Ceiling]:
        """What holds those back of which too little is known for a ceiling, as far as mail waits for it."""
        per_s = self.limits.per_s
        return {
            name: Ceiling(per_s[name], "learnt", ON_PROBATION)
            for name in self._lanes
            if name in per_s and name not in {*self.in_force, *self.not_in_force, self.limits.served.otherwise}
        }

    def from_now_on(self, destination: str) -> tuple[float, float]:
        """Seconds that a pause of it still lasts, and the recipients per second after that; 0 per second: no end is known.

        destination  one of in_force. A learnt ceiling of zero lasts only until the MTA's queue is shorter.
        """
        ceiling, now_s = self.in_force[destination], self._resources.clock.now_s()
        if ceiling.per_s:
            return 0.0, ceiling.per_s
        if ceiling.set_by == "learnt":
            takes_per_s = self._paces.takes_per_s(destination)
            return 0.0, math.inf if takes_per_s is None else takes_per_s
        if ceiling.until_s is None:
            return 0.0, 0.0
        configured = self._resources.settings.feed.domains.get(destination)
        learnt, order = self._paces.learnt.get(destination), self._orders.get(destination)
        after = in_force(configured, order, learnt, ceiling.until_s)
        return max(0.0, ceiling.until_s - now_s), math.inf if after is None else after.per_s

    def _put_in_force(self, limits: Limits) -> None:
        if limits == self.limits:
            return
        self._shaping = at_new_ceilings(self._shaping, limits, self._moment_s())
        self._freed |= self.limits.per_s.keys() - limits.per_s.keys()
        if limits.group_of != self.limits.group_of or limits.served != self.limits.served:
            self._nowhere_else.clear()
        self._regrouped |= regrouped(self.limits.group_of, limits.group_of)
        self.limits = limits
        self._resources.signals.wake()

    def _moment_s(self) -> float:
        return self._resources.clock.monotonic_s()

    @property
    def _lanes(self) -> dict[str, int]:
        return self._resources.index.totals.lanes()

    def pick(self, owed: Sequence[str], waiting: WaitingEntry) -> Shaped:
        """Those of the recipients that go now; the ceilings count them from now on."""
        turn = None if waiting.booked is None else Turn(*waiting.booked)
        going, self._shaping = recipients_to_send(
            self._shaping, owed, self.limits, self._moment_s(), self._lanes if self.limits.per_s else NO_LANES, turn
        )
        self._counted.pop(waiting.filebase, None)
        if self.limits.per_s:
            self._counted[waiting.filebase] = Counter(self.limits.counted(going.ready))
        return going

    def turn_ended(self, filebase: str) -> None:
        """The turn of an entry is over. What the ceilings counted for it and the MTA was not asked to take goes to others: a
        destination that is banned would otherwise wait for its next probe."""
        if (counted := self._counted.pop(filebase, None)) is not None and (left := +counted):
            self._shaping = given_back(self._shaping, left, self.limits, self._moment_s())

    def counts(self, recipients: Sequence[str], lane: str) -> DomainCounts:
        """How many are in each domain, for the index; all domains that have a ceiling now are counted."""
        limits = self.limits
        always = {*self._domains_of(lane), *self._resources.counted_domains, *limits.per_s, *limits.group_of}
        return domain_counts(recipients, always)

    def in_turn(self, limit: int, busy: Collection[str]) -> Iterator[WaitingEntry]:
        """Entries whose turn it is in a lane, `limit` at most, each to be begun before the next one is asked for.

        busy  entries in delivery
        Entries leave a lane whose destination has no ceiling any more, or is a group that the settings do not have.
        """
        index, moment_s = self._resources.index, self._moment_s()
        self._stand_still = set()
        if self._closed_lists != self._resources.gate.closed_lists:
            self._closed_lists = self._resources.gate.closed_lists
            self._nowhere_else.clear()
        self._let_go_freed()
        self._move_regrouped()
        lanes = self._lanes
        for lane in sorted(
            {*lanes, *self._idle(lanes)}, key=lambda name: due_s(self._shaping, name, self.limits, moment_s)
        ):
            free = room(self._shaping, lane, self.limits, self._moment_s())
            if math.isinf(free) or (lane in self._nowhere and self._is_nowhere(lane, self._resources.settings.feed)):
                index.leave_lane(lane, _MOVED_AT_A_TIME)
                continue
            if free < 1 or limit < 1:
                continue
            found = self._next_in(lane, min(limit, int(free)), busy)
            if not found and lane not in self._nowhere_else and self._take_over(lane):
                found = self._next_in(lane, min(limit, int(free)), busy)
            if found:
                self._nowhere_else.discard(lane)
            else:
                self._nowhere_else.add(lane)
                self._stand_still.add(lane)
            for at, waiting in enumerate(found):
                # All that it owes there, or as much as ever goes at once: many small transactions would cost the others.
                wanted = min(at_once(lane, self.limits), self._of_lane(waiting, lane))
                self._wanted[lane] = wanted
                if free < wanted:
                    self._not_begun(found[at:])
                    break
                turn = Turn(lane, wanted)
                free -= turn.recipients
                limit -= 1
                yield self._with_booking(waiting, turn)

    def _next_in(self, lane: str, limit: int, busy: Collection[str]) -> list[WaitingEntry]:
        resources = self._resources
        named = resources.named_lists
        found = resources.index.order.next_waiting(
            resources.settings.feed.order,
            resources.clock.now_s(),
            resources.gate.closed_lists,
            limit,
            named.priority,
            named.weights,
            lane,
        )
        self._not_begun([waiting for waiting in found if waiting.filebase in busy])
        return [waiting for waiting in found if waiting.filebase not in busy]

    def _not_begun(self, found: Sequence[WaitingEntry]) -> None:
        """Their lists were charged for them when they were found."""
        for waiting in found:
            self._resources.index.order.not_sent(waiting.list_id, waiting.expected, waiting.lane)

    def _idle(self, lanes: Collection[str]) -> list[str]:
        """Destinations that may go, and that somebody in the lane of another one may owe a recipient."""
        per_s = self.limits.per_s
        return [name for name in per_s if per_s[name] and name not in self._nowhere_else] if lanes else []

    def _take_over(self, lane: str) -> int:
        return self._resources.index.take_over(
            self._domains_of(lane), lane, _TAKEN_OVER_AT_A_TIME, self._why_in(lane), self._closed_lists
        )

    def _move_regrouped(self) -> None:
        """Entries that owe a recipient in a domain whose group changed wait in the lane of its destination now: nothing that
        holds the earlier one back holds them any more."""
        for domain in sorted(self._regrouped):
            lane = self.limits.of_domain(domain)
            if self.limits.served.has(domain):
                moved = self._resources.index.take_over(
                    (domain,), lane, _MOVED_AT_A_TIME, self._why_in(lane), with_copies=True
                )
                if moved:
                    self._nowhere_else.clear()
                if moved == _MOVED_AT_A_TIME:
                    return  # the rest of them the next time
            self._regrouped.discard(domain)

    def _let_go_freed(self) -> None:
        """Entries in other lanes go on with recipients whose destination has no ceiling any more."""
        for destination in sorted(self._freed):
            if destination not in self.limits.per_s:
                for domain in self._domains_of(destination):
                    if self._resources.index.leave_lanes_for(domain, _MOVED_AT_A_TIME) == _MOVED_AT_A_TIME:
                        return  # the rest of them the next time
            self._freed.discard(destination)

    def _domains_of(self, destination: str) -> tuple[str, ...]:
        return domains_of(destination, self._resources.settings.feed.domain_groups)

    def _of_lane(self, waiting: WaitingEntry, lane: str) -> int:
        """Recipients that it owes in this destination, at least one."""
        return self._by_destination(waiting)[lane] or max(1, waiting.recipients)

    def _by_destination(self, waiting: WaitingEntry) -> Counter[str]:
        found = Counter[str]()
        for domain, count in waiting.domains:
            found[self.limits.of_domain(domain)] += count
        return found

    def _with_booking(self, waiting: WaitingEntry, turn: Turn) -> WaitingEntry:
        self._shaping = booked(self._shaping, turn, self.limits, self._moment_s())
        self._counted[waiting.filebase] = Counter({turn.destination: turn.recipients})
        return replace(waiting, booked=(turn.destination, turn.recipients))

    def admitted(self, waiting: WaitingEntry) -> WaitingEntry | None:
        """The entry, if its turn may begin; None: all its recipients have to wait, and it is parked."""
        if not self._is_limited(waiting):
            return waiting
        owed, lanes, now_s = self._by_destination(waiting), self._lanes, self._moment_s()
        free = [name for name in owed if name not in lanes and room(self._shaping, name, self.limits, now_s) >= 1]
        if not free:
            lane = first_lane(self._shaping, owed, self.limits, now_s, lanes)
            is_put_off = waiting.due_s is not None and waiting.due_s > self._resources.clock.now_s()
            self.park(waiting.filebase, lane, waiting.domains, waiting.due_s if is_put_off else None)
            return None
        if len(owed) > 1:
            return waiting
        most = int(room(self._shaping, free[0], self.limits, now_s))
        return self._with_booking(waiting, Turn(free[0], min(most, owed[free[0]])))

    def _is_limited(self, waiting: WaitingEntry) -> bool:
        """Whether all its recipients are known to be in destinations with a ceiling, and we are to deliver to them."""
        limits, settings = self.limits, self._resources.settings
        if not limits.per_s or not waiting.domains or waiting.duplicate in _SENT_AT_ONCE:
            return False
        if sum(count for _, count in waiting.domains) < waiting.recipients:
            return False
        if not all(limits.of_domain(domain) in limits.per_s for domain, _ in waiting.domains):
            return False
        flavour = next(iter(self._resources.composers))
        return settings.feed.via == "smtp" and not is_released_list(
            waiting.list_id, flavour, settings.mailman.release_lists
        )

    def park(self, filebase: str, lane: str, domains: DomainCounts, due_s: float | None = None) -> None:
        """It waits in this lane from now on, until `due_s` at the latest. domains: those in which it owes a recipient."""
        self._nowhere_else -= {self.limits.of_domain(domain) for domain, _ in domains}
        self._resources.index.set_state(filebase, EntryState.WAITING, self._why_in(lane), due_s, lane=lane)

    def _why_in(self, lane: str) -> str:
        return f"not served: {lane}" if lane == self.limits.served.otherwise else f"ceiling of {lane}"

    def waiting_unserved(self) -> dict[str, int]:
        """Entries all of whose recipients are in domains that are not served, by list."""
        served = self.limits.served
        return self._resources.index.totals.in_lane(served.otherwise) if served.otherwise else {}

    def next_due_in_s(self) -> float | None:
        """When the next lane has room, seconds from now; None if none will by itself."""
        lanes, now_s = self._lanes, self._moment_s()
        names = {*lanes, *self._idle(lanes)} - self._stand_still
        due = min(
            (due_s(self._shaping, lane, self.limits, now_s, self._wanted.get(lane, 1)) for lane in names),
            default=math.inf,
        )
        return None if math.isinf(due) else due - now_s
