"""Character sets as the email package of Python 2.7 knows them: how text is encoded in headers and bodies.

In    names of character sets, texts in them
Out   Charset values; quoted-printable, base64 and encoded words as octets
Pure  values only

Source  MAILMAN21.md §2 and §5; every function was compared with Python 2.7.18 on random input
"""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass
from functools import lru_cache

from drainer.compiled import python_class
from drainer.compose.python27_codecs import codec_name, decode, encode

QUOTED_PRINTABLE = 1
BASE64 = 2
SHORTEST = 3

_ALIASES = {
    "ascii": "us-ascii", "cp949": "ks_c_5601-1987", "euc_jp": "euc-jp", "euc_kr": "euc-kr",
    **{f"latin{mark}{number}": f"iso-8859-{part}" for mark in "-_" for number, part in
       {1: 1, 2: 2, 3: 3, 4: 4, 5: 9, 6: 10, 7: 13, 8: 14, 9: 15, 10: 16}.items()},
}  # fmt: skip
_ENCODINGS: dict[str, tuple[int | None, int | None, str | None]] = {  # in headers, in bodies, converted to
    "us-ascii": (None, None, None),
    **{f"iso-8859-{part}": (QUOTED_PRINTABLE, QUOTED_PRINTABLE, None) for part in (1, 2, 3, 4, 9, 10, 13, 14, 15, 16)},
    "windows-1252": (QUOTED_PRINTABLE, QUOTED_PRINTABLE, None),
    "viscii": (QUOTED_PRINTABLE, QUOTED_PRINTABLE, None),
    "big5": (BASE64, BASE64, None),
    "gb2312": (BASE64, BASE64, None),
    "koi8-r": (BASE64, BASE64, None),
    "euc-jp": (BASE64, None, "iso-2022-jp"),
    "shift_jis": (BASE64, None, "iso-2022-jp"),
    "iso-2022-jp": (BASE64, None, None),
    "utf-8": (SHORTEST, BASE64, "utf-8"),
    "8bit": (None, BASE64, "utf-8"),
}
_CODECS: dict[str, str | None] = {"gb2312": "eucgb2312_cn", "big5": "big5_tw", "us-ascii": None}

_LINE_END = re.compile(rb"\r\n|\r|\n")
_BODY_UNSAFE = re.compile(rb"[^ !-<>-~\t]")
_HEADER_UNSAFE = re.compile(rb"[^-a-zA-Z0-9!*+/ ]")
_ENCODED_WORD_OVERHEAD = 7  # =?, ?b?, ?=
_LONGEST_LINE = 76


@python_class
@dataclass(frozen=True, slots=True)
class Charset:
    """email.charset.Charset. A codec of None means: octets are not converted."""

    input_charset: str
    output_charset: str
    header_encoding: int | None
    body_encoding: int | None
    input_codec: str | None
    output_codec: str | None

    def convert(self, text: bytes) -> bytes:
        """From the input to the output codec. Raises UnicodeError, LookupError."""
        if self.input_codec == self.output_codec:
            return text
        return encode(decode(text, self.input_codec or "ascii"), self.output_codec or "ascii")


@lru_cache(maxsize=256)
def charset_named(name: str) -> Charset:
    """The Charset for a name from a Content-Type or from Mailman's language table."""
    wanted = name.lower()
    if wanted not in _ALIASES and wanted not in _ENCODINGS:
        wanted = codec_name(wanted)
    wanted = _ALIASES.get(wanted, wanted)
    header_encoding, body_encoding, converted = _ENCODINGS.get(wanted, (SHORTEST, BASE64, None))
    output = _ALIASES.get(converted or wanted, converted or wanted)
    return Charset(
        wanted, output, header_encoding, body_encoding, _CODECS.get(wanted, wanted), _CODECS.get(output, output)
    )


def body_in_base64(body: bytes) -> bytes:
    """Lines of 76 characters, each ended by LF."""
    return base64.encodebytes(body)


