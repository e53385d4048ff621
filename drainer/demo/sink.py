"""An SMTP sink on loopback: takes mail, remembers it, and misbehaves on request.

In    SMTP sessions; Rules that say where to refuse, fall silent, hang up or talk nonsense
Out   a Taken per message it owns, in memory and as JSON lines; a mail log as Postfix writes it
Not here  any delivery, any address but loopback

What it owns is written to the capture file and the log before the final reply leaves, so after a kill of the other side
the file tells the truth about who got what. In the same process: `async with Sink() as sink: sink.port, sink.taken`.
With a thread of its own: `with SinkThread() as sink`. As a process:
    python -m drainer.demo.sink --port 0 --capture FILE --log FILE --rule "rcpt 450 4.2.0 later recipient=*@a.org first=3"
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import fnmatch
import hashlib
import itertools
import json
import os
import random
import re
import signal
import ssl
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Literal, Self, cast, get_args

StageName = Literal["connect", "ehlo", "starttls", "auth", "mail", "rcpt", "data", "content", "dot", "rset", "quit"]
STAGES: tuple[StageName, ...] = get_args(StageName)

_MESSAGE_ID = re.compile(rb"(?im)^message-id:[ \t]*(?:\r?\n[ \t]+)?([^\r\n]*)")
_MAIL = re.compile(rb"(?i)MAIL FROM:\s*<([^>]*)>(.*)\Z")
_RCPT = re.compile(rb"(?i)RCPT TO:\s*<([^>]*)>(.*)\Z")
_LONGEST_LINE = 65_536
_ENDLESS_EVERY_S = 0.05


@dataclass(frozen=True, slots=True)
class Taken:
    """A message the sink owns: the final dot arrived, and it was not refused.

    queue_id    as in the log
    recipients  those accepted at RCPT, in order
    content     dot-unstuffed octets; b"" unless asked to keep them
    replied     False: the sink owns it, but the reply was withheld or lost on purpose
    at_s        seconds since the epoch
    """

    queue_id: str
    session: int
    reverse_path: str
    parameters: tuple[str, ...]
    recipients: tuple[str, ...]
    message_id: str
    sha256: str
    size: int
    content: bytes
    replied: bool
    at_s: float

    def as_json(self) -> str:
        value = {
            "queue_id": self.queue_id,
            "session": self.session,
            "reverse_path": self.reverse_path,
            "parameters": self.parameters,
            "recipients": self.recipients,
            "message_id": self.message_id,
            "sha256": self.sha256,
            "size": self.size,
            "replied": self.replied,
            "at": self.at_s,
        }
        if self.content:
            value["content"] = base64.b64encode(self.content).decode("ascii")
        return json.dumps(value)


@dataclass(frozen=True, slots=True)
class Step:
    """Where a session stands when a rule is asked.

    session, transaction  numbered from 1 over the life of the sink and of the session
    recipient   address at rcpt; "" elsewhere
    recipients  accepted so far
    """

    stage: StageName
    session: int
    transaction: int
    reverse_path: str
    recipient: str
    recipients: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Behaviour:
    """What to do instead of the ordinary answer.

    reply      bytes written in place of it; None: the ordinary reply
    then       "go_on"; "hang_up" after the reply (with reply b"": instead of it); "silence": nothing is read or answered
               from here on; "endless": likewise, but the reply is written again and again
    takes      at dot: whether the sink owns the message; None: as the reply code says (2xx does), a missing reply not
    delay_s    wait before the reply
    after_bytes  at content: how much of it to let in first, one octet at least
    """

    reply: bytes | None = None
    then: Literal["go_on", "hang_up", "silence", "endless"] = "go_on"
    takes: bool | None = None
    delay_s: float = 0.0
    after_bytes: int = 0


def answer(text: str) -> Behaviour:
    """Answer with this reply, "550 5.1.1 no such user". 421 hangs up, as RFC 5321 §3.8 has it."""
    return Behaviour(text.encode() + b"\r\n", "hang_up" if text.startswith("421") else "go_on")


HANG_UP = Behaviour(b"", "hang_up")
SILENCE = Behaviour(b"", "silence")
TAKE_AND_HANG_UP = Behaviour(b"", "hang_up", takes=True)
TAKE_AND_SILENCE = Behaviour(b"", "silence", takes=True)
GARBAGE = Behaviour(b"\xff\xfe\x00 \x80garbage\r\n")
HALF_A_REPLY = Behaviour(b"25", "hang_up")
ENDLESS = Behaviour(b"220-and furthermore\r\n", "endless")

Script = Callable[[Step], Behaviour | None]
"""Asked at every step; None: the ordinary answer."""


@dataclass(slots=True)
class Rule:
    """A line of the small language, as a Script.

        STAGE WHAT [recipient=GLOB] [sender=GLOB] [first=N] [after=N] [every=N] [chance=P]

    WHAT  a reply "450 4.2.0 greylisted" | hang-up | silence | take-and-hang-up | take-and-silence | garbage | half |
          endless (a reply without a last line) | delay=SECONDS | twice REPLY (the ordinary reply, and this one behind it)
    recipient, sender  only for addresses that match; `first=N`: the first N times it matches; `after=N`: not the first
          N times; `every=N`: each Nth time; `chance=P`: with this probability, from a fixed seed
    """

    stage: str
    behaviour: Behaviour
    recipient: str = "*"
    sender: str = "*"
    first: int = 0
    after: int = 0
    every: int = 1
    chance: float = 1.0
    twice: bool = False
    _matched: int = 0
    _random: random.Random = field(default_factory=lambda: random.Random(1))

    @classmethod
    def parse(cls, line: str) -> Rule:
        """Raises ValueError saying what would be right."""
        stage, _, rest = line.strip().partition(" ")
        if stage not in STAGES:
            raise ValueError(f"{stage!r} is no stage; right would be one of {', '.join(STAGES)}")
        words = rest.split()
        options: dict[str, str] = {}
        while words and re.fullmatch(r"(recipient|sender|first|after|every|chance)=\S+", words[-1]):
            name, _, value = words.pop().partition("=")
            options[name] = value
        what = " ".join(words)
        named = {
            "hang-up": HANG_UP, "silence": SILENCE, "garbage": GARBAGE, "half": HALF_A_REPLY, "endless": ENDLESS,
            "take-and-hang-up": TAKE_AND_HANG_UP, "take-and-silence": TAKE_AND_SILENCE,
        }  # fmt: skip
        twice = what.startswith("twice ")
        if what in named:
            behaviour = named[what]
        elif match := re.fullmatch(r"delay=([0-9.]+)", what):
            behaviour = Behaviour(delay_s=float(match[1]))
        elif re.match(r"[2-5][0-9][0-9]\b", what.removeprefix("twice ")):
            behaviour = answer(what.removeprefix("twice "))
        else:
            raise ValueError(f"{what!r} is nothing to do; right would be a reply, {', '.join(named)}, delay=S or twice")
        return cls(
            stage,
            behaviour,
            options.get("recipient", "*"),
            options.get("sender", "*"),
            int(options.get("first", 0)),
            int(options.get("after", 0)),
            int(options.get("every", 1)),
            float(options.get("chance", 1)),
            twice,
        )

    def __call__(self, step: Step) -> Behaviour | None:
        if step.stage != self.stage:
            return None
        if not fnmatch.fnmatchcase(step.recipient, self.recipient) and self.recipient != "*":
            return None
        if not fnmatch.fnmatchcase(step.reverse_path, self.sender) and self.sender != "*":
            return None
        self._matched += 1
        if self._matched <= self.after or (self.first and self._matched > self.after + self.first):
            return None
        if (self._matched - self.after) % self.every or self._random.random() >= self.chance:
            return None
        if self.twice:
            ordinary = {"connect": b"220 sink\r\n", "data": b"354 go ahead\r\n"}.get(step.stage, b"250 2.0.0 Ok\r\n")
            return Behaviour(ordinary + (self.behaviour.reply or b""), takes=step.stage == "dot" or None)
        return self.behaviour


@dataclass(slots=True)
class Greylisting:
    """Script: the first attempt for each (reverse-path, recipient) is answered 450, the next is taken."""

    seen: set[tuple[str, str]] = field(default_factory=set)

    def __call__(self, step: Step) -> Behaviour | None:
        if step.stage != "rcpt" or (step.reverse_path, step.recipient) in self.seen:
            return None
        self.seen.add((step.reverse_path, step.recipient))
        return answer("450 4.2.0 greylisted, try again")


@dataclass(frozen=True, slots=True)
class SinkOptions:
    """host is 127.0.0.1 or ::1; port 0: any free one.

    scripts        asked in turn, the first that has something to say is followed
    capture        JSON lines of what was taken; log: Postfix's mail log format; both appended to
    keep_content   remember content too, in memory and in the capture file
    keep_taken     remember Taken in memory
    session_limit  sessions open at once; further ones are greeted with 421. 0: any number
    idle_s         a session without a command for so long is closed with 421. 0: never
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


