"""Which of the service's tasks may end it, and what becomes of the others when they fail.

In    the service's tasks, by name
Out   the side tasks kept going; their failures, for log, status and metrics

The drain is what matters. A task of the data path that fails unexpectedly ends the service: without it mail would stand
still unseen, or go out twice. systemd starts the service again, and the ledger knows where it stood. Any other
task is beside the drain: recording, notices and displays may fail, and the mail goes on.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import traceback
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

from drainer.clock import Clock
from drainer.report.snapshot import SideFailure
from drainer.text.logfmt import logfmt

log = logging.getLogger("drainer")

MAY_END = {
    "intake": "without it new mail stays in Mailman's queue, and what was begun may not be durably ours",
    "survey": "without it entries stay unread, and the numbers are wrong",
    "bring_back": "without it entries lent to the ledger's disk stay outside the queue",
    "feed": "without it nothing is delivered",
    "follow": "without it entries handed to Mailman are never concluded",
    "in_doubt": "without it recipients in doubt wait for ever",
    "bounces": "without it failed recipients are never reported",
    "operator": "without it a pause never ends, and a clock that is set back stops deferred mail",
    "ledger": "a ledger that was deleted or replaced does not know who has had their mail",
}
"""Task -> why it ends the service when it fails. So does an orderly end: a signal, `run --until-empty`."""

SIDE_TASKS = {
    "show": "the snapshot, `systemctl status`, notices and the burn-down of each second",
    "record": "what the ledger keeps for the report",
    "notify": "notices to the operator's program and webhook",
    "guards": "disk, load, Mailman's processes, the MTA's queue; the last verdict stays",
    "behind_the_mta": "what the MTA's queue and log say of recipient domains",
    "queues": "how much lies in each of Mailman's queues",
    "intruder": "the journal's lines on Mailman's own runner beside us",
    "belonging": "the stamp by which ledger and queue know each other",
    "expire": "what is older than duplicates.keep and ledger.keep is forgotten",
    "listen": "the control socket, tried again while its directory is full",
    "parting": "the last snapshot, notices and record as the service ends",
}
"""Task -> what does not happen while it fails. None of them ends the service, whatever it raises."""

AGAIN_S = 5.0
"""A side task that failed starts again after this time."""
SAID_AGAIN_S = 300.0
"""The same failure is logged once in this time; every one is counted."""


class SideTasks:
    """The tasks beside the drain.

    failures  of each task that failed: how often, when last, and how
    """

    def __init__(self, clock: Clock) -> None:
        self.failures: dict[str, SideFailure] = {}
        self._clock = clock
        self._said: dict[tuple[str, str], float] = {}

    @contextlib.contextmanager
    def guarded(self, name: str) -> Iterator[None]:
        """Any error of the body is logged and counted, and goes no further. This is the one place where that is right: the
        drain does not need the body, and not every way in which it may fail is known."""
        assert name in SIDE_TASKS, f"{name} is no side task"
        try:
            yield
        except Exception as exc:  # noqa: BLE001 - the documented guard of the side tasks
            self._failed(name, exc)

    async def kept_going(self, name: str, work: Callable[[], Awaitable[None]]) -> None:
        """Do the work; after a failure, again. Returns when it has come to its end."""
        is_done = False
        while not is_done:
            with self.guarded(name):
                await work()
                is_done = True
            if not is_done:
                await asyncio.sleep(AGAIN_S)

    def _failed(self, name: str, exc: Exception) -> None:
        detail, before = f"{type(exc).__name__}: {exc}", self.failures.get(name)
        times = before.failures + 1 if before else 1
        self.failures[name] = SideFailure(task=name, failures=times, at=self._clock.now_s(), detail=detail)
        now_s, key = self._clock.monotonic_s(), (name, type(exc).__name__)
        if now_s - self._said.get(key, -SAID_AGAIN_S) >= SAID_AGAIN_S:
            self._said[key] = now_s
            missing = f"{SIDE_TASKS[name]}: not for now; delivery goes on"
            log.error(logfmt(event="side_task_failed", task=name, failures=times, detail=detail, where=_place(exc),
                             missing=missing))  # fmt: skip


def _place(exc: Exception) -> str:
    """Where it was raised, on one line: the log has one line for each event."""
    frames = traceback.extract_tb(exc.__traceback__)[-4:]
    return " < ".join(f"{Path(frame.filename).name}:{frame.lineno} {frame.name}" for frame in reversed(frames))
