"""One SMTP session with the MTA, exchange by exchange, each with its own timeout.

In    MtaSettings; what goes out, as octets (smtp_commands.py)
Out   an Answer per exchange, to a callback; MtaUnreachable, MtaBusy or MtaRefusesLogin at opening
Not here  which reply belongs to which command, and when the session is lost (smtp_client.py); what replies mean
          (outcome.py); when a session is renewed (session_pool.py)

aiosmtplib opens the session (connect.py). Then this takes the place of aiosmtplib's own protocol, on the same transport:
that one takes one command at a time, drops a reply that no command waits for, and its data() cannot tell a hang-up before
354 from one after the final dot. Here 100 recipients cost one write and one round trip (RFC 2920).
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import socket
from collections.abc import Callable, Sequence
from typing import Literal, cast

import aiosmtplib

from drainer.feed.connect import connected
from drainer.feed.outcome import SessionLost, Stage
from drainer.feed.session_limit import announced_limits
from drainer.feed.smtp_client import Answer, SmtpClient
from drainer.feed.smtp_commands import on_the_wire
from drainer.settings.mta import MtaSettings

Then = Callable[[Answer], None]

_BLOCK_BYTES = 65_536
_QUIT_TIMEOUT_S = 5.0


class Session(asyncio.Protocol):
    """One connection to the MTA, from its greeting to QUIT. One exchange at a time.

    offered       its ESMTP extensions, in lower case
    transactions  transactions that came to an end in order, refused ones included
    mails         contents that the MTA accepted
    has_enough    the MTA takes no more mail in it: as it said, or as it may have meant
    mail_max, recipient_max  transactions and recipients of each, as the MTA announces them (RFC 9422); 0: it does not
    is_about_destination  its 421 is about a destination behind the MTA, and says nothing of the MTA itself
    final_dot_s   how long the reply to the final dot of this transaction took; None: it did not get that far
    largest_bytes  the largest content the MTA says it takes (RFC 1870); None: it does not say, or has no limit
    """

    def __init__(self, smtp: aiosmtplib.SMTP, settings: MtaSettings) -> None:
        self._smtp = smtp
        self._settings = settings
        self._loop = asyncio.get_running_loop()
        self._transport = cast(asyncio.Transport, smtp.transport)
        self._client = SmtpClient()
        self._then: Then | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._timer_s = self._give_up_s = 0.0
        self._socket: socket.socket | None = None
        self._content = b""
        self._written = 0
        self._dot_sent_s: float | None = None
        self._is_full = self._wants_room = False
        self.offered = frozenset(smtp.esmtp_extensions)  # aiosmtplib forgets them when the connection closes
        size = smtp.esmtp_extensions.get("size", "").strip()
        self.largest_bytes = int(size) if size.isascii() and size.isdigit() and int(size) else None
        limits = announced_limits(smtp.esmtp_extensions.get("limits", ""))
        self.mail_max, self.recipient_max = limits.get("MAILMAX", 0), limits.get("RCPTMAX", 0)
        self.transactions = 0
        self.mails = 0
        self.has_enough: Literal["no", "perhaps", "said"] = "no"
        self.is_about_destination = False
        self.final_dot_s: float | None = None
        self._transport.set_protocol(self)

    @classmethod
    async def open(cls, settings: MtaSettings) -> Session:
        """Connect, greet, encrypt and log in as the settings say.

        Raises   MtaUnreachable, MtaBusy, MtaRefusesLogin
        """
        return cls(await connected(settings), settings)

    @property
    def usable(self) -> bool:
        """True while the connection stands, as far as this side can know."""
        return self._client.is_in_step and self.has_enough == "no" and not self._transport.is_closing()

    @property
    def lost(self) -> SessionLost | None:
        """The loss that ended it; None while it is usable or when it was closed in order."""
        return self._client.lost

    @property
    def got_421(self) -> bool:
        """The MTA said it is closing."""
        return self._client.got_421

    @property
    def refused_a_recipient(self) -> bool:
        """That was in answer to RCPT."""
        return self._client.refused_a_recipient

    @property
    def errors(self) -> int:
        """4xx and 5xx replies since the MTA last accepted a content."""
        return self._client.errors

    def carried_enough(self, *, is_said: bool) -> None:
        """No further transaction in this session: the MTA said so in words, or may have meant it."""
        self.has_enough = "said" if is_said else "perhaps"

    def closed_for_destination(self) -> None:
        """The MTA closed it because a destination behind it refuses us."""
        self.is_about_destination = True

    def offers(self, extension: str) -> bool:
        """Whether the MTA announced an ESMTP extension, such as "smtputf8"."""
        return extension.lower() in self.offered

    def ask(self, octets: bytes, stages: Sequence[Stage], then: Then) -> None:
        """Send commands in one write. The reply to each may take as long as the timeout says.

        stages  one for each command
        then    called once with the answer, perhaps before this returns; not at all if this side closes the session first
        """
        if stages[0] is Stage.MAIL:
            self.final_dot_s = None
        lost = self._client.sends(stages)
        if lost is None and self._transport.is_closing():
            lost = self._client.ends("connection lost")
        if lost is not None:
            self.close()
            then(lost)
            return
        self._then = then
        self._give_up_after(self._settings.command_timeout)
        self._transport.write(octets)

    def carry(self, content: bytes, then: Then) -> None:
        """After 354: send the content, dot-stuffed, and the final dot.

        content  as in ComposedMessage
        then     called once, as in `ask`: with the reply to the final dot; or with the refusal of an MTA that did not wait
                 for it (it owns nothing then, and the session is closed); or with the loss, at CONTENT while the final dot
                 cannot be out, at FINAL_DOT from the write that carries it on
        Source   RFC 5321 §4.5.3.2 (timeouts)
        """
        self._content, self._written = on_the_wire(content), 0
        self._dot_sent_s = None
        if (lost := self._client.sends((Stage.CONTENT,))) is not None:
            self._content = b""
            self.close()
            then(lost)
            return
        self._then = functools.partial(self._carried, then)
        self._go_on()

    def _go_on(self) -> None:
        """Write the next block of the content, once the connection has room for it."""
        if self._then is None:
            return  # answered, lost or closed meanwhile
        if self._transport.is_closing():
            self._hear(self._client.ends("connection lost"))
            return
        octets, begin = self._content, self._written
        last = len(octets) - _BLOCK_BYTES
        if self._is_full or begin < last:
            self._give_up_after(self._settings.content_timeout)
        if self._is_full:
            self._wants_room = True
            return
        if begin < last:
            self._written = min(begin + _BLOCK_BYTES, last)
            self._transport.write(octets[begin : self._written])
            self._loop.call_soon(self._go_on)  # a refusal that has come is heard first
            return
        # INVARIANT final-dot-in-doubt: from here on the MTA may own the message; before, it cannot. The last block
        # holds CRLF.CRLF whole, and nothing written before can end the mail data: every line of it that begins
        # with a dot has two. So a loss before this write is safe to try again, and one after it is IN_DOUBT.
        #   Held by tests/feed/test_session.py (hang-ups in the content, before and after the final dot).
        self._client.final_dot_goes()
        self._dot_sent_s = self._loop.time()
        self._give_up_after(self._settings.final_dot_timeout)
        self._transport.write(octets[begin:] if begin else octets)

    def _carried(self, then: Then, answer: Answer) -> None:
        self._content = b""
        if not isinstance(answer, SessionLost):
            if self._dot_sent_s is None:
                self.close()  # it did not wait for the final dot
            else:
                self.final_dot_s = self._loop.time() - self._dot_sent_s
                self.transactions += 1
                self.mails += answer[0].code < 300
        then(answer)

    def reset(self, then: Callable[[], None]) -> None:
        """Send RSET, so that the session can carry the next transaction; `then` is called once that is over. A session that
        fails at it is closed."""
        if not self.usable:
            then()
            return
        self.ask(b"RSET\r\n", (Stage.RESET,), functools.partial(self._was_reset, then))

    def _was_reset(self, then: Callable[[], None], answer: Answer) -> None:
        if not isinstance(answer, SessionLost):
            self.transactions += 1
            if answer[0].code != 250:
                self.close()
        then()

    async def quit(self) -> None:
        """Send QUIT and close. A failure of it has no consequence (RFC 5321 §4.1.1.10)."""
        over = asyncio.Event()
        try:
            self.ask(b"QUIT\r\n", (Stage.QUIT,), lambda answer: over.set())
            self._give_up_after(min(_QUIT_TIMEOUT_S, self._settings.command_timeout))
            await over.wait()
        finally:
            self.close()

    def close(self) -> None:
        """Drop the connection at once; nothing that is still buffered goes out, and no exchange is answered any more."""
        self._client.closes()
        self._then = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        self._transport.abort()
        self._smtp.close()

    def data_received(self, data: bytes) -> None:
        owed = self._client.owed
        answer = self._client.receives(data)
        if answer is not None:
            self._hear(answer)
        elif self._client.owed:
            if self._client.owed < owed:
                # Each command has the whole time for its reply: a hundred recipients that are asked about one by one may
                # take minutes.
                self._give_up_after(self._settings.command_timeout)
            self._acknowledge_at_once()

    def eof_received(self) -> None:
        self._hear(self._client.ends("connection closed by the MTA"))

    def connection_lost(self, exc: Exception | None) -> None:
        self._hear(self._client.ends(f"connection lost: {exc}" if exc else "connection lost"))

    def pause_writing(self) -> None:
        self._is_full = True

    def resume_writing(self) -> None:
        self._is_full = False
        if self._wants_room:
            self._wants_room = False
            self._go_on()

    def _hear(self, answer: Answer | None) -> None:
        """The exchange is over if there is an answer."""
        then = self._then
        if self._client.is_over:
            self.close()
        if answer is not None and then is not None:
            self._then = None
            then(answer)

    def _give_up_after(self, seconds: float) -> None:
        """No answer until then: the session is lost. One timer serves all exchanges: it is set again when it has gone off,
        or when an exchange must end before it would."""
        self._give_up_s = self._loop.time() + seconds
        if self._timer is None or self._give_up_s < self._timer_s:
            self._set_timer()

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer_s = self._give_up_s
        self._timer = self._loop.call_at(self._timer_s, self._timer_went_off)

    def _timer_went_off(self) -> None:
        self._timer = None
        if self._then is None:
            return
        if self._loop.time() < self._give_up_s:
            self._set_timer()
        else:
            self._hear(self._client.ends("timed out"))

    def _acknowledge_at_once(self) -> None:
        """An MTA that answers each pipelined command in a write of its own has its second answer held back by Nagle's
        algorithm until the first is acknowledged, which Linux puts off by up to 40 ms: per transaction, on loopback too.
        The option acknowledges what was read, and lasts for one exchange only, so it is set whenever answers are still owed
        (tcp(7), TCP_QUICKACK). On a socket object of our own: uvloop makes one for each option that is set through its."""
        with contextlib.suppress(OSError):
            if self._socket is None:
                self._socket = socket.socket(fileno=os.dup(self._transport.get_extra_info("socket").fileno()))
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
