"""What `drainer run` takes from Mailman's queues, what it leaves there, and when it refuses to start."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.scenarios.operated import Site, site, when
from tests.scenarios.running import drainer, site_settings

IDLE = "nothing waits"


def need_root() -> None:
    if os.geteuid() != 0:
        if os.environ.get("CI"):
            pytest.fail("this test mounts a filesystem and has to run as root here")
        pytest.skip("mounts a filesystem: run as root")


@contextmanager
def mounted(directory: Path, *options: str) -> Iterator[Path]:
    directory.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", *options, "none", directory], check=True)
    try:
        yield directory
    finally:
        subprocess.run(["umount", directory], check=True)


def refusal(queue_dir: Path, home: Path) -> str:
    """What `drainer run` says on such a queue directory, in one line."""
    settings = site_settings(home, 1, {"flavour": "mailman2", "queue_dir": queue_dir, "lists_dir": home / "lists"})
    done = drainer("run", "--config", settings, "--until-empty")
    assert (done.returncode, done.stdout) == (1, ""), done.stderr
    (line,) = done.stderr.strip().splitlines()
    return line


def mailman_queue(home: Path) -> Path:
    for name in ("bad", "in", "out", "retry", "shunt", "virgin"):
        (home / "qfiles" / name).mkdir(parents=True)
    return home / "qfiles"


def test_directory_that_is_not_a_queue_is_refused_with_what_would_be_right(tmp_path: Path) -> None:
    (tmp_path / "var").mkdir()
    queue_dir = mailman_queue(tmp_path / "var")
    said = refusal(queue_dir / "out", tmp_path)
    assert "is not a Mailman queue directory" in said
    assert said.endswith(f"right would be the directory that holds out/, bad/, shunt/ and the others: {queue_dir}")
    said = refusal(queue_dir.parent, tmp_path)
    assert "is not a Mailman queue directory" in said and said.endswith(f"others: {queue_dir}")
    assert "does not exist or is no directory" in refusal(tmp_path / "none", tmp_path)
    assert not (queue_dir / "drainer").exists()


def test_queue_on_several_filesystems_or_read_only_is_refused(tmp_path: Path) -> None:
    need_root()
    queue_dir = mailman_queue(tmp_path)
    with mounted(queue_dir / "drainer"):
        assert "is on another filesystem (or mount) than" in refusal(queue_dir, tmp_path)
    (queue_dir / "drainer").rmdir()
    with mounted(tmp_path / "elsewhere") as elsewhere:
        (queue_dir / "out").rmdir()
        (elsewhere / "out").mkdir()
        (queue_dir / "out").symlink_to(elsewhere / "out")
        said = refusal(queue_dir, tmp_path)
        assert f"{queue_dir / 'out'} is on another filesystem (or mount)" in said
        assert "cannot be moved by one rename" in said
        inside = mailman_queue(elsewhere)
        subprocess.run(["mount", "-o", "remount,ro", elsewhere], check=True)
        said = refusal(inside, tmp_path)
        assert "cannot be written by user" in said
        assert "its filesystem is mounted read-only" in said


def test_second_drainer_names_the_pid_of_the_first_and_disturbs_nothing(tmp_path: Path) -> None:
    with site(tmp_path, 8, feed={"messages": "0"}) as lists, lists.run("--until-empty") as first:
        lists.surveyed()
        second = tmp_path / "second"
        second.mkdir()
        mailman = {"flavour": "mailman2", "queue_dir": lists.outage.queue_dir, "lists_dir": lists.outage.lists_dir}
        settings = site_settings(second, lists.sink.port, mailman)
        done = drainer("run", "--config", settings, "--until-empty")
        assert (done.returncode, done.stdout) == (1, "")
        assert f"another drainer (pid {first.process.pid}) already works on {lists.outage.queue_dir}" in done.stderr
        assert "Traceback" not in done.stderr
        lists.says("rate", "--messages", "unlimited")
        assert first.wait() == 0
        assert lists.sink.deliveries() == lists.owed()


def test_scope_backlog_leaves_fresh_mail_to_mailman_after_a_restart_too(tmp_path: Path) -> None:
    with site(tmp_path, 6, custody={"scope": "backlog"}, duplicates={"resend": "deliver"}) as lists:
        content = sorted(lists.out.iterdir())[0].read_bytes()
        fresh = {f"1900000000.{number}+{'ab' * 20}.pck" for number in (1, 2)}
        with lists.run() as service:
            lists.status_when(lambda said: said["reason"] == IDLE and said["done"]["delivered_entries"] > 0)
            for name in fresh:
                (lists.out / name).write_bytes(content)
            since_s = lists.status()["at"]
            lists.status_when(lambda said: said["at"] > since_s + 1)
            assert {path.name for path in lists.out.iterdir()} == fresh
            service.kill()
        with lists.run():
            since_s = lists.status_when(lambda said: said["reason"] == IDLE)["at"]
            lists.status_when(lambda said: said["at"] > since_s + 1)
            assert {path.name for path in lists.out.iterdir()} == fresh
        assert lists.sink.deliveries() == lists.owed(resends_too=True)


def test_retry_entries_are_taken_when_named_and_left_when_not(tmp_path: Path) -> None:
    with site(tmp_path, 6, duplicates={"resend": "deliver"}) as lists:
        retry = lists.outage.queue_dir / "retry"
        for path in list(lists.out.iterdir())[::2]:
            path.rename(retry / path.name)
        left = {path.name for path in retry.iterdir()}
        lists.drain()
        assert {path.name for path in retry.iterdir()} == left
        part = lists.sink.deliveries()
        text = lists.settings.read_text()
        lists.settings.write_text(text.replace("[custody]\n", '[custody]\nqueues = ["out", "retry"]\n'))
        lists.drain()
        assert list(retry.iterdir()) == []
        assert part < lists.sink.deliveries() == lists.owed(resends_too=True)


def outgoing_runner(lists: Site) -> subprocess.Popen[bytes]:
    """A process that looks like Mailman 2.1's outgoing runner of this site, and does nothing."""
    program = lists.home / "bin" / "qrunner"
    program.parent.mkdir()
    for name in ("logs", "Mailman"):
        (lists.home / name).mkdir()
    (lists.home / "Mailman" / "mm_cfg.py").write_text("from Defaults import *\n")
    log = lists.home / "logs" / "qrunner"
    program.write_text("import signal\nprint('up', flush=True)\nsignal.pause()\n")
    with log.open("ab") as opened:  # before it runs: without an open log it might be the runner of any queue
        runner = subprocess.Popen(
            [sys.executable, program, "--runner=OutgoingRunner:0:1", "-s"], stdout=subprocess.PIPE, stderr=opened
        )
    assert runner.stdout is not None
    assert runner.stdout.readline() == b"up\n"
    return runner


