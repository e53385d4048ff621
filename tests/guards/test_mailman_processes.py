"""Real processes with Mailman's command lines: who of them is of this site, and does one deliver from our queue?"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from drainer.guards.mailman_processes import configured_queue_dir, mailman_processes, parse_command
from tests.runners_here import made_up

PROGRAM = """
import sys
log = open(sys.argv[-1], "a") if sys.argv[-1].endswith(".log") else None
print("lives", flush=True)
sys.stdin.read()
"""

Start = Callable[..., int]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts a process `python DIRECTORY/PROGRAM ARGUMENTS`, as Mailman's masters do. Returns its pid."""
    with made_up(), ExitStack() as stack:

        def run(directory: Path, program: str, *arguments: object) -> int:
            directory.mkdir(parents=True, exist_ok=True)
            (directory / program).write_text(PROGRAM)
            process = stack.enter_context(
                subprocess.Popen(
                    [sys.executable, directory / program, *map(str, arguments)],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                )
            )
            stack.callback(process.kill)
            assert process.stdout is not None and process.stdout.readline() == "lives\n"
            return process.pid

        yield run


def site3(directory: Path) -> tuple[Path, Path]:
    """A Mailman 3 site: its configuration and its queue_dir."""
    queue_dir = directory / "var" / "queue"
    queue_dir.mkdir(parents=True)
    config = directory / "mailman.cfg"
    config.write_text(f"[mailman]\nlayout: site\n[paths.site]\nvar_dir: {directory / 'var'}\n")
    return config, queue_dir


def test_outgoing_runner_of_this_site_competes(tmp_path: Path, start: Start) -> None:
    config, queue_dir = site3(tmp_path / "lists")
    master = start(tmp_path / "bin", "master", "-C", config)
    runner = start(tmp_path / "bin", "runner", "-C", config, "--runner=out:0:1")
    for known in (config, None):
        seen = mailman_processes(queue_dir, known)
        assert {process.pid for process in seen.processes} >= {master, runner}
        assert [found.pid for found in seen.delivering("mailman3")] == [runner] and seen.master_lives
        assert runner in {process.pid for process in seen.runners if process.name == "out"}
        guard = seen.guard(competition=f"pid {runner} delivers")
        assert guard.verdict == "go" and str(runner) in guard.reason


def test_runners_of_another_site_do_not_count(tmp_path: Path, start: Start) -> None:
    config, queue_dir = site3(tmp_path / "lists")
    other, _ = site3(tmp_path / "other lists")
    pid = start(tmp_path / "bin", "runner", "-C", other, "--runner=out:0:1")
    for known in (config, None):
        assert pid not in {process.pid for process in mailman_processes(queue_dir, known).processes}


def test_runner_that_cannot_be_placed_counts_as_ours(tmp_path: Path, start: Start) -> None:
    _, queue_dir = site3(tmp_path / "lists")
    pid = start(tmp_path / "bin", "runner", "-C", tmp_path / "unreadable.cfg", "--runner=out:0:1")
    assert pid in {process.pid for process in mailman_processes(queue_dir).processes}


def test_other_runners_do_not_compete_and_missing_ones_are_named(tmp_path: Path, start: Start) -> None:
    config, queue_dir = site3(tmp_path / "lists")
    start(tmp_path / "bin", "master", "-C", config)
    for name in ("in", "pipeline", "retry"):
        start(tmp_path / "bin", "runner", "-C", config, f"--runner={name}:0:1")
    seen = mailman_processes(queue_dir, config)
    assert not seen.delivering("mailman3")
    assert seen.runner_lives("retry")
    assert "out" in seen.missing and "virgin" in seen.missing and "in" not in seen.missing


@pytest.mark.parametrize("spec", ["OutgoingRunner:0:1", "OutgoingRunner:3:4", "All"])
def test_outgoing_qrunner_of_mailman_2_competes(tmp_path: Path, start: Start, spec: str) -> None:
    queue_dir = tmp_path / "mailman" / "qfiles"
    queue_dir.mkdir(parents=True)
    pid = start(tmp_path / "mailman" / "bin", "qrunner", f"--runner={spec}", "-s", logs(queue_dir))
    seen = mailman_processes(queue_dir)
    assert pid in {runner.pid for runner in seen.delivering("mailman2")}
    assert [process.flavour for process in seen.processes if process.pid == pid] == ["mailman2"]


