"""Entries that wait until another entry of the same message is settled, or until their own recipients in doubt are.

In    which entry waits for which
Out   the waiting entries may be picked again as soon as that entry is settled, held, gone, or its doubt is resolved

Held in memory only: after a restart each of them is looked at when its time is due (stages/set_aside.py, LOOK_AGAIN_S).
"""

from __future__ import annotations

from drainer.backlog.index import BacklogIndex
from drainer.backlog.signals import Signals
from drainer.backlog.states import EntryState


class Waiters:
    """One for the whole pipeline."""

    def __init__(self, index: BacklogIndex, signals: Signals) -> None:
        self._index = index
        self._signals = signals
        self._of: dict[str, set[str]] = {}

    def add(self, filebase: str, waits_for: str) -> None:
        """An entry may wait for itself: for its own recipients in doubt."""
        self._of.setdefault(waits_for, set()).add(filebase)

    def wake(self, settled: str) -> None:
        """The entries that waited for this one need not wait any longer."""
        for filebase in self._of.pop(settled, ()):
            if self._index.state_of(filebase) is EntryState.DEFERRED:
                self._index.set_state(filebase, EntryState.WAITING)
        self._signals.wake()
