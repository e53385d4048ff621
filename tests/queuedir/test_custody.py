"""Taking entries, giving them back, and everything in between: no file lost, none overwritten, none in two places."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from drainer.clock import StoppedClock
from drainer.errors import CustodyRefused, EntryVanished
from drainer.queuedir.custody import Custody
from drainer.queuedir.filebase import QueueFile, Suffix, parse_name
from drainer.queuedir.premises import Premises
from drainer.queuedir.scan import scan_queue
from tests.queuedir.conftest import make_queue_dir, need_root

NAME = "1772438466.0116487+e3c7fa5b74fbd92095ef3e26855f939b58452c8c"


def custody(queue_dir: Path, **arguments: object) -> Custody:
    made = Custody(queue_dir, **{"clock": StoppedClock(time.time()), **arguments})  # type: ignore[arg-type]
    made.prepare()
    return made


def queue_file(name: str) -> QueueFile:
    file = parse_name(name)
    assert isinstance(file, QueueFile)
    return file


def put(queue_dir: Path, queue: str = "out", content: bytes = b"mail", name: str = NAME + ".pck") -> QueueFile:
    (queue_dir / queue / name).write_bytes(content)
    return queue_file(name)


def contents(*directories: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for directory in directories for path in directory.iterdir()}


def test_every_genuine_entry_is_taken_and_handed_back_unchanged(genuine_queue_dir: Path) -> None:
    out = genuine_queue_dir / "out"
    before = contents(out)
    ours = custody(genuine_queue_dir, bak_age_s=0.0)
    taken = [ours.take("out", listed.file) for listed in scan_queue(out) if ours.wants("out", listed, False)]
    assert len(taken) == 184 and not any(out.iterdir())
    assert contents(ours.backlog) == before
    for file in taken:
        ours.hand_back(file.filebase)
    ours.sync()
    assert contents(out) == before and not any(ours.backlog.iterdir())


def test_entry_that_mailman_claimed_first_has_vanished(queue_dir: Path) -> None:
    file = put(queue_dir)
    ours = custody(queue_dir)
    (queue_dir / "out" / file.name).rename(queue_dir / "out" / (NAME + ".bak"))
    with pytest.raises(EntryVanished):
        ours.take("out", file)
    assert not any(ours.backlog.iterdir())


@pytest.mark.parametrize("state", ["backlog", "held", "duplicates"])
def test_restored_entry_never_overwrites_one_in_custody(queue_dir: Path, state: str) -> None:
    ours = custody(queue_dir)
    ours.take("out", put(queue_dir, content=b"first"))
    if state == "held":
        ours.hold(NAME)
    if state == "duplicates":
        ours.suppress(NAME)
    names = [ours.take("out", put(queue_dir, content=content)) for content in (b"second", b"third")]
    assert len({NAME, *(file.filebase for file in names)}) == 3
    assert {file.when_s for file in names} == {1772438466.0116487}
    assert sorted(contents(ours.backlog, ours.held, ours.duplicates).values()) == [b"first", b"second", b"third"]


def test_claimed_and_waiting_file_of_one_name_are_both_kept(queue_dir: Path) -> None:
    ours = custody(queue_dir)
    ours.take("out", put(queue_dir, content=b"claimed", name=NAME + ".bak"))
    ours.take("out", put(queue_dir, content=b"waiting"))
    ours.promote_bak(NAME)
    assert sorted(contents(ours.backlog).values()) == [b"claimed", b"waiting"]
    assert ours.path(NAME).read_bytes() == b"claimed"


def test_second_name_of_a_file_in_custody_is_removed_and_not_taken(queue_dir: Path) -> None:
    ours = custody(queue_dir)
    file = put(queue_dir)
    ours.take("out", file)
    (queue_dir / "out" / file.name).hardlink_to(ours.backlog / file.name)
    with pytest.raises(EntryVanished, match="second name"):
        ours.take("out", file)
    assert not any((queue_dir / "out").iterdir())
    assert contents(ours.backlog) == {file.name: b"mail"}


def test_bak_is_taken_only_when_no_runner_lives_and_it_was_claimed_long_ago(queue_dir: Path) -> None:
    put(queue_dir, name=NAME + ".bak")
    os.utime(queue_dir / "out" / (NAME + ".bak"), (1, 1))
    clock = StoppedClock(time.time() + 10)
    ours = custody(queue_dir, clock=clock, bak_age_s=3600.0)
    (listed,) = scan_queue(queue_dir / "out")
    assert not ours.wants("out", listed, runner_lives=False), "claimed ten seconds ago, whatever the age of the mail"
    clock.advance(3600)
    assert not ours.wants("out", listed, runner_lives=True)
    assert ours.wants("out", listed, runner_lives=False)


def test_taken_bak_stays_bak_until_promoted(queue_dir: Path) -> None:
    ours = custody(queue_dir)
    file = ours.take("out", put(queue_dir, name=NAME + ".bak"))
    assert file.suffix is Suffix.CLAIMED and contents(ours.backlog) == {NAME + ".bak": b"mail"}
    ours.promote_bak(NAME)
    ours.promote_bak(NAME)
    assert contents(ours.backlog) == {NAME + ".pck": b"mail"}


def test_unpromoted_bak_is_handed_back_as_bak(queue_dir: Path) -> None:
    ours = custody(queue_dir)
    ours.take("out", put(queue_dir, name=NAME + ".bak"))
    assert ours.hand_back(NAME) == queue_dir / "out" / (NAME + ".bak")


def test_retry_entries_go_back_to_retry_even_after_a_restart(queue_dir: Path) -> None:
    ours = custody(queue_dir, queues=("out", "retry"))
    from_out = ours.take("out", put(queue_dir, "out", b"from out"))
    from_retry = ours.take("retry", put(queue_dir, "retry", b"from retry"))
    ours.close()
    ours = custody(queue_dir, queues=("out", "retry"))
    for listed in list(scan_queue(ours.backlog)):
        ours.hold(listed.file.filebase)
        ours.hand_back(listed.file.filebase)
    assert from_out.filebase != from_retry.filebase
    assert contents(queue_dir / "out") == {NAME + ".pck": b"from out"}
    assert contents(queue_dir / "retry") == {NAME + ".pck": b"from retry"}


def test_retry_entry_can_be_released_to_the_outgoing_runner(queue_dir: Path) -> None:
    ours = custody(queue_dir, queues=("out", "retry"))
    file = ours.take("retry", put(queue_dir, "retry"))
    assert ours.hand_back(file.filebase, "out") == queue_dir / "out" / (NAME + ".pck")


def test_retry_entry_claimed_by_a_dead_runner_simply_waits(queue_dir: Path) -> None:
    ours = custody(queue_dir, queues=("out", "retry"))
    assert ours.take("retry", put(queue_dir, "retry", name=NAME + ".bak")).suffix is Suffix.WAITING


def test_out_entry_named_like_one_of_retry_goes_back_to_out(queue_dir: Path) -> None:
    ours = custody(queue_dir)
    file = ours.take("out", put(queue_dir, name="1772438466.5+abc~retry.pck"))
    assert ours.hand_back(file.filebase).parent == queue_dir / "out"


def test_entries_of_other_queues_are_not_wanted(queue_dir: Path) -> None:
    put(queue_dir, "retry")
    ours = custody(queue_dir)
    (listed,) = scan_queue(queue_dir / "retry")
    assert not ours.wants("retry", listed, runner_lives=False)


def test_directories_have_mode_0770_and_the_group_of_queue_dir_whatever_the_umask(queue_dir: Path) -> None:
    if os.geteuid() == 0:
        os.chown(queue_dir, 38, 38)
    before = os.umask(0o077)
    try:
        ours = custody(queue_dir)
    finally:
        os.umask(before)
    for directory in (ours.home, ours.backlog, ours.held, ours.duplicates):
        status = directory.stat()
        assert stat.S_IMODE(status.st_mode) == 0o770
        assert status.st_gid == queue_dir.stat().st_gid


def test_hold_release_suppress_restore_move_and_may_be_repeated(queue_dir: Path) -> None:
    ours = custody(queue_dir)
    ours.take("out", put(queue_dir))
    for move, place in (
        (ours.hold, ours.held),
        (ours.release, ours.backlog),
        (ours.suppress, ours.duplicates),
        (ours.restore, ours.backlog),
        (ours.hold, ours.held),
        (ours.drop, ours.duplicates),
    ):
        assert move(NAME) == NAME and move(NAME) == NAME
        assert ours.path(NAME) == place / (NAME + ".pck")
        assert len(contents(ours.backlog, ours.held, ours.duplicates)) == 1


def test_finished_entry_is_gone_and_finishing_again_is_no_error(queue_dir: Path) -> None:
    ours = custody(queue_dir)
    ours.take("out", put(queue_dir))
    assert ours.finish(NAME)
    assert not ours.finish(NAME)
    with pytest.raises(EntryVanished):
        ours.path(NAME)


def test_unreadable_entries_go_to_bad_and_overwrite_nothing_there(queue_dir: Path) -> None:
    (queue_dir / "bad" / (NAME + ".psv")).write_bytes(b"older")
    ours = custody(queue_dir)
    ours.take("out", put(queue_dir, content=b"garbage"))
    assert ours.preserve_bad(NAME).read_bytes() == b"garbage"
    assert sorted(contents(queue_dir / "bad").values()) == [b"garbage", b"older"]
    assert all(name.endswith(".psv") for name in contents(queue_dir / "bad"))


@pytest.mark.parametrize("suffix", [".pck", ".bak"])
def test_handing_back_overwrites_nothing_of_mailmans(queue_dir: Path, suffix: str) -> None:
    ours = custody(queue_dir)
    ours.take("out", put(queue_dir, content=b"ours"))
    put(queue_dir, content=b"mailman's", name=NAME + suffix)
    back = ours.hand_back(NAME)
    assert back.name.startswith("1772438466.0116487+") and back.name.endswith(".pck")
    assert sorted(contents(queue_dir / "out").values()) == [b"mailman's", b"ours"]
    assert len({name.rsplit(".", 1)[0] for name in contents(queue_dir / "out")}) == 2


def test_rewritten_entry_goes_back_with_the_mode_and_owner_of_the_original(queue_dir: Path) -> None:
    ours = custody(queue_dir)
    file = put(queue_dir, content=b"everybody")
    original = queue_dir / "out" / file.name
    original.chmod(0o660)
    if os.geteuid() == 0:
        os.chown(original, 38, 38)
    before = original.stat()
    ours.take("out", file)
    ours.hold(NAME)
    back = ours.hand_back_rewritten(NAME, b"those still owed")
    assert back == original and back.read_bytes() == b"those still owed"
    after = back.stat()
    assert (after.st_mode, after.st_uid, after.st_gid) == (before.st_mode, before.st_uid, before.st_gid)
    assert [path.name for path in ours.home.iterdir() if path.is_file()] == ["lock"]


def test_duplicates_expire_by_the_time_they_were_suppressed(queue_dir: Path) -> None:
    clock = StoppedClock(time.time())
    ours = custody(queue_dir, clock=clock)
    for number in range(3):
        file = ours.take("out", put(queue_dir, name=f"{number}.5+abc.pck"))
        os.utime(ours.backlog / file.name, (1, 1))
        ours.suppress(file.filebase)
    assert ours.expire_duplicates(keep_s=60.0) == 0
    clock.advance(120)
    assert ours.expire_duplicates(keep_s=60.0, limit=2) == 2
    assert ours.expire_duplicates(keep_s=60.0) == 1
    assert not any(ours.duplicates.iterdir())


def test_scope_backlog_leaves_fresh_mail_to_mailman_across_restarts(queue_dir: Path) -> None:
    def wanted(ours: Custody) -> set[str]:
        return {listed.file.filebase for listed in scan_queue(queue_dir / "out") if ours.wants("out", listed, True)}

    put(queue_dir, name="1.5+old.pck")
    os.utime(queue_dir / "out" / "1.5+old.pck", (1_700_000_000, 1_700_000_000))
    ours = custody(queue_dir, scope="backlog")
    put(queue_dir, name="1.5+fresh.pck")
    later = (ours.home / "cutoff").stat().st_mtime + 1
    os.utime(queue_dir / "out" / "1.5+fresh.pck", (later, later))
    assert wanted(ours) == {"1.5+old"}
    ours.close()
    ours = custody(queue_dir, scope="backlog")
    assert wanted(ours) == {"1.5+old"}
    ours.premises.end_drain()
    ours.close()
    ours = custody(queue_dir, scope="all")
    assert wanted(ours) == {"1.5+old", "1.5+fresh"}


def test_scope_all_forgets_an_older_cutoff(queue_dir: Path) -> None:
    custody(queue_dir, scope="backlog").close()
    ours = custody(queue_dir, scope="all")
    assert not (ours.home / "cutoff").exists()


def test_half_written_rewrites_are_cleared_at_the_start(queue_dir: Path) -> None:
    custody(queue_dir).close()
    (queue_dir / "drainer" / "1.5+abc.tmp").write_bytes(b"half")
    custody(queue_dir)
    assert not list((queue_dir / "drainer").glob("*.tmp"))


HOLDER = """
import sys, time
from pathlib import Path
from drainer.clock import SystemClock
from drainer.queuedir.custody import Custody
Custody(Path(sys.argv[1]), clock=SystemClock()).prepare()
print("holds", flush=True)
sys.stdin.read()
"""


def test_second_drainer_is_refused_with_the_pid_of_the_first_and_welcome_after_its_death(queue_dir: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, queue_dir], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == "holds\n"
        with pytest.raises(CustodyRefused, match=rf"pid {holder.pid}\b"):
            custody(queue_dir)
        holder.kill()
        holder.wait()
    custody(queue_dir)


def refusal(queue_dir: Path, **arguments: object) -> str:
    with pytest.raises(CustodyRefused) as refused:
        Premises(queue_dir, **arguments).check()  # type: ignore[arg-type]
    assert not (queue_dir / "drainer").exists()
    return str(refused.value)


def test_missing_queue_dir_is_refused(tmp_path: Path) -> None:
    assert "does not exist" in refusal(tmp_path / "nowhere")


def test_directory_that_is_no_queue_dir_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    assert "not a Mailman queue directory" in refusal(tmp_path)


def test_out_itself_is_refused_naming_its_parent(queue_dir: Path) -> None:
    assert refusal(queue_dir / "out").endswith(str(queue_dir))


def test_named_queue_that_is_not_there_is_refused(queue_dir: Path) -> None:
    (queue_dir / "retry").rmdir()
    assert "'retry'" in refusal(queue_dir, queues=("out", "retry"))


def test_queue_on_another_filesystem_is_refused(queue_dir: Path, small_filesystem: Path) -> None:
    (queue_dir / "out").rmdir()
    (small_filesystem / "out").mkdir()
    (queue_dir / "out").symlink_to(small_filesystem / "out")
    assert "another filesystem" in refusal(queue_dir)


def test_bad_on_another_filesystem_is_refused(queue_dir: Path, small_filesystem: Path) -> None:
    (queue_dir / "bad").rmdir()
    (queue_dir / "bad").symlink_to(small_filesystem)
    assert "another filesystem" in refusal(queue_dir)


def test_second_mount_of_one_filesystem_is_refused_although_its_device_is_the_same(queue_dir: Path) -> None:
    need_root()
    out = queue_dir / "out"
    subprocess.run(["mount", "--bind", out, out], check=True)
    try:
        assert out.stat().st_dev == queue_dir.stat().st_dev
        assert "another filesystem (or mount)" in refusal(queue_dir)
    finally:
        subprocess.run(["umount", out], check=True)


def test_queue_that_cannot_be_written_is_refused(small_filesystem: Path) -> None:
    queue_dir = make_queue_dir(small_filesystem / "qfiles")
    subprocess.run(["mount", "-o", "remount,ro", small_filesystem], check=True)
    assert "cannot be written" in refusal(queue_dir)


def test_custody_directory_removed_under_us_refuses_and_moves_nothing(queue_dir: Path) -> None:
    ours = custody(queue_dir)
    file = put(queue_dir)
    shutil.rmtree(ours.backlog)
    with pytest.raises(CustodyRefused, match="is gone"):
        ours.take("out", file)
    assert contents(queue_dir / "out") == {file.name: b"mail"}


MOVES = ["take", "hold", "release", "suppress", "restore", "drop", "hand_back", "preserve_bad", "restart", "restored"]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(moves=st.lists(st.tuples(st.sampled_from(MOVES), st.integers(0, 3)), max_size=25))
def test_no_sequence_of_moves_loses_or_doubles_a_file(moves: list[tuple[str, int]], tmp_path: Path) -> None:
    queue_dir = make_queue_dir(unused_directory(tmp_path))
    ours = custody(queue_dir, queues=("out", "retry"))
    expected = []
    for number in range(4):
        put(queue_dir, ("out", "retry")[number % 2], str(number).encode(), f"{number // 2}.5+abc.pck")
        expected.append(str(number).encode())
    for move, number in moves:
        known = sorted(listed.file.filebase for directory in (ours.backlog, ours.held, ours.duplicates)
                       for listed in scan_queue(directory))  # fmt: skip
        if move == "restart":
            ours.close()
            ours = custody(queue_dir, queues=("out", "retry"))
        elif move == "restored":
            name = f"{number // 2}.5+abc.pck"
            if not (queue_dir / "out" / name).exists():
                put(queue_dir, "out", f"restored {len(expected)}".encode(), name)
                expected.append(f"restored {len(expected)}".encode())
        elif move == "take":
            for queue in ("out", "retry"):
                for listed in list(scan_queue(queue_dir / queue))[: number + 1]:
                    ours.take(queue, listed.file)
        elif known:
            try:
                getattr(ours, move)(known[number % len(known)])
            except EntryVanished:
                continue
    everything = [queue_dir / name for name in ("out", "retry", "bad")] + [ours.backlog, ours.held, ours.duplicates]
    found = [path.read_bytes() for directory in everything for path in directory.iterdir()]
    assert sorted(found) == sorted(expected)
    ours.close()


def unused_directory(tmp_path: Path) -> Path:
    number = sum(1 for _ in tmp_path.iterdir())
    return tmp_path / f"qfiles{number}"


def test_what_was_moved_is_durable_when_sync_returns_though_another_thread_is_at_it(
    queue_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    begun, may_end = threading.Event(), threading.Event()
    ours = custody(queue_dir)

    def slowly(directory: Path | str) -> None:
        begun.set()
        may_end.wait()
        order.append("durable")

    def second() -> None:
        ours.sync()
        order.append("returned")

    ours.take("out", put(queue_dir))
    monkeypatch.setattr("drainer.queuedir.moves.sync_directory", slowly)
    threads = [threading.Thread(target=ours.sync), threading.Thread(target=second)]
    threads[0].start()
    begun.wait()
    threads[1].start()
    threads[1].join(0.2)  # it would have returned too soon by now
    may_end.set()
    for thread in threads:
        thread.join()
    assert order[-1] == "returned" and len(order) > 1


def test_finished_entry_that_was_held_leaves_no_file(queue_dir: Path) -> None:
    """A copy of it had what it still owed."""
    ours = custody(queue_dir)
    ours.take("out", put(queue_dir))
    ours.hold(NAME)
    assert ours.finish(NAME)
    assert not any(ours.held.iterdir())


def test_duplicate_removed_by_hand_while_they_expire_is_no_error(
    queue_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = custody(queue_dir)
    ours.take("out", put(queue_dir))
    ours.suppress(NAME)
    unlink = os.unlink

    def second(path: Path | str) -> None:
        unlink(path)
        unlink(path)

    monkeypatch.setattr(os, "unlink", second)
    assert ours.expire_duplicates(-1e9) == 1


def test_directory_of_duplicates_removed_by_hand_is_a_refusal_when_they_expire(queue_dir: Path) -> None:
    ours = custody(queue_dir)
    ours.duplicates.rmdir()
    with pytest.raises(CustodyRefused, match="No such file or directory"):
        ours.expire_duplicates(0.0)
