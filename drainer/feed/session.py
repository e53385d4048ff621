"""One SMTP session with the MTA, step by step, each step with its own timeout.

In    MtaSettings; envelope and content
Out   a Reply per step; SessionLost with its stage when none came; MtaUnreachable, MtaBusy or MtaRefusesLogin at opening
Not here  what replies mean (outcome.py); when a session is renewed (session_pool.py)

aiosmtplib opens the session (connect.py). What follows is driven by wire_replies.py: aiosmtplib's data() cannot tell a
hang-up before 354 from one after the final dot, its mail() and rcpt() parse and requote addresses that Mailman wrote, and
it cannot pipeline.
"""

from __future__ import annotations

import asyncio
import re
from typing import Literal, cast

import aiosmtplib

from drainer.compose.wire import Envelope, why_unfit
from drainer.errors import EntryError
from drainer.feed.connect import connected, error_text
from drainer.feed.outcome import Reply, SessionLost, Stage, parse_reply
from drainer.feed.session_limit import announced_limits
from drainer.feed.wire_replies import UnreadableReply, WireReplies
from drainer.settings.mta import MtaSettings

_UNSAFE_IN_PATH = re.compile(r"[\t<>]")
_UNSAFE_IN_PARAMETER = re.compile(r"[^\x21-\x7e]|[<>]")
_LINE_BEGINS_WITH_DOT = re.compile(rb"(?m)^\.")
_BLOCK_BYTES = 65_536
_QUIT_TIMEOUT_S = 5.0
_EXTENSION_OF = {"BODY": "8bitmime", "RET": "dsn", "ENVID": "dsn"}


class UnsafeAddress(EntryError):
    """An address that must not reach the wire: it would end the command or begin another one."""

    reason = "unsafe_address"


class NeedsSmtputf8(UnsafeAddress):
    """An address outside ASCII, and the MTA does not offer SMTPUTF8 (RFC 6531 §3.5)."""

    reason = "needs_smtputf8"


class TooLargeForMta(EntryError):
    """The content is larger than the MTA says it takes: it would refuse it at MAIL, for ever."""

    reason = "too_large_for_mta"


