"""`drainer scan` on genuine queues of Mailman 2.1, as an operator and as a script sees it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from drainer.cli.scan import scan, scan_command
from tests.duplicates.labelled import RESUBMISSION, SAMPLES, labels

pytestmark = pytest.mark.usefixtures("reads_here")

QFILES = SAMPLES / "qfiles"
REPEATS = ("exact", "restored", "partial")


def contents(directory: Path) -> dict[str, tuple[bytes, int]]:
    return {str(file): (file.read_bytes(), file.stat().st_mtime_ns) for file in directory.rglob("*") if file.is_file()}


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    """The JSON of one scan of the labelled queue."""
    from drainer.report.queue_scan import as_object

    return json.loads(json.dumps(as_object(scan(RESUBMISSION, with_entries=True), True)))  # type: ignore[no-any-return]


def test_every_entry_is_listed_with_the_fields_scripts_rely_on(document: dict[str, Any]) -> None:
    entries = {entry["file"]: entry for entry in document["entries"]}
    assert set(entries) == set(labels())
    for name, entry in entries.items():
        label = labels()[name]
        assert {"file", "list", "message_id", "recipients", "size", "received", "class", "of", "covered"} <= set(entry)
        assert entry["list"] == label["list"]
        assert entry["message_id"] == (label["message_id"] or "")
        assert entry["recipients"] == len(label["recips"])
        assert entry["size"] == label["size"]
        assert entry["received"] == float(name.partition("+")[0])


def test_covered_recipients_are_named_and_no_original_has_any(document: dict[str, Any]) -> None:
    for entry in document["entries"]:
        label = labels()[entry["file"]]
        if label["class"] in REPEATS:
            assert sorted(entry["covered"]) == sorted(label["recipients_already_covered"]), entry
        else:
            assert entry["covered"] == [] and entry["class"] in ("none", "resend", "conflict"), entry
        assert entry["of"] is None or entry["of"] in labels()


def test_counts_add_up(document: dict[str, Any]) -> None:
    backlog, entries = document["backlog"], document["entries"]
    assert backlog["entries"] == len(entries) == sum(part["entries"] for part in document["classes"].values())
    for name in ("entries", "recipients", "recipients_to_send"):
        for key in ("lists", "ages"):
            assert sum(part[name] for part in document[key]) == backlog[name]
    assert backlog["recipients_to_send"] == backlog["recipients"] - sum(len(entry["covered"]) for entry in entries)
    assert backlog["claimed_entries"] == 1 and backlog["bytes"] == sum(entry["size"] for entry in entries)


def test_queue_dir_and_a_single_queue_are_distinguished(capsys: pytest.CaptureFixture[str]) -> None:
    assert scan_command(QFILES, "out", as_json=True, with_entries=False) == 0
    holding = json.loads(capsys.readouterr().out)
    assert (holding["queue_dir"], holding["queue"], "entries" in holding) == (str(QFILES), "out", False)
    assert scan_command(QFILES / "out", "out", as_json=True, with_entries=False) == 0
    single = json.loads(capsys.readouterr().out)
    assert (single["queue_dir"], single["queue"]) == (None, "out")
    assert single["backlog"]["recipients"] == holding["backlog"]["recipients"] > 4000
    assert {queue["name"] for queue in holding["queues"]} == {"resubmission"}


def test_unreadable_and_foreign_files_are_named_with_a_reason(capsys: pytest.CaptureFixture[str]) -> None:
    assert scan_command(QFILES, "out", as_json=True, with_entries=True) == 0
    found = json.loads(capsys.readouterr().out)
    every = json.loads((SAMPLES / "labels.json").read_text())
    broken = {
        name.removeprefix("out/")
        for name, label in every.items()
        if name.startswith("out/") and label.get("unreadable")
    }
    unreadable = {file["file"]: file["reason"] for file in found["unreadable"]}
    foreign = {file["file"]: file for file in found["foreign"]}
    to_hold = {file["file"] for file in found["unreadable"] if file["goes_to"] == "held"}
    assert broken and set(unreadable) - to_hold == broken - set(foreign)
    assert {every[f"out/{file}"]["case"] for file in to_hold} == {"inject_without_recips"}
    assert set(unreadable.values()) == {"truncated", "empty", "garbage", "no_recipient_list"}
    assert "README" in foreign and sum(file["kills_runner"] for file in foreign.values()) == 1
    listed = {entry["file"] for entry in found["entries"]}
    assert len(listed) + len(unreadable) + len(foreign) == len(list((QFILES / "out").iterdir()))


def test_text_is_readable_and_fits_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    assert scan_command(RESUBMISSION, "out", as_json=False, with_entries=True) == 0
    text = capsys.readouterr().out
    assert "184 entries, 1,242 recipients" in text and "nothing was changed" in text
    assert "kite-makers" in text and "restored" in text and "\x1b" not in text
    kept = text[: text.index("The ledger")]
    assert {line for line in kept.splitlines() if len(line) > 80} == {kept.splitlines()[0]}, "only the path may be long"


def test_nothing_in_the_queue_is_touched(tmp_path: Path) -> None:
    copy = tmp_path / "qfiles"
    shutil.copytree(QFILES, copy)
    before = contents(copy)
    report = scan(copy, "resubmission")
    assert report.total.entries == 184
    assert contents(copy) == before


def test_a_claimed_copy_beside_a_waiting_one_of_the_same_name_is_a_second_entry(tmp_path: Path) -> None:
    entry = next(RESUBMISSION.glob("*.pck"))
    shutil.copy(entry, tmp_path / entry.name)
    shutil.copy(entry, tmp_path / entry.with_suffix(".bak").name)
    waiting, claimed = scan(tmp_path, with_entries=True).entries
    assert (waiting.found.kind.value, claimed.found.kind.value) == ("none", "restored")
    assert claimed.found.of == entry.name and len(claimed.covered) == claimed.summary.recipients


@pytest.mark.parametrize("name", ["nowhere", "empty"])
def test_a_directory_without_queue_is_a_usage_error(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    assert scan_command(tmp_path / name, "out", as_json=True, with_entries=False) == 2
    refused = capsys.readouterr()
    assert refused.out == "" and "right would be" in refused.err


def test_a_queue_that_is_not_there_is_a_usage_error_that_names_those_that_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("in", "retry"):
        (tmp_path / name).mkdir()
    assert scan_command(tmp_path, "out", as_json=False, with_entries=False) == 2
    assert "in, retry" in capsys.readouterr().err


def test_an_empty_queue_is_no_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "out").mkdir()
    assert scan_command(tmp_path, "out", as_json=True, with_entries=True) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["entries"] == [] and found["backlog"]["entries"] == 0


def test_window_and_queue_dir_come_from_the_settings_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "drainer.toml"
    config.write_text(f'[mailman]\nqueue_dir = "{QFILES}"\n[duplicates]\nwindow = "1s"\n')
    assert scan_command(None, "resubmission", as_json=True, with_entries=False, config=config) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["backlog"]["entries"], found["classes"]["resend"]["entries"]) == (184, 0)


def test_scan_tells_of_what_drainer_holds_and_that_it_does_not_ask_the_ledger(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("out", "drainer/backlog", "drainer/held"):
        (tmp_path / name).mkdir(parents=True)
    entry = next((QFILES / "out").glob("*.pck"))
    shutil.copy(entry, tmp_path / "drainer" / "backlog")
    before = contents(tmp_path)
    assert scan_command(tmp_path, "out", as_json=False, with_entries=False) == 0
    said = capsys.readouterr().out
    assert "In drainer's custody: backlog 1\n" in said
    assert "The ledger is not looked at" in said
    named = f"--queue-dir {tmp_path}/drainer --queue backlog"
    assert f"`drainer scan {named}` looks into it" in said
    assert scan_command(tmp_path / "drainer", "backlog", as_json=True, with_entries=False) == 0
    assert json.loads(capsys.readouterr().out)["backlog"]["entries"] == 1
    assert contents(tmp_path) == before


def test_backlog_in_retry_is_read_with_out_as_one_and_the_setting_that_takes_it_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """After an outage of the MTA Mailman's backlog is in retry/, and the same mail is submitted again."""
    for name in ("bad", "in", "out", "pipeline", "retry", "shunt", "virgin"):
        (tmp_path / name).mkdir()
    files = sorted(RESUBMISSION.glob("*.pck"))
    for file in files:
        shutil.copy(file, tmp_path / "retry")
    shutil.copy(files[0], tmp_path / "shunt")
    assert scan_command(tmp_path, None, as_json=False, with_entries=False) == 0
    text = capsys.readouterr().out
    assert f"Scanned out/ and retry/ of {tmp_path} (nothing was changed)" in text
    assert f"{len(files)} entries, " in text
    assert 'drainer would leave retry/ to Mailman; the setting custody.queues = ["out", "retry"] takes it too.' in text
    assert "Other queues: bad 0, in 0, pipeline 0, shunt 1, virgin 0" in text

    again = tmp_path / "out" / files[0].name.replace("1", "2", 1)
    shutil.copy(files[0], again)
    config = tmp_path / "drainer.toml"
    config.write_text(f'[mailman]\nqueue_dir = "{tmp_path}"\n[custody]\nqueues = ["out", "retry"]\n')
    assert scan_command(None, None, as_json=True, with_entries=True, config=config) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["queues_scanned"] == ["out", "retry"]
    assert {part["queue"]: (part["entries"], part["is_taken"]) for part in found["by_queue"]} == {
        "out": (1, True),
        "retry": (len(files), True),
    }
    (copy,) = (entry for entry in found["entries"] if entry["queue"] == "out")
    assert (copy["file"], copy["class"]) == (again.name, "restored")
    assert (copy["of"], copy["of_queue"]) == (files[0].name, "retry")
    assert scan_command(None, None, as_json=False, with_entries=True, config=config) == 0
    text = capsys.readouterr().out
    assert "would leave" not in text and f"out/{again.name}" in text and f" of retry/{files[0].name}" in text
    assert scan_command(tmp_path, "out", as_json=True, with_entries=False) == 0
    assert json.loads(capsys.readouterr().out)["backlog"]["entries"] == 1, "--queue names one"


