"""DSNs to reverse-paths: owed in the ledger since their recipients failed, sent through the MTA, each once.

In    what the ledger owes; whether the MTA is believed (mta_trust.py)
Out   DSNs sent under the same rate, sessions and pauses as mail; every one settled in the ledger as SENT or DROPPED
Not here  what a DSN says (feed/dsn.py); when a failure is believed (mta_trust.py, feed/refusals.py)

One bounce too many may cost a member the subscription. One too few leaves a list with an address that goes on bouncing,
which is less harm. So a DSN that may have gone out is not sent again, unless the MTA's log says that it has none.

INVARIANT begun-before-DATA: a DSN is SENDING on disk before its content is sent.
  Crash before: it is OWED still and goes out after the restart; the MTA saw MAIL and RCPT only.
  Crash after:  it is found SENDING, so it goes IN_DOUBT: the MTA's log is asked; if that cannot say, it is DROPPED, with a
                line in the journal.
  Held by tests/crash/test_dsns.py.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
from collections.abc import Sequence

from drainer.clock import Clock
from drainer.errors import HaltError, IllegalTransition, LedgerNotDurable, MtaError, MtaLogUnreadable
from drainer.feed.connect import own_name
from drainer.feed.deliver import deliver
from drainer.feed.dsn import dsn_message, message_id
from drainer.feed.permit import Permit
from drainer.feed.retry import retry_delay_s, waited_s
from drainer.feed.session import Session
from drainer.feed.transaction import Transaction
from drainer.ledger.evidence import Finish
from drainer.ledger.records import AttemptId, JournalLine, MessageRecord, NewAttempt, NewDsn, Outcome, OwedDsn
from drainer.ledger.states import DsnState, State
from drainer.mta_log.answer import Answer, MtaEvidence
from drainer.mta_log.search import LogSearch
from drainer.stages.domain_ceilings import DomainCeilings
from drainer.stages.mta_trust import REFUSALS, MtaTrust
from drainer.stages.resources import Resources
from drainer.stages.reversible_failures import ReversibleFailures
from drainer.stages.set_aside import LOOK_AGAIN_S
from drainer.text.logfmt import logfmt

log = logging.getLogger("drainer")

_ALL = 1_000_000
READ_AT_ONCE = 100
SENT_AT_ONCE = 4
"""One DSN whose reply does not come must not keep the others waiting."""
LOOK_EVERY_S = 1.0
"""How often to look whether owed DSNs may go, or doubts can be resolved, when no signal comes."""


class Bounces:
    """`recover` before anything is sent, `run` for ever."""

    def __init__(
        self, resources: Resources, trust: MtaTrust, failures: ReversibleFailures, domains: DomainCeilings
    ) -> None:
        self._resources = resources
        self._trust = trust
        self._failures = failures
        self._domains = domains
        self._later = _Later(resources)
        self._sending: dict[int, asyncio.Task[bool]] = {}
        self._broken: list[tuple[OwedDsn, BaseException]] = []
        self._quiet = Quiet(resources.clock)
        self._doubtful_since_s: dict[int, float] = {}
        self._search = LogSearch()

    async def recover(self) -> None:
        """What was being sent when an earlier run died is in doubt now. What is owed for failures that are undone, and could
        not be dropped before that run ended, is dropped: call it after the failures are recovered."""
        ledger, now_s = self._resources.ledger, self._resources.clock.now_s()
        if owed := await ledger.dsns(DsnState.OWED, _ALL):
            # If the clock was set back meanwhile, they would wait for that time as well.
            self._later.expect_by(owed[-1].due_s)
        while cut_short := await ledger.dsns(DsnState.SENDING, READ_AT_ONCE):
            await ledger.move_dsns([dsn.dsn_id for dsn in cut_short], DsnState.IN_DOUBT, now_s)
            for dsn in cut_short:
                _say("dsn_in_doubt", dsn, "the service ended before the outcome was written")
        undone = [
            dsn
            for dsn in await ledger.dsns(DsnState.OWED, _ALL)
            if dsn.tried_at_s is None and self._failures.was_undone(dsn.failed_at_s)
        ]
        await self._drop(undone, "an operator has put the MTA right that refused them")
        self._resources.signals.owing.set()

    def clock_was_set_back(self, by_s: float) -> None:
        """DSNs are due as if the clock had not been set back."""
        self._later.clock_was_set_back(by_s)

    async def run(self) -> None:
        """For ever. Cancelled, it returns once the transactions that have sent DATA are finished."""
        try:
            while True:
                self._resources.signals.owing.clear()
                wait_s: float | None = LOOK_EVERY_S
                with contextlib.suppress(LedgerNotDurable):
                    wait_s = await self._turn()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(wait_s):
                        await self._resources.signals.owing.wait()
        finally:
            for task in self._sending.values():
                task.cancel()
            await asyncio.gather(*self._sending.values(), return_exceptions=True)

    async def _turn(self) -> float | None:
        """Do what can be done now. Returns how long to wait for a signal then, in seconds; None: as long as it takes."""
        resources = self._resources
        ledger, feed, now_s = resources.ledger, resources.settings.feed, resources.clock.now_s()
        while self._broken:
            await self._put_off(*self._broken.pop())
        if self._trust.distrusted:
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
        if resources.gate.reasons or not room:
            return LOOK_EVERY_S
        quiet_s = self._quiet.since(backlog.untried_failed_at_s)
        due_by_s = now_s + self._later.set_back_s
        nothing_waits = not resources.index.totals.overall().entries
        going = [
            dsn
            for dsn in await ledger.dsns(DsnState.OWED, 4 * SENT_AT_ONCE, due_by_s, resources.gate.closed_lists)
            if dsn.dsn_id not in self._sending
            and (dsn.tried_at_s is not None or self._trust.believes(dsn.failed_at_s, quiet_s, nothing_waits))
        ]
        reporter = resources.settings.mta.helo or await asyncio.to_thread(own_name)
        for dsn in going[:room]:
            task = asyncio.create_task(self._send(dsn, reporter), name=f"dsn {dsn.dsn_id}")
            self._sending[dsn.dsn_id] = task
            resources.gate.stop_for(REFUSALS, task)
            task.add_done_callback(functools.partial(self._ended, dsn))
        return LOOK_EVERY_S

    def _ended(self, dsn: OwedDsn, task: asyncio.Task[bool]) -> None:
        del self._sending[dsn.dsn_id]
        if task.cancelled():
            return
        if error := task.exception():
            self._broken.append((dsn, error))
        elif task.result():
            self._resources.signals.owing.set()

    async def _put_off(self, dsn: OwedDsn, error: BaseException) -> None:
        """After a bug that one DSN brought to light: the service goes on, and the bug does not come back at each turn."""
        log.error(logfmt(outcome="internal_error", filebase=dsn.filebase, dsn=message_id(dsn)), exc_info=error)
        try:
            await self._resources.ledger.move_dsns([dsn.dsn_id], DsnState.IN_DOUBT, self._resources.clock.now_s())
        except IllegalTransition:
            await self._later.owe(dsn, repr(error), self._resources.settings.feed.retry_longest)

    async def _send(self, dsn: OwedDsn, reporter: str) -> bool:
        """Returns False if it could not be sent now."""
        with await self._resources.throttle.acquire(1) as permit:
            return await self._send_now(dsn, reporter, permit)

    async def _send_now(self, dsn: OwedDsn, reporter: str, permit: Permit) -> bool:
        resources = self._resources
        attempt = permit.counting(_DsnAttempt(resources, self._later, dsn))
        try:
            if not resources.gate.allows(dsn.list_id):
                return False
            async with resources.pool.session() as session:
                if not resources.gate.allows(dsn.list_id):
                    return False
                composed = dsn_message(dsn, reporter, resources.settings.mta.host, session.offers("smtputf8"))
                identity = MessageRecord((), dsn.list_id, message_id(dsn))
                transaction = await deliver(
                    composed, dsn.filebase, identity, attempt, session, resources.clock,
                    on_refusal=lambda exc: resources.gate.close("ledger", str(exc)),
                    is_stopping=lambda: "stopping" in resources.gate.reasons,
                    on_end=lambda transaction: self._heard(transaction, session),
                )  # fmt: skip
            if transaction.session_limit and not transaction.outcomes:
                return await self._send_now(dsn, reporter, permit)  # at once, in another session
            if not transaction.outcomes:
                await self._later.owe(dsn, transaction.trouble, LOOK_AGAIN_S)
        except IllegalTransition as exc:
            # Its failures were undone since it was found owed, and it was dropped with them.
            log.warning(logfmt(outcome="dsn_gone", filebase=dsn.filebase, detail=exc))
            return False
        except HaltError as exc:
            resources.gate.close("ledger", str(exc))
            log.error(logfmt(outcome="halt", filebase=dsn.filebase, detail=exc))
            return False
        except MtaError as exc:
            log.info(logfmt(outcome="put_back", filebase=dsn.filebase, detail=exc))
            return False
        return True

    def _heard(self, transaction: Transaction, session: Session) -> None:
        if transaction.outcomes or not transaction.session_limit:
            self._resources.rate.heard(self._domains.heard(transaction, session))

    async def _drop_unbelieved(self) -> None:
        """Drop the DSNs of failures that are not believed, unless they have been tried."""
        resources, trust = self._resources, self._trust
        why = trust.distrusted
        unbelieved = [
            dsn
            for dsn in await resources.ledger.dsns(DsnState.OWED, _ALL)
            if dsn.tried_at_s is None and dsn.dsn_id not in self._sending and trust.is_disbelieved(dsn.failed_at_s)
        ]
        if await self._drop(unbelieved, why):
            trust.disbelief_is_settled()

    async def _drop_all(self, why: str) -> None:
        await self._drop(await self._resources.ledger.dsns(DsnState.OWED, READ_AT_ONCE), why)

    async def _drop(self, dsns: Sequence[OwedDsn], why: str) -> bool:
        """Returns False, with none of them dropped, if one went meanwhile with failures that were undone."""
        if not dsns:
            return True
        now_s = self._resources.clock.now_s()
        recipients = sum(len(dsn.recipients) for dsn in dsns)
        line = JournalLine(now_s, "drainer", "dsns_dropped", f"{len(dsns)} for {recipients} recipients: {why}")
        try:
            await self._resources.ledger.move_dsns([dsn.dsn_id for dsn in dsns], DsnState.DROPPED, now_s, journal=line)
        except IllegalTransition:
            return False
        for dsn in dsns:
            _say("dsn_dropped", dsn, why)
        return True

    async def _resolve(self, doubtful: Sequence[OwedDsn]) -> None:
        """By the MTA's log. A DSN is never sent again if the log cannot say."""
        resources, now_s, moment_s = self._resources, self._resources.clock.now_s(), self._resources.clock.monotonic_s()
        evidence, why = await self._evidence(doubtful)
        for dsn in doubtful:
            since_s = self._doubtful_since_s.setdefault(dsn.dsn_id, moment_s)
            answer = Answer.CANNOT_SAY
            if evidence is not None:
                asked = evidence.answers(message_id(dsn), "", (dsn.reverse_path,), dsn.tried_at_s or dsn.failed_at_s)
                answer = asked[dsn.reverse_path]
            if answer is Answer.YES:
                await resources.ledger.move_dsns([dsn.dsn_id], DsnState.SENT, now_s)
                _say("dsn_sent", dsn, "the MTA's log shows it accepted")
            elif answer is Answer.NO:
                await self._later.owe(dsn, "the MTA's log covers that moment and does not have it", 0.0)
            elif resources.settings.mta.log_file and moment_s - since_s < resources.settings.ledger.in_doubt_wait:
                continue
            else:
                await self._drop([dsn], f"it may have been sent: {why}")
            self._doubtful_since_s.pop(dsn.dsn_id, None)

    async def _evidence(self, doubtful: Sequence[OwedDsn]) -> tuple[MtaEvidence | None, str]:
        """The MTA's log; if it does not help, why not."""
        where = self._resources.settings.mta.log_file
        if where is None:
            return None, "no MTA log to ask"
        from_s = min(dsn.tried_at_s or dsn.failed_at_s for dsn in doubtful)
        now_s = self._resources.clock.now_s()
        try:
            found = await self._search.evidence(where, from_s, now_s, {message_id(dsn) for dsn in doubtful})
        except MtaLogUnreadable as exc:
            return None, str(exc)
        return found, "the MTA's log cannot say"


