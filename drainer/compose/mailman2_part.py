"""A message of Mailman 2.1 and its parts, as octets, in the form that delivery changes and serialises.

In    an inert message from a queue entry, or a mail as plain text
Out   Part values
Pure  values only

Text in a pickle of Python 2 is a byte string; here it becomes `bytes` again, so that the rules of Python 2 apply unchanged.
"""

from __future__ import annotations

import binascii
import email.message
import email.parser
import email.policy
import io
import quopri
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

from drainer.compiled import python_class
from drainer.compose.mailman2_charset import Charset, charset_named
from drainer.compose.mailman2_header import HEADER_LENGTH, EncodedHeader, HeaderValue, encoded_text, unfolded
from drainer.compose.python27_codecs import encode
from drainer.errors import ComposerFailed
from drainer.pickles import standins

_DEEPEST = 150
_UUENCODE = (b"x-uuencode", b"uuencode", b"uue", b"x-uue")


@python_class
@dataclass(frozen=True, slots=True)
class Part:
    """email.message.Message. `payload` is the body, the parts of a multipart or message, or None."""

    headers: tuple[tuple[bytes, HeaderValue], ...]
    payload: bytes | tuple[Part, ...] | None
    preamble: bytes | None = None
    epilogue: bytes | None = None
    default_type: str = "text/plain"

    @property
    def is_multipart(self) -> bool:
        return isinstance(self.payload, tuple)

    def get(self, name: bytes) -> bytes | None:
        """The first value of that name, not unfolded; None if there is none."""
        wanted = name.lower()
        for one, value in self.headers:
            if one.lower() == wanted:
                return unfolded(value)
        return None

    def without(self, *names: bytes) -> Part:
        """The part without the fields of these names, given in lower case."""
        return self._with_headers(tuple([field for field in self.headers if field[0].lower() not in names]))

    def with_field(self, name: bytes, value: HeaderValue) -> Part:
        """The part with one more field, at the end."""
        return self._with_headers((*self.headers, (name, value)))

    def _with_headers(self, headers: tuple[tuple[bytes, HeaderValue], ...]) -> Part:
        return Part(headers, self.payload, self.preamble, self.epilogue, self.default_type)

    @property
    def content_type(self) -> ContentType:
        value = self.get(b"content-type")
        return ContentType("", self.default_type, None, None, None, None) if value is None else content_type(value)


@python_class
@dataclass(frozen=True, slots=True)
class ContentType:
    """A parsed Content-Type.

    full               type/subtype in lower case; text/plain if it is invalid
    charset            in lower case; None if missing or not ASCII
    boundary           None if missing or empty
    flowed, delete_sp  the format and delsp parameters of RFC 3676
    """

    value: str
    full: str
    charset: str | None
    boundary: bytes | None
    flowed: str | None
    delete_sp: str | None


@lru_cache(maxsize=1024)
def content_type(value: bytes) -> ContentType:
    """Parse a Content-Type."""
    message = _with_content_type(value)
    boundary = message.get_boundary()
    return ContentType(
        value.decode("latin-1"),
        message.get_content_type(),
        message.get_content_charset(),
        boundary.encode("latin-1", "replace") if boundary else None,
        _simple(message.get_param("format")),
        _simple(message.get_param("delsp")),
    )


def content_type_with_boundary(value: bytes, boundary: bytes) -> bytes:
    """The Content-Type with this boundary."""
    message = _with_content_type(value)
    message.set_boundary(boundary.decode("latin-1"))
    return str(message["Content-Type"]).encode("latin-1", "replace")


def _with_content_type(value: bytes) -> email.message.Message:
    message = email.message.Message(email.policy.compat32)
    message["Content-Type"] = value.decode("latin-1")
    return message


def _simple(parameter: object) -> str | None:
    if isinstance(parameter, tuple):  # RFC 2231
        return str(parameter[2])
    return parameter if isinstance(parameter, str) else None


def decoded_body(part: Part) -> bytes:
    """The body without its transfer encoding; unchanged if that is unknown or broken."""
    body = part.payload if isinstance(part.payload, bytes) else b""
    encoding = (part.get(b"content-transfer-encoding") or b"").lower()
    if encoding == b"quoted-printable":
        return quopri.decodestring(body)
    if encoding == b"base64":
        return _from_base64(body)
    if encoding in _UUENCODE:
        return _from_uuencode(body)
    return body


def _from_base64(body: bytes) -> bytes:
    try:
        decoded = binascii.a2b_base64(body)
    except binascii.Error:
        return body
    if not body.endswith(b"\n") and decoded.endswith(b"\n"):
        return decoded[:-1]
    return decoded


def _from_uuencode(body: bytes) -> bytes:
    lines = io.BytesIO(body)
    for line in lines:
        words = line.split(b" ", 2)
        if line.startswith(b"begin") and len(words) == 3 and words[0] == b"begin" and _is_octal(words[1]):
            break
    else:
        return body
    out: list[bytes] = []
    for line in lines:
        if line.strip(b" \t\r\n\f") == b"end":
            return b"".join(out)
        try:
            out.append(binascii.a2b_uu(line))
        except (
            binascii.Error
        ):  # garbage at the end, from a broken encoder: take the number of octets that the line announces
            octets = (((line[0] - 32) & 63) * 4 + 5) // 3
            try:
                out.append(binascii.a2b_uu(line[:octets]))
            except binascii.Error:
                return body
    return body


def _is_octal(text: bytes) -> bool:
    return bool(text) and all(digit in b"01234567" for digit in text)


