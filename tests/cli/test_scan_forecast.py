"""The forecast of `drainer scan`: what it is based on is said, and it needs neither settings nor service."""

from __future__ import annotations

import gzip
import json
import shutil
from pathlib import Path

import pytest

from drainer.cli.scan import scan_command
from tests.duplicates.labelled import RESUBMISSION


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A queue directory without a log beside it."""
    shutil.copytree(RESUBMISSION, tmp_path / "qfiles" / "out")
    return tmp_path / "qfiles"


def log_lines(number: int, took_s: float = 2.0, recipients: int = 10, hour: int = 4) -> str:
    return "".join(
        f"Mar 03 {hour:02}:{at // 60:02}:{at % 60:02} 2026 (812) <{at}@example.org> smtp to kites for {recipients} recips,"
        f" completed in {took_s:.3f} seconds\n"
        for at in range(number)
    )


def scanned(site: Path, capsys: pytest.CaptureFixture[str], log: Path | None = None) -> tuple[dict[str, object], str]:
    assert scan_command(site, "out", as_json=True, with_entries=False, smtp_log=log) == 0
    document = json.loads(capsys.readouterr().out)
    assert scan_command(site, "out", as_json=False, with_entries=False, smtp_log=log) == 0
    return document["forecast"] | {"to_send": document["backlog"]["recipients_to_send"]}, capsys.readouterr().out


@pytest.mark.parametrize("place", ["logs/smtp", "logs/smtp.log"])
def test_log_beside_the_queue_gives_a_forecast_that_names_it(
    site: Path, capsys: pytest.CaptureFixture[str], place: str
) -> None:
    log = site.parent / place
    log.parent.mkdir()
    log.write_text(log_lines(300) + "Mar 03 05:00:00 2026 (812) delivery to x failed with code 550: no\nnoise\n")
    found, text = scanned(site, capsys)
    assert (found["state"], found["log"], found["log_deliveries"], found["log_recipients"]) == (
        "draining", str(log), 300, 3000,
    )  # fmt: skip
    assert found["log_recipients_per_s"] == pytest.approx(5.0)
    low, seconds, high = (found[name] for name in ("low_s", "seconds", "high_s"))
    assert isinstance(low, float) and isinstance(seconds, float) and isinstance(high, float)
    assert low <= seconds <= high
    # All between "as many transactions as entries" (2 s each) and "as many recipients a second" (5).
    assert 100 < seconds < 500
    assert "Forecast, if it were begun now: about " in text
    assert f"from 300 deliveries to 3,000 recipients in {log}" in text
    assert "5/s recipients while delivering, one message after the other" in text
    assert "within the limits of the settings: 20/s messages, unlimited recipients" in text


def test_log_named_is_read_and_the_one_rotated_last_before_it(
    site: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = tmp_path / "smtp.log"
    log.write_text(log_lines(10, hour=6))
    with gzip.open(f"{log}.1.gz", "wt") as older:
        older.write(log_lines(50, hour=5))
    found, text = scanned(site, capsys, log)
    assert found["log_deliveries"] == 60
    assert "3 Mar 2026 05:00" in text or "3 Mar 05:00" in text


def test_without_a_log_or_with_a_silent_one_the_reason_is_given_in_place_of_a_number(
    site: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found, text = scanned(site, capsys)
    assert found["seconds"] is None
    assert "No forecast: no smtp log of Mailman's was found; name it with --smtp-log FILE" in text
    few = tmp_path / "few"
    few.write_text(log_lines(3))
    assert "No forecast:" in scanned(site, capsys, few)[1]
    assert "tells of 3 deliveries only" in scanned(site, capsys, few)[1]
    assert scan_command(site, "out", as_json=False, with_entries=False, smtp_log=tmp_path / "none") == 2
    assert "--smtp-log" in capsys.readouterr().err
