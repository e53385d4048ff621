"""The bounce for recipients that failed: a delivery status notification to the reverse-path (RFC 3464).

In    what was sent, and the MTA's replies for refused recipients; later, the DSN as the ledger has it
Out   a NewDsn to be written with the failure; the ComposedMessage that goes to the MTA, the same octets at every try
Pure  no clock, no ledger, no socket

One DSN for each failed transaction, so all its recipients share the reverse-path; under VERP each recipient has its own
reverse-path and its own DSN. A null reverse-path gets none (RFC 5321 §6.1), so a DSN gets none either. Only the header of
the mail goes back (RFC 3461 §4.3: RET=HDRS; Mailman asks for nothing else). A server's words are text here, and cannot
become a field, a line or a part.

Source  RFC 3464 (fields), 3461 §6 (what is returned), 3463 (status), 6522 (multipart/report), 6533 (addresses outside
        ASCII), 3834 §5.1 (Auto-Submitted)
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from email.encoders import encode_quopri
from email.message import Message
from email.policy import compat32
from email.utils import format_datetime
from hashlib import blake2b

from drainer.compose.wire import ComposedMessage, Envelope
from drainer.ledger.records import DsnRecipient, MessageRecord, NewDsn, OwedDsn
from drainer.queuedir.filebase import QueueFile, Suffix, parse_name

EXPIRED = "4.4.7"
"""Status of a recipient given up after temporary refusals: delivery time expired (RFC 3463 §3.5), after 4xx."""

HEADERS_BYTES = 32_768
"""The most of a mail's header that is returned: a header may have any size."""

_POLICY = compat32.clone(linesep="\r\n", max_line_length=None, cte_type="8bit", mangle_from_=False)
_LINE = 76
_LONGEST_WORD = 900
_LONGEST_UTF8_WORD = 240
_LATEST_S = 253_402_300_800.0
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff\u2028\u2029]")
_NOT_IN_XTEXT = re.compile(r"[^\x21-\x2a\x2c-\x3c\x3e-\x5b\x5d-\x7e]")
_XTEXT = re.compile(r"\+([0-9A-F]{2})")
_REPLY = re.compile(r"([2-5][0-9]{2})(?: ([245]\.[0-9]{1,3}\.[0-9]{1,3}))?(?: |\Z)")
_PLAIN_ADDRESS = re.compile(r"[^\s<>()\[\]\",;:@]+@[^\s<>()\",;@]+\Z")
_SAFE_DOMAIN = re.compile(r"[A-Za-z0-9.-]+\Z")
_STATUS_OF_CODE = {
    "450": "4.2.0", "451": "4.3.0", "452": "4.3.1", "550": "5.2.0", "551": "5.1.6", "552": "5.2.2", "553": "5.1.3",
    "501": "5.5.4", "504": "5.5.4", "555": "5.5.4", "556": "5.1.10",
}  # fmt: skip
"""For replies without an enhanced code: the meaning of the code in RFC 5321 §4.2.3, as a code of RFC 3463."""


def owed_dsn(
    composed: ComposedMessage,
    filebase: str,
    message: MessageRecord,
    replies: Mapping[str, str],
    at_s: float,
    status: str = "",
) -> tuple[NewDsn, ...]:
    """The DSN for the recipients of a transaction that failed; () if none is due.

    replies  recipient as the entry has it = the server's last answer, or our reason. Of `x@y@z` Mailman 2.1 makes an empty
             address in the envelope; the DSN names it as the entry does
    status   enhanced status code for all of them; "": as each reply says
    """
    envelope = composed.envelope
    reported = tuple(
        DsnRecipient(owed, sent or owed, replies[owed][:_LONGEST_WORD], status)
        for owed, sent in zip(composed.owed_for, envelope.recipients, strict=True)
        if owed in replies
    )
    if not envelope.reverse_path or not reported:
        return ()
    given = [p[6:] for p in envelope.mail_parameters if p.upper().startswith("ENVID=")]
    envelope_id = _XTEXT.sub(lambda match: chr(int(match[1], 16)), given[0]) if given else ""
    return (NewDsn(filebase, message, envelope.reverse_path, reported, _header(composed.content), envelope_id, at_s),)


def message_id(owed: OwedDsn) -> str:
    """Its Message-ID, angle brackets included: the same at every try, under any settings, so that logs can be asked."""
    text = f"{owed.dsn_id} {owed.failed_at_s!r} {owed.filebase} {owed.reverse_path}"
    digest = blake2b(text.encode("utf-8", "surrogatepass"), digest_size=12).hexdigest()
    domain = owed.reverse_path.rpartition("@")[2]
    return f"<dsn.{owed.dsn_id}.{digest}@{domain if _SAFE_DOMAIN.match(domain) else 'drainer.invalid'}>"


