"""One SMTP session with the MTA, every step apart, each with its own timeout.

In    MtaSettings; envelope and content
Out   a Reply per step; SessionLost with its stage when none came; MtaUnreachable, MtaBusy or MtaRefusesLogin at opening
Not here  what replies mean (outcome.py); when a session is renewed (session_pool.py)

Built on aiosmtplib's public API (SMTP.connect, ehlo, helo, starttls, login, execute_command, protocol, transport;
SMTPProtocol.write, read_response), except two private names, held by tests/feed/test_session.py:
    SMTPProtocol._buffer         octets left behind a reply: they would be taken for the answer to the next command
    SMTPProtocol._drain_helper   flow control while content is written in blocks; asyncio's own StreamWriter calls it
Not used: SMTP.data (cannot tell a hang-up before 354 from one after the final dot; one timeout for both), SMTP.mail and
rcpt (parse and requote addresses Mailman wrote), sendmail (too coarse for a ledger).
"""

from __future__ import annotations

import asyncio
import functools
import re
import socket
import ssl
from pathlib import Path
from typing import Any, cast

import aiosmtplib
from aiosmtplib.protocol import SMTPProtocol

from drainer.compose.wire import Envelope
from drainer.errors import EntryError, MtaError, MtaRefusesLogin, MtaUnreachable
from drainer.feed.outcome import Reply, SessionLost, Stage, parse_reply
from drainer.settings import MtaSettings

_UNSAFE_IN_PATH = re.compile(r"[\x00-\x1f\x7f-\x9f<>\u2028\u2029]")
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


class MtaBusy(MtaUnreachable):
    """The MTA answers, but takes no further session now (421 or another 4xx at greeting or EHLO)."""


