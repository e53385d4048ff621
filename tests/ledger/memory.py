"""The ledger's promise kept in dictionaries, for one queue: a model that is easy to read, for tests.

In    the calls of contract.py
Out   the answers that sqlite.py gives; the contract suite and a stateful test hold them equal
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from drainer.clock import Clock, SystemClock
from drainer.errors import IllegalTransition, OperatorStateChanged
from drainer.ledger.actions import Action, NewAction, PutBack, Step, undone_along
from drainer.ledger.evidence import (
    DSNS,
    Account,
    Baseline,
    Ended,
    Event,
    Evidence,
    Failure,
    Fate,
    Finish,
    Some,
    baselines_to_forget,
    counted_since,
    doubt_resolved,
    sum_of,
    too_short,
)
from drainer.ledger.records import (
    Akin,
    AttemptId,
    Coverage,
    Deferral,
    DsnBacklog,
    History,
    Hold,
    JournalLine,
    Learnt,
    MessageRecord,
    NewAttempt,
    NewDsn,
    OpenAttempt,
    OperatorState,
    Outcome,
    OwedDsn,
    Queue,
    RecipientKey,
    Totals,
    is_of_decorated,
    kin_of,
    recipient_key,
)
from drainer.ledger.states import (
    SETTLED,
    DsnState,
    State,
    check,
    check_close,
    check_dsn,
    check_record,
    check_resolve,
    check_split,
)
from drainer.ledger.tables import ENDS_REMEMBERED

_BINDING = frozenset({State.DELIVERED, State.ATTEMPTING, State.IN_DOUBT})
"""What one entry did that binds every other entry of the same message."""

_NAMED = frozenset({State.FAILED, State.IN_DOUBT, State.HELD, State.ATTEMPTING})


@dataclass(slots=True, eq=False)
class _Row:
    """Some recipients of one entry of one message, all in one state. `attempt_id` while an attempt is unresolved; `has_left`
    where they are HELD and the entry has ended."""

    message: MessageRecord
    filebase: str
    state: State
    at_s: float
    recipients: tuple[str, ...]
    reply: str = ""
    reverse_path: str = ""
    attempt_id: AttemptId | None = None
    has_left: bool = False
    learnt: frozenset[RecipientKey] = frozenset()

    def recipient_keys(self) -> frozenset[RecipientKey]:
        return self.learnt or frozenset(map(recipient_key, self.recipients))


class MemoryLedger:
    """The Ledger in memory."""

    def __init__(self, clock: Clock | None = None) -> None:
        self._since_s = (clock or SystemClock()).now_s()
        self._messages: dict[frozenset[bytes], MessageRecord] = {}
        self._rows: list[_Row] = []
        self._ends: dict[AttemptId, tuple[State, float]] = {}
        self._queue = Queue("", "", "")
        self._deferrals: dict[str, Deferral] = {}
        self._holds: dict[str, Hold] = {}
        self._dsns: dict[int, OwedDsn] = {}
        self._last_dsn = 0
        self._operator = OperatorState()
        self._journal: list[JournalLine] = []
        self._actions: dict[int, NewAction] = {}
        self._steps: dict[tuple[int, str], Step] = {}
        self._counts: dict[str, int] = {}
        self._evidence: list[Evidence] = []
        self._ended: dict[tuple[str, str, str], Ended] = {}
        self._events: list[Event] = []
        self._kept: dict[str, bytes] = {}
        self._sent: dict[float, int] = {}
        self._baselines: list[Baseline] = []

    async def open(self) -> None:
        """Nothing to do."""

    async def close(self) -> None:
        """Nothing to do: what was written stays for the next open, as it would on disk."""

    @property
    def is_in_place(self) -> bool:
        return True

    async def queues(self) -> list[Queue]:
        return [self._queue]

    async def claim(self, queue: Queue, known_as: str | None = None) -> None:
        assert self._queue.queue_id in {queue.queue_id, known_as}, "the model has one queue"
        self._queue = queue

    async def history(self, identity: Sequence[bytes]) -> History:
        return _history(self._sharing(identity))

    async def histories(self, identities: Sequence[Sequence[bytes]]) -> list[History]:
        return [await self.history(identity) for identity in identities]

    async def kin_known(self, digests: Collection[bytes]) -> frozenset[bytes]:
        kin = {kin_of(digest) for identity in self._messages for digest in identity}
        return frozenset(map(kin_of, digests)) & kin

    async def akin(self, identity: Sequence[bytes]) -> list[Akin]:
        kin = set(map(kin_of, identity))
        found = []
        for digests, message in self._messages.items():
            near = [digest for digest in digests if kin_of(digest) in kin]
            if near and digests.isdisjoint(identity):
                rows = (row for row in self._rows if row.message is message)
                found.append(Akin(any(map(is_of_decorated, near)), _history(rows)))
        return found

    def begin_attempt(self, attempt: NewAttempt) -> Awaitable[AttemptId]:
        return self.open_attempt(attempt)

    async def open_attempt(self, attempt: NewAttempt) -> AttemptId:
        wanted = frozenset(map(recipient_key, attempt.recipients))
        sharing = self._sharing(attempt.message.identity)
        try:
            for row in sharing:
                if (row.state in _BINDING or row.filebase == attempt.filebase) and wanted & row.recipient_keys():
                    check(row.state, State.ATTEMPTING)
        except IllegalTransition:
            if any(_is_written(row, attempt) for row in sharing):
                return attempt.attempt_id
            raise
        self._require_new(attempt.attempt_id)
        self._supersede(sharing, attempt.filebase, wanted, State.ATTEMPTING)
        self._rows.append(
            _Row(
                self._message(attempt.message),
                attempt.filebase,
                State.ATTEMPTING,
                attempt.at_s,
                attempt.recipients,
                "",
                attempt.reverse_path,
                attempt.attempt_id,
            )
        )
        self._count_sent(attempt.at_s, len(attempt.recipients))
        return attempt.attempt_id

    def _count_sent(self, at_s: float, recipients: int) -> None:
        bucket = at_s // 10 * 10
        self._sent[bucket] = self._sent.get(bucket, 0) + recipients

    async def sent_since(self, since_s: float) -> list[tuple[float, int]]:
        return sorted((at_s, number) for at_s, number in self._sent.items() if at_s >= since_s // 10 * 10)

    async def redate_sent(self, now_s: float, set_forward_s: float = 0.0) -> None:
        before_s = now_s - set_forward_s
        known, self._sent = self._sent, {}
        for at_s, number in known.items():
            is_of_the_day = (before_s - 86_400) // 10 * 10 <= at_s <= before_s + 60
            later_s = -(-set_forward_s // 10) * 10 if is_of_the_day else 0.0
            self._count_sent(at_s + later_s if at_s + later_s <= now_s + 60 else now_s, number)

    async def attempt(self, attempt_id: AttemptId) -> State | None:
        for row in self._rows:
            if row.attempt_id == attempt_id:
                return row.state
        return self._ends[attempt_id][0] if attempt_id in self._ends else None

    async def close_attempt(
        self,
        attempt_id: AttemptId,
        state: State,
        reply: str,
        at_s: float,
        dsns: Sequence[NewDsn] = (),
        finish: Finish | None = None,
    ) -> None:
        row = self._to_end(attempt_id, state, reply, at_s)
        if row is None:
            return
        check_close(row.state, state)
        self._owe(dsns)
        self._end_attempt(row, state, reply, at_s)
        await self.count({"transactions": 1})
        await self._finish(finish)

    async def split_attempt(self, attempt_id: AttemptId, recipients: Sequence[str], part_id: AttemptId) -> None:
        row = self._attempt(attempt_id)
        if any(other.attempt_id == part_id and other.recipients == tuple(recipients) for other in self._rows):
            return
        check_split(row.state, row.recipients, recipients)
        self._require_new(part_id)
        row.recipients = tuple(address for address in row.recipients if address not in recipients)
        self._rows.append(replace(row, recipients=tuple(recipients), attempt_id=part_id))

    async def record(
        self,
        filebase: str,
        message: MessageRecord,
        outcomes: Sequence[Outcome],
        dsns: Sequence[NewDsn] = (),
        step: Step | None = None,
        finish: Finish | None = None,
    ) -> None:
        sharing = self._sharing(message.identity)
        before = _states(sharing, filebase)
        for outcome in outcomes:
            keys = frozenset(map(recipient_key, outcome.recipients))
            for key in keys:
                check_record(before.get(key, State.PENDING), outcome.state)
            before.update(dict.fromkeys(keys, outcome.state))
        if any(outcome.recipients for outcome in outcomes):
            self._owe(dsns)
        for outcome in outcomes:
            if outcome.recipients:
                self._write_outcome(filebase, self._message(message), outcome)
        await self._finish(finish)
        self._write_step(step)

    async def unresolved_attempts(self) -> list[OpenAttempt]:
        found = (
            OpenAttempt(
                row.attempt_id,
                row.state,
                row.filebase,
                row.message.list_id,
                row.message.message_id,
                row.reverse_path,
                row.recipients,
                row.at_s,
            )
            for row in self._rows
            if row.attempt_id is not None
        )
        return sorted(found, key=lambda attempt: (attempt.at_s, attempt.attempt_id))

    async def resolve(self, attempt_id: AttemptId, state: State, why: str, at_s: float) -> None:
        row = self._to_end(attempt_id, state, why, at_s)
        if row is None:
            return
        check_resolve(row.state, state)
        if row.state is State.IN_DOUBT:
            self._evidence.append(
                doubt_resolved(
                    row.filebase, row.message.list_id, row.message.message_id, row.recipients, state, why, at_s
                )
            )
        self._end_attempt(row, state, why, at_s)

    async def finish_entry(
        self,
        filebase: str,
        counts: Mapping[str, int] | None = None,
        ended: Ended | None = None,
        evidence: Sequence[Evidence] = (),
        step: Step | None = None,
    ) -> None:
        self._write_step(step)
        self._deferrals.pop(filebase, None)
        self._holds.pop(filebase, None)
        self._rows = [row for row in self._rows if row.filebase != filebase or row.state is not State.DEFERRED]
        for row in self._rows:
            row.has_left |= ended is not None and row.filebase == filebase and row.state is State.HELD
        self._evidence += evidence
        self._add_ended(ended)
        await self.count(counts or {})

    async def _finish(self, finish: Finish | None) -> None:
        if finish is not None:
            await self.finish_entry(finish.filebase, finish.counts, finish.ended, finish.evidence)

    def _add_ended(self, ended: Ended | None) -> None:
        if ended is not None:
            key = (ended.fate, ended.list_id, ended.kind)
            self._ended[key] = sum_of(self._ended[key], ended) if key in self._ended else ended

    async def dsns(
        self, state: DsnState, limit: int, due_by_s: float = math.inf, except_lists: Collection[str] = ()
    ) -> list[OwedDsn]:
        found = [
            dsn
            for dsn in self._dsns.values()
            if dsn.state is state and dsn.due_s <= due_by_s and dsn.list_id not in except_lists
        ]
        return sorted(found, key=lambda dsn: (dsn.due_s, dsn.dsn_id))[:limit]

    async def dsn_backlog(self) -> DsnBacklog:
        dsns = self._dsns.values()
        return DsnBacklog(
            len(dsns),
            sum(dsn.state is DsnState.IN_DOUBT for dsn in dsns),
            max((dsn.failed_at_s for dsn in dsns if dsn.tried_at_s is None), default=None),
            min((dsn.due_s for dsn in dsns if dsn.state is DsnState.OWED), default=None),
        )

    async def move_dsns(
        self,
        dsn_ids: Sequence[int],
        state: DsnState,
        at_s: float,
        due_s: float = 0.0,
        journal: JournalLine | None = None,
    ) -> None:
        for dsn_id in dsn_ids:
            check_dsn(self._dsns[dsn_id].state if dsn_id in self._dsns else None, state)
        for dsn_id in dsn_ids:
            dsn = self._dsns.pop(dsn_id)
            if state is DsnState.SENDING:
                self._dsns[dsn_id] = replace(dsn, state=state, tried_at_s=at_s)
                self._count_sent(at_s, 1)
            elif state is DsnState.OWED:
                tried_at_s = at_s if dsn.tried_at_s is None else dsn.tried_at_s
                self._dsns[dsn_id] = replace(
                    dsn, state=state, due_s=due_s, attempts=dsn.attempts + 1, tried_at_s=tried_at_s
                )
            elif state is DsnState.IN_DOUBT:
                self._dsns[dsn_id] = replace(dsn, state=state)
            else:
                await self.count({f"dsns_{state}": 1})
                addresses = tuple(recipient.owed for recipient in dsn.recipients)
                self._evidence.append(
                    Evidence(
                        Fate(f"dsn_{state}"),
                        dsn.filebase,
                        at_s,
                        dsn.list_id,
                        dsn.message_id,
                        len(addresses),
                        addresses=addresses,
                        detail=f"to {dsn.reverse_path}",
                    )
                )
        if journal is not None:
            self._journal.append(journal)

    def _owe(self, dsns: Sequence[NewDsn]) -> None:
        for dsn in dsns:
            failed = {
                key
                for row in self._sharing(dsn.message.identity)
                if row.state is State.FAILED
                for key in row.recipient_keys()
            }
            recipients = tuple(r for r in dsn.recipients if recipient_key(r.owed) not in failed)
            if recipients:
                self._last_dsn += 1
                self._dsns[self._last_dsn] = OwedDsn(
                    dsn_id=self._last_dsn,
                    state=DsnState.OWED,
                    filebase=dsn.filebase,
                    list_id=dsn.message.list_id,
                    message_id=dsn.message.message_id,
                    reverse_path=dsn.reverse_path,
                    recipients=recipients,
                    headers=dsn.headers,
                    envelope_id=dsn.envelope_id,
                    failed_at_s=dsn.at_s,
                    tried_at_s=None,
                    due_s=dsn.at_s,
                    attempts=0,
                )

    async def learn(self, name: str, learnt: Sequence[Learnt]) -> int:
        news = 0
        for one in learnt:
            rows = [row for row in self._sharing(one.message.identity) if row.state is State.DELIVERED]
            keys = one.recipients.difference(*(row.recipient_keys() for row in rows))
            message = self._message(one.message)
            if keys:
                self._rows.append(_Row(message, name, State.DELIVERED, one.at_s, (), learnt=keys))
                news += len(keys)
        return news

    async def unlearn(self, name: str) -> int:
        return self._forget([row for row in self._rows if row.filebase == name])

    async def undo_failures(self, filebases: Collection[str], at_s: float) -> int:
        told = {
            (line.filebase, address)
            for line in self._evidence
            if line.fate is Fate.DSN_SENT
            for address in line.addresses
        } | {
            (dsn.filebase, recipient.owed)
            for dsn in self._dsns.values()
            if dsn.tried_at_s is not None
            for recipient in dsn.recipients
        }
        undone: set[tuple[str, str]] = set()
        gone = []
        for row in self._rows:
            if row.state is State.FAILED and row.filebase in filebases:
                left = tuple(address for address in row.recipients if (row.filebase, address) in told)
                undone |= {(row.filebase, address) for address in row.recipients if address not in left}
                if left:
                    row.recipients = left
                else:
                    gone.append(row)
        self._forget(gone)
        await self.count({"undone_recipients": len(undone)})
        owed = [
            dsn.dsn_id
            for dsn in self._dsns.values()
            if dsn.state is DsnState.OWED and dsn.tried_at_s is None
            if all((dsn.filebase, recipient.owed) in undone for recipient in dsn.recipients)
        ]
        if owed:
            await self.move_dsns(owed, DsnState.DROPPED, at_s)
        return len(undone)

    def _forget(self, gone: Sequence[_Row]) -> int:
        """Messages nothing else is known of go with them. Returns how many recipients that were."""
        self._rows = [row for row in self._rows if not any(row is one for one in gone)]
        kept = {frozenset(row.message.identity) for row in self._rows}
        for row in gone:
            if frozenset(row.message.identity) not in kept:
                self._messages.pop(frozenset(row.message.identity), None)
        return sum(len(row.recipient_keys()) for row in gone)

    async def defer(self, deferral: Deferral) -> None:
        self._deferrals[deferral.filebase] = deferral

    async def deferrals(self) -> list[Deferral]:
        return sorted(self._deferrals.values(), key=lambda deferral: (deferral.due_s, deferral.filebase))

    async def deferral(self, filebase: str) -> Deferral | None:
        return self._deferrals.get(filebase)

    async def hold(self, holds: Sequence[Hold], step: Step | None = None) -> None:
        self._holds.update((hold.filebase, hold) for hold in holds)
        self._write_step(step)

    async def release(
        self,
        filebases: Sequence[str],
        *,
        held_recipients: bool,
        step: Step | None = None,
        held_elsewhere: tuple[Sequence[bytes], Collection[RecipientKey]] | None = None,
    ) -> None:
        self._write_step(step)
        if held_elsewhere is not None:
            identity, keys = held_elsewhere
            self._take_out([row for row in self._sharing(identity) if row.state is State.HELD], keys)
        for filebase in filebases:
            self._holds.pop(filebase, None)
            self._deferrals.pop(filebase, None)
        if held_recipients:
            self._rows = [row for row in self._rows if row.filebase not in filebases or row.state is not State.HELD]

    async def put_back(
        self,
        how: PutBack,
        message: MessageRecord | None,
        waiting: Sequence[Outcome],
        step: Step,
        counts: Mapping[str, int] | None = None,
        ended: Ended | None = None,
    ) -> None:
        if message is not None:
            self._unskip(how.filebase, message, how.skipped)
            sharing = self._sharing(message.identity)
            own = _states(sharing, how.filebase)
            bound = {key for row in sharing if row.state in _BINDING for key in row.recipient_keys()}
            for outcome in waiting:
                free = tuple(
                    address
                    for address, key in ((address, recipient_key(address)) for address in outcome.recipients)
                    if key not in bound
                    and own.get(key, State.PENDING) in (State.PENDING, State.DEFERRED, outcome.state)
                )
                if free:
                    self._write_outcome(how.filebase, self._message(message), replace(outcome, recipients=free))
        if how.is_held:
            self._rows = [row for row in self._rows if row.filebase != how.filebase or row.state is not State.DEFERRED]
        self._holds.pop(how.filebase, None)
        self._deferrals.pop(how.filebase, None)
        if how.hold is not None:
            self._holds[how.filebase] = how.hold
        if how.deferral is not None:
            self._deferrals[how.filebase] = how.deferral
        self._evidence = [
            line for line in self._evidence if line.fate is not Fate.DROPPED or line.filebase != how.filebase
        ]
        self._add_ended(ended)
        self._write_step(step)
        await self.count(counts or {})

    def _unskip(self, filebase: str, message: MessageRecord, keys: Collection[RecipientKey]) -> None:
        gone = []
        for row in self._sharing(message.identity):
            if row.filebase == filebase and row.state is State.SKIPPED:
                row.recipients = tuple(address for address in row.recipients if recipient_key(address) not in keys)
                if not row.recipients:
                    gone.append(row)
        self._forget(gone)

    def _write_step(self, step: Step | None) -> None:
        if step is None:
            return
        self._steps[step.number, step.filebase] = step
        chain, number = list[int](), step.takes_back
        while number is not None and (taken := self._steps.get((number, step.filebase))):
            chain.append(number)
            number = taken.takes_back
        for number, undone in undone_along(chain, step.number):
            self._steps[number, step.filebase] = replace(self._steps[number, step.filebase], undone_by=undone)

    async def held_recipients(self, filebases: Collection[str]) -> int:
        return sum(len(row.recipients) for row in self._rows if row.filebase in filebases and row.state is State.HELD)

    async def holds(self) -> list[Hold]:
        return sorted(self._holds.values(), key=lambda hold: (hold.at_s, hold.filebase))

    async def hold_of(self, filebase: str) -> Hold | None:
        return self._holds.get(filebase)

    async def operator_state(self) -> OperatorState:
        return self._operator

    async def set_operator_state(
        self, state: OperatorState, journal: JournalLine, action: NewAction | None = None
    ) -> int:
        if state.version != self._operator.version + 1:
            raise OperatorStateChanged(state.version - 1)
        self._operator = replace(
            state,
            pauses=tuple(sorted(state.pauses, key=lambda pause: pause.list_id)),
            domains=tuple(sorted(state.domains, key=lambda order: order.destination)),
        )
        return await self.write_journal(journal, action)

    async def write_journal(self, line: JournalLine, action: NewAction | None = None) -> int:
        self._journal.append(line)
        if action is not None:
            self._actions[len(self._journal)] = action
        return len(self._journal)

    async def end_action(self, number: int, detail: str, at_s: float | None) -> None:
        self._journal[number - 1] = replace(self._journal[number - 1], detail=detail)
        if number in self._actions:
            self._actions[number] = replace(self._actions[number], ended_s=at_s)

    async def actions(self, limit: int = 100) -> list[Action]:
        last = len(self._journal)
        return [self._action(number) for number in range(max(1, last - limit + 1), last + 1)]

    async def action(self, number: int) -> Action | None:
        return self._action(number) if 1 <= number <= len(self._journal) else None

    def _action(self, number: int) -> Action:
        line = self._journal[number - 1]
        steps = [step for step in self._steps.values() if step.number == number]
        undone = sum(step.undone_by is not None for step in steps)
        return Action(
            number, line.at_s, line.by, line.action, line.detail, self._actions.get(number), len(steps), undone
        )

    async def steps(self, number: int) -> list[Step]:
        found = [step for step in self._steps.values() if step.number == number]
        return sorted(found, key=lambda step: step.filebase)

    async def steps_after(self, number: int) -> dict[str, int]:
        return {name: later for later, name in sorted(self._steps) if later > number}

    async def journal(self, limit: int = 100) -> list[JournalLine]:
        return self._journal[-limit:] if limit else []

    async def write_event(self, event: Event) -> None:
        self._events.append(event)
        of_its_kind = [known for known in self._events if known.kind == event.kind]
        forgotten = too_short(of_its_kind)
        if forgotten is not None:
            self._events = [known for known in self._events if known is not of_its_kind[forgotten]]

    async def keep(self, values: Mapping[str, bytes]) -> None:
        self._kept.update(values)

    async def kept(self, name: str) -> bytes | None:
        return self._kept.get(name)

    async def write_baseline(self, at_s: float) -> None:
        self._baselines = sorted(
            [*self._baselines, Baseline(at_s, dict(self._counts), self._all_ended())], key=lambda one: one.at_s
        )
        forgotten = baselines_to_forget([one.at_s for one in self._baselines])
        self._baselines = [one for one in self._baselines if one.at_s not in forgotten]

    def _all_ended(self) -> tuple[Ended, ...]:
        return tuple(sorted(self._ended.values(), key=lambda one: (one.fate, one.list_id, one.kind)))

    async def account(self, limit: int, since_s: float | None = None) -> Account:
        totals, ended, earliest_s = await self.totals(), self._all_ended(), -math.inf
        if since := next((one for one in self._baselines[::-1] if since_s is not None and one.at_s <= since_s), None):
            totals, ended = counted_since(since, totals.counts, ended)
            earliest_s = since.at_s
        failures = [
            Failure(row.filebase, row.message.list_id, row.message.message_id, address, row.reply, float(int(row.at_s)))
            for row in self._rows
            if row.state is State.FAILED and row.at_s >= earliest_s
            for address in row.recipients
        ]
        shown = sorted(failures, key=lambda failure: failure.at_s)[:limit]
        about = {failure.filebase for failure in shown}
        journal = [line for line in self._journal if line.at_s >= earliest_s]
        by_people = [line for line in journal if line.by != "drainer"]
        by_service = [line for line in journal if line.by == "drainer"]
        open_doubts = [attempt for attempt in await self.unresolved_attempts() if attempt.state is State.IN_DOUBT]
        lines = sorted((line for line in self._evidence if line.at_s >= earliest_s), key=lambda line: line.at_s)
        of_fate = {fate: [line for line in lines if line.fate is fate] for fate in Fate}
        return Account(
            totals=totals,
            ended=ended,
            evidence={fate: Some(len(found), tuple(found[:limit])) for fate, found in of_fate.items() if found},
            failures=Some(len(failures), tuple(shown)),
            dsns={
                (line.filebase, address): line.fate
                for line in lines
                if line.fate in DSNS and line.filebase in about
                for address in line.addresses
            },
            dsns_owed=frozenset(
                (dsn.filebase, recipient.owed) for dsn in self._dsns.values() for recipient in dsn.recipients
            ),
            dsn_backlog=await self.dsn_backlog(),
            open_doubts=tuple(open_doubts),
            holds=tuple(await self.holds()),
            by_people=Some(len(by_people), tuple(by_people[-limit:])),
            by_service=Some(len(by_service), tuple(by_service[-limit:])),
            events=tuple(
                sorted((event for event in self._events if event.at_s >= earliest_s), key=lambda event: event.at_s)
            ),
            kept=dict(self._kept),
            baselines=tuple(one.at_s for one in self._baselines if one.ended),
        )

    async def evidence_of(self, message_id: str, limit: int) -> list[Evidence]:
        found = [line for line in self._evidence if line.message_id == message_id]
        return sorted(found, key=lambda line: line.at_s)[:limit]

    async def count(self, counts: Mapping[str, int]) -> None:
        for name, count in counts.items():
            self._counts[name] = self._counts.get(name, 0) + count

    async def totals(self) -> Totals:
        return Totals(self._since_s, dict(self._counts))

    async def messages_by_message_id(self, message_id: str) -> list[tuple[MessageRecord, History]]:
        return [
            (message, _history(row for row in self._rows if row.message is message))
            for message in self._messages.values()
            if message.message_id == message_id
        ]

    async def lists(self) -> list[str]:
        return list({message.list_id for message in self._messages.values()})

    async def expire(self, older_than_s: float) -> int:
        kept = {
            frozenset(row.message.identity)
            for row in self._rows
            if (row.state not in SETTLED and not row.has_left) or int(row.at_s) >= older_than_s
        }
        self._evidence = [line for line in self._evidence if line.at_s >= older_than_s]
        self._steps = {key: step for key, step in self._steps.items() if self._journal[key[0] - 1].at_s >= older_than_s}
        gone = self._messages.keys() - kept
        self._rows = [row for row in self._rows if frozenset(row.message.identity) in kept]
        for identity in gone:
            del self._messages[identity]
        return len(gone)

    def _sharing(self, identity: Sequence[bytes]) -> list[_Row]:
        digests = set(identity)
        return [row for row in self._rows if not digests.isdisjoint(row.message.identity)]

    def _message(self, record: MessageRecord) -> MessageRecord:
        """The message of exactly this identity, as it was first written."""
        if not record.identity:
            raise ValueError("a message needs at least one identity digest")
        identity = frozenset(record.identity)
        return self._messages.setdefault(identity, replace(record, identity=tuple(sorted(identity))))

    def _require_new(self, attempt_id: AttemptId) -> None:
        if any(row.attempt_id == attempt_id for row in self._rows):
            raise ValueError(f"{attempt_id} is another attempt's id")

    def _to_end(self, attempt_id: AttemptId, state: State, words: str, at_s: float) -> _Row | None:
        """None: it has ended so, by this very write."""
        try:
            row = self._attempt(attempt_id)
        except IllegalTransition:
            if self._ends.get(attempt_id) == (state, at_s):
                return None
            raise
        return None if row.state is state is State.IN_DOUBT and row.reply == words else row

    def _attempt(self, attempt_id: AttemptId) -> _Row:
        for row in self._rows:
            if row.attempt_id == attempt_id:
                return row
        raise IllegalTransition(f"there is no open attempt {attempt_id}")

    def _end_attempt(self, row: _Row, state: State, reply: str, at_s: float) -> None:
        row.reply = reply
        row.state = state
        if state is State.IN_DOUBT:
            return
        assert row.attempt_id is not None
        self._ends.pop(row.attempt_id, None)
        self._ends[row.attempt_id] = (state, at_s)
        if len(self._ends) > ENDS_REMEMBERED:
            self._ends.pop(next(iter(self._ends)))
        row.attempt_id = None
        row.at_s = at_s
        if state is State.PENDING:
            self._rows.remove(row)
        self._count_recipients(state, row.recipients)

    def _write_outcome(self, filebase: str, message: MessageRecord, outcome: Outcome) -> None:
        keys = frozenset(map(recipient_key, outcome.recipients))
        self._supersede(self._sharing(message.identity), filebase, keys, outcome.state)
        row = _Row(message, filebase, outcome.state, outcome.at_s, outcome.recipients, outcome.reply)
        if outcome.state is State.IN_DOUBT:
            row.attempt_id = outcome.attempt_id
        self._rows.append(row)
        self._count_recipients(outcome.state, outcome.recipients)

    def _supersede(self, rows: Iterable[_Row], filebase: str, keys: frozenset[RecipientKey], by: State) -> None:
        gone = {State.DEFERRED} if by is State.SKIPPED else {State.DEFERRED, State.HELD}
        self._take_out([row for row in rows if row.filebase == filebase and row.state in gone], keys)

    def _take_out(self, rows: Iterable[_Row], keys: Collection[RecipientKey]) -> None:
        for row in rows:
            row.recipients = tuple(address for address in row.recipients if recipient_key(address) not in keys)
        self._rows = [row for row in self._rows if row.recipients or row.learnt]

    def _count_recipients(self, state: State, recipients: Sequence[str]) -> None:
        name = {State.DELIVERED: "delivered_recipients", State.FAILED: "bounced_recipients"}.get(state)
        if name is not None:
            self._counts[name] = self._counts.get(name, 0) + len(recipients)


def _states(rows: Iterable[_Row], filebase: str) -> dict[RecipientKey, State]:
    """Of the entry's recipients. One that was dropped may be HELD for other entries still."""
    waiting_first = sorted(rows, key=lambda row: row.state not in (State.DEFERRED, State.HELD))
    return {key: row.state for row in waiting_first if row.filebase == filebase for key in row.recipient_keys()}


def _is_written(row: _Row, attempt: NewAttempt) -> bool:
    """Whether this very attempt is open already."""
    return (
        row.state is State.ATTEMPTING
        and row.attempt_id == attempt.attempt_id
        and (row.filebase, row.reverse_path, row.recipients, row.at_s)
        == (attempt.filebase, attempt.reverse_path, attempt.recipients, attempt.at_s)
    )


def _history(rows: Iterable[_Row]) -> History:
    coverage = (
        Coverage(
            row.filebase,
            row.state,
            float(int(row.at_s)),
            row.recipient_keys(),
            "" if row.state is State.DELIVERED else row.reply,
            row.recipients if row.state in _NAMED and not row.has_left else (),
        )
        for row in rows
    )
    return History(tuple(sorted(coverage, key=lambda part: (part.at_s, part.filebase, part.state))))
