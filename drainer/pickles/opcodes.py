"""What each opcode of a pickle does to the machine.

In    the machine, and the place behind the opcode
Out   the place of the next opcode
Pure  no object of the pickle is made here

The opcodes that nearly all of an entry consists of are spelt out in prescan.py.

Source  pickletools; Modules/_pickle.c of CPython 3.11 to 3.13
"""

from __future__ import annotations

import re
from collections.abc import Callable

from drainer.errors import EntryGarbage, EntryTruncated, UnsafePickle
from drainer.pickles.machine import (
    CLASS,
    CONTAINER_WEIGHT,
    DICT,
    INSTANCE,
    KIND,
    LIST,
    LONGEST_NUMBER,
    RECONSTRUCTED,
    SCALAR,
    SET,
    TEXT,
    TUPLE,
    Machine,
)

LONGEST_NAME = 256
LATEST_PROTOCOL = 5

# what repr() of a Python 2 string holds; other escapes would make the unpickler warn
_ESCAPED = re.compile(rb"(?:[^\\]+|\\[\\'\"nrt]|\\x[0-9a-f]{2})*+\Z")
_QUOTED = re.compile(rb"""\s*(?P<quote>["'])(?s:.*)(?P=quote)\s*\Z""")


def _string(m: Machine, pos: int) -> int:
    line, pos = m.line(pos, len(m.raw))
    if not _ESCAPED.match(line):
        if not _QUOTED.match(line):
            raise EntryGarbage("a text has no quotes around it")
        raise UnsafePickle("a text has escapes that Python 2 does not write")
    m.stack.append(TEXT - len(line))
    return pos


def _unicode(m: Machine, pos: int) -> int:
    line, pos = m.line(pos, len(m.raw))
    m.stack.append(TEXT - len(line))
    return pos


def _number(m: Machine, pos: int) -> int:
    _, pos = m.line(pos, LONGEST_NUMBER)
    m.stack.append(SCALAR)
    return pos


def _long1(m: Machine, pos: int) -> int:
    m.stack.append(SCALAR)
    return pos + 1 + m.raw[pos]


def _put_line(m: Machine, pos: int) -> int:
    index, pos = m.index_line(pos)
    m.put(index)
    return pos


def _get_line(m: Machine, pos: int) -> int:
    index, pos = m.index_line(pos)
    m.get(m.memo[index])
    return pos


def _long_binput(m: Machine, pos: int) -> int:
    m.put(m.long_index(pos))
    return pos + 4


def _long_binget(m: Machine, pos: int) -> int:
    m.get(m.memo[m.long_index(pos)])
    return pos + 4


def _set_item(m: Machine, pos: int) -> int:
    value, key = m.stack.pop(), m.stack.pop()
    node = m.top(DICT)
    m.check_keys([key])
    m.hold(node, [key, value])
    return pos


def _set_items(m: Machine, pos: int) -> int:
    held = m.from_mark()
    if held:  # else nothing is done, whatever is on top
        m.check_keys(held[::2])
        m.hold(m.top(DICT), held)
    return pos


def _appends(m: Machine, pos: int) -> int:
    held = m.from_mark()
    if held:  # else nothing is done, whatever is on top
        m.hold(m.top(LIST), held)
    return pos


def _append(m: Machine, pos: int) -> int:
    held = m.stack.pop()
    m.hold(m.top(LIST), [held])
    return pos


def _dict(m: Machine, pos: int) -> int:
    held = m.from_mark()
    m.check_keys(held[::2])
    m.stack.append(m.new(DICT, held))
    return pos


def _list(m: Machine, pos: int) -> int:
    m.stack.append(m.new(LIST, m.from_mark()))
    return pos


def _tuple(m: Machine, pos: int) -> int:
    held = m.from_mark()
    if held == [CLASS, CLASS, SCALAR]:  # what copyreg._reconstructor is given, and nothing else is
        m.stack.append(m.new(RECONSTRUCTED, []))
    else:
        m.stack.append(m.new(TUPLE, held))
    return pos


def _tuple1(m: Machine, pos: int) -> int:
    m.stack.append(m.new(TUPLE, [m.stack.pop()]))
    return pos


def _tuple3(m: Machine, pos: int) -> int:
    held = m.stack[-3:]
    del m.stack[-3:]
    m.stack.append(m.new(TUPLE, held))
    return pos


def _empty_set(m: Machine, pos: int) -> int:
    m.sets += 1
    m.stack.append(m.new(SET, []))
    return pos


def _add_items(m: Machine, pos: int) -> int:
    held = m.from_mark()
    if held:  # else nothing is done, whatever is on top
        m.check_keys(held)
        m.hold(m.top(SET), held)
    return pos


def _frozenset(m: Machine, pos: int) -> int:
    held = m.from_mark()
    m.check_keys(held)
    m.sets += 1
    m.stack.append(m.new(SET, held))
    return pos


