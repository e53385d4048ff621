"""A list's footer was changed between two passages of one mail: no recipient gets it twice, and an undecided mail is held.

Entries of a genuine Mailman 2.1, which put header and footer into its retry/ copies; then the list got another footer.
"""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from drainer.cli.scan import scan_command
from drainer.queuedir.read import read_entry
from tests.scenarios.running import (
    SinkProcess,
    drainer,
    eventually,
    running_service,
    running_sink,
    site_settings,
)
from tests.scenarios.test_mailman2_fixtures import SAMPLES, mailman2
from tests.scenarios.test_retry_and_resubmission import CASES, owed, submitted_again

WITH_FOOTER = [(entry, retry) for entry, retry in CASES if read_entry(retry).list_id == "kite-makers"]


@pytest.fixture
def site(tmp_path: Path) -> dict[str, Any]:
    """[mailman] of a site whose lists say something else in their footers than their retry/ copies do."""
    lists = tmp_path / "lists"
    shutil.copytree(SAMPLES / "lists", lists)
    settings = lists / "kite-makers" / "config.pck"
    before = settings.read_bytes()
    settings.chmod(0o644)
    settings.write_bytes(before.replace(b"because you joined", b"because you signed"))
    assert settings.read_bytes() != before
    queue_dir = tmp_path / "qfiles"
    for name in ("bad", "in", "out", "retry", "shunt", "virgin"):
        (queue_dir / name).mkdir(parents=True)
    return {**mailman2(queue_dir), "lists_dir": lists}


def decorated_ones(queue_dir: Path) -> None:
    for _, retry in WITH_FOOTER:
        shutil.copy2(retry, queue_dir / "retry" / retry.name.removeprefix("retry--"))


def submitted_anew(queue_dir: Path) -> None:
    for entry in dict.fromkeys(entry for entry, _ in WITH_FOOTER):
        submitted_again(entry, queue_dir / "out")


def drained(settings: Path, log: Path) -> str:
    with running_service(settings, log, "--until-empty") as service:
        assert service.wait() == 0, service.log_text()
        return service.log_text()


def copies_once(sink: SinkProcess) -> Counter[tuple[str, str]]:
    given = sink.deliveries()
    assert {who: copies for who, copies in given.items() if copies > 1} == {}
    return given


def settings_for(tmp_path: Path, site: dict[str, Any], port: int) -> Path:
    return site_settings(tmp_path, port, site, custody={"queues": ["out", "retry"]})


def held(queue_dir: Path) -> set[str]:
    return {path.name.removesuffix(".pck") for path in (queue_dir / "drainer" / "held").iterdir()}


def test_of_both_copies_in_the_queue_one_proves_the_other_and_nothing_is_held(
    tmp_path: Path, site: dict[str, Any]
) -> None:
    decorated_ones(site["queue_dir"])
    submitted_anew(site["queue_dir"])
    expected = owed(site["queue_dir"])
    with running_sink(tmp_path / "sink") as sink:
        log = drained(settings_for(tmp_path, site, sink.port), tmp_path / "drainer.log")
        assert copies_once(sink) == expected
    assert held(site["queue_dir"]) == set()
    assert "event=same_mail" in log


@pytest.mark.parametrize("first", [decorated_ones, submitted_anew])
def test_copy_of_a_mail_that_an_earlier_run_delivered_is_held_for_those_recipients_and_goes_to_others(
    tmp_path: Path, site: dict[str, Any], first: Any
) -> None:
    """Either order; the service was killed in between, and only its ledger knows of the other one."""
    queue_dir = site["queue_dir"]
    second = submitted_anew if first is decorated_ones else decorated_ones
    all_owed = Counter[tuple[str, str]]()
    with running_sink(tmp_path / "sink") as sink:
        settings = settings_for(tmp_path, site, sink.port)
        first(queue_dir)
        all_owed |= recipients_in(queue_dir)
        entries = len(files_in(queue_dir))
        with running_service(settings, tmp_path / "first.log") as service:
            eventually(lambda: service.log_text().count("outcome=finished") == entries, service.log_text)
            service.kill()
        had = copies_once(sink)
        second(queue_dir)
        later = recipients_in(queue_dir)
        all_owed |= later
        log = drained(settings, tmp_path / "second.log")
        given = copies_once(sink)
        assert given == all_owed, "a recipient that had no copy of either is missing"
        in_question = {who[0] for who in later if who in had}
        assert log.count("outcome=held") == log.count("reason=undecided") == len(held(queue_dir))
        assert {message_id_of(queue_dir, name) for name in held(queue_dir)} == in_question
        with running_service(settings, tmp_path / "third.log") as service:
            released = next(iter(held(queue_dir)))
            shown = drainer("show", released, "--config", settings).stdout
            assert "may be the same mail" in shown
            left = held(queue_dir) - {released}
            assert drainer("release", released, "--yes", "--config", settings).returncode == 0
            eventually(lambda: f"outcome=finished filebase={released}" in service.log_text(), service.log_text)
            assert max(sink.deliveries().values()) == 2, "an operator says that it is another mail"
            assert held(queue_dir) == left


def files_in(queue_dir: Path) -> list[Path]:
    return [*(queue_dir / "out").iterdir(), *(queue_dir / "retry").iterdir()]


def recipients_in(queue_dir: Path) -> Counter[tuple[str, str]]:
    entries = map(read_entry, files_in(queue_dir))
    return Counter({(message_id(entry), who) for entry in entries for who in entry.recipients})


def message_id_of(queue_dir: Path, name: str) -> str:
    return message_id(read_entry(queue_dir / "drainer" / "held" / f"{name}.pck"))


def message_id(entry: Any) -> str:
    return next(str(value) for name, value in entry.message.attribute("_headers") if name.lower() == "message-id")


def test_scan_reports_undecided_where_the_texts_do_not_show_it(
    tmp_path: Path, site: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    """A scan proves what it can by what the files say; two words were changed on the way in one of them."""
    queue_dir = site["queue_dir"]
    decorated_ones(queue_dir)
    for file in (queue_dir / "retry").iterdir():
        file.rename(queue_dir / "out" / file.name)
    submitted_anew(queue_dir)
    settings = settings_for(tmp_path, site, 9)

    def classes() -> Counter[str]:
        assert scan_command(queue_dir, "out", as_json=True, with_entries=True, config=settings) == 0
        return Counter(entry["class"] for entry in json.loads(capsys.readouterr().out)["entries"])

    proved = classes()
    assert set(proved) <= {"none", "exact", "partial"}
    for file in (queue_dir / "out").iterdir():
        raw = file.read_bytes()
        if b"decorated" in raw:
            file.write_bytes(raw.replace(b"wind", b"WIND").replace(b"the ", b"THE ").replace(b"Body", b"BODY"))
    assert classes()["undecided"] > 0
