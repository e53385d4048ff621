"""Power lost at every moment of lending and bringing back: each entry is whole, and either Mailman's or ours."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from drainer.clock import StoppedClock
from drainer.queuedir.custody import Custody
from drainer.queuedir.loan import Loan
from tests.crash.model_disk import EVERYTHING, NAMES_ONLY, NOTHING, OCTETS_ONLY, Disk, Found, Kept, moments, some
from tests.crash.recorded import Call, read_trace, strace_command
from tests.queuedir.conftest import GENUINE, make_queue_dir
from tests.queuedir.test_loan import contents

ENTRIES = 2
KEPT = (NOTHING, EVERYTHING, NAMES_ONLY, OCTETS_ONLY, *map(some, range(2)))
NEEDED = {
    (".pck.tmp",): "is not whole",
    ("/lib/loan",): "is lost",
    ("/qfiles/out",): "is Mailman's and ours",
    ("/drainer/backlog", "/qfiles/drainer"): "is lost",
}
"""What is synced, and what is found where it is not."""
_ROOT = Path(__file__).parents[2]

Recorded = tuple[Path, dict[str, bytes], list[Call]]
"""The filesystem it happened on, what lay there before, the calls."""


def lend_and_bring_back(queue_dir: Path, place: Path) -> None:
    """What service.py does where drainer/ cannot be made, with room from then on."""
    loan = Loan(queue_dir, place)
    loan.make_room()
    with Custody(queue_dir, clock=StoppedClock(time.time())) as custody:
        loan.settle()
        loan.bring_back(custody)


@pytest.fixture
def recorded(small_filesystem: Path, tmp_path: Path) -> Recorded:
    queue_dir = make_queue_dir(small_filesystem / "qfiles")
    lib = tmp_path / "lib"
    lib.mkdir()
    for entry in sorted(GENUINE.glob("*.pck"))[:ENTRIES]:
        shutil.copy2(entry, queue_dir / "out")
    before = {
        f"{path}{'/' if path.is_dir() else ''}": b"" if path.is_dir() else path.read_bytes()
        for path in (lib, queue_dir, *queue_dir.rglob("*"))
    }
    process = subprocess.Popen(
        [*strace_command(tmp_path / "trace"), sys.executable, "-m", __name__, queue_dir, lib / "loan"], cwd=_ROOT
    )
    assert process.wait(120) == 0
    assert len(contents(queue_dir / "drainer" / "backlog")) == ENTRIES
    return small_filesystem, before, read_trace(tmp_path / "trace", process.pid)


def cuts(before: dict[str, bytes], calls: Sequence[Call], *, whole_renames: bool) -> Iterator[tuple[Disk, str]]:
    """The disk before and after each sync, and after each change."""
    disk = Disk(before, whole_renames=whole_renames)
    for _, has_ended, call in moments(calls):
        is_sync = call.name in ("fsync", "fdatasync")
        if is_sync and has_ended:
            yield disk, f"before {call.name} of {call.descriptor()}"
            disk.is_synced_by(call)
            yield disk, f"after {call.name} of {call.descriptor()}"
        elif not is_sync and not has_ended and disk.may_have_begun(call):
            yield disk, f"{call.name} {call.arguments[:200]}"


def owners_after(found: Found, before: dict[str, bytes], where: Path) -> list[str]:
    """What is wrong once the service was started on what was found: nothing."""
    expected = {Path(path).stem: content for path, content in before.items() if "+" in path}
    with tempfile.TemporaryDirectory(dir=where) as home:
        for directory in sorted(found.directories):
            Path(f"{home}{directory}").mkdir(parents=True, exist_ok=True)
        for path, content in found.files.items():
            Path(f"{home}{path}").write_bytes(content)
        (queue_dir,) = Path(home).rglob("qfiles")
        (lib,) = Path(home).rglob("lib")
        loan = Loan(queue_dir, lib / "loan")
        with Custody(queue_dir, clock=StoppedClock(time.time())) as custody:
            loan.settle()
            loan.bring_back(custody)
            mailmans, ours = contents(queue_dir / "out"), contents(custody.backlog)
        left = [path.name for path in lib.rglob("*") if path.is_file()]
    wrong = [f"{name} is Mailman's and ours" for name in sorted(mailmans.keys() & ours.keys())]
    wrong += [f"{name} is lost" for name in sorted(expected.keys() - mailmans.keys() - ours.keys())]
    wrong += [f"{name} is not whole" for name, content in {**mailmans, **ours}.items() if content != expected[name]]
    return wrong + [f"{name} was left" for name in left]


def wrong_after_any_cut(recorded: Recorded, kept: Sequence[Kept], *, whole_renames: bool = True) -> Iterator[str]:
    where, before, calls = recorded
    for disk, why in cuts(before, calls, whole_renames=whole_renames):
        for one in kept:
            for wrong in owners_after(disk.found(one), before, where):
                yield f"{why}, {one.name}: {wrong}"


def test_power_loss_while_entries_are_lent_leaves_each_with_one_owner(recorded: Recorded) -> None:
    for whole_renames in (True, False):
        assert list(wrong_after_any_cut(recorded, KEPT, whole_renames=whole_renames)) == []


def test_each_sync_of_a_loan_is_needed(recorded: Recorded) -> None:
    where, before, calls = recorded
    for forgotten, found_out in NEEDED.items():
        without = [call for call in calls if not (call.name == "fsync" and call.descriptor().endswith(forgotten))]
        assert len(without) < len(calls), forgotten
        wrong = wrong_after_any_cut((where, before, without), (NOTHING, NAMES_ONLY))
        assert any(found_out in one for one in wrong), forgotten


if __name__ == "__main__":
    lend_and_bring_back(Path(sys.argv[1]), Path(sys.argv[2]))
