"""A list's header and footer, and the text of a decorated mail without them.

In    the leaves of a decorated mail; the header and footer that its list uses now
Out   the leaves without them; unchanged leaves where they do not fit
Pure  no file, no clock
"""

from __future__ import annotations

from dataclasses import dataclass

from drainer.compiled import python_class
from drainer.duplicates.canonical import Leaf, canonical_lines, canonical_text, is_text, octets_of


@python_class
@dataclass(frozen=True, slots=True)
class Decoration:
    """A list's header and footer as bulk delivery inserts them, with all substitutions made; "" for none.

    header, footer            as inserted into the text of a plain message
    part_header, part_footer  as inserted as parts of their own, where a charset lost a character; None: the same text
    """

    header: str
    footer: str
    part_header: str | None = None
    part_footer: str | None = None


def undecorated(leaves: tuple[Leaf, ...], decoration: Decoration) -> tuple[Leaf, ...]:
    """The leaves without the list's header and footer.

    Bulk delivery puts them around the text of a plain message, or adds them as first and last part. Leaves that do not
    have them there stay as they are.
    """
    if len(leaves) == 1 and leaves[0].kind == "text/plain":
        text = _without_footer(_without_header(leaves[0].content, decoration.header), decoration.footer)
        return (Leaf(leaves[0].kind, leaves[0].name, text),)
    header = decoration.header if decoration.part_header is None else decoration.part_header
    footer = decoration.footer if decoration.part_footer is None else decoration.part_footer
    if header and leaves and is_text(leaves[0]) and leaves[0].content == canonical_text(octets_of(header)):
        leaves = leaves[1:]
    if footer and leaves and is_text(leaves[-1]) and leaves[-1].content == canonical_text(octets_of(footer)):
        leaves = leaves[:-1]
    return leaves


def _without_header(text: bytes, header: str) -> bytes:
    """Blank lines at the end of the header belong to it; blank lines at the start of the body belong to the body."""
    lines = canonical_lines(octets_of(header))
    if not lines:
        return text
    if not lines.endswith(b"\n"):
        lines += b"\n"
    if text.startswith(lines):
        return text[len(lines) :]
    return b"" if text == canonical_text(lines) else text


def _without_footer(text: bytes, footer: str) -> bytes:
    lines = canonical_text(octets_of(footer))
    if lines and (text == lines or text.endswith(b"\n" + lines)):
        return canonical_text(text[: -len(lines)])
    return text
