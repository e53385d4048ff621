"""Queue entries that no Mailman wrote, among good ones; and the result of a drain for each.

An entry is a mail as text (`_parsemsg`), or any two pickles, under a name of its own.
"""

from __future__ import annotations

import itertools
import os
import re
from dataclasses import dataclass, field
from pathlib import Path

from drainer.demo.sample_queue import python2_pickle
from tests.pickles.hostile import COSTS_TOO_MUCH, RUNS_CODE, short

_NUMBERS = itertools.count(1)
_FIELD = re.compile(r'(\w+)=("(?:[^"\\]|\\.)*"|\S*)')


@dataclass(slots=True)
class Fates:
    """What became of each entry, by filebase: what the log says of it, and the directories its file is in."""

    said: dict[str, list[dict[str, str]]] = field(default_factory=dict)
    where: dict[str, list[str]] = field(default_factory=dict)

    def outcomes(self, filebase: str) -> set[str]:
        return {fields.get("outcome", "") for fields in self.said.get(filebase, [])}

    def line(self, filebase: str, outcome: str) -> dict[str, str]:
        """The one line with this outcome."""
        (fields,) = (fields for fields in self.said.get(filebase, []) if fields.get("outcome") == outcome)
        return fields


def fates(queue_dir: Path, log: Path) -> Fates:
    found = Fates()
    for line in log.read_text().splitlines():
        fields = {name: value.strip('"') for name, value in _FIELD.findall(line)}
        if "filebase" in fields:
            found.said.setdefault(fields["filebase"], []).append(fields)
    for directory, _, files in os.walk(queue_dir):
        for name in files:
            if "+" in name:
                found.where.setdefault(name.rpartition(".")[0], []).append(os.path.relpath(directory, queue_dir))
    return found


def put(queue_dir: Path, message: bytes, metadata: bytes) -> str:
    """Write an entry into out/. Returns its filebase."""
    number = next(_NUMBERS)
    filebase = f"{1_690_000_000 + number}.5+{number:040x}"
    (queue_dir / "out" / f"{filebase}.pck").write_bytes(message + metadata)
    return filebase


def mail(message_id: str, body: str = "Hello.\n", headers: str = "") -> bytes:
    """The pickle of a mail as Mailman 2.1 enqueues one as text."""
    return python2_pickle(f"{headers}From: ann@example.org\nSubject: {message_id}\nMessage-ID: {message_id}\n\n{body}")


def meant_for(*recipients: str, list_name: str = "announce", **metadata: object) -> bytes:
    """The pickle of its metadata."""
    common = {"_parsemsg": 1, "listname": list_name, "version": 3, "received_time": 1_690_000_000.5, "tolist": 1}
    return python2_pickle({**common, "recips": list(recipients), **metadata})


def hostile_pickles() -> dict[str, tuple[bytes, bytes]]:
    """Name to message and metadata: every trick in the place of the message, those of names and calls in that of the
    metadata too."""
    good = meant_for("never@example.org")
    found = {f"message: {name}": (raw, good) for name, raw in (RUNS_CODE | COSTS_TOO_MUCH).items()}
    found |= {f"metadata: {name}": (mail("<never@x>"), raw) for name, raw in RUNS_CODE.items()}
    return found | {
        "nothing": (b"", b""),
        "one byte": (b"\x00", b""),
        "only a message": (mail("<never@x>"), b""),
        "metadata before the message": (good, mail("<never@x>")),
        "three pickles, none a message": (b"N.", b"N.N."),
        "not a pickle": (b"Return-Path: <ann@example.org>\n", b"\n"),
        "compressed": (b"\x1f\x8b\x08\x00", b"\x00" * 30),
    }


def odd_messages() -> dict[str, bytes]:
    """Messages that can be opened, with values in them that the email package never puts there."""

    def message(**attributes: bytes) -> bytes:
        state = b"".join(short(name) + value for name, value in attributes.items())
        return b"(iMailman.Message\nMessage\n}(" + state + b"ub."

    header = b"cemail.header\nHeader\n)\x81}" + short("_chunks")
    charset = b"cemail.charset\nCharset\n)\x81}"
    pair = b"](" + short("Subject") + b"?\x86e"
    return {
        "headers are a number": message(_headers=b"K\x01", _payload=short("x")),
        "headers are pairs of numbers": message(_headers=b"](K\x01K\x02\x86e", _payload=short("x")),
        "no attribute at all": message(),
        "payload is a dictionary": message(_headers=b"]", _payload=b"}"),
        "payload holds what is no message": message(_headers=b"]", _payload=b"](K\x01" + short("x") + b"Ne"),
        "a header is a list": message(_headers=pair.replace(b"?", b"]"), _payload=short("x")),
        "a Header without chunks": message(_headers=pair.replace(b"?", header + b"Nsb"), _payload=short("x")),
        "a Header of numbers": message(
            _headers=pair.replace(b"?", header + b"](K\x01K\x02\x86esb"), _payload=short("x")
        ),
        "a Charset that is a list": message(
            _headers=pair.replace(b"?", header + b"](" + short("x") + charset + short("input_charset") + b"]sb\x86esb"),
            _payload=short("x"),
        ),
        "a Charset no codec knows": message(
            _headers=pair.replace(
                b"?", header + b"](" + short("x") + charset + short("input_charset") + short("\0") + b"sb\x86esb"
            ),
            _payload=short("x"),
        ),
        "_charset is a number": message(_headers=b"]", _payload=short("x"), _charset=b"K\x01"),
        "preamble is a list": message(_headers=b"]", _payload=b"]", preamble=b"]", epilogue=b"]"),
        "a defect where a header belongs": message(
            _headers=pair.replace(b"?", b"cemail.errors\nHeaderDefect\n)R"), _payload=short("x")
        ),
    }
