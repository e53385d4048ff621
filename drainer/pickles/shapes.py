"""The shape of a pickle: its opcodes, without the texts, names and numbers that are in it.

In    bytes and the place where a pickle begins
Out   its shape and where it ends; None where it has none: it is too long, broken, or has opcodes that are rare
Pure  bytes in, bytes out

Mailman writes few shapes: the mails of a list differ in their texts. What the machine (machine.py) decides about a pickle
depends on its shape; on lengths it depends in two sums only, and prescan.py says when those cannot matter. So what the
machine has decided for one pickle holds for the next one of that shape.

A shape is a program of its own: `U` for each opcode that pushes a text, `N` for one that pushes a number, `c` for a class by
its name. Memo indexes stay, and so do numbers of one byte. FRAMEs are left out. One regular expression walks from one long
text or number to the next. It takes a fifth of the time of a loop over opcodes.
"""

from __future__ import annotations

import re

MOST_BYTES = 4096
MOST_STRETCHES = 256

_LENGTHS = b"|".join(re.escape(bytes((size,))) + b".{%d}" % size for size in range(256))
_SHORT_TEXT = rb"[\x8cUC](?:" + _LENGTHS + rb")"
"""SHORT_BINUNICODE, SHORT_BINSTRING or SHORT_BINBYTES. A regular expression cannot count, so it names each length."""

_IN_A_STRETCH = (
    _SHORT_TEXT + rb"\x94?+",  # and MEMOIZE
    rb"[()\]}0NRabdelostu\x81\x85-\x89\x8f-\x91\x93\x94]++",  # without an argument
    rb"[hqK][^\x8cUCMJG]",  # BINGET, BINPUT, BININT1
    rb"[jr][^\x8cUCMJG]{4}",  # the same with indexes of four bytes
    rb"M[^\x8cUC]{2}|J[^\x8cUC]{4}|G[^\x8cUC]{8}",  # numbers
    rb"\x80[\x00-\x05]",  # PROTO
    rb"I0[01]\n",  # a boolean of Python 2
)
_STRETCH = re.compile(b"(?:" + b"|".join(_IN_A_STRETCH) + b")*+", re.DOTALL)
"""No argument here looks like the opcode of a short text, nor one that stays like that of a number. So these two find the
texts of a stretch, then its numbers, and nothing else:"""
_TEXTS = re.compile(_SHORT_TEXT, re.DOTALL)
_NUMBERS = re.compile(rb"M.{2}|J.{4}|G.{8}", re.DOTALL)

_CLASS = re.compile(rb"c[^\n]{0,256}\n[^\n]{0,256}\n")
_LONG_TEXTS = b"XTB"
_NUMBER_BYTES = {ord("M"): 3, ord("J"): 5, ord("G"): 9}
_AS_THEY_ARE = {ord(opcode): size for opcode, size in {b"h": 2, b"q": 2, b"K": 2, b"j": 5, b"r": 5}.items()}
_FRAME, _STOP = 0x95, 0x2E


def shape_and_end(raw: bytes, start: int) -> tuple[bytes, int] | None:
    """The shape of the pickle at `start`, and where it ends, its STOP included. All its texts and numbers end within `raw`,
    and no name of a class is too long.

    A shape has at most MOST_BYTES, and so has its pickle opcodes, FRAMEs apart: there are at most MOST_STRETCHES of those.
    """
    pieces: list[bytes] = []
    pos, left = start, MOST_BYTES
    for _ in range(MOST_STRETCHES):
        stretch = _STRETCH.match(raw, pos)
        assert stretch is not None  # an empty one always is
        end = stretch.end()
        cut = _TEXTS.sub(b"U", stretch[0])
        if b"J" in cut or b"M" in cut or b"G" in cut:
            cut = _NUMBERS.sub(b"N", cut)
        left -= len(cut) + 2
        if end >= len(raw) or left < 0:
            return None
        opcode = raw[end]
        if opcode == _STOP:
            pieces.append(cut)
            return b"".join(pieces), end + 1
        if opcode in _LONG_TEXTS:
            pos = end + 5 + int.from_bytes(raw[end + 1 : end + 5], "little")
            pieces += (cut, b"U")
        elif opcode == _FRAME:
            pos = end + 9
            if int.from_bytes(raw[end + 1 : pos], "little") > len(raw) - pos:
                return None
            pieces.append(cut)
        elif opcode in _NUMBER_BYTES:
            pos = end + _NUMBER_BYTES[opcode]
            pieces += (cut, b"N")
        elif opcode in _AS_THEY_ARE:
            pos = end + _AS_THEY_ARE[opcode]
            pieces += (cut, raw[end:pos])
        elif named := _CLASS.match(raw, end):
            pos = named.end()
            pieces += (cut, b"c")
        else:
            return None
    return None