class _DsnAttempt:
    """What deliver() writes of one DSN (feed/deliver.py, Attempts)."""

    def __init__(self, resources: Resources, later: _Later, dsn: OwedDsn) -> None:
        self._resources = resources
        self._later = later
        self._dsn = dsn

    async def begin_attempt(self, attempt: NewAttempt) -> AttemptId:
        await self._resources.ledger.move_dsns([self._dsn.dsn_id], DsnState.SENDING, attempt.at_s)
        return attempt.attempt_id

    async def close_attempt(
        self,
        attempt_id: AttemptId,
        state: State,
        reply: str,
        at_s: float,
        dsns: Sequence[NewDsn] = (),
        *,
        finish: Finish | None = None,
    ) -> None:
        await self._end(state, reply, at_s)

    async def record(
        self,
        filebase: str,
        message: MessageRecord,
        outcomes: Sequence[Outcome],
        dsns: Sequence[NewDsn] = (),
        *,
        finish: Finish | None = None,
    ) -> None:
        for outcome in outcomes:
            await self._end(outcome.state, outcome.reply, outcome.at_s)

    async def _end(self, state: State, reply: str, at_s: float) -> None:
        ledger, dsn, feed = self._resources.ledger, self._dsn, self._resources.settings.feed
        # Counted from its first deferral, not from the failure: it may have waited days for an MTA that was down.
        first_s, longest_s = feed.retry_first, feed.retry_longest
        if state is State.DEFERRED and waited_s(dsn.attempts + 1, first_s, longest_s) < feed.give_up_after:
            wait_s = retry_delay_s(dsn.attempts + 1, first_s, longest_s)
            await self._later.owe(dsn, reply, wait_s)
        elif state is State.DELIVERED:
            await ledger.move_dsns([dsn.dsn_id], DsnState.SENT, at_s)
            _say("dsn_sent", dsn, reply)
        elif state is State.IN_DOUBT:
            await ledger.move_dsns([dsn.dsn_id], DsnState.IN_DOUBT, at_s)
            _say("dsn_in_doubt", dsn, reply)
        else:
            reported = ", ".join(recipient.owed for recipient in dsn.recipients)
            line = JournalLine(
                at_s, "drainer", "dsns_dropped", f"{message_id(dsn)} to {dsn.reverse_path} for {reported}: {reply}"
            )
            await ledger.move_dsns([dsn.dsn_id], DsnState.DROPPED, at_s, journal=line)
            _say("dsn_dropped", dsn, reply)


