"""Whether feeding may go on, and for which lists: the reasons against it, in one place.

A reason has a name (`paused`, `guard`, `ledger`, ...); feeding waits while any stands. A list can be closed by itself.
`on_close` is called when something closes, so that work already begun for it can be put back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Gate:
    def __init__(self, on_close: Callable[[], None] = lambda: None) -> None:
        self._reasons: dict[str, str] = {}
        self._closed_lists: frozenset[str] = frozenset()
        self._open = asyncio.Event()
        self._open.set()
        self.on_close = on_close

    @property
    def reasons(self) -> dict[str, str]:
        """Name -> text of every reason feeding stands still; empty while it may go on."""
        return dict(self._reasons)

    @property
    def closed_lists(self) -> frozenset[str]:
        return self._closed_lists

    def close(self, name: str, reason: str) -> None:
        known = name in self._reasons
        self._reasons[name] = reason
        self._open.clear()
        if not known:
            self.on_close()

    def open(self, name: str) -> None:
        self._reasons.pop(name, None)
        if not self._reasons:
            self._open.set()

    def close_lists(self, lists: frozenset[str]) -> None:
        """Feed nothing for exactly these lists."""
        closed_now = lists - self._closed_lists
        self._closed_lists = lists
        if closed_now:
            self.on_close()

    def allows(self, list_id: str) -> bool:
        return self._open.is_set() and list_id not in self._closed_lists

    async def opened(self) -> None:
        """Wait until no reason stands."""
        await self._open.wait()
