"""How values stand in the ledger's columns, small and without loss.

In    values of records.py and states.py
Out   what SQLite stores, and back
Pure  values only
"""

from __future__ import annotations

import functools
import json
import struct
from collections.abc import Iterable, Sequence
from json.encoder import encode_basestring_ascii

from drainer.ledger.records import RECIPIENT_KEY_BYTES, DsnRecipient, RecipientKey, recipient_key
from drainer.ledger.states import DsnState, State

CODES = {
    State.DELIVERED: 0,
    State.FAILED: 1,
    State.SKIPPED: 2,
    State.DEFERRED: 3,
    State.HELD: 4,
    State.ATTEMPTING: 5,
    State.IN_DOUBT: 6,
}
"""As in 0001_initial.sql."""

STATES = {code: state for state, code in CODES.items()}

END_CODES = CODES | {State.PENDING: 7}
"""How an attempt ended (0006_queues.sql, ended_attempts). PENDING: its recipients may be sent to again."""

ENDS = {code: state for state, code in END_CODES.items()}

DSN_CODES = {DsnState.OWED: 0, DsnState.SENDING: 1, DsnState.IN_DOUBT: 2}
"""As in 0002_dsns.sql."""

DSN_STATES = {code: state for state, code in DSN_CODES.items()}

DELIVERY_BITS = 24
"""A delivery's id is message << DELIVERY_BITS, plus its number among the message's."""

_PACKED = 0x41
"""First byte of a float between 2^17 and 2^33, so of a packed filebase."""

_REMEMBERED_FILEBASES = 2_000
"""Each is wanted at every write of its entry. About 0.5 MB."""

Stored = str | bytes


def delivery_ids(message: int) -> tuple[int, int]:
    """First and last id a delivery of this message can have."""
    start = message << DELIVERY_BITS
    return start, start + (1 << DELIVERY_BITS) - 1


def keys_of(addresses: Iterable[str]) -> list[RecipientKey]:
    return [recipient_key(address) for address in addresses]


def split_keys(joined: bytes) -> list[RecipientKey]:
    return [joined[start : start + RECIPIENT_KEY_BYTES] for start in range(0, len(joined), RECIPIENT_KEY_BYTES)]


def stored_addresses(addresses: Sequence[str]) -> str:
    """JSON in ASCII whatever is in them, lone surrogates of undecodable bytes included. json.dumps makes an encoder for each
    call, which takes ten times as long."""
    return f"[{','.join(map(encode_basestring_ascii, addresses))}]"


def addresses_in(value: str | None) -> tuple[str, ...]:
    return tuple(json.loads(value)) if value else ()


def stored_dsn_recipients(recipients: Sequence[DsnRecipient]) -> str:
    return json.dumps([[r.owed, r.sent, r.reply, r.status] for r in recipients], separators=(",", ":"))


def dsn_recipients_in(value: str) -> tuple[DsnRecipient, ...]:
    return tuple(DsnRecipient(*fields) for fields in json.loads(value))


def stored_text(text: str) -> Stored:
    """Text as a column value; what is not ASCII (and may hold undecodable bytes) as its bytes."""
    return text if text.isascii() else text.encode("utf-8", "surrogateescape")


def text_in(value: Stored | None) -> str:
    if isinstance(value, str):
        return value
    return value.decode("utf-8", "surrogateescape") if value else ""


@functools.lru_cache(_REMEMBERED_FILEBASES)
def stored_filebase(filebase: str) -> Stored:
    """A filebase as Mailman makes them in 28 bytes instead of 59, the float and the digest; any other as it is.

    What is not ASCII stands behind a zero byte, which no packed filebase begins with.
    """
    when, _, digest = filebase.partition("+")
    if len(digest) == 40:
        try:
            packed = struct.pack(">d", float(when)) + bytes.fromhex(digest)
        except ValueError:
            packed = b""
        if packed and packed[0] == _PACKED and filebase_in(packed) == filebase:
            return packed
    return filebase if filebase.isascii() else b"\0" + filebase.encode("utf-8", "surrogateescape")


def filebase_elsewhere(value: Stored, queue_id: str) -> str:
    """The name of an entry of another queue: no entry of this one has it."""
    return f"{filebase_in(value)}@{queue_id}"


def filebase_in(value: Stored) -> str:
    if isinstance(value, str):
        return value
    if value[0] == _PACKED:
        return f"{struct.unpack('>d', value[:8])[0]!r}+{value[8:].hex()}"
    return value[1:].decode("utf-8", "surrogateescape")
