"""The data path, stage by stage: read this first.

    intake   watch > scan > custody                                   renamed from Mailman's queue into ours
    survey   read > fingerprint > forecast                            known to the index, in FIFO order
    feed     pick > read > decision > compose > throttle > deliver > finish     settled in the ledger, then off the disk

Each is a task; they meet in the index (what waits) and the ledger (what is settled). Feeding does not wait for the
survey to end: the decision that counts is made here, per recipient, against the ledger, when an entry's turn has come.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import blake2b
from pathlib import Path
from typing import TypeVar

from drainer.clock import Clock
from drainer.compose import Composer
from drainer.compose.wire import ComposedMessage
from drainer.duplicates.classes import DuplicateClass, EntrySummary
from drainer.duplicates.decision import Action, Claim, Classification, Decision, Kin, classify, decide, fifo_key
from drainer.duplicates.fingerprint import Decoration, summarise
from drainer.errors import (
    ComposeDeferred,
    ComposerUnavailable,
    CustodyRefused,
    EntryError,
    EntryUnreadable,
    EntryVanished,
    HaltError,
    IllegalTransition,
    LedgerNotDurable,
    MtaError,
    RequestRefused,
)
from drainer.estimate.backlog import EntrySizes
from drainer.feed.deliver import Transaction, deliver
from drainer.feed.gate import Gate
from drainer.feed.rate_in_force import RateInForce
from drainer.feed.refusals import Refusals, after_transaction
from drainer.feed.release import Release
from drainer.feed.released import is_released_list
from drainer.feed.retry import retry_delay_s
from drainer.feed.session_pool import SessionPool
from drainer.feed.shaping import Shaping, Split, after_sending, split
from drainer.feed.throttle import Throttle
from drainer.guards.mailman_processes import mailman_processes
from drainer.in_doubt import InDoubt
from drainer.ledger.contract import Ledger
from drainer.ledger.records import Coverage, Deferral, History, Hold, MessageRecord, Outcome, recipient_key
from drainer.ledger.states import SETTLED, State
from drainer.queuedir.custody import Custody
from drainer.queuedir.entry import Flavour, QueueEntry
from drainer.queuedir.filebase import QueueFile, Suffix
from drainer.queuedir.handback import with_recipients
from drainer.queuedir.index import BacklogIndex, Description, EntryState, WaitingEntry, tie_order
from drainer.queuedir.read import read_entry
from drainer.queuedir.scan import scan_queue
from drainer.queuedir.survey import Surveyed, Surveyor
from drainer.queuedir.watch import changed_directories
from drainer.report.logfmt import logfmt
from drainer.settings import Settings

log = logging.getLogger("drainer")
_Value = TypeVar("_Value")

LISTED_AT_A_TIME = 250
SYNCED_AT_A_TIME = 20_000
"""Entries are made durably ours by as many at a time: an fsync may take as long as a thousand renames."""
SURVEYED_AT_A_TIME = 1000
DESCRIBED_AT_A_TIME = 100
"""As many entries are made known to the index in one go: some milliseconds."""
LIST_AGAIN_S = 5.0
"""How soon a queue is listed again in which something was left that may be wanted later."""
LEDGER_AGAIN_S = 1.0
LOOK_AGAIN_S = 15.0
"""How soon an entry is looked at again that waits for another entry of its message, or for a doubt to be resolved."""

RESEND, DUPLICATE, IN_DOUBT = "resend", "duplicate", "in_doubt"
"""Why the duplicate decision holds an entry."""

REFUSALS = "refusals"
"""The gate's reason while the MTA refuses everybody (feed/refusals.py): until an operator resumes, or a restart."""

LOSSES_IN_A_ROW = 3
"""Sessions lost with the same entry before it is put off: one the MTA always hangs up on must not go first for ever."""

RELEASED = "released"
"""Reason of a Hold that is none any more: an operator released this entry, and `detail` says from which of RESEND and
DUPLICATE, since that policy no longer applies to it. Kept in the ledger, as everything an operator decided."""

RESEMBLES = "resembles"
"""Reason of a Hold that is none yet: this entry repeats the text of the entry `detail`. The index forgets at a restart
what was finished before it; without this a resend would then go out as if it were the first."""


@dataclass(slots=True)
class Parts:
    """What the stages work with; service.py puts it together.

    decoration_of  as the surveyor's, so that survey and delivery know an entry by the same fingerprint; may read a file
    """

    settings: Settings
    clock: Clock
    custody: Custody
    index: BacklogIndex
    ledger: Ledger
    composers: dict[Flavour, Composer]
    surveyor: Surveyor
    pool: SessionPool
    throttle: Throttle
    gate: Gate
    in_doubt: InDoubt
    rate: RateInForce
    release: Release
    decoration_of: Callable[[QueueEntry], Decoration | None] | None = None


@dataclass(slots=True)
class Progress:
    """Counts since the start of the process that no file or ledger keeps.

    arrived_recipients  of entries taken after the first listing
    listed              the first listing of every queue is done: the backlog's entries and bytes are known
    sizes               recipients per entry, as far as entries were read
    """

    arrived_recipients: int = 0
    listed: bool = False
    sizes: EntrySizes = field(default_factory=EntrySizes)


@dataclass(slots=True)
class _Work:
    """An entry whose turn it is."""

    list_id: str
    task: asyncio.Task[None]


