"""Power loss at every sync of a real drain: nothing is lost, no recipient gets a second copy, reported facts stay true.

The long form, every write and more draws of what an unsynced disk may show: `python -m tests.torture.power_loss`.
"""

from __future__ import annotations

import dataclasses
from itertools import cycle
from pathlib import Path

import pytest

from tests.crash.model_disk import EVERYTHING, NAMES_ONLY, NOTHING, OCTETS_ONLY, some
from tests.crash.power_loss import Cuts, Judge, Recording, record

LEFT_TO_THE_LONG_FORM = ("pwrite64", "write", "ftruncate", "status")
"""Between two syncs these differ by draws that the cut before the sync makes as well."""


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Recording:
    return record(tmp_path_factory.mktemp("power"), mails=14)


def test_recorded_drain_makes_every_kind_of_move_and_the_ledger(recording: Recording) -> None:
    """So that the cuts are through all of them."""
    moves = {
        tuple(Path(call.path(place)).parent.name for place in (0, 1))
        for call in recording.calls
        if call.name.startswith("rename")
    }
    ours = {("out", "backlog"), ("backlog", "held"), ("held", "backlog"), ("backlog", "duplicates"), ("backlog", "bad")}
    assert moves >= {*ours, ("backlog", "out"), ("drainer", "backlog")}
    finished = [call for call in recording.calls if call.name.startswith("unlink") and "/backlog/" in call.path()]
    made = [
        call for call in recording.calls if "O_CREAT" in call.arguments and call.result_path == str(recording.ledger)
    ]
    assert finished and made


@pytest.mark.parametrize("whole_renames", [True, False], ids=["journalled_renames", "two_step_renames"])
async def test_power_loss_at_any_sync_loses_no_mail_and_forgets_nothing(
    recording: Recording, whole_renames: bool
) -> None:
    judge, wrong, syncs = Judge(recording), list[str](), 0
    turns = cycle((EVERYTHING, NAMES_ONLY, OCTETS_ONLY, *map(some, range(3))))
    for cut in Cuts(recording, whole_renames=whole_renames):
        if not cut.why.startswith(LEFT_TO_THE_LONG_FORM):
            syncs += cut.why.startswith("after")
            for kept in (NOTHING, next(turns)):
                wrong += await judge.judge(cut, kept)
    assert wrong == []
    assert syncs > 50 and judge.ledgers > 50, "the recording holds no drain"


@pytest.mark.parametrize(
    ("forgotten", "found_out"),
    [
        ("/ledger.sqlite-wal", "the ledger says []"),
        ("/var/lib", "the ledger says []"),
        ("/var", "the ledger says []"),
        (("/drainer/backlog", "/qfiles/out"), "is Mailman's again"),
        ("/drainer", "recipients are lost"),
        ("/qfiles", "recipients are lost"),
    ],
    ids=["commits", "ledger", "directory_of_the_ledger", "take", "backlog", "drainer"],
)
async def test_every_kind_of_sync_is_needed(
    recording: Recording, forgotten: str | tuple[str, ...], found_out: str
) -> None:
    """Were these syncs left out, power loss while content is being sent would break a promise."""
    kept = [
        call
        for call in recording.calls
        if not (call.name in ("fsync", "fdatasync") and call.descriptor().endswith(forgotten))
    ]
    without = dataclasses.replace(recording, calls=kept)
    judge, wrong = Judge(without), list[str]()
    for cut in Cuts(without, whole_renames=True):
        if cut.why == "content begun":
            wrong = await judge.judge(cut, NOTHING)
        if any(found_out in what for what in wrong):
            return
    pytest.fail(f"not noticed; the last cut's {wrong}")


async def test_service_restarted_after_power_loss_sends_no_second_copy(recording: Recording, tmp_path: Path) -> None:
    judge, wrong = Judge(recording), list[str]()
    half = sum(cut.why == "content begun" for cut in Cuts(recording, whole_renames=True)) // 2
    begun = 0
    for cut in Cuts(recording, whole_renames=True):
        begun += cut.why == "content begun"
        if cut.why == "content begun" and begun == half:
            wrong += await judge.restarted(cut, some(1), tmp_path / "again")
    assert wrong == []
