"""Nothing that is done beside the drain can end it: each of these tasks is made to fail, and the mail goes on."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, NoReturn

import pytest

import drainer.observe.side_tasks
import drainer.rounds.behind_the_mta
import drainer.rounds.clock_jumps
import drainer.rounds.each_second
import drainer.rounds.ledger_upkeep
import drainer.rounds.looking_around
import drainer.service
import drainer.start.assembly
import drainer.start.listening
from drainer.control.server import ControlServer
from drainer.demo.sample_queue import write_plain
from drainer.demo.sink import Sink
from drainer.destinations.looking import BehindTheMta
from drainer.errors import NoRoomForSocket
from drainer.observe.runner_beside import RunnerBeside
from drainer.observe.side_tasks import MAY_END, SIDE_TASKS
from drainer.observe.surroundings import Surroundings
from drainer.queuedir.custody import Custody
from drainer.report.metrics import exposition
from drainer.report.notify import Notifier
from drainer.report.record_writer import RecordWriter
from drainer.report.terminal.status import status_lines
from drainer.service import Service
from drainer.start.ledger_check import LedgerCheck
from tests.stages.inside import inside

FAILURE = UnicodeEncodeError("utf-8", "\udce9", 0, 1, "surrogates not allowed")


def fails(*_: Any, **__: Any) -> NoReturn:
    raise FAILURE


async def fails_later(*_: Any, **__: Any) -> NoReturn:
    raise FAILURE


def listens_at_the_third_try() -> Callable[[ControlServer], Awaitable[None]]:
    start, tries = ControlServer.start, iter([NoRoomForSocket("full"), FAILURE])

    async def listens(server: ControlServer) -> None:
        if failure := next(tries, None):
            raise failure
        await start(server)

    return listens


ROUNDS = (
    drainer.rounds.behind_the_mta,
    drainer.rounds.clock_jumps,
    drainer.rounds.each_second,
    drainer.rounds.ledger_upkeep,
    drainer.rounds.looking_around,
)

BROKEN: dict[str, tuple[object, str, object]] = {
    "show": (drainer.rounds.each_second, "status_line", fails),
    "record": (RecordWriter, "run", fails_later),
    "notify": (Notifier, "run", fails_later),
    "guards": (Surroundings, "look", fails_later),
    "behind_the_mta": (BehindTheMta, "is_watching", property(fails)),
    "queues": (Surroundings, "count_queues", fails_later),
    "intruder": (RunnerBeside, "note", fails_later),
    "belonging": (LedgerCheck, "renew", fails_later),
    "expire": (Custody, "expire_duplicates", fails),
    "listen": (ControlServer, "start", listens_at_the_third_try()),
    "parting": (RecordWriter, "end", fails_later),
}
"""Task -> what of it raises."""


async def test_every_side_task_may_fail_and_the_mail_goes_out_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    assert set(BROKEN) == set(SIDE_TASKS), "a side task that no test has seen fail"
    outage = write_plain(tmp_path, 4, 3)
    for owner, name, broken in BROKEN.values():
        monkeypatch.setattr(owner, name, broken)
    monkeypatch.setattr(drainer.start.listening, "SOCKET_AGAIN_S", 0.01)
    monkeypatch.setattr(drainer.observe.side_tasks, "AGAIN_S", 0.01)
    async with Sink() as sink:
        async with inside(tmp_path, outage, sink) as run:
            side_tasks = run.service.side_tasks
            others = set(SIDE_TASKS) - {"parting"}
            await run.until("all but the last have failed", lambda: set(side_tasks.failures) == others)
            await run.until("all are delivered", lambda: run.taken() == run.owed())
            await run.until("it listens", lambda: (tmp_path / "control.sock").exists())
            snapshot = await run.status()
            failures = {one.task: one for one in snapshot.side_failures}
            assert set(failures) == others
            assert failures["record"].failures > 1 and "surrogates not allowed" in failures["record"].detail
            page = exposition(snapshot).decode()
            for name in failures:
                assert f'drainer_side_task_failures_total{{task="{name}"}}' in page
            assert "record, " in "\n".join(status_lines(snapshot, 100)), "said to an operator"
            run.service.stop("it is enough")
            assert await run.ended() == 0
        assert set(side_tasks.failures) == set(SIDE_TASKS)
    lines = [record.getMessage() for record in caplog.records if "side_task_failed" in record.getMessage()]
    for name in SIDE_TASKS:
        assert any(f"task={name} " in line and "where=" in line for line in lines), name
    assert len(lines) == len(SIDE_TASKS), "the same failure again and again is one line"


def test_each_task_of_the_service_is_listed_with_what_its_failure_means() -> None:
    """By name, in one place; and no task is started past it."""
    tree = ast.parse(inspect.getsource(drainer.service))
    works: dict[str, set[str]] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and node.name in ("_work", "_side_work"):
            (table,) = (inner for inner in ast.walk(node) if isinstance(inner, ast.Dict))
            works[node.name] = {str(key.value) for key in table.keys if isinstance(key, ast.Constant)}
    assert works["_work"] == set(MAY_END)
    assert works["_side_work"] < set(SIDE_TASKS)
    started = [
        ast.unparse(node.args[0])
        for module in (drainer.service, drainer.start.assembly, drainer.start.listening, *ROUNDS)
        for node in ast.walk(ast.parse(inspect.getsource(module)))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "asyncio.create_task"
    ]
    assert sorted(started) == ["again", "self._stop.wait()", "self.side_tasks.kept_going(name, work)", "work()"]
    assert Service.__module__ == "drainer.service"


async def test_a_task_of_the_data_path_that_fails_ends_the_service(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """systemd starts it again; otherwise mail would not move, and no one would notice."""
    work = Service._work
    monkeypatch.setattr(Service, "_work", lambda service: {**work(service), "bounces": fails_later})
    outage = write_plain(tmp_path, 1, 3)
    async with Sink() as sink:
        with pytest.raises(UnicodeEncodeError):
            async with inside(tmp_path, outage, sink) as run:
                await run.ended()
