"""`drainer status --watch`: the status kept on a terminal, or a line of it now and then in a file or pipe.

On a terminal  on the alternate screen, so that what was there comes back, and the last status stays below it at the
               end; each picture is one write, line by line over the last one, so nothing flickers
Ends           by Ctrl-C, q or SIGTERM, with exit status 0: the watch was ended, the drain goes on
Service gone   is shown, with its last answer; the watch goes on when the service is back
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import termios
import time
import tty
from collections.abc import Iterator
from typing import TYPE_CHECKING

from drainer.cli.output import wants_colour
from drainer.errors import DrainerError, ServiceNotRunning
from drainer.report.snapshot import Snapshot
from drainer.report.terminal.status import status_lines
from drainer.report.words import status_line
from drainer.text.columns import cut, wrapped
from drainer.text.wording import clock_time, duration, shown

if TYPE_CHECKING:
    from drainer.control.client import ControlClient

EVERY_S = 1.0
EVERY_S_IN_A_FILE = 10.0
_ENTER, _LEAVE = "\x1b[?1049h\x1b[?25l", "\x1b[?25h\x1b[?1049l"
_HOME, _REST_OF_LINE, _BELOW = "\x1b[H", "\x1b[K", "\x1b[J"
_TOGETHER, _SHOW = "\x1b[?2026h", "\x1b[?2026l"
"""Terminals that know it show what lies between at once; the others pass over it."""
_STANDARD_INPUT = 0
_KEYS_THAT_END = frozenset(b"qQ")


class _Seen:
    """The last answer of the service, and why none came since."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        self.trouble = ""
        self.since_s = 0.0

    async def look(self, service: ControlClient) -> None:
        try:
            self.snapshot = await service.status()
            self.trouble = ""
        except DrainerError as exc:
            if not self.trouble:
                self.since_s = time.time()
            self.trouble = str(exc) if isinstance(exc, ServiceNotRunning) else f"no answer: {exc}"

    def lines(self, width: int, height: int | None, lists: int) -> list[str]:
        colour = wants_colour()
        if not self.trouble:
            return status_lines(self.snapshot, width, height=height, lists=lists, colour=colour)
        now_s = time.time()
        since = f"since {clock_time(self.since_s, now_s)} ({duration(now_s - self.since_s)})"
        what = f"{shown(self.trouble)}, {since}; the watch goes on when it is back. At "
        said = wrapped(f"{what}{clock_time(self.snapshot.at, now_s)} it said:", max(width, 2))
        if colour:
            said = [f"\x1b[1;31m{line}\x1b[0m" for line in said]
        below = None if height is None else max(1, height - len(said) - 1)
        return [*said, "", *status_lines(self.snapshot, width, height=below, lists=lists)]


async def watch(service: ControlClient, every_s: float | None, lists: int) -> None:
    """Show the status until the operator ends it.

    every_s  seconds between looks; None: 1 on a terminal, 10 in a file or pipe
    Raises   ServiceNotRunning, DrainerError if there is no answer to begin with
    """
    seen = _Seen(await service.status())
    if sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb":
        await _on_a_terminal(service, seen, every_s or EVERY_S, lists)
    else:
        await _line_by_line(service, seen, every_s or EVERY_S_IN_A_FILE)


async def _line_by_line(service: ControlClient, seen: _Seen, every_s: float) -> None:
    """A line each time, with the time; one line only while the service is gone."""
    shown_trouble = ""
    while True:
        if not (seen.trouble and seen.trouble == shown_trouble):
            text = seen.trouble or status_line(seen.snapshot)
            print(f"{time.strftime('%Y-%m-%d %H:%M:%S %Z')} {shown(text)}", flush=True)
        shown_trouble = seen.trouble
        await asyncio.sleep(every_s)
        await seen.look(service)


async def _on_a_terminal(service: ControlClient, seen: _Seen, every_s: float, lists: int) -> None:
    loop, again, ended = asyncio.get_running_loop(), asyncio.Event(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    loop.add_signal_handler(signal.SIGWINCH, again.set)
    with _screen() as screen:
        loop.add_signal_handler(signal.SIGTSTP, screen.stop, again)
        screen.on_key(loop, ended)
        looking = asyncio.create_task(_look_now_and_then(service, seen, every_s, again))
        ending = asyncio.create_task(ended.wait())
        while not ended.is_set():
            screen.show(seen, lists)
            again.clear()
            drawing = asyncio.create_task(again.wait())
            await asyncio.wait([drawing, ending, looking], return_when=asyncio.FIRST_COMPLETED)
            drawing.cancel()
            if looking.done():
                looking.result()
        looking.cancel()
        ending.cancel()
    print("\n".join(seen.lines(screen.columns, None, lists)).rstrip())


async def _look_now_and_then(service: ControlClient, seen: _Seen, every_s: float, again: asyncio.Event) -> None:
    while True:
        await asyncio.sleep(every_s)
        await seen.look(service)
        again.set()


class _Screen:
    """The terminal while the watch has it. Keys are not echoed, or they would stand in the picture."""

    def __init__(self) -> None:
        self._keys = _STANDARD_INPUT if _is_ours(_STANDARD_INPUT) else None
        self._before = termios.tcgetattr(self._keys) if self._keys is not None else None
        self.columns = 80

    def enter(self) -> None:
        if self._keys is not None:
            tty.setcbreak(self._keys)
        _write(_ENTER)

    def leave(self) -> None:
        _write(_LEAVE)
        if self._keys is not None and self._before is not None:
            termios.tcsetattr(self._keys, termios.TCSADRAIN, self._before)

    def stop(self, again: asyncio.Event) -> None:
        """Ctrl-Z: the shell gets its screen back; afterwards the picture is drawn again."""
        self.leave()
        os.kill(os.getpid(), signal.SIGSTOP)
        self.enter()
        again.set()

    def on_key(self, loop: asyncio.AbstractEventLoop, ended: asyncio.Event) -> None:
        if self._keys is None:
            return
        keys = self._keys

        def pressed() -> None:
            found = os.read(keys, 1024)
            if not found:
                loop.remove_reader(keys)
            if _KEYS_THAT_END.intersection(found):
                ended.set()

        loop.add_reader(keys, pressed)

    def show(self, seen: _Seen, lists: int) -> None:
        size = os.get_terminal_size(sys.stdout.fileno())
        self.columns, rows = size.columns or 80, size.lines or 24
        footer = cut(f"{time.strftime('%H:%M:%S %Z')}  Ctrl-C or q ends the watch", self.columns)
        # The last line without its end, or the terminal would scroll.
        lines = [*seen.lines(self.columns, max(1, rows - 1), lists)[: rows - 1], footer]
        picture = "\n".join(line + _REST_OF_LINE for line in lines)
        _write(f"{_TOGETHER}{_HOME}{picture}{_BELOW}{_SHOW}")


@contextlib.contextmanager
def _screen() -> Iterator[_Screen]:
    screen = _Screen()
    screen.enter()
    try:
        yield screen
    finally:
        screen.leave()


def _is_ours(terminal: int) -> bool:
    """Whether we are in its foreground: a background process that changes its settings is stopped."""
    try:
        return os.isatty(terminal) and os.tcgetpgrp(terminal) == os.getpgrp()
    except OSError:
        return False


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()
