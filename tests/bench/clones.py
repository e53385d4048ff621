"""Many Mailman 3 queue entries of one size, cloned from one that a genuine Mailman 3 wrote.

In    a sample of tests/samples/mailman3
Out   files of a queue directory, each a mail of its own on one of twenty lists
Note  the pickle is written again opcode by opcode, with other texts in it; the memo is numbered anew and the frame
      measured anew, so that what reads it meets what Mailman's own pickler would have written
"""

from __future__ import annotations

import hashlib
import pickletools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from drainer.pickles.prescan import pickle_end

SAMPLES = Path(__file__).parents[1] / "samples" / "mailman3"
GENUINE = "1795330134.032252+5fe5d9a05c0e38b5c7ed49a22d46603f4a5b2db1.pck"
RECIPIENTS = 20
ENTRY_BYTES = 4096
LISTS = 20
FIRST_WHEN_S = 1_795_000_000.25

_LIST, _CLONED_LIST = b"kites", b"k%04d"
_NUMBER, _CLONED_NUMBER = b"#00NUM00#", b"%09d"
_TIME, _CLONED_TIME = b"10:01:00", b"%02d:%02d:%02d"
"""In its Date. Mails of one list, author, subject and second may be one mail, decorated and not: each would be compared with
all others."""
_GROUP, _CLONED_GROUP, _GROUPS = b"#GRP#", b"%05d", 200
"""Twenty subscribers get a mail together; the same get another one of two hundred."""


def template() -> bytes:
    """The entry that clones are made from by replacing texts with others of the same length."""
    raw = (SAMPLES / GENUINE).read_bytes()
    end = pickle_end(raw)
    metadata = _rewritten(raw[end:], lambda text: text, _members())
    short = _rewritten(raw[:end], _numbered(0), [])
    return _rewritten(raw[:end], _numbered(ENTRY_BYTES - len(short) - len(metadata)), []) + metadata


def clone(made: bytes, number: int) -> bytes:
    made = made.replace(_NUMBER, _CLONED_NUMBER % number).replace(_GROUP, _CLONED_GROUP % (number % _GROUPS))
    minutes, second = divmod(number // LISTS, 60)
    made = made.replace(_TIME, _CLONED_TIME % (minutes // 60 % 24, minutes % 60, second))
    return made.replace(_LIST, _CLONED_LIST % (number % LISTS))


def clone_name(number: int) -> str:
    return f"{FIRST_WHEN_S + number / 4!r}+{hashlib.sha1(b'%d' % number, usedforsecurity=False).hexdigest()}.pck"


def write_clones(directory: Path, entries: int) -> int:
    """Fill a queue directory. Returns the bytes written."""
    made = template()
    for number in range(entries):
        (directory / clone_name(number)).write_bytes(clone(made, number))
    return len(clone(made, 0)) * entries


def _members() -> list[str]:
    return [f"member-{number:02}.{_GROUP.decode()}@host{number % 7}.example" for number in range(RECIPIENTS)]


def _numbered(padding: int) -> Callable[[str], str]:
    def text_of(text: str) -> str:
        if text.startswith("<") and text.endswith(">") and "@" in text:
            return f"<{_NUMBER.decode()}@sender.example>"
        if text.endswith("\n") and ":" not in text:
            line = "Bring string, and no rain, and a kite for each who has none of his own"
            return f"Clone {_NUMBER.decode()}\n" + (line + "\n") * (padding // 71) + "x" * (padding % 71)
        return text

    return text_of


def _rewritten(pickled: bytes, text_of: Callable[[str], str], members: list[str]) -> bytes:
    """One pickle with other texts, and if `members` are given with these as the members of its set."""
    body = bytearray()
    memo: dict[int, int] = {}
    made = read = 0
    is_in_set = False
    for name, argument, octets in _opcodes(pickled):
        if name in ("PROTO", "FRAME"):
            continue
        if members and name == "ADDITEMS":
            is_in_set = False
            for member in members:
                body += _short_text(member) + b"\x94"
                made += 1
        if is_in_set and name != "MARK":
            read += name == "MEMOIZE"
            continue
        if members and name == "EMPTY_SET":
            body += octets
            continue
        if name == "MEMOIZE":
            memo[read] = made
            made, read = made + 1, read + 1
        if members and name == "MARK" and body.endswith(b"\x8f\x94"):
            is_in_set = True
        if name in ("SHORT_BINUNICODE", "BINUNICODE"):
            text = text_of(argument)
            body += _short_text(text) if len(text.encode()) < 256 else _long_text(text)
        elif name in ("BINGET", "LONG_BINGET"):
            at = memo[argument]
            body += b"h" + bytes([at]) if at < 256 else b"j" + at.to_bytes(4, "little")
        else:
            body += octets
    return pickled[:2] + b"\x95" + len(body).to_bytes(8, "little") + bytes(body)


def _opcodes(pickled: bytes) -> Iterator[tuple[str, Any, bytes]]:
    found = list(pickletools.genops(pickled))
    ends = [int(pos or 0) for _, _, pos in found[1:]] + [pickle_end(pickled)]
    for (opcode, argument, pos), end in zip(found, ends, strict=True):
        yield opcode.name, argument, pickled[int(pos or 0) : end]


def _short_text(text: str) -> bytes:
    return b"\x8c" + bytes([len(text.encode())]) + text.encode()


def _long_text(text: str) -> bytes:
    return b"X" + len(text.encode()).to_bytes(4, "little") + text.encode()
