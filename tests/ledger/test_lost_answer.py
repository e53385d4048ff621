"""The answer to a COMMIT is lost: the caller asks for the write by the id it made, repeats it, and it happened once."""

from __future__ import annotations

from pathlib import Path

import pytest

from drainer.clock import StoppedClock
from drainer.errors import LedgerNotDurable
from drainer.ledger.group_commit import GroupCommit
from drainer.ledger.records import NewAttempt, Queue, new_attempt_id
from drainer.ledger.sqlite import SqliteLedger
from drainer.ledger.states import State
from tests.contract.test_deliveries import ANN, AT, BOB, attempt
from tests.contract.test_dsns import dsn, reported

QUEUE = Queue("11" * 8, "/queue", "host:1")


class Lines:
    """Between a ledger and its disk: cut off before or after the next COMMIT."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.cut = ""
        commits = GroupCommit._finish

        def finish(group: GroupCommit) -> None:
            cut, self.cut = self.cut, ""
            if cut == "before":
                raise LedgerNotDurable("cut off")
            commits(group)
            if cut == "after":
                raise LedgerNotDurable("cut off")

        monkeypatch.setattr(GroupCommit, "_finish", finish)


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> Lines:
    return Lines(monkeypatch)


async def opened(path: Path) -> SqliteLedger:
    ledger = SqliteLedger(path / "ledger.sqlite", StoppedClock())
    await ledger.open()
    await ledger.claim(QUEUE, known_as="")
    return ledger


@pytest.mark.parametrize("restarts", [False, True], ids=["goes_on", "restarts"])
@pytest.mark.parametrize("cut", ["before", "after"])
async def test_write_without_an_answer_is_asked_for_and_repeated(
    tmp_path: Path, lines: Lines, cut: str, restarts: bool
) -> None:
    ledger, asked = await opened(tmp_path), attempt(ANN, BOB)
    committed = cut == "after"

    async def cut_off(write: str) -> None:
        """The write ends without an answer, perhaps with the process."""
        nonlocal ledger
        lines.cut = cut
        with pytest.raises(LedgerNotDurable):
            await do(write)
        if restarts:
            await ledger.close()
            ledger = await opened(tmp_path)

    part = new_attempt_id()

    async def do(write: str) -> None:
        if write == "open":
            await ledger.open_attempt(asked)
        elif write == "split":
            await ledger.split_attempt(asked.attempt_id, (BOB,), part)
        elif write == "deliver":
            await ledger.close_attempt(asked.attempt_id, State.DELIVERED, "250", AT + 1)
        else:
            await ledger.close_attempt(part, State.FAILED, "550", AT + 1, [dsn(BOB)])

    ends = {"open": (asked, State.ATTEMPTING), "deliver": (asked, State.DELIVERED)}
    for write in ("open", "split", "deliver", "fail"):
        before = await ledger.attempt(asked.attempt_id), await ledger.attempt(part)
        await cut_off(write)
        after = await ledger.attempt(asked.attempt_id), await ledger.attempt(part)
        assert (after != before) == committed
        await do(write)
        await do(write)
        if write in ends:
            one, state = ends[write]
            assert isinstance(one, NewAttempt) and await ledger.attempt(one.attempt_id) is state
    totals = await ledger.totals()
    assert totals.counts == {"delivered_recipients": 1, "bounced_recipients": 1, "transactions": 2}
    assert (await reported(ledger), await ledger.unresolved_attempts()) == ([BOB], [])
    await ledger.close()
