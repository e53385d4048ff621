"""A ledger from before queues had ids is brought up to date: all it knows is the queue's that claims it."""

from __future__ import annotations

import sqlite3
import zlib
from contextlib import closing
from pathlib import Path

import pytest

from drainer.clock import StoppedClock
from drainer.errors import IllegalTransition
from drainer.ledger.actions import StepKind
from drainer.ledger.columns import stored_addresses, stored_dsn_recipients, stored_filebase
from drainer.ledger.generation import KEPT_AS, stamp_in_value
from drainer.ledger.records import (
    Deferral,
    DsnRecipient,
    Hold,
    JournalLine,
    OperatorState,
    Pause,
    Queue,
    recipient_key,
)
from drainer.ledger.sqlite import SqliteLedger
from drainer.ledger.sqlite_file import migrate, migrations
from drainer.ledger.states import DsnState, State
from drainer.queuedir.custody import Custody
from drainer.start.ledger_check import LedgerCheck
from tests.contract.test_deliveries import ANN, AT, BOB, EVE, FIRST, MESSAGE, SECOND, A, attempt, row, states

FIVE = 5
"""The last schema without queues."""
HELD, LATER = "carol@example.org", "dave@example.org"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A ledger of schema 5 with a row of everything, as that schema's drainer wrote it."""
    path = tmp_path / "ledger.sqlite"
    first, second = stored_filebase(FIRST), stored_filebase(SECOND)
    with closing(sqlite3.connect(path, isolation_level=None)) as old:
        migrate(old, [step for step in migrations() if step.number <= FIVE], path)
        for statement, values in (
            ("INSERT INTO drain (one, since) VALUES (1, ?)", (AT - 9,)),
            ("INSERT INTO lists (id, name) VALUES (1, ?)", (MESSAGE.list_id,)),
            ("INSERT INTO messages VALUES (1, 1, 1, ?, ?)", (first, MESSAGE.message_id)),
            ("INSERT INTO identities VALUES (?, 1)", (A,)),
            ("INSERT INTO deliveries VALUES (?, 0, ?, NULL, ?, NULL, NULL)", (1 << 24, int(AT), recipient_key(ANN))),
            (
                "INSERT INTO deliveries VALUES (?, 1, ?, ?, ?, '550', ?)",
                ((1 << 24) + 1, int(AT), second, recipient_key(BOB), stored_addresses([BOB])),
            ),
            (
                "INSERT INTO waiting VALUES (1, 1, ?, 4, ?, ?, 'why', ?)",
                (first, int(AT), recipient_key(HELD), stored_addresses([HELD])),
            ),
            ("INSERT INTO waiting VALUES (2, 1, ?, 3, ?, ?, '450', NULL)", (first, int(AT), recipient_key(LATER))),
            ("INSERT INTO attempts VALUES (7, 1, 5, ?, ?, 'b@l', '', ?)", (AT, first, stored_addresses([EVE]))),
            ("INSERT INTO attempts VALUES (8, 1, 6, ?, ?, 'b@l', 'lost', ?)", (AT, second, stored_addresses(["f@x"]))),
            ("INSERT INTO deferrals VALUES (?, 2, ?, ?, 1, '450')", (first, AT, AT + 60)),
            ("INSERT INTO holds VALUES (?, 'operator', '', 'ann', ?)", (first, AT)),
            ("UPDATE operator SET messages_per_s = 5.0", ()),
            ("INSERT INTO pauses VALUES ('', ?, NULL, 'ann', 'upgrade')", (AT,)),
            ("INSERT INTO journal VALUES (1, ?, 'ann', 'hold', '1 entry')", (AT,)),
            ("INSERT INTO actions VALUES (1, 'why', NULL, 0, ?, '')", (AT,)),
            ("INSERT INTO steps VALUES (1, ?, 'hold', NULL, NULL, ?)", (first, zlib.compress(b"{}"))),
            ("INSERT INTO counters VALUES ('transactions', 3)", ()),
            (
                "INSERT INTO dsns VALUES (4, 0, ?, NULL, ?, 0, 'list', ?, '<1@x>', 'b@l', '', ?, ?)",
                (AT, AT, second, stored_dsn_recipients([DsnRecipient(BOB, BOB, "550")]), zlib.compress(b"A: b\r\n")),
            ),
            (
                "INSERT INTO evidence VALUES (1, 'dropped', ?, 'list', ?, '<1@x>', 1, '', 0, '', 'spam')",
                (AT, first),
            ),
            ("INSERT INTO ended VALUES ('delivered', 'list', '', 1, 2, 300)", ()),
            ("INSERT INTO events VALUES (1, ?, 'run', 'started', '')", (AT,)),
            ("INSERT INTO kept VALUES (?, ?)", (KEPT_AS, b'["00000000000000aa", 4, "/queue"]')),
            ("INSERT INTO marks VALUES (?, ?)", (AT, zlib.compress(b'[{"transactions": 1}, []]'))),
        ):
            old.execute(statement, values)
    return path


