"""A feed in virtual time: the law that drainer uses, a simulated throttle, simulated sessions, a simulated MTA.

Nothing waits and nothing is sent: events stand in a heap, and time jumps from one to the next. What the throttle, the pool
and the stages do is done here in a few lines; what decides is the code of the service (adaptive_rate.py, concurrency.py).
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from drainer.feed.adaptive_rate import LOOK_EVERY_S, Heard, Pace, first_pace, next_pace
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
from drainer.feed.session_pool import BACK_OFF_LONGEST_S, ONE_MORE_LOOK_S
from drainer.feed.session_renewal import ERRORS_PER_SESSION
from drainer.feed.throttle import CATCH_UP_S

Ended = Literal["accepted", "deferred", "lost"]
RENEWED_AFTER = 100
"""Transactions of a session."""
OWN_S = 0.01
"""Our own part of a transaction: the ledger's commit, composing."""


@dataclass(slots=True)
class Sess:
    """A session."""

    number: int
    transactions: int = 0
    errors: int = 0


@dataclass(slots=True)
class Message:
    domain: str = "a.example"
    attempts: int = 0


@dataclass(frozen=True, slots=True)
class Answer:
    """What comes of a transaction whose final dot, or last RCPT, has arrived, and after how long.

    in_doubt  it is lost after the final dot
    """

    ended: Ended
    after_s: float = 0.0
    in_doubt: bool = False


class Mta:
    """Takes everything at once. line_s: one way there and back."""

    line_s = 0.002

    def greets(self, now_s: float, standing: int) -> bool:
        return True

    def answers(self, now_s: float, session: Sess, message: Message) -> Answer:
        return Answer("accepted")


@dataclass(slots=True)
class Result:
    """What the MTA saw, as (second, what) in order, and what was known of it."""

    events: list[tuple[float, Ended, float]] = field(default_factory=list)
    sessions: list[tuple[float, int]] = field(default_factory=list)
    rates: list[tuple[float, float]] = field(default_factory=list)
    downs: int = 0
    refused_sessions: int = 0
    in_doubt_s: list[float] = field(default_factory=list)

    def per_s(self, from_s: float, to_s: float) -> float:
        """Accepted per second."""
        return sum(1 for at_s, ended, _ in self.events if ended == "accepted" and from_s <= at_s < to_s) / (
            to_s - from_s
        )

    def share(self, ended: Ended, from_s: float, to_s: float) -> float:
        found = [what for at_s, what, _ in self.events if from_s <= at_s < to_s]
        return found.count(ended) / max(1, len(found))

    def reply_s(self, from_s: float, to_s: float) -> float:
        """Mean time from final dot to reply."""
        found = [reply_s for at_s, what, reply_s in self.events if what == "accepted" and from_s <= at_s < to_s]
        return sum(found) / max(1, len(found))

    def sessions_at(self, at_s: float) -> int:
        return next(number for since_s, number in reversed(self.sessions) if since_s <= at_s)


