"""Polls queue directories; says which are worth listing again.

In    directories, an interval, a clock and a sleep
Out   the directories whose listing may have changed
Not here  what is in them

No file events: they overflow in exactly the burst we exist for. A directory's mtime changes with every name that comes
or goes, but only as finely as the filesystem keeps time (a kernel tick on ext4 and tmpfs, two seconds on the coarsest),
so after each change seen the directory is looked at once more when `grace_s` has passed.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path

from drainer.clock import Clock

_Seen = tuple[int, int, int]


class DirectoryWatch:
    """Says whether one directory is worth a listing. The first answer is yes if the directory is there."""

    def __init__(self, directory: Path, clock: Clock, grace_s: float = 2.0) -> None:
        self.directory = directory
        self._clock = clock
        self._grace_s = grace_s
        self._seen: _Seen | None = None
        self._look_again_s: float | None = None

    def worth_listing(self) -> bool:
        """Whether names may have come or gone since the last time this said yes; False while there is no directory.

        List after asking, never before: what happens during the listing shows at the next question.
        """
        try:
            status = self.directory.stat()
        except FileNotFoundError:
            self._seen = None
            return False
        seen = (status.st_dev, status.st_ino, status.st_mtime_ns)
        now_s = self._clock.monotonic_s()
        if seen != self._seen:
            self._seen = seen
            self._look_again_s = now_s + self._grace_s
            return True
        if self._look_again_s is not None and now_s >= self._look_again_s:
            self._look_again_s = None
            return True
        return False


async def changed_directories(
    directories: Sequence[Path],
    clock: Clock,
    poll_s: Callable[[], float],
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    grace_s: float = 2.0,
    wanted: Callable[[], bool] = lambda: True,
    due: Callable[[Path], bool] = lambda directory: False,
) -> AsyncIterator[list[Path]]:
    """For ever: the directories worth listing, as soon as there is one; at once for the first time.

    wanted   while it says no, no directory is looked at; a change meanwhile shows afterwards
    due      whether a directory is to be listed although no name came or went in it
    poll_s   gives the seconds between two looks
    grace_s  coarsest mtime expected
    Raises   OSError if a directory is there but cannot be looked at
    """
    watches = [DirectoryWatch(directory, clock, grace_s) for directory in directories]
    while True:
        worth = [watch.directory for watch in watches if wanted() and (watch.worth_listing() or due(watch.directory))]
        if worth:
            yield worth
        await sleep(poll_s())
