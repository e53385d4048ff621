"""Processes that pass for Mailman's runners, and services that look for such: not on one machine at the same time.

A service does not start beside a runner that might deliver from its queue, and a runner that cannot be placed might. Tests
run side by side, so those that make such a runner wait until no service is starting, and the other way round.
"""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_LOCK = Path(tempfile.gettempdir()) / f"drainer-tests-runners-{os.getuid()}.lock"


@contextmanager
def looked_for() -> Iterator[None]:
    """A service starts within the block."""
    with _LOCK.open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_SH)
        yield


@contextmanager
def made_up() -> Iterator[None]:
    """Processes within the block pass for runners of some Mailman."""
    with _LOCK.open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
