"""The ledger never calls unknown what it has a row of, whoever wrote it: a recipient could get a second copy."""

from __future__ import annotations

import asyncio
import random
import sqlite3
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from drainer.clock import StoppedClock
from drainer.errors import IllegalTransition, LedgerNotDurable
from drainer.ledger import tables
from drainer.ledger.bloom import BloomFilter
from drainer.ledger.columns import CODES
from drainer.ledger.group_commit import GroupCommit
from drainer.ledger.perhaps_known import PerhapsKnown
from drainer.ledger.records import (
    Deferral,
    Hold,
    Learnt,
    MessageRecord,
    NewAttempt,
    Outcome,
    new_attempt_id,
    recipient_key,
)
from drainer.ledger.sqlite import SqliteLedger
from drainer.ledger.states import State
from tests.contract.test_deliveries import ANN, AT

FILEBASES = [f"1700000000.{digit}+{digit * 40}" for digit in "1234"] + ["an odd name"]
DIGESTS = [b"\x01" + bytes([number]) * 15 for number in range(6)]
filebases = st.sampled_from(FILEBASES)
messages = st.sets(st.sampled_from(DIGESTS), min_size=1, max_size=3).map(
    lambda digests: MessageRecord(tuple(sorted(digests)), "list", "")
)
addresses = st.sampled_from(["a@x", "b@x", "c@x"])


@given(st.lists(st.integers(0, 2**64)), st.integers(3, 10))
def test_bloom_filter_has_every_key_that_was_added(keys: list[int], width: int) -> None:
    known = BloomFilter(width)
    for key in keys:
        known.add(key)
    assert all(map(known.may_have, keys))


def test_bloom_filter_takes_as_few_strangers_for_members_as_it_says() -> None:
    numbers, known = random.Random(8), BloomFilter(14)
    for _ in range(1000):
        known.add(numbers.getrandbits(56))
    strangers = sum(known.may_have(numbers.getrandbits(56)) for _ in range(20_000))
    assert 0 < strangers / 20_000 < 2 * (1 - 2.718 ** (-2000 / 2**14)) ** 2


