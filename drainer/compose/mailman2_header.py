"""Header fields as the email package of Python 2.7 writes them: folding, and header objects with several charsets.

In    the value of a field: octets, or an EncodedHeader
Out   the octets after the colon and the blank
Pure  values only

Source  MAILMAN21.md §6 "Flattening"; compared with Python 2.7.18 on random fields
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from drainer.compiled import python_class
from drainer.compose.mailman2_charset import (
    Charset,
    charset_named,
    encoded_header_length,
    header_encoded,
)
from drainer.compose.python27_codecs import decode, encode
from drainer.errors import ComposerFailed

FIELD_LENGTH = 78
HEADER_LENGTH = 76
_SPLIT_AT = (b";", b",", b" ")
_EMBEDDED_FIELD = re.compile(rb"\n[^ \t]+:")
_FIELD_NAME = re.compile(rb"[!-~]+:\Z")  # as a first word it stays with the second
_US_ASCII = charset_named("us-ascii")


@python_class
@dataclass(frozen=True, slots=True)
class EncodedHeader:
    """email.header.Header.

    chunks        octets, each with their charset
    first_length  most characters of the first line
    line_length   most characters of every other line, without its leading white space
    continuation  white space at the start of every other line
    """

    chunks: tuple[tuple[bytes, Charset], ...]
    first_length: int = HEADER_LENGTH
    line_length: int = HEADER_LENGTH - 1
    continuation: bytes = b" "


HeaderValue = bytes | EncodedHeader


def folded(name: bytes, value: HeaderValue) -> bytes:
    """The value of a field of the outermost message, as Mailman's generator writes it.

    Returns  8-bit octets unchanged; header objects encoded; other values folded
    Raises   ComposerFailed for a value that contains another field: Mailman shunts such an entry
    """
    if isinstance(value, EncodedHeader):
        return encoded(value)
    if not value.isascii():
        return value
    first_length = FIELD_LENGTH - len(name) - 2
    if len(value) < first_length:  # the same result as encoded()
        return _without_embedded_field(value.lstrip())
    return encoded(EncodedHeader(((value, _US_ASCII),), first_length, FIELD_LENGTH - 1))


def unfolded(value: HeaderValue) -> bytes:
    """The value of a field of an inner part: unchanged, or a header object encoded."""
    return encoded(value) if isinstance(value, EncodedHeader) else value


def encoded_text(text: str, charset: Charset) -> EncodedHeader:
    """A header object for a text, in the first of us-ascii, `charset` and utf-8 that can encode it."""
    for candidate in (_US_ASCII, charset, charset_named("utf-8")):
        try:
            return EncodedHeader(((encode(text, candidate.output_codec or "ascii"), candidate),))
        except (UnicodeError, LookupError):
            continue
    raise ComposerFailed("a header text that no charset can hold")


def encoded(header: EncodedHeader) -> bytes:
    """The value of a header object in encoded words, folded. Raises ComposerFailed."""
    pieces: list[tuple[bytes, Charset]] = []
    taken = 0
    for text, charset in header.chunks:
        limit = header.first_length - taken - 1
        if limit < encoded_header_length(b"", charset):
            limit = header.first_length
        pieces.extend(_pieces(text, charset, limit, header.line_length))
        taken = encoded_header_length(*pieces[-1])
    lines: list[bytes] = []
    for text, charset in pieces:
        if not text:
            continue
        word = header_encoded(text, charset)
        if lines and len(lines[-1]) + len(word) <= header.first_length:
            lines[-1] += word if lines[-1].endswith(b" ") else b" " + word
        else:
            lines.append(word.lstrip())
    return _without_embedded_field((b"\n" + header.continuation).join(lines))


def _without_embedded_field(value: bytes) -> bytes:
    if b"\n" in value and _EMBEDDED_FIELD.search(value):
        raise ComposerFailed("a header field with another one inside its value; Mailman would shunt the entry")
    return value


def _pieces(text: bytes, charset: Charset, limit: int, line_length: int) -> Iterator[tuple[bytes, Charset]]:
    """The text in pieces. The encoded first piece is no longer than `limit`, each other one no longer than line_length."""
    while True:
        characters = _characters(text, charset)
        output = _octets(characters, charset.output_codec)
        length = encoded_header_length(output, charset)
        if length <= limit or charset.input_charset == "8bit":
            yield (output if length <= limit else text), charset
            return
        if charset.input_charset == "us-ascii":
            for piece in ascii_pieces(text, limit, line_length, _SPLIT_AT):
                yield piece, charset
            return
        at = limit if length == len(text) else _most_characters(characters, charset, limit)
        first = _octets(characters[:at], charset.input_codec)
        yield _octets(_characters(first, charset), charset.output_codec), charset
        rest = _octets(characters[at:], charset.input_codec)
        if at <= 0 and limit == line_length:
            raise ComposerFailed("a header that cannot be cut into lines")
        text, limit = rest, line_length


def _most_characters(characters: bytes | str, charset: Charset, limit: int) -> int:
    low, high = 0, len(characters)
    while low < high:
        middle = (low + high + 1) // 2
        output = _octets(characters[:middle], charset.output_codec)
        if encoded_header_length(output, charset) <= limit:
            low = middle
        else:
            high = middle - 1
    return low


def _characters(text: bytes, charset: Charset) -> bytes | str:
    try:
        return text if charset.input_codec is None else decode(text, charset.input_codec, "replace")
    except (LookupError, UnicodeError):  # some codecs, such as idna, have no "replace"
        return text


def _octets(characters: bytes | str, codec: str | None) -> bytes:
    if isinstance(characters, bytes):
        return characters
    try:
        return encode(characters, codec or "utf-8", "replace")
    except (LookupError, UnicodeError):
        return encode(characters, "utf-8", "replace")


def ascii_pieces(text: bytes, limit: int, line_length: int, split_at: tuple[bytes, ...]) -> list[bytes]:
    """Cut a plain value at its line ends, and then at `;`, else `,`, else blanks, into pieces no longer than the limit.

    limit     of the first pieces; after the first cut it is line_length
    split_at  characters to split at; the first one that occurs in a line is used
    """
    pieces: list[bytes] = []
    for number, raw_line in enumerate(text.splitlines()):
        line = raw_line.lstrip()
        if len(line) < limit:
            pieces.append(line)
            limit = line_length
            continue
        character = next((one for one in split_at if one in line), None)
        if character is None:
            pieces.append(line)
            limit = line_length
            continue
        limit = _split_line(line, character, limit, line_length, pieces, is_first=number == 0)
    return pieces


def _split_line(
    line: bytes, character: bytes, limit: int, line_length: int, pieces: list[bytes], is_first: bool
) -> int:
    """Append the pieces of one line; returns the limit for the next line."""
    joiner = character if character == b" " else character + b" "
    tail = b"" if character == b" " else character
    collected: list[bytes] = []
    count = 0
    for part in re.split(re.escape(character) + rb"\s*", line):
        keep_together = (
            character == b" " and is_first and not pieces and len(collected) == 1 and _FIELD_NAME.match(collected[0])
        )
        joiners = max(len(collected) - 1, 0) * len(joiner)
        if not keep_together and count + joiners + len(part) > limit:
            if collected:
                pieces.append(joiner.join(collected) + tail)
            if len(part) > limit and character != b" ":
                inner = ascii_pieces(part, limit, line_length, (b" ",))
                pieces.extend(inner[:-1])
                collected = inner[-1:]
            else:
                collected = [part]
            count = 1 + sum(map(len, collected))
            limit = line_length
        else:
            collected.append(part)
            count += len(part)
    if collected:
        pieces.append(joiner.join(collected))
    return limit