class Session:
    """One connection to the MTA, from its greeting to QUIT. Not for two tasks at once.

    transactions  transactions that came to an end in order, refused ones included
    got_421       the MTA said it is closing
    lost          the loss that ended it, None while it is usable or when it was closed in order
    """

    def __init__(self, smtp: aiosmtplib.SMTP, settings: MtaSettings) -> None:
        self._smtp = smtp
        self._settings = settings
        self._extensions = frozenset(smtp.esmtp_extensions)  # aiosmtplib forgets them when the connection closes
        self.transactions = 0
        self.got_421 = False
        self.lost: SessionLost | None = None

    @classmethod
    async def open(cls, settings: MtaSettings) -> Session:
        """Connect, greet, encrypt and log in as the settings say.

        Raises   MtaUnreachable, MtaBusy, MtaRefusesLogin
        """
        helo = settings.helo or await asyncio.to_thread(_own_name)
        smtp = aiosmtplib.SMTP(
            hostname=settings.host,
            port=settings.port,
            local_hostname=helo,
            timeout=settings.command_timeout,
            use_tls=settings.tls == "implicit",
            start_tls=False,
        )
        try:
            await _open(smtp, settings)
        except BaseException as exc:
            _abort(smtp)
            if isinstance(exc, aiosmtplib.SMTPException | OSError):
                raise _opening_error(exc, settings) from exc
            raise
        return cls(smtp, settings)

    @property
    def usable(self) -> bool:
        """True while the connection stands, as far as this side can know."""
        return self._smtp.is_connected and not self.got_421

    def offers(self, extension: str) -> bool:
        """Whether the MTA announced an ESMTP extension, such as "smtputf8"."""
        return extension.lower() in self._extensions

    async def mail(self, envelope: Envelope, content_bytes: int) -> Reply:
        """Send MAIL with SIZE and the envelope's parameters, each only where the MTA offers it.

        content_bytes  octets of the content, announced where the envelope names no size of its own (RFC 1870)
        Raises   UnsafeAddress (nothing was sent), SessionLost
        """
        smtputf8 = self.offers("smtputf8")
        path = _path(envelope.reverse_path, smtputf8)
        parameters = []
        if self.offers("size"):
            parameters.append(f"SIZE={content_bytes if envelope.size is None else envelope.size}")
        for parameter in envelope.mail_parameters:
            if _UNSAFE_IN_PARAMETER.search(parameter):
                raise UnsafeAddress(f"MAIL parameter {parameter!r} is not fit for SMTP")
            keyword = parameter.partition("=")[0].upper()
            if keyword not in ("SIZE", "SMTPUTF8") and self.offers(_EXTENSION_OF.get(keyword, keyword)):
                parameters.append(parameter)
        if smtputf8 and ("SMTPUTF8" in envelope.mail_parameters or not _all_ascii(envelope)):
            parameters.append("SMTPUTF8")
        arguments = [parameter.encode("ascii") for parameter in parameters]
        return await self._command(Stage.MAIL, b"MAIL", b"FROM:" + path, *arguments)

    async def rcpt(self, address: str) -> Reply:
        """Send RCPT for one recipient. Raises UnsafeAddress (nothing was sent), SessionLost."""
        return await self._command(Stage.RCPT, b"RCPT", b"TO:" + _path(address, self.offers("smtputf8")))

    async def begin_data(self) -> Reply:
        """Send DATA. Only after 354 may send_content follow.

        Raises   SessionLost; also for a positive reply that is not 354, since the session is out of step then
        """
        reply = await self._command(Stage.DATA, b"DATA")
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
        protocol = self._smtp.protocol
        if protocol is None:
            raise self._lose(Stage.CONTENT, "connection lost")
        octets = _dot_stuffed(content)
        stage = Stage.CONTENT
        early_reply: asyncio.Task[aiosmtplib.SMTPResponse] | None = None
        try:
            last = max(0, len(octets) - _BLOCK_BYTES)
            if last:
                early_reply = asyncio.create_task(protocol.read_response())
                for start in range(0, last, _BLOCK_BYTES):
                    protocol.write(octets[start : min(start + _BLOCK_BYTES, last)])
                    if await self._answered_before_drained(protocol, early_reply):
                        return self._early_refusal(early_reply.result())
            if not protocol.is_connected:
                raise self._lose(stage, "connection lost")
            # INVARIANT final-dot-in-doubt: from here on the MTA may own the message, before it cannot. The last block
            # holds CRLF.CRLF whole, and nothing written before can end the mail data: every line of it that begins
            # with a dot has two. So a loss before this write is safe to try again, and one after it is IN_DOUBT.
            #   Held by tests/feed/test_session.py (hang-ups in the content, before and after the final dot).
            stage = Stage.FINAL_DOT
            protocol.write(octets[last:])
            if early_reply is None:
                response = await protocol.read_response(timeout=self._settings.final_dot_timeout)
            else:
                response = await asyncio.wait_for(early_reply, self._settings.final_dot_timeout)
            reply = self._reply(stage, response)
        except BaseException as exc:
            self.close()
            if early_reply is not None:
                _abandon(early_reply)
            if isinstance(exc, aiosmtplib.SMTPException | OSError):
                raise self._lose(stage, _said(exc)) from exc
            raise
        self.transactions += 1
        return reply

    async def reset(self) -> None:
        """Send RSET, so that the session can carry the next transaction. A session that fails at it is closed."""
        if not self.usable:
            return
        try:
            reply = await self._command(Stage.RESET, b"RSET")
        except SessionLost:
            return
        self.transactions += 1
        if reply.code != 250:
            self.close()

    async def quit(self) -> None:
        """Take leave with QUIT and close. Whatever goes wrong with it is of no consequence (RFC 5321 §4.1.1.10)."""
        try:
            await self._smtp.execute_command(b"QUIT", timeout=min(_QUIT_TIMEOUT_S, self._settings.command_timeout))
        except (aiosmtplib.SMTPException, OSError):
            pass
        finally:
            self.close()

    def close(self) -> None:
        """Drop the connection at once; nothing that is still buffered goes out."""
        _abort(self._smtp)

    async def _command(self, stage: Stage, *words: bytes) -> Reply:
        try:
            response = await self._smtp.execute_command(*words, timeout=self._settings.command_timeout)
            return self._reply(stage, response)
        except BaseException as exc:
            # Also when cancelled: the reply still to come would be taken for the next command's.
            self.close()
            if isinstance(exc, aiosmtplib.SMTPException | OSError):
                raise self._lose(stage, _said(exc)) from exc
            raise

    def _reply(self, stage: Stage, response: aiosmtplib.SMTPResponse) -> Reply:
        try:
            reply = parse_reply(response.code, response.message)
        except ValueError as exc:
            raise self._lose(stage, f"unparsable reply: {exc}") from exc
        protocol = self._smtp.protocol
        if protocol is not None and protocol._buffer:
            more = bytes(protocol._buffer)
            if not more.startswith(b"421"):  # it may come at any time (RFC 5321 §3.8) and does not undo the reply
                raise self._lose(stage, f"more than one reply: {reply}, then {more[:80]!r}")
            self.got_421 = True
        if reply.code == 421:
            self.got_421 = True
        if self.got_421:
            self.close()
        return reply

    def _early_refusal(self, response: aiosmtplib.SMTPResponse) -> Reply:
        reply = self._reply(Stage.CONTENT, response)
        self.close()
        if reply.code < 400:
            raise self._lose(Stage.CONTENT, f"out-of-turn reply: {reply}")
        return reply

    async def _answered_before_drained(
        self, protocol: SMTPProtocol, early_reply: asyncio.Task[aiosmtplib.SMTPResponse]
    ) -> bool:
        """Wait until the MTA has taken in what was written, or speaks (or is gone) in the middle of the content."""
        drained = asyncio.ensure_future(protocol._drain_helper())
        try:
            await asyncio.wait(
                {drained, early_reply}, timeout=self._settings.content_timeout, return_when=asyncio.FIRST_COMPLETED
            )
            if early_reply.done():
                return True
            if not drained.done():
                raise TimeoutError("the MTA takes in no more content")
            drained.result()
            return False
        finally:
            _abandon(drained)

    def _lose(self, stage: Stage, detail: str) -> SessionLost:
        self.close()
        self.lost = SessionLost(stage, detail)
        return self.lost


