"""The composer of a site whose Mailman delivers by itself (`feed.via = "mailman"`): nothing is composed, so that nothing of
Mailman's has to work for us but its own runner.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence

from drainer.compose.wire import ComposedMessage
from drainer.errors import ComposerUnavailable
from drainer.queuedir.entry import QueueEntry


class LeftToMailman:
    """Implements Composer."""

    async def start(self) -> None:
        """Nothing to start."""

    async def compose(self, entry: QueueEntry, recipients: Sequence[str]) -> AsyncGenerator[ComposedMessage, None]:
        """Raises ComposerUnavailable: an entry came here that was to be released."""
        raise ComposerUnavailable(f"{entry.filebase} was to be released to Mailman, not composed")
        yield  # type: ignore[unreachable]

    async def close(self) -> None:
        """Nothing to stop."""
