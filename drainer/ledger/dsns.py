"""DSNs that are owed: every change to them, inside the writer's transaction. Check first, then write.

In    a Writer, and calls from within a group's transaction (group_commit.py)
Out   rows; IllegalTransition, with nothing written, for what states.py does not allow
Not here  what a DSN says (feed/dsn.py); when it is sent (stages/bounces.py)
"""

from __future__ import annotations

import zlib
from collections.abc import Collection, Mapping, Sequence

from drainer.ledger.columns import (
    DSN_CODES,
    DSN_STATES,
    Stored,
    dsn_recipients_in,
    filebase_in,
    stored_dsn_recipients,
    stored_filebase,
    stored_text,
    text_in,
)
from drainer.ledger.evidence import Evidence, Fate
from drainer.ledger.records import NewDsn
from drainer.ledger.states import DsnState, check_dsn
from drainer.ledger.writer import Writer

DSN_COUNTERS = {DsnState.SENT: "dsns_sent", DsnState.DROPPED: "dsns_dropped"}
"""What a DSN is counted as that is settled."""


class Dsns:
    """Those of the writer's queue."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self._connection = writer.connection

    def owe(self, dsns: Sequence[NewDsn]) -> None:
        if not dsns:
            return
        self._connection.executemany(
            "INSERT INTO dsns (queue, state, at, due, attempts, list, filebase, message_id, reverse_path, envelope_id,"
            " recipients, headers) VALUES (?, ?, ?, ?, 0, ?, ?, ?, ?, ?, ?, ?)",
            [
                (
                    self._writer.queue,
                    DSN_CODES[DsnState.OWED],
                    dsn.at_s,
                    dsn.at_s,
                    stored_text(dsn.message.list_id),
                    stored_filebase(dsn.filebase),
                    stored_text(dsn.message.message_id),
                    stored_text(dsn.reverse_path),
                    stored_text(dsn.envelope_id),
                    stored_dsn_recipients(dsn.recipients),
                    zlib.compress(dsn.headers),
                )
                for dsn in dsns
            ],
        )

    def move(self, dsn_ids: Sequence[int], state: DsnState, at_s: float, due_s: float) -> None:
        for dsn_id in dsn_ids:
            row = self._connection.execute(
                "SELECT state FROM dsns WHERE id = ? AND queue = ?", (dsn_id, self._writer.queue)
            ).fetchone()
            check_dsn(DSN_STATES[row[0]] if row else None, state)
        ids = [(dsn_id,) for dsn_id in dsn_ids]
        if state in DSN_COUNTERS:
            self._writer.write_evidence([self._evidence(dsn_id, Fate(f"dsn_{state}"), at_s) for dsn_id in dsn_ids])
            self._connection.executemany("DELETE FROM dsns WHERE id = ?", ids)
            self._writer.count(DSN_COUNTERS[state], len(ids))
            return
        self._connection.executemany(f"UPDATE dsns SET state = {DSN_CODES[state]} WHERE id = ?", ids)
        if state is DsnState.SENDING:
            self._connection.executemany("UPDATE dsns SET tried = ? WHERE id = ?", [(at_s, *one) for one in ids])
            self._writer.count_sent(at_s, len(ids))
        elif state is DsnState.OWED:
            self._connection.executemany(
                "UPDATE dsns SET due = ?, attempts = attempts + 1, tried = coalesce(tried, ?) WHERE id = ?",
                [(due_s, at_s, *one) for one in ids],
            )

    def drop_owed(self, undone: Mapping[Stored, Collection[str]], at_s: float) -> None:
        """Drop those that report undone failures only and have not been tried.

        undone  by entry, the recipients whose failures are undone
        """
        owed = self._connection.execute(
            f"SELECT id, filebase, recipients FROM dsns WHERE queue = ? AND state = {DSN_CODES[DsnState.OWED]}"
            " AND tried IS NULL",
            (self._writer.queue,),
        )
        gone = [
            dsn_id
            for dsn_id, filebase, joined in owed
            if filebase in undone and all(recipient.owed in undone[filebase] for recipient in dsn_recipients_in(joined))
        ]
        if gone:
            self.move(gone, DsnState.DROPPED, at_s, at_s)

    def _evidence(self, dsn_id: int, fate: Fate, at_s: float) -> Evidence:
        ((filebase, list_id, message_id, reverse_path, joined),) = self._connection.execute(
            "SELECT filebase, list, message_id, reverse_path, recipients FROM dsns WHERE id = ?", (dsn_id,)
        ).fetchall()
        addresses = tuple(recipient.owed for recipient in dsn_recipients_in(joined))
        return Evidence(
            fate,
            filebase_in(filebase),
            at_s,
            text_in(list_id),
            text_in(message_id),
            len(addresses),
            addresses=addresses,
            detail=f"to {text_in(reverse_path)}",
        )
