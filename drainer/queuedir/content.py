"""Header values, text and parts of an entry's inert message.

In    an inert Message, pickled or parsed from plain text
Out   text to compare or show, and the bytes of leaf bodies; nothing here writes a message
Pure  values only; iterative, so nesting that a pickle may have is never too deep

For what goes out byte for byte, use `message.attribute("_headers")` and `raw_bytes`: they lose nothing.
"""

from __future__ import annotations

import base64
import binascii
import email.errors
import email.header
import quopri
import re
from collections.abc import Iterator
from typing import NamedTuple

from drainer.pickles.standins import Charset, Header, Message

_FOLD = re.compile(r"[ \t]*[\r\n]+[ \t]*")
_TOKEN_END = re.compile(r"[;\s]")


class Part(NamedTuple):
    """A message or a part of one. `depth` is 0 for the message itself."""

    message: Message
    depth: int


def raw_bytes(text: str) -> bytes:
    """The octets behind a pickled text: exact for Python 2 byte strings and parsed mail, UTF-8 for genuine unicode."""
    return text.encode("utf-8", "surrogateescape")


def header_pairs(message: Message) -> list[tuple[str, object]]:
    """(name, value) of every header in order; value is text or a Header. Pairs that are neither are left out."""
    headers = message.attribute("_headers")
    if not isinstance(headers, list):
        return []
    return [
        (pair[0], pair[1])
        for pair in headers
        if isinstance(pair, tuple) and len(pair) == 2 and isinstance(pair[0], str) and isinstance(pair[1], str | Header)
    ]


def header_values(message: Message, name: str) -> list[str]:
    """The text of every header of that name, in order, decoded and unfolded (see value_text)."""
    wanted = name.lower()
    return [value_text(value) for pair_name, value in header_pairs(message) if pair_name.lower() == wanted]


def header_text(message: Message, name: str) -> str | None:
    """The text of the first header of that name, None if there is none."""
    values = header_values(message, name)
    return values[0] if values else None


def value_text(value: object) -> str:
    """A header's value as text: encoded words (RFC 2047) and Header objects decoded, folds made one blank.

    8-bit bytes are read as UTF-8, else as latin-1. Never raises: what cannot be decoded stays as it was written.
    """
    if isinstance(value, Header):
        return _FOLD.sub(" ", _chunks_text(value)).strip()
    if not isinstance(value, str):
        return ""
    text = _FOLD.sub(" ", _decoded(raw_bytes(value), None)).strip()
    if "=?" not in text:
        return text
    try:
        return "".join(
            piece if isinstance(piece, str) else piece.decode(charset or "utf-8")
            for piece, charset in email.header.decode_header(text)
        ).strip()
    except (email.errors.HeaderParseError, binascii.Error, LookupError, ValueError):
        return text


def _chunks_text(header: Header) -> str:
    """The text of a pickled Header: Python 2 has bytes in each charset, Python 3 text already decoded.

    Source  email.header.Header.__str__ and __unicode__: a blank between chunks, except between two encoded ones
    """
    chunks = header.attribute("_chunks")
    if not isinstance(chunks, list):
        return ""
    text, was_plain = "", True
    for chunk in chunks:
        if not (isinstance(chunk, tuple) and len(chunk) == 2 and isinstance(chunk[0], str)):
            continue
        name = chunk[1].attribute("input_charset") if isinstance(chunk[1], Charset) else None
        is_plain = name in (None, "us-ascii")
        piece = _decoded(raw_bytes(chunk[0]), name if isinstance(name, str) else None)
        if text and (is_plain or was_plain) and not text[-1].isspace() and not piece[:1].isspace():
            text += " "
        text += piece
        was_plain = is_plain
    return text


def _decoded(octets: bytes, charset: str | None) -> str:
    for candidate in (charset, "utf-8"):
        if candidate:
            try:
                return octets.decode(candidate)
            except (LookupError, UnicodeError, ValueError):
                continue
    return octets.decode("latin-1")


def walk_parts(message: Message) -> Iterator[Part]:
    """The message and all its parts, each before its own parts, in order."""
    waiting = [Part(message, 0)]
    while waiting:
        part = waiting.pop()
        yield part
        payload = part.message.attribute("_payload")
        if isinstance(payload, list):
            waiting.extend(Part(inner, part.depth + 1) for inner in reversed(payload) if isinstance(inner, Message))


def content_type(message: Message) -> str:
    """`type/subtype` in lower case; what RFC 2045 §5.2 and the email package assume where it is missing or broken."""
    default = message.attribute("_default_type")
    value = header_text(message, "content-type")
    if value is None:
        return default if isinstance(default, str) else "text/plain"
    stated = _TOKEN_END.split(value.strip(), maxsplit=1)[0].lower()
    return stated if stated.count("/") == 1 else "text/plain"


def body_bytes(message: Message) -> bytes | None:
    """The body of a leaf with its transfer encoding undone; None for a part that has parts.

    Encodings that are unknown or do not fit leave the body as it stands, as Mailman does.
    """
    payload = message.attribute("_payload")
    if isinstance(payload, list):
        return None
    body = raw_bytes(payload) if isinstance(payload, str) else payload if isinstance(payload, bytes) else b""
    encoding = (header_text(message, "content-transfer-encoding") or "").strip().lower()
    if encoding == "quoted-printable":
        return quopri.decodestring(body)
    if encoding == "base64":
        try:
            return base64.b64decode(b"".join(body.split()), validate=False)
        except binascii.Error:
            return body
    return body
