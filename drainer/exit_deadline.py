"""The end of the process comes, whatever hangs: a thread on an NFS server that is gone, a child that cannot be killed.

In    how long an end in order may take
Out   the process ended, with a word on standard error, if it took longer

What is in order by then is in the ledger, durably, as after kill -9. Nothing here waits for anybody.
"""

from __future__ import annotations

import os
import sys
import threading


class LastResort:
    """`within` as soon as the end was asked for, and again for what comes after it; `cancel` when it has come."""

    def __init__(self) -> None:
        self._timer: threading.Timer | None = None

    def within(self, seconds: float, status: int, waits_for: str) -> None:
        """End the process after that time with this exit status. waits_for: what it is that takes so long, for the log."""
        self.cancel()
        self._timer = threading.Timer(seconds, _end, (seconds, status, waits_for))
        self._timer.daemon = True
        self._timer.start()

    def cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _end(seconds: float, status: int, waits_for: str) -> None:
    others = ", ".join(thread.name for thread in threading.enumerate() if thread is not threading.current_thread())
    said = f'event=ended_by_force waits_for="{waits_for}" after_s={seconds:g} threads="{others}"\n'
    # Not through logging: its lock may be what hangs.
    os.write(sys.__stderr__.fileno() if sys.__stderr__ else 2, said.encode("utf-8", "backslashreplace"))
    os._exit(status)
