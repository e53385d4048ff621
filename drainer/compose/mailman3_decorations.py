"""The header and footer that a decorated entry of Mailman 3 already contains, according to Mailman itself.

In    an entry that Mailman's outgoing runner has processed (it was in retry/)
Out   its Decoration; None if Mailman cannot say now, and the text stays as it is
Shell asks a co-process (mailman3.py)

An entry whose decoration is not known is compared with the mails of the same name, or held (stages/survey.py,
stages/settle.py). Mailman is asked for each decorated entry, since a template may contain the address of that mail in an
archive: 3 ms of CPU each, measured over 64 entries of 15 lists. For other entries it is not asked.
"""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

from drainer.clock import Clock
from drainer.compose.mailman3 import Mailman3Composer
from drainer.duplicates.decoration import Decoration
from drainer.errors import ComposeDeferred, ComposeError, ComposerUnavailable, CoprocessBroke, SettingsError
from drainer.queuedir.entry import QueueEntry
from drainer.text.logfmt import logfmt

log = logging.getLogger("drainer")

_AGAIN_AFTER_S = 60.0
"""Wait before asking again, after Mailman did not start (for all lists) or a co-process broke (for that list)."""
_ANY_LIST = ""
_WAITS_S = (0.2, 1.0)
"""Waits before asking once more, for a locked database or a template server."""


class Mailman3Decorations:
    """Looks decorations up.

    composer   its co-processes are asked; it need not be started yet
    queue_dir  the answer of a Mailman with another queue is rejected
    """

    def __init__(self, composer: Mailman3Composer, queue_dir: Path, clock: Clock) -> None:
        self._composer = composer
        self._queue_dir = queue_dir
        self._clock = clock
        self._not_before_s: dict[str, float] = {}

    async def __call__(self, entry: QueueEntry) -> Decoration | None:
        """None if Mailman cannot say, with the reason in the log."""
        now_s = self._clock.monotonic_s()
        if now_s < max(self._not_before_s.get(name, 0.0) for name in (_ANY_LIST, entry.list_id)):
            return None
        try:
            found = await self._asked(entry)
            self._composer.require_queue_dir(self._queue_dir)
        except (ComposerUnavailable, SettingsError, ComposeError) as exc:
            if not isinstance(exc, ComposeError):
                self._not_before_s[_ANY_LIST] = self._clock.monotonic_s() + _AGAIN_AFTER_S
            elif isinstance(exc, CoprocessBroke):
                self._not_before_s[entry.list_id] = self._clock.monotonic_s() + _AGAIN_AFTER_S
            log.warning(logfmt(event="no_decoration", filebase=entry.filebase, list=entry.list_id, detail=exc))
            return None
        return found

    async def _asked(self, entry: QueueEntry) -> Decoration:
        for wait_s in _WAITS_S:
            try:
                return await self._composer.decoration(entry)
            except ComposeDeferred:
                await asyncio.sleep(wait_s)
        return await self._composer.decoration(entry)
