"""An event loop whose time passes only while every task sleeps: spacing is counted exactly, and no test waits for it."""

from __future__ import annotations

import asyncio
import selectors
import time
from collections.abc import Coroutine
from typing import Any, TypeVar

import pytest

Result = TypeVar("Result")


class _JumpingSelector(selectors.DefaultSelector):
    def __init__(self) -> None:
        super().__init__()
        self.now = 1_000.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready:
            assert timeout is not None, "everybody waits for something that cannot come"
            self.now += timeout
        return ready


def run_in_virtual_time(monkeypatch: pytest.MonkeyPatch, main: Coroutine[Any, Any, Result]) -> Result:
    """Run to the end; time.monotonic, and so the loop's and the throttler's time, starts at 1000.0."""
    selector = _JumpingSelector()
    monkeypatch.setattr(time, "monotonic", lambda: selector.now)
    with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(selector)) as runner:
        return runner.run(main)
