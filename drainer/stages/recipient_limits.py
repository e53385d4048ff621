"""The MTA's limit on recipients of one transaction, kept in the ledger over restarts.

In    what a transaction met that hit the limit
Out   the most recipients to put into the next one
Not here  what counts as such a limit (feed/outcome.py); how it is learnt and forgotten (feed/recipient_limit.py)
"""

from __future__ import annotations

import contextlib
import logging

from drainer.errors import LedgerNotDurable
from drainer.feed.recipient_limit import KEPT_AS, RecipientLimit, limit_from
from drainer.stages.resources import Resources
from drainer.text.logfmt import logfmt

log = logging.getLogger("drainer")


class RecipientLimits:
    """`recover` before anything is sent."""

    def __init__(self, resources: Resources) -> None:
        self._resources = resources
        self._known = RecipientLimit()

    @property
    def most(self) -> int:
        """The most recipients the MTA takes in one transaction; 0: no limit is known."""
        return self._known.most(self._mta, self._resources.clock.now_s())

    @property
    def _mta(self) -> str:
        mta = self._resources.settings.mta
        return f"{mta.host}:{mta.port}"

    async def recover(self) -> None:
        self._known = limit_from(await self._resources.ledger.kept(KEPT_AS))

    def met(self, accepted: int) -> None:
        """The MTA took so many recipients of a transaction, and refused the others for their number."""
        before = self.most
        self._known = self._known.met(self._mta, accepted, self._resources.clock.now_s())
        if self.most != before:
            log.info(logfmt(event="recipient_limit", mta=self._mta, recipients=self.most))

    async def keep(self) -> None:
        """Write down what is known."""
        with contextlib.suppress(LedgerNotDurable):  # a restart would learn it again from the first large transaction
            await self._resources.ledger.keep({KEPT_AS: self._known.octets()})
