"""A site on which every text that a mail, a list, a queue file or an MTA controls is hostile, and what is to be read of it.

`HOSTILE` has it all: what steers terminals, turns text round, is markup, ends a field or a line, is no UTF-8, and is long.
"""

from __future__ import annotations

import re
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from drainer.demo.sample_queue import python2_pickle, write_plain
from drainer.text.foreign import MOST, UNPRINTABLE
from tests.scenarios.hostile_queue import meant_for, put

SHORT = (
    "\x1b]0;t\x07\x1b[2J\x9b31m\u202egnp.exe\u2066 <script>document.title='run'</script>"
    "<img src=x onerror=document.title='run'>"
    "</textarea></style>&lt; \" ' ` | ; = \\ ,a=b {{7*7}} %s $(touch run) [x](javascript:document.title='run') 'rta'=1;;;0;"
).encode() + b"caf\xe9 \xed\xa0\x80\xff"
HOSTILE = SHORT + b" \0\r\tz " + b"z" * 70_000
LONG_RUN = "z" * (MOST + 1)
ACCEPTED, REFUSED, DEFERRED = "ok@example.org", "no@example.org", "later@example.org"


@dataclass
class HostileMta:
    """An MTA whose every reply is hostile. It turns the first session away, refuses one recipient and defers another.

    taken  reverse-path, recipients and content of each mail it took
    """

    port: int = 0
    taken: list[tuple[bytes, list[bytes], bytes]] = field(default_factory=list)
    is_busy: threading.Event = field(default_factory=threading.Event)


_REPLY = SHORT.replace(b"\0", b"") + b"z" * 7000


@contextmanager
def hostile_mta() -> Iterator[HostileMta]:
    mta = HostileMta()
    mta.is_busy.set()

    class Session(socketserver.StreamRequestHandler):
        def say(self, code: bytes, separator: bytes = b" ") -> None:
            self.wfile.write(code + separator + _REPLY + b"\r\n")

        def handle(self) -> None:
            if mta.is_busy.is_set():
                self.say(b"421 4.3.2")
                return
            self.say(b"220 mx.example.org")
            sender, recipients = b"", list[bytes]()
            while line := self.rfile.readline():
                verb, _, rest = line.strip().partition(b":")
                match verb.split(b" ")[0].upper():
                    case b"EHLO":
                        self.say(b"250", b"-")
                        self.wfile.write(b"250-SIZE 10000000\r\n250 8BITMIME\r\n")
                    case b"MAIL":
                        sender, recipients = rest.split(b" ")[0], []
                        self.say(b"250 2.1.0")
                    case b"RCPT" if REFUSED.encode() in rest:
                        self.say(b"550 5.1.1")
                    case b"RCPT" if DEFERRED.encode() in rest:
                        self.say(b"451 4.2.0")
                    case b"RCPT":
                        recipients.append(rest)
                        self.say(b"250 2.1.5")
                    case b"DATA":
                        self.say(b"354")
                        content = b""
                        while (part := self.rfile.readline()) != b".\r\n" and part:
                            content += part
                        mta.taken.append((sender, recipients, content))
                        self.say(b"250 2.0.0")
                    case b"QUIT":
                        self.say(b"221 2.0.0")
                        return
                    case _:
                        self.say(b"250 2.0.0")

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True
        allow_reuse_address = True

    with Server(("127.0.0.1", 0), Session) as server:
        mta.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield mta
        finally:
            server.shutdown()
            thread.join()


@dataclass(frozen=True)
class HostileSite:
    queue_dir: Path
    lists_dir: Path
    list_name: str
    entries: dict[str, str]
    """What it is of to filebase."""


def hostile_site(home: Path) -> HostileSite:
    outage = write_plain(home, 1, 2)
    (list_name,) = (path.name for path in outage.lists_dir.iterdir())
    queue_dir = outage.queue_dir
    text = HOSTILE.decode("latin-1")
    subject, folded = text.replace("\r", " "), SHORT.decode("latin-1")
    headers = f"To: {subject}\nX-{'y' * 3000}: {subject}\nReceived: {subject}\n"

    entries = {
        "sent": put(
            queue_dir,
            _mail(f"<{subject}@x>", subject, headers),
            meant_for(
                ACCEPTED, REFUSED, DEFERRED, list_name=list_name, **{"x-odd": text, text[:50]: [text, {text: 1}]}
            ),
        ),
        "sender": put(
            queue_dir, _mail("<sender@x>", subject, ""), meant_for(ACCEPTED, list_name=list_name, envsender=text)
        ),
        "list": put(queue_dir, _mail("<list@x>", subject, ""), meant_for(ACCEPTED, list_name=text)),
        "short list": put(queue_dir, _mail("<slist@x>", folded, ""), meant_for(ACCEPTED, list_name=folded)),
        "recipient": put(
            queue_dir,
            _mail("<rcpt@x>", folded, ""),
            meant_for(f"{text}@x", f"{folded}@x", ACCEPTED, list_name=list_name),
        ),
        "resend": put(queue_dir, _mail("<resend@x>", subject, headers), meant_for(ACCEPTED, list_name=list_name)),
        "pickle": put(queue_dir, b"cos\n" + SHORT.replace(b"\n", b" ") + b"\n.", meant_for(ACCEPTED)),
    }
    odd = b"<b onclick=run>\x1b[2J\xe2\x80\xae|\xe9.pck"
    with open(bytes(queue_dir) + b"/out/" + odd, "wb"):  # noqa: PTH123 - a name that is no text
        pass
    (queue_dir / "out" / "1700000000.5+directory.pck").mkdir()
    return HostileSite(queue_dir, outage.lists_dir, list_name, entries)


def _mail(message_id: str, subject: str, headers: str) -> bytes:
    return python2_pickle(
        f"{headers}From: {subject} <ann@example.org>\nSubject: {subject}\nMessage-ID: {message_id}\n\nHello.\n"
    )


def objections(text: str, *, lines: bool = True) -> list[str]:
    """What of a text no output may have; `lines`: it may be of several."""
    checked = text.replace("\n", "") if lines else text
    found = [f"{match[0]!r} in {checked[max(0, match.start() - 60) : match.end() + 20]!r}"
             for match in UNPRINTABLE.finditer(checked)]  # fmt: skip
    if LONG_RUN in text:
        found.append("a field of more than is said of one")
    return found[:3]


def texts_in(value: object) -> Iterator[str]:
    """Every text of a JSON value, keys too."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from texts_in(key)
            yield from texts_in(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from texts_in(inner)


LOG_LINE = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d+ [A-Z]+ (?P<fields>.*)")
LOG_FIELD = re.compile(r'[a-z_0-9.]+=(?:"(?:[^"\\]|\\.)*"|[^ "=]*)(?: |\Z)')


def is_of_fields(line: str) -> bool:
    """Whether a log line is a stamp, a level, and fields from end to end."""
    match = LOG_LINE.fullmatch(line)
    return match is not None and LOG_FIELD.sub("", match["fields"]) == ""
