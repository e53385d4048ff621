"""Writes a sample outage: a Mailman 2.1 site whose out/ is full of originals and resubmissions.

In    an empty directory and a seed: the same seed writes the same bytes
Out   qfiles/out/*.pck and lists/<list>/config.pck as Mailman 2.1 writes them; an Outage, the truth about them

The pickles are written opcode by opcode, since Python 3's pickle cannot write a Python 2 `str` or an old-style instance.
"""

from __future__ import annotations

import hashlib
import random
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from email.utils import formatdate
from pathlib import Path

LISTS = ("announce", "harbour", "beekeepers", "night-sky", "choir")
_WORDS = (
    "ferry timetable harbour lantern meadow bucket orchard kettle rudder violin compass swarm frame honey sail "
    "tide rehearsal telescope comet eclipse alto tenor score jetty buoy smoker hive queen nectar lens mount"
).split()
_FIRST = "ada bela cem dora emil fay gus hana ivo jana kai lena mio nora olaf pia quin rosa sven tara uwe vera".split()
_DOMAINS = ("example.org", "mail.example.com", "post.example.net", "uni.example.org", "home.example.net")


@dataclass(slots=True)
class Outage:
    """The truth about the sample.

    duplicates  how many of each kind were written besides the originals
    owed        (list, Message-ID) -> the recipients that must get it exactly once
    held        (list, Message-ID) of mails that a person sent again: held by default, so they reach no recipient
    """

    queue_dir: Path
    lists_dir: Path
    entries: int = 0
    recipients: int = 0
    duplicates: dict[str, int] = field(default_factory=dict)
    owed: dict[tuple[str, str], set[str]] = field(default_factory=dict)
    held: set[tuple[str, str]] = field(default_factory=set)

    def make_queues(self) -> None:
        for queue in ("archive", "bad", "bounces", "in", "out", "retry", "shunt", "virgin"):
            (self.queue_dir / queue).mkdir(parents=True)


@dataclass(frozen=True, slots=True)
class _Instance:
    """An old-style instance: class by name, no arguments, a dictionary of attributes."""

    module: str
    name: str
    attributes: dict[str, object]


def python2_pickle(value: object) -> bytes:
    """A protocol 1 pickle as Python 2 writes it: every str a byte string (latin-1), bool as INT.

    Raises TypeError for anything but None, bool, int, float, str, tuple, list, dict and _Instance
    """
    return b"".join(_opcodes(value)) + b"."


def _opcodes(value: object) -> Iterator[bytes]:
    if value is None:
        yield b"N"
    elif value is True or value is False:
        yield b"I01\n" if value else b"I00\n"
    elif isinstance(value, int):
        yield b"J" + struct.pack("<i", value)
    elif isinstance(value, float):
        yield b"G" + struct.pack(">d", value)
    elif isinstance(value, str):
        raw = value.encode("latin-1")
        yield (b"U" + bytes([len(raw)]) if len(raw) < 256 else b"T" + struct.pack("<i", len(raw))) + raw
    elif isinstance(value, tuple | list):
        yield b"(" if isinstance(value, tuple) else b"]("
        for element in value:
            yield from _opcodes(element)
        yield b"t" if isinstance(value, tuple) else b"e"
    elif isinstance(value, dict):
        yield b"}("
        for key, element in value.items():
            yield from _opcodes(key)
            yield from _opcodes(element)
        yield b"u"
    elif isinstance(value, _Instance):
        yield b"(c" + value.module.encode() + b"\n" + value.name.encode() + b"\no"
        yield from _opcodes(value.attributes)
        yield b"b"
    else:
        raise TypeError(f"no Python 2 pickle for {type(value).__name__}")


def _message(headers: list[tuple[str, str]], body: str) -> _Instance:
    return _Instance(
        "Mailman.Message",
        "Message",
        {
            "_headers": headers,
            "_unixfrom": None,
            "_payload": body,
            "_charset": None,
            "preamble": None,
            "epilogue": None,
            "defects": [],
            "_default_type": "text/plain",
            "__version__": (4, 0, 3),
        },
    )


