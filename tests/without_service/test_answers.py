"""A status without the service reads a bounded number of entries, and says so."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import pytest

from drainer.report.snapshot import Snapshot
from drainer.report.terminal.status import status_lines
from drainer.settings_file import load_settings
from drainer.without_service import answers
from tests.scenarios.operated import site

ODD = Path(__file__).parents[1] / "samples" / "odd"
NOBODY_READS_IT = ODD / "no-recipient-key" / "1400000000.5+42a3b0ccf8e462b19dde406c34cc45614e48e027.pck"


def test_entries_beyond_the_bound_are_counted_as_not_read_and_held_ones_that_cannot_be_read_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with site(tmp_path, 8, feed={"messages": "0"}) as lists:
        shutil.copy(NOBODY_READS_IT, lists.out)
        with lists.run() as service:
            lists.surveyed(lists.outage.entries + 1)
            assert service.terminate() == 0
        settings = load_settings(lists.settings)

    async def asked() -> tuple[Snapshot, int]:
        async with answers.from_disk(settings, "not_running") as disk:
            snapshot, eta = await disk.status(), await disk.eta()
            return snapshot, eta.unread_entries

    whole, _ = asyncio.run(asked())
    assert whole.mailman.flavour == "mailman2"
    assert whole.without_service is not None and whole.backlog.unread_entries == 0
    assert whole.backlog.recipients == whole.without_service.recorded_recipients
    monkeypatch.setattr(answers, "READ_AT_MOST", 3)
    some, unread = asyncio.run(asked())
    not_read = whole.backlog.entries + whole.backlog.held_entries - 3
    assert some.backlog.entries == whole.backlog.entries
    assert (some.backlog.unread_entries, unread) == (not_read, not_read)
    assert 0 < some.backlog.recipients < whole.backlog.recipients
    text = " ".join(" ".join(status_lines(some, 200)).split())
    assert f"{not_read} entries not read yet" in text
    assert f"the service counted {whole.backlog.recipients} recipients in all" in text


def test_hold_that_a_crash_kept_from_its_file_is_counted_and_the_file_stays_where_it_lies(tmp_path: Path) -> None:
    """The hold was committed, then the service died before the move. Its next start moves the file, a question does not."""
    with site(tmp_path, 2, feed={"messages": "0"}) as lists:
        shutil.copy(NOBODY_READS_IT, lists.out)
        with lists.run() as service:
            lists.surveyed(lists.outage.entries + 1)
            assert service.terminate() == 0
        held = lists.custody / "held" / NOBODY_READS_IT.name
        not_moved = lists.custody / "backlog" / NOBODY_READS_IT.name
        held.rename(not_moved)
        settings = load_settings(lists.settings)

    async def asked() -> Snapshot:
        async with answers.from_disk(settings, "not_running") as disk:
            return await disk.status()

    assert asyncio.run(asked()).backlog.held_entries == 1
    assert not_moved.exists() and not held.exists()
