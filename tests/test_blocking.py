"""A process that no signal ends, since a disk does not answer it, is left behind."""

from __future__ import annotations

import asyncio
from typing import cast

import pytest

from drainer.blocking import kill_session


class Unkillable:
    pid = 2**22 + 1

    async def wait(self) -> None:
        await asyncio.get_running_loop().create_future()


async def test_nobody_waits_for_ever_for_the_end_of_a_killed_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("drainer.blocking.os.killpg", lambda *_: None)
    monkeypatch.setattr("drainer.blocking.KILLED_WITHIN_S", 0.01)
    async with asyncio.timeout(60):
        await kill_session(cast(asyncio.subprocess.Process, Unkillable()))
