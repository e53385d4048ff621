"""`drainer check` on real queue directories, filesystems and processes; and beside a service."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from hashlib import sha1
from pathlib import Path

import pytest

from drainer.control.messages.pauses_and_rates import PauseRequest
from drainer.demo.sample_queue import write_plain
from drainer.estimate.eta import Eta
from drainer.guards.verdict import Guard
from drainer.report.check import thresholds
from drainer.report.snapshot import Backlog, DomainStanding, Snapshot
from tests.cli.conftest import CommandLine, Ran
from tests.control.small_service import SmallService, serving
from tests.scenarios.running import drainer, running_service, site_settings
from tests.scenarios.test_mta_trouble_full_disk import small_filesystem

CONFIG = Path(__file__).parents[2] / "config"
HELD_BACK = DomainStanding(domain="web.de", limit_recipients_per_s=0.0, set_by="settings", waiting_recipients=3)
RUNNERS = (
    "archive",
    "bounces",
    "command",
    "digest",
    "in",
    "lmtp",
    "out",
    "pipeline",
    "rest",
    "retry",
    "task",
    "virgin",
)
MINUTE, HOUR = 60, 3600

NO_PROCESSES = [
    *("--timeout", "120s"),
    *(
        word
        for name in ("mailman.stopped", "runners.missing", "runners.competing", "outgoing.missing")
        for option in ("-w", "-c")
        for word in (option, f"{name}=")
    ),
]
"""Where Mailman's processes are not what a test is about: other tests may have some running. And time enough."""

AS_NOBODY = """
import os, sys
import drainer.cli.check, drainer.cli.main, drainer.control.client
os.setgroups([]); os.setgid(65534); os.setuid(65534)
drainer.cli.main.main()
"""

HANGING = """
import os, sys
import drainer.cli.main
listed, hangs = os.scandir, sys.argv.pop(1)
def scandir(path):
    if os.fspath(path) == hangs:
        os.read(os.pipe()[0], 1)
    return listed(path)
os.scandir = scandir
drainer.cli.main.main()
"""
"""A directory of an NFS server that is gone: the system call that lists it does not come back."""

IN_NAMESPACE = """
for runner in "$@"; do "$PYTHON" -S "$HOME/runner" -C "$HOME/mailman.cfg" --runner="$runner":0:1 & done
"$PYTHON" -S "$HOME/master" -C "$HOME/mailman.cfg" &
until [ "$(ls "$HOME/up" | wc -l)" -gt $# ]; do sleep 0.02; done
exec "$PYTHON" -m drainer check --queue-dir "$HOME/var/queue" --timeout 120s
"""

LIVING = """
import os, pathlib, signal, sys
(pathlib.Path(sys.argv[0]).parent / "up" / str(os.getpid())).touch()
signal.pause()
"""


@pytest.fixture
def queue_dir(tmp_path: Path) -> Path:
    for name in ("out", "in", "virgin", "bounces", "retry", "shunt", "bad"):
        (tmp_path / "queue" / name).mkdir(parents=True)
    return tmp_path / "queue"


def write_entries(queue: Path, number: int, oldest_s: float, newest_s: float = 0.0) -> None:
    """Empty files with the names of entries, of ages evenly between the two; their content is never read."""
    now_s = time.time()
    for place in range(number):
        when_s = now_s - newest_s - (oldest_s - newest_s) * (number - place) / number
        (queue / f"{when_s:.6f}+{sha1(b'%d' % place).hexdigest()}.pck").touch()


def first_line(ran: Ran, state: str, status: int) -> str:
    line = ran.out.splitlines()[0]
    assert (ran.code, ran.err) == (status, ""), ran
    assert line.startswith(f"DRAINER {state} - "), ran
    return line.partition(" | ")[0]


