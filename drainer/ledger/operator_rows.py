"""What the operator decided: pauses and rates, for every queue of the ledger.

In    a connection: the reader's, or the writer's inside its transaction
Out   rows of `operator` and `pauses`, and back
Not here  who decided and why (action_rows.py)
"""

from __future__ import annotations

import sqlite3

from drainer.errors import OperatorStateChanged
from drainer.ledger.columns import stored_text, text_in
from drainer.ledger.records import OperatorState, Pause


def operator_state(reader: sqlite3.Connection) -> OperatorState:
    ((messages_per_s, recipients_per_s, version),) = reader.execute(
        "SELECT messages_per_s, recipients_per_s, version FROM operator"
    ).fetchall()
    rows = reader.execute("SELECT list, since, until, by, reason FROM pauses").fetchall()
    pauses = (
        Pause(text_in(list_id), since, until, text_in(by), text_in(reason))
        for list_id, since, until, by, reason in rows
    )
    by_list = tuple(sorted(pauses, key=lambda pause: pause.list_id))
    return OperatorState(by_list, messages_per_s, recipients_per_s, version)


def write_operator_state(writer: sqlite3.Connection, state: OperatorState) -> None:
    """Raises OperatorStateChanged, with nothing written, unless `state` was made of the one that is in force."""
    changed = writer.execute(
        "UPDATE operator SET messages_per_s = ?, recipients_per_s = ?, version = ? WHERE version = ?",
        (state.messages_per_s, state.recipients_per_s, state.version, state.version - 1),
    ).rowcount
    if not changed:
        raise OperatorStateChanged(state.version - 1)
    writer.execute("DELETE FROM pauses", ())
    writer.executemany(
        "INSERT OR REPLACE INTO pauses (list, since, until, by, reason) VALUES (?, ?, ?, ?, ?)",
        [
            (stored_text(pause.list_id), pause.since_s, pause.until_s, stored_text(pause.by), stored_text(pause.reason))
            for pause in state.pauses
        ],
    )
