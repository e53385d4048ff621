"""Changes that no sending causes: logs imported, failures undone, old messages forgotten.

In    a Writer, inside its transaction
Out   rows of `messages` and `deliveries`
Not here  attempts and outcomes (attempts.py, outcomes.py)
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from drainer.ledger.columns import (
    CODES,
    DELIVERY_BITS,
    Stored,
    addresses_in,
    delivery_ids,
    keys_of,
    stored_addresses,
    stored_filebase,
)
from drainer.ledger.records import Learnt
from drainer.ledger.settle_rows import write_final
from drainer.ledger.states import State
from drainer.ledger.tables import is_expired, reported_failures
from drainer.ledger.writer import Writer

_MESSAGES_AT_A_TIME = 500


def learn(writer: Writer, name: str, learnt: Sequence[Learnt]) -> int:
    """Returns how many recipients were news."""
    stored, news = stored_filebase(name), 0
    for one in learnt:
        sharing = writer.identities.sharing(one.message.identity)
        target = writer.message(one.message, stored, sharing)
        had = frozenset().union(*(writer.known.of(message).delivered for message in {*sharing, target}))
        if keys := sorted(one.recipients - had):
            write_final(writer, target, stored, State.DELIVERED, "", one.at_s, keys, "")
            news += len(keys)
    return news


def forget_deliveries(writer: Writer, rows: Iterable[int]) -> None:
    """rows: ids in `deliveries`. Messages nothing else is known of go with them."""
    writer.forget_rows()
    gone = list(rows)
    writer.connection.executemany("DELETE FROM deliveries WHERE id = ?", [(row,) for row in gone])
    messages = sorted({row >> DELIVERY_BITS for row in gone})
    empty = [message for message in messages if is_expired(writer.connection, message, 0.0)]
    for start in range(0, len(empty), _MESSAGES_AT_A_TIME):
        some = empty[start : start + _MESSAGES_AT_A_TIME]
        places = ",".join("?" * len(some))
        writer.execute(f"DELETE FROM messages WHERE id IN ({places})", some)
        writer.execute(f"DELETE FROM identities WHERE message IN ({places})", some)


def undo_failures(writer: Writer, rows: Sequence[int]) -> dict[Stored, set[str]]:
    """rows: of `deliveries`, found before; one that is gone meanwhile counts none. Returns the recipients that were undone,
    by entry.

    What a DSN has reported is read here, under the lock: a DSN may have been begun since the rows were found.
    """
    reported = reported_failures(writer.connection, writer.queue)
    undone: dict[Stored, set[str]] = {}
    gone = []
    for row in rows:
        found = writer.execute(
            "SELECT coalesce(d.filebase, m.filebase), d.addresses FROM deliveries d"
            f" JOIN messages m ON m.id = d.id >> {DELIVERY_BITS} WHERE d.id = ? AND d.state = {CODES[State.FAILED]}",
            (row,),
        ).fetchone()
        if found is None:
            continue
        addresses = addresses_in(found[1])
        left = [address for address in addresses if address in reported.get(found[0], ())]
        undone.setdefault(found[0], set()).update(set(addresses).difference(left))
        if left:
            writer.execute(
                "UPDATE deliveries SET recipients = ?, addresses = ? WHERE id = ?",
                (b"".join(keys_of(left)), stored_addresses(left), row),
            )
        else:
            gone.append(row)
    forget_deliveries(writer, gone)
    writer.count("undone_recipients", sum(map(len, undone.values())))
    return undone


def expire(writer: Writer, messages: Sequence[tuple[int, list[bytes]]], older_than_s: float) -> int:
    """messages: ids with their digests, as found before; those that are not to go any more stay. Returns how many went."""
    gone = 0
    for message, digests in messages:
        if not is_expired(writer.connection, message, older_than_s):
            continue
        gone += writer.execute("DELETE FROM messages WHERE id = ?", (message,)).rowcount
        writer.execute("DELETE FROM deliveries WHERE id BETWEEN ? AND ?", delivery_ids(message))
        writer.execute("DELETE FROM waiting WHERE message = ?", (message,))
        writer.connection.executemany(
            "DELETE FROM identities WHERE digest = ? AND message = ?", [(digest, message) for digest in digests]
        )
        writer.known.drop(message)
    if gone:
        writer.identities.forget()
    return gone
