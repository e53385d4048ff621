"""The composer of a site whose Mailman delivers (`feed.via = "mailman"`): it composes nothing.

Why   such a site needs only Mailman's own runner; its lists and its Python need not be readable for drainer.
In    entries; Out   ComposerUnavailable
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
        """Raises ComposerUnavailable: the entry should have been handed to Mailman."""
        raise ComposerUnavailable(f"{entry.filebase} should be handed to Mailman, not composed")
        yield  # type: ignore[unreachable]

    async def close(self) -> None:
        """Nothing to stop."""
