"""Hand an entry over: it goes back to Mailman's out/ at the rate in force, and Mailman's own runner delivers it.

In    an entry in custody, and the recipients it still owes
Out   the entry in out/, at most feed.window of them at a time; an open handover
Not here  which entries go this way, and when (stages/turn.py); how Mailman's outcome is found out (follow.py)

INVARIANT attempt-before-handover: the attempt, with the mark of what to look for, is on disk before the file is in out/.
  1 open_attempt        Crash before: the entry is in backlog/ and nothing is known of it: its turn comes again.
  2 rename to out/      Crash before: it is in backlog/ with an open attempt: it never was in out/, the attempt ends as
                        deferred. But if the machine itself went down since, the rename may have been made and lost: in
                        doubt. Crash after: it is in out/, or Mailman has it: it is followed from there.
  3 fsync               Crash before: as 2, the machine going down.
  4 outcome             Crash before: the same files say the same at the next start. Mailman can only have gone on
                        meanwhile: an entry that is in none of its queues was finished. It is not sent again by reflex.
Held by tests/via_mailman/ and tests/scenarios/test_via_mailman.py.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Sequence

from drainer.clock import Clock
from drainer.errors import ComposeError, CustodyRefused, EntryNotUnderstood, EntryVanished, MoreThanCap
from drainer.feed.permit import Permit
from drainer.feed.throttle import Throttle
from drainer.ledger.contract import Ledger
from drainer.ledger.records import MessageRecord, NewAttempt
from drainer.ledger.states import State
from drainer.queuedir.custody import Custody
from drainer.queuedir.entry import QueueEntry
from drainer.queuedir.filebase import HOME_QUEUE, Suffix, mailman_filebase
from drainer.queuedir.narrow import with_recipients
from drainer.settings import Settings
from drainer.text.logfmt import logfmt
from drainer.via_mailman.open_handovers import OpenHandovers, log_handover
from drainer.via_mailman.whereabouts import HandoverMark, OpenHandover, enqueued_digest

log = logging.getLogger("drainer")


class Handover:
    """One entry at a time for each caller; the window holds back the others."""

    def __init__(
        self,
        clock: Clock,
        custody: Custody,
        ledger: Ledger,
        throttle: Throttle,
        open_handovers: OpenHandovers,
    ) -> None:
        self._clock = clock
        self._custody = custody
        self._ledger = ledger
        self._throttle = throttle
        self._open = open_handovers

    def reconfigure(self, settings: Settings) -> None:
        """Settings read again."""
        self._open.window.resize(settings.feed.window)

    async def hand_over(
        self, entry: QueueEntry, record: MessageRecord, owed: Sequence[str], *, is_fresh: bool = False
    ) -> str:
        """Give Mailman an entry for the recipients it owes, when the window and the rate allow.

        owed     at least one of entry.recipients, each once
        is_fresh  it goes in the lane of fresh mail
        Returns  "", or why it could not be done: try later
        Raises   ComposeError: its recipients cannot be narrowed; LedgerNotDurable: nothing was done; CancelledError: nothing
                 was done, or it is in Mailman's hands (`has`)
        """
        raw = None
        if len(owed) < len(entry.recipients):
            try:
                raw = with_recipients(entry, owed)
            except EntryNotUnderstood as exc:
                raise ComposeError(f"it cannot be handed over for some of its recipients only: {exc.detail}") from exc
        try:
            permit = await self._throttle.acquire(len(owed), is_fresh=is_fresh, places=self._open.window)
        except MoreThanCap as exc:
            raise ComposeError(
                f"it is for {len(owed)} recipients and Mailman delivers it whole, while a cap allows {exc.most}; right would"
                ' be a higher feed.hourly and feed.daily, or feed.via = "smtp", then `drainer release`'
            ) from exc
        with contextlib.ExitStack() as place, contextlib.ExitStack() as unused:
            place.callback(self._open.window.leave)
            unused.enter_context(permit)
            return await self._hand_over(entry, record, owed, raw, permit, unused)

    async def _hand_over(
        self,
        entry: QueueEntry,
        record: MessageRecord,
        owed: Sequence[str],
        raw: bytes | None,
        permit: Permit,
        unused: contextlib.ExitStack,
    ) -> str:
        """As hand_over.

        raw     the entry narrowed to `owed`, if that is not all of it
        unused  ends the permit if nothing comes of it; a handover keeps it until Mailman is done
        """
        mark = HandoverMark(mailman_filebase(entry.filebase), enqueued_digest(entry.metadata), record.identity)
        if any((self._custody.queue_dir / HOME_QUEUE / (mark.name + suffix)).exists() for suffix in Suffix):
            return "Mailman has an entry of that name"
        attempt = NewAttempt(entry.filebase, record, mark.text(), tuple(owed), self._clock.now_s())
        attempt_id = await permit.counted(len(owed), self._ledger.open_attempt(attempt))
        handover = OpenHandover(attempt_id, entry.filebase, mark, record, tuple(owed), attempt.at_s)
        # From here to the rename no other task runs: intake and follow.py know of it before it can be seen in out/.
        self._open.add(handover)
        self._open.is_in_out(handover)
        try:
            if raw is None:
                self._custody.hand_back(entry.filebase, HOME_QUEUE)
            else:
                self._custody.hand_back_rewritten(entry.filebase, raw, HOME_QUEUE)
        except (CustodyRefused, EntryVanished) as exc:
            self._open.forget(handover)
            await self._ledger.close_attempt(attempt_id, State.DEFERRED, f"not handed over: {exc}", self._clock.now_s())
            if isinstance(exc, EntryVanished):
                raise
            return str(exc)
        self._open.keep(mark.name, permit)
        unused.pop_all()
        log_handover("released", handover)
        try:
            await asyncio.to_thread(self._custody.sync)
        except OSError as exc:
            log.error(logfmt(outcome="not_synced", filebase=entry.filebase, detail=exc))
        return ""
