"""Whatever is asked of them, the ledger in memory and the one on disk give the same answers."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from drainer.clock import StoppedClock
from drainer.errors import IllegalTransition
from drainer.ledger.contract import Ledger
from drainer.ledger.evidence import Account, Ended, Evidence, Fate, Finish, Some
from drainer.ledger.records import (
    AttemptId,
    Deferral,
    DsnRecipient,
    History,
    Hold,
    MessageRecord,
    NewAttempt,
    NewDsn,
    Outcome,
    OwedDsn,
    new_attempt_id,
    recipient_key,
)
from drainer.ledger.sqlite import SqliteLedger
from drainer.ledger.states import DsnState, State
from tests.ledger.memory import MemoryLedger

FILEBASES = [f"1700000000.5+{digit * 40}" for digit in "123"]
DIGESTS = [bytes([number]) * 16 for number in range(3)]
filebases = st.sampled_from(FILEBASES)
identities = st.sets(st.sampled_from(DIGESTS), min_size=1, max_size=2)
messages = identities.map(lambda digests: MessageRecord(tuple(sorted(digests)), "list", f"<{len(digests)}@x>"))
addresses = st.lists(st.sampled_from(["a@x", "b@x", "c@x", "d@X"]), min_size=1, max_size=3, unique=True).map(tuple)
times = st.integers(1000, 1010).map(float)
states = st.sampled_from(State)
dsn_states = st.sampled_from(DsnState)
attempts = st.integers(1, 12)


def owed_for(filebase: str, message: MessageRecord, outcomes: list[Outcome]) -> list[NewDsn]:
    """A DSN for everybody who failed."""
    return [
        NewDsn(
            filebase, message, "b@x", tuple(DsnRecipient(a, a, o.reply) for a in o.recipients), b"A: b\r\n", "", o.at_s
        )
        for o in outcomes
        if o.state is State.FAILED
    ]


async def owed_in(state: DsnState, ledger: Ledger) -> list[OwedDsn]:
    return await ledger.dsns(state, 9, 1012.0)


async def accounted(ledger: Ledger) -> Account:
    """Failures of one second stand in no order."""
    account = await ledger.account(1000)
    failures = sorted(account.failures.lines, key=lambda failure: (failure.at_s, failure.filebase, failure.address))
    return replace(account, failures=Some(account.failures.total, tuple(failures)))


def comparable(history: History) -> list[tuple[Any, ...]]:
    return sorted(
        (part.filebase, part.state, part.at_s, sorted(part.recipients), part.reply, sorted(part.addresses))
        for part in history.coverage
    )


class SameAnswers(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.place = tempfile.TemporaryDirectory(prefix="drainer-ledger-")
        self.ledgers: list[Ledger] = [
            MemoryLedger(StoppedClock()),
            SqliteLedger(Path(self.place.name) / "ledger.sqlite", StoppedClock()),
        ]
        self.attempts: list[NewAttempt] = []
        for ledger in self.ledgers:
            self.loop.run_until_complete(ledger.open())

    def attempt_id(self, number: int) -> AttemptId:
        """Of an attempt that was opened or recorded before, or none at all."""
        return self.attempts[number - 1].attempt_id if number <= len(self.attempts) else new_attempt_id()

    def teardown(self) -> None:
        for ledger in self.ledgers:
            self.loop.run_until_complete(ledger.close())
        self.loop.run_until_complete(self.loop.shutdown_default_executor())
        self.loop.close()
        self.place.cleanup()

    def both(self, call: Callable[[Ledger], Awaitable[Any]]) -> None:
        """The same result, or both refuse."""

        async def one(ledger: Ledger) -> Any:
            try:
                return await call(ledger)
            except IllegalTransition:
                return "refused"
            except ValueError:
                return "senseless"

        first, second = (self.loop.run_until_complete(one(ledger)) for ledger in self.ledgers)
        assert first == second

    @rule(filebase=filebases, message=messages, recipients=addresses, at_s=times)
    def open_attempt(self, filebase: str, message: MessageRecord, recipients: tuple[str, ...], at_s: float) -> None:
        attempt = NewAttempt(filebase, message, "b@x", recipients, at_s)
        self.attempts.append(attempt)
        self.both(lambda ledger: ledger.open_attempt(attempt))

    @rule(number=attempts)
    def open_it_again(self, number: int) -> None:
        if number <= len(self.attempts):
            self.both(lambda ledger: ledger.open_attempt(self.attempts[number - 1]))

    @rule(number=attempts, recipients=addresses)
    def split_attempt(self, number: int, recipients: tuple[str, ...]) -> None:
        whole, part = self.attempt_id(number), new_attempt_id()
        self.both(lambda ledger: ledger.split_attempt(whole, recipients, part))

    @rule(number=attempts, state=states, at_s=times)
    def close_attempt(self, number: int, state: State, at_s: float) -> None:
        attempt = self.attempt_id(number)
        self.both(lambda ledger: ledger.close_attempt(attempt, state, "reply", at_s))
        self.both(lambda ledger: ledger.close_attempt(attempt, state, "reply", at_s))
        self.both(lambda ledger: ledger.attempt(attempt))

    @rule(number=attempts, state=states, at_s=times)
    def close_the_last_attempt_of_an_entry(self, number: int, state: State, at_s: float) -> None:
        if number <= len(self.attempts):
            ended = Ended(Fate.DELIVERED, "list", recipients=1, bytes=70)
            finish = Finish(self.attempts[number - 1].filebase, {"delivered_entries": 1}, ended)
            attempt = self.attempt_id(number)
            self.both(lambda ledger: ledger.close_attempt(attempt, state, "reply", at_s, finish=finish))
            self.both(lambda ledger: ledger.close_attempt(attempt, state, "reply", at_s, finish=finish))

    @rule(number=attempts, state=states, at_s=times)
    def resolve(self, number: int, state: State, at_s: float) -> None:
        attempt = self.attempt_id(number)
        self.both(lambda ledger: ledger.resolve(attempt, state, "why", at_s))

    @rule(
        filebase=filebases,
        message=messages,
        outcomes=st.lists(st.tuples(states, addresses, times), min_size=1, max_size=2),
    )
    def record(
        self, filebase: str, message: MessageRecord, outcomes: list[tuple[State, tuple[str, ...], float]]
    ) -> None:
        written = [Outcome(state, recipients, "said", at_s) for state, recipients, at_s in outcomes]
        dsns = owed_for(filebase, message, written)
        self.attempts += [NewAttempt(filebase, message, "", o.recipients, o.at_s, o.attempt_id) for o in written]
        self.both(lambda ledger: ledger.record(filebase, message, written, dsns))

    @rule(dsns=st.lists(st.integers(1, 6), min_size=1, max_size=2, unique=True), state=dsn_states, at_s=times)
    def move_dsns(self, dsns: list[int], state: DsnState, at_s: float) -> None:
        self.both(lambda ledger: ledger.move_dsns(dsns, state, at_s, at_s + 5))

    @rule(filebase=filebases)
    def finish_entry(self, filebase: str) -> None:
        ended = Ended(Fate.SUPPRESSED, "list", "exact", recipients=2, bytes=700)
        why = Evidence(Fate.SUPPRESSED, filebase, 1005.0, "list", "<1@x>", 2, of=FILEBASES[0], of_at_s=1001.0)
        self.both(lambda ledger: ledger.finish_entry(filebase, {"delivered_entries": 1}, ended, [why]))

    @rule(filebase=filebases, at_s=times)
    def defer_and_hold(self, filebase: str, at_s: float) -> None:
        self.both(lambda ledger: ledger.defer(Deferral(filebase, 1, at_s, at_s + 9, 1, "450")))
        self.both(lambda ledger: ledger.hold([Hold(filebase, "operator", "", "ann", at_s)]))

    @rule(filebase=filebases, held_recipients=st.booleans())
    def release(self, filebase: str, held_recipients: bool) -> None:
        self.both(lambda ledger: ledger.held_recipients([filebase]))
        self.both(lambda ledger: ledger.release([filebase], held_recipients=held_recipients))

    @rule(message=messages, recipients=addresses)
    def release_a_copy(self, message: MessageRecord, recipients: tuple[str, ...]) -> None:
        elsewhere = message.identity, frozenset(map(recipient_key, recipients))
        self.both(lambda ledger: ledger.release([], held_recipients=True, held_elsewhere=elsewhere))

    @rule(some=st.lists(filebases, max_size=2, unique=True))
    def undo_failures(self, some: list[str]) -> None:
        self.both(lambda ledger: ledger.undo_failures(some, 9_000.0))
        self.both(lambda ledger: ledger.totals())
        self.both(lambda ledger: ledger.sent_since(0))

    @rule(now_s=times, set_forward_s=st.sampled_from([0.0, 7.0, 500.0]))
    def redate_sent(self, now_s: float, set_forward_s: float) -> None:
        self.both(lambda ledger: ledger.redate_sent(now_s, set_forward_s))
        self.both(lambda ledger: ledger.sent_since(0))

    @rule(older_than_s=times)
    def expire(self, older_than_s: float) -> None:
        self.both(lambda ledger: ledger.expire(older_than_s))

    @rule()
    def account(self) -> None:
        self.both(accounted)
        self.both(lambda ledger: ledger.evidence_of("<1@x>", 9))

    @rule()
    def restart(self) -> None:
        self.both(lambda ledger: ledger.close())
        self.both(lambda ledger: ledger.open())

    @invariant()
    def answers_are_the_same(self) -> None:
        for digest in DIGESTS:
            first, second = (
                comparable(self.loop.run_until_complete(ledger.history([digest]))) for ledger in self.ledgers
            )
            assert first == second
            for ledger in self.ledgers:
                (again,) = self.loop.run_until_complete(ledger.histories([[digest]]))
                assert comparable(again) == first
        self.both(lambda ledger: ledger.unresolved_attempts())
        self.both(lambda ledger: ledger.deferrals())
        self.both(lambda ledger: ledger.holds())
        self.both(lambda ledger: ledger.dsn_backlog())
        for state in DsnState:
            self.both(partial(owed_in, state))
        self.both(lambda ledger: ledger.totals())


def test_memory_and_sqlite_give_the_same_answers() -> None:
    run_state_machine_as_test(
        SameAnswers,
        settings=settings(
            max_examples=25,
            stateful_step_count=25,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow],
            derandomize=True,
        ),
    )
