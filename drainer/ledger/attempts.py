"""Attempts: opened, split, closed and resolved, inside the writer's transaction. Check first, then write.

In    a Writer, and calls from within a group's transaction (group_commit.py)
Out   rows of `attempts`; IllegalTransition, with nothing written, for what states.py does not allow
Not here  outcomes that need no attempt (outcomes.py)

INVARIANT repeated-is-the-same: a write whose answer was lost may be asked for (`state_of`) and made again. The caller made
the attempt's id, so the ledger recognises the second writing of an attempt, of its end and of its part, and changes nothing.
  Held by tests/contract/test_repeated.py and tests/ledger/test_lost_answer.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from drainer.errors import IllegalTransition
from drainer.ledger.columns import (
    CODES,
    END_CODES,
    STATES,
    Stored,
    addresses_in,
    filebase_in,
    keys_of,
    stored_addresses,
    stored_filebase,
    stored_text,
    text_in,
)
from drainer.ledger.evidence import Evidence, doubt_resolved
from drainer.ledger.known_recipients import AttemptRow
from drainer.ledger.records import AttemptId, NewAttempt, NewDsn, RecipientKey, recipient_key
from drainer.ledger.settle_rows import settle, supersede, waiting_states
from drainer.ledger.states import State, check, check_close, check_resolve, check_split
from drainer.ledger.tables import ENDS_REMEMBERED, end_of, first_slot
from drainer.ledger.writer import Writer


class Attempts:
    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self._execute = writer.execute
        self._ended = self._last_number()

    def claimed(self) -> None:
        """The writer has another queue."""
        self._ended = self._last_number()

    def open(self, attempt: NewAttempt, keys: list[RecipientKey]) -> bool:
        """keys: recipient_key of each recipient. Returns False if this very attempt was opened before."""
        filebase = stored_filebase(attempt.filebase)
        sharing = self._writer.identities.sharing(attempt.message.identity)
        if sharing:
            wanted = frozenset(keys)
            try:
                self._require_free(sharing, filebase, wanted)
            except IllegalTransition:
                if self._is_written(attempt, filebase):
                    return False
                raise
            supersede(self._writer, sharing, filebase, wanted, State.ATTEMPTING)
        row = AttemptRow(
            self._writer.queue,
            self._writer.message(attempt.message, filebase, sharing),
            State.ATTEMPTING,
            filebase,
            keys,
        )
        self.insert(
            attempt.attempt_id, row, attempt.at_s, stored_text(attempt.reverse_path), "",
            stored_addresses(attempt.recipients),
        )  # fmt: skip
        self._writer.open_attempts[attempt.attempt_id.bytes] = row
        self._writer.count_sent(attempt.at_s, len(attempt.recipients))
        return True

    def withdraw(self, attempt: NewAttempt) -> None:
        stored_id = attempt.attempt_id.bytes
        if row := self._writer.open_attempts.pop(stored_id, None):
            self._writer.known.end(stored_id, row.message)
        self._execute("DELETE FROM attempts WHERE id = ?", (stored_id,))
        self._writer.count_sent(attempt.at_s, -len(attempt.recipients))

    def close(
        self, attempt_id: AttemptId, state: State, reply: str, at_s: float, dsns: Sequence[NewDsn] = ()
    ) -> tuple[NewDsn, ...] | None:
        """Returns the DSNs that are owed now. None: it has ended so before, by this very write."""
        attempt = self._to_end(attempt_id, state, reply, at_s)
        if attempt is None:
            return None
        check_close(attempt.state, state)
        owed = self.not_reported(dsns)
        self._end(attempt_id, attempt, state, reply, at_s)
        self._writer.count("transactions", 1)
        return owed

    def split(self, attempt_id: AttemptId, recipients: Sequence[str], part_id: AttemptId) -> None:
        attempt = self._row(attempt_id)
        if attempt is None:
            raise _no_attempt(attempt_id)
        ((at_s, reverse_path, joined),) = self._execute(
            "SELECT at, reverse_path, addresses FROM attempts WHERE id = ?", (attempt_id.bytes,)
        ).fetchall()
        named, part = addresses_in(joined), stored_addresses(recipients)
        if (part,) in self._execute("SELECT addresses FROM attempts WHERE id = ?", (part_id.bytes,)).fetchall():
            return
        check_split(attempt.state, named, recipients)
        rest = tuple(address for address in named if address not in recipients)
        self._writer.open_attempts.pop(attempt_id.bytes, None)
        self._execute("UPDATE attempts SET addresses = ? WHERE id = ?", (stored_addresses(rest), attempt_id.bytes))
        self._writer.known.open(attempt_id.bytes, replace(attempt, keys=keys_of(rest)))
        self.insert(part_id, replace(attempt, keys=keys_of(recipients)), at_s, reverse_path, "", part)

    def resolve(self, attempt_id: AttemptId, state: State, why: str, at_s: float) -> None:
        attempt = self._to_end(attempt_id, state, why, at_s)
        if attempt is None:
            return
        check_resolve(attempt.state, state)
        if attempt.state is State.IN_DOUBT:
            self._writer.write_evidence([self._resolved(attempt_id, state, why, at_s)])
        self._end(attempt_id, attempt, state, why, at_s)

    def insert(
        self,
        attempt_id: AttemptId,
        attempt: AttemptRow,
        at_s: float,
        reverse_path: Stored,
        reply: Stored,
        addresses: str,
    ) -> None:
        """Raises ValueError if the id is another attempt's."""
        written = self._execute(
            "INSERT OR IGNORE INTO attempts (id, queue, message, state, at, filebase, reverse_path, reply, addresses)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                attempt_id.bytes, attempt.queue, attempt.message, CODES[attempt.state], at_s, attempt.filebase,
                reverse_path, reply, addresses,
            ),
        )  # fmt: skip
        if not written.rowcount:
            raise ValueError(f"{attempt_id} is another attempt's id")
        self._writer.known.open(attempt_id.bytes, attempt)

    def not_reported(self, dsns: Sequence[NewDsn]) -> tuple[NewDsn, ...]:
        """The DSNs without recipients that failed before, by whatever entry of their message: a DSN reported them."""
        owed = []
        for dsn in dsns:
            failed: set[RecipientKey] = set()
            for message in self._writer.identities.sharing(dsn.message.identity):
                failed |= self._writer.known.of(message).failed()
            recipients = tuple(r for r in dsn.recipients if recipient_key(r.owed) not in failed)
            if recipients:
                owed.append(replace(dsn, recipients=recipients))
        return tuple(owed)

    def _require_free(self, messages: Sequence[int], filebase: Stored, wanted: frozenset[RecipientKey]) -> None:
        """Raises IllegalTransition unless a second copy to none of them would follow."""
        for message in messages:
            known = self._writer.known.of(message)
            if not wanted.isdisjoint(known.delivered):
                check(State.DELIVERED, State.ATTEMPTING)
            own = known.final.get(self._writer.entry(filebase), {})
            for key in wanted & own.keys():
                check(own[key], State.ATTEMPTING)
            for attempt in known.attempts.values():
                if not wanted.isdisjoint(attempt.keys):
                    check(attempt.state, State.ATTEMPTING)
        for key, before in waiting_states(self._writer, messages, filebase).items():
            if key in wanted:
                check(before, State.ATTEMPTING)

    def _is_written(self, attempt: NewAttempt, filebase: Stored) -> bool:
        """Whether this very attempt is open already."""
        row = self._execute(
            "SELECT queue, state, at, filebase, reverse_path, addresses FROM attempts WHERE id = ?",
            (attempt.attempt_id.bytes,),
        ).fetchone()
        return bool(
            row
            == (
                self._writer.queue,
                CODES[State.ATTEMPTING],
                attempt.at_s,
                filebase,
                stored_text(attempt.reverse_path),
                stored_addresses(attempt.recipients),
            )
        )

    def _to_end(self, attempt_id: AttemptId, state: State, words: str, at_s: float) -> AttemptRow | None:
        """The attempt that is about to end so; None: it has ended so, by this very write. Raises IllegalTransition."""
        attempt = self._row(attempt_id)
        if attempt is None:
            if end_of(self._writer.connection, self._writer.queue, attempt_id) == (state, at_s):
                return None
            raise _no_attempt(attempt_id)
        if attempt.state is state is State.IN_DOUBT:
            ((reply,),) = self._execute("SELECT reply FROM attempts WHERE id = ?", (attempt_id.bytes,)).fetchall()
            if reply == stored_text(words):
                return None
        return attempt

    def _row(self, attempt_id: AttemptId) -> AttemptRow | None:
        """None: no attempt of this queue is open or in doubt under this id."""
        attempt = self._writer.open_attempts.get(attempt_id.bytes)
        if attempt is not None:
            return attempt
        row = self._execute(
            "SELECT message, state, filebase, addresses FROM attempts WHERE id = ? AND queue = ?",
            (attempt_id.bytes, self._writer.queue),
        ).fetchone()
        if row is None:
            return None
        message, code, filebase, addresses = row
        return AttemptRow(self._writer.queue, message, STATES[code], filebase, keys_of(addresses_in(addresses)))

    def _end(self, attempt_id: AttemptId, attempt: AttemptRow, state: State, reply: str, at_s: float) -> None:
        self._writer.open_attempts.pop(attempt_id.bytes, None)
        if state is State.IN_DOUBT:
            self._execute(
                "UPDATE attempts SET state = ?, reply = ? WHERE id = ?",
                (CODES[state], stored_text(reply), attempt_id.bytes),
            )
            self._writer.known.open(attempt_id.bytes, replace(attempt, state=state))
            return
        addresses = ""
        if state in (State.FAILED, State.HELD):
            ((addresses,),) = self._execute(
                "SELECT addresses FROM attempts WHERE id = ?", (attempt_id.bytes,)
            ).fetchall()
        self._execute("DELETE FROM attempts WHERE id = ?", (attempt_id.bytes,))
        self._writer.known.end(attempt_id.bytes, attempt.message)
        self._remember_end(attempt_id, state, at_s)
        if state is not State.PENDING:
            settle(
                self._writer,
                attempt.message,
                attempt.filebase,
                state,
                stored_text(reply),
                at_s,
                attempt.keys,
                addresses,
            )

    def _remember_end(self, attempt_id: AttemptId, state: State, at_s: float) -> None:
        self._ended += 1
        slot = first_slot(self._writer.queue) + self._ended % ENDS_REMEMBERED
        self._execute(
            "INSERT OR REPLACE INTO ended_attempts (slot, number, attempt, state, at) VALUES (?, ?, ?, ?, ?)",
            (slot, self._ended, attempt_id.bytes, END_CODES[state], at_s),
        )

    def _last_number(self) -> int:
        """Gaps that a rollback leaves do no harm."""
        start = first_slot(self._writer.queue)
        ((last,),) = self._execute(
            "SELECT max(number) FROM ended_attempts WHERE slot BETWEEN ? AND ?", (start, start + ENDS_REMEMBERED - 1)
        ).fetchall()
        return int(last or 0)

    def _resolved(self, attempt_id: AttemptId, state: State, why: str, at_s: float) -> Evidence:
        ((filebase, addresses, list_id, message_id),) = self._execute(
            "SELECT a.filebase, a.addresses, l.name, m.message_id FROM attempts a JOIN messages m ON m.id = a.message"
            " JOIN lists l ON l.id = m.list WHERE a.id = ?",
            (attempt_id.bytes,),
        ).fetchall()
        return doubt_resolved(
            filebase_in(filebase), text_in(list_id), text_in(message_id), addresses_in(addresses), state, why, at_s
        )


def _no_attempt(attempt_id: AttemptId) -> IllegalTransition:
    return IllegalTransition(f"there is no open attempt {attempt_id} of this queue")