class Simulation:
    """`run` it once. messages: made one after the other, as many as are wanted."""

    def __init__(
        self,
        mta: Mta,
        *,
        most: int = 20,
        ceiling_per_s: float | None = None,
        messages: Callable[[int], Message] = lambda number: Message(),
        retry_s: float = 60.0,
        pace: Pace | None = None,
    ) -> None:
        self.mta, self.most, self.ceiling_per_s, self.retry_s = mta, most, ceiling_per_s, retry_s
        self.now_s = 0.0
        self.pace = pace or first_pace(0.0, ceiling_per_s)
        self.concurrency: Concurrency = first_concurrency(0.0)
        self.result = Result()
        self._messages = messages
        self._numbers = itertools.count()
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._wait_for_rate = self._grants = 0
        self._slot_s = -math.inf
        self._waiting: deque[Message] = deque()  # passed the throttle, wait for a session
        self._retries: deque[tuple[float, Message]] = deque()
        self._in_slots = 0
        self._idle: list[Sess] = []
        self._at_work = self._opening = 0
        self._losses, self._back_offs = Losses(), 0
        self._down_until_s = 0.0
        self._probing = False
        self._serves_s = 0.0
        self._round = RoundCount(0.0)
        self._heard = [0, 0, 0]
        self._domains: dict[str, tuple[int, int]] = {}

    def run(self, seconds: float) -> Result:
        self._at(0.0, self._look)
        for _ in range(self.most):
            self._next_message()
        while self._heap and self._heap[0][0] < seconds:
            self.now_s, _, event = heapq.heappop(self._heap)
            event()
        return self.result

    def _at(self, at_s: float, event: Callable[[], None]) -> None:
        heapq.heappush(self._heap, (at_s, next(self._order), event))

    def _look(self) -> None:
        heard = Heard(self._heard[0], self._heard[1], self._heard[2], self._domains, "451 said the MTA")
        self.pace = next_pace(self.pace, heard, self.now_s, self.ceiling_per_s)
        self._heard, self._domains = [0, 0, 0], {}
        self._grant_next()
        self.result.rates.append((self.now_s, self.pace.per_s))
        self.result.sessions.append((self.now_s, self._allowed()))
        self._at(self.now_s + LOOK_EVERY_S, self._look)

    def _next_message(self) -> None:
        """A slot is free: the next message waits for the rate."""
        self._wait_for_rate += 1
        self._grant_next()

    def _grant_next(self) -> None:
        """As the rate of now has it: whoever waits follows a change at once."""
        if not self._wait_for_rate:
            return
        self._grants += 1
        grant, due_s = self._grants, self._slot_s + 1 / self.pace.per_s
        self._at(max(self.now_s, due_s), lambda: self._granted(due_s) if grant == self._grants else None)

    def _granted(self, due_s: float) -> None:
        self._slot_s = due_s if self.now_s - due_s <= CATCH_UP_S else self.now_s
        self._wait_for_rate -= 1
        self._grant_next()
        if self._retries and self._retries[0][0] <= self.now_s:
            message = self._retries.popleft()[1]
        else:
            message = self._messages(next(self._numbers))
        self._waiting.append(message)
        self._serve()

    def _allowed(self) -> int:
        return self.concurrency.allowed(self.now_s, self.most, adaptive=True)

    def _standing(self) -> int:
        return len(self._idle) + self._at_work

    def _serve(self) -> None:
        """Waiting messages get sessions, as far as they may."""
        while self._waiting:
            one_at_a_time = self._probing or self._losses.one_at_a_time
            if self.now_s < self._down_until_s or (one_at_a_time and self._at_work + self._opening):
                return
            if self._idle and self._standing() <= self._allowed():
                self._begin(self._idle.pop(), self._waiting.popleft())
            elif self._idle:
                self._idle.pop()
            elif self._standing() + self._opening < (1 if self._probing else self._allowed()):
                if self.now_s < self.concurrency.not_before_s:
                    self._serve_at(self.concurrency.not_before_s)
                    return
                self._opening += 1
                self._at(self.now_s + self.mta.line_s, self._opened)
            else:
                if self.concurrency.borne is not None:
                    self._serve_at(self.now_s + ONE_MORE_LOOK_S)
                return
            if self._opening and self._opening >= len(self._waiting):
                return

    def _serve_at(self, at_s: float) -> None:
        if not self.now_s < self._serves_s <= at_s:
            self._serves_s = at_s
            self._at(at_s, self._serve)

    def _opened(self) -> None:
        self._opening -= 1
        standing = self._standing()
        if self.mta.greets(self.now_s, standing):
            self._idle.append(Sess(next(self._order)))
            self.concurrency = greeted(self.concurrency, standing + 1, self.now_s)
        else:
            self.result.refused_sessions += 1
            if standing:
                self.concurrency = refused(self.concurrency, standing, "421", self.now_s)
            else:
                self._down()
        self._serve()

    def _down(self) -> None:
        if self.now_s < self._down_until_s:
            return
        self.result.downs += 1
        self._back_offs += 1
        self._probing = True
        self._down_until_s = self.now_s + min(BACK_OFF_LONGEST_S, 2.0 ** (self._back_offs - 1))
        self._at(self._down_until_s, self._serve)

    def _begin(self, session: Sess, message: Message) -> None:
        self._at_work += 1
        before_s, begun_s = OWN_S + self.mta.line_s, self.now_s
        self._at(self.now_s + before_s, lambda: self._arrived(session, message, begun_s))

    def _arrived(self, session: Sess, message: Message, begun_s: float) -> None:
        message.attempts += 1
        answer = self.mta.answers(self.now_s, session, message)
        reply_s = answer.after_s + self.mta.line_s
        self._at(self.now_s + reply_s, lambda: self._ended(session, message, answer, reply_s, begun_s))

    def _ended(self, session: Sess, message: Message, answer: Answer, reply_s: float, begun_s: float) -> None:
        self.result.events.append((self.now_s, answer.ended, reply_s))
        limit = self._allowed()
        busy = bool(self._waiting) or self._at_work >= BUSY_SHARE * limit
        self._at_work -= 1
        self._heard[0] += 1
        if answer.ended == "lost":
            self._heard[2] += 1
            self._losses = self._losses.lost(begun_s, self.now_s, in_doubt=answer.in_doubt)
            if self._probing or self._losses.are_of_dead_mta(self._standing() + 1):
                self._down()
            if answer.in_doubt:
                self.result.in_doubt_s.append(self.now_s)
                self._next_message()
            else:
                self._waiting.append(message)  # untouched: at once in the next session
        else:
            self._works(is_answered=answer.ended == "accepted")
            session.transactions += 1
            session.errors = 0 if answer.ended == "accepted" else session.errors + 1
            if session.errors < ERRORS_PER_SESSION and session.transactions < RENEWED_AFTER:
                self._idle.append(session)
            known = self._domains.get(message.domain, (0, 0))
            self._domains[message.domain] = (known[0] + 1, known[1] + (answer.ended == "deferred"))
            if answer.ended == "deferred":
                self._heard[1] += 1
                self._retries.append((self.now_s + self.retry_s, message))
            self._next_message()
        self._round.add(reply_s if answer.ended == "accepted" else None, failed=answer.ended == "lost", busy=busy)
        if (ended := self._round.ended(self.now_s, limit)) is not None:
            self._round = RoundCount(self.now_s)
            self.concurrency = next_round(self.concurrency, ended, self.now_s, self.most)
        self._serve()

    def _works(self, *, is_answered: bool) -> None:
        self._losses = self._losses.went_through(is_answered=is_answered)
        if self._back_offs:
            self.concurrency = restarted(self.concurrency)
        self._back_offs = 0
        self._probing, self._down_until_s = False, 0.0
