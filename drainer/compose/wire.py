"""An envelope and a content, ready for one SMTP transaction.

Pure  values only
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass

_CONTROL = re.compile("[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029]")
_NOTHING = re.compile(r"[\s<>]*\Z")
LONGEST_ADDRESS = 1900
"""In octets. Postfix reads command lines up to 2,048 (line_length_limit), Exim up to 16,384; RFC 5321 §4.5.3.1.3 requires
256. Servers treat the rest of a longer line differently: some read it as the next command."""


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


def why_unfit(address: str) -> str:
    """Why this address cannot appear in an SMTP command, as a clause; "" if it can.

    A tab is accepted here: Mailman 2.1 drops it, as it drops blanks.
    """
    if address.isascii() and address.isprintable() and len(address) <= LONGEST_ADDRESS:
        return ""
    if _CONTROL.search(address):
        return "has a control character in it"
    size = len(address.encode("utf-8", "replace"))
    return f"is {size} octets long" if size > LONGEST_ADDRESS else ""


def is_empty_address(address: str) -> bool:
    """Whether it contains no address: it is empty, blank, or only angle brackets.

    A command with it is a syntax error (RFC 5321 §4.1.2: only MAIL accepts <>). A DSN about it would name no recipient, and
    Mailman would score no member for it.
    """
    return "@" not in address and _NOTHING.match(address) is not None


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

    def only(self, owed: Collection[str]) -> ComposedMessage:
        """The same content for the recipients in `owed`, of which at least one must be in owed_for."""
        wanted = frozenset(owed)
        pairs = zip(self.envelope.recipients, self.owed_for, strict=True)
        kept = [(recipient, owed_for) for recipient, owed_for in pairs if owed_for in wanted]
        return self._for(tuple(recipient for recipient, _ in kept), tuple(owed_for for _, owed_for in kept))

    def parted(self, first: int) -> tuple[ComposedMessage, ComposedMessage | None]:
        """The message for the first so many recipients, and for the others; None: there are none."""
        if first >= len(self.owed_for):
            return self, None
        return self._places(slice(first)), self._places(slice(first, None))

    def cut(self, most: int) -> Iterator[ComposedMessage]:
        """The message in pieces of at most `most` recipients each; 0: in one piece."""
        if not most or len(self.owed_for) <= most:
            yield self
            return
        for at in range(0, len(self.owed_for), most):
            yield self._places(slice(at, at + most))

    def _places(self, places: slice) -> ComposedMessage:
        return self._for(self.envelope.recipients[places], self.owed_for[places])

    def _for(self, recipients: tuple[str, ...], owed_for: tuple[str, ...]) -> ComposedMessage:
        envelope = self.envelope
        return ComposedMessage(
            Envelope(envelope.reverse_path, recipients, envelope.mail_parameters, envelope.size), self.content, owed_for
        )
