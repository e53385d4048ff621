"""Of which messages and entries the ledger has a row, perhaps: so that nothing is asked about what it cannot know.

In    the rows that the file has when it is opened, and each row that is written after that
Out   False: there is no such row, whatever commits next; True: there may be one, so ask
Not here  the rows (tables.py, settle_rows.py, entry_rows.py)

Most messages of a backlog are new to the ledger, and most entries were neither deferred nor set aside. To learn that from
SQLite costs more than to write the delivery.

INVARIANT never-wrongly-unknown: what has a row is never called unknown, or a second copy could be sent.
  A restart: all rows are read before the first question. A write: the key is added before its row, so before the commit. A
  rollback, a forgotten message: the key stays, and one question is asked in vain. Other writers: there are none while this
  process has the ledger alone (the lock of sqlite_file.py); where it has not, nothing is called unknown (`give_up`). Should
  another connection commit all the same, the next transaction sees it and gives up (writer.py, `begin`).
  What open_attempt decides under the lock rests on the same, after that check.
  Held by tests/ledger/test_perhaps_known.py.

Memory    2.5 MB, whatever the ledger has. With a million kin, 1 stranger in 80 is asked about in vain; with four million,
          1 in 7.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable

from drainer.ledger.bloom import BloomFilter
from drainer.ledger.columns import Stored
from drainer.ledger.records import KIN_BYTES

_WIDTH_OF_KIN = 24
_WIDTH_OF_ENTRIES = 22
_ROWS_AT_A_TIME = 4096


_number = int.from_bytes


class PerhapsKnown:
    """Messages are known by the kin of their digests (records.kin_of), entries by their filebase, of whatever queue."""

    def __init__(self) -> None:
        self._kin = BloomFilter(_WIDTH_OF_KIN)
        self._entries = BloomFilter(_WIDTH_OF_ENTRIES)
        self._has_given_up = False

    @classmethod
    def read(cls, reader: sqlite3.Connection) -> PerhapsKnown:
        """All that the file has rows of."""
        known, last = cls(), b""
        rows = reader.execute("SELECT digest FROM identities ORDER BY digest")
        while some := rows.fetchmany(_ROWS_AT_A_TIME):
            for (digest,) in some:
                if digest[:KIN_BYTES] != last:
                    last = digest[:KIN_BYTES]
                    known._kin.add(_kin_key(digest))
        for table in ("waiting", "deferrals", "holds"):
            for (filebase,) in reader.execute(f"SELECT filebase FROM {table}"):
                known.add_entry(filebase)
        return known

    def give_up(self) -> None:
        """Others write the file as well: from now on all is known, perhaps."""
        self._has_given_up = True

    def add_message(self, digests: Iterable[bytes]) -> None:
        """Before rows of `identities` are written."""
        for digest in digests:
            self._kin.add(_kin_key(digest))

    def add_entry(self, filebase: Stored) -> None:
        """Before a row of `waiting`, `deferrals` or `holds` is written."""
        self._entries.add(hash(filebase))

    def has_digest(self, digest: bytes) -> bool:
        """False: no message has a digest of this kin."""
        return self._has_given_up or self._kin.may_have(_kin_key(digest))

    def has_message(self, identity: Iterable[bytes]) -> bool:
        """False: no message has a digest of the same kin as one of these, so none shares one of them either."""
        if self._has_given_up:
            return True
        # Most digests of a message are akin to each other.
        return any(map(self._kin.may_have, map(_number, {digest[1:KIN_BYTES] for digest in identity})))

    def has_entry(self, filebase: Stored) -> bool:
        """False: no recipient of the entry is DEFERRED or HELD, and the entry is neither deferred nor set aside."""
        return self._has_given_up or self._entries.may_have(hash(filebase))


def _kin_key(digest: bytes) -> int:
    """The first octet of a digest says which rules made it: it is the same for nearly all."""
    return _number(digest[1:KIN_BYTES])