async def test_everything_an_older_ledger_knows_is_the_queues_that_claims_it(path: Path) -> None:
    ledger = SqliteLedger(path, StoppedClock())
    for queue_id in ("", "11" * 8):
        await ledger.open()
        if queue_id:
            await ledger.claim(Queue(queue_id, "/queue", "host:1"), known_as="")
        assert [queue.queue_id for queue in await ledger.queues()] == [queue_id]
        assert await states(ledger) == (
            row(FIRST, State.DELIVERED, ANN)
            | row(SECOND, State.FAILED, BOB)
            | row(FIRST, State.HELD, HELD)
            | row(FIRST, State.DEFERRED, LATER)
            | row(FIRST, State.ATTEMPTING, EVE)
            | row(SECOND, State.IN_DOUBT, "f@x")
        )
        for refused in (attempt(ANN, filebase=SECOND), attempt(BOB, filebase=SECOND), attempt(EVE), attempt(HELD)):
            with pytest.raises(IllegalTransition):
                await ledger.open_attempt(refused)
        assert await ledger.holds() == [Hold(FIRST, "operator", "", "ann", AT)]
        assert await ledger.deferrals() == [Deferral(FIRST, 2, AT, AT + 60, 1, "450")]
        assert await ledger.operator_state() == OperatorState((Pause("", AT, None, "ann", "upgrade"),), 5.0)
        assert await ledger.journal() == [JournalLine(AT, "ann", "hold", "1 entry")]
        assert [(step.filebase, step.kind) for step in await ledger.steps(1)] == [(FIRST, StepKind.HOLD)]
        totals = await ledger.totals()
        assert (totals.since_s, totals.counts) == (AT - 9, {"transactions": 3})
        assert [dsn.dsn_id for dsn in await ledger.dsns(DsnState.OWED, 9)] == [4]
        account = await ledger.account(9, AT + 1)
        assert (account.totals.since_s, len(account.events), len(account.evidence), len(account.ended)) == (AT, 1, 1, 1)
        stamp = stamp_in_value(await ledger.kept(KEPT_AS))
        assert stamp is not None and (stamp.generation, stamp.queue_id) == (4, "")
        await ledger.close()


async def test_attempts_an_older_drainer_left_open_are_resolved_under_their_new_ids(path: Path) -> None:
    ledger = SqliteLedger(path, StoppedClock())
    await ledger.open()
    opened, doubt = sorted(await ledger.unresolved_attempts(), key=lambda found: found.state)
    assert (opened.recipients, doubt.recipients) == ((EVE,), ("f@x",))
    await ledger.resolve(opened.attempt_id, State.IN_DOUBT, "service died", AT)
    for found in (opened, doubt):
        await ledger.resolve(found.attempt_id, State.DELIVERED, "in the MTA's log", AT)
    assert await states(ledger) >= row(FIRST, State.DELIVERED, EVE) | row(SECOND, State.DELIVERED, "f@x")
    await ledger.close()


async def test_older_queue_and_ledger_know_each_other_and_the_queue_gets_its_id(path: Path) -> None:
    queue_dir = path.parent / "queue"
    for name in ("out", "bad", "shunt"):
        (queue_dir / name).mkdir(parents=True)
    clock, ledger = StoppedClock(), SqliteLedger(path, StoppedClock())
    await ledger.open()
    with Custody(queue_dir, clock=clock) as custody:
        custody.premises.stamp_ledger(f"ledger 00000000000000aa {4:018d}")
        (custody.backlog / f"{FIRST}.pck").write_bytes(b"entry")
        await LedgerCheck(custody, ledger, "ledger", clock).recognise()
        (queue,) = await ledger.queues()
        assert custody.premises.ledger_stamp() == f"ledger 00000000000000aa {5:018d} queue {queue.queue_id}"
    assert len(queue.queue_id) == 16 and await ledger.hold_of(FIRST) is not None
    await ledger.close()