class Sink:
    """The server. `taken` grows while it runs; `sessions` counts those open, `sessions_seen` all there ever were."""

    def __init__(self, options: SinkOptions | None = None, *scripts: Script) -> None:
        self.options = options or SinkOptions()
        if self.options.host not in ("127.0.0.1", "::1", "localhost"):
            raise ValueError(f"the sink listens on loopback only, not on {self.options.host!r}")
        self.scripts: list[Script] = [*self.options.scripts, *scripts]
        self.taken: list[Taken] = []
        self.taken_count = 0
        self.taken_recipients = 0
        self.sessions_seen = 0
        self.most_sessions = 0
        self.closed_idle = 0
        self.commands: dict[str, int] = {}
        self.port = 0
        self._open: set[_Connection] = set()
        self._server: asyncio.Server | None = None
        self._capture: int | None = None
        self._log: int | None = None
        self._queue_ids = itertools.count(int(time.time()) << 20)
        self._host_name = "sink"
        self._stamp = (0, "")

    @property
    def sessions(self) -> int:
        return len(self._open)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def start(self) -> None:
        """Listen; `port` says where. Raises OSError."""
        options = self.options
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
        self._capture = os.open(options.capture, flags, 0o644) if options.capture else None
        self._log = os.open(options.log, flags, 0o644) if options.log else None
        self._server = await asyncio.get_running_loop().create_server(
            lambda: _Connection(self),
            options.host,
            options.port,
            backlog=1024,
            ssl=options.tls_context if options.tls == "implicit" else None,
        )
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """Stop listening and drop every session."""
        if self._server is not None:
            self._server.close()
            for connection in list(self._open):
                connection.drop()
            await self._server.wait_closed()
            self._server = None
        for descriptor in (self._capture, self._log):
            if descriptor is not None:
                os.close(descriptor)
        self._capture = self._log = None

    def hang_up_all(self) -> None:
        """Drop every session, go on listening."""
        for connection in list(self._open):
            connection.drop()

    def delivered(self) -> list[tuple[str, str]]:
        """(recipient, Message-ID) of every copy taken, in order of arrival."""
        return [(recipient, taken.message_id) for taken in self.taken for recipient in taken.recipients]

    def next_queue_id(self) -> str:
        return f"{next(self._queue_ids):X}"

    def behaviour(self, step: Step) -> Behaviour | None:
        for script in self.scripts:
            if (behaviour := script(step)) is not None:
                return behaviour
        return None

    def take(self, taken: Taken) -> None:
        """Own a message: on disk before this returns, as far as the page cache is (it outlives every process)."""
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


