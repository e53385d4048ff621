"""What the MTA bore is kept in the ledger while it is fed, and the next run starts from there.

In    the rate in force and the session pool, as they go
Out   both of them begun with what this MTA bore last time; a write now and then
Not here  what is kept and for how long (feed/borne.py); how it is found out (feed/adaptive_rate.py, feed/concurrency.py)
"""

from __future__ import annotations

import contextlib
import logging
import math

from drainer.errors import LedgerNotDurable
from drainer.feed.borne import KEPT_AS, NOTHING, Bore, bore_of, known_from, octets_of, with_bore
from drainer.feed.concurrency import first_concurrency
from drainer.stages.background import Background
from drainer.stages.resources import Resources
from drainer.text.logfmt import logfmt

log = logging.getLogger("drainer")

KEPT_EVERY_S = 10.0


class WhatMtaBore:
    """`recover` before anything is sent; `look` each second."""

    def __init__(self, resources: Resources) -> None:
        self._resources = resources
        self._background = Background()
        self._known: dict[str, Bore] = {}
        self._mta = ""
        self._kept_at_s = resources.clock.monotonic_s()

    @property
    def _fed(self) -> str:
        mta = self._resources.settings.mta
        return f"{mta.host}:{mta.port}"

    async def recover(self) -> None:
        self._known = known_from(await self._resources.ledger.kept(KEPT_AS))
        self._begin()

    def _begin(self) -> None:
        """Rate and sessions start from what this MTA bore."""
        resources = self._resources
        self._mta = self._fed
        bore = bore_of(self._known, self._mta, resources.clock.now_s())
        resources.rate.begin_with(bore.per_s, is_limit=bore.is_limit)
        resources.pool.begin_with(first_concurrency(resources.clock.monotonic_s(), bore.sessions, bore.unloaded_s))
        if bore is not NOTHING:
            log.info(
                logfmt(event="starts_from", mta=self._mta, messages_per_s=round(bore.per_s, 1), sessions=bore.sessions)
            )

    def look(self) -> None:
        """Write it down, if it changed and the last time is some seconds ago; begin anew when another MTA is fed."""
        if self._fed != self._mta:
            self._begin()
        elif self._resources.clock.monotonic_s() - self._kept_at_s >= KEPT_EVERY_S:
            self._background.begin(self.keep())

    async def keep(self) -> None:
        """Write it down, if it changed."""
        resources = self._resources
        now_s = resources.clock.now_s()
        self._kept_at_s = resources.clock.monotonic_s()
        law, rate = resources.pool.concurrency, resources.rate
        bore = Bore(rate.borne_per_s, math.isfinite(rate.pace.limit_per_s), law.sessions, law.unloaded_s, now_s)
        is_fed = any(heard.accepted for heard in rate.pace.recent)
        if not bore.per_s or not is_fed or not bore.differs_from(self._known.get(self._mta, NOTHING)):
            return
        self._known = with_bore(self._known, self._mta, bore, now_s)
        with contextlib.suppress(LedgerNotDurable):  # the next run would find it out again
            await resources.ledger.keep({KEPT_AS: octets_of(self._known)})
