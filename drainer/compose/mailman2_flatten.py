"""Serialises a message as Mailman 2.1 does, and converts it to its form on the wire.

In    Part values
Out   FlatMessage: the header as lines that can still be changed, and the finished body
Pure  no randomness: a boundary that must be invented is a digest of the text, so the result is the same every time

Source  MAILMAN21.md §6
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, replace
from functools import lru_cache

from drainer.compiled import python_class
from drainer.compose.mailman2_header import HeaderValue, folded, unfolded
from drainer.compose.mailman2_part import Part, content_type_with_boundary

_LONGEST_CACHED = 1000
_LINE_END = re.compile(rb"\r\n|\r|\n")


@python_class
@dataclass(frozen=True, slots=True)
class FlatMessage:
    """A serialised message.

    lines      (name in lower case, the whole field with its line end) of each header field
    body       everything after the blank line
    wire_body  the body on the wire
    """

    lines: tuple[tuple[bytes, bytes], ...]
    body: bytes
    wire_body: bytes

    def with_lines(self, lines: tuple[tuple[bytes, bytes], ...]) -> FlatMessage:
        """The same body with another header."""
        return FlatMessage(lines, self.body, self.wire_body)

    def without(self, *names: bytes) -> FlatMessage:
        """The message without the fields of these names, given in lower case."""
        return self.with_lines(tuple([line for line in self.lines if line[0] not in names]))

    def with_field(self, name: bytes, value: HeaderValue) -> FlatMessage:
        """The message with one more field, at the end. Raises ComposerFailed."""
        return self.with_lines((*self.lines, _line(name, value)))

    def with_only(self, *fields: tuple[bytes, HeaderValue]) -> FlatMessage:
        """The message with these fields at the end, in the place of all others of their names. Raises ComposerFailed."""
        added = [_line(name, value) for name, value in fields]
        names = {name for name, _ in added}
        return self.with_lines((*[line for line in self.lines if line[0] not in names], *added))

    @property
    def size(self) -> int:
        """Number of octets before line ends become CRLF: Mailman announces it as SIZE."""
        return sum(len(line) for _, line in self.lines) + 1 + len(self.body)

    @property
    def content(self) -> bytes:
        """The message on the wire, before dot-stuffing."""
        head = on_the_wire(b"".join(line for _, line in self.lines) + b"\n")
        content = head + self.wire_body
        return content if content.endswith(b"\r\n") else content + b"\r\n"


def on_the_wire(text: bytes) -> bytes:
    """CRLF, LF and lone CR all become CRLF."""
    if b"\r" not in text:
        return text.replace(b"\n", b"\r\n")
    return _LINE_END.sub(b"\r\n", text)


def _line(name: bytes, value: HeaderValue) -> tuple[bytes, bytes]:
    return name.lower(), name + b": " + folded(name, value) + b"\n"


# Most fields are the same in all entries of a list, and in all copies of one entry. Fields that differ from copy to copy are
# added by with_field(), which does not use this cache.
_cached_line = lru_cache(maxsize=2048)(_line)


def _field_line(name: bytes, value: HeaderValue) -> tuple[bytes, bytes]:
    if isinstance(value, bytes) and len(value) > _LONGEST_CACHED:
        return _line(name, value)
    return _cached_line(name, value)


def flattened(part: Part, closing_line: bool = True) -> FlatMessage:
    """Serialise a whole message.

    closing_line  write a line end after the closing boundary of a multipart without epilogue: True like Python 2.7.18,
                  False like 2.7.3
    Raises  ComposerFailed for a header field that Mailman could not write
    """
    part, body = _with_body(part, closing_line)
    return FlatMessage(tuple(_field_line(name, value) for name, value in part.headers), body, on_the_wire(body))


def _inner(part: Part, closing_line: bool) -> bytes:
    part, body = _with_body(part, closing_line)
    head = b"".join(name + b": " + unfolded(value) + b"\n" for name, value in part.headers)
    return head + b"\n" + body


def _with_body(part: Part, closing_line: bool) -> tuple[Part, bytes]:
    """The body; and the part, with the boundary of the body in its Content-Type."""
    full = part.content_type.full
    if full.startswith("multipart/"):
        return _multipart(part, closing_line)
    if full == "message/delivery-status" and isinstance(part.payload, tuple):
        return part, b"\n".join(_inner(one, closing_line).removesuffix(b"\n") for one in part.payload)
    if isinstance(part.payload, tuple):
        return part, _inner(part.payload[0], closing_line) if part.payload else b""
    return part, part.payload or b""


def _multipart(part: Part, closing_line: bool) -> tuple[Part, bytes]:
    if isinstance(part.payload, bytes):
        return part, part.payload
    texts = [_inner(one, closing_line) for one in part.payload or ()]
    boundary = part.content_type.boundary
    if not boundary:
        boundary = invented_boundary(texts)
        part = replace(part, headers=tuple(_bounded(name, value, boundary) for name, value in part.headers))
    pieces = [] if part.preamble is None else [part.preamble, b"\n"]
    pieces += [b"--", boundary, b"\n", (b"\n--" + boundary + b"\n").join(texts), b"\n--", boundary, b"--"]
    if closing_line or part.epilogue is not None:
        pieces.append(b"\n")
    return part, b"".join([*pieces, part.epilogue or b""])


def _bounded(name: bytes, value: HeaderValue, boundary: bytes) -> tuple[bytes, HeaderValue]:
    if name.lower() != b"content-type":
        return name, value
    return name, content_type_with_boundary(unfolded(value), boundary)


def invented_boundary(texts: list[bytes]) -> bytes:
    """A boundary in Mailman's form (15 `=`, 19 digits, `==`) that no line of the texts begins with."""
    digest = hashlib.sha256(b"\0".join(texts)).digest()
    number = int.from_bytes(digest[:8], "big") >> 1
    while True:
        boundary = b"===============%019d==" % number
        if not any(b"--" + boundary in text for text in texts):
            return boundary
        number = (number + 1) % 2**63
