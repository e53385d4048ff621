"""DSNs to reverse-paths: owed in the ledger since their recipients failed, sent through the MTA, each once.

In    what the ledger owes; what the MTA answered to mail (`heard`), and that it refuses everybody (`distrust`)
Out   DSNs sent under the same rate, sessions and pauses as mail; every one settled in the ledger as SENT or DROPPED
Not here  what a DSN says (feed/dsn.py); when a failure is to be believed (feed/refusals.py)

A bounce too many may cost a member the subscription, one too few costs a list an address that goes on bouncing: so where
it is not known whether a DSN went out, it is not sent again, unless the MTA's log says that it has none.

INVARIANT begun-before-DATA: a DSN is SENDING on disk before its content is sent.
  Crash before: it is OWED still and goes out after the restart; the MTA saw MAIL and RCPT only.
  Crash after:  it is found SENDING, so IN_DOUBT: asked about in the MTA's log; DROPPED, journalled, where that cannot say.
  Held by tests/crash/test_dsns.py.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import math
from collections.abc import Sequence

from drainer.clock import Clock
from drainer.errors import HaltError, IllegalTransition, LedgerNotDurable, MtaError, MtaLogUnreadable
from drainer.feed.deliver import Transaction, deliver
from drainer.feed.dsn import dsn_message, message_id
from drainer.feed.refusals import Refusals, is_believed
from drainer.feed.retry import retry_delay_s, waited_s
from drainer.feed.session import own_name
from drainer.ledger.records import JournalLine, MessageRecord, NewAttempt, NewDsn, Outcome, OwedDsn
from drainer.ledger.states import DsnState, State
from drainer.mta_log.answer import Answer, MtaEvidence
from drainer.mta_log.file import read_mta_log
from drainer.stages.parts import Parts, Standing
from drainer.stages.settle import LOOK_AGAIN_S
from drainer.text.logfmt import logfmt

log = logging.getLogger("drainer")

_ALL = 1_000_000
READ_AT_ONCE = 100
SENT_AT_ONCE = 4
"""One whose reply is withheld must not keep the others waiting."""
LOOK_EVERY_S = 1.0
"""How often is looked whether owed DSNs may go, or doubts can be resolved, when nothing tells."""


class Bounces:
    """`recover` before anything is sent, `run` for ever."""

    def __init__(self, parts: Parts, standing: Standing) -> None:
        self._parts = parts
        self._standing = standing
        self._sending: dict[int, asyncio.Task[bool]] = {}
        self._broken: list[tuple[OwedDsn, BaseException]] = []
        self._accepted_at_s: float | None = None
        self._distrusted = ""
        self._distrusted_since_s = math.inf
        self._quiet = Quiet(parts.clock)
        self.refusals = Refusals()
        self._doubtful_since_s: dict[int, float] = {}

    async def recover(self) -> None:
        """What was being sent when an earlier run died is in doubt now."""
        ledger, now_s = self._parts.ledger, self._parts.clock.now_s()
        if owed := await ledger.dsns(DsnState.OWED, _ALL):
            # Where the clock was set back meanwhile, they would wait for that as well.
            longest_s = self._parts.settings.feed.retry_longest
            self._standing.set_back_s = max(0.0, owed[-1].due_s - now_s - longest_s)
        while cut_short := await ledger.dsns(DsnState.SENDING, READ_AT_ONCE):
            await ledger.move_dsns([dsn.dsn_id for dsn in cut_short], DsnState.IN_DOUBT, now_s)
            for dsn in cut_short:
                _say("dsn_in_doubt", dsn, "the service ended before the outcome was written")
        self._standing.owing.set()

    def heard(self, transaction: Transaction) -> None:
        """What the MTA said to a mail: somebody accepted proves that it does not refuse for reasons of its own."""
        if transaction.recipients(State.DELIVERED) or transaction.recipients(State.IN_DOUBT):
            self._accepted_at_s = self._parts.clock.now_s()
        if transaction.recipients(State.FAILED):
            self._standing.owing.set()

    def clock_was_set_back(self, by_s: float) -> None:
        """What was accepted before proves nothing of what fails now, though the clock says that this is earlier."""
        self._standing.set_back_s += by_s
        if self._accepted_at_s is not None:
            self._accepted_at_s -= by_s

    def distrust(self, why: str) -> None:
        """The MTA refuses everybody: what it said of recipients since it last accepted one is not believed."""
        self._distrusted = why
        self._distrusted_since_s = self.refusals.doubtful_since_s
        for task in self._sending.values():
            task.cancel()
        self._standing.owing.set()

    def trust_again(self) -> None:
        """An operator lets feeding go on. The failures of before stay unbelieved: `run` drops them first."""
        self._standing.owing.set()

    async def run(self) -> None:
        """For ever. Cancelled, it returns once what is past its envelope is finished."""
        try:
            while True:
                self._standing.owing.clear()
                wait_s: float | None = LOOK_EVERY_S
                with contextlib.suppress(LedgerNotDurable):
                    wait_s = await self._turn()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(wait_s):
                        await self._standing.owing.wait()
        finally:
            for task in self._sending.values():
                task.cancel()
            await asyncio.gather(*self._sending.values(), return_exceptions=True)

    async def _turn(self) -> float | None:
        """Do what can be done now. Returns how long to wait for news then; None: as long as it takes."""
        parts = self._parts
        ledger, feed, now_s = parts.ledger, parts.settings.feed, parts.clock.now_s()
        while self._broken:
            await self._put_off(*self._broken.pop())
        if self._distrusted:
            await self._drop_unbelieved()
        if doubtful := await ledger.dsns(DsnState.IN_DOUBT, READ_AT_ONCE):
            await self._resolve(doubtful)
        backlog = await ledger.dsn_backlog()
        if not backlog.owed:
            return None
        if not feed.dsn:
            await self._drop_all("feed.dsn is off")
            return LOOK_EVERY_S
        room = SENT_AT_ONCE - len(self._sending)
        if parts.gate.reasons or not room:
            return LOOK_EVERY_S
        quiet_s = self._quiet.since(backlog.untried_failed_at_s)
        due_by_s = now_s + self._standing.set_back_s
        nothing_waits = not parts.index.totals.overall().entries
        is_doubted = self.refusals.of_most_domains
        going = [
            dsn
            for dsn in await ledger.dsns(DsnState.OWED, 4 * SENT_AT_ONCE, due_by_s, parts.gate.closed_lists)
            if dsn.dsn_id not in self._sending
            and (
                dsn.tried_at_s is not None
                or is_believed(dsn.failed_at_s, self._accepted_at_s, quiet_s, feed.dsn_wait, nothing_waits, is_doubted)
            )
        ]
        reporter = parts.settings.mta.helo or await asyncio.to_thread(own_name)
        for dsn in going[:room]:
            task = asyncio.create_task(self._send(dsn, reporter), name=f"dsn {dsn.dsn_id}")
            self._sending[dsn.dsn_id] = task
            task.add_done_callback(functools.partial(self._ended, dsn))
        return LOOK_EVERY_S

    def _ended(self, dsn: OwedDsn, task: asyncio.Task[bool]) -> None:
        del self._sending[dsn.dsn_id]
        if task.cancelled():
            return
        if error := task.exception():
            self._broken.append((dsn, error))
        elif task.result():
            self._standing.owing.set()

    async def _put_off(self, dsn: OwedDsn, error: BaseException) -> None:
        """A bug that one DSN brought to light must not stop the service, nor come back with it at each turn."""
        log.error(logfmt(outcome="internal_error", filebase=dsn.filebase, dsn=message_id(dsn)), exc_info=error)
        try:
            await self._parts.ledger.move_dsns([dsn.dsn_id], DsnState.IN_DOUBT, self._parts.clock.now_s())
        except IllegalTransition:
            await _later(self._parts, self._standing, dsn, repr(error), self._parts.settings.feed.retry_longest)

    async def _send(self, dsn: OwedDsn, reporter: str) -> bool:
        """Returns False if it was not its time."""
        parts = self._parts
        try:
            await parts.throttle.acquire(1)
            if not parts.gate.allows(dsn.list_id):
                return False
            async with parts.pool.session() as session:
                if not parts.gate.allows(dsn.list_id):
                    return False
                composed = dsn_message(dsn, reporter, parts.settings.mta.host, session.offers("smtputf8"))
                identity = MessageRecord((), dsn.list_id, message_id(dsn))
                transaction = await deliver(
                    composed, dsn.filebase, identity, _DsnAttempt(parts, self._standing, dsn), session, parts.clock,
                    refused=lambda exc: parts.gate.close("ledger", str(exc)),
                    is_stopping=lambda: "stopping" in parts.gate.reasons,
                )  # fmt: skip
            parts.rate.heard(transaction)
            if not transaction.outcomes:
                await _later(parts, self._standing, dsn, transaction.trouble, LOOK_AGAIN_S)
        except HaltError as exc:
            parts.gate.close("ledger", str(exc))
            log.error(logfmt(outcome="halt", filebase=dsn.filebase, detail=exc))
            return False
        except IllegalTransition as exc:
            log.error(logfmt(outcome="dsn_gone", filebase=dsn.filebase, detail=exc))
            return False
        except MtaError as exc:
            log.info(logfmt(outcome="put_back", filebase=dsn.filebase, detail=exc))
            return False
        return True

    async def _drop_unbelieved(self) -> None:
        """What failed since somebody was last accepted, or since the MTA is doubted, and was never tried."""
        parts, why = self._parts, self._distrusted
        since_s = self._accepted_at_s
        unbelieved = [
            dsn
            for dsn in await parts.ledger.dsns(DsnState.OWED, _ALL)
            if dsn.tried_at_s is None
            and dsn.dsn_id not in self._sending
            and (since_s is None or dsn.failed_at_s >= min(since_s, self._distrusted_since_s))
        ]
        await self._drop(unbelieved, why)
        if "refusals" not in parts.gate.reasons:
            self._distrusted = ""

    async def _drop_all(self, why: str) -> None:
        await self._drop(await self._parts.ledger.dsns(DsnState.OWED, READ_AT_ONCE), why)

    async def _drop(self, dsns: Sequence[OwedDsn], why: str) -> None:
        if not dsns:
            return
        now_s = self._parts.clock.now_s()
        recipients = sum(len(dsn.recipients) for dsn in dsns)
        line = JournalLine(now_s, "drainer", "dsns_dropped", f"{len(dsns)} for {recipients} recipients: {why}")
        await self._parts.ledger.move_dsns([dsn.dsn_id for dsn in dsns], DsnState.DROPPED, now_s, journal=line)
        for dsn in dsns:
            _say("dsn_dropped", dsn, why)

    async def _resolve(self, doubtful: Sequence[OwedDsn]) -> None:
        """As the MTA's log says; where it cannot, never again."""
        parts, now_s, moment_s = self._parts, self._parts.clock.now_s(), self._parts.clock.monotonic_s()
        evidence, why = await self._evidence(doubtful)
        for dsn in doubtful:
            since_s = self._doubtful_since_s.setdefault(dsn.dsn_id, moment_s)
            answer = Answer.CANNOT_SAY
            if evidence is not None:
                asked = evidence.answers(message_id(dsn), "", (dsn.reverse_path,), dsn.tried_at_s or dsn.failed_at_s)
                answer = asked[dsn.reverse_path]
            if answer is Answer.YES:
                await parts.ledger.move_dsns([dsn.dsn_id], DsnState.SENT, now_s)
                _say("dsn_sent", dsn, "the MTA's log shows it accepted")
            elif answer is Answer.NO:
                await _later(parts, self._standing, dsn, "the MTA's log covers that moment and does not have it", 0.0)
            elif parts.settings.mta.log_file and moment_s - since_s < parts.settings.ledger.in_doubt_wait:
                continue
            else:
                await self._drop([dsn], f"it may have been sent: {why}")
            self._doubtful_since_s.pop(dsn.dsn_id, None)

    async def _evidence(self, doubtful: Sequence[OwedDsn]) -> tuple[MtaEvidence | None, str]:
        """The MTA's log, and why it does not help if it does not."""
        where = self._parts.settings.mta.log_file
        if where is None:
            return None, "no MTA log to ask"
        from_s = min(dsn.tried_at_s or dsn.failed_at_s for dsn in doubtful)
        now_s = self._parts.clock.now_s()
        try:
            found = await asyncio.to_thread(read_mta_log, where, from_s, now_s, {message_id(dsn) for dsn in doubtful})
        except MtaLogUnreadable as exc:
            return None, str(exc)
        return found, "the MTA's log cannot say"


