"""The sink as an MTA that can be killed, frozen and started again on its port, with a log that goes on.

In    a directory; rules for `python -m drainer.demo.sink`
Out   what it took (capture.jsonl), and mail.log, as Postfix would write it
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from drainer.demo.sink import Sink
from drainer.demo.taken import Taken
from drainer.mta_log.answer import SETTLED_AFTER_S
from tests.scenarios.running import stop_between_mails
from tests.scenarios.troubled import every_session_read

Copy = tuple[str, str]
"""Message-ID, recipient."""

SLOW = ("data delay=0.01", "dot delay=0.03")
"""So that a kill finds transactions both before 354 and after the final dot, the latter owned by the sink already."""

ROOT = Path(__file__).parents[2]
_HEARTBEAT_S = 0.5


class Mta:
    """`start` before anything else, `close` at the end."""

    def __init__(self, home: Path) -> None:
        home.mkdir()
        self.capture = home / "capture.jsonl"
        self.log = home / "mail.log"
        self.capture.touch()
        self._say(time.time() - 3600, "postfix/postfix-script[1]: starting the Postfix mail system")
        self.port = 0
        self._process: subprocess.Popen[str] | None = None
        self._awake = threading.Event()
        self._over = threading.Event()
        self._heart = threading.Thread(target=self._beat, daemon=True)
        self._heart.start()

    def start(self, rules: Sequence[str] = SLOW) -> None:
        """Listen on the same port as ever. Queue ids come from the second, so the one before has to be over."""
        self._mend()
        began = int(time.time())
        while int(time.time()) == began:
            time.sleep(0.01)
        options = [option for rule in rules for option in ("--rule", rule)]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "drainer.demo.sink", "--port", str(self.port), "--capture", str(self.capture),
             "--log", str(self.log), *options],
            stdout=subprocess.PIPE, text=True, cwd=ROOT,
        )  # fmt: skip
        assert self._process.stdout is not None
        self.port = int(self._process.stdout.readline().rpartition(":")[2])
        self._awake.set()

    def kill(self) -> None:
        """kill -9: every connection is cut wherever it stands."""
        self._awake.clear()
        if self._process is not None:
            stop_between_mails(self._process, self.capture, self.log)
        self._end(signal.SIGKILL)

    def restart(self, rules: Sequence[str] = SLOW) -> None:
        """Once it has read what reached it, it is ended and started again, perhaps with another mind."""
        self.read_all()
        self.kill()
        self.start(rules)

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """SIGSTOP; it goes on at the end of the block. Nothing is logged meanwhile, as of a machine that hangs."""
        assert self._process is not None
        self._awake.clear()
        self._process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)
            self.read_all()
            self._awake.set()

    def read_all(self) -> None:
        """Return once it has seen to the end all that reached it before."""
        every_session_read(self.port)

    def half_a_minute_later(self) -> None:
        """What the log would say half a minute on: everything that reached the MTA is read, and nothing more came of it.

        Stamped so that it covers every attempt before this call, and none after.
        """
        self.read_all()
        called = int(time.time())
        while int(time.time()) == called:
            time.sleep(0.01)
        self._say(called + 1 + SETTLED_AFTER_S, "postfix/anvil[1]: statistics: max cache size 1")

    def close(self) -> None:
        self._over.set()
        self._awake.set()
        self._heart.join()
        self._end(signal.SIGTERM)

    def taken(self) -> list[dict[str, Any]]:
        """What it owns; a line that a kill tore is none."""
        lines = self.capture.read_text().splitlines(keepends=True)
        return [json.loads(line) for line in lines if line.endswith("\n")]

    def transactions(self) -> int:
        return self.capture.read_bytes().count(b"\n")

    def copies(self) -> Counter[Copy]:
        return Counter((taken["message_id"], recipient) for taken in self.taken() for recipient in taken["recipients"])

    def bounces(self) -> set[Copy]:
        """What has the null reverse-path."""
        return {
            (taken["message_id"], recipient)
            for taken in self.taken()
            if not taken["reverse_path"]
            for recipient in taken["recipients"]
        }

    def _end(self, how: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(how)
            self._process.communicate()
            self._process = None

    def _mend(self) -> None:
        """What an MTA does after a crash: forget what was half written, and log what it finds in its queue.

        The sink writes its capture before its log, and a kill can come between.
        """
        whole = self.taken()
        text = self.capture.read_text()
        self.capture.write_text(text[: text.rfind("\n") + 1])
        logged = self.log.read_text()
        writer = Sink()
        with self.log.open("a") as log:
            log.write("" if logged.endswith("\n") else "\n")
            for line in whole:
                if f"{line['queue_id']}: removed" not in logged:
                    fields = {**line, "content": b"", "at_s": line["at"]}
                    del fields["at"]
                    log.write(writer._log_lines(Taken(**fields)))

    def _beat(self) -> None:
        while not self._over.wait(_HEARTBEAT_S):
            if self._awake.is_set():
                self._say(time.time(), "postfix/smtpd[1]: lost connection after CONNECT from localhost[127.0.0.1]")

    def _say(self, at_s: float, text: str) -> None:
        now = time.localtime(at_s)
        stamp = time.strftime("%b ", now) + f"{now.tm_mday:2d}" + time.strftime(" %H:%M:%S", now)
        with self.log.open("a") as log:
            log.write(f"{stamp} sink {text}\n")


def until(what: str, is_so: Callable[[], object], within_s: float = 120.0) -> None:
    """Wait for it. Raises AssertionError naming what did not come about."""
    deadline_s = time.monotonic() + within_s
    while not is_so():
        assert time.monotonic() < deadline_s, f"not within {within_s:g} s: {what}"
        time.sleep(0.1)


MOMENT_WITHIN_S = 90.0


def moment(is_so: Callable[[], bool], within_s: float = MOMENT_WITHIN_S, every_s: float = 0.005) -> None:
    """Until it is so, or long enough: a moment without meaning is one as well."""
    deadline_s = time.monotonic() + within_s
    while not is_so() and time.monotonic() < deadline_s:
        time.sleep(every_s)
