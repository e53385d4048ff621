"""The MTA's limit on transactions of one session, kept in the ledger over restarts.

In    the pool of sessions, which learns it
Out   the limit in the ledger and in the log, once it has changed
Not here  how it is learnt, probed and forgotten (feed/session_limit.py)
"""

from __future__ import annotations

import contextlib
import logging

from drainer.errors import LedgerNotDurable
from drainer.feed.session_limit import KEPT_AS, SessionLimit, session_limit_from
from drainer.stages.background import Background
from drainer.stages.resources import Resources
from drainer.text.logfmt import logfmt

log = logging.getLogger("drainer")


class SessionLimits:
    """`recover` before anything is sent; `look` after each transaction."""

    def __init__(self, resources: Resources) -> None:
        self._resources = resources
        self._background = Background()
        self._seen = SessionLimit()
        self._kept = b""
        self._shown = 0

    @property
    def most(self) -> int:
        """Transactions that the MTA takes in one session; 0: no limit is known."""
        mta = self._resources.settings.mta
        return self._resources.pool.session_limit.renew_after(f"{mta.host}:{mta.port}", self._resources.clock.now_s())

    async def recover(self) -> None:
        known = session_limit_from(await self._resources.ledger.kept(KEPT_AS))
        self._resources.pool.begin_with_limit(known)
        self._kept, self._shown = known.octets(), self.most

    def look(self) -> None:
        known = self._resources.pool.session_limit
        if known is self._seen:
            return
        self._seen, octets = known, known.octets()
        if octets == self._kept:
            return
        self._kept = octets
        if self.most != self._shown:
            self._shown = self.most
            log.info(logfmt(event="session_limit", transactions=self._shown or "none"))
        self._background.begin(self._keep(octets))

    async def _keep(self, octets: bytes) -> None:
        with contextlib.suppress(LedgerNotDurable):  # a restart would learn it again from the first sessions
            await self._resources.ledger.keep({KEPT_AS: octets})
