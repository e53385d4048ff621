"""`drainer demo`, small: it ends with the truth, in plain text when piped, and says so when the truth is not right."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from drainer.demo.sample_queue import Outage, write_outage
from drainer.demo.tour import reconcile


def demo(*options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "drainer", "demo", *options]
    return subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=120, check=False)


@pytest.fixture(scope="module")
def toured(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    home = tmp_path_factory.mktemp("tour") / "site"
    return home, demo("--mails", "60", "--directory", str(home))


def test_small_tour_ends_with_every_recipient_served_once(
    toured: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    home, done = toured
    assert (done.returncode, done.stderr) == (0, "")
    assert "Every recipient got every mail exactly once" in done.stdout
    given = [json.loads(line) for line in (home / "capture.jsonl").read_text().splitlines()]
    recipients = sum(len(taken["recipients"]) for taken in given)
    assert f"{recipients:>9,}  given to the sink exactly once" in done.stdout


def test_piped_tour_is_plain_text(toured: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    assert "\x1b" not in toured[1].stdout and "\r" not in toured[1].stdout


@pytest.mark.parametrize(
    ("tampering", "shown"),
    [("drop", "missing"), ("repeat", "more_than_once"), ("stranger", "not_owed")],
)
def test_reconciliation_notices_a_capture_that_was_tampered_with(tmp_path: Path, tampering: str, shown: str) -> None:
    outage = write_outage(tmp_path / "site", 10)
    for name, kinds in (("held", ("resend",)), ("duplicates", ("exact", "restored"))):
        (outage.queue_dir / "drainer" / name).mkdir(parents=True)
        for number in range(sum(outage.duplicates.get(kind, 0) for kind in kinds)):
            (outage.queue_dir / "drainer" / name / f"{number}.pck").touch()
    capture = tmp_path / "capture.jsonl"
    truth = capture_of(outage)
    capture.write_text("".join(truth))
    assert reconcile(outage, capture).is_right
    changed = {
        "drop": truth[1:],
        "repeat": [*truth, truth[0]],
        "stranger": [*truth, truth[0].replace("@", "+x@", 2)],
    }[tampering]
    capture.write_text("".join(changed))
    result = reconcile(outage, capture)
    assert not result.is_right and getattr(result, shown) > 0


def test_reconciliation_notices_a_duplicate_that_was_not_suppressed(tmp_path: Path) -> None:
    outage = write_outage(tmp_path / "site", 10)
    outage.duplicates["exact"] = 3
    (tmp_path / "capture.jsonl").write_text("".join(capture_of(outage)))
    result = reconcile(outage, tmp_path / "capture.jsonl")
    assert not result.is_right and (result.suppressed, result.missing) == (0, 0)


def capture_of(outage: Outage) -> list[str]:
    """What a sink writes down when all goes right."""
    return [
        json.dumps(
            {
                "reverse_path": f"{list_name}-bounces@lists.example.org",
                "message_id": message_id,
                "recipients": sorted(recipients),
            }
        )
        + "\n"
        for (list_name, message_id), recipients in outage.owed.items()
    ]
