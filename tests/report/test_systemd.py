"""sd_notify, received on real datagram sockets."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from drainer.clock import StoppedClock
from drainer.report import systemd


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """A socket such as systemd listens on, named in NOTIFY_SOCKET."""
    name = str(tmp_path / "notify") if request.param == "path" else f"@drainer-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(name.replace("@", "\0") if request.param == "abstract" else name)
        listening.settimeout(10)
        monkeypatch.setenv("NOTIFY_SOCKET", name)
        monkeypatch.delenv("WATCHDOG_USEC", raising=False)
        monkeypatch.delenv("WATCHDOG_PID", raising=False)
        yield listening


def test_manager_hears_each_message(manager: socket.socket) -> None:
    assert systemd.notify_ready()
    assert manager.recv(4096) == b"READY=1"
    assert systemd.notify_stopping()
    assert manager.recv(4096) == b"STOPPING=1"
    assert systemd.notify_reloading()
    reloading, monotonic = manager.recv(4096).decode().splitlines()
    assert reloading == "RELOADING=1"
    assert int(monotonic.removeprefix("MONOTONIC_USEC=")) > 0


def test_status_is_one_line_whatever_the_reason_holds(manager: socket.socket) -> None:
    assert systemd.notify_status("draining\nREADY=0\nMAINPID=1; caf\u00e9")
    assert manager.recv(4096).decode() == "STATUS=draining READY=0 MAINPID=1; caf\u00e9"


def test_watchdog_is_told_at_half_its_time(manager: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "60000000")
    clock = StoppedClock()
    watchdog = systemd.Watchdog(clock.monotonic_s)
    sent = [watchdog.alive()]
    for seconds in (1.0, 28.9, 0.1, 1.0, 29.5):
        clock.advance(seconds)
        sent.append(watchdog.alive())
    assert sent == [True, False, False, True, False, True]
    assert [manager.recv(4096) for _ in range(3)] == [b"WATCHDOG=1"] * 3


def test_watchdog_of_another_process_is_not_ours(manager: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "60000000")
    monkeypatch.setenv("WATCHDOG_PID", "1")
    assert systemd.watchdog_interval_s() is None
    assert not systemd.Watchdog().alive()
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()))
    assert systemd.watchdog_interval_s() == 30.0


@pytest.mark.parametrize("value", [None, "", "relative/path", "vsock:2:1234"])
def test_nothing_happens_when_not_started_by_systemd(monkeypatch: pytest.MonkeyPatch, value: str | None) -> None:
    if value is None:
        monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    else:
        monkeypatch.setenv("NOTIFY_SOCKET", value)
    monkeypatch.delenv("WATCHDOG_USEC", raising=False)
    assert not systemd.notify_ready()
    assert not systemd.Watchdog().alive()


def test_manager_that_went_away_does_not_disturb_the_service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "gone"))
    assert not systemd.notify_status("draining")
