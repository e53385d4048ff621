"""Open one connection to the MTA: connect, greet, encrypt and log in, as the settings say.

In    MtaSettings
Out   an aiosmtplib connection that is ready for MAIL; MtaUnreachable, MtaBusy or MtaRefusesLogin if there is none
Not here  what is said after that (session.py); the texts of a refused login (login_trouble.py)
"""

from __future__ import annotations

import asyncio
import functools
import socket
import ssl
from pathlib import Path
from typing import cast

import aiosmtplib

from drainer.errors import MtaError, MtaRefusesLogin, MtaUnreachable, SettingsError
from drainer.feed.login_trouble import login_refused, not_offered, tls_failed
from drainer.files.regular_file import read_regular
from drainer.secret_files import password, without_secrets
from drainer.settings.mta import MtaSettings

_MOST_CERTIFICATE_BYTES = 16 * 2**20


class MtaBusy(MtaUnreachable):
    """The MTA answers, but takes no further session now (421 or another 4xx at greeting or EHLO)."""


async def connected(settings: MtaSettings) -> aiosmtplib.SMTP:
    """A connection, open and logged in. Raises MtaUnreachable, MtaBusy, MtaRefusesLogin."""
    helo = settings.helo or await asyncio.to_thread(own_name)
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
        if smtp.transport is None:
            raise aiosmtplib.SMTPServerDisconnected("connection lost")
    except BaseException as exc:
        _abort(smtp)
        if isinstance(exc, MtaError):  # MtaUnreachable is an OSError as well
            raise
        # ValueError: a name no resolver can be asked for, such as one with an empty label.
        if isinstance(exc, aiosmtplib.SMTPException | OSError | ValueError):
            raise _opening_error(exc, settings) from exc
        raise
    return smtp


async def _open(smtp: aiosmtplib.SMTP, settings: MtaSettings) -> None:
    context = None if settings.tls == "none" else await asyncio.to_thread(_tls_context, settings.tls_ca_file)
    await smtp.connect(timeout=settings.connect_timeout, tls_context=context)
    await _greet(smtp)
    if settings.tls == "starttls":
        if not smtp.supports_extension("starttls"):
            raise MtaRefusesLogin(not_offered("STARTTLS", settings))
        try:
            await smtp.starttls(tls_context=context, timeout=settings.connect_timeout)
        except (aiosmtplib.SMTPException, OSError) as exc:
            raise _login_error("STARTTLS", exc, error_text(exc), settings) from exc
        await _greet(smtp)
    if settings.username:
        await _log_in(smtp, settings)


async def _log_in(smtp: aiosmtplib.SMTP, settings: MtaSettings) -> None:
    try:
        secret = await asyncio.to_thread(password, settings.password_file)
    except SettingsError as exc:
        raise MtaRefusesLogin(str(exc)) from exc
    if not smtp.supports_extension("auth"):
        raise MtaRefusesLogin(not_offered("AUTH", settings))
    try:
        await _authenticate(smtp, settings, secret)
    except (aiosmtplib.SMTPException, OSError, ValueError) as exc:
        said = without_secrets(error_text(exc), settings.username, secret)
        # Without its cause: a server that repeats the command puts the password into it, and so into a traceback.
        raise _login_error("AUTH", exc, said, settings) from None


async def _authenticate(smtp: aiosmtplib.SMTP, settings: MtaSettings, secret: str) -> None:
    """One method after the other, as aiosmtplib's login(), but that one goes on after a 421 too, and so tells of a lost
    connection instead of why it was closed.

    Raises  the MTA's last answer, as aiosmtplib does
    """
    refusal: aiosmtplib.SMTPException = aiosmtplib.SMTPException("no method of AUTH that is known here is offered")
    for method in smtp.supported_auth_methods:
        authenticate = getattr(smtp, f"auth_{method.replace('-', '')}")
        try:
            await authenticate(settings.username, secret, timeout=settings.command_timeout)
        except aiosmtplib.SMTPAuthenticationError as exc:
            refusal = exc
            if exc.code < 500:
                break
        except aiosmtplib.SMTPServerDisconnected:
            if isinstance(refusal, aiosmtplib.SMTPAuthenticationError):
                break
            raise
        else:
            return
    raise refusal


def _login_error(step: str, exc: Exception, said: str, settings: MtaSettings) -> MtaError:
    """What came of STARTTLS or AUTH: the MTA has enough for now, or refuses, or left without a word."""
    if isinstance(exc, aiosmtplib.SMTPResponseException) and 400 <= exc.code <= 499:
        return MtaBusy(settings.host, settings.port, f"{step}: {said}")
    if isinstance(exc, aiosmtplib.SMTPTimeoutError | aiosmtplib.SMTPServerDisconnected):
        return MtaUnreachable(settings.host, settings.port, f"{step}: {said}; the MTA's own log may say why")
    if isinstance(exc, ssl.SSLError):
        return MtaRefusesLogin(tls_failed(exc, settings))
    return MtaRefusesLogin(login_refused(step, said, settings))


async def _greet(smtp: aiosmtplib.SMTP) -> None:
    """EHLO, or HELO for a server that does not know it (RFC 5321 §3.2)."""
    try:
        await smtp.ehlo()
    except aiosmtplib.SMTPHeloError as exc:
        if exc.code not in (500, 501, 502, 504, 550):
            raise
        await smtp.helo()


def _opening_error(exc: Exception, settings: MtaSettings) -> MtaError:
    if isinstance(exc, aiosmtplib.SMTPResponseException) and 400 <= exc.code <= 499:
        return MtaBusy(settings.host, settings.port, error_text(exc))
    for error in (exc, exc.__cause__):
        if isinstance(error, ssl.SSLError):
            return MtaRefusesLogin(tls_failed(error, settings))
    return MtaUnreachable(settings.host, settings.port, error_text(exc))


def _abort(smtp: aiosmtplib.SMTP) -> None:
    if smtp.transport is not None:
        cast(asyncio.WriteTransport, smtp.transport).abort()
    smtp.close()


@functools.cache
def own_name() -> str:
    """This machine's name for EHLO, an address literal where it has none with a dot, as Python's smtplib does."""
    name = socket.getfqdn()
    return name if "." in name else "[127.0.0.1]"


def _tls_context(ca_file: Path | None) -> ssl.SSLContext:
    try:
        if ca_file is None:
            return ssl.create_default_context()
        # Comments between certificates may be in any charset, and OpenSSL takes ASCII.
        certificates = read_regular(ca_file, _MOST_CERTIFICATE_BYTES).decode("ascii", "ignore")
        return ssl.create_default_context(cadata=certificates)
    except OSError as exc:
        raise MtaRefusesLogin(f"mta.tls_ca_file {ca_file} cannot be used: {exc.strerror or exc}") from exc


def error_text(exc: BaseException) -> str:
    """What an exception of the connection says, in the words of the MTA if there are any."""
    if isinstance(exc, aiosmtplib.SMTPResponseException):
        return f"{exc.code} {exc.message}" if exc.code > 0 else str(exc.message)
    if isinstance(exc, TimeoutError):
        return "timed out" if not str(exc) else str(exc)
    return str(exc) or type(exc).__name__