def test_settings_of_another_queue_are_left_out_and_it_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    here, other, log = tmp_path / "here", tmp_path / "other", tmp_path / "smtp.log"
    for site in (here, other):
        (site / "out").mkdir(parents=True)
    shutil.copy(next(RESUBMISSION.glob("*.pck")), other / "out")
    log.write_text("")
    config = tmp_path / "drainer.toml"
    config.write_text(f'[mailman]\nqueue_dir = "{here}"\nsmtp_log = "{log}"\n[feed]\nmessages = "3/s"\n')
    monkeypatch.setattr("drainer.settings_file.DEFAULT_PATH", config)
    monkeypatch.setattr("drainer.cli.queue_settings.DEFAULT_PATH", config)
    for named in (None, config):
        assert scan_command(other, None, as_json=False, with_entries=False, config=named) == 0
        text = capsys.readouterr().out
        assert f"Settings left out: {config} is for {here}; its log, limits and lists do not count here" in text
        assert str(log) not in text and "no smtp log of Mailman's was found" in text
    assert scan_command(other, None, as_json=True, with_entries=False) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["settings_left_out"].startswith(str(config)) and found["forecast"]["limit_messages_per_s"] != 3.0
    assert scan_command(here / "out", None, as_json=True, with_entries=False) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["settings_left_out"], found["forecast"]["log"]) == ("", str(log)), "a queue of the settings' own"
    config.write_text("[mailman\n")
    assert scan_command(other, None, as_json=False, with_entries=False) == 0
    assert f"Settings left out: they cannot be read ({config}: not TOML" in capsys.readouterr().out
    assert scan_command(None, None, as_json=False, with_entries=False) == 2