class NeverWronglyUnknown(RuleBasedStateMachine):
    """Everything that writes a row, and everything after which something else is remembered."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.place = tempfile.TemporaryDirectory(prefix="drainer-ledger-")
        self.path = Path(self.place.name) / "ledger.sqlite"
        self.ledger = SqliteLedger(self.path, StoppedClock())
        self.loop.run_until_complete(self.ledger.open())
        self.open: list[NewAttempt] = []

    def teardown(self) -> None:
        self.loop.run_until_complete(self.ledger.close())
        self.loop.run_until_complete(self.loop.shutdown_default_executor())
        self.loop.close()
        self.place.cleanup()

    def asked(self, *writes: Callable[[], Awaitable[Any]]) -> None:
        """Writes of one group; some may be refused."""

        async def together() -> None:
            for result in await asyncio.gather(*(write() for write in writes), return_exceptions=True):
                if isinstance(result, BaseException) and not isinstance(result, IllegalTransition | LedgerNotDurable):
                    raise result

        self.loop.run_until_complete(together())

    @rule(filebase=filebases, message=messages, address=addresses, is_rolled_back=st.booleans())
    def open_attempt(self, filebase: str, message: MessageRecord, address: str, is_rolled_back: bool) -> None:
        attempt = NewAttempt(filebase, message, "b@x", (address,), AT)
        self.open.append(attempt)
        writes: list[Callable[[], Awaitable[Any]]] = [lambda: self.ledger.open_attempt(attempt)]
        if is_rolled_back:  # what cannot be ended has the group written anew
            writes.append(lambda: self.ledger.close_attempt(new_attempt_id(), State.DELIVERED, "250", AT))
        self.asked(*writes)

    @rule(filebase=filebases, message=messages, address=addresses)
    def lose_a_commit(self, filebase: str, message: MessageRecord, address: str) -> None:
        def lost(self: GroupCommit) -> None:
            raise LedgerNotDurable("cut off")

        commits, GroupCommit._finish = GroupCommit._finish, lost  # type: ignore[method-assign]
        try:
            self.open_attempt(filebase, message, address, False)
        finally:
            GroupCommit._finish = commits  # type: ignore[method-assign]

    @rule(state=st.sampled_from([State.DELIVERED, State.DEFERRED, State.FAILED, State.IN_DOUBT]))
    def close_attempts(self, state: State) -> None:
        ended, self.open = self.open, []
        self.asked(*(lambda a=a: self.ledger.close_attempt(a.attempt_id, state, "said", AT) for a in ended))

    @rule(filebase=filebases, message=messages, address=addresses, state=st.sampled_from(State))
    def record(self, filebase: str, message: MessageRecord, address: str, state: State) -> None:
        self.asked(lambda: self.ledger.record(filebase, message, [Outcome(state, (address,), "said", AT)]))

    @rule(message=messages, address=addresses)
    def learn(self, message: MessageRecord, address: str) -> None:
        keys = frozenset({recipient_key(address)})
        self.asked(lambda: self.ledger.learn("log", [Learnt(message, keys, AT)]))

    @rule(filebase=filebases)
    def defer(self, filebase: str) -> None:
        self.asked(lambda: self.ledger.defer(Deferral(filebase, 1, AT, AT + 9, 1, "450")))

    @rule(filebase=filebases)
    def hold(self, filebase: str) -> None:
        self.asked(lambda: self.ledger.hold([Hold(filebase, "operator", "", "ann", AT)]))

    @rule(filebase=filebases)
    def finish(self, filebase: str) -> None:
        self.asked(lambda: self.ledger.finish_entry(filebase))

    @rule(filebase=filebases)
    def forget(self, filebase: str) -> None:
        self.asked(lambda: self.ledger.undo_failures([filebase], AT))
        self.asked(lambda: self.ledger.unlearn("log"))
        self.asked(lambda: self.ledger.expire(AT + 1))

    @rule(message=messages, address=addresses)
    def write_from_elsewhere(self, message: MessageRecord, address: str) -> None:
        """As nobody should: with a shell, past the lock."""
        with sqlite3.connect(self.path, isolation_level=None) as other:
            cursor = other.execute(
                "INSERT INTO messages (list, digests, queue, filebase, message_id) VALUES (1, ?, 1, 'shell', '')",
                (len(message.identity),),
            )
            (number,) = [cursor.lastrowid or 0]
            other.executemany("INSERT INTO identities VALUES (?, ?)", [(digest, number) for digest in message.identity])
            other.execute(
                "INSERT INTO deliveries (id, state, at, recipients) VALUES (?, ?, 1, ?)",
                (number << 24, CODES[State.DELIVERED], recipient_key(address)),
            )
        other.close()
        # Whoever asks for a second copy now is refused: that is decided under the lock.
        with pytest.raises(IllegalTransition):
            self.loop.run_until_complete(
                self.ledger.open_attempt(NewAttempt(FILEBASES[0], message, "b@x", (address,), AT))
            )

    @rule()
    def restart(self) -> None:
        self.loop.run_until_complete(self.ledger.close())
        self.loop.run_until_complete(self.ledger.open())

    @invariant()
    def what_has_a_row_is_not_called_unknown(self) -> None:
        perhaps = self.ledger._source().perhaps
        with sqlite3.connect(f"file:{self.path}?mode=ro", uri=True) as reader:
            known = {digest for (digest,) in reader.execute("SELECT digest FROM identities")}
            for digest in DIGESTS:
                found = self.loop.run_until_complete(self.ledger.history([digest]))
                assert found == tables.history(reader, 1, tables.messages_sharing(reader, [digest]))
            assert all(map(perhaps.has_digest, known))
            for table in ("waiting", "deferrals", "holds"):
                for (filebase,) in reader.execute(f"SELECT filebase FROM {table}"):
                    assert perhaps.has_entry(filebase)
        reader.close()
        together = self.loop.run_until_complete(self.ledger.histories([[digest] for digest in DIGESTS]))
        apart = [self.loop.run_until_complete(self.ledger.history([digest])) for digest in DIGESTS]
        assert together == apart


def test_what_the_ledger_has_a_row_of_is_never_called_unknown() -> None:
    run_state_machine_as_test(
        NeverWronglyUnknown,
        settings=settings(
            max_examples=20,
            stateful_step_count=20,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow],
            derandomize=True,
        ),
    )


async def test_nothing_is_asked_of_the_file_about_a_message_it_cannot_know(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = SqliteLedger(tmp_path / "ledger.sqlite", StoppedClock())
    await ledger.open()
    known = MessageRecord((DIGESTS[0],), "list", "")
    await ledger.open_attempt(NewAttempt(FILEBASES[0], known, "b@x", (ANN,), AT))
    statements: list[str] = []
    ledger._source().file.reader.set_trace_callback(statements.append)
    assert (await ledger.history(DIGESTS[1:3])).coverage == ()
    assert await ledger.akin(DIGESTS[1:3]) == []
    assert await ledger.histories([DIGESTS[1:3], DIGESTS[3:]]) == [await ledger.history([DIGESTS[5]])] * 2
    assert statements == []
    assert len((await ledger.history([DIGESTS[0], DIGESTS[1]])).coverage) == 1
    assert statements
    await ledger.close()


async def test_ledger_that_others_write_too_calls_nothing_unknown(tmp_path: Path) -> None:
    ledger = SqliteLedger(tmp_path / "ledger.sqlite", StoppedClock(), is_alone=False)
    await ledger.open()
    perhaps = ledger._source().perhaps
    assert perhaps.has_message([DIGESTS[0]]) and perhaps.has_entry("any")
    await ledger.close()
    assert not PerhapsKnown().has_message([DIGESTS[0]])
