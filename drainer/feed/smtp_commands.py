"""What goes out in an SMTP session, as octets: MAIL and RCPT for an envelope, the content with its final dot.

In    an Envelope, a content; what the MTA offers
Out   octets; UnsafeAddress for what must not reach the wire
Pure  values only

aiosmtplib's own mail() and rcpt() parse and requote addresses that Mailman wrote; here they go out as they are.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence

from drainer.compose.wire import LONGEST_ADDRESS, Envelope, why_unfit
from drainer.errors import EntryError

_UNSAFE_IN_PATH = re.compile(r"[\t<>]")
_UNSAFE_IN_PARAMETER = re.compile(r"[^\x21-\x7e]|[<>]")
_LINE_BEGINS_WITH_DOT = re.compile(rb"(?m)^\.")
_EXTENSION_OF = {"BODY": "8bitmime", "RET": "dsn", "ENVID": "dsn"}


class UnsafeAddress(EntryError):
    """An address that must not reach the wire: it would end the command or begin another one."""

    reason = "unsafe_address"


class NeedsSmtputf8(UnsafeAddress):
    """An address outside ASCII, and the MTA does not offer SMTPUTF8 (RFC 6531 §3.5)."""

    reason = "needs_smtputf8"


def mail_command(envelope: Envelope, content_bytes: int, offered: Collection[str]) -> bytes:
    """MAIL with SIZE and the envelope's parameters, each only where the MTA offers it.

    content_bytes  octets of the content, announced where the envelope names no size of its own (RFC 1870)
    offered        the MTA's extensions, in lower case
    Raises   UnsafeAddress
    """
    smtputf8 = "smtputf8" in offered
    words = [b"MAIL FROM:<" + _safe(envelope.reverse_path, smtputf8) + b">"]
    if "size" in offered:
        words.append(b"SIZE=%d" % (content_bytes if envelope.size is None else envelope.size))
    for parameter in envelope.mail_parameters:
        if _UNSAFE_IN_PARAMETER.search(parameter):
            raise UnsafeAddress(f"MAIL parameter {parameter!r} is not fit for SMTP")
        keyword = parameter.partition("=")[0].upper()
        if keyword not in ("SIZE", "SMTPUTF8") and _EXTENSION_OF.get(keyword, keyword.lower()) in offered:
            words.append(parameter.encode("ascii"))
    if smtputf8 and ("SMTPUTF8" in envelope.mail_parameters or not _all_ascii(envelope)):
        words.append(b"SMTPUTF8")
    return b" ".join(words) + b"\r\n"


def rcpt_commands(recipients: Iterable[str]) -> bytes:
    """RCPT for each of these recipients, which must be safe (see unsafe_recipients)."""
    return ("RCPT TO:<" + ">\r\nRCPT TO:<".join(recipients) + ">\r\n").encode()


def unsafe_recipients(recipients: Sequence[str], offered: Collection[str]) -> dict[int, UnsafeAddress]:
    """Why this server can be given no RCPT for some of them, by their place."""
    # A look at all of them at once, which nearly always is enough.
    text = " ".join(recipients)
    are_short = max(map(len, recipients), default=0) <= LONGEST_ADDRESS
    if are_short and text.isascii() and text.isprintable() and not ("<" in text or ">" in text):
        return {}
    smtputf8 = "smtputf8" in offered
    unsafe: dict[int, UnsafeAddress] = {}
    for place, recipient in enumerate(recipients):
        try:
            _safe(recipient, smtputf8)
        except UnsafeAddress as exc:
            unsafe[place] = exc
    return unsafe


def on_the_wire(content: bytes) -> bytes:
    """The content dot-stuffed, and the final dot. An end of line is added where the last line has none; nothing else is
    changed.

    Source  RFC 5321 §4.5.2 (transparency); stuffing as in Python's smtplib, which Mailman uses
    """
    if content.startswith(b".") or b"\n." in content:
        content = _LINE_BEGINS_WITH_DOT.sub(b"..", content)
    return content + (b".\r\n" if content.endswith(b"\r\n") else b"\r\n.\r\n")


def _safe(address: str, smtputf8: bool) -> bytes:
    """The address as octets that may stand between angle brackets."""
    if why := why_unfit(address):
        raise UnsafeAddress(f"address {address!r:.200} {why}")
    if _UNSAFE_IN_PATH.search(address):
        raise UnsafeAddress(f"address {address!r} is not fit for SMTP")
    try:
        return address.encode("utf-8" if smtputf8 else "ascii")
    except UnicodeEncodeError as exc:
        if smtputf8:
            raise UnsafeAddress(f"address {address!r} is not Unicode text") from exc
        raise NeedsSmtputf8(f"address {address!r} is not ASCII and the MTA does not offer SMTPUTF8") from exc


def _all_ascii(envelope: Envelope) -> bool:
    return envelope.reverse_path.isascii() and all(map(str.isascii, envelope.recipients))
