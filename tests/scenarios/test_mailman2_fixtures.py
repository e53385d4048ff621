"""Queues written by a genuine Mailman 2.1, drained by the real service into a capturing sink."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

from tests.scenarios.running import running_service, running_sink, site_settings

SAMPLES = Path(__file__).parent.parent / "samples" / "mailman2"
LABELS: dict[str, dict[str, Any]] = json.loads((SAMPLES / "labels.json").read_text())
SITE: dict[str, Any] = json.loads((SAMPLES / "site.json").read_text())
TRANSCRIPTS: dict[str, dict[str, Any]] = json.loads((SAMPLES / "transcripts.json").read_text())["entries"]


def queue_with(home: Path, queue: str) -> Path:
    """A Mailman queue directory whose out/ holds the files of one set of samples."""
    queue_dir = home / "qfiles"
    for name in ("bad", "in", "out", "retry", "shunt", "virgin"):
        (queue_dir / name).mkdir(parents=True)
    for file in (SAMPLES / "qfiles" / queue).iterdir():
        shutil.copy2(file, queue_dir / "out" / file.name)
    return queue_dir


def mailman2(queue_dir: Path) -> dict[str, Any]:
    return {
        "flavour": "mailman2",
        "queue_dir": queue_dir,
        "lists_dir": SAMPLES / "lists",
        "settings": {name: value for name, value in SITE["settings"].items() if isinstance(value, str | int | float)},
    }


def said_by_mailman(key: str) -> Counter[tuple[str, str]]:
    """(Message-ID, recipient) of what Mailman's own runner delivered from this entry; each recipient once."""
    message_id = LABELS[key]["message_id"] or ""
    sent = TRANSCRIPTS[key]["transactions"]
    return Counter({(message_id, recipient) for transaction in sent for recipient in transaction["rcpt_to"]})


def test_every_entry_mailman_would_deliver_reaches_each_recipient_once(tmp_path: Path) -> None:
    queue_dir = queue_with(tmp_path, "out")
    far = next(key for key, label in LABELS.items() if label["case"] == "deliver_after_far")
    (queue_dir / far).unlink()
    expected: Counter[tuple[str, str]] = Counter()
    for key, label in LABELS.items():
        if key.startswith("out/") and label["mailman_outcome"] == "delivered":
            expected += said_by_mailman(key)

    with running_sink(tmp_path / "sink") as sink:
        settings = site_settings(
            tmp_path, sink.port, mailman2(queue_dir), custody={"bak_age": "0s"}, ledger={"in_doubt": "resend"}
        )
        with running_service(settings, tmp_path / "drainer.log", "--until-empty") as service:
            assert service.wait() == 0, service.log_text()
        taken = sink.deliveries()

    assert {key: number for key, number in taken.items() if number != 1 and expected[key] == 1} == {}
    assert expected - taken == Counter()
    left = {path.name for path in (queue_dir / "out").iterdir()}
    assert left == {"README", *(Path(key).name for key, label in LABELS.items() if label["class"] == "misnamed"),
                    *(Path(key).name for key, label in LABELS.items() if label["case"] == "tmp_leftover")}  # fmt: skip
    bad = {path.stem for path in (queue_dir / "bad").iterdir()}
    assert bad == {Path(key).stem for key, label in LABELS.items() if label["class"] == "broken"}


def test_of_resubmissions_exactly_the_owed_copies_go_out(tmp_path: Path) -> None:
    """By the labels: originals and lookalikes whole, duplicates to recipients not covered, a person's resend to none."""
    queue_dir = queue_with(tmp_path, "resubmission")
    owed: Counter[tuple[str, str]] = Counter()
    for key, label in LABELS.items():
        if key.startswith("resubmission/") and label["class"] != "resend":
            owed.update((label["message_id"] or "", recipient) for recipient in label["recipients_to_send"])

    with running_sink(tmp_path / "sink") as sink:
        settings = site_settings(
            tmp_path, sink.port, mailman2(queue_dir), custody={"bak_age": "0s"}, ledger={"in_doubt": "resend"},
            duplicates={"window": "30d"},
        )  # fmt: skip
        with running_service(settings, tmp_path / "drainer.log", "--until-empty") as service:
            assert service.wait() == 0, service.log_text()
        given = sink.deliveries()

    assert (owed - given, given - owed) == (Counter(), Counter())
