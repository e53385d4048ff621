"""A stand-in for Mailman's SMTP connection: it keeps what Mailman would have sent, and sends nothing.

In    the calls of Mailman's delivery code to smtplib.SMTP: send_message, sendmail, mail, rcpt, data
Out   one CapturedTransaction per final dot, passed to `note`
Pure  no socket; runs in Mailman's Python

send_message and sendmail of smtplib run unchanged: they serialise the message, and choose SMTPUTF8 and the parameters of
MAIL. Only the methods that use the socket are replaced; they answer like an MTA that accepts everything. Commands are not
written for addresses that smtplib would write as they are. A message that is
equal in all its parts to the one before (the next chunk of recipients, the next VERP copy) is not serialised again, which
took most of the time of a bulk entry. So equal messages also share a boundary that had to be invented.
"""

from __future__ import annotations

import smtplib
from typing import TYPE_CHECKING, Any, Callable, NamedTuple, Sequence  # noqa: UP035 (collections.abc: needs 3.9)

if TYPE_CHECKING:
    from drainer.compose.coprocess.equal_copies import parts
    from drainer.compose.coprocess.serialising import is_plain_address
else:
    from equal_copies import parts
    from serialising import is_plain_address

_OK = (250, b"OK")


class CapturedTransaction(NamedTuple):
    """One transaction. `owed_for`: the addresses that Mailman passed to smtplib, parallel to `recipients`."""

    reverse_path: str
    recipients: list[str]
    owed_for: list[str]
    mail_parameters: list[str]
    size: int
    content: bytes


class Capture:
    """What all connections of a request share.

    offers  what the MTA announced at EHLO, in lower case, with parameters
    note    called with each CapturedTransaction, in order; may raise to end the delivery there
    owed    addresses that were passed to Mailman's own connection; None outside of it
    """

    def __init__(self, offers: dict[str, str]) -> None:
        self.offers = offers
        self.begin(lambda done: None)

    def begin(self, note: Callable[[CapturedTransaction], None]) -> None:
        """Start a new request."""
        self.note = note
        self.owed: Sequence[str] | None = None
        self.serialised: tuple[Any, bytes] | None = None


def capturing_class(capture: Capture) -> Any:
    """A class to put in the place of smtplib.SMTP; its connections report to `capture`."""
    return type("SMTP", (CapturingSMTP,), {"capture": capture})


class CapturingSMTP(smtplib.SMTP):
    """An SMTP connection that is connected to nothing."""

    capture: Capture

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        # The constructor of smtplib is not called: it would look up this machine's name in the DNS, and connect.
        self.command_encoding = "ascii"
        self.local_hostname = "localhost"
        self.source_address = None
        self.esmtp_features = dict(self.capture.offers)
        self.does_esmtp = True
        self.ehlo_resp = b"capture"
        self._reply = _OK
        self._line = ""
        self._unserialised: Any = None
        self._reset()

    def _reset(self) -> None:
        self._reverse_path = ""
        self._parameters: list[str] = []
        self._recipients: list[str] = []
        self._given: list[str] = []

    def connect(self, *args: Any, **kwargs: Any) -> tuple[int, bytes]:
        return (220, b"capture")

    def ehlo(self, name: str = "") -> tuple[int, bytes]:
        return _OK

    def helo(self, name: str = "") -> tuple[int, bytes]:
        return _OK

    def starttls(self, *args: Any, **kwargs: Any) -> tuple[int, bytes]:
        return (220, b"OK")

    def login(self, *args: Any, **kwargs: Any) -> tuple[int, bytes]:
        return (235, b"OK")

    def send(self, s: Any) -> None:
        # Text that smtplib cannot encode fails here, as it would on the way to a socket.
        self._line = s if s.isascii() else s.encode(self.command_encoding).decode()
        self._reply = (221, b"Bye") if s[:4].lower() == "quit" else _OK

    def getreply(self) -> tuple[int, bytes]:
        return self._reply

    def send_message(
        self,
        msg: Any,
        from_addr: str | None = None,
        to_addrs: Any = None,
        mail_options: Any = (),
        rcpt_options: Any = (),
    ) -> Any:
        found = parts(msg)
        known = self.capture.serialised
        if known is not None and known[0] == found and _is_ascii(from_addr) and all(map(_is_ascii, to_addrs or [None])):
            return self.sendmail(str(from_addr), to_addrs, known[1], mail_options, rcpt_options)
        self.capture.serialised = None
        self._unserialised = found
        try:
            return super().send_message(msg, from_addr, to_addrs, mail_options, rcpt_options)
        finally:
            self._unserialised = None

    def sendmail(self, from_addr: str, to_addrs: Any, msg: Any, mail_options: Any = (), rcpt_options: Any = ()) -> Any:
        if self._unserialised is not None and not mail_options:
            self.capture.serialised = (self._unserialised, msg)
        if mail_options or rcpt_options or type(to_addrs) is not list or not to_addrs or type(msg) is not bytes:
            return super().sendmail(from_addr, to_addrs, msg, mail_options, rcpt_options)
        if not all(map(is_plain_address, (from_addr, *to_addrs))):
            return super().sendmail(from_addr, to_addrs, msg)
        # The commands of such addresses can be written down at once.
        self._reset()
        self._reverse_path, self._recipients, self._given = from_addr, list(to_addrs), list(to_addrs)
        self.data(msg)
        return {}

    def mail(self, sender: str, options: Sequence[str] = ()) -> tuple[int, bytes]:
        reply = super().mail(sender, options)
        self._reset()
        self._reverse_path = _path(self._line, " ".join(("", *options)))
        self._parameters = list(options)
        return reply

    def rcpt(self, recip: str, options: Sequence[str] = ()) -> tuple[int, bytes]:
        reply = super().rcpt(recip, options)
        self._recipients.append(_path(self._line, " ".join(("", *options))))
        self._given.append(recip)
        return reply

    def data(self, msg: Any) -> tuple[int, bytes]:
        if isinstance(msg, str):
            msg = smtplib._fix_eols(msg).encode("ascii")  # type: ignore[attr-defined]
        content = msg if msg[-2:] == b"\r\n" else msg + b"\r\n"
        owed = self.capture.owed
        if owed is None or len(owed) != len(self._given):
            owed = self._given
        parameters = [option for option in self._parameters if not option.lower().startswith("size=")]
        done = CapturedTransaction(self._reverse_path, self._recipients, list(owed), parameters, len(msg), content)
        self._reset()
        self.capture.note(done)
        return _OK

    def rset(self) -> tuple[int, bytes]:
        self._reset()
        return _OK

    def quit(self) -> tuple[int, bytes]:
        return (221, b"Bye")

    def close(self) -> None:
        return None


def _path(line: str, options: str) -> str:
    """The path of a MAIL or RCPT command without its angle brackets; `options`: what follows it."""
    path = line[line.index(":") + 1 :].rstrip("\r\n")
    path = path[: len(path) - len(options)]
    return path[1:-1] if path[:1] == "<" and path[-1:] == ">" else path


def _is_ascii(address: str | None) -> bool:
    return address is not None and address.isascii()
