"""The envelope and content Mailman itself would have sent (DESIGN §6).

Why       an entry in out/ is not yet what subscribers get: header and footer, VERP, personalised To, ARC and the split
          into chunks happen in Mailman's delivery step.
Promise   byte for byte what Mailman would have written, or a ComposeError with the reason; never half right.
Not here  who still has to get it (duplicates/, ledger/); sending (feed/).
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from typing import Protocol

from drainer.compose.wire import ComposedMessage
from drainer.queuedir.entry import QueueEntry


class Composer(Protocol):
    """Turns (entry, recipients) into transactions."""

    async def start(self) -> None:
        """Make ready. Raises ComposerUnavailable with the command to try by hand, SettingsError."""

    def compose(self, entry: QueueEntry, recipients: Sequence[str]) -> AsyncGenerator[ComposedMessage, None]:
        """Compose for some of the entry's recipients.

        recipients  those still owed, a subset of entry.recipients, at least one
        Yields   ComposedMessage; together they cover `recipients` exactly once (owed_for). Mailman's own skips
                 (2.1 VERP: a recipient without "@") are covered by no message
        Raises   ComposeError, even after some messages: those are good, the other recipients cannot be composed for;
                 ComposeDeferred among them means later. ComposerUnavailable: not this entry's fault, nor the next one's
        """

    async def close(self) -> None:
        """Stop the co-processes, if any. Never raises."""
