"""decision and finish: what is to become of an entry, and what becomes of it.

In    an entry, the ledger's history of its message, what its turn brought
Out   the entry finished, suppressed, deferred, held or left waiting; the ledger first, then the file, then the index
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace

from drainer.backlog.states import EntryState
from drainer.duplicates.classes import DuplicateClass
from drainer.duplicates.decision import Claim, Decision, NextStep, decide, undecided_among
from drainer.duplicates.summary import EntrySummary
from drainer.errors import EntryVanished, HaltError
from drainer.feed.dsn import EXPIRED, owed_dsn
from drainer.feed.outcome import blames_recipient
from drainer.feed.retry import retry_delay_s, waited_s
from drainer.ledger.actions import Step
from drainer.ledger.evidence import Evidence, Fate
from drainer.ledger.records import (
    Coverage,
    Deferral,
    History,
    Hold,
    MessageRecord,
    NewDsn,
    Outcome,
    recipient_key,
)
from drainer.ledger.states import State
from drainer.queuedir.entry import QueueEntry
from drainer.shielded import carried_through
from drainer.stages.parts import DUPLICATE, IN_DOUBT, RESEND, UNDECIDED, Parts, Standing, why_held
from drainer.stages.refused import Refused
from drainer.text.logfmt import logfmt

log = logging.getLogger("drainer")

LOOK_AGAIN_S = 15.0
"""How soon an entry is looked at again that waits for another entry of its message, or for a doubt to be resolved."""

SETTLED_BEFORE_S = 2.0
"""How long before its file was put here the recipients of a restored copy were settled, at least: the ledger keeps whole
seconds, and a .bak is renamed a moment after its recipients were settled. An entry that left later is remembered."""

FINISHED_REMEMBERED_S = 5.0

UNREADABLE_NAMED = 1000
"""Unreadable files of one run that the ledger names for the report: a backlog may be a million of them."""


class Conclusion:
    """For every stage that has to say what becomes of an entry.

    mta_is_doubted  what fails now may fail because of the MTA (feed/refusals.py)
    """

    def __init__(self, parts: Parts, standing: Standing, refused: Refused) -> None:
        self._parts = parts
        self._standing = standing
        self._refused = refused
        self.mta_is_doubted: Callable[[], bool] = lambda: False
        self._waiting_for: dict[str, set[str]] = {}
        self._unreadable = 0
        self._finished: dict[str, float] = {}
        """Entries that left within the last FINISHED_REMEMBERED_S, and when."""

    async def decide(
        self, entry: QueueEntry, record: MessageRecord, duplicate: DuplicateClass, digests: tuple[bytes, ...]
    ) -> Decision:
        """Against the ledger, now. A resend the operator released is a mail like any other.

        digests  those of its fingerprint, whatever the ledger is to know the message by
        """
        duplicates = self._parts.settings.duplicates
        is_known = entry.filebase in self._standing.resembling
        is_resend = (is_known or duplicate is DuplicateClass.RESEND) and entry.filebase not in self._standing.released
        resembled = await self._resembled(await self._standing.summarised(entry)) if is_resend else None
        # Known from an earlier run, and the first sending is finished: whom that reached, a person can say, not the index.
        forgotten = is_known and resembled == History() and duplicates.resend == "suppress"
        decision = decide(
            entry.filebase,
            entry.recipients,
            await self._history(entry.filebase, record, digests),
            "hold" if duplicates.exact == "hold" else "suppress",
            "hold" if forgotten else duplicates.resend,
            resembled,
            None if self._standing.released.get(entry.filebase) == UNDECIDED else await self._undecided(record),
        )
        if decision.next_step is NextStep.FINISH and self._is_restored(entry.filebase, decision):
            return replace(decision, next_step=NextStep.HOLD if duplicates.exact == "hold" else NextStep.SUPPRESS)
        return decision

    def _is_restored(self, filebase: str, decision: Decision) -> bool:
        """Whether the entry was finished once before, and its file came back: a backup brings it back under its own name.

        Then all its recipients were settled before the file was put here; whom an entry settles itself, it settles later.
        A file is also moved when an operator releases it, and a .bak about when its doubt is over: those were not finished.
        """
        standing = self._standing
        if not any(claim.state is State.DELIVERED for claim in decision.skip) or filebase in standing.released:
            return False
        if filebase in standing.claimed or any(claim.state is State.SKIPPED for claim in decision.skip):
            return False
        put_here_s = self._parts.custody.put_here_s(filebase)
        last_s = max(claim.at_s for claim in decision.skip)
        return last_s < put_here_s - SETTLED_BEFORE_S or self._finished.get(filebase, put_here_s) < put_here_s

    async def _undecided(self, record: MessageRecord) -> History | None:
        """What became of mails that may be this one. Entries that wait have had no say yet, and none that is called as this
        one is can be in delivery now (backlog/index.py, next_waiting): it is all in the ledger, whatever was restarted."""
        return undecided_among(await self._parts.ledger.akin(record.identity), record.identity)

    async def _history(self, filebase: str, record: MessageRecord, digests: tuple[bytes, ...]) -> History:
        """Of the message; and whatever this very entry did, or it would all be done again where the settings changed."""
        ledger, standing = self._parts.ledger, self._standing
        of_message = await ledger.history(standing.known_as(record))
        otherwise = await ledger.history(standing.known_otherwise_as(filebase, record, digests))
        own = [part for part in otherwise.coverage if part.filebase == filebase and part not in of_message.coverage]
        return History((*of_message.coverage, *own)) if own else of_message

    async def _resembled(self, summary: EntrySummary) -> History:
        """What became of the mails whose text this one repeats."""
        key, window_s = summary.fingerprint.resend, self._parts.settings.duplicates.window
        coverage: list[Coverage] = []
        for earlier in self._parts.index.related.with_resend_key(key) if key else ():
            if 0 <= summary.when_s - earlier.when_s <= window_s and earlier.filebase != summary.filebase:
                coverage += (await self._parts.ledger.history(earlier.identity)).coverage
        return History(tuple(coverage))

    async def conclude(self, entry: QueueEntry, record: MessageRecord, decision: Decision, blameless: bool) -> None:
        """What becomes of the entry after its turn.

        blameless  what is still owed was not refused: interrupted, or the MTA's state
        """
        filebase, index = entry.filebase, self._parts.index
        match decision.next_step:
            case NextStep.FINISH:
                await self.finish(entry, record, decision)
            case NextStep.SUPPRESS:
                await self.suppress(entry, record, decision)
            case NextStep.HOLD:
                await self.hold(filebase, *why_held_back(decision), by="drainer")
            case NextStep.WAIT if given_up := self._deferred_by_nobody(decision.wait):
                # Its file was taken away by hand, maybe while no service ran. This one is looked at again at once.
                for name in given_up:
                    await self._parts.ledger.finish_entry(name)
            case NextStep.WAIT:
                index.set_owed(filebase, len(decision.wait))
                for claim in decision.wait:
                    self._waiting_for.setdefault(claim.filebase, set()).add(filebase)
                claim = decision.wait[0]
                self.later(filebase, f"{claim.state} by {'itself' if claim.filebase == filebase else claim.filebase}")
            case NextStep.DELIVER if blameless:
                index.set_owed(filebase, len(decision.deliver) + len(decision.wait))
            case NextStep.DELIVER:
                await self.defer(entry, record, decision)

    def _deferred_by_nobody(self, claims: Sequence[Claim]) -> set[str]:
        """Entries that deferred recipients and are not here any more to try them again."""
        index, release = self._parts.index, self._parts.release
        deferred = {claim.filebase for claim in claims if claim.state is State.DEFERRED}
        return {name for name in deferred if index.state_of(name) is None and not release.has(name)}

    async def finish(self, entry: QueueEntry, record: MessageRecord, decision: Decision) -> None:
        # An interruption between the commit and the unlink would have it finished, and counted, once more at its next turn.
        await carried_through(self._finish(entry, record, decision))

    async def _finish(self, entry: QueueEntry, record: MessageRecord, decision: Decision) -> None:
        filebase = entry.filebase
        others = [claim for claim in decision.skip if claim.filebase != filebase]
        by_others = len(others)
        delivered = any(claim.filebase == filebase and claim.state is State.DELIVERED for claim in decision.skip)
        how = Fate.DELIVERED if delivered else Fate.SETTLED
        ended = self._parts.index.ended_as(filebase, how, len(entry.recipients))
        # INVARIANT settled-before-unlink: every recipient is settled in the durable ledger before the file goes.
        #   Crash before the unlink: the entry is read again, found settled by itself, and finished again; between the
        #   commit and the unlink it is counted as an entry twice, its recipients once. Held by tests/crash/.
        try:
            await self._parts.ledger.finish_entry(
                filebase,
                {"delivered_entries": int(delivered), "suppressed_recipients": by_others},
                ended,
                self._evidence(filebase, record, others, ended.kind),
            )
        except HaltError:
            self._parts.index.set_owed(filebase, 0)  # it is finished at its next turn, and counts nobody until then
            raise
        failed_at_s = max(
            (c.at_s for c in decision.skip if c.filebase == filebase and c.state is State.FAILED), default=0
        )
        is_kept = failed_at_s > 0 and (self.mta_is_doubted() or self._refused.is_undone(failed_at_s))
        if is_kept:  # in duplicates/, or in backlog/ under another name
            await self._refused.keep(filebase, failed_at_s)
        elif any(claim.filebase == filebase and claim.state is State.SKIPPED for claim in decision.skip):
            # An operator's drop that a crash cut off after its recipients were settled ends here: it stays undoable.
            self._parts.custody.drop(filebase)
        else:
            self._parts.custody.finish(filebase)
        self._note_finished(filebase)
        self._parts.index.remove(filebase)
        self.wake_those_waiting_for(filebase)
        log.info(
            logfmt(
                outcome="finished", filebase=filebase, list=entry.list_id, recipients=len(entry.recipients),
                suppressed=by_others or None,
            )
        )  # fmt: skip

    def _note_finished(self, filebase: str) -> None:
        now_s = self._parts.clock.now_s()
        recent_s = now_s - FINISHED_REMEMBERED_S
        while self._finished and (oldest := next(iter(self._finished.items())))[1] < recent_s:
            del self._finished[oldest[0]]
        self._finished[filebase] = now_s

    async def suppress(self, entry: QueueEntry, record: MessageRecord, decision: Decision) -> None:
        await carried_through(self._suppress(entry, record, decision))

    async def _suppress(self, entry: QueueEntry, record: MessageRecord, decision: Decision) -> None:
        filebase = entry.filebase
        had = [claim for claim in decision.skip if claim.state is not State.FAILED]  # a restored copy's: it failed them
        first = had[0]
        # Renamed before it is counted: a crash in between leaves it in duplicates/ and out of the count, never lost and
        # never counted twice.
        self._parts.custody.suppress(filebase)
        ended = self._parts.index.ended_as(filebase, Fate.SUPPRESSED, len(entry.recipients))
        if any(claim.filebase == filebase for claim in had):
            ended = replace(ended, kind=DuplicateClass.RESTORED.value)
        await self._parts.ledger.finish_entry(
            filebase,
            {"suppressed_entries": 1, "suppressed_recipients": len(had)},
            ended,
            self._evidence(filebase, record, had, ended.kind),
        )
        self._parts.index.remove(filebase)
        log.info(
            logfmt(
                outcome="suppressed", filebase=filebase, list=entry.list_id, message_id=record.message_id,
                recipients=len(had), of=first.filebase, settled_at=first.at_s,
            )
        )  # fmt: skip

    def _evidence(self, filebase: str, record: MessageRecord, claims: Sequence[Claim], kind: str) -> list[Evidence]:
        """Whose deliveries recipients were not delivered to again for: a line for each such entry."""
        by_entry: dict[str, list[Claim]] = {}
        for claim in claims:
            by_entry.setdefault(claim.filebase, []).append(claim)
        now_s = self._parts.clock.now_s()
        return [
            Evidence(
                Fate.SUPPRESSED, filebase, now_s, record.list_id, record.message_id, len(some), of,
                max(claim.at_s for claim in some), detail=kind,
            )
            for of, some in by_entry.items()
        ]  # fmt: skip

    async def defer(self, entry: QueueEntry, record: MessageRecord, decision: Decision) -> None:
        """Refused for now: try again later, and later, until feed.give_up_after."""
        parts, feed, filebase = self._parts, self._parts.settings.feed, entry.filebase
        now_s = parts.clock.now_s()
        before = await parts.ledger.deferral(filebase)
        first_at_s = before.first_at_s if before else now_s
        attempts = before.attempts + 1 if before else 1
        after_s = waited_s(attempts, feed.retry_first, feed.retry_longest)
        if after_s >= feed.give_up_after and await self._give_up(entry, record, decision.deliver, after_s):
            return
        due_s = now_s + retry_delay_s(attempts, feed.retry_first, feed.retry_longest)
        owed = len(decision.deliver) + len(decision.wait)
        reason = f"attempt {attempts} deferred"
        await parts.ledger.defer(Deferral(filebase, attempts, first_at_s, due_s, owed, reason))
        parts.index.set_owed(filebase, owed)
        parts.index.set_state(filebase, EntryState.DEFERRED, reason, due_s)

    async def _give_up(self, entry: QueueEntry, record: MessageRecord, owed: Sequence[str], after_s: float) -> bool:
        """Recipients deferred for too long fail, each with its last answer; not whom no answer was ever about, since it was
        the MTA that failed them. Returns False if there is nobody else. Raises EntryError if it cannot be composed."""
        parts, filebase, now_s = self._parts, entry.filebase, self._parts.clock.now_s()
        last = {
            key: part.reply
            for part in (await parts.ledger.history(record.identity)).coverage
            if part.filebase == filebase and part.state is State.DEFERRED and blames_recipient(part.reply)
            for key in part.recipients
        }
        replies = {address: last[key] for address in owed if (key := recipient_key(address)) in last}
        recipients = tuple(replies)
        if not recipients:
            return False
        dsns: list[NewDsn] = []
        if parts.settings.feed.dsn:
            async with contextlib.aclosing(parts.composer_of(entry).compose(entry, recipients)) as composed:
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
        await parts.ledger.record(filebase, record, outcomes, dsns)
        for outcome in outcomes:
            self.log(entry, record, outcome)
        parts.index.set_state(filebase, EntryState.WAITING)
        self._standing.owing.set()
        return True

    def later(self, filebase: str, reason: str) -> None:
        due_s = self._parts.clock.now_s() + LOOK_AGAIN_S
        self._parts.index.set_state(filebase, EntryState.DEFERRED, reason, due_s)

    async def hold(self, filebase: str, reason: str, detail: str, *, by: str, step: Step | None = None) -> None:
        """Set an entry aside for a person. The ledger first: a hold whose rename is lost is done again at the next start.

        step    of an operator's action; its hold is what is written
        Raises  EntryVanished, CustodyRefused, LedgerNotDurable
        """
        written = step.hold if step and step.hold else Hold(filebase, reason, detail, by, self._parts.clock.now_s())
        await carried_through(self._hold(written, step))

    async def _hold(self, hold: Hold, step: Step | None) -> None:
        filebase = hold.filebase
        self._parts.custody.path(filebase)
        # Held, it retries nobody: a copy that waits for whom it deferred would wait as long as nobody releases this one.
        # Crash before the next line: it waits as if it had never been deferred, and what holds it holds it again.
        await self._parts.ledger.finish_entry(filebase)
        await self._parts.ledger.hold([hold], step)
        self.has_been_held(hold)

    def has_been_held(self, hold: Hold) -> None:
        """What follows once the ledger has it."""
        self._parts.custody.hold(hold.filebase)
        self._parts.index.set_state(hold.filebase, EntryState.HELD, why_held(hold.reason, hold.detail))
        self.wake_those_waiting_for(hold.filebase)
        log.warning(
            logfmt(outcome="held", filebase=hold.filebase, reason=hold.reason, detail=hold.detail or None, by=hold.by)
        )

    async def set_aside_unreadable(self, filebase: str, reason: str, detail: str) -> None:
        if filebase in self._standing.claimed:
            self._parts.custody.promote_bak(filebase)
            self._standing.claimed.discard(filebase)
        # Renamed before it is counted, as in suppress(): a crash in between leaves it whole in bad/ and out of the count.
        kept = self._parts.custody.preserve_bad(filebase)
        ended = self._parts.index.ended_as(filebase, Fate.UNREADABLE, 0)
        self._parts.index.remove(filebase)
        evidence = [Evidence(Fate.UNREADABLE, filebase, self._parts.clock.now_s(), detail=why_held(reason, detail))]
        self._unreadable += 1
        await self._parts.ledger.finish_entry(
            filebase, {"unreadable_entries": 1}, ended, evidence if self._unreadable <= UNREADABLE_NAMED else ()
        )
        log.warning(logfmt(outcome="unreadable", filebase=filebase, reason=reason, detail=detail, kept=kept))

    async def forget(self, filebase: str, exc: EntryVanished) -> None:
        """Its file is gone, by other hands than ours."""
        self._parts.index.remove(filebase)
        self.wake_those_waiting_for(filebase)
        log.warning(logfmt(outcome="vanished", filebase=filebase, detail=exc))
        try:
            # What it deferred is retried by nobody now: a copy must not wait for it.
            await self._parts.ledger.finish_entry(filebase)
        except HaltError as halt:
            self.halt(filebase, halt)

    def halt(self, filebase: str, exc: HaltError) -> None:
        """Send nothing more until the ledger can be written again (service.py tries)."""
        self._parts.gate.close("ledger", str(exc))
        log.error(logfmt(outcome="halt", filebase=filebase, detail=exc))

    def wake_those_waiting_for(self, filebase: str) -> None:
        """Entries (itself among them, if it has recipients in doubt) that need not wait for this one any more."""
        for waiter in self._waiting_for.pop(filebase, ()):
            if self._parts.index.state_of(waiter) is EntryState.DEFERRED:
                self._parts.index.set_state(waiter, EntryState.WAITING)
        self._standing.wake()

    def log(self, entry: QueueEntry, record: MessageRecord, outcome: Outcome) -> None:
        """One line per outcome; recipients by name where a person may have to act on them."""
        by_name = outcome.state is not State.DELIVERED
        if not by_name and not log.isEnabledFor(logging.INFO):
            return
        for recipients in [[address] for address in outcome.recipients] if by_name else [list(outcome.recipients)]:
            single = recipients[0] if len(recipients) == 1 else None
            log.log(
                logging.INFO if outcome.state in (State.DELIVERED, State.DEFERRED) else logging.WARNING,
                logfmt(
                    outcome=outcome.state, filebase=entry.filebase, list=entry.list_id, message_id=record.message_id,
                    recipient=single, recipients=len(recipients) if single is None else None, reply=outcome.reply,
                ),
            )  # fmt: skip


def why_held_back(decision: Decision) -> tuple[str, str]:
    """Reason and detail of a hold the duplicate decision asks for. What was in doubt comes first: released from that, the
    entry is decided about again."""
    if not decision.hold:
        return DUPLICATE, f"{len(decision.skip)} recipients"
    if doubtful := [claim for claim in decision.hold if claim.filebase and not claim.is_undecided]:
        return IN_DOUBT, f"{len(doubtful)} recipients"
    if undecided := [claim for claim in decision.hold if claim.is_undecided]:
        return UNDECIDED, (
            f"{len(undecided)} recipients had {undecided[0].filebase}, which may be the same mail with another header and"
            " footer; drop this one if it is, release it if it is another mail"
        )
    return RESEND, f"{len(decision.hold)} recipients"