async def _open(smtp: aiosmtplib.SMTP, settings: MtaSettings) -> None:
    context = None if settings.tls == "none" else await asyncio.to_thread(_tls_context, settings.tls_ca_file)
    await smtp.connect(timeout=settings.connect_timeout, tls_context=context)
    await _greet(smtp)
    if settings.tls == "starttls":
        try:
            await smtp.starttls(tls_context=context, timeout=settings.connect_timeout)
        except (aiosmtplib.SMTPServerDisconnected, aiosmtplib.SMTPTimeoutError):
            raise
        except (aiosmtplib.SMTPException, ssl.SSLError) as exc:
            raise MtaRefusesLogin(f"STARTTLS failed at {settings.host}:{settings.port}: {_said(exc)}") from exc
        await _greet(smtp)
    if settings.username:
        try:
            await smtp.login(settings.username, _password(settings.password_file), timeout=settings.command_timeout)
        except (aiosmtplib.SMTPServerDisconnected, aiosmtplib.SMTPTimeoutError):
            raise
        except aiosmtplib.SMTPException as exc:
            raise MtaRefusesLogin(f"AUTH failed at {settings.host}:{settings.port}: {_said(exc)}") from exc


async def _greet(smtp: aiosmtplib.SMTP) -> None:
    """EHLO, or HELO for a server that does not know it (RFC 5321 §3.2)."""
    try:
        await smtp.ehlo()
    except aiosmtplib.SMTPHeloError as exc:
        if exc.code not in (500, 501, 502, 504, 550):
            raise
        await smtp.helo()


def _opening_error(exc: Exception, settings: MtaSettings) -> MtaError:
    said = _said(exc)
    if isinstance(exc, aiosmtplib.SMTPResponseException) and 400 <= exc.code <= 499:
        return MtaBusy(settings.host, settings.port, said)
    if isinstance(exc, ssl.SSLError) or isinstance(exc.__cause__, ssl.SSLError):
        return MtaRefusesLogin(f"TLS failed at {settings.host}:{settings.port}: {said}")
    return MtaUnreachable(settings.host, settings.port, said)


def _said(exc: BaseException) -> str:
    if isinstance(exc, aiosmtplib.SMTPResponseException):
        return f"{exc.code} {exc.message}" if exc.code > 0 else str(exc.message)
    if isinstance(exc, TimeoutError):
        return "timed out" if not str(exc) else str(exc)
    return str(exc) or type(exc).__name__


def _abandon(task: asyncio.Future[Any]) -> None:
    """Of no interest any more; if it failed, what was raised instead tells the same."""
    if task.done() and not task.cancelled():
        task.exception()
    task.cancel()


def _abort(smtp: aiosmtplib.SMTP) -> None:
    if smtp.transport is not None:
        cast(asyncio.WriteTransport, smtp.transport).abort()
    smtp.close()


@functools.cache
def _own_name() -> str:
    """This machine's name for EHLO, an address literal where it has none with a dot, as Python's smtplib does."""
    name = socket.getfqdn()
    return name if "." in name else "[127.0.0.1]"


def _tls_context(ca_file: Path | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=None if ca_file is None else str(ca_file))
    except OSError as exc:
        raise MtaRefusesLogin(f"mta.tls_ca_file {ca_file} cannot be used: {exc}") from exc


def _password(password_file: Path | None) -> str:
    if password_file is None:
        return ""
    try:
        return password_file.read_text().partition("\n")[0].rstrip("\r")
    except (OSError, UnicodeDecodeError) as exc:
        raise MtaRefusesLogin(f"mta.password_file {password_file} cannot be read: {exc}") from exc


def _path(address: str, smtputf8: bool) -> bytes:
    """`<address>` as octets."""
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
