"""A known outcome on its way into a ledger that may refuse it: written again and again until it is durable.

In    the writes of one transaction; a cancellation of whoever waits for them
Out   all of them durable, or the error that ended it
Not here  what is written (deliver.py)

A ledger that takes the write at once, which is nearly always, costs one callback; only one that refuses costs a task.
"""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol, TypeVar

from drainer.errors import LedgerNotDurable
from drainer.ledger.evidence import Finish
from drainer.ledger.records import AttemptId, MessageRecord, NewAttempt, NewDsn, Outcome
from drainer.ledger.states import State
from drainer.text.logfmt import logfmt

log = logging.getLogger(__name__)

LEDGER_RETRY_FIRST_S = 0.25
LEDGER_RETRY_LONGEST_S = 5.0
_TRIES_WHEN_STOPPING = 3

T = TypeVar("T")

Write = Callable[[], Awaitable[None]]
"""Makes a write. It is under way, or will be once it is awaited; it is done when it is durable."""


class Attempts(Protocol):
    """Where one transaction is written: for mail, the ledger itself (ledger/contract.py has the promises)."""

    def begin_attempt(self, attempt: NewAttempt) -> Awaitable[AttemptId]: ...

    def close_attempt(
        self,
        attempt_id: AttemptId,
        state: State,
        reply: str,
        at_s: float,
        dsns: Sequence[NewDsn] = (),
        *,
        finish: Finish | None = None,
    ) -> Awaitable[None]: ...

    def record(
        self,
        filebase: str,
        message: MessageRecord,
        outcomes: Sequence[Outcome],
        dsns: Sequence[NewDsn] = (),
        *,
        finish: Finish | None = None,
    ) -> Awaitable[None]: ...


def begun(write: Awaitable[T]) -> asyncio.Future[T]:
    """The write as a future. A ledger that returns one saves a task."""
    return asyncio.ensure_future(write)


class OutcomeWrites:
    """The writes of one transaction: `begin` once; `cancelled` at each cancellation that has to wait for them."""

    def __init__(
        self, message_id: str, on_refusal: Callable[[LedgerNotDurable], None], is_stopping: Callable[[], bool]
    ) -> None:
        """message_id  for the log
        on_refusal, is_stopping  as deliver() has them
        """
        self._message_id = message_id
        self._on_refusal = on_refusal
        self._is_stopping = is_stopping
        self._is_cancelled = False
        self._cancellation: asyncio.Event | None = None
        self._retries: list[asyncio.Future[None]] = []
        self._left = 0

    def begin(
        self, writes: Sequence[Write], outcomes: Sequence[Outcome], then: Callable[[BaseException | None], None]
    ) -> None:
        """Make these writes, all at once, so that they go into one commit.

        outcomes  what they write, for the log
        then      called once: with None when all are durable; with the first error that is not mended by writing again
                  (LedgerNotDurable only when the service stops; the log has the outcomes then)
        """
        self._left = len(writes)
        if not writes:
            then(None)
        for write in writes:
            first = begun(write())
            first.add_done_callback(functools.partial(self._tried, write, outcomes, then))

    def cancelled(self) -> None:
        self._is_cancelled = True
        if self._cancellation is not None:
            self._cancellation.set()

    def _tried(
        self,
        write: Write,
        outcomes: Sequence[Outcome],
        then: Callable[[BaseException | None], None],
        first: asyncio.Future[None],
    ) -> None:
        ended = functools.partial(self._ended, then)
        if not first.cancelled() and isinstance(refusal := first.exception(), LedgerNotDurable):
            again = begun(self._until_durable(write, refusal, outcomes))
            self._retries.append(again)
            again.add_done_callback(ended)
        else:
            ended(first)

    def _ended(self, then: Callable[[BaseException | None], None], write: asyncio.Future[None]) -> None:
        error = asyncio.CancelledError() if write.cancelled() else write.exception()
        if self._left <= 0:
            return  # the error of another one was said
        self._left = self._left - 1 if error is None else 0
        if self._left == 0:
            then(error)

    async def _until_durable(self, write: Write, refusal: LedgerNotDurable, outcomes: Sequence[Outcome]) -> None:
        """Write again, after a refusal. Nothing else is sent meanwhile: every attempt fails on the same ledger."""
        wait_s = LEDGER_RETRY_FIRST_S
        tries_left = _TRIES_WHEN_STOPPING
        while True:
            self._on_refusal(refusal)
            stopping = self._is_cancelled and self._is_stopping()
            tries_left -= stopping
            if tries_left <= 0:
                for outcome in outcomes:
                    log.critical(
                        logfmt(
                            outcome=outcome.state, not_in_ledger="yes", message_id=self._message_id,
                            recipients=outcome.recipients, reply=outcome.reply,
                        )
                    )  # fmt: skip
                raise refusal
            log.error(logfmt(event="outcome_not_written", next_try_s=wait_s, detail=refusal))
            await self._pause(LEDGER_RETRY_FIRST_S if stopping else wait_s)
            wait_s = min(2 * wait_s, LEDGER_RETRY_LONGEST_S)
            try:
                await write()
            except LedgerNotDurable as exc:
                refusal = exc
            else:
                return

    async def _pause(self, seconds: float) -> None:
        """Sleep; a cancellation that comes meanwhile ends it early, one that came before does not."""
        if self._is_cancelled:
            await asyncio.sleep(seconds)
            return
        self._cancellation = self._cancellation or asyncio.Event()
        try:
            await asyncio.wait_for(self._cancellation.wait(), seconds)
        except TimeoutError:
            return
