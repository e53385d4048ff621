"""What earlier runs sent counts against the caps, also while the clock is wrong, and after it was set.

In    what the ledger counted by its dates (ledger/sent_rows.py), open handovers; the clock, and that it was set
Out   the throttle's account, complete; the ledger's dates, right for the next run
Not here  how a clock that was set is noticed (rounds/clock_jumps.py)

Within a run the throttle counts by a clock that never jumps. Over a restart only dates are left. A row that is dated ahead
was written while the clock was ahead: it counts as of now, and is dated so, or it would count as of now at each restart. A
run that starts while the clock is ahead takes what was sent for older than it is: once the clock is set back, that counts
anew, by its age then. A clock that is set forward makes nothing older: it may be wrong.
"""

from __future__ import annotations

import contextlib
import math
from collections import Counter

from drainer.errors import LedgerNotDurable
from drainer.schedule.caps import DAY_S, GRAIN_S
from drainer.stages.resources import Resources
from drainer.via_mailman.open_handovers import OpenHandovers


class SentBefore:
    """`recover` before anything is sent; the others when the clock was set."""

    def __init__(self, resources: Resources, at_mailman: OpenHandovers) -> None:
        self._resources = resources
        self._at_mailman = at_mailman
        self._counted_from_s = math.inf
        self._sent: list[tuple[float, int]] = []
        self._ahead_s = math.inf

    async def recover(self) -> None:
        """Once it is known what Mailman has still in hands."""
        self._counted_from_s, sent = await self._within_a_day()
        now_s = self._resources.clock.now_s()
        self._sent = [(min(at_s, now_s), recipients) for at_s, recipients in self._without_open_handovers(sent)]
        self._ahead_s = self._clock_ahead_s()
        self._count()
        # Rows ahead count as of now in any case. Not dated so, they do once more at the next start.
        with contextlib.suppress(LedgerNotDurable):
            await self._resources.ledger.redate_sent(self._resources.clock.now_s())

    async def clock_was_set_back(self) -> None:
        """Raises LedgerNotDurable; then nothing has changed."""
        from_s, sent = await self._within_a_day()
        await self._resources.ledger.redate_sent(self._resources.clock.now_s())
        self._sent[:0] = [(at_s, recipients) for at_s, recipients in sent if at_s < self._counted_from_s]
        self._counted_from_s = min(from_s, self._counted_from_s)
        if (ahead_s := self._clock_ahead_s()) < self._ahead_s:
            self._ahead_s = ahead_s
            self._count()

    async def clock_was_set_forward(self, by_s: float) -> None:
        """Raises LedgerNotDurable; then nothing has changed."""
        await self._resources.ledger.redate_sent(self._resources.clock.now_s(), by_s)

    def _without_open_handovers(self, sent: list[tuple[float, int]]) -> list[tuple[float, int]]:
        """Mailman may send to those at any moment until it is done: they count until then, and from then on."""
        left = dict(sent)
        recipients = Counter[str]()
        for handover in self._at_mailman.all:
            recipients[handover.mark.name] += len(handover.recipients)
            at_s = handover.at_s // GRAIN_S * GRAIN_S
            left[at_s] = max(0, left.get(at_s, 0) - len(handover.recipients))
        for name, number in recipients.items():
            self._at_mailman.keep(name, self._resources.throttle.begun_before(number))
        return sorted(left.items())

    async def _within_a_day(self) -> tuple[float, list[tuple[float, int]]]:
        """From which date on, and what was sent since then."""
        from_s = (self._resources.clock.now_s() - DAY_S - GRAIN_S) // GRAIN_S * GRAIN_S
        return from_s, await self._resources.ledger.sent_since(from_s)

    def _clock_ahead_s(self) -> float:
        """Of the monotonic one."""
        return self._resources.clock.now_s() - self._resources.clock.monotonic_s()

    def _count(self) -> None:
        """By the time that the clock would show now if it had always been as little ahead as it ever was in this run."""
        now_s = self._resources.clock.monotonic_s() + self._ahead_s
        self._resources.throttle.restore([(now_s - at_s - GRAIN_S, recipients) for at_s, recipients in self._sent])
