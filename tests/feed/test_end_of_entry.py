"""The end of an entry, written in the commit of the outcomes that settle it: with them, or not at all."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from drainer.clock import StoppedClock
from drainer.demo.misbehaviour import Rule
from drainer.demo.sink import Sink
from drainer.errors import LedgerNotDurable
from drainer.feed.deliver import deliver
from drainer.feed.session import Session
from drainer.feed.transaction import Transaction
from drainer.ledger.evidence import Finish
from drainer.ledger.group_commit import GroupCommit
from drainer.ledger.records import Outcome
from drainer.ledger.sqlite import SqliteLedger
from drainer.ledger.states import State
from drainer.settings.mta import MtaSettings
from tests.feed.conftest import composed, record_of
from tests.feed.test_deliver import ANN, BEN, FILEBASE, FullDisk
from tests.ledger.memory import MemoryLedger

END = Finish(FILEBASE, {"delivered_entries": 1})


async def ended(mta: MtaSettings, ledger: MemoryLedger, asked: list[list[State]]) -> tuple[Transaction, int]:
    """A transaction to ANN and BEN that would end the entry, and how often the ledger has its end.

    asked  gets the states of the outcomes with which the end was asked for
    """

    def finish_with(outcomes: Sequence[Outcome]) -> Finish:
        asked.append([outcome.state for outcome in outcomes])
        return END

    message = composed(ANN, BEN)
    session = await Session.open(mta)
    try:
        done = await deliver(
            message, FILEBASE, record_of(message), ledger, session, StoppedClock(), finish_with=finish_with
        )
    finally:
        await session.quit()
    return done, await ends_in(ledger)


async def ends_in(ledger: MemoryLedger) -> int:
    return (await ledger.totals()).counts.get("delivered_entries", 0)


@pytest.mark.parametrize(
    ("rule", "state"),
    [("quit 221 bye", State.DELIVERED), ("rcpt 550 5.1.1 unknown", State.FAILED)],
    ids=["content", "rcpt"],
)
async def test_end_is_written_with_the_outcome(
    sink: Sink, mta: MtaSettings, ledger: MemoryLedger, rule: str, state: State
) -> None:
    sink.scripts.append(Rule.parse(rule))
    asked: list[list[State]] = []
    assert (await ended(mta, ledger, asked))[1] == 1
    assert asked == [[state]]


async def test_outcomes_that_take_two_writes_leave_the_end_to_the_caller(
    sink: Sink, mta: MtaSettings, ledger: MemoryLedger
) -> None:
    """The ledger may refuse one of them for long: it would have the end, and an attempt that is open."""
    sink.scripts.append(Rule.parse(f"rcpt 550 5.1.1 unknown recipient={BEN}"))
    asked: list[list[State]] = []
    done, ends = await ended(mta, ledger, asked)
    assert done.has(State.DELIVERED) and done.has(State.FAILED)
    assert (ends, asked) == (0, [])


async def test_refusals_go_into_the_commit_of_the_outcome(
    sink: Sink, mta: MtaSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sink.scripts.append(Rule.parse(f"rcpt 550 5.1.1 unknown recipient={BEN}"))
    groups: list[int] = []
    commit = GroupCommit._commit

    def counted(commits: GroupCommit, applied: list[Any], loop: asyncio.AbstractEventLoop) -> None:
        groups.append(len(applied))
        commit(commits, applied, loop)

    monkeypatch.setattr(GroupCommit, "_commit", counted)
    ledger = SqliteLedger(tmp_path / "ledger.sqlite", StoppedClock())
    await ledger.open()
    try:
        message = composed(ANN, BEN)
        session = await Session.open(mta)
        await deliver(message, FILEBASE, record_of(message), ledger, session, StoppedClock())
        await session.quit()
    finally:
        await ledger.close()
    assert groups == [1, 2], "the attempt; its outcome with the refusal"


async def test_end_that_a_full_disk_refused_is_written_once_with_the_outcome(sink: Sink, mta: MtaSettings) -> None:
    ledger = FullDisk(close_fails=2)
    assert (await ended(mta, ledger, []))[1] == 1
    assert not await ledger.unresolved_attempts()


async def test_outcome_that_stays_unwritten_leaves_no_end_behind(sink: Sink, mta: MtaSettings) -> None:
    ledger = FullDisk(close_fails=1_000)
    task = asyncio.create_task(ended(mta, ledger, []))
    await ledger.closing.wait()
    task.cancel()
    with pytest.raises(LedgerNotDurable):
        await task
    assert await ends_in(ledger) == 0
    assert [attempt.state for attempt in await ledger.unresolved_attempts()] == [State.ATTEMPTING]
