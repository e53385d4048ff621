"""Which messages have a digest: found, and made, inside the writer's transaction.

In    the writer's connection, and what is perhaps known at all (perhaps_known.py)
Out   rows of `messages` by identity
Not here  what is known of a message's recipients (known_recipients.py)

A mail sent in thousands of transactions, one for each recipient, is looked up thousands of times: what was found is
remembered. All of it can be read again: `forget` after a rollback, when messages went, when another writer has committed.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass

from drainer.ledger.perhaps_known import PerhapsKnown
from drainer.ledger.tables import messages_sharing

REMEMBERED = 2_000
"""Identities remembered at most, about 1 MB. Then all are forgotten."""

Identity = tuple[bytes, ...]


@dataclass(slots=True)
class _Found:
    """sharing: messages that share a digest with an identity. exactly: the one of just its digests, if it was looked for."""

    sharing: tuple[int, ...]
    exactly: int | None = None


class Identities:
    def __init__(self, connection: sqlite3.Connection, perhaps: PerhapsKnown) -> None:
        self._connection = connection
        self._perhaps = perhaps
        self._found: dict[Identity, _Found] = {}
        self._asked_with: dict[bytes, list[Identity]] = {}
        self._count = 0

    def forget(self) -> None:
        self._count = 0
        self._found.clear()
        self._asked_with.clear()

    def sharing(self, identity: Sequence[bytes]) -> tuple[int, ...]:
        """Messages that share a digest with this one, in the order in which they were made."""
        identity = tuple(identity)
        found = self._found.get(identity)
        if found is None:
            if not self._perhaps.has_message(identity):
                return ()
            found = self._remember(identity, _Found(tuple(messages_sharing(self._connection, identity))))
        return found.sharing

    def exactly(self, identity: Identity, sharing: tuple[int, ...]) -> int | None:
        """The message of all these digests and no others. sharing: those that share one."""
        found = self._found.get(identity)
        if found is not None and found.exactly is not None:
            return found.exactly
        exactly = next((message for message in sharing if self._has_just(message, set(identity))), None)
        if found is not None:
            found.exactly = exactly
        return exactly

    def make(self, identity: Identity, sharing: tuple[int, ...], message: int) -> None:
        """Write that a message, which is new, has this identity. sharing: those that share a digest with it."""
        digests = set(identity)
        self._perhaps.add_message(digests)
        places = ",".join(["(?, ?)"] * len(digests))
        values = [value for digest in digests for value in (digest, message)]
        self._connection.execute(f"INSERT INTO identities (digest, message) VALUES {places}", values)
        for digest in digests:
            for other in self._asked_with.pop(digest, ()):
                self._found.pop(other, None)
        self._remember(identity, _Found((*sharing, message), message))

    def _remember(self, identity: Identity, found: _Found) -> _Found:
        if self._count == REMEMBERED:
            self.forget()
        self._count += 1
        self._found[identity] = found
        for digest in identity:
            self._asked_with.setdefault(digest, []).append(identity)
        return found

    def _has_just(self, message: int, digests: set[bytes]) -> bool:
        ((count,),) = self._connection.execute("SELECT digests FROM messages WHERE id = ?", (message,)).fetchall()
        return count == len(digests) and all(
            self._connection.execute(
                "SELECT 1 FROM identities WHERE digest = ? AND message = ?", (digest, message)
            ).fetchall()
            for digest in digests
        )
