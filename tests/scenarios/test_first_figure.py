"""The backlog is shown complete from the first figure on, while it is still being taken and read."""

from __future__ import annotations

import asyncio
from pathlib import Path

from drainer.control.client import ControlClient
from drainer.demo.sample_queue import write_outage
from tests.scenarios.running import running_service, running_sink, site_settings


def test_only_true_figures_are_shown_while_the_backlog_is_taken(tmp_path: Path) -> None:
    outage = write_outage(tmp_path, 800)
    octets = sum(path.stat().st_size for path in (outage.queue_dir / "out").iterdir())
    mailman = {"flavour": "mailman2", "queue_dir": outage.queue_dir, "lists_dir": outage.lists_dir}
    figures: set[tuple[int, int]] = set()

    async def watch(socket: Path) -> None:
        async with ControlClient(socket) as client:
            while True:
                said = await client.status()
                figures.add((said.backlog.entries, said.backlog.bytes))
                if said.backlog.entries and not said.backlog.unread_entries:
                    return

    with running_sink(tmp_path / "sink") as sink:
        settings = site_settings(tmp_path, sink.port, mailman, feed={"messages": 0})
        with running_service(settings, tmp_path / "drainer.log"):
            asyncio.run(asyncio.wait_for(watch(tmp_path / "control.sock"), 120))

    assert figures - {(0, 0)} == {(outage.entries, octets)}
