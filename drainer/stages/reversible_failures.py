"""Entries whose recipients failed while the MTA was doubted: kept on disk, so that these failures can be reversed.

In    filebases of entries that are settled, some of their recipients as FAILED
Out   the entry in duplicates/ while the doubt lasts; then removed (`believe`), or in backlog/ again (`try_again`)
Not here  when the MTA is doubted (mta_trust.py)

FAILED is final for an entry, and says nothing about other entries (ledger/contract.py). So it is tried again under another
name: recipients that had the mail are skipped, as with any second copy, and only those that failed are owed.
"""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Collection, Sequence

from drainer.errors import CustodyRefused, EntryVanished, LedgerNotDurable
from drainer.stages.resources import Resources
from drainer.text.logfmt import logfmt

log = logging.getLogger("drainer")

_KEPT_AS = "refused"
"""Under this name the ledger keeps which entries they are, since when feeding has stopped, and when failures were undone."""


class ReversibleFailures:
    """`recover` before entries are listed."""

    def __init__(self, resources: Resources) -> None:
        self._resources = resources
        self._kept: list[str] = []
        self._undone_s: Sequence[float] = ()
        self._stopped_since_s: float | None = None

    @property
    def entries(self) -> int:
        return len(self._kept)

    async def recover(self) -> None:
        """Try again what an earlier run kept if it had stopped: an operator has restarted instead of resuming."""
        kept = await self._resources.ledger.kept(_KEPT_AS)
        if kept:
            known = json.loads(kept)
            self._kept = known["entries"]
            self._stopped_since_s = known.get("stopped_since_s")
            self._undone_s = known.get("undone_s", ())
        if self._stopped_since_s is not None:
            await self.try_again(self._stopped_since_s)

    async def stop(self, since_s: float) -> None:
        """The MTA refuses too many: an operator will say when it is right again, or restart the service.

        since_s  since when it is doubted, seconds since the epoch
        """
        self._stopped_since_s = since_s
        await self._write()

    def are_undone(self, failed_at_s: Collection[float]) -> bool:
        """Whether one of these failures, each by its time, was reversed: an operator has put the MTA right since.

        One is enough: the MTA that was put right may have refused another recipient of the same entry later.
        """
        return any(self.was_undone(at_s, within_s=1.0) for at_s in failed_at_s)  # the ledger knows whole seconds

    def was_undone(self, failed_at_s: float, within_s: float = 0.0) -> bool:
        """The same for a time that is right to the part of a second; within_s: that it may be late."""
        if not self._undone_s:
            return False
        since_s, until_s = self._undone_s
        return since_s - within_s <= failed_at_s <= until_s

    async def keep(self, filebase: str, failed_at_s: Collection[float]) -> None:
        """A settled entry goes to duplicates/ instead of off the disk. If the others have been tried again already, so is
        this one.

        failed_at_s  when its recipients failed, seconds since the epoch
        """
        # Crash before the next line: it is in backlog/, owes nobody, and is finished at the next start as any settled
        # entry. Crash after it: its failures stand.
        self._resources.custody.suppress(filebase)
        if filebase not in self._kept:
            self._kept.append(filebase)
        # No wait until here, nor in what follows before it is renamed: `believe` would take it for one of today's failures.
        if self.are_undone(failed_at_s):
            await self._again([filebase])
        else:
            await self._write()

    async def believe(self) -> None:
        """The MTA was right to refuse: the entries go off the disk."""
        kept, self._kept = self._kept, []
        custody = self._resources.custody
        for filebase in kept:
            with contextlib.suppress(EntryVanished, CustodyRefused):
                custody.finish(custody.restore(filebase))
        await self._write()

    async def try_again(self, since_s: float) -> int:
        """Put them into the backlog again. Returns how many.

        since_s  since when the MTA was doubted, seconds since the epoch
        """
        self._undone_s = (since_s, self._resources.clock.now_s())
        self._stopped_since_s = None
        return await self._again(list(self._kept))

    async def _again(self, kept: list[str]) -> int:
        again, moved = [], []
        for filebase in kept:
            try:
                again.append(self._resources.custody.try_again(filebase))
                moved.append(filebase)
            except EntryVanished:
                pass
            except CustodyRefused as exc:
                log.warning(logfmt(outcome="not_moved", filebase=filebase, detail=exc))
                continue
            self._kept.remove(filebase)
        try:
            # After the rename, and before any of them can be sent: a crash in between only loses a DSN.
            await self._resources.ledger.undo_failures(moved, self._resources.clock.now_s())
        finally:
            self._resources.index.add_listed(again)
            self._resources.signals.unread.set()
        await self._write()
        if again:
            log.info(logfmt(event="tried_again", entries=len(again)))
        return len(again)

    async def _write(self) -> None:
        """If it cannot be written now, the next write has it; a crash until then only lets their failures stand."""
        known = {"entries": self._kept, "stopped_since_s": self._stopped_since_s, "undone_s": self._undone_s}
        with contextlib.suppress(LedgerNotDurable):
            await self._resources.ledger.keep({_KEPT_AS: json.dumps(known).encode("ascii")})
