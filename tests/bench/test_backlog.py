"""The benchmark of a large backlog works, and its clones are what a genuine Mailman 3 would have written."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from drainer.queuedir.read import read_entry
from tests.bench.backlog import main
from tests.bench.clones import ENTRY_BYTES, GENUINE, RECIPIENTS, SAMPLES, write_clones
from tests.mailman3.site import mailman_python

_GENUINE_READS = """
import pickle, sys
for name in sys.argv[1:]:
    with open(name, "rb") as file:
        message, metadata = pickle.load(file), pickle.load(file)
    print(type(message).__module__, message["message-id"], metadata["listid"], len(metadata["recipients"]))
    assert message.as_bytes() and metadata["received_time"].year == 2026, name
"""


def test_the_benchmark_measures_what_it_says(capsys: pytest.CaptureFixture[str]) -> None:
    measured = main(300)
    assert 0 < measured.ready_s <= measured.figure_s <= measured.fingerprinted_s
    assert measured.service_bytes > 10**7 and measured.workers_bytes > 10**7
    printed = capsys.readouterr().out
    assert "300 entries" in printed and "aim 2 s" in printed and "aim 20 s" in printed and "aim 200 MB" in printed


def test_clones_are_mails_of_their_own_with_as_many_recipients_and_bytes_as_said(tmp_path: Path) -> None:
    write_clones(tmp_path, 50)
    entries = [read_entry(file) for file in sorted(tmp_path.iterdir())]
    genuine = read_entry(SAMPLES / GENUINE)
    assert {len(entry.recipients) for entry in entries} == {RECIPIENTS}
    assert all(abs(len(entry.raw) - ENTRY_BYTES) < 100 for entry in entries)
    assert len({entry.message.attribute("_payload") for entry in entries}) == 50
    assert len({entry.list_id for entry in entries}) == 20
    assert all(entry.metadata.keys() == genuine.metadata.keys() for entry in entries)


def test_a_genuine_mailman_opens_the_clones(tmp_path: Path) -> None:
    write_clones(tmp_path, 3)
    files = sorted(str(file) for file in tmp_path.iterdir())
    command = [str(mailman_python()), "-c", _GENUINE_READS, *files]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        f"mailman.email.message <00000000{number}@sender.example> k000{number}.example.org 20" for number in range(3)
    ]