def dsn_message(owed: OwedDsn, reporter: str, remote: str, smtputf8: bool) -> ComposedMessage:
    """The DSN as it goes to the MTA.

    reporter  the name this host gives at EHLO
    remote    the MTA that refused
    smtputf8  whether the MTA that is to take it offers SMTPUTF8; else addresses outside ASCII are written in ASCII
    """
    addresses = [owed.reverse_path, *(recipient.sent for recipient in owed.recipients)]
    is_global = smtputf8 and not all(map(str.isascii, addresses))
    parts = [_explanation(owed, reporter, is_global), _status(owed, reporter, remote, is_global)]
    parts.append(_returned(owed.headers, is_global))
    identity = message_id(owed)
    boundary = blake2b(b"".join(part.as_bytes() for part in parts) + identity.encode(), digest_size=15).hexdigest()
    report = _message(
        ("From", f"Mail Delivery System <MAILER-DAEMON@{reporter}>"),
        ("To", _address(owed.reverse_path)),
        ("Subject", "Undelivered mail returned to sender"),
        ("Date", _date(owed.failed_at_s)),
        ("Message-ID", identity),
        ("Auto-Submitted", "auto-replied"),
        ("MIME-Version", "1.0"),
        ("Content-Type", f'multipart/report; report-type=delivery-status; boundary="=_{boundary}"'),
        is_global=is_global,
    )
    for part in parts:
        report.attach(part)
    parameters = ("SMTPUTF8", "BODY=8BITMIME") if is_global else ()
    return ComposedMessage(
        Envelope("", (owed.reverse_path,), parameters), report.as_bytes(policy=_POLICY), (owed.reverse_path,)
    )


def status_of(reply: str) -> str:
    """The enhanced status code of "550 5.1.1 no such user", or the one its code stands for; 5.0.0 where there is none."""
    match = _REPLY.match(reply)
    if match is None:
        return "5.0.0"
    if match[2] and match[2][0] == match[1][0]:
        return match[2]
    return _STATUS_OF_CODE.get(match[1], f"{match[1][0]}.0.0")


def _explanation(owed: OwedDsn, reporter: str, is_global: bool) -> Message:
    words = (
        f"This is drainer, which sends what Mailman wrote, at host {reporter}.",
        "Your mail could not be delivered to the recipients below. No further attempt is made for them. Its header is "
        "attached.",
    )
    reported = (
        f"<{_address(reported.sent)}>: {_expiry(reported)}{_ascii(reported.reply)}" for reported in owed.recipients
    )
    paragraphs = [*("\r\n".join(_lines(one)) for one in words), *("\r\n    ".join(_lines(one)) for one in reported)]
    text = "\r\n\r\n".join(paragraphs) + "\r\n"
    charset, encoding = ("utf-8", "8bit") if is_global else ("us-ascii", "7bit")
    part = _message(
        ("Content-Description", "Notification"),
        ("Content-Type", f"text/plain; charset={charset}"),
        ("Content-Transfer-Encoding", encoding),
        is_global=is_global,
    )
    part.set_payload(_octets(text, is_global))
    return part


def _expiry(reported: DsnRecipient) -> str:
    return "given up after repeated attempts; the last answer was: " if reported.status == EXPIRED else ""


def _status(owed: OwedDsn, reporter: str, remote: str, is_global: bool) -> Message:
    fields = [("Original-Envelope-Id", owed.envelope_id)] if owed.envelope_id else []
    fields.append(("Reporting-MTA", f"dns; {reporter}"))
    arrived = parse_name(owed.filebase + Suffix.WAITING)
    # A date after the last attempt comes from a clock that has been set back since.
    if isinstance(arrived, QueueFile) and 0 <= arrived.when_s <= owed.failed_at_s < _LATEST_S:
        fields.append(("Arrival-Date", _date(arrived.when_s)))
    blocks = [_message(*fields, is_global=is_global)]
    blocks += [
        _message(*_recipient(reported, owed, remote, is_global), is_global=is_global) for reported in owed.recipients
    ]
    kind = "message/global-delivery-status" if is_global else "message/delivery-status"
    part = _message(
        ("Content-Description", "Delivery report"),
        ("Content-Type", kind),
        *([("Content-Transfer-Encoding", "8bit")] if is_global else []),
        is_global=is_global,
    )
    octets = b"".join(block.as_bytes(policy=_POLICY) for block in blocks).removesuffix(b"\r\n")
    part.set_payload(octets.decode("ascii", "surrogateescape"))
    return part


