"""WATCHDOG=1 means that the event loop is alive, not that the process is: a loop that is blocked falls silent."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from tests.scenarios.running import READY_WITHIN_S, site_settings

BLOCKABLE = """
import os, signal, sys
from drainer.cli.main import main

def block(*_):
    os.write({blocked}, b"b")
    os.read({let_go}, 1)

signal.signal(signal.SIGUSR1, block)
main()
"""
"""The service as it is, but for a signal that blocks its main thread, as a call that never returns would."""


def test_watchdog_falls_silent_while_the_loop_is_blocked_and_speaks_again_afterwards(tmp_path: Path) -> None:
    for queue in ("out", "bad", "shunt"):
        (tmp_path / "qfiles" / queue).mkdir(parents=True)
    (tmp_path / "lists").mkdir()
    mailman = {"flavour": "mailman2", "queue_dir": tmp_path / "qfiles", "lists_dir": tmp_path / "lists"}
    settings = site_settings(tmp_path, 9, mailman)
    told_read, told_write = os.pipe()
    go_read, go_write = os.pipe()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        with subprocess.Popen(
            [
                sys.executable,
                "-c",
                BLOCKABLE.format(blocked=told_write, let_go=go_read),
                "run",
                "--config",
                str(settings),
            ],
            env={**os.environ, "NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "1000000"},
            pass_fds=(told_write, go_read),
            stderr=subprocess.DEVNULL,
        ) as service:
            try:
                heard_until(manager, b"WATCHDOG=1")
                service.send_signal(signal.SIGUSR1)
                assert os.read(told_read, 1) == b"b"
                manager.setblocking(False)
                drain(manager)
                manager.settimeout(2.5)
                assert not heard(manager), "nothing but the loop may speak for the loop"
                assert service.poll() is None
                os.write(go_write, b"g")
                heard_until(manager, b"WATCHDOG=1")
            finally:
                os.write(go_write, b"g")
                service.kill()
    for descriptor in (told_read, told_write, go_read, go_write):
        os.close(descriptor)


def heard(manager: socket.socket) -> bytes:
    """The next message; empty if none comes in the socket's time."""
    try:
        return manager.recv(65536)
    except TimeoutError:
        return b""


def heard_until(manager: socket.socket, wanted: bytes) -> None:
    deadline_s = time.monotonic() + READY_WITHIN_S
    manager.settimeout(1.0)
    while wanted not in heard(manager):
        assert time.monotonic() < deadline_s, f"{wanted!r} was not said"


def drain(manager: socket.socket) -> None:
    while True:
        try:
            manager.recv(65536)
        except BlockingIOError:
            return
