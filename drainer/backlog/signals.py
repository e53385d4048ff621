"""Signals between the tasks of the pipeline: something has changed, and there may be work for the one who waits.

Out   events; a signal carries no facts. Whoever waits looks in the index and the ledger for what there is to do.

One object that every task shares, so that no task has to know which other one waits for its news.
"""

from __future__ import annotations

import asyncio


class Signals:
    """listed   set while no directory is being listed
    unread   set when there may be entries to read
    news     set when an entry may be picked that could not be picked before
    owing    set when there may be DSNs to send or to settle
    doubt    set when there may be recipients in doubt
    """

    def __init__(self) -> None:
        self.listed = asyncio.Event()
        self.unread = asyncio.Event()
        self.news = asyncio.Event()
        self.owing = asyncio.Event()
        self.doubt = asyncio.Event()

    def wake(self) -> None:
        """An entry may be picked now."""
        self.news.set()

    def came_back(self) -> None:
        """Mailman has finished with an entry, or returned it: there may be an entry to read or a doubt to resolve."""
        self.unread.set()
        self.doubt.set()
        self.news.set()
