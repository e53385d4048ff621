"""Failures of an MTA that was put right: tried again, also those of an entry that is settled only afterwards."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from drainer.clock import StoppedClock
from drainer.queuedir.custody import Custody
from drainer.stages.reversible_failures import ReversibleFailures
from tests.queuedir.conftest import make_queue_dir

ENTRY = "1700000360.702018+ee98140ad1a1deb6f63341f114120384d61b6ce9"


async def test_entry_settled_after_the_operator_resumed_is_tried_again_though_the_mta_is_believed_by_then(
    tmp_path: Path,
) -> None:
    clock = StoppedClock()
    with Custody(make_queue_dir(tmp_path / "qfiles"), clock=clock) as custody:
        (custody.backlog / f"{ENTRY}.pck").write_bytes(b"")
        listed: list[Any] = []
        undone: list[str] = []

        async def keep(_: object) -> None:
            await asyncio.sleep(0)

        async def undo_failures(filebases: list[str]) -> int:
            undone.extend(filebases)
            return 4

        ledger = SimpleNamespace(keep=keep, undo_failures=undo_failures)
        index = SimpleNamespace(add_listed=listed.extend)
        signals = SimpleNamespace(unread=asyncio.Event())
        resources = SimpleNamespace(clock=clock, custody=custody, ledger=ledger, index=index, signals=signals)
        failures = ReversibleFailures(cast(Any, resources))
        await failures.try_again(clock.now_s() - 1)

        settling = asyncio.create_task(failures.keep(ENTRY, clock.now_s()))
        await asyncio.sleep(0)
        await failures.believe()  # a recipient was accepted meanwhile
        await settling

        (again,) = [file for file, _ in listed]
        assert again.filebase != ENTRY and (custody.backlog / again.name).exists()
        assert undone == [ENTRY] and not list(custody.duplicates.iterdir())