class Pipeline:
    """The three tasks, and what operators' decisions ask of them."""

    def __init__(self, parts: Parts) -> None:
        self.parts = parts
        self.progress = Progress()
        self.intake_on = True
        self._works: dict[str, _Work] = {}
        self._slots = asyncio.Semaphore(parts.settings.mta.sessions)
        self._news = asyncio.Event()
        self._listed = asyncio.Event()
        self._in_flight = 0
        self._unread = asyncio.Event()
        self._workers: asyncio.Task[None] | None = None
        self._claimed: set[str] = set()
        self._late: set[str] = set()
        self._released: dict[str, str] = {}
        self._resembling: set[str] = set()
        self._waiting_for: dict[str, set[str]] = {}
        self._taken_out: set[str] = set()
        self._holding: set[asyncio.Task[None]] = set()
        self._shaping = Shaping()
        self._refusals = Refusals()
        self._losses: dict[str, int] = {}
        parts.gate.on_close = self.put_back_what_may_not_go_on
        parts.release.on_back = self._something_came_back

    @property
    def active(self) -> int:
        """Entries in delivery."""
        return len(self._works)

    @property
    def in_flight(self) -> int:
        """Transactions that have a session."""
        return self._in_flight

    def wake(self) -> None:
        """Something changed that may let an entry go."""
        self._news.set()

    def _something_came_back(self) -> None:
        """Of what Mailman was given: an entry to be read, or a doubt to be resolved."""
        self._unread.set()
        self.parts.in_doubt.wake()
        self.wake()

    # -- intake: watch > scan > custody --------------------------------------------------------------------------------

    async def recover(self) -> None:
        """List what earlier runs left in our directories, with what the ledger knows of it; before any other stage.

        A hold whose rename was lost is done again: the ledger is what counts.
        """
        custody, index, ledger = self.parts.custody, self.parts.index, self.parts.ledger
        for directory, state in ((custody.backlog, EntryState.LISTED), (custody.held, EntryState.HELD)):
            for batch in scan_queue(directory).batches(LISTED_AT_A_TIME):
                index.add_listed(((listed.file, listed.size_bytes) for listed in batch), state)
                self._claimed.update(listed.file.filebase for listed in batch if listed.file.suffix is Suffix.CLAIMED)
                await asyncio.sleep(0)
        for hold in await ledger.holds():
            if hold.reason == RELEASED:
                self._released[hold.filebase] = hold.detail
                with contextlib.suppress(EntryVanished):
                    custody.release(hold.filebase)
                index.set_state(hold.filebase, EntryState.WAITING)
            elif hold.reason == RESEMBLES:
                self._resembling.add(hold.filebase)
            elif index.state_of(hold.filebase) is not None:
                custody.hold(hold.filebase)
                index.set_state(hold.filebase, EntryState.HELD, _why_held(hold.reason, hold.detail))
        for deferral in await ledger.deferrals():
            if index.state_of(deferral.filebase) not in (None, EntryState.HELD):
                index.set_state(deferral.filebase, EntryState.DEFERRED, deferral.reply, deferral.due_s)
                index.set_owed(deferral.filebase, deferral.recipients)
        await self.parts.release.recover()
        self._unread.set()

    async def intake(self) -> None:
        """For ever: what Mailman's queues hold becomes ours. The survey waits meanwhile, since a directory is listed in no
        order and an original has to be known before what repeats it."""
        settings, custody = self.parts.settings.custody, self.parts.custody
        directories = {custody.queue_dir / queue: queue for queue in settings.queues}
        clock, again_s = self.parts.clock, dict.fromkeys(directories, math.inf)
        looks = changed_directories(
            list(directories),
            clock,
            settings.poll,
            wanted=lambda: self.intake_on,
            due=lambda directory: clock.monotonic_s() >= again_s[directory],
        )
        async for changed in looks:
            self._listed.clear()
            for directory in changed:
                left_some = await self._take(directory, directories[directory])
                again_s[directory] = clock.monotonic_s() + LIST_AGAIN_S if left_some else math.inf
            self.progress.listed = True
            self._listed.set()
            self.wake()

    async def _take(self, directory: Path, queue: str) -> bool:
        """Take what is wanted. Returns whether something was left that may be wanted later, with no change to see: a .bak
        whose runner ends or whose time comes, or what there was no room for."""
        left_some = False
        custody = self.parts.custody
        runner_lives = await asyncio.to_thread(self._runner_lives, queue)
        taken: list[tuple[QueueFile, int]] = []
        for batch in scan_queue(directory).batches(LISTED_AT_A_TIME):
            refused = ""
            released = await self.parts.release.ours(queue, batch)
            for listed in batch:
                if listed.file.filebase in released:
                    continue
                if not custody.wants(queue, listed, runner_lives):
                    left_some = left_some or listed.file.suffix is Suffix.CLAIMED
                    continue
                try:
                    taken.append((custody.take(queue, listed.file), listed.size_bytes))
                except EntryVanished:
                    continue
                except CustodyRefused as exc:
                    # A full filesystem may have no room for one more name; there will be when something was finished.
                    refused = str(exc)
            if refused:
                left_some = True
                log.warning(logfmt(outcome="not_taken", queue=queue, detail=refused))
            if taken and self._workers is None:
                self._workers = asyncio.create_task(asyncio.to_thread(self.parts.surveyor.start))
            if len(taken) >= SYNCED_AT_A_TIME:
                await self._add_taken(taken)
                taken = []
            await asyncio.sleep(0)
        await self._add_taken(taken)
        return left_some

    async def _add_taken(self, taken: Sequence[tuple[QueueFile, int]]) -> None:
        if not taken:
            return
        # A take lost at power failure gives the entry back to Mailman's runner, so it is durable before the index, and by
        # it the feed, learns of the entry.
        await asyncio.to_thread(self.parts.custody.sync)
        for some in batched(taken, LISTED_AT_A_TIME):
            self._claimed.update(file.filebase for file, _ in some if file.suffix is Suffix.CLAIMED)
            if self.progress.listed:
                self._late.update(file.filebase for file, _ in some)
            self.parts.index.add_listed(some)
            await asyncio.sleep(0)
        self._unread.set()

    def _runner_lives(self, queue: str) -> bool:
        mailman = self.parts.settings.mailman
        return mailman_processes(self.parts.custody.queue_dir, mailman.config).runner_lives(queue)

    # -- survey: read > fingerprint > forecast -------------------------------------------------------------------------

    async def survey(self) -> None:
        """For ever: entries listed are read and fingerprinted, oldest first; one lot is read while the one before is
        compared with what came earlier."""
        in_hand: list[str] = []
        reading: asyncio.Future[list[Surveyed]] | None = None
        while True:
            finished = list(zip(in_hand, await reading, strict=True)) if reading else []
            if self.intake_on:
                await self._listed.wait()
            if self._workers is not None:
                await self._workers
            known = set(in_hand)
            unread = self.parts.index.unread(SURVEYED_AT_A_TIME + len(known))
            in_hand = [filebase for filebase in unread if filebase not in known]
            paths = [self._file(filebase) for filebase in in_hand]
            reading = asyncio.ensure_future(asyncio.to_thread(self.parts.surveyor.read, paths)) if paths else None
            await self._set_aside([(filebase, read) for filebase, read in finished if read.summary is None])
            summaries = sorted((read.summary for _, read in finished if read.summary is not None), key=fifo_key)
            for some in batched(summaries, DESCRIBED_AT_A_TIME):
                await self._describe(some)
                await asyncio.sleep(0)
            if finished:
                self.wake()
            elif reading is None:
                self._unread.clear()
                await self._unread.wait()

    async def _set_aside(self, without_summary: Sequence[tuple[str, Surveyed]]) -> None:
        for filebase, read in without_summary:
            try:
                if read.reason == EntryVanished.reason:
                    self.parts.index.remove(filebase)
                elif read.is_unreadable:
                    await self._set_aside_unreadable(filebase, read.reason, read.detail)
                else:
                    await self.hold(filebase, read.reason, read.detail, by="drainer")
            except LedgerNotDurable as exc:
                await self._read_again(filebase, exc)

    async def _read_again(self, filebase: str, exc: LedgerNotDurable) -> None:
        """The entry stays unread, so it is read again; until then sending stops as for any other write that failed."""
        self._halt(filebase, exc)
        await asyncio.sleep(LEDGER_AGAIN_S)

    def _file(self, filebase: str) -> Path:
        custody = self.parts.custody
        if released := self.parts.release.path(filebase):
            return released
        if filebase in self._claimed:
            return custody.backlog / (filebase + Suffix.CLAIMED.value)
        return custody.path(filebase)

    async def _describe(self, summaries: Sequence[EntrySummary]) -> None:
        """Make entries known to the index, in FIFO order where it matters: most mails have nothing in common with any
        other, which is asked for all of them at once."""
        strangers = self.parts.index.strangers(summaries) - self._claimed
        records = [self._record(summary) for summary in summaries]
        settled = await self.parts.ledger.known([digest for record in records for digest in record.identity])
        described: list[Description] = []
        for summary, record in zip(summaries, records, strict=True):
            if summary.filebase in strangers and settled.isdisjoint(record.identity):
                described.append(Description(summary))
            else:
                try:
                    self._note([await self._compared(summary, record)])
                except LedgerNotDurable as exc:
                    await self._read_again(summary.filebase, exc)
        self._note(described)

    async def _compared(self, summary: EntrySummary, record: MessageRecord) -> Description:
        if summary.filebase in self._claimed:
            await self._doubt_claimed(summary, record)
        found = await self._forecast(summary, record)
        if found.kind is DuplicateClass.RESEND:
            await self._mark_resend(summary.filebase, found.of or "")
        return Description(summary, found.kind, found.of, len(found.covered))

    def _note(self, described: Sequence[Description]) -> None:
        self.parts.index.describe(described)
        for entry in described:
            filebase, recipients = entry.summary.filebase, entry.summary.recipients
            self.progress.sizes = self.progress.sizes.plus(recipients - entry.covered)
            if filebase in self._late:
                self._late.discard(filebase)
                self.progress.arrived_recipients += recipients

    async def _mark_resend(self, filebase: str, of: str) -> None:
        # INVARIANT resemblance-before-index: written down before the entry can be picked, and so before a later restart.
        #   Crash before: both entries are still here and are compared again; if the first was finished meanwhile, the
        #   second goes out as a mail of its own. Crash after: recover() knows. Held by tests/crash/.
        policy = self.parts.settings.duplicates.resend
        if policy == "deliver" or filebase in self._resembling or filebase in self._released:
            return
        if await self.parts.ledger.hold_of(filebase) is None:
            await self.parts.ledger.hold([Hold(filebase, RESEMBLES, of, "drainer", self.parts.clock.now_s())])
        self._resembling.add(filebase)

    async def _forecast(self, summary: EntrySummary, record: MessageRecord) -> Classification:
        index, print_ = self.parts.index, summary.fingerprint
        same = index.earlier_with(print_.identity, (summary.when_s, tie_order(summary), summary.filebase))
        kin = Kin(
            same=same,
            copies={earlier.filebase for earlier in same if earlier.copy == print_.copy},
            resembling=index.with_resend_key(print_.resend) if print_.resend else (),
            same_message_id=index.with_message_id_key(print_.message_id) if print_.message_id else (),
        )
        history = await self.parts.ledger.history(record.identity)
        return classify(summary, kin, history, self.parts.settings.duplicates.window)

    async def _doubt_claimed(self, summary: EntrySummary, record: MessageRecord) -> None:
        """A `.bak` that Mailman's runner left behind: it may have delivered to anybody, so all recipients are in doubt."""
        filebase = summary.filebase
        entry = read_entry(self._file(filebase))
        known = await self.parts.ledger.history(record.identity)
        own = {key for part in known.coverage if part.filebase == filebase for key in part.recipients}
        owed = tuple(address for address in entry.recipients if recipient_key(address) not in own)
        if owed:
            reply = "left as .bak by Mailman's runner"
            outcome = Outcome(State.IN_DOUBT, owed, reply, self.parts.clock.now_s())
            await self.parts.ledger.record(filebase, record, [outcome])
            self._log(entry, record, outcome)
            self.parts.in_doubt.wake()
        # INVARIANT doubt-before-pck: the ledger has the doubt before the file looks like any other.
        #   Crash before: the file is still .bak and comes here again. Crash after: the ledger has it in doubt.
        self.parts.custody.promote_bak(filebase)
        self._claimed.discard(filebase)

    async def _set_aside_unreadable(self, filebase: str, reason: str, detail: str) -> None:
        if filebase in self._claimed:
            self.parts.custody.promote_bak(filebase)
            self._claimed.discard(filebase)
        kept = self.parts.custody.preserve_bad(filebase)
        self.parts.index.remove(filebase)
        await self.parts.ledger.finish_entry(filebase, {"unreadable_entries": 1})
        log.warning(logfmt(outcome="unreadable", filebase=filebase, reason=reason, detail=detail, kept=kept))

    def _record(self, summary: EntrySummary) -> MessageRecord:
        """The message as the ledger knows it."""
        identity = self._identity(summary.filebase, summary.fingerprint.identity)
        return MessageRecord(identity, summary.list_id, summary.message_id)

    def _identity(self, filebase: str, digests: tuple[bytes, ...]) -> tuple[bytes, ...]:
        """An entry without identity, or where duplicates are to be delivered, is nobody's copy, as is a duplicate that an
        operator released: its own name is its identity."""
        released = self._released.get(filebase) == DUPLICATE
        if not digests or released or self.parts.settings.duplicates.exact == "deliver":
            return (own_identity(filebase),)
        return digests

    # -- feed: pick > read > decision > compose > throttle > deliver > finish --------------------------------------------

    async def feed(self) -> None:
        """For ever: as many entries in delivery as there are sessions, each a task of its own."""
        parts = self.parts
        while True:
            await parts.gate.opened()
            settings = parts.settings
            # Some more than there are sessions, asked for together: the index is asked as long for one as for ten.
            ahead = max(1, settings.mta.sessions // 4)
            room = settings.mta.sessions + ahead - len(self._works)
            room = room if room >= ahead else 0
            now_s = parts.clock.now_s()
            picked = (
                parts.index.next_waiting(
                    settings.feed.order, now_s, parts.gate.closed_lists, room, settings.feed.priority
                )
                if room
                else []
            )
            for waiting in picked:
                self._begin(waiting)
            if not picked:
                self._news.clear()
                next_due_s = parts.index.next_due_s() if room else None
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(None if next_due_s is None else max(0.05, next_due_s - now_s)):
                        await self._news.wait()
            await asyncio.sleep(0)

    def _begin(self, waiting: WaitingEntry) -> None:
        filebase = waiting.filebase
        self.parts.index.set_state(filebase, EntryState.ACTIVE)
        task = asyncio.create_task(self._work(waiting), name=f"entry {filebase}")
        self._works[filebase] = _Work(waiting.list_id, task)
        task.add_done_callback(lambda _: self._ended(filebase))

    def _ended(self, filebase: str) -> None:
        task = self._works.pop(filebase).task
        if not task.cancelled() and (error := task.exception()):
            # A bug that one entry brought to light must not stop the others, nor come back with it at each turn.
            log.error(logfmt(outcome="internal_error", filebase=filebase), exc_info=error)
            holding = asyncio.create_task(self.hold(filebase, "internal_error", repr(error), by="drainer"))
            self._holding.add(holding)
            holding.add_done_callback(self._holding.discard)
        elif (
            filebase not in self._taken_out
            and not self.parts.release.has(filebase)
            and self.parts.index.state_of(filebase) is EntryState.ACTIVE
        ):
            self.parts.index.set_state(filebase, EntryState.WAITING)
        self.wake()

    def put_back_what_may_not_go_on(self) -> None:
        """Interrupt the entries the gate no longer allows; transactions past DATA are finished first (feed/deliver.py)."""
        for work in self._works.values():
            if not self.parts.gate.allows(work.list_id):
                work.task.cancel()

    async def settle(self) -> None:
        """Wait until nothing is in delivery any more."""
        while self._works:
            await asyncio.wait([work.task for work in self._works.values()])

    async def _work(self, waiting: WaitingEntry) -> None:
        filebase = waiting.filebase
        try:
            await self._drain(waiting)
        except EntryVanished:
            self.parts.index.remove(filebase)
            log.warning(logfmt(outcome="vanished", filebase=filebase, detail="not in drainer/backlog/ any more"))
        except EntryUnreadable as exc:
            await self._set_aside_unreadable(filebase, exc.reason, exc.detail)
        except (ComposeDeferred, ComposerUnavailable) as exc:
            self._later(filebase, str(exc))
            log.warning(logfmt(outcome="put_back", filebase=filebase, detail=exc))
        except EntryError as exc:
            await self.hold(filebase, exc.reason, exc.detail, by="drainer")
        except IllegalTransition as exc:
            # A bug, and one that concerns this entry only: the ledger wrote nothing, and nothing was sent.
            await self.hold(filebase, "illegal_transition", str(exc), by="drainer")
        except HaltError as exc:
            self._halt(filebase, exc)
        except MtaError as exc:
            log.info(logfmt(outcome="put_back", filebase=filebase, detail=exc))
        except OSError as exc:
            self._later(filebase, f"cannot be read: {exc.strerror}")
            log.error(logfmt(outcome="put_back", filebase=filebase, detail=exc))

    def _halt(self, filebase: str, exc: HaltError) -> None:
        """Send nothing more until the ledger can be written again (service.py tries)."""
        self.parts.gate.close("ledger", str(exc))
        log.error(logfmt(outcome="halt", filebase=filebase, detail=exc))

    async def _drain(self, waiting: WaitingEntry) -> None:
        """One entry, as far as it goes now."""
        filebase, parts = waiting.filebase, self.parts
        entry = self.read(filebase)
        if (not_before_s := deliver_after_s(entry.metadata)) > parts.clock.now_s():
            parts.index.set_state(filebase, EntryState.DEFERRED, "deliver_after", not_before_s)
            return
        record = MessageRecord(self._identity(filebase, waiting.identity), waiting.list_id, waiting.message_id)
        decision = await self._decide(entry, record, waiting.duplicate)
        if decision.deliver and self._is_for_mailman(entry):
            await self._release(entry, record, decision)
            return
        sent: list[Transaction] = []
        interrupted = False
        shaped = split(
            self._shaping, one_per_recipient(decision.deliver), parts.settings.feed.domains, parts.clock.monotonic_s()
        )
        if shaped.ready:
            self._shaping = after_sending(
                self._shaping, shaped.ready, parts.settings.feed.domains, parts.clock.monotonic_s()
            )
            try:
                sent = await self._transmit(entry, record, shaped.ready)
            except asyncio.CancelledError:
                # Put back, not killed: what is in flight was finished, and the ledger says below where the entry stands.
                interrupted = True
                if task := asyncio.current_task():
                    task.uncancel()
            if not interrupted and (settled := _settled_by(decision, sent, filebase)):
                await self._finish(entry, settled)
                return
            decision = await self._decide(entry, record, waiting.duplicate)
        if decision.deliver and set(one_per_recipient(decision.deliver)) <= set(shaped.later):
            self._put_off(filebase, decision, shaped)
            return
        # Only who was refused makes the entry wait. Whose doubt was resolved meanwhile is owed, and was not refused.
        untouched = {address for transaction in sent for address in transaction.untouched}
        refused = {address for transaction in sent for address in transaction.recipients(State.DEFERRED)} - untouched
        blameless = interrupted or not (refused & set(decision.deliver) or self._is_poison(filebase, sent))
        await self._conclude(entry, record, decision, blameless)

    def _is_poison(self, filebase: str, sent: Sequence[Transaction]) -> bool:
        """Whether session after session was lost with this entry, while it is not known to be the MTA's state."""
        if any(transaction.trouble and transaction.untouched for transaction in sent):
            self._losses[filebase] = self._losses.get(filebase, 0) + 1
        elif sent:
            self._losses.pop(filebase, None)
        return self._losses.get(filebase, 0) >= LOSSES_IN_A_ROW

    async def _summarised(self, entry: QueueEntry) -> EntrySummary:
        decoration_of = self.parts.decoration_of
        if decoration_of is None or not entry.metadata.get("decorated"):
            return summarise(entry)
        return summarise(entry, await asyncio.to_thread(decoration_of, entry))

    def _is_for_mailman(self, entry: QueueEntry) -> bool:
        """Whether Mailman's own runner is to deliver it."""
        settings = self.parts.settings
        return settings.feed.via == "mailman" or is_released_list(
            entry.list_id, entry.flavour, settings.mailman.release_lists
        )

    async def _release(self, entry: QueueEntry, record: MessageRecord, decision: Decision) -> None:
        """Into Mailman's hands with all it owes at once, since there is one file: whoever cannot be settled yet is waited
        for."""
        if decision.hold:
            await self.hold(entry.filebase, IN_DOUBT, f"{len(decision.hold)} recipients", by="drainer")
        elif decision.wait:
            claim = decision.wait[0]
            self._later(entry.filebase, f"{claim.state} by {claim.filebase}")
        elif why_not := await self.parts.release.release(entry, record, one_per_recipient(decision.deliver)):
            self._later(entry.filebase, why_not)

    def _put_off(self, filebase: str, decision: Decision, shaped: Split) -> None:
        """What is left waits for the ceilings of its domains."""
        wait_s = min(shaped.due_s - self.parts.clock.monotonic_s(), LOOK_AGAIN_S)
        self.parts.index.set_owed(filebase, len(decision.deliver) + len(decision.wait))
        due_s = self.parts.clock.now_s() + max(0.0, wait_s)
        self.parts.index.set_state(filebase, EntryState.DEFERRED, "ceiling of a recipient domain", due_s)

    async def _decide(self, entry: QueueEntry, record: MessageRecord, duplicate: DuplicateClass) -> Decision:
        """Against the ledger, now. A resend the operator released is a mail like any other."""
        duplicates = self.parts.settings.duplicates
        is_known = entry.filebase in self._resembling
        is_resend = (is_known or duplicate is DuplicateClass.RESEND) and entry.filebase not in self._released
        resembled = await self._resembled(await self._summarised(entry)) if is_resend else None
        # Known from an earlier run, and the first sending is finished: whom that reached, a person can say, not the index.
        forgotten = is_known and resembled == History() and duplicates.resend == "suppress"
        return decide(
            entry.filebase,
            entry.recipients,
            await self.parts.ledger.history(record.identity),
            "hold" if duplicates.exact == "hold" else "suppress",
            "hold" if forgotten else duplicates.resend,
            resembled,
        )

    async def _resembled(self, summary: EntrySummary) -> History:
        """What became of the mails whose text this one repeats."""
        key, window_s = summary.fingerprint.resend, self.parts.settings.duplicates.window
        coverage: list[Coverage] = []
        for earlier in self.parts.index.with_resend_key(key) if key else ():
            if 0 <= summary.when_s - earlier.when_s <= window_s and earlier.filebase != summary.filebase:
                coverage += (await self.parts.ledger.history(earlier.identity)).coverage
        return History(tuple(coverage))

    async def _transmit(self, entry: QueueEntry, record: MessageRecord, owed: Sequence[str]) -> list[Transaction]:
        """Compose and deliver to those owed; returns what became of each transaction, all of them in the ledger.

        Raises  CancelledError, EntryError, HaltError, once nothing of this entry is in flight any more
        """
        parts = self.parts
        deliveries: list[asyncio.Task[Transaction]] = []
        covered: set[str] = set()
        try:
            async with contextlib.aclosing(parts.composers[entry.flavour].compose(entry, owed)) as transactions:
                async for composed in transactions:
                    await self._slots.acquire()
                    try:
                        await parts.throttle.acquire(len(composed.envelope.recipients))
                    except asyncio.CancelledError:
                        self._slots.release()
                        raise
                    covered.update(composed.owed_for)
                    deliveries.append(asyncio.create_task(self._deliver(composed, entry, record)))
                    deliveries[-1].add_done_callback(lambda _: self._slots.release())
            skipped = tuple(address for address in owed if address not in covered)
            if skipped:
                reply = "Mailman delivers nothing to such an address"
                outcome = Outcome(State.SKIPPED, skipped, reply, parts.clock.now_s())
                await parts.ledger.record(entry.filebase, record, [outcome])
                self._log(entry, record, outcome)
            return await asyncio.gather(*deliveries)
        finally:
            for delivery in deliveries:
                delivery.cancel()
            await asyncio.gather(*deliveries, return_exceptions=True)

    async def _deliver(self, composed: ComposedMessage, entry: QueueEntry, record: MessageRecord) -> Transaction:
        parts = self.parts
        async with parts.pool.session() as session:
            self._in_flight += 1
            try:
                transaction = await deliver(
                composed, entry.filebase, record, parts.ledger, session, parts.clock,
                refused=lambda exc: parts.gate.close("ledger", str(exc)),
                is_stopping=lambda: "stopping" in parts.gate.reasons,
            )  # fmt: skip
            finally:
                self._in_flight -= 1
        parts.rate.heard(transaction)
        for outcome in transaction.outcomes:
            self._log(entry, record, outcome)
        self._refusals = after_transaction(self._refusals, entry.filebase, transaction.outcomes)
        if self._refusals.are_too_many and REFUSALS not in parts.gate.reasons:
            log.error(logfmt(event="stopped", reason=self._refusals.text()))
            parts.gate.close(REFUSALS, self._refusals.text())
        if transaction.recipients(State.IN_DOUBT):
            parts.in_doubt.wake()
        return transaction

    async def _conclude(self, entry: QueueEntry, record: MessageRecord, decision: Decision, blameless: bool) -> None:
        """What becomes of the entry after its turn.

        blameless  what is still owed was not refused: interrupted, or the MTA's state
        """
        filebase, index = entry.filebase, self.parts.index
        match decision.action:
            case Action.FINISH:
                await self._finish(entry, decision)
            case Action.SUPPRESS:
                await self._suppress(entry, record, decision)
            case Action.HOLD:
                claim = decision.hold[0] if decision.hold else decision.skip[0]
                reason = RESEND if not claim.filebase else DUPLICATE if not decision.hold else IN_DOUBT
                await self.hold(filebase, reason, f"{len(decision.hold or decision.skip)} recipients", by="drainer")
            case Action.WAIT:
                index.set_owed(filebase, len(decision.wait))
                for claim in decision.wait:
                    self._waiting_for.setdefault(claim.filebase, set()).add(filebase)
                claim = decision.wait[0]
                self._later(filebase, f"{claim.state} by {'itself' if claim.filebase == filebase else claim.filebase}")
            case Action.DELIVER if blameless:
                index.set_owed(filebase, len(decision.deliver) + len(decision.wait))
            case Action.DELIVER:
                await self._defer(entry, record, decision)

    async def _finish(self, entry: QueueEntry, decision: Decision) -> None:
        filebase = entry.filebase
        self._losses.pop(filebase, None)
        by_others = sum(claim.filebase != filebase for claim in decision.skip)
        delivered = any(claim.filebase == filebase and claim.state is State.DELIVERED for claim in decision.skip)
        # INVARIANT settled-before-unlink: every recipient is settled in the durable ledger before the file goes.
        #   Crash before the unlink: the entry is read again, found settled by itself, and finished again; the ledger adds
        #   its counts once only. Held by tests/crash/.
        try:
            await self.parts.ledger.finish_entry(
                filebase, {"delivered_entries": int(delivered), "suppressed_recipients": by_others}
            )
        except asyncio.CancelledError:
            self.parts.index.set_owed(filebase, 0)  # it is finished at its next turn, and counts nobody until then
            raise
        self.parts.custody.finish(filebase)
        self.parts.index.remove(filebase)
        self._wake_those_waiting_for(filebase)
        log.info(
            logfmt(
                outcome="finished", filebase=filebase, list=entry.list_id, recipients=len(entry.recipients),
                suppressed=by_others or None,
            )
        )  # fmt: skip

    async def _suppress(self, entry: QueueEntry, record: MessageRecord, decision: Decision) -> None:
        filebase, first = entry.filebase, decision.skip[0]
        # Renamed before it is counted: a crash in between leaves it in duplicates/ and out of the count, never lost and
        # never counted twice.
        self.parts.custody.suppress(filebase)
        await self.parts.ledger.finish_entry(
            filebase, {"suppressed_entries": 1, "suppressed_recipients": len(decision.skip)}
        )
        self.parts.index.remove(filebase)
        log.info(
            logfmt(
                outcome="suppressed", filebase=filebase, list=entry.list_id, message_id=record.message_id,
                recipients=len(decision.skip), of=first.filebase, settled_at=first.at_s,
            )
        )  # fmt: skip

    async def _defer(self, entry: QueueEntry, record: MessageRecord, decision: Decision) -> None:
        """Refused for now: try again later, and later, until feed.give_up_after."""
        parts, feed, filebase = self.parts, self.parts.settings.feed, entry.filebase
        now_s = parts.clock.now_s()
        before = await parts.ledger.deferral(filebase)
        first_at_s = before.first_at_s if before else now_s
        if now_s - first_at_s >= feed.give_up_after:
            reply = f"given up after {now_s - first_at_s:.0f} s of deferrals"
            outcome = Outcome(State.FAILED, decision.deliver, reply, now_s)
            await parts.ledger.record(filebase, record, [outcome])
            self._log(entry, record, outcome)
            parts.index.set_state(filebase, EntryState.WAITING)
            return
        attempts = before.attempts + 1 if before else 1
        due_s = now_s + retry_delay_s(attempts, feed.retry_first, feed.retry_longest)
        owed = len(decision.deliver) + len(decision.wait)
        reason = f"attempt {attempts} deferred"
        await parts.ledger.defer(Deferral(filebase, attempts, first_at_s, due_s, owed, reason))
        parts.index.set_owed(filebase, owed)
        parts.index.set_state(filebase, EntryState.DEFERRED, reason, due_s)

    def _later(self, filebase: str, reason: str) -> None:
        due_s = self.parts.clock.now_s() + LOOK_AGAIN_S
        self.parts.index.set_state(filebase, EntryState.DEFERRED, reason, due_s)

    async def hold(self, filebase: str, reason: str, detail: str, by: str) -> None:
        """Set an entry aside for a person. The ledger first: a hold whose rename is lost is done again at the next start."""
        await self.parts.ledger.hold([Hold(filebase, reason, detail, by, self.parts.clock.now_s())])
        self.parts.custody.hold(filebase)
        self.parts.index.set_state(filebase, EntryState.HELD, _why_held(reason, detail))
        log.warning(logfmt(outcome="held", filebase=filebase, reason=reason, detail=detail or None, by=by))

    def trust_mta_again(self) -> bool:
        """An operator says that the MTA may be tried again after it refused everybody. Returns False if it had not."""
        had_stopped = REFUSALS in self.parts.gate.reasons
        self._refusals = Refusals()
        self.parts.gate.open(REFUSALS)
        self.wake()
        return had_stopped

    def doubt_resolved(self, filebase: str) -> None:
        """The ledger says now what became of recipients in doubt: the entry can be looked at again."""
        self._wake_those_waiting_for(filebase)

    def _wake_those_waiting_for(self, filebase: str) -> None:
        """Entries (itself among them, if it has recipients in doubt) that need not wait for this one any more."""
        for waiter in self._waiting_for.pop(filebase, ()):
            if self.parts.index.state_of(waiter) is EntryState.DEFERRED:
                self.parts.index.set_state(waiter, EntryState.WAITING)
        self.wake()

    def reconfigure(self, settings: Settings) -> None:
        """Settings read again; sessions and the feed follow at once."""
        more = settings.mta.sessions - self.parts.settings.mta.sessions
        for _ in range(max(0, more)):
            self._slots.release()
        self.parts.settings = settings
        self.parts.pool.reconfigure(settings.mta)
        self.parts.release.settings = settings
        self.wake()

    # -- what operators ask --------------------------------------------------------------------------------------------

    def read(self, filebase: str) -> QueueEntry:
        """An entry in our custody. Raises EntryError."""
        return read_entry(self.parts.custody.path(filebase))

    @contextlib.asynccontextmanager
    async def taken_out(self, filebase: str) -> AsyncIterator[None]:
        """The entry is in nobody else's hands: its delivery is interrupted first, and it is not picked meanwhile.

        Raises  RequestRefused if it was released to Mailman
        """
        index, release = self.parts.index, self.parts.release
        self._taken_out.add(filebase)
        try:
            if work := self._works.get(filebase):
                work.task.cancel()
                await asyncio.wait([work.task])
            elif index.state_of(filebase) in (EntryState.WAITING, EntryState.DEFERRED):
                index.set_state(filebase, EntryState.ACTIVE)
            if release.has(filebase):
                raise RequestRefused("Mailman has it: it was released to out/ for Mailman's runner to deliver")
            yield
        finally:
            self._taken_out.discard(filebase)
            in_hands = filebase in self._works or release.has(filebase)
            if index.state_of(filebase) is EntryState.ACTIVE and not in_hands:
                index.set_state(filebase, EntryState.WAITING)

    async def release(self, filebase: str) -> None:
        """A held or deferred entry goes next. Raises RequestRefused if it is neither."""
        ledger, index = self.parts.ledger, self.parts.index
        if index.state_of(filebase) is EntryState.LISTED:
            raise RequestRefused("it waits already")
        why = await ledger.hold_of(filebase)
        await ledger.release([filebase])
        if why and why.reason in (RESEND, DUPLICATE):
            await ledger.hold([Hold(filebase, RELEASED, why.reason, why.by, self.parts.clock.now_s())])
            self._released[filebase] = why.reason
        elif filebase in self._resembling:
            await ledger.hold([Hold(filebase, RESEMBLES, "", "drainer", self.parts.clock.now_s())])
        if index.state_of(filebase) is EntryState.HELD:
            self.parts.custody.release(filebase)
        index.set_state(filebase, EntryState.WAITING)

    async def drop(self, filebase: str, why: str) -> None:
        """Deliver to nobody any more; the file is kept in duplicates/ for a while. Raises RequestRefused, EntryError."""
        entry, record, decision = await self._owed(filebase)
        owed = (*decision.deliver, *(claim.recipient for claim in (*decision.hold, *decision.wait)))
        if owed:
            outcome = Outcome(State.SKIPPED, owed, why, self.parts.clock.now_s())
            await self.parts.ledger.record(filebase, record, [outcome])
            self._log(entry, record, outcome)
        self.parts.custody.drop(filebase)
        await self.parts.ledger.finish_entry(filebase, {"dropped_entries": 1, "dropped_recipients": len(owed)})
        self.parts.index.remove(filebase)

    async def hand_back(self, filebase: str) -> None:
        """Give the entry back to Mailman: untouched, or with only the recipients still owed. The caller syncs custody.

        Raises  RequestRefused while recipients are in doubt, or held because they were: Mailman could only send to them
                again, or never
        """
        entry, record, decision = await self._owed(filebase)
        if doubtful := [claim for claim in decision.hold if claim.filebase == filebase]:
            raise RequestRefused(
                f"{len(doubtful)} recipients may have it already (they were in doubt and are held); "
                "`drainer release` sends to them again, `drainer drop` gives them up"
            )
        # Whom another entry is retrying or holds in doubt, that one owes; handed back by both, Mailman would send twice.
        owed = (*decision.deliver, *(claim.recipient for claim in decision.hold if not claim.filebase))
        if not owed:
            await self._conclude(entry, record, decision, blameless=True)
            return
        if len(owed) == len(entry.recipients):
            self.parts.custody.hand_back(filebase)
        else:
            self.parts.custody.hand_back_rewritten(filebase, with_recipients(entry, owed))
        await self.parts.ledger.finish_entry(filebase)
        self.parts.index.remove(filebase)
        log.info(logfmt(outcome="handed_back", filebase=filebase, list=entry.list_id, recipients=len(owed)))

    async def _owed(self, filebase: str) -> tuple[QueueEntry, MessageRecord, Decision]:
        """Raises RequestRefused while any recipient is in doubt by this very entry."""
        entry = self.read(filebase)
        record = self._record(await self._summarised(entry))
        decision = await self._decide(entry, record, DuplicateClass.NONE)
        doubtful = [c for c in decision.wait if c.filebase == filebase and c.state is State.IN_DOUBT]
        if doubtful:
            raise RequestRefused(f"{len(doubtful)} recipients are in doubt; they have to be resolved first")
        return entry, record, decision

    def _log(self, entry: QueueEntry, record: MessageRecord, outcome: Outcome) -> None:
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
                    recipient=single, recipients=None if single else len(recipients), reply=outcome.reply,
                ),
            )  # fmt: skip


