"""Composes Mailman 3 entries with co-processes that run Mailman's own delivery code in Mailman's own Python.

In    queue entries and the recipients still owed
Out   ComposedMessages, as Mailman's outgoing runner would have written them; the header and footer in an entry; the lists
Shell starts co-processes (mailman3_coprocess.py), shares them among callers, and ends them

An answer is a slice: all transactions of a bulk entry, whose content is shared, or as many personal copies as
SLICE_CONTENTS, SLICE_OCTETS and SLICE_COPIES allow. A slice is received whole before its first message is yielded. So a
co-process never waits for the MTA. While the copies of a small slice are sent, the next one is composed: at most two slices
per caller are in memory, the first one of AHEAD_OCTETS. Each co-process is given up to ASKED_AHEAD requests, so it does not
wait for us either.

A co-process that dies, hangs or answers garbage is ended, and a new one is asked once more for the slice that it worked on.
The slices behind that one are asked for again, as if they had not been. Nothing of a broken slice was yielded, so nothing is
sent twice.
"""

from __future__ import annotations

import asyncio
import logging
import shlex
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import TypeVar

from drainer.compose.mailman3_coprocess import SCRIPT, Broken, Coprocess, MailmanVersions, Slice
from drainer.compose.wire import ComposedMessage
from drainer.duplicates.decoration import Decoration
from drainer.errors import ComposerFailed, ComposerUnavailable, CoprocessBroke, SettingsError
from drainer.pickles.allowed import ALLOWED
from drainer.queuedir.entry import QueueEntry
from drainer.queuedir.list_names import MailingList
from drainer.text.logfmt import logfmt

SLICE_CONTENTS = 100
SLICE_OCTETS = 4 * 2**20
SLICE_COPIES = 1000  # of equal content (VERP): some 0.2 s of work, in which a co-process answers nobody else
AHEAD_OCTETS = SLICE_OCTETS // 4
ASKED_AHEAD = 3
OFFERS = ("8BITMIME", "SMTPUTF8", "SIZE")

_Answer = TypeVar("_Answer")

log = logging.getLogger(__name__)


