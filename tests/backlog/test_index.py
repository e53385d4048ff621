"""The backlog index: what is listed and read, and the file it is kept in."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from drainer.backlog.index import BacklogIndex
from drainer.backlog.states import EntryState
from drainer.backlog.values import BacklogTotals
from drainer.errors import IndexUnusable
from drainer.queuedir.scan import scan_queue
from tests.backlog.entries import described, fill, following, listed


def test_genuine_directory_is_to_be_read_oldest_first(genuine_queue_dir: Path, index: BacklogIndex) -> None:
    files = list(scan_queue(genuine_queue_dir / "out"))
    for start in range(0, len(files), 50):
        index.add_listed((file.file, file.size_bytes) for file in files[start : start + 50])
    assert index.unread(1000) == [file.file.filebase for file in sorted(files, key=lambda file: file.file)]
    totals = index.totals.overall()
    assert (totals.entries, totals.unread_entries, totals.recipients) == (184, 184, 0)
    assert totals.bytes == sum(file.size_bytes for file in files)
    assert totals.oldest_s == min(file.file.when_s for file in files)


def test_listing_the_same_files_again_changes_nothing(index: BacklogIndex) -> None:
    fill(index, described("1.5+a"))
    index.set_state("1.5+a", EntryState.ACTIVE)
    assert index.add_listed(listed("1.5+a", "2.5+b")) == 1
    assert index.state_of("1.5+a") is EntryState.ACTIVE
    assert index.totals.overall().entries == 2


def test_entries_are_not_delivered_before_they_were_read(index: BacklogIndex) -> None:
    index.add_listed(listed("1.5+a", "2.5+b"))
    index.set_state("1.5+a", EntryState.WAITING)
    assert following(index) == []
    index.describe([described("2.5+b")])
    assert following(index) == ["2.5+b"]


def test_deferral_without_a_time_is_refused(index: BacklogIndex) -> None:
    fill(index, described("1.5+a"))
    with pytest.raises(ValueError, match="due"):
        index.set_state("1.5+a", EntryState.DEFERRED)


def test_held_entries_are_read_and_counted_apart_and_come_back_when_released(index: BacklogIndex) -> None:
    index.add_listed(listed("1.5+a"), EntryState.HELD)
    fill(index, described("2.5+b", recipients=3))
    assert index.unread(9) == ["1.5+a"]
    index.describe([described("1.5+a", recipients=5)])
    totals = index.totals.overall()
    assert (totals.entries, totals.recipients, totals.oldest_s) == (1, 3, 2.5)
    assert (totals.held_entries, totals.held_recipients, totals.held_bytes) == (1, 5, 100)
    assert following(index) == ["2.5+b"]
    index.set_state("1.5+a", EntryState.WAITING)
    assert following(index) == ["1.5+a", "2.5+b"]
    assert index.totals.overall().oldest_s == 1.5


def test_index_starts_empty_whatever_was_left_at_its_path(tmp_path: Path) -> None:
    path = tmp_path / "index.sqlite"
    path.write_bytes(b"not a database")
    BacklogIndex(path).close()
    index = BacklogIndex(path)
    fill(index, described("1.5+a"))
    index.close()
    index = BacklogIndex(path)
    assert index.totals.overall() == BacklogTotals()
    index.close()


def test_index_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    with pytest.raises(IndexUnusable, match="nowhere"):
        BacklogIndex(tmp_path / "nowhere" / "index.sqlite")


def test_index_on_a_full_disk_halts_instead_of_forgetting(small_filesystem: Path) -> None:
    index = BacklogIndex(small_filesystem / "index.sqlite")
    with pytest.raises(IndexUnusable, match="full"):
        for start in range(0, 1_000_000, 1000):
            index.add_listed(listed(*(f"{number}.5+{'ab' * 20}" for number in range(start, start + 1000))))
    index.close()


def test_entry_without_recipients_is_known_where_domains_have_ceilings(index: BacklogIndex) -> None:
    index.add_listed(listed("1700000001.1+ab"))
    index.describe([replace(described("1700000001.1+ab", recipients=0), domains=((("example.org", 0),)))])
    assert index.state_of("1700000001.1+ab") is EntryState.WAITING
