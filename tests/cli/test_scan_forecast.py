"""The forecast of `drainer scan`: what it is based on is said, and it needs neither settings nor service."""

from __future__ import annotations

import gzip
import json
import shutil
from pathlib import Path

import pytest

from drainer.cli.forecast import forecast, forecast_lines, forecast_object
from drainer.cli.scan import scan_command
from drainer.settings import Settings
from tests.duplicates.labelled import RESUBMISSION

pytestmark = pytest.mark.usefixtures("reads_here")

NOW_S = 1_772_550_000.0
MAILMAN_LOGS = Path(__file__).parents[1] / "samples" / "mailman_logs"


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A queue directory without a log beside it."""
    shutil.copytree(RESUBMISSION, tmp_path / "qfiles" / "out")
    return tmp_path / "qfiles"


def log_lines(number: int, took_s: float = 2.0, recipients: int = 10, hour: int = 4) -> str:
    return "".join(
        f"Mar 03 {hour:02}:{at // 60:02}:{at % 60:02} 2026 (812) <{at}@example.org> smtp to kites for {recipients} recips,"
        f" completed in {took_s:.3f} seconds\n"
        f"Mar 03 {hour:02}:{at // 60:02}:{at % 60:02} 2026 (812) post to kites from ann@example.org, size=900,"
        f" message-id=<{at}@example.org>, success\n"
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
    assert "Forecast, if the drain began now: about " in text
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
    assert "has only 3 deliveries that the MTA accepted" in scanned(site, capsys, few)[1]
    assert scan_command(site, "out", as_json=False, with_entries=False, smtp_log=tmp_path / "none") == 2
    assert "--smtp-log" in capsys.readouterr().err


def forecast_of(log: Path) -> tuple[dict[str, object], str]:
    found = forecast(log, None, Settings(), 50, 500, NOW_S)
    return forecast_object(found), "\n".join(forecast_lines(found, NOW_S))


def test_deliveries_that_all_failed_forecast_nothing_and_the_reply_says_why(
    site: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = MAILMAN_LOGS / "mailman3-mta-down.log"
    found, text = scanned(site, capsys, log)
    assert (found["seconds"], found["log_recipients_per_s"], found["log_recipients"]) == (None, None, 0)
    assert (found["log_deliveries"], found["log_failed_deliveries"]) == (0, 40)
    assert f"No forecast: all 40 deliveries in {log} failed: the MTA accepted no recipient" in text
    assert "(last reply: 444 [Errno 111] Connection refused)" in text
    assert "while delivering" not in text


def test_only_accepted_recipients_make_the_rate_and_an_mta_down_since_is_named(tmp_path: Path) -> None:
    log = tmp_path / "smtp.log"
    log.write_text(
        log_lines(50, recipients=10).replace("success", "4 failures")
        + log_lines(9, hour=5).replace("success", "10 failures")
        + "Mar 03 05:00:00 2026 (812) <0@example.org> delivery to ann@example.org failed with code -1, (111, 'no')\n"
    )
    found, text = forecast_of(log)
    assert (found["log_deliveries"], found["log_recipients"], found["log_failing_deliveries"]) == (50, 300, 9)
    assert found["log_recipients_per_s"] == pytest.approx(3.0)
    assert "3/s recipients while delivering" in text
    assert "the MTA accepted no recipient in 9 deliveries (last reply: -1 (111, 'no')): it has to be up again" in text


def test_log_whose_templates_tell_no_end_forecasts_nothing_and_names_those_that_would(tmp_path: Path) -> None:
    log = tmp_path / "smtp.log"
    genuine = (MAILMAN_LOGS / "mailman3-partly-refused.log").read_text().splitlines(keepends=True)
    log.write_text("".join(line for line in genuine if "completed in" in line))
    found, text = forecast_of(log)
    assert (found["seconds"], found["log_deliveries"], found["log_untold_deliveries"]) == (None, 0, 40)
    assert "has 40 deliveries and does not say whether the MTA accepted them" in text
    assert "the templates success, refused and failure of [logging.smtp]" in text


def test_log_of_21_is_read_with_the_logs_beside_it_that_tell_how_deliveries_ended(tmp_path: Path) -> None:
    log = tmp_path / "smtp"
    both = log_lines(40).splitlines(keepends=True)
    log.write_text("".join(both[::2]))
    assert (
        "does not say whether the MTA accepted them; Mailman 2.1 writes that to post and smtp-failure"
        in (forecast_of(log)[1])
    )
    (tmp_path / "post").write_text("".join(line.replace("success", "4 failures") for line in both[1::2]))
    found, _ = forecast_of(log)
    assert (found["log_deliveries"], found["log_recipients"]) == (40, 240)
