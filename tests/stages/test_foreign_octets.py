"""Octets that are not UTF-8, from an MTA and from an entry, are shown written out; they end no run, and no later start."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

import drainer.report.record_writer
from drainer.backlog.selection import Selectors
from drainer.demo.sample_queue import write_plain
from drainer.demo.sink import Sink
from drainer.report.inventory import Inventory
from drainer.report.record_writer import PRESENT, unpacked
from tests.scenarios.hostile_queue import mail, meant_for, put
from tests.stages.inside import inside

BANNER = b"421 4.3.2 serveur momentan\xe9ment indisponible\x1b[2J\x07\0\r\n"
SHOWN = "serveur momentan\\xe9ment indisponible"


class Busy(Sink):
    """An MTA that refuses all, and says so in Latin-1."""


@asynccontextmanager
async def busy() -> AsyncIterator[Busy]:
    async def greets(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(BANNER)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(greets, "127.0.0.1", 0)
    sink = Busy()
    sink.port = server.sockets[0].getsockname()[1]
    async with server:
        yield sink


async def test_latin_1_banner_and_list_name_are_shown_recorded_and_notified_at_every_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drainer.report.record_writer, "SAVED_AFTER_CHANGE_S", -1.0)
    outage = write_plain(tmp_path, 2, 3)
    put(outage.queue_dir, mail("<odd@x>"), meant_for("ann@example.org", list_name="caf\xe9\x1b"))
    notices, program = tmp_path / "notices", tmp_path / "page-me"
    program.write_text(
        f'#!/bin/sh\nprintf "%s\\n" "$DRAINER_TEXT" >>{notices}.text\ncat >>{notices}\necho >>{notices}\n'
    )
    program.chmod(0o755)
    notices.touch()
    notify = {"command": [str(program)], "after": "0s"}
    async with busy() as sink, inside(tmp_path, outage, sink, notify=notify) as run:
        await run.until("the notice came", lambda: SHOWN in notices.read_text().replace("\\\\", "\\"))
        snapshot = await run.status()
        assert snapshot.state == "mta_down" and SHOWN in snapshot.reason
        odd = (await run.asks.entries(Selectors(message_id="odd@x"), 10)).entries[0]
        assert (odd.list, odd.state) == ("caf\\xe9\\x1b", "held") and "'caf\\xe9\\x1b' cannot be" in odd.reason

        async def saved() -> None:
            while True:
                kept = unpacked(await run.resources.ledger.kept(PRESENT), Inventory)
                if kept is not None and SHOWN in kept.snapshot.reason:
                    return
                await asyncio.sleep(0.01)

        await asyncio.wait_for(saved(), 60)
        by_list = await run.asks.entries(Selectors(list="caf\\xe9\\x1b"), 10)
        assert [line.entry for line in by_list.entries] == [odd.entry], "the list is named as it is shown"
        run.service.stop("enough")
        assert await run.ended() == 0
        assert not run.service.side_tasks.failures
    for line in notices.read_text().splitlines():
        assert json.loads(line)["text"].isprintable()
    assert "indisponible\\x1b[2J\\x07\\x00" in (tmp_path / "notices.text").read_text(), (
        "whole, and nothing steers a terminal"
    )
    async with Sink() as good, inside(tmp_path, outage, good) as again:
        await again.until("the others are delivered", lambda: again.taken() == again.owed())
        assert not again.service.side_tasks.failures