def body_in_quoted_printable(body: bytes) -> bytes:
    """Quoted-printable with lines ended by LF, broken where Python 2's email package breaks them.

    A blank at the end of a line becomes a soft line break; at the end of the last line it becomes `=20`. A line is broken
    before its 76th character, except that the last character of a line may be the 76th if it needs no quoting.
    """
    if not body:
        return body
    lines = _LINE_END.split(body)
    ended = not lines[-1]
    if ended:
        lines.pop()
    last = len(lines) - 1
    out = [_quoted_line(line, number == last) for number, line in enumerate(lines)]
    return b"\n".join(out) + (b"\n" if ended else b"")


def _quoted_line(line: bytes, is_last: bool) -> bytes:
    trailing = line[-1:] if line[-1:] in (b" ", b"\t") else b""
    text = line[: len(line) - len(trailing)]
    if trailing:
        broken, rest = _broken(text, text)
        if not is_last:
            return broken + rest + trailing + b"=\n"
        quoted = b"=%02X" % trailing[0]
        return broken + rest + (b"=\n" if len(rest) + len(quoted) > _LONGEST_LINE else b"") + quoted
    if len(text) <= _LONGEST_LINE and not _BODY_UNSAFE.search(text):
        return text
    free_last = not _BODY_UNSAFE.match(text[-1:])
    broken, rest = _broken(text[:-1] if free_last else text, text)
    return broken + rest + (text[-1:] if free_last else b"")


def _broken(text: bytes, line: bytes) -> tuple[bytes, bytes]:
    """The quoted text as (complete lines, the last incomplete line)."""
    quoted = _BODY_UNSAFE.sub(_quote, text)
    if len(quoted) < _LONGEST_LINE:
        return b"", quoted
    done: list[bytes] = []
    at = 0
    while len(quoted) - at >= _LONGEST_LINE:
        end = at + _LONGEST_LINE - 1
        for back in (1, 2):  # never inside =XX
            if quoted[end - back : end - back + 1] == b"=":
                end -= back
                break
        done.append(quoted[at:end] + b"=\n")
        at = end
    return b"".join(done), quoted[at:]


def _quote(match: re.Match[bytes]) -> bytes:
    return b"=%02X" % match[0][0]


def encoded_header_length(text: bytes, charset: Charset) -> int:
    """The length of the text in a header, as one encoded word if the charset requires it."""
    if charset.header_encoding is None:
        return len(text)
    in_base64, in_quoted = _base64_length(text), _quoted_length(text)
    length = {BASE64: in_base64, QUOTED_PRINTABLE: in_quoted}.get(charset.header_encoding, min(in_base64, in_quoted))
    return length + len(charset.output_charset) + _ENCODED_WORD_OVERHEAD


def header_encoded(text: bytes, charset: Charset) -> bytes:
    """The text encoded for a header: in encoded words if the charset requires it."""
    if charset.header_encoding is None:
        return text
    in_base64 = charset.header_encoding == BASE64 or (
        charset.header_encoding != QUOTED_PRINTABLE and _base64_length(text) < _quoted_length(text)
    )
    if not text:
        return text
    name = charset.output_charset.encode("ascii", "replace")
    octets = _LINE_END.sub(b"\r\n", text)
    if not in_base64:
        return b"=?%s?q?%s?=" % (name, _HEADER_UNSAFE.sub(_quote, octets).replace(b" ", b"_"))
    most = (_LONGEST_LINE - len(name) - _ENCODED_WORD_OVERHEAD) * 3 // 4
    words = [
        b"=?%s?b?%s?=" % (name, binascii.b2a_base64(octets[at : at + most], newline=False))
        for at in range(0, len(octets), most)
    ]
    return b"\n ".join(words)


def _base64_length(text: bytes) -> int:
    return (len(text) + 2) // 3 * 4


def _quoted_length(text: bytes) -> int:
    return len(text) + 2 * len(_HEADER_UNSAFE.findall(text))
