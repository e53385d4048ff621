"""What goes on the wire: an envelope and a content, ready for one SMTP transaction.

Pure  values only
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Envelope:
    """RFC 5321 §2.3.1.

    reverse_path     argument of MAIL without the angle brackets; "" is the null reverse-path
    recipients       arguments of RCPT without the angle brackets, in order, at least one
    mail_parameters  ESMTP parameters Mailman itself would give besides SIZE, such as "SMTPUTF8", "BODY=8BITMIME"
    size             value of the SIZE parameter Mailman would announce where the server offers SIZE (RFC 1870);
                     None: the octets of the content
    """

    reverse_path: str
    recipients: tuple[str, ...]
    mail_parameters: tuple[str, ...] = ()
    size: int | None = None


@dataclass(frozen=True, slots=True)
class ComposedMessage:
    """One transaction's worth.

    content   RFC 5322 message as octets, every line ended by CRLF, not yet dot-stuffed
    owed_for  the entry's own recipients that this transaction settles, parallel to envelope.recipients
              (they differ where Mailman's address parser turns `Name <a@b>` into `a@b`)
    """

    envelope: Envelope
    content: bytes
    owed_for: tuple[str, ...]
