"""The system's clock was set: waiting entries, pauses and DSNs do not wait longer because of that, and what caps count is
neither forgotten nor counted for longer.

In    wall clock and monotonic clock, compared each second
Out   times moved back with the clock, and a line in the journal
"""

from __future__ import annotations

import dataclasses
import logging

from drainer.clock import Clock
from drainer.ledger.records import JournalLine
from drainer.observe.situation import Situation
from drainer.operate.pauses_and_rates import PausesAndRates
from drainer.pipeline import Pipeline
from drainer.text.logfmt import logfmt
from drainer.text.wording import duration

log = logging.getLogger("drainer")

CLOCK_JUMP_S = 2.0
"""A clock set back by less is only being corrected."""


class ClockJumps:
    """`follow` each second."""

    def __init__(self, pipeline: Pipeline, situation: Situation, limits: PausesAndRates, clock: Clock) -> None:
        self._pipeline = pipeline
        self._situation = situation
        self._limits = limits
        self._clock = clock
        self._ahead_s = clock.now_s() - clock.monotonic_s()

    async def follow(self) -> None:
        """In the turn of PausesAndRates. Raises LedgerNotDurable; the next call tries again."""
        jump_s = self._clock.now_s() - self._clock.monotonic_s() - self._ahead_s
        if jump_s < -CLOCK_JUMP_S:
            await self._set_back(-jump_s)
            return
        if jump_s > CLOCK_JUMP_S:
            # What is due now would be looked at only after the time it still had to wait.
            self._pipeline.resources.signals.wake()
            await self._pipeline.sent_before.clock_was_set_forward(jump_s)
        self._ahead_s += max(0.0, jump_s)

    async def _set_back(self, by_s: float) -> None:
        """What waits for a moment gets an earlier one. (After a clock was set forward it waits less, which is harmless.)"""
        pauses = tuple(pause.set_back(by_s) for pause in self._limits.state.pauses)
        domains = tuple(order.set_back(by_s) for order in self._limits.state.domains)
        state = dataclasses.replace(self._limits.state, pauses=pauses, domains=domains)
        detail = f"was set back by {duration(by_s)}: deferrals and pauses end as if it had not been"
        log.warning(logfmt(event="clock", detail=detail))
        line = JournalLine(self._clock.now_s(), "drainer", "clock", detail)
        await self._pipeline.sent_before.clock_was_set_back()
        await self._limits.write(state, line)
        self._ahead_s -= by_s
        self._pipeline.clock_was_set_back(by_s)
        self._situation.clock_was_set_back()
