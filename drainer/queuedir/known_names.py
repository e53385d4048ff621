"""The names in a directory of ours that is seldom changed, so that a question about one need not go to the disk.

In    drainer/held/ or drainer/duplicates/
Out   whether an entry of that name may be there; if it may, whoever asks looks
Not here  the look itself (moves.py, find)

An entry that is taken must have none of six names there. Six looks took half of a take's time.

The directory is listed again when its mtime has changed, and once more when that is old enough for a later change to show
(as in QueueCensus). While names come and go in it, and if there are too many, the answer is always that it may be there.
"""

from __future__ import annotations

import os

from drainer.clock import Clock

MOST_KEPT = 10_000
LISTED_AGAIN_S = 1.0
"""A listing is not made again sooner. It may take as long as a thousand looks."""
_SETTLED_S = 2.0


class KnownNames:
    """Of one directory. Made before the directory is."""

    def __init__(self, directory: str, clock: Clock) -> None:
        self._directory = directory
        self._clock = clock
        self._names: frozenset[str] | None = None
        self._modified_ns = -1
        self._listed_s = -LISTED_AGAIN_S
        self._listed_settled = False

    def may_hold(self, filebase: str) -> bool:
        """Whether an entry of that name may be there, whatever its suffix. True if the directory cannot be looked at."""
        try:
            modified_ns = os.stat(self._directory).st_mtime_ns  # noqa: PTH116 - for each of 100,000 entries
            if modified_ns != self._modified_ns or not self._listed_settled:
                now_s = self._clock.monotonic_s()
                if now_s - self._listed_s >= LISTED_AGAIN_S:
                    self._list(modified_ns, now_s)
                elif modified_ns != self._modified_ns:
                    return True
        except OSError:
            return True
        return self._names is None or filebase in self._names

    def changed(self) -> None:
        """We have moved an entry there: its mtime may be too coarse to show it."""
        self._modified_ns = -1

    def _list(self, modified_ns: int, now_s: float) -> None:
        self._modified_ns, self._listed_s = modified_ns, now_s
        self._listed_settled = self._clock.now_s() - modified_ns / 1e9 > _SETTLED_S
        names: set[str] = set()
        with os.scandir(self._directory) as listing:
            for found in listing:
                names.add(found.name.rpartition(".")[0])
                if len(names) > MOST_KEPT:
                    self._names = None
                    return
        self._names = frozenset(names)
