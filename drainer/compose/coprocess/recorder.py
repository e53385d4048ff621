"""Takes the place of smtplib's connections: what Mailman would put on the wire is noted, and nothing leaves.

In    whatever Mailman's delivery code does with smtplib.SMTP: send_message, sendmail, mail, rcpt, data
Out   one Transaction per final dot, handed to `note`
Pure  no socket; runs in Mailman's Python

smtplib's own send_message and sendmail run unchanged: the serialisation, SMTPUTF8 and the parameters of MAIL are
theirs. Only what touches the socket is replaced, and answered as an MTA does that accepts everything.
"""

from __future__ import annotations

import smtplib
from typing import Any, Callable, NamedTuple, Sequence  # noqa: UP035 (collections.abc.Callable[...] needs 3.9)

_OK = (250, b"OK")


class Transaction(NamedTuple):
    """One transaction. `owed_for`: the addresses Mailman gave to smtplib, parallel to `recipients`."""

    reverse_path: str
    recipients: list[str]
    owed_for: list[str]
    mail_parameters: list[str]
    size: int
    content: bytes


class Recording:
    """What all connections of a request share.

    note    called with each Transaction, in order; may raise to end the delivery there
    offers  what the MTA announced at EHLO, lower case, with parameters
    owed    addresses as Mailman's own connection was given them, None where it was not asked
    """

    def __init__(self, offers: dict[str, str], note: Callable[[Transaction], None]) -> None:
        self.offers = offers
        self.note = note
        self.owed: Sequence[str] | None = None


class Recorder(smtplib.SMTP):
    """An SMTP connection to nobody. `recording` is set once, before Mailman's code runs."""

    recording: Recording

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        # smtplib's own would look up this machine's name in the DNS, and connect
        self.command_encoding = "ascii"
        self.local_hostname = "localhost"
        self.source_address = None
        self.esmtp_features = dict(self.recording.offers)
        self.does_esmtp = True
        self.ehlo_resp = b"recorder"
        self._reply = _OK
        self._reset()

    def _reset(self) -> None:
        self._reverse_path = ""
        self._parameters: list[str] = []
        self._recipients: list[str] = []
        self._given: list[str] = []

    def connect(self, *args: Any, **kwargs: Any) -> tuple[int, bytes]:
        return (220, b"recorder")

    def ehlo(self, name: str = "") -> tuple[int, bytes]:
        return _OK

    def helo(self, name: str = "") -> tuple[int, bytes]:
        return _OK

    def starttls(self, *args: Any, **kwargs: Any) -> tuple[int, bytes]:
        return (220, b"OK")

    def login(self, *args: Any, **kwargs: Any) -> tuple[int, bytes]:
        return (235, b"OK")

    def send(self, s: Any) -> None:
        line = s.encode(self.command_encoding) if isinstance(s, str) else s
        self._reply = (221, b"Bye") if line[:4].lower() == b"quit" else _OK

    def getreply(self) -> tuple[int, bytes]:
        return self._reply

    def mail(self, sender: str, options: Sequence[str] = ()) -> tuple[int, bytes]:
        reply = super().mail(sender, options)
        self._reset()
        self._reverse_path = _path(sender)
        self._parameters = list(options)
        return reply

    def rcpt(self, recip: str, options: Sequence[str] = ()) -> tuple[int, bytes]:
        reply = super().rcpt(recip, options)
        self._recipients.append(_path(recip))
        self._given.append(recip)
        return reply

    def data(self, msg: Any) -> tuple[int, bytes]:
        if isinstance(msg, str):
            msg = smtplib._fix_eols(msg).encode("ascii")  # type: ignore[attr-defined]
        content = msg if msg[-2:] == b"\r\n" else msg + b"\r\n"
        owed = self.recording.owed
        if owed is None or len(owed) != len(self._given):
            owed = self._given
        parameters = [option for option in self._parameters if not option.lower().startswith("size=")]
        done = Transaction(self._reverse_path, self._recipients, list(owed), parameters, len(msg), content)
        self._reset()
        self.recording.note(done)
        return _OK

    def rset(self) -> tuple[int, bytes]:
        self._reset()
        return _OK

    def quit(self) -> tuple[int, bytes]:
        return (221, b"Bye")

    def close(self) -> None:
        return None


def _path(address: str) -> str:
    """The argument of MAIL or RCPT as smtplib writes it, without the angle brackets."""
    quoted: str = smtplib.quoteaddr(address)
    return quoted[1:-1] if quoted.startswith("<") and quoted.endswith(">") else quoted
