"""pick: the entries whose turn it is, each a task of its own; and an entry taken out of the feed for somebody else.

In    entries that wait in the index
Out   a turn for each (turn.py); afterwards it is off the disk, or waits again
Not here  what happens in a turn (turn.py)

Feeding does not wait for the survey to end: the decision that counts is made in the turn, against the ledger.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
from collections.abc import AsyncIterator, Sequence
from weakref import WeakValueDictionary

from drainer.backlog.states import EntryState
from drainer.backlog.values import WaitingEntry
from drainer.errors import EntryFinished, EntryVanished, RequestRefused
from drainer.feed.fresh_lane import fresh_between_s, fresh_to_begin
from drainer.feed.pick import entries_to_begin
from drainer.ledger.records import Deferral
from drainer.stages.background import Background
from drainer.stages.domain_ceilings import DomainCeilings
from drainer.stages.giving_way import FewInATurn
from drainer.stages.resources import Resources
from drainer.stages.set_aside import SetAside
from drainer.stages.transmit import Transmit
from drainer.stages.turn import Turn
from drainer.text.logfmt import logfmt
from drainer.via_mailman.open_handovers import OpenHandovers

log = logging.getLogger("drainer")

BEGUN_AT_A_TIME = 3
"""So many turns begin in one turn of the event loop: each reads and composes at once, up to a millisecond of it. The first
ones of a drain, 25 with 20 sessions, held every session and every answer up for 15 to 30 ms (measured)."""


class Feed:
    """`run` for ever. Entries that the gate no longer allows are put back (feed/gate.py); transactions that have sent DATA
    are finished first (feed/deliver.py)."""

    def __init__(
        self,
        resources: Resources,
        domains: DomainCeilings,
        turn: Turn,
        transmit: Transmit,
        set_aside: SetAside,
        at_mailman: OpenHandovers,
    ) -> None:
        self._resources = resources
        self._domains = domains
        self._turn = turn
        self._transmit = transmit
        self._set_aside = set_aside
        self._at_mailman = at_mailman
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._fresh: set[str] = set()
        self._started_s = resources.clock.now_s()
        self._taken_out: set[str] = set()
        self._one_at_a_time: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._background = Background()
        self._begin_few = FewInATurn(BEGUN_AT_A_TIME)

    def clock_was_set_back(self, by_s: float) -> None:
        """What is fresh stays so."""
        self._started_s -= by_s

    @property
    def active(self) -> int:
        """Entries in delivery."""
        return len(self._tasks)

    async def run(self) -> None:
        """For ever: as many entries in delivery as there are sessions, and some more, each a task of its own."""
        resources = self._resources
        while True:
            await resources.gate.opened()
            resources.leave_out_unserved()
            now_s = resources.clock.now_s()
            room = entries_to_begin(resources.settings.mta.sessions, len(self._tasks) - len(self._fresh))
            began = self._begin_in_turn(room)
            room = max(0, room - began)
            if not began + self._begin_fresh(now_s) + self._begin_of_backlog(now_s, room):
                resources.signals.news.clear()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._next_due_in_s(now_s) if room else None):
                        await resources.signals.news.wait()
            await asyncio.sleep(0)

    def _begin_in_turn(self, room: int) -> int:
        """Entries whose turn it is in the lane of a destination: half of the room at most, so that the others go on. Returns
        how many were begun."""
        began = 0
        for waiting in self._domains.in_turn((room + 1) // 2, self._tasks):
            self._begin([waiting])
            began += 1
        return began

    def _next_due_in_s(self, now_s: float) -> float | None:
        """When something may go that cannot go now; None if only news can tell."""
        deferred_s, in_lane_s = self._resources.index.order.next_due_s(), self._domains.next_due_in_s()
        due = [] if deferred_s is None else [max(0.05, deferred_s - now_s)]
        return min(due if in_lane_s is None else [*due, max(0.002, in_lane_s)], default=None)

    def _begin_fresh(self, now_s: float) -> int:
        """Begin fresh entries, if they have a lane of their own. Returns how many were found."""
        resources = self._resources
        if not resources.settings.feed.has_fresh_lane:
            return 0
        room = fresh_to_begin(resources.settings.mta.sessions, len(self._fresh))
        if not room:
            return 0
        received_s = fresh_between_s(self._started_s, now_s)
        return self._begin_all(resources.index.order.next_fresh(received_s, resources.gate.closed_lists, room))

    def _begin_of_backlog(self, now_s: float, room: int) -> int:
        """Begin so many entries in the order of the settings. Returns how many were found."""
        if not room:
            return 0
        resources = self._resources
        order, named = resources.settings.feed.order, resources.named_lists
        return self._begin_all(
            resources.index.order.next_waiting(
                order, now_s, resources.gate.closed_lists, room, named.priority, named.weights
            )
        )

    def _begin_all(self, picked: Sequence[WaitingEntry]) -> int:
        going: list[WaitingEntry] = []
        for waiting in picked:
            # One that put itself back may be here before its task is known to have ended.
            if waiting.filebase in self._tasks:
                continue
            if (admitted := self._domains.admitted(waiting)) is not None:
                going.append(admitted)
            elif not waiting.is_fresh:
                self._resources.index.order.not_sent(waiting.list_id, waiting.expected)
        self._begin(going)
        return len(picked)

    def _begin(self, going: Sequence[WaitingEntry]) -> None:
        self._resources.index.begin([waiting.filebase for waiting in going])
        for waiting in going:
            task = asyncio.create_task(self._take(waiting), name=f"entry {waiting.filebase}")
            self._tasks[waiting.filebase] = task
            if waiting.is_fresh:
                self._fresh.add(waiting.filebase)
            self._resources.gate.admit(task, waiting.list_id)
            task.add_done_callback(functools.partial(self._ended, waiting))

    async def _take(self, waiting: WaitingEntry) -> None:
        await self._begin_few.pass_one()
        await self._turn.take(waiting)

    def _ended(self, waiting: WaitingEntry, _: asyncio.Task[None]) -> None:
        filebase = waiting.filebase
        task, index = self._tasks.pop(filebase), self._resources.index
        self._fresh.discard(filebase)
        self._domains.turn_ended(filebase)
        sent = self._transmit.splits.ended(filebase)
        if not (waiting.is_fresh or self._at_mailman.has(filebase)):
            index.order.not_sent(waiting.list_id, waiting.expected - max(sent, 1), waiting.lane)
        if not task.cancelled() and (error := task.exception()):
            # A bug that one entry brought to light must not stop the others, nor come back with it at each turn.
            log.error(logfmt(outcome="internal_error", filebase=filebase), exc_info=error)
            self._background.begin(self._set_aside.after_bug(filebase, error))
        elif (
            filebase not in self._taken_out
            and not self._at_mailman.has(filebase)
            and index.state_of(filebase) is EntryState.ACTIVE
        ):
            index.set_state(filebase, EntryState.WAITING, due_s=waiting.due_s)
        self._resources.signals.wake()

    async def idle(self) -> None:
        """Wait until nothing is in delivery any more."""
        while self._tasks:
            await asyncio.wait(self._tasks.values())

    @contextlib.asynccontextmanager
    async def taken_out(self, filebase: str) -> AsyncIterator[EntryState]:
        """The entry belongs to the caller alone: its delivery is interrupted first, and it is not picked meanwhile. Of two
        callers for one entry the second waits, and finds what the first has made of it.

        Yields  its state; ACTIVE: it was in delivery
        Raises  RequestRefused if it was handed over to Mailman, EntryVanished if it was settled meanwhile
        """
        lock = self._one_at_a_time.setdefault(filebase, asyncio.Lock())
        async with lock, self._interrupted(filebase) as state:
            yield state

    @contextlib.asynccontextmanager
    async def _interrupted(self, filebase: str) -> AsyncIterator[EntryState]:
        index, at_mailman = self._resources.index, self._at_mailman
        deferral: Deferral | None = None
        self._taken_out.add(filebase)
        try:
            if task := self._tasks.get(filebase):
                task.cancel()
                await asyncio.wait([task])
            state = index.state_of(filebase)
            if state is None:
                raise EntryFinished(f"{filebase} was settled meanwhile")
            if at_mailman.has(filebase):
                raise RequestRefused("Mailman has it: it was handed over to out/ for Mailman's runner to deliver")
            await self._require_file(filebase)
            # Also one that is just being read: it would be picked as soon as that is done.
            if state in (EntryState.LISTED, EntryState.WAITING, EntryState.DEFERRED):
                index.set_state(filebase, EntryState.ACTIVE)
            if state is EntryState.DEFERRED:
                deferral = await self._resources.ledger.deferral(filebase)
            yield state
        finally:
            self._taken_out.discard(filebase)
            in_hands = filebase in self._tasks or at_mailman.has(filebase)
            if index.state_of(filebase) is EntryState.ACTIVE and not in_hands:
                if deferral is None:
                    index.set_state(filebase, EntryState.WAITING)
                else:  # nothing came of it: it waits as long as before
                    latest_s = self._resources.clock.now_s() + self._resources.settings.feed.retry_longest
                    index.set_state(filebase, EntryState.DEFERRED, deferral.reply, min(deferral.due_s, latest_s))
                self._resources.signals.wake()

    async def _require_file(self, filebase: str) -> None:
        """Raises EntryVanished if somebody has taken the file away; then the entry is forgotten."""
        try:
            self._resources.custody.path(filebase)
        except EntryVanished as exc:
            await self._set_aside.forget(filebase, exc)
            raise