class Mailman3Composer:
    """A Composer for Mailman 3.

    python          the Python that can `import mailman`
    config          its mailman.cfg; None: Mailman looks for it
    coprocesses     how many work side by side, >= 1
    max_recipients  most recipients in a transaction; 0: according to Mailman's own setting
    remember_s      how long list settings and templates are kept; 0: they are looked up each time
    offers          what the MTA announces at EHLO
    """

    def __init__(
        self,
        python: Path,
        config: Path | None,
        coprocesses: int,
        max_recipients: int,
        remember_s: float,
        offers: Sequence[str] = OFFERS,
    ) -> None:
        # -W: without it, a warning about Mailman's own code could be the last line, and be reported as the reason of an end.
        self._command = (str(python), "-B", "-W", "ignore", str(SCRIPT))
        self._hello = {
            "config": None if config is None else str(config),
            "max_recipients": max_recipients,
            "remember_s": remember_s,
            "offers": list(offers),
            "allowed": sorted(ALLOWED),
            "slice_contents": SLICE_CONTENTS,
            "slice_octets": SLICE_OCTETS,
            "slice_copies": SLICE_COPIES,
        }
        self._slots = asyncio.Semaphore(coprocesses * ASKED_AHEAD)
        self._coprocesses = coprocesses
        self._running: list[Coprocess] = []
        self._starting = asyncio.Lock()
        self._closed = False
        self.versions: MailmanVersions | None = None
        self.trouble = ""
        """Why the last start of a co-process failed, in one line; "" if it succeeded."""

    async def start(self) -> None:
        """Start all co-processes. Raises ComposerUnavailable with the reason and a command to try by hand."""
        self._closed = False
        started = await asyncio.gather(*(self._started() for _ in range(self._coprocesses)), return_exceptions=True)
        self._running = [item for item in started if isinstance(item, Coprocess)]
        for item in started:
            if isinstance(item, BaseException):
                await self.close()
                raise item

    def require_queue_dir(self, queue_dir: Path) -> None:
        """Raise SettingsError if the Mailman that was started has another queue than we do."""
        assert self.versions is not None, "asked before the start"
        of_mailman = Path(self.versions.queue_dir)
        if of_mailman.resolve() != queue_dir.resolve():
            raise SettingsError(
                f"mailman.queue_dir = {str(queue_dir)!r}: the Mailman of {self.versions.config or 'its own mailman.cfg'} "
                f"has its queues in {of_mailman}, so it would compose with another site's lists; right would be "
                f"{str(of_mailman)!r}, or in mailman.config the mailman.cfg that belongs to {str(queue_dir)!r}"
            )

    async def compose(self, entry: QueueEntry, recipients: Sequence[str]) -> AsyncGenerator[ComposedMessage, None]:
        """See Composer. Raises ComposeError; ComposerUnavailable if Mailman cannot be started."""
        owed = list(dict.fromkeys(recipients))
        ahead: asyncio.Task[Slice] | None = None
        try:
            while owed:
                answer = await (ahead or self._slice(entry, owed))
                ahead = None
                owed = [address for address in owed if address in answer.left]
                if owed and answer.may_go_on and _octets(answer) <= AHEAD_OCTETS:
                    ahead = asyncio.create_task(self._slice(entry, owed))
                for message in answer.messages:
                    yield message
                if answer.error is not None:
                    raise answer.error
                if owed and not answer.may_go_on:
                    raise ComposerFailed(f"Mailman composed nothing for {len(owed)} recipients, such as {owed[0]}")
        finally:
            if ahead is not None:
                ahead.cancel()
                await asyncio.gather(ahead, return_exceptions=True)

    async def lists(self) -> list[MailingList]:
        """Every list of the site. Raises ComposeError, ComposerUnavailable."""
        async with self._slots:
            coprocess = await self._least_busy()
            try:
                found = await coprocess.lists()
            except Broken as exc:
                await self._drop(coprocess)
                raise ComposerFailed(f"asked for its lists, Mailman {exc}") from exc
        return [MailingList(list_id, *address.rsplit("@", 1)) for list_id, address in found]

    async def close(self) -> None:
        """End all co-processes, also those that are working."""
        self._closed = True
        ending, self._running = self._running, []
        await asyncio.gather(*(item.end() for item in ending))

    async def decoration(self, entry: QueueEntry) -> Decoration:
        """The header and footer that Mailman puts into this mail in bulk. Raises the same as compose."""
        return await self._asked(entry.filebase, lambda coprocess: coprocess.ask_decoration(entry.raw, entry.list_id))

    async def _slice(self, entry: QueueEntry, owed: list[str]) -> Slice:
        return await self._asked(entry.filebase, lambda coprocess: coprocess.ask(entry.raw, owed, entry.list_id))

    async def _asked(self, filebase: str, ask: Callable[[Coprocess], Awaitable[_Answer]]) -> _Answer:
        """One answer; from a new co-process if the first one broke on this question."""
        is_last_try = False
        async with self._slots:
            while True:
                coprocess = await (self._another() if is_last_try else self._least_busy())
                try:
                    return await ask(coprocess)
                except Broken as exc:
                    await self._drop(coprocess)
                    if exc.while_others:
                        continue
                    log.warning(logfmt(event="coprocess_broken", filebase=filebase, reason=exc))
                    if is_last_try:
                        raise CoprocessBroke(f"two co-processes broke on it; the last one {exc}") from exc
                    is_last_try = True

    async def _least_busy(self) -> Coprocess:
        """The co-process with the fewest requests; a new one where one is missing."""
        for item in tuple(self._running):
            if item.is_broken or (len(self._running) > self._coprocesses and not item.requests):
                await self._drop(item)
        if len(self._running) < self._coprocesses:
            async with self._starting:
                if len(self._running) < self._coprocesses:
                    self._running.append(await self._started())
        return min(self._running, key=lambda item: item.requests)

    async def _another(self) -> Coprocess:
        """A new one: what killed one co-process may have killed the others too, and then the entry is not to blame."""
        async with self._starting:
            coprocess = await self._started()
            self._running.append(coprocess)
        return coprocess

    async def _drop(self, coprocess: Coprocess) -> None:
        if coprocess in self._running:
            self._running.remove(coprocess)
        await coprocess.end()

    async def _started(self) -> Coprocess:
        if self._closed:
            raise ComposerUnavailable("the composer is closed")
        try:
            coprocess = await self._greeted()
        except ComposerUnavailable as exc:
            self.trouble = str(exc).replace("\n", "; ")
            raise
        self.trouble = ""
        return coprocess

    async def _greeted(self) -> Coprocess:
        coprocess = await self._launched()
        try:
            self.versions = await coprocess.greet(self._hello)
        except BaseException as exc:
            await coprocess.end()
            if isinstance(exc, Broken):
                raise ComposerUnavailable(self._unavailable(f"it {exc}")) from exc
            raise
        return coprocess

    async def _launched(self) -> Coprocess:
        try:
            return await Coprocess.started(self._command)
        except OSError as exc:
            raise ComposerUnavailable(self._unavailable(f"{self._command[0]}: {exc.strerror}")) from exc

    def _unavailable(self, reason: str) -> str:
        probe = [self._command[0], "-m", "mailman.bin.mailman", "info"]
        config = self._hello["config"]
        environment = f"MAILMAN_CONFIG_FILE={shlex.quote(str(config))} " if config else ""
        return f"the composer for Mailman 3 did not start: {reason}\ntry by hand: {environment}{shlex.join(probe)}"


def _octets(answer: Slice) -> int:
    return sum(map(len, {message.content for message in answer.messages}))
