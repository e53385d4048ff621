"""Mails for tests, as entries of either Mailman would hold them, and what relays do to mails."""

from __future__ import annotations

import base64
import quopri
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from drainer.queuedir.entry import Flavour, QueueEntry
from drainer.queuedir.plaintext import parsed_plaintext

RECIPIENTS = ("ann@example.org", "ben@example.com")


@dataclass(frozen=True)
class Mail:
    """A mail in the making. `octets` writes it with one of the transfer encodings and line ends a relay may choose."""

    text: str = "Meet at the slipway on Friday.\nBring 57 lanterns.\n"
    sender: str = "Ann Ash <ann@example.net>"
    subject: str = "Plan"
    date: str = "Sun, 22 Mar 2026 20:38:15 +0000"
    message_id: str = "<1@sender.example>"
    charset: str = "utf-8"
    attachment: bytes | None = None
    attachment_name: str = "notes.bin"
    headers: tuple[tuple[str, str], ...] = ()
    trace: tuple[str, ...] = (
        "from a.example by lists.example.org (Postfix) with ESMTP id 1A; Sun, 22 Mar 2026 20:38:16 +0000",
    )

    def octets(
        self, encoding: str = "8bit", line_end: bytes = b"\n", at_end: bytes = b"", reverse: bool = False
    ) -> bytes:
        headers = [
            ("From", self.sender),
            ("To", "talk@lists.example.org"),
            ("Subject", self.subject),
            ("Date", self.date),
            ("Message-ID", self.message_id),
            *self.headers,
        ]
        headers = [(name, value) for name, value in headers if value]
        if reverse:
            headers.reverse()
        lines = [f"Received: {text}" for text in self.trace] + [f"{name}: {value}" for name, value in headers]
        text_part = _text_part(self.text, self.charset, encoding)
        if self.attachment is None:
            whole = "\n".join(lines).encode() + b"\nMIME-Version: 1.0\n" + text_part
        else:
            lines += ["MIME-Version: 1.0", 'Content-Type: multipart/mixed; boundary="=b="', "", ""]
            whole = "\n".join(lines).encode() + b"--=b=\n" + text_part + b"\n--=b=\n"
            whole += f'Content-Type: application/octet-stream; name="{self.attachment_name}"\n'.encode()
            whole += b"Content-Transfer-Encoding: base64\n\n" + base64.encodebytes(self.attachment) + b"\n--=b=--\n"
        return (whole + at_end).replace(b"\n", line_end)


def _text_part(text: str, charset: str, encoding: str) -> bytes:
    octets = text.encode(charset)
    head = f"Content-Type: text/plain; charset={charset}\nContent-Transfer-Encoding: {encoding}\n\n".encode()
    if encoding == "base64":
        return head + base64.encodebytes(octets)
    return head + (quopri.encodestring(octets) if encoding == "quoted-printable" else octets)


@dataclass(frozen=True)
class Post:
    """An entry in the making: Mailman 2.1 unless `flavour` says otherwise."""

    octets: bytes
    list_id: str = "talk"
    author: str = "ann@example.net"
    received_s: float = 1_774_212_196.25
    digest: str = "ab12"
    recipients: tuple[str, ...] = RECIPIENTS
    flavour: Flavour = Flavour.MAILMAN2
    metadata: Mapping[str, object] = field(default_factory=lambda: {"tolist": 1})

    def entry(self) -> QueueEntry:
        mailman2 = self.flavour is Flavour.MAILMAN2
        message, _ = parsed_plaintext(self.octets, "Mailman.Message" if mailman2 else "mailman.email.message")
        metadata: dict[str, object] = {"original_sender": self.author, "version": 3, **self.metadata}
        if mailman2:
            metadata |= {"listname": self.list_id, "recips": list(self.recipients), "received_time": self.received_s}
        else:
            metadata |= {"listid": self.list_id, "recipients": set(self.recipients)}
        filebase = f"{self.received_s!r}+{self.digest}"
        return QueueEntry(
            filebase,
            self.flavour,
            self.list_id,
            self.recipients,
            message,
            None,
            metadata,
            self.octets,
            len(self.octets),
        )

    def later(self, seconds: float = 40_000.0) -> Post:
        """As enqueued again after another passage through the MTA."""
        return replace(self, received_s=self.received_s + seconds, digest="cd34")
