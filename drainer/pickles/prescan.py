"""What a pickle would do, worked out before it is let do anything.

In    bytes and the place where a pickle begins
Out   where it ends; or the reason why it is not opened
Pure  no object of the pickle is made here

The pickle machine is run on shapes instead of values: a slot of the stack says "text of n bytes", "some other scalar",
"a class" or "container number k". That is enough to refuse, before memory or time is spent, what C's unpickler would
do without a murmur:
  - memory not paid for by bytes in the file: high memo indexes, declared lengths, many tiny containers (FREE_OPCODES)
  - the same container fetched again and again, so that whoever walks the result never ends (FETCHED_PER_BYTE)
  - a container inside itself
  - nesting on which recursive code breaks (max_depth)
  - keys and members of sets other than text: hashing a tuple recurses without a check, and numbers can be chosen to
    collide
  - classes anywhere but where an instance is made; opcodes Mailman's pickles do not use

Bound: a pickle that passes costs at most 16 bytes of memory per byte of its size plus 64 MiB, scanning included.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from drainer.errors import EntryGarbage, EntryTruncated, UnsafePickle

MAX_DEPTH = 1000
MAX_ATOM_KEYS = 1000
FREE_OPCODES = 400_000
BYTES_PER_OPCODE = 8
FREE_FETCHED = 4 * 2**20
FETCHED_PER_BYTE = 16
CONTAINER_COSTS_OPCODES = 2
SET_COSTS_OPCODES = 4
STRETCH = 1024
LONGEST_NAME = 256
LONGEST_NUMBER = 100
LATEST_PROTOCOL = 5

_SCALAR = -1  # None, a number, a boolean
_ABSENT = -2  # a memo index that was skipped
_TEXT = -16  # _TEXT - n is a text or bytes of n bytes
_CLASS = 0  # the number of no container

_LIST, _DICT, _SET, _TUPLE, _INSTANCE, _RECONSTRUCTED = range(1, 7)
_KIND, _WEIGHT, _DEPTH, _CLOSED = range(4)
_CONTAINER_WEIGHT = 64

# what repr() of a Python 2 string holds; other escapes would make the unpickler warn
_ESCAPED = re.compile(rb"(?:[^\\]+|\\[\\'\"nrt]|\\x[0-9a-f]{2})*+\Z")
_QUOTED = re.compile(rb"""\s*(?P<quote>["'])(?s:.*)(?P=quote)\s*\Z""")
_DIGITS = re.compile(rb"[0-9]{1,9}\r?\Z")
_NUMBER = re.compile(rb"\s*[+-]?[0-9_]+\s*\Z")


class _Machine:
    """Stack, marks, memo and containers of one pickle.

    A container is [kind, weight, depth, closed], weight being roughly the bytes a walker of it would have to visit.

    A container is closed once another holds it or it was fetched from the memo, and is not changed after: so nothing
    ever contains itself, and the weight and depth it was held or fetched with stay true.
    """

    def __init__(self, raw: bytes, max_depth: int) -> None:
        self.raw = raw
        self.max_depth = max_depth
        self.stack: list[int] = []
        self.marks: list[int] = []
        self.memo: list[int] = []
        self.memo_has_gaps = False
        self.nodes: list[list[int]] = [[0, 0, 0, 1]]
        self.fetched = 0
        self.most_fetched = FREE_FETCHED + FETCHED_PER_BYTE * len(raw)
        self.atom_keys = 0
        self.sets = 0
        self.budget = 0

    def new(self, kind: int, held: list[int]) -> int:
        nodes = self.nodes
        node = [kind, _CONTAINER_WEIGHT, 1, 0]
        nodes.append(node)
        if held:
            self.hold(node, held)
        return len(nodes) - 1

    def hold(self, node: list[int], held: list[int]) -> None:
        """Put slots into a container. Raises UnsafePickle for a class and for too deep nesting."""
        if not held:
            return
        if max(held) < 0:
            node[_WEIGHT] -= sum(held)
            return
        weight, depth = 0, node[_DEPTH]
        for slot in held:
            if slot < 0:
                weight -= slot
            elif slot == _CLASS:
                raise UnsafePickle("a class stands where a value belongs")
            else:
                inner = self.nodes[slot]
                if inner[_KIND] == _RECONSTRUCTED:
                    raise UnsafePickle("a class stands where a value belongs")
                inner[_CLOSED] = 1
                weight += inner[_WEIGHT]
                if inner[_DEPTH] >= depth:
                    depth = inner[_DEPTH] + 1
        if depth > self.max_depth:
            raise UnsafePickle(f"nested deeper than {self.max_depth}")
        node[_WEIGHT] += weight
        node[_DEPTH] = depth

    def from_mark(self) -> list[int]:
        start = self.marks.pop()
        held = self.stack[start:]
        del self.stack[start:]
        return held

    def top(self, kind: int) -> list[int]:
        """The container on top of the stack, which has to be of this kind and made there, not fetched."""
        slot = self.stack[-1]
        if slot < 0 or (slot > 0 and self.nodes[slot][_KIND] == _TUPLE):
            raise EntryGarbage("an opcode meets a value of another kind than it works on")
        if slot == _CLASS or self.nodes[slot][_KIND] != kind:
            raise UnsafePickle("an opcode fills something that drainer does not know as a container")
        if self.nodes[slot][_CLOSED]:
            raise UnsafePickle("a container is changed after it was held or fetched: it could come to hold itself")
        return self.nodes[slot]

    def check_keys(self, keys: list[int]) -> None:
        if not keys or max(keys) <= _TEXT:
            return
        if max(keys) >= 0:
            raise UnsafePickle("a dictionary key or member of a set is neither text nor a plain number")
        self.atom_keys += len(keys)
        if self.atom_keys > MAX_ATOM_KEYS:
            raise UnsafePickle("too many dictionary keys or members of sets are numbers")

    def put(self, index: int) -> None:
        memo = self.memo
        if index != len(memo):
            if index != len(memo) + 1:
                raise UnsafePickle("a memo index is not the next one")
            memo.append(_ABSENT)
            self.memo_has_gaps = True
        memo.append(self.stack[-1])

    def get(self, slot: int) -> None:
        """Push a slot of the memo."""
        if slot == _ABSENT:
            raise EntryGarbage("a value is fetched that was never memoized")
        if slot > 0:
            node = self.nodes[slot]
            node[_CLOSED] = 1
            self.fetched += node[_WEIGHT]
            self.check_fetched()
        else:
            self.fetched -= slot
        self.stack.append(slot)

    def check_fetched(self) -> None:
        if self.fetched > self.most_fetched:
            raise UnsafePickle("values are fetched again more often than the size justifies")

    def holds_classes(self, slot: int) -> bool:
        return slot > 0 and self.nodes[slot][_KIND] == _RECONSTRUCTED

    def charge(self, opcodes: int) -> None:
        """Take the next opcodes off the budget, before they are run, and hold against it what has been made so far."""
        self.budget -= opcodes
        if self.budget + opcodes < CONTAINER_COSTS_OPCODES * len(self.nodes) + SET_COSTS_OPCODES * self.sets:
            raise UnsafePickle("more opcodes than the size justifies")

    def line(self, pos: int, longest: int) -> tuple[bytes, int]:
        """The line at `pos` without its end, and where the next one begins."""
        end = self.raw.find(b"\n", pos, pos + longest + 1)
        if end < 0:
            if len(self.raw) - pos <= longest:
                raise EntryTruncated("the file ends within a line")
            raise UnsafePickle("a line is longer than what it holds can be")
        return self.raw[pos:end], end + 1

    def counted(self, pos: int, width: int) -> int:
        """Push the text or bytes whose length stands at `pos`; where it ends."""
        size = int.from_bytes(self.raw[pos : pos + width], "little")
        end = pos + width + size
        if end > len(self.raw):
            raise EntryTruncated("a text is declared longer than the file")
        self.stack.append(_TEXT - size)
        return end

    def long_index(self, pos: int) -> int:
        if pos + 4 > len(self.raw):
            raise EntryTruncated("the file ends within a memo index")
        return int.from_bytes(self.raw[pos : pos + 4], "little")

    def index_line(self, pos: int) -> tuple[int, int]:
        line, pos = self.line(pos, LONGEST_NUMBER)
        if not _DIGITS.match(line):
            if _NUMBER.match(line):
                raise UnsafePickle("a memo index is written as Mailman writes none")
            raise EntryGarbage("a memo index is not a number")
        return int(line), pos


def _string(m: _Machine, pos: int) -> int:
    line, pos = m.line(pos, len(m.raw))
    if not _ESCAPED.match(line):
        if not _QUOTED.match(line):
            raise EntryGarbage("a text has no quotes around it")
        raise UnsafePickle("a text has escapes that Python 2 does not write")
    m.stack.append(_TEXT - len(line))
    return pos


def _unicode(m: _Machine, pos: int) -> int:
    line, pos = m.line(pos, len(m.raw))
    m.stack.append(_TEXT - len(line))
    return pos


def _number(m: _Machine, pos: int) -> int:
    _, pos = m.line(pos, LONGEST_NUMBER)
    m.stack.append(_SCALAR)
    return pos


def _long1(m: _Machine, pos: int) -> int:
    m.stack.append(_SCALAR)
    return pos + 1 + m.raw[pos]


def _put_line(m: _Machine, pos: int) -> int:
    index, pos = m.index_line(pos)
    m.put(index)
    return pos


def _get_line(m: _Machine, pos: int) -> int:
    index, pos = m.index_line(pos)
    m.get(m.memo[index])
    return pos


def _long_binput(m: _Machine, pos: int) -> int:
    m.put(m.long_index(pos))
    return pos + 4


def _long_binget(m: _Machine, pos: int) -> int:
    m.get(m.memo[m.long_index(pos)])
    return pos + 4


def _set_item(m: _Machine, pos: int) -> int:
    value, key = m.stack.pop(), m.stack.pop()
    node = m.top(_DICT)
    m.check_keys([key])
    m.hold(node, [key, value])
    return pos


def _set_items(m: _Machine, pos: int) -> int:
    held = m.from_mark()
    if held:  # else nothing is done, whatever is on top
        m.check_keys(held[::2])
        m.hold(m.top(_DICT), held)
    return pos


def _appends(m: _Machine, pos: int) -> int:
    held = m.from_mark()
    if held:  # else nothing is done, whatever is on top
        m.hold(m.top(_LIST), held)
    return pos


def _append(m: _Machine, pos: int) -> int:
    held = m.stack.pop()
    m.hold(m.top(_LIST), [held])
    return pos


def _dict(m: _Machine, pos: int) -> int:
    held = m.from_mark()
    m.check_keys(held[::2])
    m.stack.append(m.new(_DICT, held))
    return pos


def _list(m: _Machine, pos: int) -> int:
    m.stack.append(m.new(_LIST, m.from_mark()))
    return pos


def _tuple(m: _Machine, pos: int) -> int:
    held = m.from_mark()
    if held == [_CLASS, _CLASS, _SCALAR]:  # what copyreg._reconstructor is given, and nothing else is
        m.stack.append(m.new(_RECONSTRUCTED, []))
    else:
        m.stack.append(m.new(_TUPLE, held))
    return pos


def _tuple1(m: _Machine, pos: int) -> int:
    m.stack.append(m.new(_TUPLE, [m.stack.pop()]))
    return pos


def _tuple3(m: _Machine, pos: int) -> int:
    held = m.stack[-3:]
    del m.stack[-3:]
    m.stack.append(m.new(_TUPLE, held))
    return pos


def _empty_set(m: _Machine, pos: int) -> int:
    m.sets += 1
    m.stack.append(m.new(_SET, []))
    return pos


def _add_items(m: _Machine, pos: int) -> int:
    held = m.from_mark()
    if held:  # else nothing is done, whatever is on top
        m.check_keys(held)
        m.hold(m.top(_SET), held)
    return pos


def _frozenset(m: _Machine, pos: int) -> int:
    held = m.from_mark()
    m.check_keys(held)
    m.sets += 1
    m.stack.append(m.new(_SET, held))
    return pos


def _global(m: _Machine, pos: int) -> int:
    _, pos = m.line(pos, LONGEST_NAME)
    _, pos = m.line(pos, LONGEST_NAME)
    m.stack.append(_CLASS)
    return pos


def _stack_global(m: _Machine, pos: int) -> int:
    if m.stack.pop() > _TEXT or m.stack.pop() > _TEXT:
        raise EntryGarbage("the name of a class is not text")
    m.stack.append(_CLASS)
    return pos


def _inst(m: _Machine, pos: int) -> int:
    pos = _global(m, pos)
    m.stack.pop()
    if m.from_mark():
        raise UnsafePickle("an instance is made with arguments (INST)")
    m.stack.append(m.new(_INSTANCE, []))
    return pos


def _obj(m: _Machine, pos: int) -> int:
    if m.from_mark() != [_CLASS]:
        raise UnsafePickle("an instance is made with arguments, or of no class (OBJ)")
    m.stack.append(m.new(_INSTANCE, []))
    return pos


def _new_object(m: _Machine, pos: int) -> int:
    if m.nodes[m.stack.pop()][1:3] != [_CONTAINER_WEIGHT, 1] or m.stack.pop() != _CLASS:
        raise UnsafePickle("an instance is made with arguments, or of no class (NEWOBJ)")
    m.stack.append(m.new(_INSTANCE, []))
    return pos


def _reduce(m: _Machine, pos: int) -> int:
    arguments = m.stack.pop()
    kind = m.nodes[arguments][_KIND] if arguments > 0 else _CLASS
    if kind not in (_TUPLE, _RECONSTRUCTED) or m.stack.pop() != _CLASS:
        raise UnsafePickle("REDUCE without a class and a tuple")
    m.sets += 1
    m.stack.append(m.new(_INSTANCE, [arguments] if kind == _TUPLE else []))
    return pos


def _build(m: _Machine, pos: int) -> int:
    state = m.stack.pop()
    if state <= 0 or m.nodes[state][_KIND] != _DICT:
        raise UnsafePickle("the state of an instance is not a dictionary")
    m.hold(m.top(_INSTANCE), [state])
    return pos


def _pop(m: _Machine, pos: int) -> int:
    if m.marks and m.marks[-1] == len(m.stack):
        m.marks.pop()
    else:
        m.stack.pop()
    return pos


def _protocol(m: _Machine, pos: int) -> int:
    if m.raw[pos] > LATEST_PROTOCOL:
        raise EntryGarbage(f"pickle protocol {m.raw[pos]} is not known")
    return pos + 1


def _frame(m: _Machine, pos: int) -> int:
    if int.from_bytes(m.raw[pos : pos + 8], "little") > len(m.raw) - pos - 8:
        raise EntryTruncated("a frame is declared longer than the file")
    return pos + 8


def _scalar(width: int) -> Callable[[_Machine, int], int]:
    def push(m: _Machine, pos: int) -> int:
        m.stack.append(_SCALAR)
        return pos + width

    return push


def _text(width: int) -> Callable[[_Machine, int], int]:
    return lambda m, pos: m.counted(pos, width)


_OTHERS: dict[int, Callable[[_Machine, int], int]] = {
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

_NEVER_MAILMANS = {
    ord(opcode): name
    for opcode, name in {
        b"P": "PERSID", b"Q": "BINPERSID", b"\x82": "EXT1", b"\x83": "EXT2", b"\x84": "EXT4", b"2": "DUP",
        b"1": "POP_MARK", b"\x92": "NEWOBJ_EX", b"\x8b": "LONG4", b"\x96": "BYTEARRAY8", b"\x97": "NEXT_BUFFER",
        b"\x98": "READONLY_BUFFER",
    }.items()
}  # fmt: skip


def pickle_end(raw: bytes, start: int = 0, *, max_depth: int = MAX_DEPTH) -> int:
    """Where the pickle that begins at `start` ends, its STOP included.

    max_depth  containers inside containers, at most
    Raises  EntryTruncated   the bytes end before STOP does
            EntryGarbage     this is no pickle, or none the machine could run
            UnsafePickle     opening it would cost more than its size justifies, or needs what Mailman never writes
    Source  pickletools; Modules/_pickle.c of CPython 3.11 to 3.13
    """
    m = _Machine(raw, max_depth)
    size = len(raw)
    stack, marks, memo, nodes = m.stack, m.marks, m.memo, m.nodes
    pos = start
    m.budget = FREE_OPCODES + (size - start) // BYTES_PER_OPCODE
    # Hot loop: what nearly all of an entry consists of is spelt out here, a text or tuple together with its memo opcode,
    # because a call for each opcode made it two and a half times as slow (2.7 KB of Mailman 3, 456 opcodes).
    try:
        while True:
            m.charge(STRETCH)
            for _ in range(STRETCH):
                opcode = raw[pos]
                pos += 1
                if opcode >= 0x80:
                    if opcode == 0x8C:  # SHORT_BINUNICODE
                        slot = _TEXT - raw[pos]
                        pos += 1 + _TEXT - slot
                        stack.append(slot)
                        if raw[pos] == 0x94 and not m.memo_has_gaps:
                            pos += 1
                            memo.append(slot)
                    elif opcode == 0x94:  # MEMOIZE
                        if m.memo_has_gaps:
                            raise UnsafePickle("MEMOIZE and PUT are mixed")
                        memo.append(stack[-1])
                    elif opcode == 0x86:  # TUPLE2
                        second = stack.pop()
                        first = stack.pop()
                        stack.append(len(nodes))
                        if first < 0 and second < 0:
                            nodes.append([_TUPLE, _CONTAINER_WEIGHT - first - second, 1, 0])
                        else:
                            m.new(_TUPLE, [first, second])
                    else:
                        pos = _OTHERS[opcode](m, pos)
                elif opcode == 0x71:  # BINPUT
                    if raw[pos] == len(memo):
                        memo.append(stack[-1])
                    else:
                        m.put(raw[pos])
                    pos += 1
                elif opcode == 0x55:  # SHORT_BINSTRING
                    slot = _TEXT - raw[pos]
                    pos += 1 + _TEXT - slot
                    stack.append(slot)
                    if raw[pos] == 0x71:
                        pos += 1
                        if raw[pos] == len(memo):
                            memo.append(slot)
                        else:
                            m.put(raw[pos])
                        pos += 1
                elif opcode == 0x68:  # BINGET
                    slot = memo[raw[pos]]
                    pos += 1
                    if slot > _ABSENT:
                        m.get(slot)
                    elif slot == _ABSENT:
                        raise EntryGarbage("a value is fetched that was never memoized")
                    else:
                        m.fetched -= slot
                        stack.append(slot)
                elif opcode == 0x4E:  # NONE
                    stack.append(_SCALAR)
                elif opcode == 0x4B:  # BININT1
                    stack.append(_SCALAR)
                    pos += 1
                elif opcode == 0x28:  # MARK
                    marks.append(len(stack))
                elif opcode == 0x7D:  # EMPTY_DICT
                    stack.append(len(nodes))
                    nodes.append([_DICT, _CONTAINER_WEIGHT, 1, 0])
                elif opcode == 0x5D:  # EMPTY_LIST
                    stack.append(len(nodes))
                    nodes.append([_LIST, _CONTAINER_WEIGHT, 1, 0])
                elif opcode == 0x29:  # EMPTY_TUPLE
                    stack.append(len(nodes))
                    nodes.append([_TUPLE, _CONTAINER_WEIGHT, 1, 0])
                elif opcode == 0x2E:  # STOP
                    if len(stack) == (marks[-1] if marks else 0):
                        raise EntryGarbage("the pickle leaves no value")
                    if len(stack) != 1 or marks or stack[0] == _CLASS or m.holds_classes(stack[0]):
                        raise UnsafePickle("the pickle leaves a class, or more than one value")
                    m.check_fetched()
                    return pos
                else:
                    pos = _OTHERS[opcode](m, pos)
    except IndexError:
        if pos >= size:
            raise EntryTruncated("the file ends within a pickle") from None
        raise EntryGarbage("an opcode needs more values than there are") from None
    except KeyError:
        if opcode in _NEVER_MAILMANS:
            raise UnsafePickle(f"opcode {_NEVER_MAILMANS[opcode]} is none Mailman's pickles have") from None
        raise EntryGarbage(f"{opcode:#04x} is no pickle opcode") from None
