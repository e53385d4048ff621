"""The composer for Mailman 2.1: it reads the list's settings from disk; mailman2.py does the rest.

In    queue entries
Out   composed transactions
Shell reads config.pck, and looks once a second whether it has changed; other tasks may run between copies; a large
      message is composed in a thread
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from pathlib import Path

from drainer.blocking import InTime
from drainer.clock import Clock
from drainer.compose.list_settings import READ_WITHIN_S, ListSettings, ListSettingsStore
from drainer.compose.mailman2 import compose_transactions
from drainer.compose.mailman2_site import site_settings
from drainer.compose.wire import ComposedMessage
from drainer.errors import ComposeDeferred, SettingsError
from drainer.files.access import advice_for
from drainer.queuedir.entry import QueueEntry

_LARGE_BYTES = 2**18
_TURN_S = 0.005


class Mailman2Composer:
    """Composes entries of Mailman 2.1 (drainer.compose.Composer).

    lists_dir       holds <list>/config.pck
    site            values of mm_cfg.py that differ from Mailman's defaults
    max_recipients  most recipients in a transaction; 0: as Mailman itself splits them
    """

    def __init__(
        self,
        lists_dir: Path,
        site: Mapping[str, str | int | float | bool],
        max_recipients: int = 0,
        clock: Clock | None = None,
    ) -> None:
        self._lists_dir = lists_dir
        self._lists = ListSettingsStore(lists_dir, clock)
        self._asking = InTime[ListSettings](READ_WITHIN_S)
        self._site = site_settings(site)
        self._max_recipients = max_recipients

    async def start(self) -> None:
        """Raises SettingsError if the directory of lists cannot be read."""
        if advice := await asyncio.to_thread(advice_for, self._lists_dir):
            raise SettingsError(f"mailman.lists_dir = {str(self._lists_dir)!r} cannot be read: {advice.text()}")
        if not await asyncio.to_thread(self._lists_dir.is_dir):
            raise SettingsError(
                f"mailman.lists_dir = {str(self._lists_dir)!r} is not a directory; "
                "right would be the directory that holds <list>/config.pck"
            )

    async def compose(self, entry: QueueEntry, recipients: Sequence[str]) -> AsyncGenerator[ComposedMessage, None]:
        """See drainer.compose.Composer. Raises NoSuchList, ListConfigUnreadable, ComposerFailed."""
        settings = await self._settings_of(entry.list_id)
        composed = compose_transactions(entry, settings, self._site, recipients, self._max_recipients)
        is_large = len(entry.raw) > _LARGE_BYTES
        turn_ends = time.monotonic() + _TURN_S
        while True:
            message = await asyncio.to_thread(_next, composed) if is_large else _next(composed)
            if message is None:
                return
            yield message
            if time.monotonic() > turn_ends:
                await asyncio.sleep(0)
                turn_ends = time.monotonic() + _TURN_S

    async def _settings_of(self, name: str) -> ListSettings:
        if (known := self._lists.recent(name)) is not None:
            return known
        try:
            return await self._asking.ask(name, lambda: self._lists.get(name))
        except TimeoutError as exc:
            raise ComposeDeferred(
                f"the settings of list {name} could not be read within {self._asking.limit_s:g} s: the disk or the server "
                f"of {self._lists_dir} does not answer"
            ) from exc

    async def close(self) -> None:
        """Nothing is open."""


def _next(composed: Iterator[ComposedMessage]) -> ComposedMessage | None:
    return next(composed, None)
