"""The journal itself, asked by running journalctl: a journald of the test's own keeps what a genuine MTA wrote."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from drainer.errors import MtaLogUnreadable
from drainer.mta_log.answer import Answer
from drainer.mta_log.file import file_lines, read_mta_log
from drainer.mta_log.follow import follower

SAMPLES = Path(__file__).parents[1] / "samples" / "mta_logs"
JOURNALD = Path("/lib/systemd/systemd-journald")
MAIL_INFO = "<22>"
WITHIN_S = 60.0


@pytest.fixture
def journal() -> Iterator[Path]:
    """The directory of a journal that was given the Postfix sample just now, by syslog's protocol."""
    why = "" if os.geteuid() == 0 else "a private journald needs root"
    why = why or ("" if JOURNALD.exists() else "no journald: apt-get install systemd")
    if why and os.environ.get("CI"):
        pytest.fail(f"under CI this must run: {why}")
    if why:
        pytest.skip(why)
    name = f"drainertest{os.getpid()}"
    directory = Path(f"/var/log/journal/{Path('/etc/machine-id').read_text().strip()}.{name}")
    sockets = Path(f"/run/systemd/journal.{name}")
    with subprocess.Popen([JOURNALD, name], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as daemon:
        try:
            until("journald listens", (sockets / "dev-log").exists)
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as log:
                log.connect(str(sockets / "dev-log"))
                for line in file_lines(SAMPLES / "postfix.log", time.time()):
                    log.send(
                        f"{MAIL_INFO}{time.strftime('%b %e %H:%M:%S')} {line.program}[{line.pid}]: {line.text}".encode()
                    )
            until("all is written", lambda: b"hung@relay.test>" in read(name))
            yield directory
        finally:
            daemon.terminate()
            daemon.wait()
            for left in (sockets, directory):
                shutil.rmtree(left, ignore_errors=True)


def read(namespace: str) -> bytes:
    return subprocess.run(["journalctl", "--namespace", namespace], capture_output=True, check=True).stdout


def until(what: str, is_so: Callable[[], object]) -> None:
    deadline_s = time.monotonic() + WITHIN_S
    while not is_so():
        assert time.monotonic() < deadline_s, f"not within {WITHIN_S} s: {what}"
        time.sleep(0.05)


def test_journal_is_asked_as_a_file_is(journal: Path) -> None:
    now_s = time.time()
    evidence = read_mta_log(Path(f"journal:{journal}"), now_s - 60, now_s, ["<one@example.test>"])
    recipients = ("a@relay.test", "b@relay.test", "c@local.test")
    answers = evidence.answers("<one@example.test>", "choir-bounces@lists.test", recipients, now_s - 60)
    assert set(answers.values()) == {Answer.YES}
    assert "postfix begins in it" in evidence.why_silent("<one@example.test>", now_s - 900)


def test_journal_that_cannot_be_read_is_named_with_the_reason(tmp_path: Path) -> None:
    with pytest.raises(MtaLogUnreadable, match=r"journalctl: .*No such file or directory"):
        read_mta_log(Path(f"journal:{tmp_path / 'missing'}"), 0.0, 1.0)


def test_journal_is_followed_from_the_place_reached(journal: Path) -> None:
    following = follower(Path(f"journal:{journal}"), lambda _: True, time.time() - 60)
    told = [line.text for line in following.new_lines(time.time())]
    assert sum("status=sent" in text for text in told) > 3
    assert list(following.new_lines(time.time())) == []
    name = journal.name.partition(".")[2]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as log:
        log.connect(f"/run/systemd/journal.{name}/dev-log")
        log.send(f"{MAIL_INFO}{time.strftime('%b %e %H:%M:%S')} postfix/smtp[7]: 4F1C2D3E4F: one more".encode())
    until("all is written", lambda: b"one more" in read(name))
    assert [(line.program, line.text) for line in following.new_lines(time.time())] == [
        ("postfix/smtp", "4F1C2D3E4F: one more")
    ]
    following.close()
