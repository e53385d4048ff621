"""settle: what becomes of an entry after its turn, in the ledger, on the disk and in the index, in that order.

In    the Ending of a turn (ending.py), or a decision about an entry that no turn is needed for
Out   the entry finished, suppressed, deferred, held or left waiting
Not here  how an entry is held, put off or forgotten (set_aside.py)
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Sequence
from dataclasses import replace

from drainer.backlog.states import EntryState
from drainer.backlog.waiters import Waiters
from drainer.duplicates.classes import DuplicateClass
from drainer.duplicates.decision import Claim, Decision, NextStep
from drainer.errors import HaltError
from drainer.feed.dsn import EXPIRED, owed_dsn
from drainer.feed.outcome import blames_recipient
from drainer.feed.retry import retry_delay_s, waited_s
from drainer.ledger.evidence import Evidence, Fate
from drainer.ledger.records import Deferral, MessageRecord, NewDsn, Outcome, recipient_key
from drainer.ledger.states import State
from drainer.queuedir.entry import QueueEntry
from drainer.shielded import carried_through, until_done
from drainer.stages.decide import why_held_back
from drainer.stages.domain_ceilings import DomainCeilings
from drainer.stages.ending import (
    ENDS_SETTLING,
    ENDS_TURN,
    Decided,
    Ending,
    Finished,
    Halted,
    Held,
    LookAgain,
    MtaUnavailable,
    NotBefore,
    Parked,
    Unreadable,
    Vanished,
    WithMailman,
    ending_of,
)
from drainer.stages.entry_facts import EntryFacts
from drainer.stages.mta_trust import MtaTrust
from drainer.stages.outcome_log import log_outcome
from drainer.stages.resources import Resources
from drainer.stages.reversible_failures import ReversibleFailures
from drainer.stages.set_aside import SetAside
from drainer.text.logfmt import logfmt
from drainer.via_mailman.open_handovers import OpenHandovers

log = logging.getLogger("drainer")

_LEVELS = {"warning": logging.WARNING, "error": logging.ERROR}


class Settle:
    """`conclude` once for each turn."""

    def __init__(
        self,
        resources: Resources,
        facts: EntryFacts,
        domains: DomainCeilings,
        set_aside: SetAside,
        failures: ReversibleFailures,
        trust: MtaTrust,
        at_mailman: OpenHandovers,
        waiters: Waiters,
    ) -> None:
        self._resources = resources
        self._facts = facts
        self._domains = domains
        self._set_aside = set_aside
        self._failures = failures
        self._trust = trust
        self._at_mailman = at_mailman
        self._waiters = waiters
        self._staying: dict[str, Finished] = {}

    async def conclude(self, filebase: str, ending: Ending) -> None:
        """Carry out how a turn ended. Where an error prevents that, the error is how it ended."""
        try:
            await self._carry_out(filebase, ending)
        except ENDS_TURN as exc:
            try:
                await self._carry_out(filebase, ending_of(exc))
            except ENDS_SETTLING as last:
                await self._carry_out(filebase, ending_of(last, may_hold=False))

    async def _carry_out(self, filebase: str, ending: Ending) -> None:
        index, set_aside = self._resources.index, self._set_aside
        match ending:
            case Decided(entry, record, decision, blameless, parked, finished):
                await self.apply(entry, record, decision, blameless, parked, finished)
            case NotBefore(due_s, reason, owed):
                if owed is not None:
                    index.set_owed(filebase, owed)
                index.set_state(filebase, EntryState.DEFERRED, reason, due_s)
            case Parked():
                self._park(filebase, ending)
            case LookAgain(reason, level, error):
                set_aside.look_again(filebase, reason)
                if level:
                    log.log(_LEVELS[level], logfmt(outcome="put_back", filebase=filebase, detail=error))
            case Held(reason, detail):
                await set_aside.hold(filebase, reason, detail, by="drainer")
            case Unreadable(reason, detail):
                await set_aside.unreadable(filebase, reason, detail)
            case Vanished(error):
                self._staying.pop(filebase, None)
                await set_aside.forget(filebase, error)
            case Halted(error):
                set_aside.halt(filebase, error)
            case MtaUnavailable(error):
                log.info(logfmt(outcome="put_back", filebase=filebase, detail=error))
            case WithMailman():
                pass

    def _park(self, filebase: str, parked: Parked) -> None:
        self._resources.index.set_owed(filebase, parked.owed, parked.domains)
        self._domains.park(filebase, parked.lane, parked.domains, parked.due_s)

    async def apply(
        self,
        entry: QueueEntry,
        record: MessageRecord,
        decision: Decision,
        blameless: bool,
        parked: Parked | None = None,
        finished: Finished | None = None,
    ) -> None:
        """Do what a decision says.

        blameless, parked, finished  as in Decided
        """
        filebase, index = entry.filebase, self._resources.index
        staying = self._staying.pop(filebase, None)
        finished = finished or staying
        match decision.next_step:
            case NextStep.FINISH if finished is not None:
                await self._leave(entry, finished)
            case NextStep.FINISH:
                # An interruption between the commit and the unlink would have it finished, and counted, once more.
                await carried_through(self._finish(entry, record, decision))
            case NextStep.SUPPRESS:
                await carried_through(self._suppress(entry, record, decision))
            case NextStep.HOLD:
                await self._set_aside.hold(filebase, *why_held_back(filebase, decision), by="drainer")
            case NextStep.WAIT if given_up := self._deferred_by_nobody(decision.wait):
                # Their files were taken away by hand, maybe while no service ran. This entry is looked at again at once.
                for name in given_up:
                    await self._resources.ledger.finish_entry(name)
            case NextStep.WAIT:
                index.set_owed(filebase, len(decision.wait))
                for claim in decision.wait:
                    self._waiters.add(filebase, claim.filebase)
                claim = decision.wait[0]
                self._set_aside.look_again(
                    filebase, f"{claim.state} by {'itself' if claim.filebase == filebase else claim.filebase}"
                )
            case NextStep.DELIVER if blameless:
                index.set_owed(filebase, len(decision.deliver) + len(decision.wait))
            case NextStep.DELIVER:
                await self._defer(entry, record, decision, parked)

    def _deferred_by_nobody(self, claims: Sequence[Claim]) -> set[str]:
        """Entries that deferred recipients, but are gone and cannot retry them."""
        index, at_mailman = self._resources.index, self._at_mailman
        deferred = {claim.filebase for claim in claims if claim.state is State.DEFERRED}
        return {name for name in deferred if index.state_of(name) is None and not at_mailman.has(name)}

    def finished(self, entry: QueueEntry, record: MessageRecord, decision: Decision) -> Finished:
        """How an entry ends that a decision finishes."""
        filebase = entry.filebase
        others = [claim for claim in decision.skip if claim.filebase != filebase]
        own = [claim for claim in decision.skip if claim.filebase == filebase]
        delivered = any(claim.state is State.DELIVERED for claim in own)
        ended = self._resources.index.ended_as(
            filebase, Fate.DELIVERED if delivered else Fate.SETTLED, len(entry.recipients)
        )
        return Finished(
            {"delivered_entries": int(delivered), "suppressed_recipients": len(others)},
            ended,
            self._evidence(filebase, record, others, ended.kind),
            len(others),
            [claim.at_s for claim in own if claim.state is State.FAILED],
            any(claim.state is State.SKIPPED for claim in own),
        )

    async def _finish(self, entry: QueueEntry, record: MessageRecord, decision: Decision) -> None:
        finished = self.finished(entry, record, decision)
        try:
            await self._resources.ledger.finish_entry(
                entry.filebase, finished.counts, finished.ended, finished.evidence
            )
        except HaltError:
            self._resources.index.set_owed(entry.filebase, 0)  # its next turn finishes it; until then it owes nobody
            raise
        await self._leave(entry, finished)

    async def _leave(self, entry: QueueEntry, finished: Finished) -> None:
        """Off the disk and out of the index, also if it is interrupted meanwhile."""
        filebase = entry.filebase
        # INVARIANT settled-before-unlink: every recipient is settled in the durable ledger before the file goes.
        #   Crash before the unlink: the entry is read again, found settled by itself, and finished again; between the
        #   commit and the unlink it is counted as an entry twice, its recipients once. Held by tests/crash/.
        #   The unlink is made in a thread. Until it is done the entry is active, here and in the index, so that nothing else
        #   takes it up, and a stop waits for it as for any turn.
        try:
            interruption = await self._off_the_disk(filebase, finished)
        except ENDS_SETTLING:
            # It owes nobody. Its next turn takes it off the disk, and does not count it once more.
            self._staying[filebase] = finished
            self._resources.index.set_owed(filebase, 0)
            raise
        self._facts.note_finished(filebase)
        self._resources.index.remove(filebase)
        self._waiters.wake(filebase)
        log.info(
            logfmt(
                outcome="finished", filebase=filebase, list=entry.list_id, recipients=len(entry.recipients),
                suppressed=finished.by_others or None,
            )
        )  # fmt: skip
        if interruption is not None:
            raise interruption

    async def _off_the_disk(self, filebase: str, finished: Finished) -> asyncio.CancelledError | None:
        """Returns the cancellation that came meanwhile. Raises one of ENDS_SETTLING: the file is where it was."""
        interruption: asyncio.CancelledError | None = None
        if finished.failed_at_s and (self._trust.is_doubted or self._failures.are_undone(finished.failed_at_s)):
            # In duplicates/, or in backlog/ under another name.
            keeping = asyncio.ensure_future(self._failures.keep(filebase, finished.failed_at_s))
            interruption = await until_done(keeping)
            keeping.result()
        elif finished.is_dropped:
            # An operator's drop, which a crash cut off after its recipients were settled, ends here: it can be undone.
            self._resources.custody.drop(filebase)
        else:
            gone = self._resources.custody.finish_later(filebase)
            interruption = await until_done(gone)
            gone.result()
        return interruption

    async def _suppress(self, entry: QueueEntry, record: MessageRecord, decision: Decision) -> None:
        filebase = entry.filebase
        had = [claim for claim in decision.skip if claim.state is not State.FAILED]  # a restored copy's: it failed them
        first = had[0]
        # Renamed before it is counted: a crash in between leaves it in duplicates/ and out of the count. It is never lost
        # and never counted twice.
        self._resources.custody.suppress(filebase)
        ended = self._resources.index.ended_as(filebase, Fate.SUPPRESSED, len(entry.recipients))
        if any(claim.filebase == filebase for claim in had):
            ended = replace(ended, kind=DuplicateClass.RESTORED.value)
        await self._resources.ledger.finish_entry(
            filebase,
            {"suppressed_entries": 1, "suppressed_recipients": len(had)},
            ended,
            self._evidence(filebase, record, had, ended.kind),
        )
        self._resources.index.remove(filebase)
        log.info(
            logfmt(
                outcome="suppressed", filebase=filebase, list=entry.list_id, message_id=record.message_id,
                recipients=len(had), of=first.filebase, settled_at=first.at_s,
            )
        )  # fmt: skip

    def _evidence(self, filebase: str, record: MessageRecord, claims: Sequence[Claim], kind: str) -> list[Evidence]:
        """One line for each entry whose deliveries are the reason that recipients were skipped."""
        by_entry: dict[str, list[Claim]] = {}
        for claim in claims:
            by_entry.setdefault(claim.filebase, []).append(claim)
        now_s = self._resources.clock.now_s()
        return [
            Evidence(
                Fate.SUPPRESSED, filebase, now_s, record.list_id, record.message_id, len(some), of,
                max(claim.at_s for claim in some), detail=kind,
            )
            for of, some in by_entry.items()
        ]  # fmt: skip

    async def _defer(self, entry: QueueEntry, record: MessageRecord, decision: Decision, parked: Parked | None) -> None:
        """Refused for now: try again after a delay that grows each time, until feed.give_up_after. Recipients who wait for a
        ceiling only go on meanwhile."""
        resources, feed, filebase = self._resources, self._resources.settings.feed, entry.filebase
        now_s = resources.clock.now_s()
        before = await resources.ledger.deferral(filebase)
        first_at_s = before.first_at_s if before else now_s
        attempts = before.attempts + 1 if before else 1
        after_s = waited_s(attempts, feed.retry_first, feed.retry_longest)
        if after_s >= feed.give_up_after and await self._give_up(entry, record, decision.deliver, after_s):
            return
        due_s = now_s + retry_delay_s(attempts, feed.retry_first, feed.retry_longest)
        owed = len(decision.deliver) + len(decision.wait)
        reason = f"attempt {attempts} deferred"
        await resources.ledger.defer(Deferral(filebase, attempts, first_at_s, due_s, owed, reason))
        if parked is not None:
            self._park(filebase, replace(parked, due_s=due_s))
            return
        resources.index.set_owed(filebase, owed)
        resources.index.set_state(filebase, EntryState.DEFERRED, reason, due_s)

    async def _give_up(self, entry: QueueEntry, record: MessageRecord, owed: Sequence[str], after_s: float) -> bool:
        """Fail the recipients that were deferred for too long, each with its last reply. Recipients the MTA never answered
        for are not failed. Returns False if there are no others. Raises EntryError if it cannot be composed."""
        resources, filebase, now_s = self._resources, entry.filebase, self._resources.clock.now_s()
        last = {
            key: part.reply
            for part in (await resources.ledger.history(record.identity)).coverage
            if part.filebase == filebase and part.state is State.DEFERRED and blames_recipient(part.reply)
            for key in part.recipients
        }
        replies = {address: last[key] for address in owed if (key := recipient_key(address)) in last}
        recipients = tuple(replies)
        if not recipients:
            return False
        dsns: list[NewDsn] = []
        if resources.settings.feed.dsn:
            async with contextlib.aclosing(resources.composer_of(entry).compose(entry, recipients)) as composed:
                async for transaction in composed:
                    dsns += owed_dsn(transaction, filebase, record, replies, now_s, EXPIRED)
        outcomes = [
            Outcome(
                State.FAILED,
                tuple(address for address in recipients if replies[address] == reply),
                f"given up after {after_s:.0f} s of deferrals: {reply}",
                now_s,
            )
            for reply in sorted(set(replies.values()))
        ]
        await resources.ledger.record(filebase, record, outcomes, dsns)
        for outcome in outcomes:
            log_outcome(entry, record, outcome)
        resources.index.set_state(filebase, EntryState.WAITING)
        self._resources.signals.owing.set()
        return True
