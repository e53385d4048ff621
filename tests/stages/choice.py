"""The feed's choice among entries for domains with a ceiling, in virtual time: what it begins is read at once, and sent."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from typing import Any, cast

from drainer.backlog.index import BacklogIndex
from drainer.backlog.states import EntryState
from drainer.backlog.values import Description, WaitingEntry
from drainer.clock import StoppedClock
from drainer.queuedir.domains import domain_counts
from drainer.queuedir.entry import Flavour
from drainer.settings import Settings
from drainer.stages.domain_ceilings import DomainCeilings
from drainer.stages.domain_paces import DomainPaces
from drainer.stages.resources import Resources
from tests.backlog.entries import described, listed


class Gate:
    closed_lists: frozenset[str] = frozenset()


class Choice:
    """owed          what each entry still owes, by its name
    reads         how often each was begun; transactions: of these, how often somebody was sent to
    sent          recipients, by domain
    """

    def __init__(
        self, ceilings: Mapping[str, float], owed: Mapping[str, list[str]], counted: Collection[str] = ()
    ) -> None:
        """ceilings: recipients per second; counted: domains that are counted in every entry, few recipients or many."""
        self.clock, self.gate, self.index = StoppedClock(), Gate(), BacklogIndex(cast(Any, ":memory:"))
        unused = cast(Any, None)
        self.resources = Resources(
            settings_of(ceilings), self.clock, unused, self.index, unused, {Flavour.MAILMAN2: unused}, unused,
            unused, unused, cast(Any, self.gate), unused,
        )  # fmt: skip
        self.domains = DomainCeilings(self.resources, DomainPaces(self.resources))
        self.owed: dict[str, list[str]] = {}
        self.reads, self.transactions, self.sent = Counter[str](), Counter[str](), Counter[str]()
        self.arrive(owed, counted)

    def arrive(self, owed: Mapping[str, list[str]], counted: Collection[str] = (), **summary: Any) -> None:
        """summary: more of each entry, such as identity."""
        self.owed |= {name: [*recipients] for name, recipients in owed.items()}
        self.index.add_listed(listed(*owed))
        self.index.describe(
            [
                Description(
                    described(name, recipients=len(recipients), **summary).summary,
                    domains=domain_counts(recipients, counted),
                )
                for name, recipients in owed.items()
            ]
        )

    def set(self, ceilings: Mapping[str, float]) -> None:
        self.reload(settings_of(ceilings))

    def reload(self, settings: Settings) -> None:
        self.resources.settings = settings
        self.domains.reconfigure(settings)

    def step(self, seconds: float, room: int) -> int:
        """Time goes by, and the MTA takes so many entries. Returns how many were begun."""
        self.clock.advance(seconds)
        begun = 0
        for waiting in self.domains.in_turn((room + 1) // 2, ()):
            self._turn(waiting)
            begun += 1
        closed = self.gate.closed_lists
        while begun < room and (found := self._next(closed, room - begun)):
            for waiting in found:
                if (admitted := self.domains.admitted(waiting)) is not None:
                    self._turn(admitted)
                    begun += 1
        return begun

    def _next(self, closed_lists: frozenset[str], limit: int) -> list[WaitingEntry]:
        return list(self.index.order.next_waiting("oldest", self.clock.now_s(), closed_lists, limit))

    def _turn(self, waiting: WaitingEntry) -> None:
        name = waiting.filebase
        self.reads[name] += 1
        self.index.set_state(name, EntryState.ACTIVE)
        going = self.domains.pick(self.owed[name], waiting)
        self.sent.update(address.partition("@")[2] for address in going.ready)
        self.transactions[name] += bool(going.ready)
        self.owed[name] = list(going.later)
        if not going.later:
            self.index.remove(name)
            return
        counts = self.domains.counts(going.later, going.lane)
        self.index.set_owed(name, len(going.later), counts)
        self.domains.park(name, going.lane, counts)


def settings_of(ceilings: Mapping[str, float]) -> Settings:
    return Settings.model_validate({"feed": {"domains": {name: f"{per_s}/s" for name, per_s in ceilings.items()}}})