def test_outage_of_2014_is_critical_in_its_first_minutes_and_when_ten_thousand_wait(
    cli: CommandLine, tmp_path: Path
) -> None:
    with small_filesystem(tmp_path / "mailman", "nr_inodes=11000") as small:
        out, elsewhere = small / "out", small / "logs"
        out.mkdir()
        elsewhere.mkdir()
        write_entries(elsewhere, 10_300, 4 * HOUR)
        write_entries(out, 250, 5 * MINUTE)
        ran = cli("check", "--queue-dir", str(small), *NO_PROCESSES, config=False)
        assert "inodes free for the queue" in first_line(ran, "CRITICAL", 2)
        assert "entries" not in first_line(ran, "CRITICAL", 2)

        for file in elsewhere.iterdir():
            file.rename(out / file.name)
        ran = cli("check", "--queue-dir", str(small), *NO_PROCESSES, config=False)
        line = first_line(ran, "CRITICAL", 2)
        assert "out 10,550 entries" in line and "out.entries above 2000" in line
        assert "out.age above 30 min" in line and "inodes free for the queue" in line
        assert "out.entries=10550;500;2000;0;" in ran.out


def test_outage_of_2023_is_critical_at_the_first_check_and_a_healthy_site_is_ok(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        if os.environ.get("CI"):
            pytest.fail("this test makes a namespace of processes and has to run as root here")
        pytest.skip("makes a namespace of processes: run as root")
    queues = tmp_path / "var" / "queue"
    for name in RUNNERS:
        (queues / name).mkdir(parents=True)
    (tmp_path / "mailman.cfg").write_text(f"[mailman]\nlayout: a\n[paths.a]\nvar_dir: {tmp_path / 'var'}\n")
    for name in ("runner", "master"):
        (tmp_path / name).write_text(LIVING)

    def check(*runners: str) -> Ran:
        up = tmp_path / "up"
        shutil.rmtree(up, ignore_errors=True)
        up.mkdir()
        command = ["unshare", "--fork", "--pid", "--mount-proc", "sh", "-c", IN_NAMESPACE, "sh", *runners]
        environment = {**os.environ, "PYTHON": sys.executable, "HOME": str(tmp_path)}
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, env=environment)
        return Ran(done.returncode, done.stdout, done.stderr)

    write_entries(queues / "out", 3, 20)
    assert "out 3 entries" in first_line(check(*RUNNERS), "OK", 0)

    write_entries(queues / "out", 4_000, 48 * HOUR, 20)
    line = first_line(check(*(name for name in RUNNERS if name != "out")), "CRITICAL", 2)
    assert "no outgoing runner: out/ is not delivered" in line
    assert "out 4,003 entries" in line and "out oldest 2 d" in line

    line = first_line(check("out", "in"), "CRITICAL", 2)
    assert "runners missing: archive, bounces" in line and "no outgoing runner" not in line


def test_queue_that_stands_still_is_noticed_with_a_state_file(
    cli: CommandLine, queue_dir: Path, tmp_path: Path
) -> None:
    state = tmp_path / "state.json"
    arguments = ["check", "--queue-dir", str(queue_dir), "--state-file", str(state), *NO_PROCESSES]
    write_entries(queue_dir / "out", 5, MINUTE)
    first_line(cli(*arguments), "OK", 0)
    # Sixteen minutes go by: the file remembers that much more.
    remembered = re.sub(r'"since_s": [\d.]+', f'"since_s": {time.time() - 16 * MINUTE}', state.read_text())
    state.write_text(remembered)
    assert "nothing has left out for 16 min" in first_line(cli(*arguments), "CRITICAL", 2)
    min((queue_dir / "out").iterdir()).unlink()
    first_line(cli(*arguments), "OK", 0)
    state.write_text('["not ours"]')
    first_line(cli(*arguments), "OK", 0)
    assert [file.name for file in tmp_path.iterdir() if file.name.startswith(".")] == []


def test_backlog_without_a_service_is_critical(cli: CommandLine, queue_dir: Path) -> None:
    backlog = queue_dir / "drainer" / "backlog"
    backlog.mkdir(parents=True)
    write_entries(backlog, 30, HOUR)
    line = first_line(cli("check", "--queue-dir", str(queue_dir), *NO_PROCESSES), "CRITICAL", 2)
    assert "drainer is not running and 30 entries wait in its backlog" in line


