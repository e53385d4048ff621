"""Foreign text (of a mail, a list, a queue file, an MTA, a child process), cleaned where it enters.

In    any text; octets that are not UTF-8 are lone surrogates in it (`surrogateescape`)
Out   text of bounded length that every terminal, JSON parser, environment and log accepts
Pure  text only

Cleaned text is for people. A value that is looked up, compared or sent keeps its octets, and has a name of its own:
`list_id` of a QueueEntry is raw, `list_shown` is clean.
"""

from __future__ import annotations

import re

MOST = 1000
"""Most characters of one field. A header line may have 998 (RFC 5322 §2.1.1); longer subjects and replies are noise."""

_CUT = "..."
_TURNED_BLANK = "\t\n\v\f\r\x85\u2028\u2029"
UNPRINTABLE = re.compile(
    r"[\x00-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ud800-\udfff\ufeff\ufff9-\ufffb\ufffe\uffff"
    r"\U000e0000-\U000e007f]"
)
"""Control characters, characters that change the direction of text or have no width, and surrogates. The joiners U+200C and
U+200D are allowed: words of some languages need them."""


def clean(text: str, most: int = MOST) -> str:
    """The text in at most `most` characters, printable and on one line.

    A tab or a line end becomes one space. Other unprintable characters are written out: `\\x1b`, `\\u202e`; an octet that is
    not UTF-8 as its number: `\\xe9`. Text that is too long ends in three dots and its original length.
    """
    if len(text) <= most and text.isascii() and text.isprintable():
        return text
    written = printable(text[: most + 1])
    if len(text) <= most and len(written) <= most:
        return written
    end = f"{_CUT} ({len(text)} characters)"
    return (written[: max(0, most - len(end))] + end)[:most]


def printable(text: str) -> str:
    """As clean(), of any length."""
    return text if text.isascii() and text.isprintable() else UNPRINTABLE.sub(_written, text)


def has_surrogate(text: str) -> bool:
    """Whether the text cannot be written as UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False


def _written(match: re.Match[str]) -> str:
    character = match[0]
    if character in _TURNED_BLANK:
        return " "
    if 0xDC80 <= ord(character) <= 0xDCFF:
        return f"\\x{ord(character) - 0xDC00:02x}"
    return character.encode("unicode_escape").decode("ascii")