def _global(m: Machine, pos: int) -> int:
    _, pos = m.line(pos, LONGEST_NAME)
    _, pos = m.line(pos, LONGEST_NAME)
    m.stack.append(CLASS)
    return pos


def _stack_global(m: Machine, pos: int) -> int:
    if m.stack.pop() > TEXT or m.stack.pop() > TEXT:
        raise EntryGarbage("the name of a class is not text")
    m.stack.append(CLASS)
    return pos


def _inst(m: Machine, pos: int) -> int:
    pos = _global(m, pos)
    m.stack.pop()
    if m.from_mark():
        raise UnsafePickle("an instance is made with arguments (INST)")
    m.stack.append(m.new(INSTANCE, []))
    return pos


def _obj(m: Machine, pos: int) -> int:
    if m.from_mark() != [CLASS]:
        raise UnsafePickle("an instance is made with arguments, or of no class (OBJ)")
    m.stack.append(m.new(INSTANCE, []))
    return pos


def _new_object(m: Machine, pos: int) -> int:
    if m.nodes[m.stack.pop()][1:3] != [CONTAINER_WEIGHT, 1] or m.stack.pop() != CLASS:
        raise UnsafePickle("an instance is made with arguments, or of no class (NEWOBJ)")
    m.stack.append(m.new(INSTANCE, []))
    return pos


def _reduce(m: Machine, pos: int) -> int:
    arguments = m.stack.pop()
    kind = m.nodes[arguments][KIND] if arguments > 0 else CLASS
    if kind not in (TUPLE, RECONSTRUCTED) or m.stack.pop() != CLASS:
        raise UnsafePickle("REDUCE without a class and a tuple")
    m.sets += 1
    m.stack.append(m.new(INSTANCE, [arguments] if kind == TUPLE else []))
    return pos


def _build(m: Machine, pos: int) -> int:
    state = m.stack.pop()
    if state <= 0 or m.nodes[state][KIND] != DICT:
        raise UnsafePickle("the state of an instance is not a dictionary")
    m.hold(m.top(INSTANCE), [state])
    return pos


def _pop(m: Machine, pos: int) -> int:
    if m.marks and m.marks[-1] == len(m.stack):
        m.marks.pop()
    else:
        m.stack.pop()
    return pos


def _protocol(m: Machine, pos: int) -> int:
    if m.raw[pos] > LATEST_PROTOCOL:
        raise EntryGarbage(f"pickle protocol {m.raw[pos]} is not known")
    return pos + 1


def _frame(m: Machine, pos: int) -> int:
    if int.from_bytes(m.raw[pos : pos + 8], "little") > len(m.raw) - pos - 8:
        raise EntryTruncated("a frame is declared longer than the file")
    return pos + 8


def _scalar(width: int) -> Callable[[Machine, int], int]:
    def push(m: Machine, pos: int) -> int:
        m.stack.append(SCALAR)
        return pos + width

    return push


def _text(width: int) -> Callable[[Machine, int], int]:
    return lambda m, pos: m.counted(pos, width)


OTHERS: dict[int, Callable[[Machine, int], int]] = {
    ord(opcode): meaning
    for opcode, meaning in {
        b"S": _string, b"V": _unicode, b"I": _number, b"L": _number, b"F": _number, b"\x8a": _long1,
        b"M": _scalar(2), b"J": _scalar(4), b"G": _scalar(8), b"\x88": _scalar(0), b"\x89": _scalar(0),
        b"T": _text(4), b"X": _text(4), b"B": _text(4), b"C": _text(1), b"\x8d": _text(8), b"\x8e": _text(8),
        b"p": _put_line, b"g": _get_line, b"r": _long_binput, b"j": _long_binget,
        b"u": _set_items, b"e": _appends, b"a": _append, b"d": _dict, b"l": _list,
        b"s": _set_item, b"t": _tuple, b"\x85": _tuple1, b"\x87": _tuple3,
        b"\x8f": _empty_set, b"\x90": _add_items, b"\x91": _frozenset,
        b"c": _global, b"\x93": _stack_global, b"i": _inst, b"o": _obj, b"\x81": _new_object, b"R": _reduce,
        b"b": _build, b"0": _pop, b"\x80": _protocol, b"\x95": _frame,
    }.items()
}  # fmt: skip

NEVER_MAILMANS = {
    ord(opcode): name
    for opcode, name in {
        b"P": "PERSID", b"Q": "BINPERSID", b"\x82": "EXT1", b"\x83": "EXT2", b"\x84": "EXT4", b"2": "DUP",
        b"1": "POP_MARK", b"\x92": "NEWOBJ_EX", b"\x8b": "LONG4", b"\x96": "BYTEARRAY8", b"\x97": "NEXT_BUFFER",
        b"\x98": "READONLY_BUFFER",
    }.items()
}  # fmt: skip
