"""What all sessions of an SMTP sink share: its options, its counters, and the messages it owns.

In    Taken from sessions
Out   lines of the capture file and of a mail log in Postfix's format
Not here  sockets (sink.py); the SMTP dialogue (sink_session.py)
"""

from __future__ import annotations

import itertools
import os
import ssl
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from drainer.demo.misbehaviour import Behaviour, Script, SinkStep
from drainer.demo.taken import Taken


@dataclass(frozen=True, slots=True)
class SinkOptions:
    """host is an address of loopback; port 0: any free one.

    scripts        asked in turn; the first one that gives a Behaviour is followed
    capture        file for JSON lines of messages taken, appended to; log: likewise, in Postfix's mail log format
    keep_content   keep content too, in memory and in the capture file
    keep_taken     keep Taken in memory
    session_limit  sessions open at once; further ones are greeted with 421. 0: any number
    idle_s         a session is closed with 421 if its next transaction does not come for this long. 0: never
    extensions     offered at EHLO
    accounts       user names and passwords for AUTH PLAIN and LOGIN; empty: AUTH is not offered
    """

    host: str = "127.0.0.1"
    port: int = 0
    scripts: tuple[Script, ...] = ()
    capture: Path | None = None
    log: Path | None = None
    keep_content: bool = False
    keep_taken: bool = True
    session_limit: int = 0
    idle_s: float = 0.0
    extensions: tuple[str, ...] = ("PIPELINING", "SIZE 52428800", "8BITMIME", "SMTPUTF8", "ENHANCEDSTATUSCODES", "DSN")
    accounts: tuple[tuple[str, str], ...] = ()
    tls: Literal["none", "starttls", "implicit"] = "none"
    tls_context: ssl.SSLContext | None = None


class OpenSession(Protocol):
    """A session that is open."""

    def drop(self) -> None: ...


class SinkState:
    """`taken` grows while sessions run; `sessions` is the number of open ones, `sessions_seen` the number of all so far."""

    def __init__(self, options: SinkOptions, *scripts: Script) -> None:
        self.options = options
        self.scripts: list[Script] = [*options.scripts, *scripts]
        self.taken: list[Taken] = []
        self.taken_count = 0
        self.taken_recipients = 0
        self.sessions_seen = 0
        self.most_sessions = 0
        self.closed_idle = 0
        self.commands: dict[str, int] = {}
        self.open_sessions: set[OpenSession] = set()
        self._capture: int | None = None
        self._log: int | None = None
        self._queue_ids = itertools.count(int(time.time()) << 20)
        self._host_name = "sink"
        self._stamp = (0, "")

    @property
    def sessions(self) -> int:
        return len(self.open_sessions)

    def open_files(self) -> None:
        """Open the capture file and the log. Raises OSError."""
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
        self._capture = os.open(self.options.capture, flags, 0o644) if self.options.capture else None
        self._log = os.open(self.options.log, flags, 0o644) if self.options.log else None

    def close_files(self) -> None:
        for descriptor in (self._capture, self._log):
            if descriptor is not None:
                os.close(descriptor)
        self._capture = self._log = None

    def hang_up_all(self) -> None:
        """Drop every session."""
        for session in list(self.open_sessions):
            session.drop()

    def delivered(self) -> list[tuple[str, str]]:
        """(recipient, Message-ID) of every copy taken, in order of arrival."""
        return [(recipient, taken.message_id) for taken in self.taken for recipient in taken.recipients]

    def next_queue_id(self) -> str:
        return f"{next(self._queue_ids):X}"

    def behaviour(self, step: SinkStep) -> Behaviour | None:
        for script in self.scripts:
            if (behaviour := script(step)) is not None:
                return behaviour
        return None

    def take(self, taken: Taken) -> None:
        """Own a message. When this returns it is in the page cache of the files, which outlives every process."""
        if self._capture is not None:
            os.write(self._capture, taken.as_json().encode() + b"\n")
        if self._log is not None:
            os.write(self._log, self._log_lines(taken).encode("utf-8", "surrogateescape"))
        if self.options.keep_taken:
            self.taken.append(taken)
        self.taken_count += 1
        self.taken_recipients += len(taken.recipients)

    def _log_lines(self, taken: Taken) -> str:
        second = int(taken.at_s)
        if second != self._stamp[0]:
            now = time.localtime(second)
            self._stamp = (second, time.strftime("%b ", now) + f"{now.tm_mday:2d}" + time.strftime(" %H:%M:%S", now))
        begin = f"{self._stamp[1]} {self._host_name} postfix"
        queue_id = taken.queue_id
        sent = "relay=local, delay=0, delays=0/0/0/0, dsn=2.0.0, status=sent (delivered to sink)"
        lines = [
            f"{begin}/cleanup[1]: {queue_id}: message-id={taken.message_id}",
            f"{begin}/qmgr[1]: {queue_id}: from=<{taken.reverse_path}>, size={taken.size}, "
            f"nrcpt={len(taken.recipients)} (queue active)",
        ]
        lines += [f"{begin}/local[1]: {queue_id}: to=<{recipient}>, {sent}" for recipient in taken.recipients]
        lines.append(f"{begin}/qmgr[1]: {queue_id}: removed\n")
        return "\n".join(lines)