def _recipient(reported: DsnRecipient, owed: OwedDsn, remote: str, is_global: bool) -> Iterable[tuple[str, str]]:
    if reported.owed != reported.sent and _PLAIN_ADDRESS.match(reported.owed):
        yield "Original-Recipient", _typed(reported.owed, is_global)
    yield "Final-Recipient", _typed(reported.sent, is_global)
    yield "Action", "failed"
    yield "Status", reported.status or status_of(reported.reply)
    if _REPLY.match(reported.reply):
        yield "Remote-MTA", f"dns; {_mta_name(remote)}"
        yield "Diagnostic-Code", f"smtp; {_ascii(reported.reply)}"
    else:
        yield "Diagnostic-Code", f"x-drainer; {_ascii(reported.reply)}"
    yield "Last-Attempt-Date", _date(owed.failed_at_s)


def _returned(headers: bytes, is_global: bool) -> Message:
    kind = "message/global-headers" if is_global else "text/rfc822-headers"
    part = _message(("Content-Description", "Undelivered mail's header"), ("Content-Type", kind), is_global=is_global)
    if is_global:
        headers = headers.decode("utf-8", "replace").encode()
    part.set_payload(headers.decode("ascii", "surrogateescape"))
    if (
        b"\0" in headers
        or any(len(line) > 998 for line in headers.splitlines())
        or not (is_global or headers.isascii())
    ):
        encode_quopri(part)  # RFC 6522 §4: for headers that are not legal text
    elif is_global:
        part["Content-Transfer-Encoding"] = "8bit"
    return part


def _header(content: bytes) -> bytes:
    """The header of a mail, whole lines, HEADERS_BYTES at most."""
    end = content.find(b"\r\n\r\n")
    header = b"" if content.startswith(b"\r\n") else content[: end + 2] if end >= 0 else content
    if len(header) > HEADERS_BYTES:
        end = header.rfind(b"\r\n", 0, HEADERS_BYTES)
        header = header[: end + 2] if end >= 0 else b""
    return header


class _Part(Message):
    """A part whose payload is octets, whatever its type: the email package would take message/* apart."""

    def get_content_maintype(self) -> str:
        return "multipart" if self.is_multipart() else "text"


def _message(*fields: tuple[str, str], is_global: bool) -> Message:
    message = _Part(_POLICY)
    for name, value in fields:
        message[name] = _octets("\r\n ".join(_lines(value, len(name) + 2)), is_global)
    return message


def _lines(text: str, indent: int = 0) -> Sequence[str]:
    """Words in lines of some 76 characters, the first one shorter by `indent`; a word that is longer has a line of its own,
    cut to what SMTP can carry."""
    lines = [""]
    longest = _longest(text)
    for word in _UNPRINTABLE.sub(" ", text).split():
        for start in range(0, len(word), longest):
            piece = word[start : start + longest]
            used = len(lines[-1]) + (indent if len(lines) == 1 else 0)
            if lines[-1] and used + 1 + len(piece) > _LINE:
                lines.append(piece)
            else:
                lines[-1] = f"{lines[-1]} {piece}".lstrip()
    return lines


def _mta_name(host: str) -> str:
    """A name, or an address as the literal RFC 5321 §4.1.3 has for it."""
    if ":" in host:
        return f"[IPv6:{host}]"
    return f"[{host}]" if re.fullmatch(r"[0-9.]+", host) else host


def _date(seconds: float) -> str:
    return format_datetime(datetime.fromtimestamp(seconds, UTC))


def _octets(text: str, is_global: bool) -> str:
    """Text as the email package carries octets: UTF-8 where that is allowed, else ASCII."""
    return text.encode("utf-8").decode("ascii", "surrogateescape") if is_global else _ascii(text)


def _ascii(text: str) -> str:
    return "".join(character if character.isascii() else "?" for character in text)


def _address(address: str) -> str:
    return _UNPRINTABLE.sub("?", address)[: _longest(address)]


def _longest(text: str) -> int:
    """Characters a line may have without a break, so that it stays below the 998 octets of RFC 5322 §2.1.1."""
    return _LONGEST_WORD if text.isascii() else _LONGEST_UTF8_WORD


def _typed(address: str, is_global: bool) -> str:
    """An address with its type; outside ASCII as it is, or as RFC 6533 §3 has it for seven bits."""
    shown = _address(address)
    if shown.isascii():
        return f"rfc822; {shown}"
    if is_global:
        return f"utf-8; {shown}"
    return "utf-8; " + _NOT_IN_XTEXT.sub(lambda match: f"\\x{{{ord(match[0]):02X}}}", shown)
