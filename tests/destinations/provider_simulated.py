"""A provider behind an MTA, in virtual time: what an MTA like Postfix makes of mail that we feed it for one domain.

The MTA tries each recipient at once, and those that are deferred again after `retry_s`, doubled each time. We feed as the
law allows, at most `wish_per_s`.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass, field

from drainer.destinations.domain_pace import DomainPace, Look, next_pace

TOO_FAST = "421 4.7.28 our system has detected an unusual rate of mail"


@dataclass
class Bucket:
    """Takes so many a second, and at once what it takes in a second, or `burst`. rate: of the time."""

    rate: Callable[[float], float]
    burst: float = 0.0
    tokens: float = 0.0

    def pass_time(self, now_s: float, dt: float) -> None:
        self.tokens = min(max(self.burst, self.rate(now_s), 2.0), self.tokens + self.rate(now_s) * dt)

    def takes(self, now_s: float) -> bool:
        if self.tokens < 1:
            return False
        self.tokens -= 1
        return True


@dataclass
class Simulated:
    """delivers_per_s: the MTA's own pace for the domain, for a provider that only delays."""

    provider: Bucket
    wish_per_s: float = 30.0
    retry_s: float = 60.0
    look_s: float = 5.0
    log_read: bool = True
    queue_read: bool = True
    delays_only: bool = False
    direct: bool = False
    reply: str = TOO_FAST
    pace: DomainPace = field(default_factory=DomainPace)
    now_s: float = 0.0
    accepted: int = 0
    refused: int = 0
    tried: int = 0
    allowed: float = 0.0
    most_queued: int = 0
    probes: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._waiting: list[tuple[float, float, int]] = []
        self._active: list[float] = []
        self._credit = 0.0
        self._fed = self._took = self._deferred = 0

    def run(self, seconds: float) -> Simulated:
        dt = 0.25
        for step in range(round(seconds / dt)):
            self.now_s += dt
            self.provider.pass_time(self.now_s, dt)
            self.allowed += self.provider.rate(self.now_s) * dt
            self._feed(dt)
            self._deliver()
            self.most_queued = max(self.most_queued, self.queued)
            if (step + 1) % round(self.look_s / dt) == 0:
                self._look()
        return self

    @property
    def queued(self) -> int:
        return len(self._waiting) + len(self._active)

    def _feed(self, dt: float) -> None:
        ceiling = self.pace.per_s
        per_s = self.wish_per_s if ceiling is None else min(self.wish_per_s, ceiling)
        self._credit = min(self._credit + per_s * dt, max(1.0, per_s))
        while self._credit >= 1:
            self._credit -= 1
            if self.direct:
                self._try(self.now_s, 0)
            else:
                self._fed += 1
                self._active.append(self.now_s)

    def _deliver(self) -> None:
        while self._active:
            if self.delays_only and not self.provider.takes(self.now_s):
                return
            arrived_s = self._active.pop(0)
            if self.delays_only:
                self._count()
            else:
                self._try(arrived_s, 0)
        while self._waiting and self._waiting[0][0] <= self.now_s:
            _, arrived_s, tries = heapq.heappop(self._waiting)
            self._try(arrived_s, tries)

    def _try(self, arrived_s: float, tries: int) -> None:
        self.tried += 1
        if self.provider.takes(self.now_s):
            self._count()
            self._fed += self.direct
            return
        self.refused += 1
        self._deferred += 1
        self.probes.append(self.now_s)
        if not self.direct:
            again_s = self.now_s + self.retry_s * 2 ** min(tries, 4)
            heapq.heappush(self._waiting, (again_s, arrived_s, tries + 1))

    def _count(self) -> None:
        self.accepted += 1
        self._took += 1

    def _look(self) -> None:
        oldest = [arrived_s for _, arrived_s, _ in self._waiting] + self._active[:1]
        knows_queue = self.queue_read and not self.direct
        too_fast = self._deferred if self.log_read else 0
        look = Look(
            at_s=self.now_s,
            lasted_s=self.look_s,
            fed=self._fed,
            bound=self.wish_per_s > (self.pace.per_s or float("inf")),
            accepted=self._took if self.log_read and not self.direct else None,
            refused=too_fast,
            too_fast=too_fast,
            queued=self.queued if knows_queue else None,
            waiting=len(self._waiting) if knows_queue else 0,
            waiting_too_fast=len(self._waiting) if knows_queue else 0,
            oldest_age_s=self.now_s - min(oldest) if oldest and knows_queue else None,
            reply=self.reply if self._deferred or self._waiting else "",
        )
        self.pace = next_pace(self.pace, look)
        self._fed = self._took = self._deferred = 0
