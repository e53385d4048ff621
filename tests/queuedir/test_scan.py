"""Listing: complete whatever lies about in the directory, and nothing is opened."""

from __future__ import annotations

import os
import tracemalloc
from pathlib import Path

import pytest

from drainer.queuedir.filebase import Suffix
from drainer.queuedir.scan import FOREIGN_NAMES_KEPT, QueueCensus, QueueScan, queue_counts, scan_queue, waiting_in


def test_genuine_directory_is_listed_with_sizes(genuine_queue_dir: Path) -> None:
    out = genuine_queue_dir / "out"
    scan = scan_queue(out)
    listed = {file.file.name: file.size_bytes for file in scan}
    assert listed == {path.name: path.stat().st_size for path in out.iterdir()}
    assert (scan.waiting, scan.claimed, scan.foreign_count) == (183, 1, 0)


def test_what_is_no_entry_is_reported_with_its_reason_and_does_not_stop_the_listing(queue_dir: Path) -> None:
    out = queue_dir / "out"
    for name in ("1.5+ab.pck", "nonsense.pck", "1.5+cd.pck.tmp", "README", "2.5+ef.psv"):
        (out / name).touch()
    (out / "3.5+dir.pck").mkdir()
    (out / "4.5+link.pck").symlink_to("/etc/passwd")
    os.mkfifo(out / "5.5+fifo.pck")
    os.close(os.open(os.fsencode(out) + b"/6.5+\xff.pck", os.O_CREAT))
    scan = scan_queue(out)
    assert {listed.file.name for listed in scan} == {"1.5+ab.pck", "2.5+ef.psv"}
    assert {name.name: name.reason for name in scan.foreign} == {
        "nonsense.pck": "no '+' in the name",
        "1.5+cd.pck.tmp": "half-written (.tmp): never read",
        "README": "not a queue file",
        "3.5+dir.pck": "a directory, not a regular file",
        "4.5+link.pck": "a symbolic link, not a regular file",
        "5.5+fifo.pck": "a FIFO, not a regular file",
        "6.5+\udcff.pck": "control characters or invalid UTF-8 in the name",
    }
    assert scan.kills_runner == "nonsense.pck"
    assert (scan.waiting, scan.preserved) == (1, 1)


def test_what_waits_can_be_summed_up_without_a_whole_listing(genuine_queue_dir: Path) -> None:
    out = genuine_queue_dir / "out"
    for name in ("1.5+ab.bak", "nonsense.pck", "1.5+cd.pck.tmp", "README", "2.5+ef.psv", "1e9+ef.pck", "7+a+b.pck"):
        (out / name).touch()
    (out / "3.5+dir.pck").mkdir()
    (out / "4.5+link.pck").symlink_to("/etc/passwd")
    listed = [file for file in scan_queue(out) if file.file.suffix is Suffix.WAITING]
    assert len(listed) == 184
    assert sorted(waiting_in(out)) == sorted((file.file.when_s, file.size_bytes) for file in listed)
    middle_s = sorted(file.written_s for file in listed)[90]
    assert sorted(waiting_in(out, middle_s)) == sorted(
        (file.file.when_s, file.size_bytes) for file in listed if file.written_s <= middle_s
    )


def test_unreadable_files_are_listed_since_nothing_is_opened(queue_dir: Path) -> None:
    path = queue_dir / "out" / "1.5+ab.pck"
    path.touch(mode=0)
    atime_ns = path.stat().st_atime_ns
    assert [listed.file.name for listed in scan_queue(path.parent)] == [path.name]
    assert path.stat().st_atime_ns == atime_ns


def test_entries_that_vanish_during_the_listing_are_counted_and_passed_over(queue_dir: Path) -> None:
    out = queue_dir / "out"
    for number in range(50):
        (out / f"{number}.5+ab.pck").touch()
    scan = scan_queue(out)
    files = iter(scan)
    first = next(files)
    for path in out.iterdir():
        if path.name != first.file.name:
            path.unlink()
    assert list(files) == []
    assert (scan.waiting, scan.vanished) == (1, 49)


def test_missing_directory_is_an_error_and_not_an_empty_queue(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        list(scan_queue(tmp_path / "nowhere"))


def test_claimed_time_is_that_of_the_rename_and_not_of_the_mail(queue_dir: Path) -> None:
    path = queue_dir / "out" / "1.5+ab.pck"
    path.touch()
    os.utime(path, (1000, 1000))
    path = path.rename(path.with_suffix(".bak"))
    (listed,) = scan_queue(path.parent)
    assert listed.file.suffix is Suffix.CLAIMED
    assert listed.written_s == 1000
    assert listed.changed_s == path.stat().st_ctime


def test_listing_holds_neither_all_entries_nor_all_foreign_names(queue_dir: Path) -> None:
    out = queue_dir / "out"
    for number in range(6000):
        (out / f"{number}.5+{'ab' * 20}.pck").touch()
        (out / f"foreign{number}").touch()
    tracemalloc.start()
    try:
        scan = QueueScan(out)
        count = sum(len(batch) for batch in scan.batches(100))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (count, scan.foreign_count, len(scan.foreign)) == (6000, 6000, FOREIGN_NAMES_KEPT)
    assert peak < 1_000_000, "6,000 entries held at once would be 2 MB"


def test_what_is_no_file_is_no_entry_of_a_queue_whatever_it_is_called(queue_dir: Path) -> None:
    out = queue_dir / "out"
    (out / "9.5+ab.pck").touch()
    os.mkfifo(out / "1.5+ab.pck")
    (out / "2.5+ab.pck").mkdir()
    (out / "3.5+ab.pck").symlink_to(out / "9.5+ab.pck")
    (counts,) = [count for count in queue_counts(queue_dir) if count.name == "out"]
    assert (counts.entries, counts.oldest_s) == (1, 9.5)


def test_every_queue_is_counted_with_its_oldest_entry_and_ours_is_none_of_them(genuine_queue_dir: Path) -> None:
    (genuine_queue_dir / "bad" / "7.5+ab.psv").touch()
    (genuine_queue_dir / "shunt" / "9.5+ab.pck").touch()
    (genuine_queue_dir / "shunt" / "8.5+ab.pck").touch()
    (genuine_queue_dir / "drainer" / "backlog").mkdir(parents=True)
    (genuine_queue_dir / "a file").touch()
    counts = {count.name: (count.entries, count.oldest_s) for count in queue_counts(genuine_queue_dir)}
    names = "archive bad bounces commands in news out retry shunt virgin".split()
    assert list(counts) == names
    assert counts["bad"] == (1, 7.5)
    assert counts["shunt"] == (2, 8.5)
    assert counts["retry"] == (0, None)
    assert counts["out"][0] == 184


def test_census_sees_every_change_also_of_a_directory_whose_mtime_is_too_coarse(queue_dir: Path) -> None:
    out = queue_dir / "out"
    modified_s = out.stat().st_mtime

    def entries(now_s: float) -> int:
        return next(count.entries for count in census.count(now_s) if count.name == "out")

    census = QueueCensus(queue_dir, settled_s=2.0)
    assert entries(modified_s + 1) == 0
    (out / "1.5+ab.pck").touch()
    os.utime(out, (modified_s, modified_s))
    assert entries(modified_s + 1) == 1
    assert entries(modified_s + 10) == 1
    (out / "2.5+ab.pck").touch()
    assert entries(modified_s + 11) == 2
