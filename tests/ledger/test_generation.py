"""A ledger that lost deliveries, and one of another queue, are recognised, also after a crash at any step."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from drainer.clock import StoppedClock
from drainer.errors import CustodyRefused, UsageError
from drainer.ledger.generation import Stamp, next_stamp, objection, stamp_in_line, stamp_in_value
from drainer.ledger.records import Hold
from drainer.ledger.sqlite import SqliteLedger
from drainer.queuedir.custody import Custody
from drainer.queuedir.premises import Premises
from drainer.start.ledger_check import RENEW_S, LedgerCheck
from tests.ledger.memory import MemoryLedger

QUEUE_ID = "00000000000000cc"
OLD, NEW = (Stamp("00000000000000aa", generation, "/queue", QUEUE_ID) for generation in (3, 4))
OTHER = Stamp("00000000000000bb", 4, "/queue", QUEUE_ID)


@pytest.fixture
def queue_dir(tmp_path: Path) -> Path:
    for name in ("out", "bad", "shunt"):
        (tmp_path / "queue" / name).mkdir(parents=True)
    return tmp_path / "queue"


def put_entry(queue_dir: Path) -> None:
    (queue_dir / "drainer/backlog" / f"1700000000.5+{'ab' * 20}.pck").write_bytes(b"entry")


def test_stamp_is_read_as_it_was_written_and_always_as_long() -> None:
    assert stamp_in_line(NEW.line() + "\n") == Stamp(NEW.ledger_id, NEW.generation, queue_id=QUEUE_ID)
    assert stamp_in_value(NEW.value()) == NEW
    assert len({len(stamp.line()) for stamp in (OLD, NEW, Stamp("ff" * 8, 10**12, queue_id=QUEUE_ID))}) == 1
    assert stamp_in_line("") is stamp_in_line("ledger 12 x") is stamp_in_value(None) is None


def test_only_a_ledger_that_knows_less_or_belongs_elsewhere_is_objected_to() -> None:
    fine = [(None, None), (NEW, NEW), (NEW, OLD), (NEW, None)]
    assert [objection(ledgers, queues, "/queue", False) for ledgers, queues in fine] == [None] * len(fine)
    for has_custody in (False, True):
        for ledgers, queues, queue_dir, always in [
            (None, NEW, "/queue", False), (OLD, NEW, "/queue", False),
            (OTHER, NEW, "/queue", True), (NEW, None, "/elsewhere", True),
        ]:  # fmt: skip
            found = objection(ledgers, queues, queue_dir, has_custody)
            assert found is not None and found.grave == (always or has_custody)
    lost_both = objection(None, None, "/queue", has_custody=True)
    assert lost_both is not None and lost_both.grave


class Crash(Exception):
    pass


async def test_a_crash_between_the_two_marks_is_no_obstacle_and_hides_no_loss(
    queue_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, ledger = StoppedClock(), MemoryLedger()
    with Custody(queue_dir, clock=clock) as custody:
        check = LedgerCheck(custody, ledger, "ledger", clock)
        for _ in range(2):
            with monkeypatch.context() as crashing:
                crashing.setattr(Premises, "stamp_ledger", lambda self, mark: (_ for _ in ()).throw(Crash))
                with pytest.raises(Crash):
                    await check.recognise()
            await check.recognise()
            put_entry(queue_dir)
        with pytest.raises(UsageError, match="it is new"):
            await LedgerCheck(custody, MemoryLedger(), "ledger", clock).recognise()


async def test_generation_grows_while_mail_goes_out_and_rests_with_it(queue_dir: Path) -> None:
    clock, ledger = StoppedClock(), MemoryLedger()
    with Custody(queue_dir, clock=clock) as custody:
        check = LedgerCheck(custody, ledger, "ledger", clock)
        await check.recognise()
        marks = [custody.premises.ledger_stamp()]
        for transactions, waited_s in ((5, RENEW_S), (6, RENEW_S), (7, RENEW_S / 2), (7, RENEW_S), (7, RENEW_S)):
            clock.advance(waited_s)
            await check.renew(transactions)
            marks.append(custody.premises.ledger_stamp())
    generations = [mark.generation for mark in map(stamp_in_line, marks) if mark]
    assert generations == [1, 2, 3, 3, 4, 4]


async def test_ledger_lost_with_nothing_in_custody_is_said_and_the_drain_goes_on(
    queue_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    clock, ledger = StoppedClock(), MemoryLedger()
    with Custody(queue_dir, clock=clock) as custody:
        await LedgerCheck(custody, MemoryLedger(), "ledger", clock).recognise()
        with caplog.at_level(logging.WARNING, "drainer"):
            await LedgerCheck(custody, ledger, "ledger", clock).recognise()
        await LedgerCheck(custody, ledger, "ledger", clock).recognise()
    (line,) = await ledger.journal()
    assert "it is new and knows nothing" in line.detail and "drainer import-log" in line.detail
    assert len(caplog.records) == 1


async def test_queue_that_cannot_be_marked_is_drained_all_the_same(
    queue_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, ledger = StoppedClock(), MemoryLedger()
    with Custody(queue_dir, clock=clock) as custody:

        def full(self: Premises, mark: str) -> None:
            raise CustodyRefused("No space left on device")

        monkeypatch.setattr(Premises, "stamp_ledger", full)
        await LedgerCheck(custody, ledger, "ledger", clock).recognise()
        await LedgerCheck(custody, ledger, "ledger", clock).recognise()
    mark = stamp_in_value(await ledger.kept("belongs_to"))
    assert mark is not None and mark.generation == 2


def test_stamps_from_before_queues_had_ids_are_read() -> None:
    assert stamp_in_line(f"ledger {NEW.ledger_id} {4:018d}\n") == Stamp(NEW.ledger_id, 4)
    assert stamp_in_value(f'["{NEW.ledger_id}", 4, "/queue"]'.encode()) == Stamp(NEW.ledger_id, 4, "/queue")


NAMELESS = Stamp("00000000000000aa", 3, "/queue")


@pytest.mark.parametrize(
    ("ledgers", "queues", "queue_dir", "queue_id"),
    [
        (None, None, "/queue", "made"),
        (NAMELESS, NAMELESS, "/queue", "made"),
        (NEW, NEW, "/queue", QUEUE_ID),
        (NEW, NEW, "/moved", QUEUE_ID),
        (NEW, None, "/queue", QUEUE_ID),
        (NEW, NAMELESS, "/queue", QUEUE_ID),
        (NEW, None, "/another", "made"),
        (NEW, Stamp("00000000000000aa", 3, queue_id="00000000000000dd"), "/queue", "00000000000000dd"),
        (None, NEW, "/queue", QUEUE_ID),
    ],
)
def test_a_queue_keeps_its_id_wherever_it_lies_and_gets_one_once(
    ledgers: Stamp | None, queues: Stamp | None, queue_dir: str, queue_id: str
) -> None:
    assert next_stamp(ledgers, queues, queue_dir, "new", "made").queue_id == queue_id


async def test_the_queue_is_claimed_and_keeps_its_id_over_restarts_and_a_lost_lock(
    queue_dir: Path, tmp_path: Path
) -> None:
    clock, ledger, owners = StoppedClock(), SqliteLedger(tmp_path / "ledger.sqlite", StoppedClock()), set()
    await ledger.open()
    await ledger.hold([Hold("1.5+a", "operator", "", "ann", 1.7e9)])
    for _ in range(3):
        with Custody(queue_dir, clock=clock) as custody:
            await LedgerCheck(custody, ledger, "ledger", clock).recognise()
            stamp = stamp_in_line(custody.premises.ledger_stamp())
        (queue,) = await ledger.queues()
        assert stamp is not None and (queue.queue_id, queue.queue_dir) == (stamp.queue_id, str(queue_dir))
        owners.add(queue.owner)
        (queue_dir / "drainer/lock").unlink()
        assert [hold.filebase for hold in await ledger.holds()] == ["1.5+a"]
    assert len(owners) == 3
    await ledger.close()
