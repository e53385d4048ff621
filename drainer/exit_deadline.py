"""The process ends even if something hangs: a thread on an NFS server that is gone, a child that cannot be killed.

In    how long an orderly end may take
Out   the process ended, with a line on standard error, if it took longer

All that is settled by then is in the ledger, as after kill -9. Nothing in this file waits.
"""

from __future__ import annotations

import os
import sys
import threading


class LastResort:
    """`within` when the end begins, and again for its second part; `cancel` when it is reached."""

    def __init__(self) -> None:
        self._timer: threading.Timer | None = None

    def within(self, seconds: float, status: int, waits_for: str) -> None:
        """End the process after that time with this exit status. waits_for: for the log, what takes so long."""
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
