"""Mail delivered before the drainer's time, told by the MTA's log, is not delivered again: with and without the service."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from pathlib import Path
from typing import Any

from drainer.demo.sample_queue import write_plain
from drainer.demo.sink import SinkOptions, SinkThread
from drainer.ledger.records import JournalLine
from drainer.ledger.sqlite import SqliteLedger
from tests.scenarios.running import drainer, site_settings
from tests.scenarios.troubled import Outbreak, given, once

MAILS = 4


def site_at(home: Path, port: int, **sections: dict[str, Any]) -> Outbreak:
    """The same mail each time: what a backup brings back."""
    outage = write_plain(home, MAILS, 3)
    mailman = {"flavour": "mailman2", "queue_dir": outage.queue_dir, "lists_dir": outage.lists_dir}
    return Outbreak(home, outage, site_settings(home, port, mailman, **sections))


def says(site: Outbreak, *arguments: str | Path) -> dict[str, Any]:
    done = drainer("import-log", *arguments, "--json", "--config", site.settings)
    assert (done.returncode, done.stderr) == (0, ""), done
    found: dict[str, Any] = json.loads(done.stdout)
    return found


async def journal(site: Outbreak) -> list[JournalLine]:
    ledger = SqliteLedger(site.home / "ledger.sqlite")
    await ledger.open()
    try:
        return await ledger.journal()
    finally:
        await ledger.close()


def test_what_the_log_of_the_mta_tells_is_not_delivered_again(tmp_path: Path) -> None:
    capture, log = tmp_path / "capture.jsonl", tmp_path / "mail.log"
    with SinkThread(SinkOptions(capture=capture, log=log)) as sink:
        before = site_at(tmp_path / "before", sink.port)
        before.drain()
        once("before", before.owed(), given(capture))

        # Without a service: the ledger is written here. The log is torn in two; its first half is forgotten again.
        lines = log.read_text().splitlines(keepends=True)
        half = next(at for at, line in enumerate(lines) if at > len(lines) / 2 and "removed" in line) + 1
        for name, part in (("first.log", lines[:half]), ("second.log", lines[half:])):
            (tmp_path / name).write_text("".join(part))
        after = site_at(tmp_path / "after", sink.port, feed={"messages": "0/s"})
        dry = says(after, tmp_path / "first.log")
        assert (dry["done"], dry["learnt"]) == (False, 0) and 0 < dry["deliveries"] < sum(after.owed().values())
        assert says(after, tmp_path / "first.log", "--yes")["learnt"] == dry["deliveries"]
        name = says(after, tmp_path / "second.log", "--yes")["name"]
        assert says(after, "--undo", name)["learnt"] == sum(after.owed().values()) - dry["deliveries"]
        assert [line.action for line in asyncio.run(journal(after))] == [
            "import-log",
            "import-log",
            "import-log --undo",
        ]

        # With the service: it is told, and what waits is known for a duplicate at once.
        with after.run("--until-empty") as service:
            after.status_when("all is read", lambda said: not said.backlog.unread_entries and said.state == "paused")
            again = says(after, tmp_path / "second.log", "--yes")
            assert again["learnt"] == sum(after.owed().values()) - dry["deliveries"]
            assert sum(one["covered"] for one in again["entries"]) == again["learnt"]
            shown = drainer("show", again["entries"][0]["message_id"], "--config", after.settings).stdout
            assert f"known from a log: {again['name']}" in shown
            assert drainer("rate", "--messages", "unlimited", "--config", after.settings).returncode == 0
            assert service.wait() == 0, service.log_text()[-4000:]
    once("no second copy", before.owed(), given(capture))
    assert {fields["of"][:7] for fields in after.outcomes("suppressed")} == {"import-"}
    assert len(after.files("drainer/duplicates")) == MAILS


def test_whom_the_log_does_not_tell_of_gets_the_mail(tmp_path: Path) -> None:
    capture, log = tmp_path / "capture.jsonl", tmp_path / "mail.log"
    with SinkThread(SinkOptions(capture=capture, log=log)) as sink:
        before = site_at(tmp_path / "before", sink.port)
        before.drain()
        told = log.read_text().splitlines(keepends=True)
        missing = next(line for line in told if " to=<" in line)
        log.write_text("".join(line for line in told if line is not missing))
        after = site_at(tmp_path / "after", sink.port)
        assert says(after, log, "--yes")["learnt"] == sum(before.owed().values()) - 1
        after.drain()
    twice = Counter({recipient: number for (_, _, recipient), number in given(capture).items() if number > 1})
    assert [f" to=<{recipient}>" in missing for recipient in twice] == [True]