class Session:
    """One connection to the MTA, from its greeting to QUIT. Not for two tasks at once.

    transactions  transactions that came to an end in order, refused ones included
    mails         contents that the MTA accepted
    has_enough    the MTA takes no more mail in it: as it said, or as it may have meant
    mail_max, recipient_max  transactions and recipients of each, as the MTA announces them (RFC 9422); 0: it does not
    got_421       the MTA said it is closing; refused_a_recipient: in answer to RCPT
    is_about_destination  that 421 is about a destination behind the MTA, and says nothing of the MTA itself
    lost          the loss that ended it, None while it is usable or when it was closed in order
    final_dot_s   how long the reply to the final dot of this transaction took; None: it did not get that far
    errors        4xx and 5xx replies since the MTA last accepted a content
    largest_bytes  the largest content the MTA says it takes (RFC 1870); None: it does not say, or has no limit
    """

    def __init__(self, smtp: aiosmtplib.SMTP, settings: MtaSettings) -> None:
        self._smtp = smtp
        self._settings = settings
        self._wire = WireReplies(cast(asyncio.Transport, smtp.transport))
        self._extensions = frozenset(smtp.esmtp_extensions)  # aiosmtplib forgets them when the connection closes
        size = smtp.esmtp_extensions.get("size", "").strip()
        self.largest_bytes = int(size) if size.isascii() and size.isdigit() and int(size) else None
        limits = announced_limits(smtp.esmtp_extensions.get("limits", ""))
        self.mail_max, self.recipient_max = limits.get("MAILMAX", 0), limits.get("RCPTMAX", 0)
        self.transactions = 0
        self.mails = 0
        self.has_enough: Literal["no", "perhaps", "said"] = "no"
        self.got_421 = self.refused_a_recipient = self.is_about_destination = False
        self.lost: SessionLost | None = None
        self.final_dot_s: float | None = None
        self.errors = 0

    @classmethod
    async def open(cls, settings: MtaSettings) -> Session:
        """Connect, greet, encrypt and log in as the settings say.

        Raises   MtaUnreachable, MtaBusy, MtaRefusesLogin
        """
        return cls(await connected(settings), settings)

    @property
    def usable(self) -> bool:
        """True while the connection stands, as far as this side can know."""
        is_open = self._wire.is_connected and not self.got_421 and not self._wire.is_answered
        return is_open and self.has_enough == "no"

    def carried_enough(self, *, is_said: bool) -> None:
        """No further transaction in this session: the MTA said so in words, or may have meant it."""
        self.has_enough = "said" if is_said else "perhaps"

    def closed_for_destination(self) -> None:
        """The MTA closed it because a destination behind it refuses us."""
        self.is_about_destination = True

    def offers(self, extension: str) -> bool:
        """Whether the MTA announced an ESMTP extension, such as "smtputf8"."""
        return extension.lower() in self._extensions

    def unsafe(self, address: str) -> UnsafeAddress | None:
        """Why this server can be given no RCPT for the address; None if it can."""
        try:
            self._rcpt_line(address)
        except UnsafeAddress as exc:
            return exc
        return None

    async def mail(self, envelope: Envelope, content_bytes: int) -> Reply:
        """Send MAIL with SIZE and the envelope's parameters, each only where the MTA offers it.

        content_bytes  octets of the content, announced where the envelope names no size of its own (RFC 1870)
        Raises   UnsafeAddress (nothing was sent), SessionLost
        """
        return await self._command(Stage.MAIL, self._mail_line(envelope, content_bytes))

    async def rcpt(self, address: str) -> Reply:
        """Send RCPT for one recipient. Raises UnsafeAddress (nothing was sent), SessionLost."""
        return await self._command(Stage.RCPT, self._rcpt_line(address))

    async def mail_and_rcpt(self, envelope: Envelope, content_bytes: int) -> tuple[Reply, list[Reply | UnsafeAddress]]:
        """MAIL and RCPT for all recipients in one write. Only where the MTA offers PIPELINING.

        Returns  the reply to MAIL, and one per recipient: UnsafeAddress for one that was not sent; fewer behind a 421.
                 They are returned only if no further reply arrived: with one reply too many, none is certain
        Raises   UnsafeAddress (nothing was sent), SessionLost
        """
        lines = [self._mail_line(envelope, content_bytes)]
        unsafe: dict[int, UnsafeAddress] = {}
        for place, recipient in enumerate(envelope.recipients):
            try:
                lines.append(self._rcpt_line(recipient))
            except UnsafeAddress as exc:
                unsafe[place] = exc
        stage = Stage.MAIL
        replies: list[Reply] = []
        try:
            self._send(stage, b"".join(lines))
            while len(replies) < len(lines) and not self.got_421:
                response = await self._wire.reply(self._settings.command_timeout)
                is_last = len(replies) == len(lines) - 1
                replies.append(self._reply(stage, response) if is_last else self._parsed(stage, response))
                stage = Stage.RCPT
        except BaseException as exc:
            self._fail(stage, exc)
            raise
        if self.got_421:
            self.close()
        to_rcpt: list[Reply | UnsafeAddress] = list(replies[1:])
        for place, refused in unsafe.items():
            if place <= len(to_rcpt):
                to_rcpt.insert(place, refused)
        return replies[0], to_rcpt

    def _mail_line(self, envelope: Envelope, content_bytes: int) -> bytes:
        self.final_dot_s = None
        smtputf8 = self.offers("smtputf8")
        words = [b"MAIL FROM:" + _path(envelope.reverse_path, smtputf8)]
        if self.offers("size"):
            words.append(b"SIZE=%d" % (content_bytes if envelope.size is None else envelope.size))
        for parameter in envelope.mail_parameters:
            if _UNSAFE_IN_PARAMETER.search(parameter):
                raise UnsafeAddress(f"MAIL parameter {parameter!r} is not fit for SMTP")
            keyword = parameter.partition("=")[0].upper()
            if keyword not in ("SIZE", "SMTPUTF8") and self.offers(_EXTENSION_OF.get(keyword, keyword)):
                words.append(parameter.encode("ascii"))
        if smtputf8 and ("SMTPUTF8" in envelope.mail_parameters or not _all_ascii(envelope)):
            words.append(b"SMTPUTF8")
        return b" ".join(words) + b"\r\n"

    def _rcpt_line(self, address: str) -> bytes:
        return b"RCPT TO:" + _path(address, self.offers("smtputf8")) + b"\r\n"

    async def begin_data(self) -> Reply:
        """Send DATA. Only after 354 may send_content follow.

        Raises   SessionLost; also for a positive reply that is not 354, since the session is out of step then
        """
        reply = await self._command(Stage.DATA, b"DATA\r\n")
        if reply.code < 400 and reply.code != 354:
            raise self._lose(Stage.DATA, f"out-of-turn reply: {reply}")
        return reply

    async def send_content(self, content: bytes) -> Reply:
        """Send the content, dot-stuffed, and the final dot; wait for the reply to it.

        content  as in ComposedMessage; an end of line is added where the last line has none. Nothing else is changed
        Returns  the reply to the final dot; or the refusal of an MTA that did not wait for it (it owns nothing then, and
                 the session is closed)
        Raises   SessionLost at CONTENT while the final dot cannot be out, at FINAL_DOT from the write that carries it on
        Source   RFC 5321 §4.5.2 (transparency), §4.5.3.2 (timeouts); stuffing as in Python's smtplib, which Mailman uses
        """
        octets = _dot_stuffed(content)
        stage = Stage.CONTENT
        try:
            last = max(0, len(octets) - _BLOCK_BYTES)
            for start in range(0, last, _BLOCK_BYTES):
                self._wire.write(octets[start : min(start + _BLOCK_BYTES, last)])
                await asyncio.sleep(0)
                await self._wire.drained(self._settings.content_timeout)
                if self._wire.is_answered:
                    return self._early_refusal(await self._wire.reply(0))
            if not self._wire.is_connected:
                raise self._lose(stage, "connection lost")
            # INVARIANT final-dot-in-doubt: from here on the MTA may own the message; before, it cannot. The last block
            # holds CRLF.CRLF whole, and nothing written before can end the mail data: every line of it that begins
            # with a dot has two. So a loss before this write is safe to try again, and one after it is IN_DOUBT.
            #   Held by tests/feed/test_session.py (hang-ups in the content, before and after the final dot).
            stage = Stage.FINAL_DOT
            loop = asyncio.get_running_loop()
            begun_s = loop.time()
            self._wire.write(octets[last:])
            reply = self._reply(stage, await self._wire.reply(self._settings.final_dot_timeout))
            self.final_dot_s = loop.time() - begun_s
        except BaseException as exc:
            self._fail(stage, exc)
            raise
        self.transactions += 1
        if reply.code < 400:
            self.errors = 0
        self.mails += reply.code < 300
        return reply

    async def reset(self) -> None:
        """Send RSET, so that the session can carry the next transaction. A session that fails at it is closed."""
        if not self.usable:
            return
        try:
            reply = await self._command(Stage.RESET, b"RSET\r\n")
        except SessionLost:
            return
        self.transactions += 1
        if reply.code != 250:
            self.close()

    async def quit(self) -> None:
        """Send QUIT and close. A failure of it has no consequence (RFC 5321 §4.1.1.10)."""
        try:
            self._wire.write(b"QUIT\r\n")
            await self._wire.reply(min(_QUIT_TIMEOUT_S, self._settings.command_timeout))
        except (UnreadableReply, OSError):
            pass
        finally:
            self.close()

    def close(self) -> None:
        """Drop the connection at once; nothing that is still buffered goes out."""
        self._wire.close()
        self._smtp.close()

    async def _command(self, stage: Stage, line: bytes) -> Reply:
        try:
            self._send(stage, line)
            return self._reply(stage, await self._wire.reply(self._settings.command_timeout))
        except BaseException as exc:
            # Also when cancelled: the reply still to come would be taken for the next command's.
            self._fail(stage, exc)
            raise

    def _send(self, stage: Stage, octets: bytes) -> None:
        if (unasked := self._wire.unasked()) and self._wire.is_connected:
            raise self._lose(stage, f"a reply to nothing: {unasked[:80]}")
        self._wire.write(octets)

    def _fail(self, stage: Stage, exc: BaseException) -> None:
        """Close after an exception; one of the connection's raises SessionLost in its place."""
        self.close()
        if isinstance(exc, UnreadableReply | OSError):
            raise self._lose(stage, error_text(exc)) from exc

    def _parsed(self, stage: Stage, response: tuple[int, str]) -> Reply:
        try:
            reply = parse_reply(*response)
        except ValueError as exc:
            raise self._lose(stage, f"unparsable reply: {exc}") from exc
        if reply.code == 421 and not self.got_421:
            self.got_421, self.refused_a_recipient = True, stage is Stage.RCPT
        self.errors += reply.code >= 400
        return reply

    def _reply(self, stage: Stage, response: tuple[int, str]) -> Reply:
        """The reply to the last command sent: nothing may be left behind it."""
        reply = self._parsed(stage, response)
        if more := self._wire.unasked():
            if not more.startswith("421"):  # it may come at any time (RFC 5321 §3.8) and does not undo the reply
                raise self._lose(stage, f"more than one reply: {reply}, then {more[:80]!r}")
            self.got_421 = True
        if self.got_421:
            self.close()
        return reply

    def _early_refusal(self, response: tuple[int, str]) -> Reply:
        reply = self._reply(Stage.CONTENT, response)
        self.close()
        if reply.code < 400:
            raise self._lose(Stage.CONTENT, f"out-of-turn reply: {reply}")
        return reply

    def _lose(self, stage: Stage, detail: str) -> SessionLost:
        self.close()
        self.lost = SessionLost(stage, detail)
        return self.lost


def _path(address: str, smtputf8: bool) -> bytes:
    """`<address>` as octets."""
    if why := why_unfit(address):
        raise UnsafeAddress(f"address {address!r:.200} {why}")
    if _UNSAFE_IN_PATH.search(address):
        raise UnsafeAddress(f"address {address!r} is not fit for SMTP")
    try:
        return b"<" + address.encode("utf-8" if smtputf8 else "ascii") + b">"
    except UnicodeEncodeError as exc:
        if smtputf8:
            raise UnsafeAddress(f"address {address!r} is not Unicode text") from exc
        raise NeedsSmtputf8(f"address {address!r} is not ASCII and the MTA does not offer SMTPUTF8") from exc


def _all_ascii(envelope: Envelope) -> bool:
    return envelope.reverse_path.isascii() and all(map(str.isascii, envelope.recipients))


def _dot_stuffed(content: bytes) -> bytes:
    if content.startswith(b".") or b"\n." in content:
        content = _LINE_BEGINS_WITH_DOT.sub(b"..", content)
    return content + (b".\r\n" if content.endswith(b"\r\n") else b"\r\n.\r\n")
