"""The envelope and content Mailman itself would have sent (DESIGN §6).

Why       an entry in out/ is not yet what subscribers get: header and footer, VERP, personalised To, ARC and the split
          into chunks happen in Mailman's delivery step.
How       Mailman 3: mailman3.py asks co-processes that run Mailman's own code (coprocess/). Mailman 2.1: mailman2.py and the
          modules mailman2_*, from the entry and the list's config.pck. left_to_mailman.py: nothing is composed.
Promise   byte for byte what Mailman would have written, or a ComposeError with the reason; never half right.
Not here  which recipients still need it (duplicates/, ledger/); sending (feed/).
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from typing import Protocol

from drainer.compose.wire import ComposedMessage
from drainer.queuedir.entry import QueueEntry


class Composer(Protocol):
    """Turns (entry, recipients) into transactions."""

    async def start(self) -> None:
        """Get ready. Raises ComposerUnavailable with a command to try by hand, SettingsError."""

    def compose(self, entry: QueueEntry, recipients: Sequence[str]) -> AsyncGenerator[ComposedMessage, None]:
        """Compose for some of the entry's recipients.

        recipients  those still owed, a subset of entry.recipients, at least one
        Yields   ComposedMessage; together they cover `recipients` exactly once (owed_for), except recipients that Mailman
                 itself skips (2.1 VERP: a recipient without "@")
        Raises   ComposeError, perhaps after some messages: those are good, the other recipients cannot be composed for.
                 Its subclass ComposeDeferred: try later. ComposerUnavailable: a fault of the composer, not of this entry
        """

    async def close(self) -> None:
        """Stop the co-processes, if any. Never raises."""
