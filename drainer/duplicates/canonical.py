"""What of a mail survives a second passage through relays and Mailman: its canonical body and canonical headers.

In    an inert message
Out   leaves (type, file name, content) in the order of the message; header texts unfolded and decoded; dates in seconds
Pure  no file, no clock; any message a pickle can hold gives a value

Undone   transfer encoding, charset (where it decodes), line ends, blanks at the end of lines, empty lines at the end:
         relays and Mailman rewrite these. Kept: every word, every attachment, order, types and file names.
Ignored  headers, except those of enclosed messages: an enclosed message is content.
Headers are decoded here and not with queuedir/content.py: the text that people see may improve, digests must not change.
A message that is too deep, too wide or too large to walk (a cycle, a bomb) has no leaves (None). Its exact bytes then serve
as its identity: at worst it is delivered twice, but never mistaken for another mail.
"""

from __future__ import annotations

import binascii
import codecs
import email.errors
import email.header
import email.utils
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date as datetime_date
from functools import lru_cache

from drainer.compiled import python_class
from drainer.pickles.standins import Charset, Header, Message

_LEAVES_AT_MOST = 20_000
_DEPTH_AT_MOST = 100
_HEADER_CHARACTERS = 20_000
_NAME_CHARACTERS = 200
_ENCLOSED_HEADERS_AT_MOST = 200
_DECODED_CHARACTERS = 4_000
"""Encoded words in a longer header stay as they are: the time to find them grows with the square of its length."""

