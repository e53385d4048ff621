"""The answers to "when does it end?": for `drainer eta`, the status, the page.

In    Drain: all that is known of a drain at one moment; the question (a rate, a time, a list)
Out   EtaReply; for each list, when it is done
Pure  values only
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from drainer.backlog.work import Work
from drainer.control.messages.finish import EtaReply, ListEta
from drainer.estimate.ceilings import Ceilings
from drainer.estimate.completion import DrainModel
from drainer.estimate.drain_time import (
    CONFIDENCE,
    by_time,
    drain_model,
    drain_model_at,
    drain_time,
    if_resumed,
    recipients_per_message,
    what_if,
)
from drainer.estimate.eta import Eta, ServiceState
from drainer.estimate.forecaster import Forecaster
from drainer.estimate.per_list import ListFinish, ListLeft, list_finishes, not_before_due, share_done
from drainer.estimate.rates import Measured


@dataclass(frozen=True, slots=True)
class Drain:
    """A drain at one moment.

    now_s         seconds since the epoch
    lists         what is left of each, paused ones too
    paused_lists, unserved_lists  by name
    order, priority, weights, has_fresh_lane  of feeding, as the settings say
    """

    work: Work
    seen: Forecaster
    measured: Measured | None
    ceilings: Ceilings
    state: ServiceState
    now_s: float
    lists: Mapping[str, ListLeft]
    paused_lists: frozenset[str]
    order: str
    priority: Sequence[str] = ()
    weights: Mapping[str, float] = field(default_factory=dict)
    has_fresh_lane: bool = False
    unserved_lists: frozenset[str] = frozenset()

    @property
    def eta(self) -> Eta:
        return drain_time(self.work, self.seen, self.ceilings, self.state, self.now_s)

    @property
    def closed_lists(self) -> frozenset[str]:
        return self.paused_lists | self.unserved_lists

    @property
    def if_resumed(self) -> Eta | None:
        """None while nothing is paused, or without a forecast."""
        is_paused = self.state == "paused" or bool(self.paused_lists & self.lists.keys())
        found = if_resumed(self.work, self.seen, self.ceilings, self.now_s) if is_paused else None
        return found if found is not None and found.state in ("draining", "growing") else None

    def list_finishes(self, eta: Eta) -> dict[str, ListFinish]:
        """When each open list is done, if there is a forecast (`eta`) for all of them."""
        if eta.state != "draining":
            return {}
        return self._finishes(drain_model(self.work, self.seen, self.ceilings), self.closed_lists)

    def _finishes(self, model: DrainModel | None, without: frozenset[str]) -> dict[str, ListFinish]:
        lists = {name: left for name, left in self.lists.items() if name not in without}
        shares = share_done(lists, self.order, self.priority, self.weights)
        found = {}
        if model is not None:
            found = list_finishes(shares, model, arrivals_first=self.has_fresh_lane, completion_of=self.seen.completion)
        return not_before_due(found, lists, self.work.retry_wait_s)

    def list_eta(self, name: str, at_recipients_per_s: float | None) -> ListEta:
        """name: one of `lists`."""
        left, eta = self.lists[name], self.eta
        is_paused = name in self.closed_lists
        asked = None
        if at_recipients_per_s is not None:
            overall = what_if(self.work, self.seen, at_recipients_per_s, self.now_s, self.state, self.ceilings)
            model = drain_model_at(self.work, self.seen, at_recipients_per_s, self.ceilings)
            asked = self._of_list(name, overall, self._finishes(model, self.closed_lists - {name}))
        resumed = None
        if (overall_resumed := self.if_resumed) is not None and name not in self.unserved_lists:
            model = drain_model(self.work.resumed, self.seen, self.ceilings.lifted_from_zero)
            resumed = self._of_list(name, overall_resumed, self._finishes(model, self.unserved_lists))
        return ListEta(
            list=name,
            entries=left.entries,
            recipients=left.recipients,
            eta=Eta(state="paused") if is_paused else self._of_list(name, eta, self.list_finishes(eta)),
            paused=is_paused,
            not_served=name in self.unserved_lists,
            what_if=asked,
            if_resumed=resumed,
        )

    def _of_list(self, name: str, overall: Eta, lists: Mapping[str, ListFinish]) -> Eta:
        """A list without a forecast of its own is done when everything is."""
        found = lists.get(name)
        if overall.state != "draining" or found is None:
            return overall
        return Eta(
            state="draining",
            finish=self.now_s + found.seconds,
            seconds=found.seconds,
            low_s=found.low_s,
            high_s=found.high_s,
            confidence=CONFIDENCE,
        )


def answer(drain: Drain, at_recipients_per_s: float | None, by_s: float | None, list_name: str) -> EtaReply:
    """list_name: one of drain.lists, or "" for none. by_s: seconds since the epoch."""
    measured, seen = drain.measured, drain.seen
    reply = EtaReply(
        eta=drain.eta,
        backlog_recipients=drain.work.recipients + drain.work.paused_recipients + drain.work.unserved_recipients,
        not_served_recipients=drain.work.unserved_recipients,
        unread_entries=drain.work.unread_entries,
        if_resumed=drain.if_resumed,
        shown_recipients_per_s=measured.fastest_recipients_per_s if measured else None,
        sustained_recipients_per_s=measured.sustained_recipients_per_s if measured else None,
        list=drain.list_eta(list_name, at_recipients_per_s) if list_name else None,
    )
    if at_recipients_per_s is not None:
        asked = what_if(drain.work, seen, at_recipients_per_s, drain.now_s, drain.state, drain.ceilings)
        reply = reply.model_copy(update={"what_if": asked})
    if by_s is not None:
        found = by_time(drain.work, seen, drain.ceilings, by_s - drain.now_s, reply.sustained_recipients_per_s)
        needed = found.needed_recipients_per_s
        per_message, left = recipients_per_message(drain.work, seen), float(drain.work.recipients)
        allowed = drain.ceilings.most_by(max(0.0, by_s - drain.now_s), per_message, left)
        short = drain.ceilings.short_of(needed or 0.0, per_message)
        reply = reply.model_copy(
            update={
                "by": by_s,
                "needed_recipients_per_s": needed,
                "chance": found.chance,
                "verdict": found.feasibility,
                "schedule_allows_recipients": None if math.isinf(allowed) else int(min(allowed, left)),
                "raise_messages_per_s": short.messages_per_s,
                "raise_recipients_per_s": short.recipients_per_s,
            }
        )
    return reply