def test_other_qrunners_of_mailman_2_do_not_compete(tmp_path: Path, start: Start) -> None:
    queue_dir = tmp_path / "mailman" / "qfiles"
    queue_dir.mkdir(parents=True)
    start(tmp_path / "mailman" / "bin", "mailmanctl", "-s", "start")
    pid = start(tmp_path / "mailman" / "bin", "qrunner", "--runner=RetryRunner:0:1", "-s", logs(queue_dir))
    seen = mailman_processes(queue_dir)
    assert [process.queue for process in seen.processes if process.pid == pid] == ["retry"]
    assert pid in {process.pid for process in seen.processes}
    assert "OutgoingRunner" in seen.missing


def logs(queue_dir: Path) -> Path:
    """A log of the 2.1 that has this queue, for its process to keep open, as genuine ones do."""
    for name in ("logs", "Mailman"):
        queue_dir.with_name(name).mkdir(exist_ok=True)
    queue_dir.with_name("Mailman").joinpath("mm_cfg.py").write_text("from Defaults import *\n")
    return queue_dir.with_name("logs") / "qrunner.log"


def test_qrunner_of_another_2_1_on_this_host_is_known_by_the_log_it_keeps_open(tmp_path: Path, start: Start) -> None:
    ours, theirs = tmp_path / "ours" / "qfiles", tmp_path / "theirs" / "qfiles"
    for queue_dir in (ours, theirs):
        queue_dir.mkdir(parents=True)
    pid = start(tmp_path / "theirs" / "bin", "qrunner", "--runner=OutgoingRunner:0:1", "-s", logs(theirs))
    assert pid not in {process.pid for process in mailman_processes(ours).processes}
    assert pid in {runner.pid for runner in mailman_processes(theirs).delivering("mailman2")}

    # One whose mm_cfg.py moves the queues, or cannot be read, may work on ours.
    for mm_cfg in ("QUEUE_DIR = '/spool/mailman'\n", None):
        path = tmp_path / "theirs" / "Mailman" / "mm_cfg.py"
        path.unlink() if mm_cfg is None else path.write_text(mm_cfg)
        assert pid in {runner.pid for runner in mailman_processes(ours).delivering("mailman2")}


def test_runner_of_the_other_mailman_that_cannot_be_placed_takes_nothing_from_our_queue(
    tmp_path: Path, start: Start
) -> None:
    _, queue_dir = site3(tmp_path / "lists")
    pid = start(tmp_path / "bin", "runner", "-C", tmp_path / "unreadable.cfg", "--runner=out:0:1")
    seen = mailman_processes(queue_dir)
    assert pid in {runner.pid for runner in seen.delivering("mailman3")}
    assert pid not in {runner.pid for runner in seen.delivering("mailman2")}
    assert seen.runner_lives("out"), "a .bak is left alone even so"


@pytest.mark.parametrize(
    "command",
    [
        ["/usr/lib/postfix/sbin/master", "-w"],
        ["ssh", "master"],
        ["/usr/bin/python3", "/srv/ci/runner"],
        ["/usr/bin/python3", "-c", "print()"],
        ["/usr/bin/python3"],
        ["vi", "/usr/lib/mailman/bin/qrunner"],
        [],
    ],
)
def test_command_lines_of_others_are_not_taken_for_mailmans(command: list[str]) -> None:
    assert parse_command(1, command) is None


@pytest.mark.parametrize(
    ("options", "queue"),
    [
        (["-r", "out"], "out"),
        (["-rout:0:1"], "out"),
        (["--runner", "in:1:2"], "in"),
        (["-v", "--runner=retry"], "retry"),
    ],
)
def test_every_way_to_name_the_runner_is_read(options: list[str], queue: str) -> None:
    seen = parse_command(7, ["/usr/bin/python3", "-u", "/usr/lib/mailman3/bin/runner", "-C", "/etc/m.cfg", *options])
    assert seen is not None and (seen.queue, seen.config, seen.role) == (queue, "/etc/m.cfg", "runner")


@pytest.mark.parametrize(
    ("text", "queue_dir"),
    [
        ("[mailman]\nlayout: debian\n[paths.debian]\nvar_dir: /var/lib/mailman3\nqueue_dir: $var_dir/queue\n",
         "/var/lib/mailman3/queue"),
        ("[mailman]\nlayout: a\n[paths.a]\nvar_dir: /srv/m\n", "/srv/m/queue"),
        ("[mailman]\nlayout: fhs\n", "/var/spool/mailman"),
        ("[mailman]\nlayout: here\n", None),
        ("no section at all\n", None),
    ],
)  # fmt: skip
def test_queue_dir_is_found_in_mailmans_configuration(tmp_path: Path, text: str, queue_dir: str | None) -> None:
    config = tmp_path / "mailman.cfg"
    config.write_text(text)
    assert configured_queue_dir(config) == (Path(queue_dir) if queue_dir else None)
