"""The throttle's permission for one transaction, and what became of it: hourly and daily caps count by that.

In    how many recipients may go; the attempt, when it is opened
Out   the account of the caps, kept right whatever happens in between
Not here  when permission is given (throttle.py); what a cap allows (schedule/caps.py)

Recipients are reserved when permission is given, and count until the transaction has ended. Then those that an attempt was
opened for count from that moment, and the others not at all. So whenever the MTA counts them, no window holds too many.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable, Sequence
from types import TracebackType

from drainer.feed.outcome_writes import Attempts, begun
from drainer.ledger.evidence import Finish
from drainer.ledger.records import AttemptId, MessageRecord, NewAttempt, NewDsn, Outcome
from drainer.ledger.states import State


class Permit:
    """recipients: how many may go. Leaving the block, or `end`, says that the transaction is over."""

    def __init__(self, recipients: int, on_end: Callable[[int, int], None]) -> None:
        """on_end  called once, with the recipients reserved and those sent to"""
        self.recipients = recipients
        self._on_end: Callable[[int, int], None] | None = on_end
        self._sent = 0

    def sent(self, recipients: int) -> None:
        """So many are about to be sent to; fewer than nothing: they were not, after all."""
        self._sent += recipients

    def end(self) -> None:
        if self._on_end is not None:
            self._on_end(self.recipients, self._sent)
            self._on_end = None

    async def counted(self, recipients: int, opening: Awaitable[AttemptId]) -> AttemptId:
        """An attempt at so many recipients, of which this permit counts them."""
        self.sent(recipients)
        try:
            return await opening
        except BaseException:
            self.sent(-recipients)
            raise

    def counting(self, attempts: Attempts) -> Attempts:
        """The same place to write attempts to; this permit counts them."""
        return _Counted(attempts, self)

    def __enter__(self) -> Permit:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()


class _Counted:
    """Attempts, as deliver() writes them."""

    def __init__(self, attempts: Attempts, permit: Permit) -> None:
        self._attempts = attempts
        self._permit = permit

    def begin_attempt(self, attempt: NewAttempt) -> Awaitable[AttemptId]:
        recipients = len(attempt.recipients)
        self._permit.sent(recipients)
        opening = begun(self._attempts.begin_attempt(attempt))
        opening.add_done_callback(functools.partial(self._is_opened, recipients))
        return opening

    def _is_opened(self, recipients: int, opening: asyncio.Future[AttemptId]) -> None:
        if opening.cancelled() or opening.exception() is not None:
            self._permit.sent(-recipients)

    def close_attempt(
        self,
        attempt_id: AttemptId,
        state: State,
        reply: str,
        at_s: float,
        dsns: Sequence[NewDsn] = (),
        *,
        finish: Finish | None = None,
    ) -> Awaitable[None]:
        return self._attempts.close_attempt(attempt_id, state, reply, at_s, dsns, finish=finish)

    def record(
        self,
        filebase: str,
        message: MessageRecord,
        outcomes: Sequence[Outcome],
        dsns: Sequence[NewDsn] = (),
        *,
        finish: Finish | None = None,
    ) -> Awaitable[None]:
        return self._attempts.record(filebase, message, outcomes, dsns, finish=finish)
