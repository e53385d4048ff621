"""watch > scan > custody: take the entries of Mailman's queues into our custody.

In    Mailman's queue directories, what earlier runs left in ours
Out   entries in drainer/backlog/, durably ours, listed in the index
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from drainer.backlog.states import EntryState
from drainer.errors import (
    CustodyRefused,
    EntryVanished,
)
from drainer.guards.mailman_processes import mailman_processes
from drainer.queuedir.filebase import HOME_QUEUE, QueueFile, Suffix
from drainer.queuedir.loan import Loan
from drainer.queuedir.scan import CUSTODY_DIRECTORY, scan_queue, waiting_in
from drainer.queuedir.watch import changed_directories
from drainer.stages.entry_facts import EntryFacts
from drainer.stages.giving_way import give_way
from drainer.stages.hold_reasons import HANDED_BACK, RELEASED, RESEMBLES, why_held
from drainer.stages.progress import Outside, Progress
from drainer.stages.resources import Resources
from drainer.text.logfmt import logfmt
from drainer.via_mailman.follow import Follow

log = logging.getLogger("drainer")

LISTED_AT_A_TIME = 250
MOVED_AT_A_TIME = 25
"""So many renames are one step. A question that an operator asks meanwhile is answered between two steps."""
SYNCED_AT_A_TIME = 20_000
"""So many entries are made durable together: an fsync may take as long as a thousand renames."""
LOAN_AGAIN_S = 0.5
LIST_AGAIN_S = 5.0
"""How soon a queue is listed again if something was left in it that may be wanted later."""


class Intake:
    """`recover` once, then `run` for ever.

    is_on    False: the operator gave the queue back, and nothing is taken any more once `pausing` is set too
    """

    def __init__(
        self, resources: Resources, facts: EntryFacts, progress: Progress, follow: Follow, loan: Loan | None
    ) -> None:
        self._resources = resources
        self._facts = facts
        self._progress = progress
        self.is_on = True
        self.pausing = asyncio.Event()
        self.pausing.set()
        self._follow = follow
        self._loan = loan
        self._claimed_before: set[str] = set()
        self.readers_starting: asyncio.Task[None] | None = None

    def switch(self, is_on: bool) -> None:
        self.is_on = is_on

    async def recover(self) -> None:
        """List what earlier runs left in our directories, with what the ledger knows of it; before any other stage.

        A hold whose rename was lost is done again: the ledger is what counts.
        """
        custody, index, ledger = self._resources.custody, self._resources.index, self._resources.ledger
        for directory, state in ((custody.backlog, EntryState.LISTED), (custody.held, EntryState.HELD)):
            scan = scan_queue(directory)
            for batch in scan.batches(LISTED_AT_A_TIME):
                index.add_listed(((listed.file, listed.size_bytes) for listed in batch), state)
                self._facts.claimed.update(
                    listed.file.filebase for listed in batch if listed.file.suffix is Suffix.CLAIMED
                )
                await give_way()
            self._progress.note_skipped(f"{CUSTODY_DIRECTORY}/{directory.name}", scan)
        for hold in await ledger.holds():
            if hold.reason == RELEASED:
                self._facts.released[hold.filebase] = hold.detail
                with contextlib.suppress(EntryVanished), _refusal_logged(hold.filebase):
                    custody.release(hold.filebase)
                index.set_state(hold.filebase, EntryState.WAITING)
            elif hold.reason == RESEMBLES:
                self._facts.resembling.add(hold.filebase)
            elif hold.reason == HANDED_BACK and index.state_of(hold.filebase) is None:
                await ledger.finish_entry(hold.filebase)  # Mailman had it already when the service died
            elif index.state_of(hold.filebase) is not None:
                with _refusal_logged(hold.filebase):
                    custody.hold(hold.filebase)
                index.set_state(hold.filebase, EntryState.HELD, why_held(hold.reason, hold.detail))
        # Recipients of it who were not refused go on once it is read (survey.py, may_go_on).
        # If the clock was set back by a day meanwhile, an entry due in an hour would be due in a day and an hour.
        latest_s = self._resources.clock.now_s() + self._resources.settings.feed.retry_longest
        for deferral in await ledger.deferrals():
            if index.state_of(deferral.filebase) not in (None, EntryState.HELD):
                due_s = min(deferral.due_s, latest_s)
                index.set_state(deferral.filebase, EntryState.DEFERRED, deferral.reply, due_s)
        await self._follow.recover()
        self._resources.signals.unread.set()

    async def run(self) -> None:
        """For ever: take what Mailman's queues hold. The survey waits meanwhile: a directory is listed in no order, and an
        original has to be known before its copies."""
        resources, custody = self._resources, self._resources.custody
        directories = {custody.queue_dir / queue: queue for queue in custody.queues}
        clock, again_s = self._resources.clock, dict.fromkeys(directories, math.inf)
        looks = changed_directories(
            list(directories),
            clock,
            lambda: resources.settings.custody.poll,
            wanted=lambda: self.is_on,
            due=lambda directory: clock.monotonic_s() >= again_s[directory],
        )
        async for changed in looks:
            self._resources.signals.listed.clear()
            self.pausing.clear()
            if not self._progress.listed:
                self._progress.outside = await asyncio.to_thread(self._outside, changed)
            for directory in changed:
                left_some = await self._take(directory, directories[directory])
                again_s[directory] = clock.monotonic_s() + LIST_AGAIN_S if left_some else math.inf
            self._progress.listed, self._progress.outside = True, Outside()
            self.pausing.set()
            self._resources.signals.listed.set()
            self._resources.signals.wake()

    async def _take(self, directory: Path, queue: str) -> bool:
        """Take what is wanted. Returns whether something was left that may be wanted later without a change of the
        directory: a .bak whose runner ends or whose time comes, or an entry that there was no room for."""
        left_some = False
        custody = self._resources.custody
        runner_lives = await asyncio.to_thread(self._runner_lives, queue)
        competes = queue == HOME_QUEUE and runner_lives
        claimed: set[str] = set()
        taken: list[tuple[QueueFile, int]] = []
        scan = scan_queue(directory)
        for batch in scan.batches(LISTED_AT_A_TIME):
            if not self.is_on:
                left_some = True
                break
            refused = ""
            handed_over = await self._follow.ours(queue, batch)
            for number, listed in enumerate(batch, 1):
                if number % MOVED_AT_A_TIME == 0:
                    await give_way()
                if listed.file.filebase in handed_over:
                    continue
                if competes and listed.file.suffix is Suffix.CLAIMED:
                    claimed.add(listed.file.filebase)
                if not custody.wants(queue, listed, runner_lives):
                    left_some = left_some or listed.file.suffix is Suffix.CLAIMED
                    continue
                try:
                    taken.append((custody.take(queue, listed.file), listed.size_bytes))
                    self._progress.on_the_way += self._progress.listed
                except EntryVanished:
                    self._progress.taken_by_runner += competes
                except CustodyRefused as exc:
                    # A full filesystem may have no room for one more name. There will be room when an entry is finished.
                    refused = str(exc)
            if refused:
                left_some = True
                log.warning(logfmt(outcome="not_taken", queue=queue, detail=refused))
            if taken and self.readers_starting is None:
                self.readers_starting = asyncio.create_task(asyncio.to_thread(self._resources.readers.start))
            if len(taken) >= SYNCED_AT_A_TIME:
                await self._add_taken(taken)
                taken = []
            await give_way()
        else:
            self._progress.note_skipped(queue, scan)
        await self._add_taken(taken)
        self._progress.taken_by_runner += len(claimed - self._claimed_before)
        self._claimed_before = claimed
        return left_some

    async def _add_taken(self, taken: Sequence[tuple[QueueFile, int]]) -> None:
        if not taken:
            return
        # A take that is lost at a power failure gives the entry back to Mailman's runner. So it is durable before the index
        # knows the entry, and with it the feed.
        await self._sync()
        # In the order they will be read in: the index then writes neighbouring rows. A directory has no order.
        taken = sorted(taken, key=lambda entry: entry[0].when_s)
        for some in batched(taken, LISTED_AT_A_TIME):
            self._facts.claimed.update(file.filebase for file, _ in some if file.suffix is Suffix.CLAIMED)
            if self._progress.listed:
                self._facts.late.update(file.filebase for file, _ in some)
            self._resources.index.add_listed(some)
            self._progress.on_the_way -= len(some) * self._progress.listed
            before = self._progress.outside
            self._progress.outside = Outside(
                max(0, before.entries - len(some)),
                max(0, before.bytes - sum(size for _, size in some)),
                before.oldest_s,
            )
            await give_way()
        self._resources.signals.unread.set()

    async def _sync(self) -> None:
        """Make durable what was taken. Until the filesystem does that, it is not fed."""
        while True:
            try:
                await asyncio.to_thread(self._resources.custody.sync)
                return
            except CustodyRefused as exc:
                log.error(logfmt(outcome="not_durable", detail=exc))
            await asyncio.sleep(LIST_AGAIN_S)

    async def bring_back(self) -> None:
        """For ever: entries that were lent away to make room on a full disk come back as soon as they fit."""
        while self._loan and self._loan.entries():
            await self._resources.signals.listed.wait()
            try:
                back = self._loan.bring_back(self._resources.custody)
            except CustodyRefused as exc:
                log.error(logfmt(outcome="not_moved", detail=exc))
                back = []
            self._facts.claimed.update(file.filebase for file, _ in back if file.suffix is Suffix.CLAIMED)
            self._resources.index.add_listed(back)
            self._resources.signals.unread.set()
            if back:
                log.info(logfmt(event="loan_back", entries=len(back), left=len(self._loan.entries())))
            await asyncio.sleep(LOAN_AGAIN_S)
        await asyncio.Event().wait()

    def _outside(self, directories: Collection[Path]) -> Outside:
        """What there is to take, by one listing of each queue; a `.bak` is counted only when it is taken."""
        entries = size_bytes = 0
        oldest_s = math.inf
        for directory in directories:
            for when_s, octets in waiting_in(directory, self._resources.custody.premises.wanted_until_s):
                entries += 1
                size_bytes += octets
                if when_s < oldest_s:
                    oldest_s = when_s
        return Outside(entries, size_bytes, oldest_s if entries else None)

    def _runner_lives(self, queue: str) -> bool:
        mailman = self._resources.settings.mailman
        return mailman_processes(self._resources.custody.queue_dir, mailman.config).runner_lives(queue)


@contextlib.contextmanager
def _refusal_logged(filebase: str) -> Iterator[None]:
    """A move that a full filesystem refuses is made at a later start: the place of the file does not matter meanwhile."""
    try:
        yield
    except CustodyRefused as exc:
        log.warning(logfmt(outcome="not_moved", filebase=filebase, detail=exc))


_Value = TypeVar("_Value")


def batched(values: Sequence[_Value], size: int) -> Iterator[Sequence[_Value]]:
    """In order, `size` at a time."""
    for start in range(0, len(values), size):
        yield values[start : start + size]