def test_service_that_hangs_over_a_backlog_is_critical(tmp_path: Path) -> None:
    outage = write_plain(tmp_path, mails=3, recipients_each=2)
    mailman = {"flavour": "mailman2", "queue_dir": outage.queue_dir, "lists_dir": outage.lists_dir}
    settings = site_settings(tmp_path, 9, mailman, feed={"messages": "0"})
    with running_service(settings, tmp_path / "drainer.log") as service:
        deadline_s = time.monotonic() + 60
        while len(list((outage.queue_dir / "drainer" / "backlog").glob("*.pck"))) < 3:
            assert time.monotonic() < deadline_s
        service.process.send_signal(signal.SIGSTOP)
        try:
            ran = drainer("check", "--config", settings, *NO_PROCESSES, "--timeout", "4s")
            line = first_line(Ran(ran.returncode, ran.stdout, ran.stderr), "CRITICAL", 2)
            assert "drainer does not answer and 3 entries wait in its backlog" in line
        finally:
            service.process.send_signal(signal.SIGCONT)
        ran = drainer("check", "--config", settings, *NO_PROCESSES)
        assert "does not answer" not in ran.stdout


class Draining(SmallService):
    """The service of one queue directory, with what a test wants it to say."""

    def __init__(self, queue_dir: Path) -> None:
        super().__init__()
        self.queue_dir = queue_dir
        self.says: dict[str, object] = {}

    async def status(self) -> Snapshot:
        said = (await super().status()).model_dump()
        return Snapshot.model_validate({**said, "mailman": {"queue_dir": str(self.queue_dir)}, **self.says})


@pytest.fixture
def draining(cli: CommandLine, queue_dir: Path) -> Iterator[Draining]:
    service = Draining(queue_dir)
    service.backlog = [entry for entry in service.backlog if entry.state != "held"]
    with serving(cli.socket, service):
        yield service


def test_service_that_drains_is_ok_and_its_troubles_are_named(
    cli: CommandLine, queue_dir: Path, draining: Draining
) -> None:
    (queue_dir / "drainer" / "backlog").mkdir(parents=True)
    write_entries(queue_dir / "drainer" / "backlog", 3, HOUR)
    arguments = ["check", "--queue-dir", str(queue_dir), *NO_PROCESSES]
    ran = cli(*arguments)
    assert "drainer draining; 3 entries, 180 recipients left" in first_line(ran, "OK", 0)
    assert "[OK] drain.slowed: no guard slows drainer" in ran.out
    assert " drain.eta=90s;;;0;" in ran.out and "backlog.orphaned=0;;0;0;" in ran.out
    for says, state, status, words in (
        (
            {"state": "mta_down", "reason": "connection refused", "eta": Eta(state="stalled")},
            "CRITICAL", 2, "drainer MTA down: connection refused",
        ),
        ({"state": "stopped_by_guard", "reason": "a|b"}, "CRITICAL", 2, "drainer stopped by a guard: a/b"),
        ({"eta": Eta(state="stalled")}, "CRITICAL", 2, "drainer delivers nothing (stalled)"),
        (
            {"eta": Eta(state="stalled"), "domains": [HELD_BACK]},
            "WARNING", 1, "drainer has no finish time while web.de is held back",
        ),
        ({"eta": Eta(state="growing")}, "WARNING", 1, "forecast growing"),
        (
            {"guards": [Guard(name="memory_pressure", verdict="slow", reason="30, limit 20")]},
            "WARNING", 1, "drainer is slowed by memory_pressure (30, limit 20)",
        ),
        ({"guards": [Guard(name="mta_queue", verdict="slow", value=7.0)]}, "OK", 0, "drainer draining"),
        ({"backlog": Backlog(entries=1, in_doubt_recipients=7)}, "WARNING", 1, "7 recipients in doubt"),
        ({"backlog": Backlog(entries=1, held_entries=2)}, "WARNING", 1, "2 entries held for a person"),
    ):  # fmt: skip
        draining.says = dict(says)
        assert words in first_line(cli(*arguments), state, status)
    draining.says = {}
    draining.paused[""] = PauseRequest(reason="by ann: provider asked")
    assert "drainer paused: by ann: provider asked" in first_line(cli(*arguments), "WARNING", 1)


def test_service_of_another_queue_does_not_vouch_for_this_one(
    cli: CommandLine, queue_dir: Path, draining: Draining, tmp_path: Path
) -> None:
    draining.queue_dir = tmp_path / "another"
    (queue_dir / "drainer" / "backlog").mkdir(parents=True)
    write_entries(queue_dir / "drainer" / "backlog", 3, HOUR)
    assert "drainer is not running" in first_line(
        cli("check", "--queue-dir", str(queue_dir), *NO_PROCESSES), "CRITICAL", 2
    )