def batched(values: Sequence[_Value], size: int) -> Iterator[Sequence[_Value]]:
    """In order, `size` at a time."""
    for start in range(0, len(values), size):
        yield values[start : start + size]


def one_per_recipient(addresses: Sequence[str]) -> tuple[str, ...]:
    """The same addresses, in order, without those that are one recipient to the ledger (another case of the domain)."""
    return tuple({recipient_key(address): address for address in reversed(addresses)}.values())[::-1]


def _why_held(reason: str, detail: str) -> str:
    return f"{reason}: {detail}" if detail else reason


def _settled_by(before: Decision, sent: Sequence[Transaction], filebase: str) -> Decision | None:
    """The decision a second look at the ledger would come to, if these transactions left nothing open; None: look again.

    Enough to finish on: what was to be skipped was so by a final state in the ledger, and a Transaction is returned only
    once its outcomes are durable there (deliver.py, INVARIANT outcome-before-anything).
    """
    claims = {
        recipient_key(address): Claim(address, filebase, outcome.state, outcome.at_s)
        for transaction in sent
        for outcome in transaction.outcomes
        if outcome.state in SETTLED
        for address in outcome.recipients
    }
    if before.wait or before.hold or not all(recipient_key(address) in claims for address in before.deliver):
        return None
    return Decision(Action.FINISH, skip=(*before.skip, *claims.values()))


def own_identity(filebase: str) -> bytes:
    """The digest of an entry that shares its message with nobody."""
    return b"\xff" + blake2b(filebase.encode("utf-8", "surrogatepass"), digest_size=15).digest()


def deliver_after_s(metadata: Mapping[str, object]) -> float:
    """When Mailman would deliver it at the earliest, seconds since the epoch; 0.0 if it says nothing.

    Source  metadata `deliver_after`: a float in Mailman 2.1, a naive datetime in local time in 3
    """
    value = metadata.get("deliver_after")
    if isinstance(value, datetime):
        return value.timestamp()
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else 0.0
