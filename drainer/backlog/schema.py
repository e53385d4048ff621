"""The tables of the backlog index, and what of them one row is made of.

Pure  SQL as text; rows of it as values

listed  entries that were listed, and of which nothing else is known: most of a large backlog, until it is read
entry   all others, with what changes. The indexes are partial: an entry that waits for its first turn is in `ready` and
        `ready_of_list` only, and pays for no other one. Those in delivery are in memory as well (in_delivery.py)
key     which entries have a digest; text: which entries had a text, also those that are finished
part, anchor, parts   of decorated mails that many others share their name with (crowds.py)
"""

from __future__ import annotations

from typing import Any

from drainer.backlog.keys import split
from drainer.backlog.rows import IndexedRow, counts_in
from drainer.backlog.states import EntryState
from drainer.backlog.values import RelatedEntry
from drainer.duplicates.classes import DuplicateClass

SCHEMA = """
CREATE TABLE listed (
    when_s REAL NOT NULL,
    filebase TEXT NOT NULL,
    size_bytes INTEGER NOT NULL,
    PRIMARY KEY (when_s, filebase)
) WITHOUT ROWID;
CREATE TABLE entry (
    id INTEGER PRIMARY KEY,
    filebase TEXT NOT NULL UNIQUE,
    when_s REAL NOT NULL,
    size_bytes INTEGER NOT NULL,
    state TEXT NOT NULL CHECK (
        state = 'listed' OR state = 'waiting' OR state = 'active' OR state = 'deferred' OR state = 'held'
    ),
    is_read INTEGER NOT NULL DEFAULT 0,
    ready INTEGER NOT NULL DEFAULT 0,
    list INTEGER NOT NULL DEFAULT 0,
    recipients INTEGER NOT NULL DEFAULT 0,
    owed INTEGER NOT NULL DEFAULT 0,
    covered INTEGER NOT NULL DEFAULT 0,
    duplicate TEXT NOT NULL DEFAULT 'none',
    of TEXT,
    reason TEXT NOT NULL DEFAULT '',
    due_s REAL,
    tie INTEGER NOT NULL DEFAULT 0,
    domains TEXT NOT NULL DEFAULT '',
    lane INTEGER NOT NULL DEFAULT 0,
    identity BLOB NOT NULL DEFAULT x'',
    message_id TEXT NOT NULL DEFAULT '',
    message_id_key BLOB,
    sender TEXT NOT NULL DEFAULT '',
    subject TEXT NOT NULL DEFAULT '',
    copy BLOB NOT NULL DEFAULT x'',
    recipient_keys BLOB NOT NULL DEFAULT x''
);
CREATE INDEX unread ON entry (when_s) WHERE is_read = 0;
CREATE INDEX listed_again ON entry (when_s) WHERE state = 'listed';
CREATE INDEX ready ON entry (lane, when_s) WHERE ready = 1;
CREATE INDEX ready_of_list ON entry (lane, list, when_s) WHERE ready = 1;
CREATE INDEX held ON entry (when_s) WHERE state = 'held';
CREATE INDEX deferred ON entry (when_s) WHERE state = 'deferred';
CREATE INDEX deferred_of_list ON entry (list, when_s) WHERE state = 'deferred';
CREATE INDEX due ON entry (ready, due_s) WHERE state = 'deferred';
CREATE INDEX due_of_list ON entry (list, due_s) WHERE state = 'deferred';
CREATE INDEX due_in_lane ON entry (due_s) WHERE ready = 1 AND lane > 0 AND due_s IS NOT NULL;
CREATE TABLE key (
    start INTEGER NOT NULL,
    rest INTEGER NOT NULL,
    id INTEGER NOT NULL,
    PRIMARY KEY (start, rest, id)
) WITHOUT ROWID;
CREATE TABLE text (
    id INTEGER PRIMARY KEY,
    start INTEGER NOT NULL,
    resend_key BLOB NOT NULL,
    when_s REAL NOT NULL,
    filebase TEXT NOT NULL,
    identity BLOB NOT NULL
);
CREATE INDEX text_key ON text (start, when_s);
CREATE TABLE part (start INTEGER NOT NULL, id INTEGER NOT NULL, PRIMARY KEY (start, id)) WITHOUT ROWID;
CREATE TABLE anchor (start INTEGER NOT NULL, id INTEGER NOT NULL, PRIMARY KEY (start, id)) WITHOUT ROWID;
CREATE TABLE parts (id INTEGER PRIMARY KEY, hashes BLOB NOT NULL);
"""
"""The states are not checked with IN: SQLite makes a table of the list at each write, which took 5 us (measured)."""

ROW = (
    "id, filebase, when_s, list, state, duplicate, is_read, ready, recipients, owed, covered, size_bytes, domains, lane,"
    " due_s, identity, message_id_key"
)
"""The columns that `row_of` takes; a query may add others behind them."""
ROW_COLUMNS = ROW.count(",") + 1

INSERT_ENTRY = (
    "INSERT INTO entry (id, filebase, when_s, list, state, duplicate, is_read, ready, recipients, owed, covered, size_bytes,"
    " domains, lane, due_s, identity, message_id_key, of, tie, message_id, sender, subject, copy, recipient_keys)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?,"
    " CAST(? AS TEXT), CAST(? AS TEXT), CAST(? AS TEXT), ?, ?)"
)
UPDATE_READ = (
    "UPDATE entry SET state=?, is_read=1, ready=?, list=?, recipients=?, owed=?, covered=?, duplicate=?, size_bytes=?,"
    " domains=?, identity=?, message_id_key=?, of=?, tie=?, message_id=CAST(? AS TEXT), sender=CAST(? AS TEXT),"
    " subject=CAST(? AS TEXT), copy=?, recipient_keys=? WHERE id=?"
)

RELATED = "e.filebase, e.when_s, e.recipient_keys, e.duplicate, e.copy, e.identity"
"""The columns that `related_of` takes."""

_STATES = {state.value: state for state in EntryState}
_DUPLICATES = {kind.value: kind for kind in DuplicateClass}


def row_of(columns: tuple[Any, ...]) -> IndexedRow:
    """columns: those of ROW, in this order."""
    (
        id_, filebase, when_s, number, state, duplicate, is_read, ready, recipients, owed, covered, size_bytes, domains,
        lane, due_s, identity, message_id_key,
    ) = columns[:ROW_COLUMNS]  # fmt: skip
    return IndexedRow(
        id_, filebase, when_s, number, _STATES[state], _DUPLICATES[duplicate], is_read == 1, ready == 1, recipients, owed,
        covered, size_bytes, counts_in(domains), lane, due_s, split(identity), message_id_key,
    )  # fmt: skip


def related_of(columns: tuple[Any, ...]) -> RelatedEntry:
    """columns: those of RELATED, in this order."""
    filebase, when_s, recipient_keys, duplicate, copy, identity = columns
    return RelatedEntry(filebase, when_s, recipient_keys, _DUPLICATES[duplicate], copy, split(identity))
