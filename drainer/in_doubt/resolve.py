"""Recipients in doubt: asks the MTA's log as the policy says, and writes the decision to the ledger.

In    attempts that the ledger has open or in doubt, of this queue
Out   the same attempts moved to DELIVERED, PENDING (to be sent again) or HELD, each with a log line; its entry is woken
Not here  what the answers mean (in_doubt/policy.py), reading the log (mta_log/file.py)

A log that cannot say yet is asked again until `ledger.in_doubt_wait` is over: the MTA may still work on the mail, and "no"
needs a line later than the attempt. Only then the fallback applies.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Sequence

from drainer.backlog.signals import Signals
from drainer.backlog.waiters import Waiters
from drainer.clock import Clock
from drainer.errors import LedgerNotDurable, MtaLogUnreadable
from drainer.in_doubt.policy import Ask, Resolution, asking, resolutions
from drainer.ledger.contract import Ledger
from drainer.ledger.records import AttemptId, OpenAttempt
from drainer.ledger.states import State
from drainer.mta_log.search import LogSearch
from drainer.settings import Settings
from drainer.text.logfmt import logfmt
from drainer.via_mailman.whereabouts import handover_mark

log = logging.getLogger("drainer")

ASK_EVERY_S = 2.0
READING_SHARE = 5.0
"""The pause between two readings of the log, as a multiple of the time one took: a log may have many gigabytes."""


class InDoubt:
    """One task. It works when `signals.doubt` is set: an attempt has just gone in doubt.

    waiters  the entries to look at again as soon as a doubt is resolved
    """

    def __init__(self, settings: Settings, ledger: Ledger, clock: Clock, signals: Signals, waiters: Waiters) -> None:
        self._settings = settings
        self._ledger = ledger
        self._clock = clock
        self._signals = signals
        self._waiters = waiters
        self._since_s: dict[AttemptId, float] = {}
        self._search = LogSearch()

    async def recover(self) -> None:
        """At start, before anything is sent: attempts that an earlier run left open are in doubt now."""
        for attempt in await self._ledger.unresolved_attempts():
            # An entry handed over to Mailman is still there or can be found again: via_mailman/follow.py does it.
            if attempt.state is State.ATTEMPTING and handover_mark(attempt.reverse_path) is None:
                why = "the service ended before the outcome was written"
                await self._ledger.resolve(attempt.attempt_id, State.IN_DOUBT, why, self._clock.now_s())
                log.warning(_line(attempt, State.IN_DOUBT, why))

    async def recipients(self) -> int:
        """How many are in doubt now."""
        return sum(len(attempt.recipients) for attempt in await self._doubtful())

    def reconfigure(self, settings: Settings) -> None:
        """Settings read again."""
        self._settings = settings

    async def run(self) -> None:
        """For ever: resolve what can be resolved."""
        while True:
            self._signals.doubt.clear()
            began_s = self._clock.monotonic_s()
            doubtful = await self._doubtful()
            if doubtful:
                with contextlib.suppress(LedgerNotDurable):
                    await self._resolve(doubtful)
            again_s = max(ASK_EVERY_S, READING_SHARE * (self._clock.monotonic_s() - began_s))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(again_s if doubtful else None):
                    await self._signals.doubt.wait()

    async def _doubtful(self) -> list[OpenAttempt]:
        return [a for a in await self._ledger.unresolved_attempts() if a.state is State.IN_DOUBT]

    async def _resolve(self, doubtful: Sequence[OpenAttempt]) -> None:
        policy = self._settings.ledger
        now_s = self._clock.monotonic_s()
        ask: Ask | None = None
        unreadable = ""
        if policy.in_doubt == "ask":
            try:
                ask = await self._log(doubtful)
            except MtaLogUnreadable as exc:
                unreadable = str(exc)
        for resolution in resolutions(doubtful, policy.in_doubt, policy.in_doubt_fallback, ask, unreadable):
            attempt = resolution.attempt
            since_s = self._since_s.setdefault(attempt.attempt_id, now_s)
            if not resolution.final and now_s - since_s < policy.in_doubt_wait:
                continue
            await self._write(resolution)
            self._since_s.pop(attempt.attempt_id, None)

    async def _log(self, doubtful: Sequence[OpenAttempt]) -> Ask | None:
        """None: no log is configured. Raises MtaLogUnreadable"""
        where = self._settings.mta.log_file
        if where is None:
            return None
        from_s = min(attempt.at_s for attempt in doubtful)
        message_ids = {attempt.message_id for attempt in doubtful}
        return asking(await self._search.evidence(where, from_s, self._clock.now_s(), message_ids))

    async def _write(self, resolution: Resolution) -> None:
        attempt = resolution.attempt
        for state in resolution.steps:
            await self._ledger.resolve(attempt.attempt_id, state, resolution.why, self._clock.now_s())
        log.warning(_line(attempt, resolution.outcome, resolution.why))
        self._waiters.wake(attempt.filebase)


def _line(attempt: OpenAttempt, outcome: State, why: str) -> str:
    return logfmt(
        outcome="in_doubt" if outcome is State.IN_DOUBT else f"in_doubt_{_WORDS[outcome]}",
        filebase=attempt.filebase,
        list=attempt.list_id,
        message_id=attempt.message_id,
        recipients=attempt.recipients,
        why=why,
    )


_WORDS = {State.DELIVERED: "delivered", State.PENDING: "resend", State.HELD: "held"}
