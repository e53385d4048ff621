"""How many SMTP sessions are open, when one is renewed, and what is known of the MTA.

In    MtaSettings; sessions given back, usable or lost
Out   a usable Session at a time per task; MtaState for the snapshot
Not here  what a lost session means for a recipient (outcome.py)

A dead MTA is waited for here, so that no entry is blamed: no task gets a session until it answers. One session at a time
then tries, after 1 s, 2 s, 4 s, up to 60 s; the others follow once it has carried a transaction. An MTA that says it has
enough sessions (421, or refuses one while others stand) gets fewer for a while.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Literal

from drainer.clock import Clock
from drainer.errors import MtaError, MtaUnreachable
from drainer.feed.outcome import Stage
from drainer.feed.session import Session
from drainer.settings.mta import MtaSettings

BACK_OFF_FIRST_S = 1.0
BACK_OFF_LONGEST_S = 60.0
ONE_MORE_SESSION_S = 15.0
"""How long an MTA that had enough sessions is left alone before it gets one more."""
REMEMBER_421_S = 600.0
"""How long sessions are renewed early, after the MTA closed one with 421 (Exim: smtp_accept_max_per_connection)."""
IDLE_S = 60.0
"""A session idle for longer is renewed, before the MTA hangs up on it (Postfix: 300 s)."""


@dataclass(frozen=True, slots=True)
class MtaState:
    """What is known of the MTA.

    state       up, down, or unknown (no session was tried yet)
    reason      why it is down, or why it gets fewer sessions than the settings allow; "" if neither
    sessions    open now
    next_try_s  when down: next attempt to open a session, seconds since the epoch
    """

    state: Literal["up", "down", "unknown"]
    reason: str
    sessions: int
    next_try_s: float | None


class SessionPool:
    """Hands out sessions, one to a task at a time: `async with pool.session() as session`."""

    def __init__(
        self,
        settings: MtaSettings,
        clock: Clock,
        open_session: Callable[[MtaSettings], Awaitable[Session]] = Session.open,
        back_off_first_s: float = BACK_OFF_FIRST_S,
        back_off_longest_s: float = BACK_OFF_LONGEST_S,
    ) -> None:
        """back_off_*_s  waits between attempts to reach an MTA that is down, in seconds of the event loop"""
        self._settings = settings
        self._clock = clock
        self._open_session = open_session
        self._back_off_first_s = back_off_first_s
        self._back_off_longest_s = back_off_longest_s
        self._idle: list[tuple[float, Session]] = []
        self._born: dict[Session, MtaSettings] = {}
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
        self._fewer: tuple[int, float] | None = None
        self._at_421: tuple[int, float] | None = None
        self._closed = False
        self._changed = asyncio.Event()

    @property
    def state(self) -> MtaState:
        next_try_s = None
        if self._state == "down":
            next_try_s = self._clock.now_s() + max(0.0, self._next_try - asyncio.get_running_loop().time())
        return MtaState(self._state, self._reason, self._open, next_try_s)

    @property
    def limit(self) -> int:
        """Most sessions the MTA gets just now; while it is down or unknown, only one of them tries at a time."""
        if self._fewer is None:
            return self._settings.sessions
        allowed, since = self._fewer
        limit = allowed + int((asyncio.get_running_loop().time() - since) / ONE_MORE_SESSION_S)
        if limit >= self._settings.sessions:
            self._fewer = None
            self._reason = self._reason if self._state == "down" else ""
        return min(limit, self._settings.sessions)

    def reconfigure(self, settings: MtaSettings) -> None:
        """Follow new settings at once; sessions opened under the old ones are renewed before their next transaction."""
        self._settings = settings
        self._next_try = 0.0
        self._wake_all()

    @asynccontextmanager
    async def session(self) -> AsyncIterator[Session]:
        """A session for one transaction, as soon as the MTA has one for us; waits while it is down.

        Raises   MtaUnreachable once the pool is closed
        """
        session = await self._take()
        transactions_before = session.transactions
        try:
            yield session
        finally:
            self._give_back(session, transactions_before)

    async def close(self) -> None:
        """Hand out no more, wait for those handed out, QUIT all."""
        self._closed = True
        self._wake_all()
        while self._open or self._leaving:
            self._changed.clear()
            while self._idle:
                self._leave(self._idle.pop()[1])
            await asyncio.gather(*self._leaving)
            if self._open:
                await self._changed.wait()

    async def _take(self) -> Session:
        loop = asyncio.get_running_loop()
        while True:
            if self._closed:
                raise MtaUnreachable(self._settings.host, self._settings.port, "no further session: shutting down")
            if (wait_s := self._next_try - loop.time()) > 0:
                await self._wait(wait_s)
            elif self._probing and self._probe_out:
                await self._wait(None)
            elif (session := self._idle_session(loop.time())) is not None:
                return self._handed_out(session)
            elif self._probing or self._open < self.limit:
                if (session := await self._opened()) is not None:
                    return self._handed_out(session)
            else:
                await self._wait(ONE_MORE_SESSION_S if self._fewer else None)

    def _handed_out(self, session: Session) -> Session:
        if self._probing:
            self._probe_out, self._probe = True, session
        return session

    def _idle_session(self, now: float) -> Session | None:
        while self._idle:
            since, session = self._idle.pop()
            fresh = now - since < IDLE_S and self._born[session] is self._settings
            if session.usable and fresh and self._open <= self.limit:
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
            self._open -= 1
            self._changed.set()
            self._wake_one()
            if not isinstance(exc, MtaError):
                raise
            if self._open and not probe:
                self._take_fewer(self._open, str(exc))
            else:
                self._down(str(exc))
            return None
        finally:
            self._probe_out = (
                self._probe_out and not probe
            )  # set again when it is handed out, if a probe is still wanted
        self._born[session] = settings
        if not self._failures and self._probing:
            self._works()  # the first session of all; after a failure a transaction has to prove it
        elif self._state == "down":
            self._state, self._reason = "up", ""
        return session

    def _give_back(self, session: Session, transactions_before: int) -> None:
        if session is self._probe:
            self._probe_out, self._probe = False, None
        if session.transactions > transactions_before:
            self._works()
        if session.got_421:
            self._learn_from_421(transactions_before)
        lost_idle = session.lost is not None and session.lost.stage is Stage.MAIL and transactions_before > 0
        if session.lost is not None and not lost_idle:
            self._down(str(session.lost))
        elif session.got_421 and not session.transactions:
            self._down("the MTA closes sessions with 421 before they have carried anything")
        if session.usable and session.transactions < self._renew_after():
            self._idle.append((asyncio.get_running_loop().time(), session))
            self._changed.set()
            self._wake_one()
        else:
            self._leave(session)

    def _renew_after(self) -> int:
        """Transactions a session carries before it is renewed: as the settings say, or fewer if the MTA ends it then."""
        most = self._settings.transactions_per_session
        if self._at_421 is not None and asyncio.get_running_loop().time() < self._at_421[1]:
            return min(most, self._at_421[0])
        return most

    def _learn_from_421(self, transactions: int) -> None:
        """A session closed by the MTA after some transactions: its limit per session, or else it has too many of them."""
        known = self._renew_after() if self._at_421 is not None else None
        if transactions and (known is None or transactions < known):
            self._at_421 = (transactions, asyncio.get_running_loop().time() + REMEMBER_421_S)
        if not transactions or (known is not None and transactions < known):
            self._take_fewer(self._open - 1, "the MTA closed a session with 421")

    def _works(self) -> None:
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
        self._fewer = None
        self._wake_all()  # each then waits by the clock, and the first to wake tries

    def _take_fewer(self, sessions: int, reason: str) -> None:
        self._fewer = (max(1, sessions), asyncio.get_running_loop().time())
        if self._state == "up":
            self._reason = reason

    def _leave(self, session: Session) -> None:
        """End a session, with QUIT if it still stands; no task waits for that."""
        del self._born[session]
        if session.usable:
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
