"""Notifications to systemd: READY, STATUS, WATCHDOG, STOPPING, RELOADING over its socket.

In    NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID from the environment
Out   datagrams to that socket; nothing if systemd did not start us (Type=notify)
Source  sd_notify(3), sd_watchdog_enabled(3)

A message that cannot be sent is dropped: systemd misses a line, the service goes on.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Callable

from drainer.text.logfmt import logfmt

_STATUS_AT_MOST = 1000

log = logging.getLogger(__name__)


def notify(message: str) -> bool:
    """Send `KEY=value` lines. Returns whether they were sent; False without a socket."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return False
    if address.startswith("@"):  # the abstract namespace
        address = "\0" + address[1:]
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK) as out:
            out.sendto(message.encode("utf-8", "replace"), address)
    except OSError as exc:
        log.debug(logfmt(event="systemd_not_told", reason=exc))
        return False
    return True


def notify_ready() -> bool:
    """The service has started, or has reloaded its settings."""
    return notify("READY=1")


def notify_status(text: str) -> bool:
    """One line for `systemctl status`."""
    return notify("STATUS=" + " ".join(text.split())[:_STATUS_AT_MOST])


def notify_stopping() -> bool:
    return notify("STOPPING=1")


def notify_reloading() -> bool:
    """The settings are being reloaded; `notify_ready` must follow."""
    return notify(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")


class Watchdog:
    """Sends WATCHDOG=1 at half the time after which systemd takes the service for dead."""

    def __init__(self, monotonic_s: Callable[[], float] = time.monotonic) -> None:
        self.every_s = watchdog_interval_s()
        self._monotonic_s = monotonic_s
        self._next_s = monotonic_s()

    def alive(self) -> bool:
        """Call often, from code that stops when the service hangs. Returns whether WATCHDOG=1 was sent this time."""
        if self.every_s is None or self._monotonic_s() < self._next_s:
            return False
        self._next_s = self._monotonic_s() + self.every_s
        return notify("WATCHDOG=1")


def watchdog_interval_s() -> float | None:
    """Half of WATCHDOG_USEC, in seconds; None if systemd does not watch this process."""
    usec, pid = os.environ.get("WATCHDOG_USEC", ""), os.environ.get("WATCHDOG_PID", "")
    if not (usec.isdecimal() and int(usec) > 0):
        return None
    if pid and pid != str(os.getpid()):
        return None
    return int(usec) / 2_000_000