def _list_config(name: str, members: list[str]) -> dict[str, object]:
    return {
        "real_name": name.title(),
        "host_name": "lists.example.org",
        "web_page_url": "https://lists.example.org/mailman/",
        "description": f"The {name} list",
        "info": "",
        "msg_header": "",
        "msg_footer": "_______________\n%(real_name)s mailing list\n%(real_name)s@%(host_name)s\n",
        "personalize": 0,
        "include_sender_header": 1,
        "preferred_language": "en",
        "available_languages": ["en"],
        "members": dict.fromkeys(members, 0),
        "digest_members": {},
        "language": {},
        "usernames": {},
        "passwords": {},
    }


class _Writer:
    def __init__(self, outage: Outage, seed: int, start_s: float) -> None:
        self.random = random.Random(seed)
        self.outage = outage
        self.now_s = start_s
        self.out = outage.queue_dir / "out"
        self.members: dict[str, list[str]] = {}

    def make_lists(self, members_each: int) -> None:
        for index, name in enumerate(LISTS):
            self.make_list(name, max(4, members_each * (index + 1) // 3))

    def make_list(self, name: str, size: int, domains: Sequence[str] = _DOMAINS) -> None:
        self.members[name] = [f"{_FIRST[i % len(_FIRST)]}{i}.{name}@{domains[i % len(domains)]}" for i in range(size)]
        folder = self.outage.lists_dir / name
        folder.mkdir(parents=True)
        (folder / "config.pck").write_bytes(python2_pickle(_list_config(name, self.members[name])))

    def tick(self) -> float:
        self.now_s += self.random.uniform(0.5, 30.0)
        return round(self.now_s, 6)

    def compose(self, message_id: str, date_s: float) -> tuple[str, str, str]:
        """Author, subject and body of a new mail."""
        words = self.random.choices(_WORDS, k=self.random.randint(30, 250))
        lines = [" ".join(words[i : i + 10]) for i in range(0, len(words), 10)]
        author = f"{self.random.choice(_FIRST)}@{self.random.choice(_DOMAINS)}"
        return author, f"The {self.random.choice(_WORDS)} and the {self.random.choice(_WORDS)}", "\n".join(lines) + "\n"

    def write(
        self,
        list_name: str,
        message_id: str,
        date_s: float,
        text: tuple[str, str, str],
        recipients: list[str],
        received_s: float,
        hops: int = 1,
    ) -> None:
        """Write one entry. A mail keeps its received time for life; each submission has other Received fields (`hops`)."""
        author, subject, body = text
        date = formatdate(received_s)
        received = [
            (
                "Received",
                f"from relay{hop} (relay{hop}.example.net [192.0.2.{hop}])\n\tby lists.example.org; {date}",
            )
            for hop in range(1, hops + 1)
        ]
        headers = [
            *received,
            ("From", author),
            ("To", f"{list_name}@lists.example.org"),
            ("Subject", subject),
            ("Date", formatdate(date_s)),
            ("Message-ID", message_id),
            ("Precedence", "list"),
            ("List-Id", f"<{list_name}.lists.example.org>"),
        ]
        metadata: dict[str, object] = {
            "_parsemsg": False,
            "lang": "en",
            "listname": list_name,
            "original_sender": author,
            "pipeline": [],
            "received_time": received_s,
            "recips": recipients,
            "tolist": 1,
            "version": 3,
        }
        content = python2_pickle(_message(headers, body))
        salt = f"{list_name}{received_s!r}{self.outage.entries}".encode()
        digest = hashlib.sha1(content + salt, usedforsecurity=False).hexdigest()
        (self.out / f"{received_s!r}+{digest}.pck").write_bytes(content + python2_pickle(metadata))
        self.outage.entries += 1
        self.outage.recipients += len(recipients)

    def owe(self, list_name: str, message_id: str, recipients: list[str]) -> None:
        self.outage.owed.setdefault((list_name, message_id), set()).update(recipients)

    def counted(self, kind: str) -> None:
        self.outage.duplicates[kind] = self.outage.duplicates.get(kind, 0) + 1

    def mail(self, serial: int) -> None:
        """Write one mail and its duplicates, if any."""
        list_name = self.random.choice(LISTS)
        message_id = f"<{serial:06d}.{self.random.getrandbits(32):08x}@example.org>"
        received_s = self.tick()
        date_s = received_s - self.random.uniform(1, 600)
        text = self.compose(message_id, date_s)
        recipients = self.random.sample(self.members[list_name], k=len(self.members[list_name]))
        self.write(list_name, message_id, date_s, text, recipients, received_s)
        self.owe(list_name, message_id, recipients)
        chance = self.random.random()
        if chance < 0.16:
            for _ in range(self.random.choice((1, 1, 1, 2, 3))):
                self.write(list_name, message_id, date_s, text, recipients, self.tick() + 7200, hops=2)
                self.counted("exact")
        elif chance < 0.21:
            self.write(list_name, message_id, date_s, text, recipients, received_s)
            self.counted("restored")
        elif chance < 0.26:
            newcomers = [f"newcomer{serial}.{list_name}@{self.random.choice(_DOMAINS)}"]
            again = recipients[: len(recipients) // 2] + newcomers
            self.write(list_name, message_id, date_s, text, again, self.tick() + 7200, hops=2)
            self.owe(list_name, message_id, again)
            self.counted("partial")
        elif chance < 0.28:
            resent_id = f"<again.{serial:06d}@example.org>"
            resent_s = self.tick() + 9000
            self.write(list_name, resent_id, resent_s, text, recipients, resent_s)
            self.outage.held.add((list_name, resent_id))
            self.counted("resend")
        elif chance < 0.31:
            other = self.random.choice([name for name in LISTS if name != list_name])
            crossed = list(self.members[other])
            self.write(other, message_id, date_s, text, crossed, self.tick())
            self.owe(other, message_id, crossed)
            self.counted("cross-post")


def write_outage(
    directory: Path, mails: int, members_each: int = 12, seed: int = 2014, start_s: float = 1.7e9
) -> Outage:
    """Write a site with `mails` original mails and their resubmissions into `directory` (made if missing).

    members_each  members of a list of medium size
    start_s       when the outage began, seconds since the epoch
    """
    outage = Outage(queue_dir=directory / "qfiles", lists_dir=directory / "lists")
    outage.make_queues()
    writer = _Writer(outage, seed, start_s)
    writer.make_lists(members_each)
    for serial in range(mails):
        writer.mail(serial)
    return outage


def write_plain(
    directory: Path,
    mails: int,
    recipients_each: int,
    lists: Sequence[str] = LISTS[:1],
    seed: int = 2014,
    start_s: float = 1.7e9,
    domains: Sequence[str] = _DOMAINS,
) -> Outage:
    """Write a site with original mails only: for measurements, and for scenarios that are not about duplicates.

    lists    the oldest mail is on the first list, the next one on the second, ...; all others are on the last. A name may
             occur more than once
    domains  of the members, in turn
    """
    outage = Outage(queue_dir=directory / "qfiles", lists_dir=directory / "lists")
    outage.make_queues()
    writer = _Writer(outage, seed, start_s)
    for name in dict.fromkeys(lists):
        writer.make_list(name, recipients_each, domains)
    for serial in range(mails):
        name = lists[min(serial, len(lists) - 1)]
        message_id, received_s = f"<{serial:06d}.plain@example.org>", writer.tick()
        text = writer.compose(message_id, received_s)
        writer.write(name, message_id, received_s, text, writer.members[name], received_s)
        writer.owe(name, message_id, writer.members[name])
    return outage
