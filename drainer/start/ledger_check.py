"""This ledger belongs to this queue: checked before anything is sent, renewed while mail goes out.

In    the stamp in the ledger, the stamp in drainer/lock
Out   both renewed, and the queue claimed in the ledger; or UsageError with what is wrong and what would be right
Not here  what the stamps mean (ledger/generation.py); losing the ledger's file while it is in use (ledger/sqlite_file.py)
"""

from __future__ import annotations

import logging
import os
import secrets
import socket

from drainer.clock import Clock
from drainer.errors import CustodyRefused, UsageError
from drainer.ledger.contract import Ledger
from drainer.ledger.generation import KEPT_AS, Objection, Stamp, next_stamp, objection, stamp_in_line, stamp_in_value
from drainer.ledger.records import JournalLine, Queue
from drainer.queuedir.custody import Custody
from drainer.text.logfmt import logfmt

log = logging.getLogger("drainer")

RENEW_S = 60.0
"""While mail goes out; a backup of the ledger that is younger than this looks like the ledger itself."""

_WAYS_OUT = """\
{path}: {what}.
Nothing was changed. Such a ledger does not know the recipients who have had their mail; they would get it a second time.
Right would be, best first:
  1. the ledger that was in use last: put it back, or set ledger.path to it
  2. to learn from the MTA's log what was delivered:  drainer import-log --yes /var/log/mail.log
  3. then, or where there is no log, to go on with this one:  drainer accept-ledger --yes"""


class LedgerCheck:
    """`recognise` once at the start, then `renew` now and then. place: where the ledger is, in words."""

    def __init__(self, custody: Custody, ledger: Ledger, place: str, clock: Clock) -> None:
        self._custody = custody
        self._ledger = ledger
        self._place = place
        self._clock = clock
        self._renewed_s = 0.0
        self._transactions = -1
        self._queue_dir = str(custody.queue_dir.resolve())
        self._owner = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
        self._claimed_as = ""

    async def objection(self) -> Objection | None:
        ledgers, queues = await self._stamps()
        return objection(ledgers, queues, self._queue_dir, self._custody.premises.has_entries)

    async def recognise(self) -> None:
        """Raises UsageError, having changed nothing, if draining this queue with this ledger could deliver twice."""
        found = await self.objection()
        if found is not None and found.grave:
            raise UsageError(_WAYS_OUT.format(path=self._place, what=found.what))
        if found is not None:
            detail = (
                f"{self._place}: {found.what}; nothing is in custody, so it goes on, but a mail delivered before, and put "
                "back or sent again, is not known as a duplicate (`drainer import-log` can teach it)"
            )
            log.warning(logfmt(event="ledger", detail=detail))
            await self._ledger.write_journal(JournalLine(self._clock.now_s(), "drainer", "ledger", detail))
        await self._write()

    async def accept(self, by: str, reason: str) -> None:
        """An operator knows better: this ledger belongs to this queue from now on."""
        found = await self.objection()
        what = found.what if found else "it belonged to it already"
        await self._ledger.write_journal(
            JournalLine(self._clock.now_s(), by, "accept-ledger", f"{what} {reason}".strip())
        )
        await self._write()

    async def renew(self, transactions: int) -> None:
        """A new generation, if it is time and mail went out since. transactions: counted by the ledger so far."""
        now_s = self._clock.monotonic_s()
        if now_s - self._renewed_s >= RENEW_S and transactions != self._transactions:
            self._transactions = transactions
            await self._write()

    async def _stamps(self) -> tuple[Stamp | None, Stamp | None]:
        return stamp_in_value(await self._ledger.kept(KEPT_AS)), stamp_in_line(self._custody.premises.ledger_stamp())

    async def _write(self) -> None:
        ledgers, queues = await self._stamps()
        stamp = next_stamp(ledgers, queues, self._queue_dir, secrets.token_hex(8), secrets.token_hex(8))
        await self._claim(stamp.queue_id)
        await self._ledger.keep({KEPT_AS: stamp.value()})
        self._renewed_s = self._clock.monotonic_s()
        try:
            # INVARIANT ledger-before-queue (ledger/generation.py).
            self._custody.premises.stamp_ledger(stamp.line())
        except CustodyRefused as exc:
            log.warning(logfmt(event="ledger", detail=exc))  # behind is harmless here: a lost ledger is noticed later

    async def _claim(self, queue_id: str) -> None:
        """The ledger is one host's: what is in flight in it is this queue's, whatever the queue was called before."""
        if self._claimed_as != queue_id:
            before = await self._ledger.queues()
            await self._ledger.claim(Queue(queue_id, self._queue_dir, self._owner), known_as=before[0].queue_id)
            self._claimed_as = queue_id
