"""What the operator decided: pauses, rates and orders for domains, for every queue of the ledger.

In    a connection: the reader's, or the writer's inside its transaction
Out   rows of `operator`, `pauses` and `domain_orders`, and back
Not here  who decided and why (action_rows.py)
"""

from __future__ import annotations

import sqlite3

from drainer.errors import OperatorStateChanged
from drainer.ledger.columns import stored_text, text_in
from drainer.ledger.records import DomainOrder, OperatorState, Pause


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
    return OperatorState(by_list, messages_per_s, recipients_per_s, version, _domain_orders(reader))


def _domain_orders(reader: sqlite3.Connection) -> tuple[DomainOrder, ...]:
    rows = reader.execute("SELECT destination, per_s, paused_until, since, by, reason FROM domain_orders")
    orders = (
        DomainOrder(text_in(destination), per_s, paused_until_s, since_s, text_in(by), text_in(reason))
        for destination, per_s, paused_until_s, since_s, by, reason in rows.fetchall()
    )
    return tuple(sorted(orders, key=lambda order: order.destination))


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
    writer.execute("DELETE FROM domain_orders", ())
    writer.executemany(
        "INSERT OR REPLACE INTO domain_orders (destination, per_s, paused_until, since, by, reason)"
        " VALUES (?, ?, ?, ?, ?, ?)",
        [
            (
                stored_text(order.destination),
                order.per_s,
                order.paused_until_s,
                order.since_s,
                stored_text(order.by),
                stored_text(order.reason),
            )
            for order in state.domains
        ],
    )
