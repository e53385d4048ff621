"""Tells systemd where we stand: READY, STATUS, WATCHDOG, STOPPING, RELOADING over its notification socket.

In    NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID from the environment
Out   datagrams to that socket; nothing at all when not started by systemd (Type=notify)
Source  sd_notify(3), sd_watchdog_enabled(3)

A message that cannot be delivered is dropped: the service manager misses a line, the service misses nothing.
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
    """Send `KEY=value` lines. Returns whether they went out; False when there is nobody to tell."""
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
    """The service has started, or has finished reading its settings again."""
    return notify("READY=1")


def notify_status(text: str) -> bool:
    """One line for `systemctl status`."""
    return notify("STATUS=" + " ".join(text.split())[:_STATUS_AT_MOST])


def notify_stopping() -> bool:
    return notify("STOPPING=1")


def notify_reloading() -> bool:
    """Reading the settings again; must be followed by `notify_ready`."""
    return notify(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")


class Watchdog:
    """Says WATCHDOG=1 at half of the time after which systemd would take us for dead."""

    def __init__(self, monotonic_s: Callable[[], float] = time.monotonic) -> None:
        self.every_s = watchdog_interval_s()
        self._monotonic_s = monotonic_s
        self._next_s = monotonic_s()

    def alive(self) -> bool:
        """Call often, from where a hang of the service would show. Returns whether systemd was told this time."""
        if self.every_s is None or self._monotonic_s() < self._next_s:
            return False
        self._next_s = self._monotonic_s() + self.every_s
        return notify("WATCHDOG=1")


def watchdog_interval_s() -> float | None:
    """Half of WATCHDOG_USEC in seconds; None when systemd does not watch this process."""
    usec, pid = os.environ.get("WATCHDOG_USEC", ""), os.environ.get("WATCHDOG_PID", "")
    if not (usec.isdecimal() and int(usec) > 0):
        return None
    if pid and pid != str(os.getpid()):
        return None
    return int(usec) / 2_000_000
