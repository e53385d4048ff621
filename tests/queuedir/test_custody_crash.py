"""Killed between any two steps of a move: afterwards each entry is in one place, complete, and is owned once."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from drainer.clock import StoppedClock
from drainer.queuedir.custody import Custody
from drainer.queuedir.filebase import Suffix
from drainer.queuedir.scan import scan_queue
from tests.queuedir.conftest import GENUINE

ENTRY = min(entry for entry in GENUINE.iterdir() if entry.suffix == ".pck")
REWRITTEN = b"rewritten to those still owed"

KILLED_AT_STEP = """
import os, signal, sys
from pathlib import Path
from drainer.clock import SystemClock
from drainer.queuedir.custody import Custody
from drainer.queuedir.filebase import parse_name

queue_dir, name, setup, move, argument, kill_at = sys.argv[1:]
steps = 0
armed = False

def step(_):
    global steps
    if armed:
        if steps == int(kill_at):
            os.kill(os.getpid(), signal.SIGKILL)
        steps += 1

custody = Custody(Path(queue_dir), clock=SystemClock(), step=step)
custody.prepare()
file = parse_name(name)
if move != "take":
    custody.take("out", file)
for before in setup.split():
    getattr(custody, before)(file.filebase)
armed = True
if move == "take":
    custody.take("out", file)
elif argument:
    getattr(custody, move)(file.filebase, argument.encode())
else:
    getattr(custody, move)(file.filebase)
"""


@pytest.mark.parametrize(
    ("move", "setup", "steps"),
    [
        ("take", "", 2),
        ("hold", "", 2),
        ("release", "hold", 2),
        ("suppress", "", 2),
        ("restore", "suppress", 2),
        ("preserve_bad", "", 2),
        ("hand_back", "", 2),
        ("hand_back", "hold", 2),
        ("hand_back_rewritten", "", 6),
    ],
)
def test_entry_is_whole_and_in_one_place_whenever_the_process_is_killed(
    queue_dir: Path, move: str, setup: str, steps: int
) -> None:
    original = ENTRY.read_bytes()
    argument = REWRITTEN.decode() if move == "hand_back_rewritten" else ""
    places = set()
    for kill_at in range(steps):
        shutil.copy(ENTRY, queue_dir / "out")
        died = subprocess.run(
            [sys.executable, "-c", KILLED_AT_STEP, queue_dir, ENTRY.name, setup, move, argument, str(kill_at)],
            check=False,
        )
        assert died.returncode == -signal.SIGKILL
        survivor = Custody(queue_dir, clock=StoppedClock(time.time()))
        survivor.prepare()
        found = [
            path
            for directory in (
                queue_dir / "out",
                queue_dir / "bad",
                survivor.backlog,
                survivor.held,
                survivor.duplicates,
            )
            for path in directory.iterdir()
        ]
        assert len(found) == 1, f"killed at step {kill_at}: {found}"
        assert found[0].read_bytes() in ({original, REWRITTEN} if argument else {original})
        assert {path.name for path in survivor.home.iterdir()} == {"lock", "backlog", "held", "duplicates"}
        if argument and found[0].parent == queue_dir / "out":
            assert found[0].read_bytes() == REWRITTEN
        places.add(found[0].parent)
        found[0].unlink()
        survivor.close()
    assert len(places) == 2, "killed once before the move and once after"


def test_step_count_of_a_rewrite_is_what_the_kill_test_covers(queue_dir: Path) -> None:
    steps: list[str] = []
    shutil.copy(ENTRY, queue_dir / "out")
    ours = Custody(queue_dir, clock=StoppedClock(time.time()), step=steps.append)
    ours.prepare()
    (listed,) = scan_queue(queue_dir / "out")
    ours.take("out", listed.file)
    assert len(steps) == 2
    ours.hand_back_rewritten(listed.file.filebase, REWRITTEN)
    assert len(steps) == 2 + 6


def test_rewrite_that_fails_between_writing_and_replacing_leaves_nothing_behind(queue_dir: Path) -> None:
    class Interrupted(Exception):
        pass

    def step(name: str) -> None:
        if name == "rewritten":
            raise Interrupted

    shutil.copy(ENTRY, queue_dir / "out")
    ours = Custody(queue_dir, clock=StoppedClock(time.time()), step=step)
    ours.prepare()
    (listed,) = scan_queue(queue_dir / "out")
    ours.take("out", listed.file)
    with pytest.raises(Interrupted):
        ours.hand_back_rewritten(listed.file.filebase, REWRITTEN)
    assert ours.path(listed.file.filebase).read_bytes() == ENTRY.read_bytes()
    assert not list(ours.home.glob("*.tmp"))


def test_bak_taken_before_the_ledger_knew_is_still_a_bak_after_the_crash(queue_dir: Path) -> None:
    name = ENTRY.with_suffix(".bak").name
    shutil.copy(ENTRY, queue_dir / "out" / name)
    died = subprocess.run(
        [sys.executable, "-c", KILLED_AT_STEP, queue_dir, name, "", "promote_bak", "", "0"], check=False
    )
    assert died.returncode == -signal.SIGKILL
    survivor = Custody(queue_dir, clock=StoppedClock(time.time()))
    survivor.prepare()
    assert [listed.file.suffix for listed in scan_queue(survivor.backlog)] == [Suffix.CLAIMED]
