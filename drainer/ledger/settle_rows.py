"""Rows of recipients that are final, or wait for their entry.

In    a Writer, inside its transaction
Out   rows of `deliveries` and `waiting`, and what they count
Not here  whether the step is legal (attempts.py, outcomes.py)
"""

from __future__ import annotations

from collections.abc import Container, Iterable

from drainer.ledger.columns import CODES, STATES, Stored, addresses_in, delivery_ids, split_keys, stored_addresses
from drainer.ledger.known_recipients import columns_of
from drainer.ledger.records import RecipientKey
from drainer.ledger.states import State
from drainer.ledger.writer import Writer


def settle(
    writer: Writer,
    message: int,
    filebase: Stored,
    state: State,
    reply: Stored,
    at_s: float,
    keys: list[RecipientKey],
    addresses: str,
) -> None:
    """Write the row of recipients that are final or wait, and count them."""
    if state in (State.DEFERRED, State.HELD):
        writer.perhaps.add_entry(filebase)
        writer.execute(
            "INSERT INTO waiting (message, queue, filebase, state, at, recipients, reply, addresses)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (
                message, writer.queue, filebase, CODES[state], int(at_s), b"".join(keys), reply,
                addresses if state is State.HELD else None,
            ),
        )  # fmt: skip
        return
    write_final(writer, message, filebase, state, reply, at_s, keys, addresses)
    if state is State.DELIVERED:
        writer.count("delivered_recipients", len(keys))
    elif state is State.FAILED:
        writer.count("bounced_recipients", len(keys))


def write_final(
    writer: Writer,
    message: int,
    filebase: Stored,
    state: State,
    reply: Stored,
    at_s: float,
    keys: list[RecipientKey],
    addresses: str,
) -> None:
    known = writer.known.of(message)
    entry = writer.entry(filebase)
    writer.execute(
        "INSERT INTO deliveries (id, state, at, queue, filebase, recipients, reply, addresses)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (
            delivery_ids(message)[0] + known.rows,
            CODES[state],
            int(at_s),
            *columns_of(entry, known.first),
            b"".join(keys),
            None if state is State.DELIVERED else reply,
            addresses if state is State.FAILED else None,
        ),
    )
    writer.known.learn(message, state, entry, keys)


def waiting_states(writer: Writer, messages: Container[int], filebase: Stored) -> dict[RecipientKey, State]:
    """Of the recipients of this entry that are DEFERRED or HELD."""
    found: dict[RecipientKey, State] = {}
    if not writer.perhaps.has_entry(filebase):
        return found
    for message, code, joined in writer.execute(
        "SELECT message, state, recipients FROM waiting WHERE filebase = ? AND queue = ?", (filebase, writer.queue)
    ).fetchall():
        if message in messages:
            found.update(dict.fromkeys(split_keys(joined), STATES[code]))
    return found


def supersede(
    writer: Writer, messages: Container[int], filebase: Stored, keys: frozenset[RecipientKey], by: State
) -> None:
    """Take `keys`, which are in state `by` from now on, out of the rows of waiting recipients of this entry.

    SKIPPED leaves HELD rows: whoever may have the mail does so after a drop as well.
    """
    if not writer.perhaps.has_entry(filebase):
        return
    rows = writer.execute(
        "SELECT id, message, state, recipients, addresses FROM waiting WHERE filebase = ? AND queue = ?",
        (filebase, writer.queue),
    ).fetchall()
    stays = CODES[State.HELD] if by is State.SKIPPED else None
    _take_out(
        writer,
        [(row, *rest) for row, message, state, *rest in rows if message in messages and state != stays],
        keys,
    )


def free_held(writer: Writer, messages: Iterable[int], keys: frozenset[RecipientKey]) -> None:
    """Return `keys` to PENDING wherever an entry of any queue has them HELD."""
    for message in messages:
        rows = writer.execute(
            "SELECT id, recipients, addresses FROM waiting WHERE message = ? AND state = ?",
            (message, CODES[State.HELD]),
        ).fetchall()
        _take_out(writer, rows, keys)


def _take_out(writer: Writer, rows: Iterable[tuple[int, bytes, str | None]], keys: frozenset[RecipientKey]) -> None:
    """rows: id, recipients and addresses of rows of `waiting`."""
    for row, joined, addresses in rows:
        present = split_keys(joined)
        if keys.isdisjoint(present):
            continue
        left = [key for key in present if key not in keys]
        if not left:
            writer.execute("DELETE FROM waiting WHERE id = ?", (row,))
            continue
        if addresses is not None:
            named = zip(present, addresses_in(addresses), strict=True)
            addresses = stored_addresses([address for key, address in named if key not in keys])
        writer.execute(
            "UPDATE waiting SET recipients = ?, addresses = ? WHERE id = ?", (b"".join(left), addresses, row)
        )


def leave_held(writer: Writer, filebase: Stored) -> None:
    """The entry leaves. Its HELD recipients stay known as such; without addresses they no longer keep their message."""
    writer.execute(
        "UPDATE waiting SET addresses = NULL WHERE filebase = ? AND state = ? AND queue = ?",
        (filebase, CODES[State.HELD], writer.queue),
    )


def drop_waiting(writer: Writer, filebase: Stored, state: State) -> None:
    """Return an entry's DEFERRED or HELD recipients to PENDING."""
    writer.execute(
        "DELETE FROM waiting WHERE filebase = ? AND state = ? AND queue = ?", (filebase, CODES[state], writer.queue)
    )
