"""Whether a group of writes waits for those who are about to write, and for how long.

In    what each commit held and how long it took; how many writes are queued, and when
Out   begin now, or look again in LOOK_EVERY_S
Pure  no clock, no timer

A caller that a commit has answered comes back soon with its next write: an outcome, or the attempt at another mail. If the
next group began at once, it would miss most of them: two parts of the sessions would wait for each other's commits in turns.
So a group waits until most of those who write now are there.

Waiting costs nothing while the event loop is busy: those who are queued would get no further either. So only idle time
counts: LOOK_EVERY_S in which nothing was queued. A group may be idle for `patience` times the length of a commit. That is
learnt: it grows if the wait brought more than it cost, in seconds of waiting callers, and shrinks if not. Behind a slow MTA,
whose replies do not come together, it shrinks until no group waits, and a trial is made now and then.
"""

from __future__ import annotations

import math

LOOK_EVERY_S = 0.001
AT_MOST_S = 0.05
"""However busy the loop is: an operator's write need not wait longer."""
_LATE = 3
"""Looked at so many times later than it wanted: the loop was busy."""
_GATHERED = 0.75
"""Part of those who write now that a group waits for. Some of them wait for the MTA."""
_NEWEST = 0.2
"""Weight of the last commit in how long a commit takes."""
_SAVED_S = 0.0003
"""Processor time of the loop for one commit (measured), for which each of those who write now would wait."""
_LEAST, _GROWS, _SHRINKS, _RECOVERS = 0.05, 1.5, 0.5, 1.02
"""Of patience, in lengths of a commit: its least; factors after a wait that paid, one that did not, and a group that did not
wait. Compared with others in a simulation, with MTAs that reply within 0.2 to 100 ms."""


class Gathering:
    """Of one ledger. Times in seconds, by a clock that never goes back."""

    def __init__(self) -> None:
        self._writers = 0
        self._wanted = 0
        self._commit_s = 0.0
        self._patience = 1.0
        self._until_s = 0.0
        self._left_s = 0.0
        self._idle_s = 0.0
        self._had = 0
        self._looked_s = 0.0
        self._seen = 0

    def waits(self, written: int, queued: int, took_s: float, now_s: float) -> bool:
        """A commit of `written` writes is over, and `queued` more came meanwhile. False: the next group may begin."""
        # Fewer than before for once says little: some of them may wait for the MTA.
        self._writers = max(written + queued, self._writers * 7 // 8)
        self._wanted = math.ceil(_GATHERED * self._writers)
        self._commit_s += (took_s - self._commit_s) * (_NEWEST if self._commit_s else 1)
        if self._wanted <= max(queued, 1):
            return False
        self._left_s = self._patience * self._commit_s
        if self._left_s < LOOK_EVERY_S / 2:
            self._patience = min(1.0, self._patience * _RECOVERS)
            return False
        self._until_s = now_s + AT_MOST_S
        self._idle_s, self._had = 0.0, queued
        self._looked_s, self._seen = now_s, queued
        return True

    def is_complete(self, queued: int) -> bool:
        """Another write came while a group waits. True: it has waited, and begins."""
        if queued < self._wanted:
            return False
        self._judge(queued)
        return True

    def goes_on(self, queued: int, now_s: float) -> bool:
        """A look, LOOK_EVERY_S after the last one or later. False: the group has waited, and begins if there is one."""
        since_s = now_s - self._looked_s
        if queued == self._seen and since_s < _LATE * LOOK_EVERY_S:
            self._idle_s += since_s
        self._looked_s, self._seen = now_s, queued
        if self._idle_s < self._left_s and now_s < self._until_s:
            return True
        self._judge(queued)
        return False

    def _judge(self, queued: int) -> None:
        """Each who came need not wait for the rest of a commit that would have begun without it; each who was there has
        waited."""
        came = queued - self._had
        if came or self._had:
            gained_s = came * (self._commit_s - self._idle_s) - self._had * self._idle_s
            gained_s += self._writers * _SAVED_S if came else 0.0
            self._patience = min(1.0, max(_LEAST, self._patience * (_GROWS if gained_s > 0 else _SHRINKS)))
