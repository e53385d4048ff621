"""The ledger lost, put back from an old backup, or mixed up: said before anything is sent, with the way to go on."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from drainer.demo.misbehaviour import answer
from drainer.demo.sink import SinkOptions, SinkThread
from tests.scenarios.running import drainer
from tests.scenarios.troubled import Outbreak, given, once, outbreak


@dataclass(slots=True)
class PartDelivered:
    """A stopped site whose entries wait in custody for one recipient each; the others have theirs.

    backup  of the ledger, made before its last run
    """

    site: Outbreak
    capture: Path
    log: Path
    backup: Path

    @property
    def ledger(self) -> Path:
        return self.site.home / "ledger.sqlite"

    @property
    def mark(self) -> bytes:
        """What the queue knows of its ledger."""
        return (self.site.outage.queue_dir / "drainer" / "lock").read_bytes().partition(b"\n")[2]

    def says(self, exit_status: int, *arguments: str | Path) -> str:
        done = drainer(*arguments, "--config", self.site.settings)
        assert done.returncode == exit_status, (done.stdout, done.stderr)
        assert "Traceback" not in done.stderr
        return done.stdout + done.stderr

    def put(self, ledger: Path | None) -> None:
        """Instead of the ledger in use; None: it is deleted."""
        for end in ("", "-wal", "-shm"):
            self.ledger.with_name(self.ledger.name + end).unlink(missing_ok=True)
        if ledger is not None:
            shutil.copy(ledger, self.ledger)

    def execute(self, statement: str, *values: object) -> list[tuple[object, ...]]:
        with closing(sqlite3.connect(self.ledger)) as ledger, ledger:
            return ledger.execute(statement, values).fetchall()


@pytest.fixture
def waiting(tmp_path: Path) -> Iterator[PartDelivered]:
    refused: set[str] = set()
    capture, log, backup = tmp_path / "capture.jsonl", tmp_path / "mail.log", tmp_path / "backup.sqlite"
    with SinkThread(
        SinkOptions(capture=capture, log=log),
        lambda step: answer("450 4.2.0 later") if step.recipient in refused else None,
    ) as sink:
        site = outbreak(
            tmp_path / "site", sink.port, 3, 3, feed={"retry_first": "1h"}, duplicates={"resend": "deliver"}
        )
        refused |= {sorted(recipients)[0] for recipients in site.outage.owed.values()}
        for is_last in (False, True):
            with site.run() as service:
                site.status_when(
                    "all that waits is deferred",
                    lambda said: (
                        said.backlog.deferred_recipients == said.backlog.recipients > 0 == said.backlog.unread_entries
                    ),
                )
                assert service.terminate() == 0
            if not is_last:
                shutil.copy(site.home / "ledger.sqlite", backup)
        refused.clear()
        yield PartDelivered(site, capture, log, backup)


def test_ledger_lost_old_foreign_newer_or_damaged_is_refused_until_it_knows_earlier_deliveries(
    waiting: PartDelivered, tmp_path: Path
) -> None:
    kept = Path(shutil.copy(waiting.ledger, tmp_path / "kept.sqlite"))
    before, mark = given(waiting.capture), waiting.mark
    directories = ("out", "drainer/backlog", "drainer/held", "drainer/duplicates")
    files = waiting.site.files(*directories)

    waiting.put(waiting.backup)
    said = waiting.says(2, "run", "--until-empty")
    assert (
        "it is older than what was done here, as if put back from a backup (generation 1, the queue has seen 2" in said
    )

    waiting.put(kept)
    waiting.execute(
        "UPDATE kept SET value = ? WHERE name = 'belongs_to'", b'["00000000000000aa", 7, "/srv/other/queue"]'
    )
    said = waiting.says(2, "run", "--until-empty")
    assert "it is not the ledger this queue was drained with" in said and "/srv/other/queue" in said

    waiting.put(kept)
    waiting.execute("PRAGMA user_version = 99")
    newer = waiting.ledger.read_bytes()
    assert "was written by a newer drainer (schema 99, this one knows" in waiting.says(1, "run", "--until-empty")
    assert waiting.ledger.read_bytes() == newer

    whole = kept.read_bytes()
    damaged = whole[:4096] + os.urandom(len(whole) - 4096)
    waiting.ledger.write_bytes(damaged)
    said = waiting.says(1, "run", "--until-empty")
    assert f"{waiting.ledger} is damaged" in said and "drainer accept-ledger" in said
    assert waiting.ledger.read_bytes() == damaged

    waiting.put(None)
    said = waiting.says(2, "run", "--until-empty")
    assert f"{waiting.ledger}: it is new and knows nothing of what an earlier ledger had written down here" in said
    assert all(way in said for way in ("put it back", "drainer import-log --yes", "drainer accept-ledger --yes"))
    assert f"With --yes, {len(files)} entries in custody in" in waiting.says(0, "accept-ledger")
    waiting.says(0, "import-log", "--yes", waiting.log)
    assert waiting.says(2, "run", "--until-empty") == said, "what was imported may not be all: an operator decides"
    assert (given(waiting.capture), waiting.site.files(*directories), waiting.mark) == (before, files, mark)

    assert "Accepted; `drainer run` starts with it" in waiting.says(
        0, "accept-ledger", "--yes", "--reason", "disk died"
    )
    waiting.site.drain()
    once("with the deliveries of the log", waiting.site.owed(), given(waiting.capture))
    ((detail,),) = waiting.execute("SELECT detail FROM journal WHERE action = 'accept-ledger'")
    assert str(detail).endswith("disk died")


def test_ledger_deleted_under_the_running_service_ends_it_and_nothing_of_it_is_lost(tmp_path: Path) -> None:
    capture = tmp_path / "capture.jsonl"
    with SinkThread(SinkOptions(capture=capture)) as sink:
        site = outbreak(tmp_path / "site", sink.port, 1, 2, feed={"messages": "0"}, duplicates={"resend": "deliver"})
        ledger = site.home / "ledger.sqlite"
        with site.run() as service:
            site.status_when("all is read", lambda said: said.backlog.entries > 0 == said.backlog.unread_entries)
            assert drainer("rate", "--messages", "unlimited", "--config", site.settings).returncode == 0
            site.status_when("all is delivered", lambda said: said.backlog.entries == 0)
            for file in list(site.home.glob("ledger.sqlite*")):
                file.unlink()
            assert service.wait() == 1
        assert f"{ledger} was deleted or replaced while in use. Sending has stopped" in site.log.read_text()
        site.drain()
    assert not [line for line in site.lines() if line.get("event") == "ledger"], "it is the same ledger"
    once("each once", site.owed(), given(capture))
