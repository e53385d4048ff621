"""Whether feeding may go on, and for which lists: the reasons against it, in one place.

In    reasons that arise and end; lists that are closed by themselves; tasks that have begun
Out   permission to begin; the cancellation of tasks that may not go on

A reason has a name (`paused`, `guard`, `ledger`, ...). Feeding waits while any reason stands.
"""

from __future__ import annotations

import asyncio
from typing import Any

_Task = asyncio.Task[Any]


class Gate:
    def __init__(self) -> None:
        self._reasons: dict[str, str] = {}
        self._paused: frozenset[str] = frozenset()
        self._unserved: frozenset[str] = frozenset()
        self._closed_lists: frozenset[str] = frozenset()
        self._open = asyncio.Event()
        self._open.set()
        self._inside: dict[_Task, str] = {}
        self._stopped_by: dict[_Task, str] = {}

    @property
    def reasons(self) -> dict[str, str]:
        """Name -> text of every reason feeding stands still; empty while it may go on."""
        return dict(self._reasons)

    @property
    def closed_lists(self) -> frozenset[str]:
        """Those that are paused, and those that are not served."""
        return self._closed_lists

    @property
    def paused_lists(self) -> frozenset[str]:
        return self._paused

    def close(self, name: str, reason: str) -> None:
        """A reason arises, or its text changes. Tasks that may not go on are cancelled at once."""
        known = name in self._reasons
        self._reasons[name] = reason
        self._open.clear()
        if not known:
            self._interrupt_closed()
            for task, stopped_by in self._stopped_by.items():
                if stopped_by == name:
                    task.cancel()

    def open(self, name: str) -> None:
        """The reason has ended."""
        self._reasons.pop(name, None)
        if not self._reasons:
            self._open.set()

    def close_lists(self, lists: frozenset[str]) -> None:
        """Feed nothing for exactly these lists, which are paused, and for those that are not served."""
        self._paused = lists
        self._close()

    def leave_out(self, lists: frozenset[str]) -> None:
        """Feed nothing for exactly these lists, which the settings leave out, and for those that are paused."""
        if lists != self._unserved:
            self._unserved = lists
            self._close()

    def _close(self) -> None:
        lists = self._paused | self._unserved
        closed_now = lists - self._closed_lists
        self._closed_lists = lists
        if closed_now:
            self._interrupt_closed()

    def allows(self, list_id: str) -> bool:
        return self._open.is_set() and list_id not in self._closed_lists

    async def opened(self) -> None:
        """Wait until no reason stands."""
        await self._open.wait()

    def admit(self, task: _Task, list_id: str) -> None:
        """Work for a list has begun: cancel it as soon as the gate does not allow it any longer."""
        self._inside[task] = list_id
        task.add_done_callback(lambda ended: self._inside.pop(ended, None))

    def stop_for(self, name: str, task: _Task) -> None:
        """Work has begun that only this reason ends: cancel it when the reason arises."""
        self._stopped_by[task] = name
        task.add_done_callback(lambda ended: self._stopped_by.pop(ended, None))

    def _interrupt_closed(self) -> None:
        """Cancel the tasks that the gate no longer allows. Each finishes its transaction that has sent DATA first
        (feed/deliver.py)."""
        for task, list_id in self._inside.items():
            if not self.allows(list_id):
                task.cancel()
