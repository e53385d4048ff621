"""Sessions that are open, and whether the MTA is dead.

In    MtaSettings; sessions given back, usable or lost
Out   a usable Session at a time per task; MtaState for the snapshot
Not here  what a lost session means for a recipient (outcome.py); how many sessions are right (concurrency.py); when lost
          sessions are a dead MTA (dead_detector.py); when a session is renewed (session_renewal.py)

A dead MTA (dead_detector.py) is waited for here, so that no entry is blamed: no task gets a session until it answers. One
session at a time then tries, after 1 s, 2 s, 4 s, up to 60 s; the others follow once it has carried a transaction. Sessions
that are lost together count once.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Literal

from drainer.clock import Clock
from drainer.errors import MtaError, MtaUnreachable
from drainer.feed.concurrency import (
    BUSY_SHARE,
    Concurrency,
    RoundCount,
    first_concurrency,
    greeted,
    next_round,
    refused,
    restarted,
)
from drainer.feed.dead_detector import Losses
from drainer.feed.mta_state import MtaState
from drainer.feed.outcome import Stage
from drainer.feed.session import Session
from drainer.feed.session_limit import SessionLimit
from drainer.feed.session_renewal import SessionRenewal, name_of
from drainer.settings.mta import MtaSettings

BACK_OFF_FIRST_S = 1.0
BACK_OFF_LONGEST_S = 60.0
ONE_MORE_LOOK_S = 5.0
"""A task that waits for a session looks this often whether one more is allowed."""
IDLE_S = 60.0
"""A session idle for longer is renewed, before the MTA hangs up on it (Postfix: 300 s)."""


class SessionPool:
    """Hands out sessions, one to a task at a time: `async with pool.session() as session`."""

    def __init__(
        self,
        settings: MtaSettings,
        clock: Clock,
        open_session: Callable[[MtaSettings], Awaitable[Session]] = Session.open,
        back_off_first_s: float = BACK_OFF_FIRST_S,
        back_off_longest_s: float = BACK_OFF_LONGEST_S,
        *,
        adaptive: bool = True,
    ) -> None:
        """adaptive  false: as many sessions as the settings say, and fewer only where the MTA refuses more
        back_off_*_s  waits between attempts to reach an MTA that is down, in seconds of the event loop
        """
        self._adaptive = adaptive
        self._settings = settings
        self._clock = clock
        self._open_session = open_session
        self._back_off_first_s = back_off_first_s
        self._back_off_longest_s = back_off_longest_s
        self._idle: list[tuple[float, Session]] = []
        self._born: dict[Session, MtaSettings] = {}
        self._strangers: set[Session] = set()
        self._leaving: set[asyncio.Task[None]] = set()
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._open = 0
        self._state: Literal["up", "down", "unknown"] = "unknown"
        self._reason = ""
        self._failures = 0
        self._next_try = 0.0
        self._probing = True
        self._probe_out = False
        self._probe: Session | None = None
        self._losses = Losses()
        self._concurrency = first_concurrency(clock.monotonic_s())
        self._round = RoundCount(clock.monotonic_s())
        self._renewal = SessionRenewal(clock)
        self._closed = False
        self._changed = asyncio.Event()

    @property
    def state(self) -> MtaState:
        next_try_s = None
        if self._state == "down":
            next_try_s = self._clock.now_s() + max(0.0, self._next_try - asyncio.get_running_loop().time())
        law, monotonic_s = self._concurrency, self._clock.monotonic_s()
        limit = self.limit
        why = law.reason if limit < self._settings.sessions else ""
        known = self._adaptive and law.unloaded_s < math.inf
        refuses = why if law.borne is not None else ""
        return MtaState(
            self._state, self._reason or refuses, self._open, next_try_s, limit, why,
            self._clock.now_s() - (monotonic_s - law.since_s) if why else None,
            round(law.unloaded_s + law.queue_s, 4) if known else None,
            round(law.unloaded_s, 4) if known else None,
            bool(self._waiting) and self._open >= limit,
        )  # fmt: skip

    @property
    def limit(self) -> int:
        """Most sessions the MTA gets just now; while it is down or unknown, only one of them tries at a time."""
        return self._concurrency.allowed(self._clock.monotonic_s(), self._settings.sessions, adaptive=self._adaptive)

    @property
    def concurrency(self) -> Concurrency:
        """What is known of the number of sessions."""
        return self._concurrency

    def begin_with(self, concurrency: Concurrency) -> None:
        """Before the first session: what this MTA bore last time."""
        self._concurrency = concurrency

    @property
    def session_limit(self) -> SessionLimit:
        """How many transactions the MTA takes in a session, as far as is known."""
        return self._renewal.known

    def begin_with_limit(self, known: SessionLimit) -> None:
        """Before the first session: what was learnt of the MTA in an earlier run."""
        self._renewal.begin_with(known)

    def reconfigure(self, settings: MtaSettings, *, adaptive: bool | None = None) -> None:
        """Follow new settings at once; sessions opened under the old ones are renewed before their next transaction."""
        if name_of(settings) != name_of(self._settings):
            self._begin_anew()
        self._settings = settings
        self._adaptive = self._adaptive if adaptive is None else adaptive
        self._next_try = 0.0
        self._wake_all()

    def _begin_anew(self) -> None:
        """With another MTA: what is known of the one before says nothing of it. Sessions at work there come to their end."""
        while self._idle:
            self._leave(self._idle.pop()[1])
        self._strangers |= self._born.keys()
        self._open -= len(self._born)
        self._born.clear()
        now_s = self._clock.monotonic_s()
        self._concurrency, self._round, self._losses = first_concurrency(now_s), RoundCount(now_s), Losses()
        self._state, self._reason, self._failures = "unknown", "", 0
        self._probing, self._probe_out, self._probe = True, False, None

    def session(self) -> AbstractAsyncContextManager[Session]:
        """A session for one transaction, as soon as the MTA has one for us; waits while it is down.

        Raises   MtaUnreachable once the pool is closed
        """
        return _Lease(self._take, self._give_back)

    async def close(self) -> None:
        """Hand out no more, wait for those handed out, QUIT all."""
        self._closed = True
        self._wake_all()
        while self._open or self._leaving or self._strangers:
            self._changed.clear()
            while self._idle:
                self._leave(self._idle.pop()[1])
            await asyncio.gather(*self._leaving)
            if self._open or self._strangers:
                await self._changed.wait()

    async def _take(self) -> Session:
        loop = asyncio.get_running_loop()
        while True:
            if self._closed:
                raise MtaUnreachable(self._settings.host, self._settings.port, "no further session: shutting down")
            if (wait_s := self._next_try - loop.time()) > 0:
                await self._wait(wait_s)
            elif (self._probing and self._probe_out) or (self._losses.one_at_a_time and self._are_at_work):
                await self._wait(None)
            elif (session := self._idle_session(loop.time())) is not None:
                return self._handed_out(session)
            elif self._probing or self._open < self.limit:
                if not self._probing and (wait_s := self._concurrency.not_before_s - self._clock.monotonic_s()) > 0:
                    await self._wait(wait_s)
                elif (session := await self._opened()) is not None:
                    return self._handed_out(session)
            else:
                await self._wait(ONE_MORE_LOOK_S if self._concurrency.borne is not None else None)

    @property
    def _are_at_work(self) -> bool:
        """Whether a session is out, or being opened."""
        return self._open > len(self._idle) + len(self._leaving)

    def _handed_out(self, session: Session) -> Session:
        if self._probing:
            self._probe_out, self._probe = True, session
        return session

    def _idle_session(self, now: float) -> Session | None:
        while self._idle:
            since, session = self._idle.pop()
            fresh = now - since < IDLE_S and self._born[session] is self._settings
            if session.usable and fresh and len(self._born) <= self.limit:
                return session
            self._leave(session)
        return None

    async def _opened(self) -> Session | None:
        """A new session, or None after noting why there is none."""
        settings = self._settings
        probe = self._probing
        self._probe_out = self._probe_out or probe
        self._open += 1
        try:
            session = await self._open_session(settings)
        except BaseException as exc:
            self._left(None)
            if not isinstance(exc, MtaError):
                raise
            if settings is not self._settings:
                return None
            if self._born and not probe:
                why = f"the MTA takes no more: {exc.detail if isinstance(exc, MtaUnreachable) else exc}"
                self._concurrency = refused(self._concurrency, len(self._born), why, self._clock.monotonic_s())
            else:
                self._down(str(exc))
            return None
        finally:
            if probe and name_of(settings) == name_of(self._settings):
                self._probe_out = False  # set again when it is handed out, if a probe is still wanted
        self._born[session] = settings
        if settings is not self._settings:
            self._leave(session)
            return None
        self._concurrency = greeted(self._concurrency, len(self._born), self._clock.monotonic_s())
        if not self._failures and self._probing:
            self._works(is_answered=False)  # the first session of all; after a failure a transaction has to prove it
        elif self._state == "down":
            self._state, self._reason = "up", ""
        return session

    def _give_back(self, session: Session, transactions_before: int, begun_s: float) -> None:
        if session in self._strangers:
            self._strangers.remove(session)
            self._open, self._born[session] = self._open + 1, self._settings  # until it has left
            self._leave(session)
            return
        if session is self._probe:
            self._probe_out, self._probe = False, None
        is_closed = session.got_421 and not session.is_about_destination
        if session.transactions > transactions_before:
            self._works(is_answered=session.final_dot_s is not None)
            self._count(session.final_dot_s, failed=False)
        elif (session.lost is not None or is_closed) and not self._renewal.is_at_limit(
            session, transactions_before, self._settings
        ):
            self._count(None, failed=True)
        self._renewal.learn(session, transactions_before, self._settings)
        # At its first command after an idle time: the MTA may have closed it long ago.
        is_fresh = transactions_before == 0
        if session.lost is not None and (is_fresh or session.lost.stage is not Stage.MAIL):
            self._failed(str(session.lost), begun_s, in_doubt=session.lost.in_doubt)
        elif is_closed and not session.transactions:
            self._failed("the MTA closes sessions with 421 before they have carried anything", begun_s)
        if session.usable and not self._renewal.is_worn_out(session, self._settings):
            self._idle.append((asyncio.get_running_loop().time(), session))
            self._changed.set()
            self._wake_one()
        else:
            self._leave(session)

    def _count(self, final_dot_s: float | None, *, failed: bool) -> None:
        """One more transaction of the round; the number of sessions follows once the round is over."""
        now_s, limit = self._clock.monotonic_s(), self.limit
        at_work = len(self._born) - len(self._idle)  # this session among them
        self._round.add(final_dot_s, failed=failed, busy=bool(self._waiting) or at_work >= BUSY_SHARE * limit)
        if (ended := self._round.ended(now_s, limit)) is not None:
            self._round = RoundCount(now_s)
            self._concurrency = next_round(self._concurrency, ended, now_s, self._settings.sessions)
            for _ in range(self.limit - limit):
                self._wake_one()

    def _failed(self, reason: str, begun_s: float, *, in_doubt: bool = False) -> None:
        """A session that was handed out at `begun_s` came to nothing, by the MTA's doing."""
        self._losses = self._losses.lost(begun_s, asyncio.get_running_loop().time(), in_doubt=in_doubt)
        if self._probing or self._losses.are_of_dead_mta(len(self._born)):
            self._down(reason)

    def _works(self, *, is_answered: bool) -> None:
        """A transaction came to an end in order, or the first session of all was greeted."""
        before, self._losses = self._losses, self._losses.went_through(is_answered=is_answered)
        if before.one_at_a_time and not self._losses.one_at_a_time:
            self._wake_all()
        if self._failures:
            self._concurrency = restarted(self._concurrency)
        self._failures = 0
        if self._probing or self._state != "up":
            self._probing = False
            self._next_try = 0.0
            self._state, self._reason = "up", ""
            self._wake_all()

    def _down(self, reason: str) -> None:
        now = asyncio.get_running_loop().time()
        if now < self._next_try:
            return  # known already: sessions lost together count once
        self._failures += 1
        delay_s = min(self._back_off_longest_s, self._back_off_first_s * 2 ** min(self._failures - 1, 30))
        self._state, self._reason = "down", reason
        self._probing = True
        self._next_try = now + delay_s
        self._wake_all()  # each then waits by the clock, and the first to wake tries

    def _leave(self, session: Session) -> None:
        """End a session, with QUIT if it still stands; no task waits for that."""
        del self._born[session]
        if session.usable or (session.has_enough != "no" and not session.got_421):
            task = asyncio.get_running_loop().create_task(session.quit())
            self._leaving.add(task)
            task.add_done_callback(self._left)
        else:
            session.close()
            self._left(None)

    def _left(self, task: asyncio.Task[None] | None) -> None:
        if task is not None:
            self._leaving.discard(task)
        self._open -= 1
        self._changed.set()
        self._wake_one()

    async def _wait(self, longest_s: float | None) -> None:
        """Until something may have changed, or for `longest_s`."""
        waiter = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        try:
            async with asyncio.timeout(longest_s):
                await waiter
        except TimeoutError:
            pass
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled():
                self._wake_one()  # this turn goes to the next
            raise
        finally:
            if waiter in self._waiting:
                self._waiting.remove(waiter)

    def _wake_one(self) -> None:
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return

    def _wake_all(self) -> None:
        while self._waiting:
            self._wake_one()


class _Lease:
    """A session for as long as a block takes."""

    def __init__(
        self, take: Callable[[], Awaitable[Session]], give_back: Callable[[Session, int, float], None]
    ) -> None:
        """give_back  gets the session, the transactions it had carried when it was taken, and when that was"""
        self._take = take
        self._give_back = give_back

    async def __aenter__(self) -> Session:
        self._session = session = await self._take()
        self._transactions, self._begun_s = session.transactions, asyncio.get_running_loop().time()
        return session

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._give_back(self._session, self._transactions, self._begun_s)
