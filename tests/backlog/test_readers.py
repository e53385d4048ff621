"""Many files read in worker processes: every file answers for itself, in order, and for itself only."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import psutil

from drainer.backlog.readers import READER_KILLED, WORKER_NICENESS, EntryReaders, read_entries
from drainer.demo.sample_queue import _message, python2_pickle
from drainer.duplicates.decoration import Decoration
from drainer.duplicates.summary import summarise
from drainer.queuedir.entry import QueueEntry
from drainer.queuedir.read import read_entry
from tests.duplicates.labelled import RESUBMISSION, SAMPLES
from tests.duplicates.test_decoration import KITES

MIB = 2**20


def large_entry(directory: Path, mib: int) -> Path:
    """An honest entry whose mail has `mib` MiB."""
    file = directory / "1772517659.5+aa.pck"
    message = python2_pickle(_message([("Message-ID", "<large@a.example>")], ("x" * 1023 + "\n") * 1024 * mib))
    file.write_bytes(message + python2_pickle({"listname": "talk", "recips": ["ann@example.org"], "version": 3}))
    return file


def test_results_come_in_order_and_are_what_reading_one_by_one_gives() -> None:
    files = sorted(RESUBMISSION.iterdir(), reverse=True) * 3
    results = list(read_entries(files, with_recipients=True))
    assert [result.path for result in results] == [str(file) for file in files]
    for file, result in zip(files[:40], results, strict=False):
        entry = read_entry(file)
        assert result.summary == summarise(entry)
        assert result.recipients == entry.recipients


def test_every_bad_file_has_a_reason_and_no_other_file_suffers(tmp_path: Path) -> None:
    out = SAMPLES / "qfiles" / "out"
    files = [*sorted(out.glob("*.pck")), tmp_path / "1.5+gone.pck"]
    results = list(read_entries(files))
    reasons = {result.reason for result in results if result.summary is None}
    assert reasons == {"truncated", "empty", "garbage", "vanished", "foreign_name", "no_recipient_list"}
    assert sum(result.summary is not None for result in results) > 150
    assert [
        result.is_unreadable for result in results if result.reason in ("vanished", "foreign_name", "no_recipient_list")
    ] == [False] * 3
    assert all(result.is_unreadable for result in results if result.reason in ("truncated", "empty", "garbage"))


def test_a_file_that_needs_more_memory_than_a_worker_has_costs_itself_only(tmp_path: Path) -> None:
    good = sorted(RESUBMISSION.iterdir())[:3]
    files = [good[0], large_entry(tmp_path, 48), *good[1:]]
    with EntryReaders(1, address_space_bytes=256 * MIB) as readers:
        results = readers.read(files)
    assert [result.reason for result in results] == ["", "unsafe_pickle", "", ""]


def test_an_honest_entry_of_many_mebibytes_is_read_within_the_bounds(tmp_path: Path) -> None:
    (result,) = read_entries([large_entry(tmp_path, 60)], 1)
    assert result.reason == "" and result.summary is not None and result.summary.message_id == "<large@a.example>"


def test_a_file_that_kills_its_reader_is_named_and_the_others_are_read(tmp_path: Path) -> None:
    good = sorted(RESUBMISSION.iterdir())[:4]
    files = [*good[:2], large_entry(tmp_path, 48), *good[2:]]
    with EntryReaders(2, file_processor_s=0.05) as readers:
        results = readers.read(files)
        assert [result.reason for result in results] == ["", "", READER_KILLED, "", ""]
        assert not results[2].is_unreadable
        assert [result.reason for result in readers.read(good)] == [""] * 4


def test_a_worker_killed_from_outside_costs_no_file(tmp_path: Path) -> None:
    for number in range(3):
        for file in RESUBMISSION.glob("*.pck"):
            shutil.copy(file, tmp_path / f"{number}{file.name}")
    files = sorted(tmp_path.iterdir())
    with EntryReaders(2) as readers:
        results = readers.read_in_order(files)
        first = next(results)
        victim = multiprocessing.active_children()[0].pid
        assert victim is not None
        os.kill(victim, signal.SIGKILL)
        everything = [first, *results]
    assert [result.path for result in everything] == [str(file) for file in files]
    assert all(result.summary is not None for result in everything)


def test_readers_give_way_to_the_service_itself() -> None:
    with EntryReaders(1) as readers:
        assert len(readers.read(sorted(RESUBMISSION.iterdir())[:1])) == 1
        niceness = [psutil.Process(child.pid).nice() for child in multiprocessing.active_children()]
    assert niceness == [min(19, psutil.Process().nice() + WORKER_NICENESS)]


async def test_a_service_reads_batches_without_blocking_its_loop() -> None:
    files = sorted(RESUBMISSION.iterdir())
    loop = asyncio.get_running_loop()
    with EntryReaders(1) as readers:
        one = await loop.run_in_executor(None, readers.read, files[:50])
        two = await loop.run_in_executor(None, readers.read, files[50:])
    assert [result.path for result in one + two] == [str(file) for file in files]


def decoration_of_kites(entry: QueueEntry) -> Decoration | None:
    return KITES if entry.list_id == "kite-makers" else None


def test_decorated_entries_are_read_without_their_header_and_footer_where_these_are_known(tmp_path: Path) -> None:
    files = [
        Path(shutil.copy(file, tmp_path / file.name.removeprefix("retry--")))
        for file in sorted((SAMPLES / "failures").glob("*/retry--*"))
    ]
    with EntryReaders(1, decoration_of=decoration_of_kites) as readers:
        results = readers.read(files)
    stripped = 0
    for file, result in zip(files, results, strict=True):
        entry = read_entry(file)
        assert result.summary == summarise(entry, KITES if entry.list_id == "kite-makers" else None)
        stripped += result.summary != summarise(entry)
    assert stripped >= 3


def test_workers_end_with_the_process_that_was_killed() -> None:
    """Else each kill -9 of the service leaves some behind for ever, with what they have read."""
    program = (
        "import multiprocessing, sys, time\n"
        "from drainer.backlog.readers import EntryReaders\n"
        "if __name__ == '__main__':\n"
        "    readers = EntryReaders(2)\n"
        "    readers.read([sys.argv[1]])\n"
        "    print(*(child.pid for child in multiprocessing.active_children()), flush=True)\n"
        "    time.sleep(600)\n"
    )
    command = [sys.executable, "-c", program, str(min(RESUBMISSION.iterdir()))]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        workers = [psutil.Process(int(pid)) for pid in parent.stdout.readline().split()]
        parent.kill()
    assert workers
    assert psutil.wait_procs(workers, timeout=60)[1] == []


def test_readers_do_not_import_what_the_console_script_does(tmp_path: Path) -> None:
    script = tmp_path / "drainer"  # as pip makes it
    script.write_text(
        "print('run')\n"
        "from drainer.cli.run import forget_script\n"
        "if __name__ == '__main__':\n"
        "    forget_script()\n"
        "    from drainer.backlog.readers import EntryReaders\n"
        "    with EntryReaders(2) as readers:\n"
        "        print(readers.read(['no entry'])[0].reason)\n"
    )
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["run", "foreign_name"], done.stderr
