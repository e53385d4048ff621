"""Work that has to be done although the task that found it may be cancelled meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine


class Background:
    """Keeps a reference to each task until it has ended; asyncio itself keeps none."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def begin(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
