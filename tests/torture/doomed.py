"""The real service with a bomb in it: it ends itself by SIGKILL the NTH time it comes to a named point.

python -m tests.torture.doomed POINT NTH run --config FILE     what follows NTH is `python -m drainer`'s
"""

from __future__ import annotations

import asyncio
import functools
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Any

from drainer.cli.main import main as drainer
from drainer.ledger.group_commit import GroupCommit
from drainer.ledger.sqlite import SqliteLedger
from drainer.queuedir.custody import Custody
from tests.torture.points import ASKED, DURABLE, LEDGER_WRITES, MOVES, POINTS, WRITTEN

Reached = Callable[[str], None]

_doing: ContextVar[str] = ContextVar("doing", default="")


def bomb(point: str, nth: int) -> Reached:
    """Called with the name of every point that is come to."""
    left = nth

    def reached(name: str) -> None:
        nonlocal left
        if name == point:
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    return reached


def watch_custody(reached: Reached) -> None:
    """The steps of every move; one that another is made of counts as the other's."""
    initialised = Custody.__init__

    def init(self: Custody, *given: Any, **named: Any) -> None:
        initialised(self, *given, **named, step=lambda step: reached(f"custody.{_doing.get()} {step}"))

    def watched(name: str, move: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(move)
        def moves(self: Custody, *given: Any, **named: Any) -> Any:
            token = _doing.set(_doing.get() or name)
            try:
                return move(self, *given, **named)
            finally:
                _doing.reset(token)

        return moves

    syncs = Custody.sync

    def sync(self: Custody) -> None:
        reached(f"custody.sync {ASKED}")
        syncs(self)
        reached(f"custody.sync {DURABLE}")

    for name in MOVES:
        setattr(Custody, name, watched(name, getattr(Custody, name)))
    for name, method in (("__init__", init), ("sync", sync)):
        setattr(Custody, name, method)


def watch_ledger(reached: Reached) -> None:
    """Each write when it is asked for, when its rows are written and not committed, and when it is durable."""
    in_transaction: list[str] = []
    writing: ContextVar[str] = ContextVar("writing", default="")
    queues, commits = GroupCommit.begin, GroupCommit._finish

    def begin(
        self: GroupCommit, change: Callable[[], Any], undo: Callable[[Any], None] | None = None
    ) -> asyncio.Future[Any]:
        name = writing.get()

        def noted() -> Any:
            result = change()
            in_transaction.append(name)
            return result

        return queues(self, noted, undo)

    def finish(self: GroupCommit) -> None:
        for name in in_transaction:
            reached(f"ledger.{name} {WRITTEN}")
        in_transaction.clear()
        commits(self)

    def watched(name: str, call: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        @functools.wraps(call)
        async def writes(self: SqliteLedger, *given: Any, **named: Any) -> Any:
            reached(f"ledger.{name} {ASKED}")
            token = writing.set(name)
            try:
                result = await call(self, *given, **named)
            finally:
                writing.reset(token)
            reached(f"ledger.{name} {DURABLE}")
            return result

        return writes

    for name, method in (("begin", begin), ("_finish", finish)):
        setattr(GroupCommit, name, method)
    for name in LEDGER_WRITES:
        setattr(SqliteLedger, name, watched(name, getattr(SqliteLedger, name)))


def main(arguments: list[str]) -> None:
    point, nth, *rest = arguments
    if rest[0] == sys.executable:  # as a command in front of the service's own
        rest = rest[3:]
    if point not in {known.name for known in POINTS}:
        sys.exit(f"{point!r} is no point")
    reached = bomb(point, int(nth))
    watch_custody(reached)
    watch_ledger(reached)
    sys.argv = ["drainer", *rest]
    drainer()


if __name__ == "__main__":
    main(sys.argv[1:])
