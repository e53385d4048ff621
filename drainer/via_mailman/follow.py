"""Follow the entries that were handed over, until Mailman has finished with them.

In    Mailman's queues and its smtp log, looked at again and again
Out   the outcome of each handover in the ledger, the index and the log; the entry in our custody if Mailman returns it
Not here  what a file seen in a queue means (whereabouts.py); how the queues are listed at one moment (queues.py)

Mailman's runner removes an entry only when it has disposed of it. So:
  gone from out/, not in retry/, shunt/ or bad/   delivered; refused for good where Mailman's smtp log says so
  in retry/          Mailman goes on with those recipients by itself. The attempt stays open for them, so that no other copy
                     goes to them; back in out/, the entry is ours again, to be handed over at the rate
  in out/ under another name   Mailman wants to try it again: ours again, and its turn comes later
  in shunt/ or bad/  held with the reason, in our held/, its recipients too: some of them may have it
  a .bak that no runner has any more   in doubt, as any other; but delivered for the recipients that the MTA accepted, if
                     Mailman's smtp log says so

INVARIANT file-before-ledger on the way back: the file is renamed into custody first, then the attempt ends.
  Crash between: an open attempt and the file in backlog/ (it owes again), as .bak there (in doubt) or in held/ (held).
Held by tests/via_mailman/test_follow.py and tests/scenarios/test_via_mailman.py.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
from collections.abc import Callable, Sequence
from pathlib import Path

from drainer.backlog.index import BacklogIndex
from drainer.backlog.signals import Signals
from drainer.backlog.states import EntryState
from drainer.clock import Clock
from drainer.errors import CustodyRefused, EntryUnreadable, EntryVanished, LedgerNotDurable
from drainer.feed.rate_in_force import RateInForce
from drainer.feed.transaction import Transaction
from drainer.ledger.contract import Ledger
from drainer.ledger.evidence import Fate
from drainer.ledger.records import Hold, MessageRecord, OpenAttempt, Outcome
from drainer.ledger.states import State
from drainer.queuedir.custody import Custody
from drainer.queuedir.filebase import HOME_QUEUE, QueueFile, Suffix
from drainer.queuedir.read import read_entry
from drainer.queuedir.scan import ListedFile
from drainer.settings import Settings
from drainer.text.logfmt import logfmt
from drainer.via_mailman.open_handovers import OpenHandovers, log_handover
from drainer.via_mailman.queues import MailmanQueues, QueueListing, SmtpLogFile
from drainer.via_mailman.whereabouts import (
    IN_OUT,
    WRITTEN_EARLIER_S,
    HandoverMark,
    OpenHandover,
    SeenEntry,
    Whereabouts,
    handover_mark,
    is_made_of,
    keys_among,
    whereabouts,
)

log = logging.getLogger("drainer")

SHUNTED = "shunted"
"""Why an entry is held that Mailman could not deliver."""
PUT_BACK_FOR_S = 15.0
"""How long an entry waits that Mailman wrote back at once."""
_SHUNTED = (
    "by Mailman, in shunt/: its error log says why; before a release see in the MTA's log that it was not delivered"
)
"""Mailman also shunts what it was delivering when it was stopped (RunnerInterrupt): the MTA may have it by then."""
_PUT_BACK = "Mailman put it back into out/ to try it again"
_LOOK_AGAIN_S = 0.05
_LOOK_WHILE_WAITED_FOR_S = 0.25


class Follow:
    """`recover` before anything else, `run` for ever.

    runner_lives whether an outgoing runner of Mailman's lives; asked in a thread
    booted_s     when this machine started, seconds since the epoch
    """

    def __init__(
        self,
        settings: Settings,
        clock: Clock,
        custody: Custody,
        ledger: Ledger,
        index: BacklogIndex,
        rate: RateInForce,
        signals: Signals,
        open_handovers: OpenHandovers,
        smtp_log: SmtpLogFile,
        runner_lives: Callable[[], bool],
        booted_s: Callable[[], float],
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._custody = custody
        self._ledger = ledger
        self._index = index
        self._rate = rate
        self._signals = signals
        self._open = open_handovers
        self._smtp_log = smtp_log
        self._runner_lives = runner_lives
        self._booted_s = booted_s
        self._queues = MailmanQueues(custody.queue_dir, clock)
        self._looking = asyncio.Lock()

    def reconfigure(self, settings: Settings) -> None:
        """Settings read again."""
        self._settings = settings

    async def recover(self) -> None:
        """At start: what an earlier run handed over. Before intake, which must not take it."""
        for attempt in await self._ledger.unresolved_attempts():
            mark = handover_mark(attempt.reverse_path)
            if mark is not None and attempt.state is State.ATTEMPTING:
                self._open.add(_open_handover(attempt, mark))
        for handover in self._open.all:
            if self._is_in_custody(handover.filebase):
                await self._came_back(handover, "an earlier run ended before it was handed over", booted_since=True)
                continue
            out = self._custody.queue_dir / HOME_QUEUE
            for suffix in (Suffix.WAITING, Suffix.CLAIMED):
                with contextlib.suppress(FileNotFoundError):
                    size_bytes = (out / (handover.mark.name + suffix)).stat().st_size
                    self._open.is_in_out(handover)
                    self._index.add_listed([(_as_ours(handover), size_bytes)])
                    self._index.set_state(handover.filebase, EntryState.ACTIVE)
        if self._open.all:
            log.info(logfmt(event="following", entries=len(self._open.all), in_out=self._open.entries))

    async def ours(self, queue: str, listing: Sequence[ListedFile]) -> frozenset[str]:
        """Filebases in a listing of Mailman's queue that were handed over, or that Mailman has made of such an entry."""
        if not self._open.all:
            return frozenset()
        since_s, names = self._open.since_s, self._open.names
        fresh = [
            listed
            for listed in listing
            if listed.file.filebase not in names and listed.written_s >= since_s - WRITTEN_EARLIER_S
        ]
        made: set[str] = set()
        if fresh:
            async with self._looking:
                seen = await asyncio.to_thread(self._read, queue, fresh)
            followed = self._open.all
            made = {entry.file.filebase for entry in seen if any(is_made_of(entry, handover) for handover in followed)}
        names = self._open.names
        return frozenset(made | {listed.file.filebase for listed in listing if listed.file.filebase in names})

    def _read(self, queue: str, listing: Sequence[ListedFile]) -> list[SeenEntry]:
        found = []
        for listed in listing:
            with contextlib.suppress(EntryVanished):
                if seen := self._queues.read(queue, listed):
                    found.append(seen)
        return found

    async def run(self) -> None:
        """For ever: find out the outcome of every open handover."""
        while True:
            while not self._open.all:
                self._open.begun.clear()
                await self._open.begun.wait()
            # Only these: an entry that is handed over while Mailman's queues are listed was not there yet.
            followed = self._open.all
            listing = await self._list_queues()
            if listing is None:
                await asyncio.sleep(_LOOK_AGAIN_S)
                continue
            for handover in followed:
                if self._open.is_open(handover):
                    await self._see_to(handover, listing)
            poll_s = self._settings.custody.poll
            await asyncio.sleep(min(poll_s, _LOOK_WHILE_WAITED_FOR_S) if self._open.is_waited_for else poll_s)

    async def _list_queues(self) -> QueueListing | None:
        since_s, names = self._open.since_s, self._open.names

        def look() -> QueueListing | None:
            found = self._queues.look(since_s, names)
            if found is not None:
                # After the queues: Mailman writes its log before it removes an entry.
                self._smtp_log.read()
            return found

        async with self._looking:
            try:
                return await asyncio.to_thread(look)
            except OSError as exc:
                log.error(logfmt(outcome="queues_unreadable", detail=exc))
                return None

    async def _see_to(self, handover: OpenHandover, listing: QueueListing) -> None:
        try:
            if self._is_in_custody(handover.filebase):
                await self._came_back(handover, "")
                return
            found, seen = whereabouts(
                handover, listing.files.get("out", {}), listing.files.get("bad", {}), listing.seen
            )
            if found not in IN_OUT:
                self._open.leaves_out(handover)
            await self._act(handover, found, seen, listing)
        except (EntryVanished, CustodyRefused, LedgerNotDurable) as exc:
            # Nothing is lost by it: the next look finds the entry where it is then.
            log.warning(logfmt(outcome="look_again", filebase=handover.filebase, detail=exc))

    async def _act(
        self, handover: OpenHandover, found: Whereabouts, seen: SeenEntry | None, listing: QueueListing
    ) -> None:
        match found:
            case Whereabouts.GONE:
                await self._gone(handover)
            case Whereabouts.RETRYING if seen is not None:
                await self._retrying(handover, seen)
            case Whereabouts.PUT_BACK if seen is not None:
                self._custody.take_back(seen.queue, seen.file, handover.filebase)
                await self._came_back(handover, _PUT_BACK)
                self._rate.heard(Transaction((), trouble=_PUT_BACK))
            case Whereabouts.SHUNTED if seen is not None:
                self._custody.take_back(seen.queue, seen.file, handover.filebase, hold=True)
                await self._came_back(handover, _SHUNTED)
            case Whereabouts.BAD:
                file = listing.files["bad"][handover.mark.name + Suffix.PRESERVED].file
                self._custody.take_back("bad", file, handover.filebase, hold=True)
                await self._came_back(handover, "by Mailman, in bad/: its error log says why")
            case Whereabouts.CLAIMED:
                name = (seen.file.filebase if seen else handover.mark.name) + Suffix.CLAIMED
                listed = listing.files["out"][name]
                old = self._clock.now_s() - listed.changed_s >= self._settings.custody.bak_age
                if old and not await asyncio.to_thread(self._runner_lives):
                    self._custody.take_back(HOME_QUEUE, listed.file, handover.filebase)
                    await self._came_back(handover, "left as .bak by Mailman's runner")
            case _:
                return

    async def _gone(self, handover: OpenHandover) -> None:
        outcomes = await self._delivered(handover)
        delivered = any(outcome.state is State.DELIVERED for outcome in outcomes)
        how = Fate.DELIVERED if delivered else Fate.SETTLED
        ended = self._index.ended_as(handover.filebase, how, len(handover.recipients))
        await self._ledger.finish_entry(handover.filebase, {"delivered_entries": int(delivered)}, ended)
        self._index.remove(handover.filebase)
        self._signals.came_back()

    async def _delivered(self, handover: OpenHandover) -> list[Outcome]:
        """Mailman has finished with these recipients: none of them is in retry/ any more."""
        now_s, record, log_says = self._clock.now_s(), handover.record, self._smtp_log.log
        refusals = {refusal.recipient: refusal.reply for refusal in log_says.refusals(record.message_id, handover.at_s)}
        for refusal in log_says.refused_last(record.message_id, record.list_id, handover.at_s):
            refusals.setdefault(refusal.recipient, f"Mailman gave up: {refusal.reply}")
        outcomes = []
        rest: OpenHandover | None = handover
        for address in handover.recipients:
            if rest is None or address not in refusals:
                continue
            failed, rest = await self._open.split(rest, (address,))
            outcomes.append(Outcome(State.FAILED, (address,), refusals[address], now_s))
            await self._open.close(failed, outcomes[-1])
        if rest is not None:
            outcomes.append(Outcome(State.DELIVERED, rest.recipients, "by Mailman's runner", now_s))
            await self._open.close(rest, outcomes[-1])
        self._rate.heard(Transaction(tuple(outcomes)))
        return outcomes

    async def _retrying(self, handover: OpenHandover, seen: SeenEntry) -> None:
        """Mailman keeps some recipients for later; the others are finished."""
        kept, done = keys_among(handover.recipients, seen.recipients)
        if done:
            retried, rest = await self._open.split(handover, kept)
            if rest is not None:
                await self._delivered(rest)
            handover = retried
        if not handover.retrying:
            self._open.add(dataclasses.replace(handover, retrying=True))
            self._index.remove(handover.filebase)
            log_handover("handed_over", handover, "in Mailman's retry/: it tries again by itself")
            refused = Outcome(State.DEFERRED, handover.recipients, "in Mailman's retry/", self._clock.now_s())
            self._rate.heard(Transaction((refused,)))
            self._signals.came_back()

    async def _came_back(self, handover: OpenHandover, why: str, *, booted_since: bool = False) -> None:
        """It is in custody again, under its own name; the attempt is still open.

        booted_since  check whether the machine went down since: then a rename may have been made, seen and lost
        """
        filebase, now_s = handover.filebase, self._clock.now_s()
        path = self._custody.path(filebase)
        await asyncio.to_thread(self._custody.sync)
        hold = path.parent == self._custody.held
        if hold:
            # Before the attempt ends: an operator needs the reason of a held entry.
            await self._ledger.hold([Hold(filebase, SHUNTED, why or "by Mailman", "drainer", now_s)])
        try:
            entry = read_entry(path)
        except EntryUnreadable as exc:
            log.warning(logfmt(outcome="look_again", filebase=filebase, detail=exc))
        else:
            kept, done = keys_among(handover.recipients, entry.recipients)
            if kept and done:
                handover, rest = await self._open.split(handover, kept)
                if rest is not None:
                    await self._delivered(rest)
        claimed = path.suffix == Suffix.CLAIMED
        if claimed and (settled := self._settled_by_log(handover)):
            part, rest = await self._open.split(handover, settled)
            await self._delivered(part)
            if rest is None:
                self._custody.promote_bak(filebase)
                self._list(handover, path, why, hold)
                self._signals.came_back()
                return
            handover = rest
        if claimed or (booted_since and not hold and self._booted_s() > handover.at_s):
            reply = why if claimed else "the machine went down while it was handed over to Mailman"
            await self._open.close(handover, Outcome(State.IN_DOUBT, handover.recipients, reply, now_s))
            if claimed:
                self._custody.promote_bak(filebase)
        else:
            await self._open.close(handover, Outcome(State.DEFERRED, handover.recipients, why, now_s))
            if hold:
                held = Outcome(State.HELD, handover.recipients, f"{SHUNTED} {why}".strip(), now_s)
                await self._ledger.record(filebase, handover.record, [held])
        self._list(handover, path, why, hold)
        self._signals.came_back()

    def _settled_by_log(self, handover: OpenHandover) -> tuple[str, ...]:
        """The recipients that the MTA accepted or refused for good, by Mailman's smtp log: only their end was lost."""
        record = handover.record
        delivery = self._smtp_log.log.delivery(
            record.message_id, record.list_id, len(handover.recipients), handover.at_s
        )
        if delivery is None:
            return ()
        for_now = {name for name, refusal in delivery.refusals.items() if not refusal.is_final}
        return tuple(address for address in handover.recipients if address not in for_now)

    def _list(self, handover: OpenHandover, path: Path, why: str, hold: bool) -> None:
        """Make it known to the index as ours again."""
        filebase, state = handover.filebase, self._index.state_of(handover.filebase)
        if state is None:
            listed_as = EntryState.HELD if hold else EntryState.LISTED
            path = path.with_suffix(Suffix.WAITING)
            self._index.add_listed([(_as_ours(handover), path.stat().st_size)], listed_as)
        if hold:
            self._index.set_state(filebase, EntryState.HELD, f"{SHUNTED}: {why}")
        elif state is EntryState.ACTIVE:
            self._index.set_state(filebase, EntryState.DEFERRED, why, self._clock.now_s() + PUT_BACK_FOR_S)

    def _is_in_custody(self, filebase: str) -> bool:
        try:
            self._custody.path(filebase)
        except EntryVanished:
            return False
        return True


def _open_handover(attempt: OpenAttempt, mark: HandoverMark) -> OpenHandover:
    record = MessageRecord(mark.identity, attempt.list_id, attempt.message_id)
    return OpenHandover(attempt.attempt_id, attempt.filebase, mark, record, attempt.recipients, attempt.at_s)


def _as_ours(handover: OpenHandover) -> QueueFile:
    return QueueFile(float(handover.filebase.partition("+")[0]), handover.filebase, Suffix.WAITING)
