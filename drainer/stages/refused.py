"""Entries whose recipients failed while the MTA was doubted: kept on disk, so that its refusals can be undone.

In    filebases of entries that are settled, some of their recipients as FAILED
Out   the entry in duplicates/ while the doubt lasts; then removed (`believe`), or in backlog/ again (`try_again`)
Not here  when the MTA is doubted (feed/refusals.py)

FAILED is final for an entry, and binds no other (ledger/contract.py). So it is tried again under another name: whoever had
the mail is skipped as of any second copy, and only those that failed are owed.
"""

from __future__ import annotations

import contextlib
import json
import logging
import math

from drainer.errors import CustodyRefused, EntryVanished, LedgerNotDurable
from drainer.stages.parts import Parts, Standing
from drainer.text.logfmt import logfmt

log = logging.getLogger("drainer")

_KEPT_AS = "refused"
"""Under this name the ledger keeps which entries they are, and whether sending had stopped."""


class Refused:
    """`recover` before entries are listed."""

    def __init__(self, parts: Parts, standing: Standing) -> None:
        self._parts = parts
        self._standing = standing
        self._kept: list[str] = []
        self._undone_s = (math.inf, -math.inf)
        self._stopped = False

    @property
    def entries(self) -> int:
        return len(self._kept)

    async def recover(self) -> None:
        """What an earlier run kept that had stopped for it is tried again: an operator restarted instead of resuming."""
        kept = await self._parts.ledger.kept(_KEPT_AS)
        if kept:
            known = json.loads(kept)
            self._kept, self._stopped = known["entries"], known["stopped"]
        if self._stopped:
            await self.try_again(math.inf)

    async def stop(self) -> None:
        """The MTA refuses too many: a person will say when it is right again, or restart the service."""
        self._stopped = True
        await self._write()

    def is_undone(self, failed_at_s: float) -> bool:
        """Whether what failed then was refused by an MTA that an operator has put right since."""
        since_s, until_s = self._undone_s
        return since_s - 1 <= failed_at_s <= until_s  # the ledger knows whole seconds

    async def keep(self, filebase: str, failed_at_s: float) -> None:
        """A settled entry goes to duplicates/ instead of off the disk; or is tried again, if its turn to be finished came
        only after the others were."""
        # Renamed and known in one step: `believe` and `try_again` come between two. Crash before the next line: it is in
        # backlog/, owes nobody, and is finished at the next start as any settled entry; after it: its refusals stand.
        self._parts.custody.suppress(filebase)
        if filebase not in self._kept:
            self._kept.append(filebase)
        await self._write()
        if filebase in self._kept and self.is_undone(failed_at_s):
            await self._again([filebase])

    async def believe(self) -> None:
        """The MTA was right about them: they go off the disk."""
        kept, self._kept = self._kept, []
        custody = self._parts.custody
        for filebase in kept:
            with contextlib.suppress(EntryVanished, CustodyRefused):
                custody.finish(custody.restore(filebase))
        await self._write()

    async def try_again(self, since_s: float) -> int:
        """Put them into the backlog again. Returns how many.

        since_s  since when the MTA was doubted, seconds since the epoch
        """
        self._undone_s = (since_s, self._parts.clock.now_s())
        self._stopped = False
        return await self._again(list(self._kept))

    async def _again(self, kept: list[str]) -> int:
        again, moved = [], []
        for filebase in kept:
            try:
                again.append(self._parts.custody.try_again(filebase))
                moved.append(filebase)
            except EntryVanished:
                pass
            except CustodyRefused as exc:
                log.warning(logfmt(outcome="not_moved", filebase=filebase, detail=exc))
                continue
            self._kept.remove(filebase)
        try:
            # After the rename, and before anybody can be sent to: until it is written, a DSN would only be missing.
            await self._parts.ledger.undo_failures(moved)
        finally:
            self._parts.index.add_listed(again)
            self._standing.unread.set()
        await self._write()
        if again:
            log.info(logfmt(event="tried_again", entries=len(again)))
        return len(again)

    async def _write(self) -> None:
        """What cannot be written now is with the next; until then a crash would only have their refusals stand."""
        known = {"entries": self._kept, "stopped": self._stopped}
        with contextlib.suppress(LedgerNotDurable):
            await self._parts.ledger.keep({_KEPT_AS: json.dumps(known).encode("ascii")})
