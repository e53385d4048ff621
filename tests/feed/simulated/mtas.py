"""MTAs that bear little, each in its own way, in virtual time. Chance is seeded: each run is the same."""

from __future__ import annotations

import math
import random
from collections import deque
from collections.abc import Callable

from drainer.demo.misbehaviour import TokenBucket, Workers
from tests.feed.simulated.simulation import Answer, Message, Mta, Sess


class Flaky(Mta):
    """3 % of MAIL are answered 421, 1.5 % of contents are cut, whatever the rate."""

    def __init__(self, of: Mta | None = None, share: float = 0.045) -> None:
        self._random = random.Random(7)
        self._of = of or Mta()
        self._share = share

    def answers(self, now_s: float, session: Sess, message: Message) -> Answer:
        if self._random.random() < self._share:
            return Answer("lost")
        return self._of.answers(now_s, session, message)


class FlakyAfterDot(Mta):
    """Hangs up after some final dots, whatever the rate."""

    def __init__(self, share: float) -> None:
        self._random, self._share = random.Random(11), share

    def answers(self, now_s: float, session: Sess, message: Message) -> Answer:
        is_lost = self._random.random() < self._share
        return Answer("lost" if is_lost else "accepted", in_doubt=is_lost)


class ByRate(Mta):
    """A token bucket: so many a second, and a second's worth saved up. rate: of the moment."""

    def __init__(self, rate: Callable[[float], float], burst: float | None = None) -> None:
        self._rate = rate
        self._bucket = TokenBucket(rate(0), rate(0) if burst is None else burst)

    def answers(self, now_s: float, session: Sess, message: Message) -> Answer:
        self._bucket.rate_per_s = self._rate(now_s)
        return Answer("accepted" if self._bucket.takes(1, now_s) else "deferred")


class FewSessions(Mta):
    """Greets so many, and the next one with 421. most: of the moment."""

    def __init__(self, most: Callable[[float], int], each_s: float = 0.2) -> None:
        self._most = most
        self._each_s = each_s

    def greets(self, now_s: float, standing: int) -> bool:
        return standing < self._most(now_s)

    def answers(self, now_s: float, session: Sess, message: Message) -> Answer:
        return Answer("accepted", self._each_s)


class FewWorkers(Mta):
    """Workers that take a time for each mail: it gets slower and refuses nothing."""

    def __init__(self, number: int, each_s: float, spread: float = 0.0) -> None:
        self._workers = Workers(number, each_s)
        self._each_s, self._spread = each_s, spread
        self._random = random.Random(3)

    def answers(self, now_s: float, session: Sess, message: Message) -> Answer:
        self._workers.each_s = self._each_s * self._random.uniform(1 - self._spread, 1 + self._spread)
        return Answer("accepted", self._workers.wait_s(now_s))


class Filling(Mta):
    """A queue that so many a second leave again, and that makes each reply later by 2 ms for each mail in it."""

    def __init__(self, leaves_per_s: float) -> None:
        self._leaves_per_s = leaves_per_s
        self._length = self._at_s = 0.0
        self.longest = 0.0

    def answers(self, now_s: float, session: Sess, message: Message) -> Answer:
        self._length = max(0.0, self._length - self._leaves_per_s * (now_s - self._at_s)) + 1
        self._at_s = now_s
        self.longest = max(self.longest, self._length)
        return Answer("accepted", 0.05 + 0.002 * self._length)


class Banning(Mta):
    """Nothing at all from one second to another: no session, and 421 in those that stand."""

    line_s = 0.02

    def __init__(self, from_s: float, to_s: float) -> None:
        self.from_s, self.to_s = from_s, to_s

    def greets(self, now_s: float, standing: int) -> bool:
        return not self.from_s <= now_s < self.to_s

    def answers(self, now_s: float, session: Sess, message: Message) -> Answer:
        return Answer("lost" if self.from_s <= now_s < self.to_s else "accepted")


class HangingUp(Mta):
    """Hangs up after each final dot, from one second to another. each_s: how long it takes for a content."""

    def __init__(self, from_s: float, to_s: float, each_s: float = 0.0) -> None:
        self._from_s, self._to_s, self._each_s = from_s, to_s, each_s

    def answers(self, now_s: float, session: Sess, message: Message) -> Answer:
        is_lost = self._from_s <= now_s < self._to_s
        return Answer("lost" if is_lost else "accepted", self._each_s, in_doubt=is_lost)


class RefusingAll(Mta):
    """451 for everybody from one second to another."""

    def __init__(self, from_s: float, to_s: float) -> None:
        self._from_s, self._to_s = from_s, to_s

    def answers(self, now_s: float, session: Sess, message: Message) -> Answer:
        return Answer("deferred" if self._from_s <= now_s < self._to_s else "accepted")


class Greylisting(Mta):
    """The first attempt of everybody is deferred."""

    def answers(self, now_s: float, session: Sess, message: Message) -> Answer:
        return Answer("accepted" if message.attempts > 1 else "deferred")


class BadDomain(Mta):
    """One domain is deferred."""

    def answers(self, now_s: float, session: Sess, message: Message) -> Answer:
        return Answer("deferred" if message.domain == "bad.example" else "accepted")


class Remote(Mta):
    """Far away, and it has workers enough."""

    line_s = 0.08


class Tarpit(BadDomain):
    """As that, and a session with more than ten refusals in a row gets each reply five seconds late."""

    def answers(self, now_s: float, session: Sess, message: Message) -> Answer:
        answer = super().answers(now_s, session, message)
        return Answer(answer.ended, 5.0) if session.errors > 10 else answer


class Overloaded(Mta):
    """Loses connections, the more the faster it is fed beyond what it bears: a loss that our load does cause."""

    def __init__(self, per_s: float) -> None:
        self._per_s = per_s
        self._came_s: deque[float] = deque()
        self._random = random.Random(5)

    def answers(self, now_s: float, session: Sess, message: Message) -> Answer:
        self._came_s.append(now_s)
        while self._came_s[0] < now_s - 1:
            self._came_s.popleft()
        is_lost = self._random.random() < 1 - self._per_s / len(self._came_s)
        return Answer("lost" if is_lost else "accepted")


class GroupCommit(Mta):
    """A disk: whoever comes while it commits waits for the next commit, and all of them are done with that."""

    def __init__(self, each_s: float) -> None:
        self._each_s = each_s

    def answers(self, now_s: float, session: Sess, message: Message) -> Answer:
        commits = math.floor(now_s / self._each_s) + 2  # the one that runs, and the next
        return Answer("accepted", commits * self._each_s - now_s)
