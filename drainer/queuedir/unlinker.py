"""Takes settled entries off the disk in a thread of its own, as many at a time as wait.

In    filebases of entries whose recipients are all settled in the durable ledger
Out   for each a future of the event loop: what `finish` returned, or the error that it raised
Not here  how a file is removed (custody.py), and whether it may be (stages/settle.py)

An unlink waits for the filesystem's journal: while a ledger on the same disk syncs, for tens of milliseconds. In the event
loop all sessions would wait with it. (Twice the throughput into a fast sink on one ext4 disk.)

While the thread works, one lot gathers for the next, so that the loop is woken once for many files. `finish` has to be safe
in a thread. Nobody else may move the entry meanwhile: it is in the hands of its turn until the future is done.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from queue import SimpleQueue

_Asked = tuple[str, asyncio.Future[bool]]
_Answer = tuple[asyncio.Future[bool], bool, BaseException | None]


class Unlinker:
    """`finish` for one event loop; `close` at the end. The thread is started by the first entry.

    finish  removes one entry; False if it was gone already
    """

    def __init__(self, finish: Callable[[str], bool]) -> None:
        self._finish = finish
        self._asked: SimpleQueue[_Asked | None] = SimpleQueue()
        self._thread: threading.Thread | None = None

    def finish(self, filebase: str) -> asyncio.Future[bool]:
        """Begin to remove an entry. A caller that no longer waits changes nothing: the file goes all the same."""
        done = asyncio.get_running_loop().create_future()
        if self._thread is None:
            # A daemon: where a disk does not answer any more, the process can still end.
            self._thread = threading.Thread(target=self._work, name="unlinks", daemon=True)
            self._thread.start()
        self._asked.put((filebase, done))
        return done

    def close(self) -> None:
        """Wait until all that was asked for is removed, and end the thread."""
        if self._thread is not None:
            self._asked.put(None)
            self._thread.join()
            self._thread = None

    def _work(self) -> None:
        goes_on = True
        while goes_on:
            asked = [self._asked.get()]
            while not self._asked.empty():
                asked.append(self._asked.get())
            goes_on = None not in asked
            answers = [self._answer(*one) for one in asked if one is not None]
            if answers:
                with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
                    answers[0][0].get_loop().call_soon_threadsafe(_tell, answers)

    def _answer(self, filebase: str, done: asyncio.Future[bool]) -> _Answer:
        try:
            return done, self._finish(filebase), None
        except BaseException as exc:  # noqa: BLE001 - it goes to the caller
            return done, False, exc


def _tell(answers: list[_Answer]) -> None:
    for done, was_there, error in answers:
        if done.done():
            continue
        if error is None:
            done.set_result(was_there)
        else:
            done.set_exception(error)
