"""`drainer status --watch` on a terminal (a pty of its own) and into a pipe, against a real socket."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from tests.cli.conftest import CommandLine
from tests.control.small_service import SmallService, serving

WITHIN_S = 60.0


class Terminal:
    """A terminal with `drainer status --watch` in its foreground; `picture` is what is drawn on it now."""

    def __init__(self, cli: CommandLine, columns: int, rows: int, **environment: str) -> None:
        self._master, slave = pty.openpty()
        self._resize(columns, rows)
        self.before = termios.tcgetattr(slave)
        self.written = ""
        inherited = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES", "NO_COLOR")}
        # --ctty makes it the controlling terminal, so that its Ctrl-C is the one a person types.
        self.process = subprocess.Popen(
            ["setsid", "--ctty", sys.executable, "-m", "drainer", "status", "--watch", "--every", "0.1", "--config",
             str(cli.config)],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env={**inherited, "TZ": "UTC", "TERM": "xterm", **environment},
        )  # fmt: skip
        self._slave = slave

    def _resize(self, columns: int, rows: int) -> None:
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def resize(self, columns: int, rows: int) -> None:
        """As a window does that is pulled smaller: the kernel tells the foreground process."""
        self._resize(columns, rows)

    def type(self, keys: bytes) -> None:
        os.write(self._master, keys)

    @property
    def picture(self) -> list[str]:
        """The last whole picture, line by line, without colours; empty before there is one."""
        whole = re.findall(r"\x1b\[H(.*?)\x1b\[J", self.written, re.DOTALL)
        return plain(whole[-1]).split("\r\n") if whole else []

    def until(self, condition: Callable[[], bool]) -> None:
        deadline_s = time.monotonic() + WITHIN_S
        while not condition():
            assert time.monotonic() < deadline_s, self.written[-3000:]
            if select.select([self._master], [], [], 0.2)[0]:
                self.written += os.read(self._master, 65536).decode(errors="replace")

    def ended(self) -> int:
        """Its exit status; what it wrote to the last is in `written`."""
        self.until(lambda: self.process.poll() is not None)
        while select.select([self._master], [], [], 0)[0]:
            self.written += os.read(self._master, 65536).decode(errors="replace")
        return int(self.process.wait())

    @property
    def is_as_before(self) -> bool:
        return termios.tcgetattr(self._slave) == self.before

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self._slave)
        os.close(self._master)


def plain(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)


@contextmanager
def terminal(cli: CommandLine, columns: int = 80, rows: int = 30, **environment: str) -> Iterator[Terminal]:
    watching = Terminal(cli, columns, rows, **environment)
    try:
        yield watching
    finally:
        watching.close()


def test_watch_follows_the_terminals_size_and_gives_it_back_at_ctrl_c(cli: CommandLine, service: SmallService) -> None:
    with terminal(cli) as watching:
        watching.until(lambda: bool(watching.picture))
        assert watching.picture[0] == "DRAINING since 09:54 UTC (1 h 12 min)"
        assert re.search(r"\[-+\]\s+0 %", "\n".join(watching.picture))
        assert "Ctrl-C" in watching.picture[-1]
        assert "\x1b[?1049h" in watching.written
        watching.type(b"not echoed")
        watching.resize(45, 12)
        watching.until(lambda: len(watching.picture) <= 12 and max(map(len, watching.picture)) <= 45)
        assert watching.picture[0].startswith("DRAINING")
        watching.type(b"\x03")
        assert watching.ended() == 0
        after = watching.written.rpartition("\x1b[?25h\x1b[?1049l")[2]
        assert "DRAINING" in after, "the last status stays below"
        assert "not echoed" not in watching.written
        assert "Traceback" not in watching.written
        assert watching.is_as_before


def test_watch_says_that_the_service_is_gone_and_goes_on_when_it_is_back(cli: CommandLine) -> None:
    running, service = ExitStack(), SmallService()
    running.enter_context(serving(cli.socket, service))
    with running, terminal(cli, rows=24, NO_COLOR="1") as watching:
        watching.until(lambda: bool(watching.picture))
        running.close()
        watching.until(lambda: watching.picture[0].startswith("drainer is not running"))
        said = " ".join(" ".join(watching.picture).split())
        assert re.search("the watch goes on when it is back. At .* 11:06 UTC it said: DRAINING since 09:54 UTC", said)
        assert len(watching.picture) <= 24
        with serving(cli.socket, service):
            watching.until(lambda: watching.picture[0].startswith("DRAINING"))
        assert "\x1b[1;" not in watching.written, "no colour was asked for"
        watching.process.send_signal(signal.SIGTERM)
        assert watching.ended() == 0
        assert watching.is_as_before


def test_watch_into_a_pipe_is_plain_lines_that_tell_when_the_service_goes_and_comes_back(cli: CommandLine) -> None:
    running, service = ExitStack(), SmallService()
    running.enter_context(serving(cli.socket, service))
    with (
        running,
        subprocess.Popen(
            [sys.executable, "-m", "drainer", "status", "--watch", "--every", "0.1", "--config", str(cli.config)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "TZ": "UTC", "TERM": "xterm"},
        ) as watching,
    ):
        assert watching.stdout is not None and watching.stderr is not None
        first, second = watching.stdout.readline(), watching.stdout.readline()
        stamp, said = first[:24], first[24:]
        assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC ", stamp)
        assert said == second[24:]
        assert said.startswith(
            "draining; 3 entries, 180 recipients left; 2/s recipients; about 1 min 30 s, at 11:08 UTC ("
        )
        running.close()
        gone = next(line for line in watching.stdout if "draining" not in line)
        assert "drainer is not running" in gone
        with serving(cli.socket, service):
            assert "draining; 3 entries" in watching.stdout.readline(), "of a service that is gone it tells once"
        watching.send_signal(signal.SIGINT)
        rest = watching.stdout.read()
        assert watching.wait(WITHIN_S) == 0
        assert "\x1b" not in first + second + gone + rest
        assert watching.stderr.read() == ""


def test_watch_on_a_terminal_that_cannot_move_its_cursor_is_plain_lines(
    cli: CommandLine, service: SmallService
) -> None:
    with terminal(cli, TERM="dumb") as watching:
        watching.until(lambda: watching.written.count("UTC draining; ") >= 2)
        assert "\x1b" not in watching.written
        watching.type(b"\x03")
        assert watching.ended() == 0
        assert "Traceback" not in watching.written