class _DsnAttempt:
    """What deliver() writes of one DSN (feed/deliver.py, Attempts)."""

    def __init__(self, parts: Parts, standing: Standing, dsn: OwedDsn) -> None:
        self._parts = parts
        self._standing = standing
        self._dsn = dsn

    async def open_attempt(self, attempt: NewAttempt) -> int:
        await self._parts.ledger.move_dsns([self._dsn.dsn_id], DsnState.SENDING, attempt.at_s)
        return self._dsn.dsn_id

    async def close_attempt(
        self, attempt_id: int, state: State, reply: str, at_s: float, dsns: Sequence[NewDsn] = ()
    ) -> None:
        await self._end(state, reply, at_s)

    async def record(
        self, filebase: str, message: MessageRecord, outcomes: Sequence[Outcome], dsns: Sequence[NewDsn] = ()
    ) -> None:
        for outcome in outcomes:
            await self._end(outcome.state, outcome.reply, outcome.at_s)

    async def _end(self, state: State, reply: str, at_s: float) -> None:
        ledger, dsn, feed = self._parts.ledger, self._dsn, self._parts.settings.feed
        # Counted from its first deferral, not from the failure: it may have waited for days for an MTA that was down.
        first_s, longest_s = feed.retry_first, feed.retry_longest
        if state is State.DEFERRED and waited_s(dsn.attempts + 1, first_s, longest_s) < feed.give_up_after:
            wait_s = retry_delay_s(dsn.attempts + 1, first_s, longest_s)
            await _later(self._parts, self._standing, dsn, reply, wait_s)
        elif state is State.DELIVERED:
            await ledger.move_dsns([dsn.dsn_id], DsnState.SENT, at_s)
            _say("dsn_sent", dsn, reply)
        elif state is State.IN_DOUBT:
            await ledger.move_dsns([dsn.dsn_id], DsnState.IN_DOUBT, at_s)
            _say("dsn_in_doubt", dsn, reply)
        else:
            told = ", ".join(recipient.owed for recipient in dsn.recipients)
            line = JournalLine(
                at_s, "drainer", "dsns_dropped", f"{message_id(dsn)} to {dsn.reverse_path} for {told}: {reply}"
            )
            await ledger.move_dsns([dsn.dsn_id], DsnState.DROPPED, at_s, journal=line)
            _say("dsn_dropped", dsn, reply)