def test_silent_service_of_another_site_s_settings_is_not_blamed_for_this_queue(
    cli: CommandLine, queue_dir: Path, tmp_path: Path
) -> None:
    (queue_dir / "drainer" / "backlog").mkdir(parents=True)
    write_entries(queue_dir / "drainer" / "backlog", 3, HOUR)
    config, path = tmp_path / "another.toml", tmp_path / "another.sock"
    config.write_text(f'[mailman]\nqueue_dir = "{tmp_path / "another"}"\n[control]\nsocket = "{path}"\n')
    with socket.socket(socket.AF_UNIX) as hanging:
        hanging.bind(str(path))
        hanging.listen()
        arguments = ["check", "--queue-dir", str(queue_dir), "--config", str(config), "--timeout", "4s", *NO_PROCESSES]
        line = first_line(cli(*arguments), "CRITICAL", 2)
    assert "drainer is not running and 3 entries wait in its backlog" in line


def test_user_who_may_not_read_gets_unknown_with_the_reason_and_is_still_told_what_he_can_see(cli: CommandLine) -> None:
    if os.geteuid() != 0:
        if os.environ.get("CI"):
            pytest.fail("this test changes its user and has to run as root here")
        pytest.skip("changes its user: run as root")

    def check(queue_dir: Path) -> Ran:
        command = [sys.executable, "-c", AS_NOBODY, "check", "--queue-dir", str(queue_dir), *NO_PROCESSES]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        return Ran(done.returncode, done.stdout, done.stderr)

    # Not in pytest's directory: nobody may not enter that at all.
    with tempfile.TemporaryDirectory() as home:
        queue_dir = Path(home) / "queue"
        Path(home).chmod(0o755)
        for name in ("out", "in", "drainer/backlog"):
            (queue_dir / name).mkdir(parents=True)
        for name in ("in", "drainer"):
            (queue_dir / name).chmod(0o770)
        write_entries(queue_dir / "in", 3, HOUR)
        line = first_line(check(queue_dir), "UNKNOWN", 3)
        assert f"in.entries unknown: {queue_dir}/in cannot be listed" in line
        assert f"backlog.orphaned unknown: {queue_dir}/drainer cannot be listed (Permission denied)" in line
        write_entries(queue_dir / "out", 3, 2 * HOUR)
        assert "out oldest 2 h" in first_line(check(queue_dir), "CRITICAL", 2)
        queue_dir.chmod(0o770)
        assert "Permission denied; run the check as Mailman's user" in first_line(check(queue_dir), "UNKNOWN", 3)


def test_check_that_hangs_is_unknown_after_its_timeout(queue_dir: Path) -> None:
    command = [sys.executable, "-c", HANGING, str(queue_dir / "out"), "check", "--queue-dir", str(queue_dir)]
    done = subprocess.run([*command, "--timeout", "500ms"], capture_output=True, text=True, timeout=60, check=False)
    line = first_line(Ran(done.returncode, done.stdout, done.stderr), "UNKNOWN", 3)
    assert "no result within" in line


@pytest.mark.parametrize(
    "arguments",
    [
        ["--no-such-option"],
        ["--queue-dir", "/nonexistent/queue"],
        ["-w", "out.age=never"],
        ["-c", "nonsense"],
        ["--timeout", "soon"],
        ["-c", "out.standstill=10m"],
    ],
    ids=lambda arguments: " ".join(arguments),
)
def test_wrong_usage_is_unknown_and_never_critical(cli: CommandLine, queue_dir: Path, arguments: list[str]) -> None:
    first_line(cli("check", "--queue-dir", str(queue_dir), *NO_PROCESSES, *arguments), "UNKNOWN", 3)


@pytest.mark.parametrize("name", ["icinga2-drainer.conf", "nagios-drainer.cfg"])
def test_sample_commands_name_options_and_thresholds_that_exist(cli: CommandLine, name: str) -> None:
    text = (CONFIG / name).read_text()
    known = set(re.findall(r"--[a-z-]+", cli("check", "--help", config=False).out))
    named = set(re.findall(r"(?<=[\s\"])--[a-z-]+", text))
    assert {"--queue-dir", "--warning", "--critical", "--timeout"} <= named <= known
    options = re.findall(r"[a-z]+\.[a-z]+=[\w:~@]*", text)
    assert options
    thresholds(options, options)