class _Connection(asyncio.Protocol):
    """One session. Commands and content are taken off `_buffer`; replies to what came in one piece go out in one."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._transport: asyncio.Transport | None = None
        self._buffer = bytearray()
        self._replies = bytearray()
        self._searched = 0
        self._number = 0
        self._transactions = 0
        self._waiting = False
        self._silent = False
        self._in_content = False
        self._content_rule: Behaviour | None = None
        self._auth: list[str] | None = None
        self._encrypted = False
        self._idle: asyncio.TimerHandle | None = None
        self._clear()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        sink = self._sink
        self._transport = cast(asyncio.Transport, transport)
        if self._encrypted:  # the second call, after STARTTLS
            return
        sink.sessions_seen += 1
        self._number = sink.sessions_seen
        limit = sink.options.session_limit
        if limit and sink.sessions >= limit:
            self._transport.write(b"421 4.7.0 too many sessions\r\n")
            self._transport.close()
            return
        sink._open.add(self)
        sink.most_sessions = max(sink.most_sessions, sink.sessions)
        self._reply("connect", b"220 sink ESMTP\r\n")
        self._flush()
        self._not_idle()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._idle is not None:
            self._idle.cancel()
        self._sink._open.discard(self)
        self._transport = None

    def _not_idle(self) -> None:
        """The time a session may be idle begins anew."""
        if self._idle is not None:
            self._idle.cancel()
        if self._sink.options.idle_s:
            self._idle = asyncio.get_running_loop().call_later(self._sink.options.idle_s, self._idle_for_too_long)

    def _idle_for_too_long(self) -> None:
        self._sink.closed_idle += 1
        self._replies += b"421 4.4.2 idle for too long\r\n"
        self._flush()
        self._hang_up()

    def drop(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        if self._silent:
            return
        self._buffer += data
        self._not_idle()
        self._work()

    def _work(self) -> None:
        while not (self._waiting or self._silent or self._transport is None or self._transport.is_closing()):
            if self._in_content:
                if not self._take_content():
                    break
                continue
            end = self._buffer.find(b"\n")
            if end < 0:
                if len(self._buffer) > _LONGEST_LINE:
                    self._replies += b"500 5.5.2 line too long\r\n"
                    self._flush()
                    self._hang_up()
                break
            line = bytes(self._buffer[:end]).rstrip(b"\r")
            del self._buffer[: end + 1]
            self._command(line)
        self._flush()

    def _clear(self) -> None:
        self._reverse_path: str | None = None
        self._parameters: tuple[str, ...] = ()
        self._recipients: list[str] = []

    def _command(self, line: bytes) -> None:
        if self._auth is not None:
            self._auth_line(line)
            return
        verb = line[:4].upper()
        counted = verb.decode("ascii", "replace")
        self._sink.commands[counted] = self._sink.commands.get(counted, 0) + 1
        if verb == b"RCPT":
            self._rcpt(line)
        elif verb == b"MAIL":
            self._mail(line)
        elif verb == b"DATA":
            if not self._recipients:
                self._replies += b"503 5.5.1 no valid recipients\r\n"
            elif self._reply("data", b"354 End data with <CR><LF>.<CR><LF>\r\n").startswith(b"354"):
                self._in_content = True
                self._searched = 0
                self._content_rule = self._sink.behaviour(self._step("content"))
        elif verb in (b"EHLO", b"HELO"):
            self._clear()
            self._reply("ehlo", self._greeting() if verb == b"EHLO" else b"250 sink\r\n")
        elif verb == b"RSET":
            self._clear()
            self._reply("rset", b"250 2.0.0 Ok\r\n")
        elif verb == b"NOOP":
            self._replies += b"250 2.0.0 Ok\r\n"
        elif verb == b"AUTH" and self._sink.options.accounts:
            self._auth = [line.decode("ascii", "replace")]
            self._auth_line(None)
        elif verb == b"STAR" and self._sink.options.tls == "starttls" and not self._encrypted:
            self._start_tls()
        elif verb == b"QUIT":
            self._reply("quit", b"221 2.0.0 Bye\r\n")
            self._flush()
            self._hang_up()
        else:
            self._replies += b"502 5.5.2 command not recognized\r\n"

    def _greeting(self) -> bytes:
        options = self._sink.options
        words = [*options.extensions]
        if options.tls == "starttls" and not self._encrypted:
            words.append("STARTTLS")
        if options.accounts:
            words.append("AUTH PLAIN LOGIN")
        lines = ["sink", *words]
        return "".join(f"250{' ' if line is lines[-1] else '-'}{line}\r\n" for line in lines).encode()

    def _mail(self, line: bytes) -> None:
        match = _MAIL.match(line)
        if not match:
            self._replies += b"501 5.5.4 syntax: MAIL FROM:<address>\r\n"
            return
        if self._reverse_path is not None:
            self._replies += b"503 5.5.1 nested MAIL command\r\n"
            return
        self._transactions += 1
        self._reverse_path = match[1].decode("utf-8", "surrogateescape")
        self._parameters = tuple(match[2].decode("utf-8", "surrogateescape").split())
        if not self._reply("mail", b"250 2.1.0 Ok\r\n").startswith(b"250"):
            self._clear()

    def _rcpt(self, line: bytes) -> None:
        match = _RCPT.match(line)
        if not match:
            self._replies += b"501 5.5.4 syntax: RCPT TO:<address>\r\n"
            return
        if self._reverse_path is None:
            self._replies += b"503 5.5.1 need MAIL command\r\n"
            return
        recipient = match[1].decode("utf-8", "surrogateescape")
        if self._reply("rcpt", b"250 2.1.5 Ok\r\n", recipient).startswith(b"25"):
            self._recipients.append(recipient)

    def _take_content(self) -> bool:
        """Look for the end of the mail data. False: more has to come."""
        rule = self._content_rule
        if rule is not None and len(self._buffer) >= max(1, rule.after_bytes):
            self._content_rule = None
            self._follow(rule, b"")
            return not self._silent
        if self._buffer.startswith(b".\r\n"):
            end = 0
        else:
            end = self._buffer.find(b"\r\n.\r\n", max(0, self._searched - 4))
            if end < 0:
                self._searched = len(self._buffer)
                return False
            end += 2
        content = bytes(self._buffer[:end])
        del self._buffer[: end + 3]
        self._in_content = False
        self._final_dot(content.replace(b"\r\n..", b"\r\n.").removeprefix(b".") if b".." in content else content)
        return True

    def _final_dot(self, content: bytes) -> None:
        sink = self._sink
        behaviour = sink.behaviour(self._step("dot"))
        queue_id = sink.next_queue_id()
        reply = f"250 2.0.0 Ok: queued as {queue_id}\r\n".encode()
        if behaviour is not None and behaviour.reply is not None:
            reply = behaviour.reply
        takes = reply.startswith(b"2") if behaviour is None or behaviour.takes is None else behaviour.takes
        if takes:
            found = _MESSAGE_ID.search(content, 0, (content.find(b"\r\n\r\n") + 2) or len(content))
            sink.take(
                Taken(
                    queue_id,
                    self._number,
                    self._reverse_path or "",
                    self._parameters,
                    tuple(self._recipients),
                    found[1].strip().decode("utf-8", "surrogateescape") if found else "",
                    hashlib.sha256(content).hexdigest(),
                    len(content),
                    content if sink.options.keep_content else b"",
                    reply.startswith(b"250") and reply.endswith(b"\r\n"),
                    time.time(),
                )
            )
        self._clear()
        if behaviour is None:
            self._replies += reply
        else:
            self._follow(behaviour, reply)

    def _step(self, stage: StageName, recipient: str = "") -> Step:
        return Step(
            stage, self._number, self._transactions, self._reverse_path or "", recipient, tuple(self._recipients)
        )

    def _reply(self, stage: StageName, ordinary: bytes, recipient: str = "") -> bytes:
        """Answer as the scripts say, else with `ordinary`. Returns what was, or will be, written."""
        if not self._sink.scripts:
            self._replies += ordinary
            return ordinary
        behaviour = self._sink.behaviour(self._step(stage, recipient))
        if behaviour is None:
            self._replies += ordinary
            return ordinary
        return self._follow(behaviour, ordinary)

    def _follow(self, behaviour: Behaviour, ordinary: bytes) -> bytes:
        reply = ordinary if behaviour.reply is None else behaviour.reply
        if behaviour.delay_s:
            self._flush()
            self._waiting = True
            asyncio.get_running_loop().call_later(behaviour.delay_s, self._late, behaviour, reply)
        else:
            self._answer(behaviour, reply)
        return reply

    def _late(self, behaviour: Behaviour, reply: bytes) -> None:
        self._waiting = False
        self._answer(behaviour, reply)
        self._work()

    def _answer(self, behaviour: Behaviour, reply: bytes) -> None:
        self._replies += reply
        if behaviour.then == "silence":
            self._flush()
            self._silent = True
        elif behaviour.then == "endless":
            self._silent = True
            self._go_on_writing(reply)
        elif behaviour.then == "hang_up":
            self._flush()
            self._hang_up()

    def _go_on_writing(self, line: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._replies += line
            self._flush()
            asyncio.get_running_loop().call_later(_ENDLESS_EVERY_S, self._go_on_writing, line)

    def _flush(self) -> None:
        if self._replies and self._transport is not None:
            self._transport.write(bytes(self._replies))
        self._replies.clear()

    def _hang_up(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def _auth_line(self, line: bytes | None) -> None:
        """AUTH PLAIN and AUTH LOGIN (RFC 4954), with or without an initial response."""
        said = self._auth
        assert said is not None
        if line is not None:
            said.append(line.decode("ascii", "replace"))
        words = said[0].split()[1:] + said[1:]
        mechanism = words[0].upper() if words else ""
        wanted = {"PLAIN": 2, "LOGIN": 3}.get(mechanism, 0)
        if len(words) < wanted:
            prompt = b"" if mechanism == "PLAIN" else (b"VXNlcm5hbWU6", b"UGFzc3dvcmQ6")[len(words) - 1]
            self._replies += b"334 " + prompt + b"\r\n"
            return
        self._auth = None
        try:
            decoded = [base64.b64decode(word, validate=True).decode() for word in words[1:wanted]]
        except ValueError:
            self._replies += b"501 5.5.2 not base64\r\n"
            return
        account = tuple(decoded[0].split("\0")[1:]) if mechanism == "PLAIN" else tuple(decoded)
        known = account in self._sink.options.accounts
        self._reply("auth", b"235 2.7.0 Ok\r\n" if known else b"535 5.7.8 authentication failed\r\n")

    def _start_tls(self) -> None:
        if (behaviour := self._sink.behaviour(self._step("starttls"))) is not None:
            self._follow(behaviour, b"454 4.7.0 TLS not available\r\n")
            return
        self._replies += b"220 2.0.0 ready to start TLS\r\n"
        self._flush()
        self._waiting = True
        self._encrypted = True
        self._clear()
        self._upgrade = asyncio.get_running_loop().create_task(self._upgraded())

    async def _upgraded(self) -> None:
        context = self._sink.options.tls_context
        if self._transport is None or context is None:
            return
        self._buffer.clear()
        try:
            transport = await asyncio.get_running_loop().start_tls(self._transport, self, context, server_side=True)
        except (OSError, ssl.SSLError):
            self.drop()
            return
        self._transport = transport
        self._waiting = False
        self._work()


class SinkThread:
    """A sink with an event loop in a thread of its own: `with SinkThread(options) as sink: sink.port`."""

    def __init__(self, options: SinkOptions | None = None, *scripts: Script) -> None:
        self.sink = Sink(options, *scripts)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="smtp-sink", daemon=True)

    def __enter__(self) -> Sink:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self.sink.start(), self._loop).result()
        return self.sink

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        asyncio.run_coroutine_threadsafe(self.sink.close(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


async def _serve(options: SinkOptions) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with Sink(options) as sink:
        print(f"listening on {options.host}:{sink.port}", flush=True)
        await stop.wait()
        print(f"taken {sink.taken_count} messages, {sink.taken_recipients} recipients", flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """The sink as a process; the first line it prints says where it listens."""
    parser = argparse.ArgumentParser(prog="python -m drainer.demo.sink", description="SMTP sink on loopback")
    parser.add_argument("--host", default="127.0.0.1", help="127.0.0.1 or ::1")
    parser.add_argument("--port", type=int, default=0, help="0: any free one, printed at start")
    parser.add_argument("--capture", type=Path, help="append a JSON line for every message taken")
    parser.add_argument("--log", type=Path, help="append a mail log as Postfix writes it")
    parser.add_argument("--keep-content", action="store_true", help="put the content into the capture file, in base64")
    parser.add_argument("--session-limit", type=int, default=0, help="greet further sessions with 421")
    parser.add_argument("--greylist", action="store_true", help="450 at the first attempt for each recipient")
    parser.add_argument("--rule", action="append", default=[], help=Rule.__doc__)
    given = parser.parse_args(arguments)
    try:
        scripts: tuple[Script, ...] = tuple(Rule.parse(line) for line in given.rule)
        options = SinkOptions(
            host=given.host,
            port=given.port,
            scripts=(*scripts, Greylisting()) if given.greylist else scripts,
            capture=given.capture,
            log=given.log,
            keep_content=given.keep_content,
            keep_taken=False,
            session_limit=given.session_limit,
        )
        asyncio.run(_serve(options))
    except (ValueError, OSError) as exc:
        print(f"sink: {exc}", file=sys.stderr)
        return 2 if isinstance(exc, ValueError) else 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