class Quiet:
    """How long nobody failed, by the clock that never jumps; counted anew in each run."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._failed_at_s: float | None = None
        self._since_s = clock.monotonic_s()

    def since(self, failed_at_s: float | None) -> float:
        """Seconds since this was first said to be the latest failure; 0.0 or more."""
        if failed_at_s != self._failed_at_s:
            self._failed_at_s, self._since_s = failed_at_s, self._clock.monotonic_s()
        return self._clock.monotonic_s() - self._since_s


async def _later(parts: Parts, standing: Standing, dsn: OwedDsn, reply: str, wait_s: float) -> None:
    now_s = parts.clock.now_s()
    await parts.ledger.move_dsns([dsn.dsn_id], DsnState.OWED, now_s, now_s + standing.set_back_s + wait_s)
    _say("dsn_deferred", dsn, reply)


def _say(outcome: str, dsn: OwedDsn, reply: str) -> None:
    log.log(
        logging.INFO if outcome in ("dsn_sent", "dsn_deferred") else logging.WARNING,
        logfmt(
            outcome=outcome, filebase=dsn.filebase, list=dsn.list_id, message_id=dsn.message_id, dsn=message_id(dsn),
            to=dsn.reverse_path, recipients=[recipient.owed for recipient in dsn.recipients], reply=reply,
        ),
    )  # fmt: skip