_ENCLOSED_HEADERS = ("from", "to", "cc", "subject", "date", "message-id")
_CHARSET = re.compile(r"""charset\s{0,9}=\s{0,9}["']?([^\s"';]{1,40})""", re.IGNORECASE)
_FILE_NAME = re.compile(
    r"""name(?:\*[0-9]{0,3}\*?)?\s{0,9}=\s{0,9}("(?:[^"\\]|\\.){0,500}"?|[^;]{0,500})""", re.IGNORECASE
)
_GENUINE_UNICODE = re.compile("[\x80-\ud7ff\ue000-\U0010ffff]")
_ASCII_SUPERSETS = (
    "utf-8",
    "ascii",
    "iso8859",
    "cp125",
    "koi8",
    "euc",
    "gb",
    "big5",
    "mac",
    "tis",
    "cp8",
    "cp4",
    "cp9",
)
_OTHER_CHARSETS = ("utf-16", "utf-32", "utf-7", "iso2022", "hz", "shift", "johab")
_EPOCH = datetime_date(1970, 1, 1).toordinal()
_MONTHS = {
    name: number for number, name in enumerate("Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split(), start=1)
}
_USUAL_DATE = re.compile(
    rf"(?:(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun), )?([0-9]{{1,2}}) ({'|'.join(_MONTHS)}) ([12][0-9]{{3}})"
    r" ([0-9]{2}):([0-9]{2}):([0-9]{2}) (\+|-(?!0000))([0-9]{2})([0-9]{2})(?: \([A-Z]{1,5}\))?\Z"
)
"""The format of RFC 5322 §3.3. "-0000" (zone not known) is left to parsedate_tz."""


@python_class
@dataclass(frozen=True, slots=True)
class Leaf:
    """One MIME leaf, or the headers of an enclosed message.

    kind     such as "text/plain"; "message/rfc822 headers" for the headers of an enclosed message
    name     file name, "" if it has none
    content  text as UTF-8 with normal line ends where the charset could be decoded, else bytes
    """

    kind: str
    name: str
    content: bytes


def canonical_leaves(
    message: Message, octets_at_most: int, headers_of_message: dict[str, object] | None = None
) -> tuple[Leaf, ...] | None:
    """The leaves of an inert message; None if it cannot be walked within bounds.

    octets_at_most      the size of the entry's file: honest leaves together have fewer
    headers_of_message  its first_headers, if the caller has them already
    """
    leaves: list[Leaf] = []
    octets = 0
    stack: list[tuple[Message, int, str]] = [(message, 0, "")]
    while stack:
        part, depth, enclosed_in = stack.pop()
        if depth > _DEPTH_AT_MOST or len(leaves) + len(stack) > _LEAVES_AT_MOST or octets > octets_at_most:
            return None
        headers = headers_of_message if part is message and headers_of_message is not None else first_headers(part)
        if enclosed_in:
            leaves.append(_enclosed_headers(headers, enclosed_in))
            octets += len(leaves[-1].content)
        kind, type_text = _content_type(part, headers)
        payload = part.attribute("_payload")
        if isinstance(payload, list):
            if not all(isinstance(child, Message) for child in payload):
                return None
            enclosed_in = kind if kind.startswith("message/") else ""
            stack.extend((child, depth + 1, enclosed_in) for child in reversed(payload))
            continue
        if not (payload is None or isinstance(payload, str | bytes)):
            return None
        octets += len(payload or "")
        if octets > octets_at_most:
            return None
        content = _content(payload or "", headers, kind, type_text)
        leaves.append(Leaf(kind, _file_name(headers, type_text), content))
    return tuple(leaves)


def first_headers(message: Message) -> dict[str, object]:
    """Lower-case name to value (str or Header); of several headers of one name, the first."""
    headers = message.attribute("_headers")
    if type(headers) is not list:
        return {}
    try:
        return {name.lower(): value for name, value in reversed(headers) if len(name) <= _NAME_CHARACTERS}
    except (TypeError, ValueError, AttributeError):
        pairs = reversed(header_pairs(message))
        return {name.lower(): value for name, value in pairs if len(name) <= _NAME_CHARACTERS}


def header_pairs(message: Message) -> list[tuple[str, object]]:
    """Name and value of every header in order, without elements that are not headers."""
    headers = message.attribute("_headers")
    return [
        (header[0], header[1])
        for header in (headers if isinstance(headers, list) else ())
        if isinstance(header, tuple) and len(header) == 2 and isinstance(header[0], str)
    ]


def all_values(message: Message, name: str) -> list[object]:
    """The values (str or Header) of every header of this lower-case name, first to last."""
    return [value for header, value in header_pairs(message) if len(header) == len(name) and header.lower() == name]


def header_text(value: object) -> str:
    """A header's value as people read it: decoded, unfolded, with single blanks; "" for no value."""
    if isinstance(value, Header):
        text = _chunks_text(value)
    elif isinstance(value, str):
        text = value[:_HEADER_CHARACTERS]
    else:
        return ""
    if "=?" in text and len(text) <= _DECODED_CHARACTERS:
        text = _decoded_words(text)
    elif not text.isascii():
        text = octets_of(text).decode("utf-8", "surrogateescape")
    return " ".join(text.split())


def header_source(value: object) -> str:
    """A header's value before any decoding. It is enough to distinguish two copies of one entry from two mails."""
    if isinstance(value, str):
        return value
    return _chunks_text(value) if isinstance(value, Header) else ""


def readable(text: str) -> str:
    """A text from a pickle in a form that can be printed: stray 8-bit bytes are read as latin-1."""
    if text.isascii():
        return text
    octets = octets_of(text)
    try:
        return octets.decode("utf-8")
    except UnicodeDecodeError:
        return octets.decode("latin-1")


def octets_of(text: str) -> bytes:
    """The bytes that a pickled string stands for; genuine unicode as UTF-8."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogatepass")


def canonical_text(data: bytes) -> bytes:
    """Line ends as LF, no blanks before them, no empty lines at the end."""
    return canonical_lines(data).rstrip(b" \t\n")


def canonical_lines(data: bytes) -> bytes:
    """Line ends as LF, no blanks before them."""
    if b"\r" in data:
        data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    if b" \n" in data or b"\t\n" in data:
        data = b"\n".join([line.rstrip(b" \t") for line in data.split(b"\n")])
    return data


def is_text(leaf: Leaf) -> bool:
    """Whether the leaf is running text, not a file."""
    return leaf.kind == "text/plain" and not leaf.name


def canonical_date(date: str) -> bytes:
    """A Date in seconds since the epoch, since a relay may write it in another way; unchanged if it is not a date."""
    if usual := _USUAL_DATE.match(date):  # the same result as parsedate_tz, in less time
        day, month, year, hour, minute, second, sign, zone_hours, zone_minutes = usual.groups()
        days = datetime_date(int(year), _MONTHS[month], 1).toordinal() - _EPOCH + int(day) - 1
        zone_s = int(zone_hours) * 3600 + int(zone_minutes) * 60
        utc_s = days * 86400 + int(hour) * 3600 + int(minute) * 60 + int(second) + (zone_s if sign == "-" else -zone_s)
        return b"%d" % utc_s
    try:
        fields = email.utils.parsedate_tz(date[:200])
        if fields:
            return str(email.utils.mktime_tz(fields)).encode()
    except (ValueError, OverflowError, TypeError, IndexError):
        pass
    return octets_of(date)


def _content(payload: str | bytes, headers: dict[str, object], kind: str, type_text: str) -> bytes:
    data = octets_of(payload) if isinstance(payload, str) else payload
    encoding = header_source(headers.get("content-transfer-encoding")).strip().lower()
    if encoding == "base64":
        try:
            data = binascii.a2b_base64(data)
        except binascii.Error:
            encoding = ""
    elif encoding == "quoted-printable":
        data = binascii.a2b_qp(data)
    is_textual = kind.startswith("text/")
    if is_textual and not (isinstance(payload, str) and _is_genuine_unicode(payload)):
        match = _CHARSET.search(type_text)
        data = _decoded(data, match[1] if match else "us-ascii")
    return data if encoding == "base64" and not is_textual else canonical_text(data)


def _decoded(data: bytes, charset: str) -> bytes:
    codec, is_ascii_superset = _codec(charset)
    if not codec or (is_ascii_superset and data.isascii()):
        return data
    try:
        return data.decode(codec).encode("utf-8", "surrogatepass")
    except (UnicodeError, ValueError):
        return data


@lru_cache(maxsize=256)
def _codec(charset: str) -> tuple[str, bool]:
    """Python's name of a charset ("" if it is not one for text), and whether it contains ASCII."""
    try:
        name = codecs.lookup(charset).name
    except (LookupError, ValueError, UnicodeError):
        return "", False
    if name.startswith(_ASCII_SUPERSETS):
        return name, True
    return (name, False) if name.startswith(_OTHER_CHARSETS) else ("", False)


def _is_genuine_unicode(text: str) -> bool:
    return not text.isascii() and _GENUINE_UNICODE.search(text) is not None


def _content_type(part: Message, headers: dict[str, object]) -> tuple[str, str]:
    text = header_source(headers.get("content-type"))[:_HEADER_CHARACTERS]
    kind = text.partition(";")[0].strip().lower()
    if kind.count("/") != 1:
        default = part.attribute("_default_type")
        kind = default if isinstance(default, str) and "/" in default else "text/plain"
    return kind, text


def _file_name(headers: dict[str, object], type_text: str) -> str:
    disposition = header_source(headers.get("content-disposition"))[:_HEADER_CHARACTERS]
    match = _FILE_NAME.search(disposition) or _FILE_NAME.search(type_text)
    return " ".join(match[1].strip('"').split()) if match else ""


def _enclosed_headers(headers: dict[str, object], kind: str) -> Leaf:
    names: Iterable[str] = (
        _ENCLOSED_HEADERS if kind == "message/rfc822" else sorted(headers)[:_ENCLOSED_HEADERS_AT_MOST]
    )
    lines = [f"{name}: {header_text(headers[name])}" for name in names if name in headers]
    return Leaf(f"{kind} headers", "", octets_of("\n".join(lines)))


def _chunks_text(header: Header) -> str:
    chunks = header.attribute("_chunks")
    parts: list[str] = []
    left = _HEADER_CHARACTERS
    for chunk in chunks if isinstance(chunks, list) else ():
        if left <= 0:
            break
        if not (isinstance(chunk, tuple) and chunk and isinstance(chunk[0], str)):
            continue
        text = chunk[0][:left]
        left -= len(text) + 1
        if not text.isascii() and not _is_genuine_unicode(text) and len(chunk) > 1 and isinstance(chunk[1], Charset):
            charset = chunk[1].attribute("input_charset")
            if isinstance(charset, str):
                text = _decoded(octets_of(text), charset[:40]).decode("utf-8", "surrogateescape")
        parts.append(text)
    return " ".join(parts)


def _decoded_words(text: str) -> str:
    try:
        chunks = email.header.decode_header(text)
    except (email.errors.HeaderParseError, ValueError):
        return text
    parts: list[str] = []
    for chunk, charset in chunks:
        if isinstance(chunk, str):
            parts.append(chunk)
        else:
            parts.append(_decoded(chunk, (charset or "us-ascii")[:40]).decode("utf-8", "surrogateescape"))
    return "".join(parts)
