"""Is the MTA believed? An MTA that refuses everybody refuses for reasons of its own, not because of the recipients.

In    what the MTA answered to each mail (`heard`); an operator who says that it is right again (`trust_again`)
Out   feeding stopped under the reason REFUSALS; whether a failure is believed, so that a DSN may go out; failures kept
      while they may be reversed (stages/reversible_failures.py)
Not here  how many refusals are too many (feed/refusals.py); the DSNs themselves (stages/bounces.py)

The only owner of this question: settling asks it before an entry goes off the disk, bounces before a DSN goes out.
"""

from __future__ import annotations

import logging
import math

from drainer.feed.refusals import Refusals, is_believed
from drainer.feed.transaction import Transaction
from drainer.ledger.states import State
from drainer.stages.background import Background
from drainer.stages.resources import Resources
from drainer.stages.reversible_failures import ReversibleFailures
from drainer.text.logfmt import logfmt

log = logging.getLogger("drainer")

REFUSALS = "refusals"
"""The gate's reason while the MTA refuses everybody: until an operator resumes, or the service restarts."""


class MtaTrust:
    """distrusted  why the MTA was distrusted last, as long as failures of that time may owe DSNs; "" otherwise"""

    def __init__(self, resources: Resources, failures: ReversibleFailures) -> None:
        self._resources = resources
        self._failures = failures
        self._background = Background()
        self._refusals = Refusals()
        self._accepted_at_s: float | None = None
        self._distrusted_since_s = math.inf
        self._trusted_again_s = math.inf
        self.distrusted = ""

    @property
    def is_doubted(self) -> bool:
        """Recipients that fail now may fail because of the MTA."""
        return self._has_stopped or self._refusals.are_doubtful

    @property
    def _has_stopped(self) -> bool:
        return REFUSALS in self._resources.gate.reasons

    def heard(self, filebase: str, transaction: Transaction) -> None:
        """The outcome of one transaction, once the ledger has it."""
        if transaction.has(State.DELIVERED, State.IN_DOUBT):
            self._accepted_at_s = self._resources.clock.now_s()
        self._refusals.heard(filebase, transaction.outcomes, transaction.message_refused)
        if self._has_stopped or not transaction.outcomes:
            return
        if self._refusals.are_too_many:
            self._distrust()
        elif self._failures.entries and not self._refusals.are_doubtful:
            self._background.begin(self._failures.believe())

    def _distrust(self) -> None:
        """Stop feeding. What the MTA said of recipients since it last accepted one is not believed."""
        self.distrusted = self._refusals.text()
        self._distrusted_since_s, self._trusted_again_s = self._refusals.doubtful_since_s, math.inf
        log.error(logfmt(event="stopped", reason=self.distrusted))
        self._resources.gate.close(REFUSALS, self.distrusted)
        self._background.begin(self._failures.stop(self._distrusted_since_s))
        self._resources.signals.owing.set()

    def believes(self, failed_at_s: float, quiet_s: float, nothing_waits: bool) -> bool:
        """Whether a recipient that failed then is to blame for it (feed/refusals.py, is_believed).

        quiet_s        seconds since anybody failed
        nothing_waits  no entry is left that could prove the contrary
        """
        wait_s = self._resources.settings.feed.dsn_wait
        most_domains = self._refusals.of_most_domains
        return is_believed(failed_at_s, self._accepted_at_s, quiet_s, wait_s, nothing_waits, most_domains)

    @property
    def disbelieved_since_s(self) -> float:
        """Failures since then are not believed, while `distrusted` says why: since the last acceptance, or since the MTA
        is doubted."""
        return -math.inf if self._accepted_at_s is None else min(self._accepted_at_s, self._distrusted_since_s)

    def is_disbelieved(self, failed_at_s: float) -> bool:
        """Whether a failure of that time is not believed, while `distrusted` says why. Those since an operator has put the
        MTA right are."""
        return self.disbelieved_since_s <= failed_at_s <= self._trusted_again_s

    def disbelief_is_settled(self) -> None:
        """The DSNs of failures that are not believed have been dropped."""
        if not self._has_stopped:
            self.distrusted = ""

    def clock_was_set_back(self, by_s: float) -> None:
        """An acceptance before that proves nothing of a failure now, though by the clock the failure comes earlier."""
        if self._accepted_at_s is not None:
            self._accepted_at_s -= by_s

    async def trust_again(self) -> int | None:
        """An operator says that the MTA may be tried again after it refused everybody.

        Returns  how many entries are tried again that failed for it; None if feeding had not stopped for it
        """
        if not self._has_stopped:
            return None
        entries = await self._failures.try_again(self._refusals.doubtful_since_s)
        self._trusted_again_s = self._resources.clock.now_s()
        self._refusals = Refusals()
        self._resources.gate.open(REFUSALS)
        # The failures of before stay unbelieved: their DSNs are dropped first (stages/bounces.py).
        self._resources.signals.owing.set()
        self._resources.signals.wake()
        return entries
