"""After an outage of the MTA: what Mailman 2.1 has put into retry/, decorated, and the same mails submitted anew."""

from __future__ import annotations

import hashlib
import json
import shutil
import struct
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from drainer.cli.scan import scan_command
from drainer.duplicates.summary import summarise
from drainer.queuedir.read import read_entry
from tests.scenarios.running import running_service, running_sink, site_settings
from tests.scenarios.test_mailman2_fixtures import SAMPLES, mailman2

CASES = [
    (next(case.glob("entry--*")), retry)
    for case in sorted((SAMPLES / "failures").iterdir())
    for retry in sorted(case.glob("retry--*"))
]
LATER_S = 5000.5


def submitted_again(entry: Path, directory: Path) -> Path:
    """The mail of an entry as Mailman enqueues it when the sending MTA submits it a second time."""
    when_s = float(entry.name.removeprefix("entry--").partition("+")[0])
    before, after = (b"G" + struct.pack(">d", time_s) for time_s in (when_s, when_s + LATER_S))
    raw = entry.read_bytes()
    assert raw.count(before) == 1
    digest = hashlib.sha1(entry.name.encode(), usedforsecurity=False).hexdigest()
    written = directory / f"{when_s + LATER_S!r}+{digest}.pck"
    written.write_bytes(raw.replace(before, after))
    return written


@pytest.fixture
def queue_dir(tmp_path: Path) -> Path:
    home = tmp_path / "qfiles"
    for name in ("bad", "in", "out", "retry", "shunt", "virgin"):
        (home / name).mkdir(parents=True)
    for entry, retry in CASES:
        submitted_again(entry, home / "out")
        shutil.copy2(retry, home / "retry" / retry.name.removeprefix("retry--"))
    return home


def owed(queue_dir: Path) -> Counter[tuple[str, str]]:
    """(Message-ID, recipient) of the mails submitted anew, which go to all recipients that the retry copies still owe."""
    entries = [read_entry(file) for file in sorted((queue_dir / "out").iterdir())]
    found = {(summarise(entry).message_id, recipient) for entry in entries for recipient in entry.recipients}
    retried = [read_entry(file) for file in (queue_dir / "retry").iterdir()]
    assert {(summarise(entry).message_id, recipient) for entry in retried for recipient in entry.recipients} <= found
    return Counter(found)


def settings_of(tmp_path: Path, port: int, queue_dir: Path) -> Path:
    return site_settings(tmp_path, port, mailman2(queue_dir), custody={"queues": ["out", "retry"]})


def test_a_decorated_retry_copy_and_the_same_mail_anew_reach_each_recipient_once(
    tmp_path: Path, queue_dir: Path
) -> None:
    expected = owed(queue_dir)
    with running_sink(tmp_path / "sink") as sink:
        settings = settings_of(tmp_path, sink.port, queue_dir)
        with running_service(settings, tmp_path / "drainer.log", "--until-empty") as service:
            assert service.wait() == 0, service.log_text()
        given = sink.deliveries()
    assert (expected - given, given - expected) == (Counter(), Counter())


def test_a_scan_with_the_sites_settings_knows_a_decorated_copy(
    tmp_path: Path, queue_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for file in (queue_dir / "retry").iterdir():
        file.rename(queue_dir / "out" / file.name)
    settings = settings_of(tmp_path, 9, queue_dir)
    assert scan_command(queue_dir, "out", as_json=True, with_entries=True, config=settings) == 0
    entries: list[dict[str, Any]] = json.loads(capsys.readouterr().out)["entries"]
    first = {entry["message_id"]: entry for entry in reversed(entries)}
    later = [entry for entry in entries if entry["file"] != first[entry["message_id"]]["file"]]
    assert len(later) == len(CASES)
    assert {entry["class"] for entry in later} <= {"exact", "partial"}
