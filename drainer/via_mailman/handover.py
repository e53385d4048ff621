"""The other way to feed: entries go back to Mailman's out/ at the governed rate, and its own runner delivers them.

In    an entry in custody and whom it owes; what Mailman's queues show afterwards
Out   the entry in out/, at most feed.window of them; the outcome in the ledger, the index and the log
Not here  which entries go this way and when (stages/feed.py); what a file seen in a queue means (via_mailman/whereabouts.py)

Mailman's runner removes an entry only when it has disposed of it. So:
  gone from out/, not in retry/, shunt/ or bad/   delivered; refused for good where Mailman's smtp log says so
  in retry/          handed over: Mailman goes on with those recipients by itself. The attempt stays open for them, so that
                     no other copy goes to them; back in out/, the entry is ours again, to be released at the rate
  in out/ under another name   Mailman wants to try it again: ours again, and its turn comes later
  in shunt/ or bad/  held with the reason, in our held/, its recipients too: some of them may have it
  a .bak that no runner has any more   in doubt, as any other; but whom the MTA accepted it for is delivered, if Mailman's
                     smtp log tells

INVARIANT attempt-before-release: the attempt, with the mark of what to look for, is on disk before the file is in out/.
  1 open_attempt        Crash before: the entry is in backlog/ and nothing is known of it: its turn comes again.
  2 rename to out/      Crash before: it is in backlog/ with an open attempt: it never was in out/, the attempt ends as
                        deferred. Only if the machine itself went down since, the rename may have been made and lost: in
                        doubt. Crash after: in out/, or Mailman has it: followed from where it is.
  3 fsync               Crash before: as 2, the machine going down.
  4 outcome             Crash before: the same files say the same at the next start. While nobody looked Mailman can only
                        have gone on: an entry that is nowhere any more was finished. It is not sent again by reflex.
INVARIANT file-before-ledger on the way back: the file is renamed into custody first, then the attempt ends.
  Crash between: an open attempt and the file in backlog/ (it owes again), as .bak there (in doubt) or in held/ (held).
Held by tests/via_mailman/test_handover.py and tests/scenarios/test_via_mailman.py.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from pathlib import Path

from drainer.backlog.index import BacklogIndex
from drainer.backlog.states import EntryState
from drainer.clock import Clock
from drainer.errors import (
    ComposeError,
    CustodyRefused,
    EntryNotUnderstood,
    EntryUnreadable,
    EntryVanished,
    LedgerNotDurable,
)
from drainer.feed.deliver import Transaction
from drainer.feed.rate_in_force import RateInForce
from drainer.feed.throttle import Throttle
from drainer.ledger.contract import Ledger
from drainer.ledger.evidence import Fate as Ending
from drainer.ledger.records import Hold, MessageRecord, NewAttempt, OpenAttempt, Outcome
from drainer.ledger.states import State
from drainer.queuedir.custody import Custody
from drainer.queuedir.entry import QueueEntry
from drainer.queuedir.filebase import HOME_QUEUE, QueueFile, Suffix, mailman_filebase
from drainer.queuedir.handback import with_recipients
from drainer.queuedir.read import read_entry
from drainer.queuedir.scan import ListedFile
from drainer.settings import Settings
from drainer.text.logfmt import logfmt
from drainer.via_mailman.queues import Look, MailmanQueues, SmtpLogFile
from drainer.via_mailman.whereabouts import (
    IN_OUT,
    WRITTEN_EARLIER_S,
    Fate,
    Mark,
    Released,
    Seen,
    enqueued_digest,
    fate,
    is_made_of,
    keys_among,
    mark_in,
)

log = logging.getLogger("drainer")

SHUNTED = "shunted"
"""Why an entry is held that Mailman could not deliver."""
PUT_BACK_FOR_S = 15.0
"""How long an entry waits that Mailman wrote back at once."""
_PUT_BACK = "Mailman put it back into out/ to try it again"
_LOOK_AGAIN_S = 0.05
_LOOK_WHILE_WAITED_FOR_S = 0.25


class Release:
    """What of ours is in Mailman's hands. `recover` before anything else, `follow` for ever.

    on_back      called when an entry is ours again, or a doubt has arisen: somebody may want to look at it
    runner_lives whether an outgoing runner of Mailman's lives; asked in a thread
    booted_s     when this machine started, seconds since the epoch
    """

    def __init__(
        self,
        settings: Settings,
        clock: Clock,
        custody: Custody,
        ledger: Ledger,
        index: BacklogIndex,
        throttle: Throttle,
        rate: RateInForce,
        runner_lives: Callable[[], bool],
        booted_s: Callable[[], float],
    ) -> None:
        self.settings = settings
        self.on_back: Callable[[], None] = lambda: None
        self._clock = clock
        self._custody = custody
        self._ledger = ledger
        self._index = index
        self._throttle = throttle
        self._rate = rate
        self._runner_lives = runner_lives
        self._booted_s = booted_s
        self._queues = MailmanQueues(custody.queue_dir, clock)
        self._smtp_log = SmtpLogFile(settings.mailman.smtp_log)
        self._followed: dict[int, Released] = {}
        self._in_out: set[str] = set()
        self._reserved = 0
        self._waited_for = 0
        self._room = asyncio.Event()
        self._news = asyncio.Event()
        self._looking = asyncio.Lock()

    @property
    def entries(self) -> int:
        """Of ours in out/ now."""
        return len(self._in_out)

    @property
    def retrying_recipients(self) -> int:
        """Handed over, and in Mailman's retry/."""
        return sum(len(released.recipients) for released in self._followed.values() if released.retrying)

    def has(self, filebase: str) -> bool:
        """Whether the entry is in Mailman's hands."""
        return any(released.filebase == filebase for released in self._followed.values())

    def path(self, filebase: str) -> Path | None:
        """Where in out/ the entry was put; None if it is not in Mailman's hands."""
        for released in self._followed.values():
            if released.filebase == filebase:
                return self._custody.queue_dir / HOME_QUEUE / (released.mark.name + Suffix.WAITING)
        return None

    async def release(self, entry: QueueEntry, record: MessageRecord, owed: Sequence[str]) -> str:
        """Give Mailman an entry for those owed, when the window and the rate allow.

        owed     at least one of entry.recipients, each once
        Returns  "", or why it could not be done: try later
        Raises   ComposeError: its recipients cannot be narrowed; LedgerNotDurable: nothing was done; CancelledError: nothing
                 was done, or it is in Mailman's hands (`has`)
        """
        raw = None
        if len(owed) < len(entry.recipients):
            try:
                raw = with_recipients(entry, owed)
            except EntryNotUnderstood as exc:
                raise ComposeError(f"it cannot be released for some of its recipients only: {exc.detail}") from exc
        async with self._place():
            await self._throttle.acquire(len(owed))
            mark = Mark(mailman_filebase(entry.filebase), enqueued_digest(entry.metadata), record.identity)
            if any((self._custody.queue_dir / HOME_QUEUE / (mark.name + suffix)).exists() for suffix in Suffix):
                return "Mailman has an entry of that name"
            attempt = NewAttempt(entry.filebase, record, mark.text(), tuple(owed), self._clock.now_s())
            attempt_id = await self._ledger.open_attempt(attempt)
            released = Released(attempt_id, entry.filebase, mark, record, tuple(owed), attempt.at_s)
            # From here to the rename nothing else runs: intake and `follow` know of it before it can be seen in out/.
            self._follow(released)
            self._in_out.add(mark.name)
            try:
                if raw is None:
                    self._custody.hand_back(entry.filebase, HOME_QUEUE)
                else:
                    self._custody.hand_back_rewritten(entry.filebase, raw, HOME_QUEUE)
            except (CustodyRefused, EntryVanished) as exc:
                self._forget(released)
                await self._ledger.close_attempt(
                    attempt_id, State.DEFERRED, f"not released: {exc}", self._clock.now_s()
                )
                if isinstance(exc, EntryVanished):
                    raise
                return str(exc)
        self._say("released", released)
        self._news.set()
        try:
            await asyncio.to_thread(self._custody.sync)
        except OSError as exc:
            log.error(logfmt(outcome="not_synced", filebase=entry.filebase, detail=exc))
        return ""

    @contextlib.asynccontextmanager
    async def _place(self) -> AsyncIterator[None]:
        """Wait for a place in the window; it is kept until the entry itself takes it, or is given up."""
        self._waited_for += 1
        try:
            while len(self._in_out) + self._reserved >= self.settings.feed.window:
                self._room.clear()
                await self._room.wait()
        finally:
            self._waited_for -= 1
        self._reserved += 1
        try:
            yield
        finally:
            self._reserved -= 1
            self._room.set()

    async def recover(self) -> None:
        """At start: what an earlier run released. Before intake, which must not take it."""
        for attempt in await self._ledger.unresolved_attempts():
            mark = mark_in(attempt.reverse_path)
            if mark is not None and attempt.state is State.ATTEMPTING:
                self._follow(_released(attempt, mark))
        for released in list(self._followed.values()):
            if self._is_in_custody(released.filebase):
                await self._came_back(released, "an earlier run ended before it was released", booted_since=True)
                continue
            out = self._custody.queue_dir / HOME_QUEUE
            for suffix in (Suffix.WAITING, Suffix.CLAIMED):
                with contextlib.suppress(FileNotFoundError):
                    size_bytes = (out / (released.mark.name + suffix)).stat().st_size
                    self._in_out.add(released.mark.name)
                    self._index.add_listed([(_as_ours(released), size_bytes)])
                    self._index.set_state(released.filebase, EntryState.ACTIVE)
        if self._followed:
            log.info(logfmt(event="following", entries=len(self._followed), in_out=len(self._in_out)))

    async def ours(self, queue: str, listing: Sequence[ListedFile]) -> frozenset[str]:
        """Filebases in a listing of Mailman's queue that are what was released, or what Mailman has made of it."""
        if not self._followed:
            return frozenset()
        since_s, names = self._since_s(), self._names()
        fresh = [
            listed
            for listed in listing
            if listed.file.filebase not in names and listed.written_s >= since_s - WRITTEN_EARLIER_S
        ]
        made: set[str] = set()
        if fresh:
            async with self._looking:
                seen = await asyncio.to_thread(self._read, queue, fresh)
            followed = list(self._followed.values())
            made = {entry.file.filebase for entry in seen if any(is_made_of(entry, released) for released in followed)}
        names = self._names()
        return frozenset(made | {listed.file.filebase for listed in listing if listed.file.filebase in names})

    def _read(self, queue: str, listing: Sequence[ListedFile]) -> list[Seen]:
        found = []
        for listed in listing:
            with contextlib.suppress(EntryVanished):
                if seen := self._queues.read(queue, listed):
                    found.append(seen)
        return found

    async def follow(self) -> None:
        """For ever: the outcome of what was released."""
        while True:
            if not self._followed:
                self._news.clear()
                await self._news.wait()
            # Only these: what is released while Mailman's queues are looked at was not there yet.
            followed = list(self._followed.values())
            look = await self._look()
            if look is None:
                await asyncio.sleep(_LOOK_AGAIN_S)
                continue
            for released in followed:
                if released.attempt_id in self._followed:
                    await self._see_to(released, look)
            poll_s = self.settings.custody.poll
            await asyncio.sleep(min(poll_s, _LOOK_WHILE_WAITED_FOR_S) if self._waited_for else poll_s)

    async def _look(self) -> Look | None:
        since_s, names = self._since_s(), self._names()

        def look() -> Look | None:
            found = self._queues.look(since_s, names)
            if found is not None:
                # After the queues: Mailman writes its log before it removes an entry.
                self._smtp_log.read()
            return found

        async with self._looking:
            try:
                return await asyncio.to_thread(look)
            except OSError as exc:
                log.error(logfmt(outcome="queues_unreadable", detail=exc))
                return None

    async def _see_to(self, released: Released, look: Look) -> None:
        try:
            if self._is_in_custody(released.filebase):
                await self._came_back(released, "")
                return
            found, seen = fate(released, look.files.get("out", {}), look.files.get("bad", {}), look.seen)
            if found not in IN_OUT:
                self._leaves_out(released)
            await self._act(released, found, seen, look)
        except (EntryVanished, CustodyRefused, LedgerNotDurable) as exc:
            # Nothing is lost by it: the next look finds the entry where it is then.
            log.warning(logfmt(outcome="look_again", filebase=released.filebase, detail=exc))

    async def _act(self, released: Released, found: Fate, seen: Seen | None, look: Look) -> None:
        match found:
            case Fate.GONE:
                await self._gone(released)
            case Fate.RETRYING if seen is not None:
                await self._retrying(released, seen)
            case Fate.PUT_BACK if seen is not None:
                self._custody.take_back(seen.queue, seen.file, released.filebase)
                await self._came_back(released, _PUT_BACK)
                self._rate.heard(Transaction((), trouble=_PUT_BACK))
            case Fate.SHUNTED if seen is not None:
                self._custody.take_back(seen.queue, seen.file, released.filebase, hold=True)
                await self._came_back(released, "by Mailman, in shunt/: its error log says why")
            case Fate.BAD:
                file = look.files["bad"][released.mark.name + Suffix.PRESERVED].file
                self._custody.take_back("bad", file, released.filebase, hold=True)
                await self._came_back(released, "by Mailman, in bad/: its error log says why")
            case Fate.CLAIMED:
                name = (seen.file.filebase if seen else released.mark.name) + Suffix.CLAIMED
                listed = look.files["out"][name]
                old = self._clock.now_s() - listed.changed_s >= self.settings.custody.bak_age
                if old and not await asyncio.to_thread(self._runner_lives):
                    self._custody.take_back(HOME_QUEUE, listed.file, released.filebase)
                    await self._came_back(released, "left as .bak by Mailman's runner")
            case _:
                return

    async def _gone(self, released: Released) -> None:
        outcomes = await self._delivered(released)
        delivered = any(outcome.state is State.DELIVERED for outcome in outcomes)
        how = Ending.DELIVERED if delivered else Ending.SETTLED
        ended = self._index.ended_as(released.filebase, how, len(released.recipients))
        await self._ledger.finish_entry(released.filebase, {"delivered_entries": int(delivered)}, ended)
        self._index.remove(released.filebase)
        self.on_back()

    async def _delivered(self, released: Released) -> list[Outcome]:
        """Mailman has finished with these recipients: none of them is in retry/ any more."""
        now_s, record, log_says = self._clock.now_s(), released.record, self._smtp_log.log
        refusals = {told.recipient: told.reply for told in log_says.refusals(record.message_id, released.at_s)}
        for told in log_says.refused_last(record.message_id, record.list_id, released.at_s):
            refusals.setdefault(told.recipient, f"Mailman gave up: {told.reply}")
        outcomes = []
        rest: Released | None = released
        for address in released.recipients:
            if rest is None or address not in refusals:
                continue
            failed, rest = await self._split(rest, (address,))
            outcomes.append(Outcome(State.FAILED, (address,), refusals[address], now_s))
            await self._close(failed, outcomes[-1])
        if rest is not None:
            outcomes.append(Outcome(State.DELIVERED, rest.recipients, "by Mailman's runner", now_s))
            await self._close(rest, outcomes[-1])
        self._rate.heard(Transaction(tuple(outcomes)))
        return outcomes

    async def _retrying(self, released: Released, seen: Seen) -> None:
        """Mailman keeps some for later; with the others it is done."""
        kept, done = keys_among(released.recipients, seen.recipients)
        if done:
            retried, rest = await self._split(released, kept)
            if rest is not None:
                await self._delivered(rest)
            released = retried
        if not released.retrying:
            self._followed[released.attempt_id] = dataclasses.replace(released, retrying=True)
            self._index.remove(released.filebase)
            self._say("handed_over", released, "in Mailman's retry/: it tries again by itself")
            refused = Outcome(State.DEFERRED, released.recipients, "in Mailman's retry/", self._clock.now_s())
            self._rate.heard(Transaction((refused,)))
            self.on_back()

    async def _came_back(self, released: Released, why: str, *, booted_since: bool = False) -> None:
        """It is in custody again, under its own name; the attempt is still open.

        booted_since  look whether the machine went down since: then a rename may have been made, seen and lost
        """
        filebase, now_s = released.filebase, self._clock.now_s()
        path = self._custody.path(filebase)
        await asyncio.to_thread(self._custody.sync)
        hold = path.parent == self._custody.held
        if hold:
            # Before the attempt ends: a held entry without its reason helps nobody.
            await self._ledger.hold([Hold(filebase, SHUNTED, why or "by Mailman", "drainer", now_s)])
        try:
            entry = read_entry(path)
        except EntryUnreadable as exc:
            log.warning(logfmt(outcome="look_again", filebase=filebase, detail=exc))
        else:
            kept, done = keys_among(released.recipients, entry.recipients)
            if kept and done:
                released, rest = await self._split(released, kept)
                if rest is not None:
                    await self._delivered(rest)
        claimed = path.suffix == Suffix.CLAIMED
        if claimed and (settled := self._settled_by_log(released)):
            part, rest = await self._split(released, settled)
            await self._delivered(part)
            if rest is None:
                self._custody.promote_bak(filebase)
                self._list(released, path, why, hold)
                self.on_back()
                return
            released = rest
        if claimed or (booted_since and not hold and self._booted_s() > released.at_s):
            reply = why if claimed else "the machine went down while it was released to Mailman"
            await self._close(released, Outcome(State.IN_DOUBT, released.recipients, reply, now_s))
            if claimed:
                self._custody.promote_bak(filebase)
        else:
            await self._close(released, Outcome(State.DEFERRED, released.recipients, why, now_s))
            if hold:
                held = Outcome(State.HELD, released.recipients, f"{SHUNTED} {why}".strip(), now_s)
                await self._ledger.record(filebase, released.record, [held])
        self._list(released, path, why, hold)
        self.on_back()

    def _settled_by_log(self, released: Released) -> tuple[str, ...]:
        """Whom Mailman's smtp log says the MTA accepted it for, or refused for good: for them only its end was lost."""
        record = released.record
        told = self._smtp_log.log.delivery(record.message_id, record.list_id, len(released.recipients), released.at_s)
        if told is None:
            return ()
        for_now = {name for name, refusal in told.refusals.items() if not refusal.is_final}
        return tuple(address for address in released.recipients if address not in for_now)

    def _list(self, released: Released, path: Path, why: str, hold: bool) -> None:
        """The index has it as ours again."""
        filebase, state = released.filebase, self._index.state_of(released.filebase)
        if state is None:
            listed_as = EntryState.HELD if hold else EntryState.LISTED
            path = path.with_suffix(Suffix.WAITING)
            self._index.add_listed([(_as_ours(released), path.stat().st_size)], listed_as)
        if hold:
            self._index.set_state(filebase, EntryState.HELD, f"{SHUNTED}: {why}")
        elif state is EntryState.ACTIVE:
            self._index.set_state(filebase, EntryState.DEFERRED, why, self._clock.now_s() + PUT_BACK_FOR_S)

    async def _split(self, released: Released, some: Sequence[str]) -> tuple[Released, Released | None]:
        """`some` and the others, each with an attempt of its own."""
        if set(some) == set(released.recipients):
            return released, None
        attempt_id = await self._ledger.split_attempt(released.attempt_id, some)
        part = dataclasses.replace(released, attempt_id=attempt_id, recipients=tuple(some))
        others = tuple(address for address in released.recipients if address not in some)
        rest = dataclasses.replace(released, recipients=others)
        self._followed[attempt_id] = part
        self._followed[rest.attempt_id] = rest
        return part, rest

    async def _close(self, released: Released, outcome: Outcome) -> None:
        # INVARIANT outcome-after-evidence: see the module; the call can be made again if the ledger refuses.
        await self._ledger.close_attempt(released.attempt_id, outcome.state, outcome.reply, outcome.at_s)
        self._forget(released)
        self._say(outcome.state.value, released, outcome.reply)

    def _follow(self, released: Released) -> None:
        self._followed[released.attempt_id] = released
        self._smtp_log.log.wanted.add(released.record.message_id)

    def _forget(self, released: Released) -> None:
        self._followed.pop(released.attempt_id, None)
        self._leaves_out(released)
        self._smtp_log.log.forget({other.record.message_id for other in self._followed.values()})

    def _leaves_out(self, released: Released) -> None:
        self._in_out.discard(released.mark.name)
        self._room.set()

    def _names(self) -> Collection[str]:
        return {released.mark.name for released in self._followed.values()}

    def _since_s(self) -> float:
        return min((released.at_s for released in self._followed.values()), default=self._clock.now_s())

    def _is_in_custody(self, filebase: str) -> bool:
        try:
            self._custody.path(filebase)
        except EntryVanished:
            return False
        return True

    def _say(self, outcome: str, released: Released, reply: str = "") -> None:
        log.info(
            logfmt(
                outcome=outcome, via="mailman", filebase=released.filebase, list=released.record.list_id,
                message_id=released.record.message_id, recipients=len(released.recipients), reply=reply or None,
            )
        )  # fmt: skip


def _released(attempt: OpenAttempt, mark: Mark) -> Released:
    record = MessageRecord(mark.identity, attempt.list_id, attempt.message_id)
    return Released(attempt.attempt_id, attempt.filebase, mark, record, attempt.recipients, attempt.at_s)


def _as_ours(released: Released) -> QueueFile:
    return QueueFile(float(released.filebase.partition("+")[0]), released.filebase, Suffix.WAITING)
