"""Mail that the MTA's log says was delivered before is not delivered again: with and without the service."""

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


def left(site: Outbreak) -> int:
    """Recipients who are to get something yet."""
    snapshot = site.status()
    assert snapshot is not None
    return snapshot.backlog.recipients - snapshot.backlog.duplicate_recipients


async def journal(site: Outbreak) -> list[JournalLine]:
    ledger = SqliteLedger(site.home / "ledger.sqlite")
    await ledger.open()
    try:
        return await ledger.journal()
    finally:
        await ledger.close()


def test_mail_that_the_mtas_log_says_was_delivered_is_not_delivered_again(tmp_path: Path) -> None:
    capture, log = tmp_path / "capture.jsonl", tmp_path / "mail.log"
    with SinkThread(SinkOptions(capture=capture, log=log)) as sink:
        before = site_at(tmp_path / "before", sink.port)
        before.drain()
        once("before", before.owed(), given(capture))

        # Without a service: the ledger is written here. The log is torn in two, its second half is forgotten again; and it
        # does not tell of one recipient.
        lines = log.read_text().splitlines(keepends=True)
        not_in_log = next(line for line in lines if " to=<" in line)
        lines.remove(not_in_log)
        half = next(at for at, line in enumerate(lines) if at > len(lines) / 2 and "removed" in line) + 1
        for name, part in (("first.log", lines[:half]), ("second.log", lines[half:])):
            (tmp_path / name).write_text("".join(part))
        after = site_at(tmp_path / "after", sink.port, feed={"messages": "0/s"})
        known = after.owed().total() - 1
        dry = says(after, tmp_path / "first.log")
        assert (dry["done"], dry["learnt"]) == (False, 0) and 0 < dry["deliveries"] < known
        assert says(after, tmp_path / "first.log", "--yes")["learnt"] == dry["deliveries"]
        name = says(after, tmp_path / "second.log", "--yes")["name"]
        assert says(after, "--undo", name)["learnt"] == known - dry["deliveries"]
        assert [line.action for line in asyncio.run(journal(after))] == [
            "import-log",
            "import-log",
            "import-log --undo",
        ]

        # With the service: it learns the deliveries, and waiting mail is a duplicate at once.
        with after.run() as service:
            after.status_when("all is read", lambda said: not said.backlog.unread_entries and said.state == "paused")
            assert left(after) == known + 1 - dry["deliveries"]
            again = says(after, tmp_path / "second.log", "--yes")
            assert again["learnt"] == known - dry["deliveries"]
            assert left(after) == 1, "what had been read was looked at again"
            assert sum(one["covered"] for one in again["entries"]) == again["learnt"]
            shown = drainer("show", again["entries"][0]["message_id"], "--config", after.settings)
            assert f"known from a log: {again['name']}" in shown.stdout, shown
            assert drainer("rate", "--messages", "unlimited", "--config", after.settings).returncode == 0
            after.status_when("nothing waits", lambda said: said.backlog.entries == 0)
            assert service.terminate() == 0, service.log_text()[-4000:]
    (second,) = (given(capture) - before.owed()).elements()
    assert f" to=<{second[2]}>" in not_in_log, "only the recipient that is not in the log got the mail again"
    once("no other copy", before.owed(), given(capture) - Counter([second]))
    assert {fields["of"][:7] for fields in after.outcomes("suppressed")} == {"import-"}
    assert len(after.files("drainer/duplicates")) == MAILS - 1