def test_bak_is_left_while_an_outgoing_runner_lives_and_taken_in_doubt_when_it_has_gone(tmp_path: Path) -> None:
    with site(
        tmp_path, 6, custody={"bak_age": "0s", "beside_runner": True}, ledger={"in_doubt": "resend"},
        duplicates={"resend": "deliver"},
    ) as lists:  # fmt: skip
        pck = sorted(lists.out.iterdir())[0]
        bak = pck.rename(pck.with_suffix(".bak"))
        with outgoing_runner(lists) as runner:
            try:
                with lists.run("--until-empty") as service:
                    assert service.wait() == 0, service.log_text()
                assert [path.name for path in lists.out.iterdir()] == [bak.name]
                with lists.run() as service:
                    seen = lists.status_when(lambda said: said["reason"] == IDLE and bool(said["mailman"]["runners"]))
                    assert seen["mailman"]["outgoing_runner_competes"] is True
                    assert seen["mailman"]["runners"] == [{"name": "OutgoingRunner", "pid": runner.pid}]
                    shown = " ".join(lists.says("status").split())
                    assert f"OutgoingRunner (pid {runner.pid}) takes entries from the same queue" in shown
                    assert "recipients may get second copies" in shown
                    assert "Stop it: QRUNNERS without OutgoingRunner in mm_cfg.py" in shown
                    assert f"(pid {runner.pid}) takes entries from the same queue" in service.log_text()
                    assert bak.exists()
                    runner.terminate()
                    runner.wait()
                    when(lambda: not bak.exists(), service.log_text)
                    when(lambda: lists.sink.deliveries() >= lists.owed(resends_too=True), service.log_text)
                    assert "outcome=in_doubt " in service.log_text()
            finally:
                runner.kill()
        assert lists.sink.deliveries() == lists.owed(resends_too=True)


def test_foreign_names_stay_untouched_and_unreadable_entries_go_to_bad_or_held_with_the_reason(
    tmp_path: Path,
) -> None:
    with site(tmp_path, 6) as lists:
        foreign = {
            "README": b"hands off", "1700000000.1+abc.pck.tmp": b"half", f"1700000001.5+{'cd' * 20}.tmp": b"half",
            ".hidden": b"", "backup.pck~": b"x",
        }  # fmt: skip
        for name, content in foreign.items():
            (lists.out / name).write_bytes(content)
        (lists.out / "old").mkdir()
        whole = sorted(lists.out.glob("17*.pck"))[0].read_bytes()
        broken = {"empty": b"", "garbage": b"\x00\xffnot a pickle", "truncated": whole[: len(whole) // 2],
                  "unsafe_pickle": b"cos\nsystem\n(S'touch /tmp/owned'\ntR.}."}  # fmt: skip
        names = {reason: f"17000000{at}.5+{'ef' * 20}" for at, reason in enumerate(broken, start=10)}
        for reason, content in broken.items():
            (lists.out / f"{names[reason]}.pck").write_bytes(content)
        with lists.run("--until-empty") as service:
            assert service.wait() == 0
        assert {path.name: path.read_bytes() for path in lists.out.iterdir() if path.is_file()} == foreign
        assert (lists.out / "old").is_dir()
        queue_dir = lists.outage.queue_dir
        assert (queue_dir / "drainer" / "held" / f"{names['unsafe_pickle']}.pck").read_bytes() == broken.pop(
            "unsafe_pickle"
        )
        assert {path.name: path.read_bytes() for path in (queue_dir / "bad").iterdir()} == {
            f"{names[reason]}.psv": content for reason, content in broken.items()
        }
        for reason, name in names.items():
            outcome = "unreadable" if reason in broken else "held"
            assert re.search(rf"outcome={outcome} filebase={re.escape(name)} reason={reason} ", service.log_text())
        assert not Path("/tmp/owned").exists()
        assert lists.sink.deliveries() == lists.owed()