def part_of_message(message: standins.Message, depth: int = 0) -> Part:
    """The Part of a pickled message. Raises ComposerFailed for a message that Mailman could not serialise either."""
    if depth > _DEEPEST:
        raise ComposerFailed(f"more than {_DEEPEST} parts inside each other")
    payload = message.attribute("_payload")
    if isinstance(payload, list):
        parts = [one for one in payload if isinstance(one, standins.Message)]
        if len(parts) != len(payload):
            raise ComposerFailed("a part of the message is not a message")
        body: bytes | tuple[Part, ...] | None = tuple(part_of_message(one, depth + 1) for one in parts)
    elif payload is None or isinstance(payload, str):
        body = None if payload is None else octets(payload, "the body")
    else:
        raise ComposerFailed(f"the body is a {type(payload).__name__}")
    headers = message.attribute("_headers")
    if not isinstance(headers, list):
        raise ComposerFailed("the message has no header")
    default_type = message.attribute("_default_type")
    return Part(
        tuple([_field(field) for field in headers]),
        body,
        _text(message.attribute("preamble")),
        _text(message.attribute("epilogue")),
        default_type if isinstance(default_type, str) else "text/plain",
    )


def _text(value: object) -> bytes | None:
    return octets(value, "a preamble") if isinstance(value, str) else None


def octets(text: str, what: str) -> bytes:
    """The byte string that Python 2 pickled. Raises ComposerFailed for a unicode text that is not ASCII."""
    try:
        return text.encode("ascii", "surrogateescape")
    except UnicodeEncodeError:
        raise ComposerFailed(f"{what} is unicode, which Mailman cannot serialise") from None


def _field(field: object) -> tuple[bytes, HeaderValue]:
    if not (isinstance(field, tuple) and len(field) == 2 and isinstance(field[0], str)):
        raise ComposerFailed("a header field is not a pair of name and value")
    name, value = octets(field[0], "the name of a header field"), field[1]
    if isinstance(value, standins.Header):
        return name, _header(value)
    if not isinstance(value, str):
        return name, str(value).encode("ascii", "replace")
    try:
        return name, value.encode("ascii", "surrogateescape")
    except UnicodeEncodeError:
        return name, encoded_text(value, charset_named("us-ascii"))


def _header(header: standins.Header) -> EncodedHeader:
    chunks = header.attribute("_chunks")
    if not isinstance(chunks, list):
        raise ComposerFailed("a header object without its text")
    continuation = header.attribute("_continuation_ws")
    return EncodedHeader(
        tuple(_chunk(chunk) for chunk in chunks),
        _number(header.attribute("_firstlinelen"), HEADER_LENGTH),
        _number(header.attribute("_maxlinelen"), HEADER_LENGTH - 1),
        octets(continuation, "a header") if isinstance(continuation, str) else b" ",
    )


def _chunk(chunk: object) -> tuple[bytes, Charset]:
    if not (isinstance(chunk, tuple) and len(chunk) == 2 and isinstance(chunk[0], str)):
        raise ComposerFailed("a header object without its text")
    text, pickled = chunk
    charset = _charset(pickled) if isinstance(pickled, standins.Charset) else charset_named("us-ascii")
    try:
        return text.encode("ascii", "surrogateescape"), charset
    except UnicodeEncodeError:
        return encode(text, "utf-8", "replace"), charset_named("utf-8")


def _charset(pickled: standins.Charset) -> Charset:
    def text(name: str) -> str | None:
        value = pickled.attribute(name)
        return value if isinstance(value, str) else None

    def number(name: str) -> int | None:
        value = pickled.attribute(name)
        return value if isinstance(value, int) else None

    name = text("input_charset") or "us-ascii"
    return Charset(
        name,
        text("output_charset") or name,
        number("header_encoding"),
        number("body_encoding"),
        text("input_codec"),
        text("output_codec"),
    )


def _number(value: object, default: int) -> int:
    return value if isinstance(value, int) and value > 0 else default


class _Python2Fields(email.policy.Compat32):
    """Reads a header field as Python 2 does: white space before the value is removed, also line ends."""

    def header_source_parse(self, sourcelines: list[str]) -> tuple[str, str]:
        name, _, value = sourcelines[0].partition(":")
        return name, (value.lstrip(" \t\r\n\v\f") + "".join(sourcelines[1:])).rstrip("\r\n")


_PARSER: Callable[[bytes], email.message.Message] = email.parser.BytesParser(policy=_Python2Fields()).parsebytes


def part_of_plaintext(mail: bytes) -> Part:
    """The Part of a mail in plain text, parsed like Python 2's email package does. Raises ComposerFailed."""
    try:
        return _part_of_parsed(_PARSER(mail), 0)
    except RecursionError:
        raise ComposerFailed("parts too deep inside each other to be parsed") from None


def _part_of_parsed(message: email.message.Message, depth: int) -> Part:
    if depth > _DEEPEST:
        raise ComposerFailed(f"more than {_DEEPEST} parts inside each other")
    payload = message.get_payload()
    body = (
        tuple(_part_of_parsed(one, depth + 1) for one in payload if isinstance(one, email.message.Message))
        if isinstance(payload, list)
        else None
        if payload is None
        else _raw_payload(message)
    )
    return Part(
        tuple((_raw(name), _raw(str(value))) for name, value in message.raw_items()),
        body,
        None if message.preamble is None else _raw(message.preamble),
        None if message.epilogue is None else _raw(message.epilogue),
        message.get_default_type(),
    )


def _raw(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _raw_payload(message: email.message.Message) -> bytes:
    """The original body. get_payload() would decode 8-bit text, so the attribute is read."""
    payload = message.__dict__["_payload"]
    return _raw(payload) if isinstance(payload, str) else b""