class Quiet:
    """How long ago the latest failure was, by the clock that never jumps; counted anew in each run."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._failed_at_s: float | None = None
        self._since_s = clock.monotonic_s()

    def since(self, failed_at_s: float | None) -> float:
        """Seconds since this was first said to be the latest failure; 0.0 or more."""
        if failed_at_s != self._failed_at_s:
            self._failed_at_s, self._since_s = failed_at_s, self._clock.monotonic_s()
        return self._clock.monotonic_s() - self._since_s


class _Later:
    """When a DSN is due again.

    set_back_s  by how much the clock was set back since DSNs were given the times they are due
    """

    def __init__(self, resources: Resources) -> None:
        self._resources = resources
        self.set_back_s = 0.0

    def clock_was_set_back(self, by_s: float) -> None:
        self.set_back_s += by_s

    def expect_by(self, latest_due_s: float) -> None:
        """No DSN is due later than in feed.retry_longest, unless the clock was set back since."""
        longest_s = self._resources.settings.feed.retry_longest
        self.set_back_s = max(0.0, latest_due_s - self._resources.clock.now_s() - longest_s)

    async def owe(self, dsn: OwedDsn, reply: str, wait_s: float) -> None:
        now_s = self._resources.clock.now_s()
        await self._resources.ledger.move_dsns([dsn.dsn_id], DsnState.OWED, now_s, now_s + self.set_back_s + wait_s)
        _say("dsn_deferred", dsn, reply)


def _say(outcome: str, dsn: OwedDsn, reply: str) -> None:
    log.log(
        logging.INFO if outcome in ("dsn_sent", "dsn_deferred") else logging.WARNING,
        logfmt(
            outcome=outcome, filebase=dsn.filebase, list=dsn.list_id, message_id=dsn.message_id, dsn=message_id(dsn),
            to=dsn.reverse_path, recipients=[recipient.owed for recipient in dsn.recipients], reply=reply,
        ),
    )  # fmt: skip
