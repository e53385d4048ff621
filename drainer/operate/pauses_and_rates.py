"""The pauses and rates that the operator set: which are in force, and how a change is written down and takes effect.

In    a new OperatorState with its line for the journal
Out   the ledger's copy; then gate, intake, rates and snapshot follow it
Promise   a change is in the ledger before it takes effect
Not here  which change an operator asked for (pausing.py); how one is undone (undo_operator_state.py)
"""

from __future__ import annotations

import asyncio
import dataclasses

from drainer.clock import Clock
from drainer.errors import OperatorStateChanged
from drainer.ledger.actions import NewAction
from drainer.ledger.records import INTAKE, DomainOrder, JournalLine, OperatorState, Pause
from drainer.observe.situation import Situation
from drainer.operate.undo_operator_state import change
from drainer.pipeline import Pipeline


class PausesAndRates:
    """Those in force.

    state  what the ledger holds of them
    turn   held while a new state is made of the one in force: of two at once, the second would undo the first
    """

    def __init__(self, pipeline: Pipeline, situation: Situation, clock: Clock) -> None:
        self.state = OperatorState()
        self.turn = asyncio.Lock()
        self._pipeline = pipeline
        self._situation = situation
        self._clock = clock

    async def decide(self, state: OperatorState, by: str, verb: str, detail: str, reason: str) -> int:
        """Write down what an operator decided, and put it into force. In `turn`. Returns the action's number.

        Raises LedgerNotDurable, OperatorStateChanged: nothing has changed
        """
        now_s = self._clock.now_s()
        action = NewAction(reason, ended_s=now_s, payload=change(self.state, state))
        return await self.write(state, JournalLine(now_s, by, verb, detail), action)

    async def write(self, state: OperatorState, line: JournalLine, action: NewAction | None = None) -> int:
        """As `decide`, with a line of the journal as it is; no action: the service did it by itself.

        state   made of the one in force
        Raises  OperatorStateChanged: another drainer of this ledger was faster; its state is in force now
        """
        ledger = self._pipeline.resources.ledger
        state = dataclasses.replace(state, version=self.state.version + 1)
        try:
            number = await ledger.set_operator_state(state, line, action)
        except OperatorStateChanged:
            self.apply(await ledger.operator_state())
            raise
        self.apply(state)
        return number

    def apply(self, state: OperatorState) -> None:
        """Put pauses and rates into force, which the ledger has already."""
        before, after = ({pause.list_id for pause in one.pauses} for one in (self.state, state))
        if before != after:
            self._situation.record_writer.overtaken("a pause" if after - before else "the end of a pause")
        if self.state.domains != state.domains:
            self._situation.record_writer.overtaken("an order for a domain")
        self.state = state
        self._situation.follow(state)
        resources, in_force = self._pipeline.resources, {pause.list_id: pause for pause in self._in_force(state)}
        self._pipeline.intake.switch(INTAKE not in in_force)
        resources.gate.close_lists(frozenset(name for name in in_force if name not in ("", INTAKE)))
        if everything := in_force.get(""):
            by = f"by {everything.by}" if everything.by else ""
            resources.gate.close("paused", ": ".join(filter(None, [by, everything.reason])))
        else:
            resources.gate.open("paused")
        resources.rate.limit(resources.settings.feed, state.messages_per_s, state.recipients_per_s)
        self._pipeline.domains.follow(state.domains)
        self._pipeline.resources.signals.wake()

    def apply_unended(self, state: OperatorState) -> None:
        """As `apply`, without the pauses whose time is over: the next start would end them."""
        self.apply(dataclasses.replace(state, pauses=self._in_force(state)))

    async def end_pauses(self) -> None:
        """End the pauses whose time is over. In `turn`. Raises LedgerNotDurable."""
        kept, domains = self._in_force(self.state), self._orders_left()
        over = [pause.list_id or "everything" for pause in self.state.pauses if pause not in kept]
        over += [f"domain {order.destination}" for order in self.state.domains if order not in domains]
        if over:
            state = dataclasses.replace(self.state, pauses=kept, domains=domains)
            detail = f"time is over: {', '.join(over)}"
            await self.write(state, JournalLine(self._clock.now_s(), "drainer", "resume", detail))

    def _orders_left(self) -> tuple[DomainOrder, ...]:
        """The orders for domains without the pauses whose time is over; a rate beside one stays."""
        now_s = self._clock.now_s()
        ended = (
            dataclasses.replace(order, paused_until_s=None)
            if order.paused_until_s is not None and order.paused_until_s <= now_s
            else order
            for order in self.state.domains
        )
        return tuple(order for order in ended if order.per_s is not None or order.paused_until_s is not None)

    def _in_force(self, state: OperatorState) -> tuple[Pause, ...]:
        now_s = self._clock.now_s()
        return tuple(pause for pause in state.pauses if pause.until_s is None or pause.until_s > now_s)
