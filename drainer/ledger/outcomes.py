"""Outcomes that need no attempt, and recipients of a dropped entry that wait again. Check first, then write.

In    a Writer, and calls from within a group's transaction (group_commit.py)
Out   rows of `deliveries`, `waiting` and `attempts`; IllegalTransition, with nothing written, for what states.py forbids
Not here  how an attempt ends (attempts.py)
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from drainer.ledger.attempts import Attempts
from drainer.ledger.columns import (
    CODES,
    Stored,
    delivery_ids,
    keys_of,
    split_keys,
    stored_addresses,
    stored_filebase,
    stored_text,
)
from drainer.ledger.forgetting import forget_deliveries
from drainer.ledger.known_recipients import AttemptRow, entry_of, final_rows, first_entry
from drainer.ledger.records import RECIPIENT_KEY_BYTES, MessageRecord, NewDsn, Outcome, RecipientKey
from drainer.ledger.settle_rows import settle, supersede, waiting_states
from drainer.ledger.states import State, check_record
from drainer.ledger.writer import Writer


class Outcomes:
    def __init__(self, writer: Writer, attempts: Attempts) -> None:
        self._writer = writer
        self._attempts = attempts

    def record(
        self, name: str, message: MessageRecord, outcomes: Sequence[Outcome], dsns: Sequence[NewDsn] = ()
    ) -> tuple[NewDsn, ...]:
        """Returns the DSNs that are owed now."""
        filebase = stored_filebase(name)
        sharing = self._writer.identities.sharing(message.identity)
        keyed = [(outcome, keys_of(outcome.recipients)) for outcome in outcomes if outcome.recipients]
        before = self._states_for_entry(sharing, filebase)
        for outcome, keys in keyed:
            for key in keys:
                check_record(before.get(key, State.PENDING), outcome.state)
            before.update(dict.fromkeys(keys, outcome.state))
        if not keyed:
            return ()
        owed = self._attempts.not_reported(dsns)
        target = self._writer.message(message, filebase, sharing)
        for outcome, keys in keyed:
            supersede(self._writer, [*sharing, target], filebase, frozenset(keys), outcome.state)
            addresses, reply = stored_addresses(outcome.recipients), stored_text(outcome.reply)
            if outcome.state is State.IN_DOUBT:
                row = AttemptRow(self._writer.queue, target, State.IN_DOUBT, filebase, keys)
                self._attempts.insert(outcome.attempt_id, row, outcome.at_s, "", reply, addresses)
            else:
                settle(self._writer, target, filebase, outcome.state, reply, outcome.at_s, keys, addresses)
        return owed

    def put_back(
        self, name: str, message: MessageRecord, skipped: Collection[RecipientKey], waiting: Sequence[Outcome]
    ) -> None:
        """Recipients this entry SKIPPED are owed again; those of `waiting` wait again, unless settled since."""
        writer, filebase = self._writer, stored_filebase(name)
        self._unskip(writer.identities.sharing(message.identity), filebase, frozenset(skipped))
        sharing = writer.identities.sharing(message.identity)
        own = self._states_for_entry(sharing, filebase)
        bound = {key for m in sharing for key in writer.known.of(m).delivered}
        bound.update(key for m in sharing for attempt in writer.known.of(m).attempts.values() for key in attempt.keys)
        for outcome in waiting:
            addresses, keys = [], []
            for address, key in zip(outcome.recipients, keys_of(outcome.recipients), strict=True):
                # HELD already: the entry had left, and its row has no addresses any more.
                may_wait = (State.PENDING, State.DEFERRED, outcome.state)
                if key not in bound and own.get(key, State.PENDING) in may_wait:
                    addresses.append(address)
                    keys.append(key)
            if keys:
                target = writer.message(message, filebase, writer.identities.sharing(message.identity))
                supersede(writer, [*sharing, target], filebase, frozenset(keys), outcome.state)
                reply = stored_text(outcome.reply)
                settle(writer, target, filebase, outcome.state, reply, outcome.at_s, keys, stored_addresses(addresses))

    def _unskip(self, messages: Iterable[int], filebase: Stored, keys: frozenset[RecipientKey]) -> None:
        gone = []
        for message in messages:
            first = first_entry(self._writer.connection, message)
            for row, queue, own, joined in self._writer.execute(
                "SELECT id, queue, filebase, recipients FROM deliveries WHERE id BETWEEN ? AND ? AND state = ?",
                (*delivery_ids(message), CODES[State.SKIPPED]),
            ).fetchall():
                left = [key for key in split_keys(joined) if key not in keys]
                is_own = entry_of(queue, own, first) == self._writer.entry(filebase)
                if not is_own or len(left) * RECIPIENT_KEY_BYTES == len(joined):
                    continue
                if left:
                    self._writer.execute("UPDATE deliveries SET recipients = ? WHERE id = ?", (b"".join(left), row))
                else:
                    gone.append(row)
        forget_deliveries(self._writer, gone)

    def _states_for_entry(self, messages: Sequence[int], filebase: Stored) -> dict[RecipientKey, State]:
        entry = self._writer.entry(filebase)
        found: dict[RecipientKey, State] = {}
        for message in messages:
            first = first_entry(self._writer.connection, message)
            for state, own, keys in final_rows(self._writer.connection, message, first):
                if own == entry:
                    found.update(dict.fromkeys(keys, state))
            for attempt in self._writer.known.of(message).attempts.values():
                if (attempt.queue, attempt.filebase) == entry:
                    found.update(dict.fromkeys(attempt.keys, attempt.state))
        return waiting_states(self._writer, messages, filebase) | found  # SKIPPED, although it was HELD
