"""One session of the SMTP sink: commands and content in, replies out. It misbehaves where a script says so.

In    octets from a client
Out   replies; a Taken for the sink after every final dot that is not refused
Source  RFC 5321; RFC 3207 (STARTTLS), RFC 4954 (AUTH)
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import re
import ssl
import time
from typing import cast

from drainer.demo.misbehaviour import Behaviour, SinkStep, StageName
from drainer.demo.sink_state import SinkState
from drainer.demo.taken import Taken

_MESSAGE_ID = re.compile(rb"(?im)^message-id:[ \t]*(?:\r?\n[ \t]+)?([^\r\n]*)")
_MAIL = re.compile(rb"(?i)MAIL FROM:\s*<([^>]*)>(.*)\Z")
_RCPT = re.compile(rb"(?i)RCPT TO:\s*<([^>]*)>(.*)\Z")
_LONGEST_LINE = 65_536
_ENDLESS_EVERY_S = 0.05


class SinkSession(asyncio.Protocol):
    """One session. It reads commands and content from `_buffer`; the replies to one piece of input go out in one piece."""

    def __init__(self, sink: SinkState) -> None:
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
        if self._encrypted:  # asyncio's second call, after STARTTLS
            return
        sink.sessions_seen += 1
        self._number = sink.sessions_seen
        limit = sink.options.session_limit
        if limit and sink.sessions >= limit:
            self._transport.write(b"421 4.7.0 too many sessions\r\n")
            self._transport.close()
            return
        sink.open_sessions.add(self)
        sink.most_sessions = max(sink.most_sessions, sink.sessions)
        self._reply("connect", b"220 sink ESMTP\r\n")
        self._flush()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._idle is not None:
            self._idle.cancel()
        self._sink.open_sessions.discard(self)
        self._transport = None

    def _time_idle(self) -> None:
        """Between two transactions: start the time again that a session may be idle."""
        if self._idle is not None:
            self._idle.cancel()
        if self._sink.options.idle_s and self._transactions and self._reverse_path is None:
            self._idle = asyncio.get_running_loop().call_later(self._sink.options.idle_s, self._idle_for_too_long)

    def _idle_for_too_long(self) -> None:
        if self._waiting:
            self._time_idle()
            return
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
        self._work()
        self._time_idle()

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
        """Look for the end of the mail data. False: it has not arrived yet."""
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

    def _step(self, stage: StageName, recipient: str = "") -> SinkStep:
        return SinkStep(
            stage,
            self._number,
            self._transactions,
            self._reverse_path or "",
            recipient,
            tuple(self._recipients),
            time.monotonic(),
        )

    def _reply(self, stage: StageName, ordinary: bytes, recipient: str = "") -> bytes:
        """Answer as the scripts say, else with `ordinary`. Returns the reply, which may be written later."""
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
