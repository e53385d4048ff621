"""A metadata pickle without some of its recipients; everything else in it stays as it is.

In    the bytes of a metadata pickle that prescan.py has accepted, and the addresses to keep
Out   the bytes of another one
Pure  bytes in, bytes out

A new pickle of the metadata would turn the byte strings of Python 2 into unicode, and stand-ins into something Mailman
cannot load. So the program of the pickle is edited instead. An element is made and memoized as before, and then popped
before its list or set takes it in. Memo numbers stay right, and other references to the element still find it. FRAMEs are
left out: their lengths would be wrong, and they are optional.
"""

from __future__ import annotations

import codecs
import pickletools
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from drainer.errors import EntryNotUnderstood
from drainer.pickles.prescan import pickle_end
from drainer.pickles.restricted import load_one
from drainer.pickles.standins import StandIn

_POP = b"0"
_OPCODES = {ord(opcode.code): opcode for opcode in pickletools.opcodes}
_LENGTH_BYTES = {
    pickletools.TAKEN_FROM_ARGUMENT1: 1,
    pickletools.TAKEN_FROM_ARGUMENT4: 4,
    pickletools.TAKEN_FROM_ARGUMENT4U: 4,
    pickletools.TAKEN_FROM_ARGUMENT8U: 8,
}
_TEXT_OF: dict[str, Callable[[bytes], str]] = {
    "SHORT_BINSTRING": lambda octets: octets.decode("ascii", "surrogateescape"),
    "BINSTRING": lambda octets: octets.decode("ascii", "surrogateescape"),
    "SHORT_BINUNICODE": lambda octets: octets.decode("utf-8", "surrogatepass"),
    "BINUNICODE": lambda octets: octets.decode("utf-8", "surrogatepass"),
    "BINUNICODE8": lambda octets: octets.decode("utf-8", "surrogatepass"),
    "STRING": lambda line: codecs.escape_decode(line.strip()[1:-1])[0].decode("ascii", "surrogateescape"),
    "UNICODE": lambda line: line.decode("raw-unicode-escape"),
}


class _Opcode(NamedTuple):
    name: str
    start: int
    end: int
    argument: bytes


class _Edit(NamedTuple):
    """Replace `removed` bytes at `at` by `inserted`."""

    at: int
    removed: int
    inserted: bytes


class _Element(NamedTuple):
    """A member of a container, and the edit that leaves it out."""

    value: _Value
    drop: _Edit


class _Pair(NamedTuple):
    """A key and a value of a dictionary, and the edits that leave both out."""

    key: _Value
    value: _Value
    drop: tuple[_Edit, ...]


@dataclass(slots=True)
class _Value:
    """A slot of the stack: where its program begins, and as much of its value as matters here."""

    start: int
    text: str | None = None
    elements: list[_Element] | None = None
    pairs: list[_Pair] | None = None
    parts: tuple[_Value, ...] = ()
    is_mark: bool = False


def narrowed(pickled: bytes, keep: Collection[str], keys: Collection[str]) -> bytes:
    """The metadata pickle with only the recipients to keep.

    pickled   begins with one pickle of a dictionary; what stands behind it is left out
    keep      addresses that stay; of an address named twice the first stays
    keys      the metadata keys that hold recipients: a list, a set, a dictionary's keys, or a list of lists; absent ones
              do not matter
    Raises    EntryNotUnderstood when the recipients are pickled in a form that cannot be edited (none of Mailman's)
    """
    pickled = pickled[: pickle_end(pickled)]
    before = load_one(pickled)
    program = _Program(pickled)
    if program.result.pairs is None or not isinstance(before, dict):
        raise EntryNotUnderstood("the metadata is not a dictionary")
    edits = list(program.frames)
    for key, value, _ in program.result.pairs:
        if key.text in keys:
            edits += _dropped(value, frozenset(keep), set())
    after = _edited(pickled, edits)
    _prove(before, load_one(after), keep, keys)
    return after


def _dropped(value: _Value, keep: frozenset[str], seen: set[str]) -> Iterator[_Edit]:
    """The edits for one container of recipients; a list in it that is left empty goes as a whole."""
    while value.elements is None and value.parts:  # set([...]) as protocols 0 to 3 write it
        value = value.parts[-1]
    for pair in value.pairs or ():
        if pair.key.text not in keep:
            yield from pair.drop
    for element in value.elements or ():
        if element.value.elements is not None:
            inner = list(_dropped(element.value, keep, seen))
            if element.value.elements and len(inner) == len(element.value.elements):
                yield element.drop
            else:
                yield from inner
        elif element.value.text is None or element.value.text not in keep or element.value.text in seen:
            yield element.drop
        else:
            seen.add(element.value.text)


def _edited(pickled: bytes, edits: list[_Edit]) -> bytes:
    pieces, pos = [], 0
    for edit in sorted(set(edits)):
        pieces += [pickled[pos : edit.at], edit.inserted]
        pos = edit.at + edit.removed
    return b"".join([*pieces, pickled[pos:]])


def _prove(before: dict[object, object], after: object, keep: Collection[str], keys: Collection[str]) -> None:
    """Hold the edited metadata against the original: a container shared with something else would show here."""
    if not isinstance(after, dict) or list(after) != list(before):
        raise EntryNotUnderstood("the recipients cannot be taken out of this metadata: its keys would change")
    for key, value in before.items():
        expected = _kept(value, frozenset(keep), set()) if key in keys else value
        if not _alike(expected, after[key]):
            raise EntryNotUnderstood(
                f"the recipients cannot be taken out of this metadata: {key!r} would come out wrong"
            )


def _kept(value: object, keep: frozenset[str], seen: set[object]) -> object:
    if isinstance(value, set | frozenset):
        return type(value)(address for address in value if address in keep)
    if isinstance(value, dict):
        return {address: of_it for address, of_it in value.items() if address in keep}
    if not isinstance(value, list | tuple):
        return value
    kept: list[object] = []
    for item in value:
        if isinstance(item, list | tuple | set | frozenset | dict):
            inner = _kept(item, keep, seen)
            if inner or not item:
                kept.append(inner)
        elif item in keep and item not in seen:
            seen.add(item)
            kept.append(item)
    return type(value)(kept)


def _alike(one: object, other: object) -> bool:
    """Equal in type and value, stand-ins by what they hold. Metadata is never nested deep (METADATA_MAX_DEPTH)."""
    if type(one) is not type(other):
        return False
    if isinstance(one, StandIn) and isinstance(other, StandIn):
        return _alike(one.__dict__, other.__dict__)
    if isinstance(one, dict) and isinstance(other, dict):
        return list(one) == list(other) and all(_alike(value, other[key]) for key, value in one.items())
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(_alike, one, other))
    return one == other or one != one  # a NaN is like another


def _opcodes(pickled: bytes) -> Iterator[_Opcode]:
    """The opcodes of one pickle with their arguments as bytes (a length or line end in front or behind left out)."""
    pos = 0
    while True:
        opcode = _OPCODES[pickled[pos]]
        start, pos = pos, pos + 1
        begin = pos
        size = opcode.arg.n if opcode.arg else 0
        if size == pickletools.UP_TO_NEWLINE:
            lines = 2 if opcode.name in ("GLOBAL", "INST") else 1
            for _ in range(lines):
                pos = pickled.index(b"\n", pos) + 1
            yield _Opcode(opcode.name, start, pos, pickled[begin : pos - 1])
        else:
            if size in _LENGTH_BYTES:
                begin += _LENGTH_BYTES[size]
                size = int.from_bytes(pickled[pos:begin], "little")
            pos = begin + size
            yield _Opcode(opcode.name, start, pos, pickled[begin:pos])
        if opcode.name == "STOP":
            return


class _Program:
    """One pickle's program, run on _Values. `result` is what it leaves, `frames` the edits that leave out FRAMEs."""

    def __init__(self, pickled: bytes) -> None:
        self.frames: list[_Edit] = []
        self.stack: list[_Value] = []
        self.memo: dict[int, _Value] = {}
        for opcode in _opcodes(pickled):
            self._run(opcode)
        self.result = self.stack[-1]

    def _run(self, opcode: _Opcode) -> None:
        name, start, stack = opcode.name, opcode.start, self.stack
        if name in _TEXT_OF:
            stack.append(_Value(start, text=_TEXT_OF[name](opcode.argument)))
        elif name in ("PROTO", "STOP"):
            pass
        elif name == "FRAME":
            self.frames.append(_Edit(start, opcode.end - start, b""))
        elif name == "MARK":
            stack.append(_Value(start, is_mark=True))
        elif name == "MEMOIZE":
            self.memo[len(self.memo)] = stack[-1]
        elif name in ("PUT", "BINPUT", "LONG_BINPUT"):
            self.memo[_index(opcode)] = stack[-1]
        elif name in ("GET", "BINGET", "LONG_BINGET"):
            fetched = self.memo[_index(opcode)]
            stack.append(_Value(start, fetched.text, fetched.elements, fetched.pairs, fetched.parts))
        elif name in ("EMPTY_LIST", "EMPTY_SET"):
            stack.append(_Value(start, elements=[]))
        elif name == "EMPTY_DICT":
            stack.append(_Value(start, pairs=[]))
        elif name == "LIST":
            mark, values = self._from_mark()
            stack.append(_Value(mark.start, elements=_run_elements(values, start)))
        elif name in ("APPENDS", "ADDITEMS"):
            _, values = self._from_mark()
            _elements(stack[-1]).extend(_run_elements(values, start))
        elif name == "APPEND":
            value = stack.pop()
            _elements(stack[-1]).append(_Element(value, _Edit(start, 1, _POP)))
        elif name == "DICT":
            mark, values = self._from_mark()
            stack.append(_Value(mark.start, pairs=_run_pairs(values, start)))
        elif name == "SETITEMS":
            _, values = self._from_mark()
            _pairs(stack[-1]).extend(_run_pairs(values, start))
        elif name == "SETITEM":
            value, key = stack.pop(), stack.pop()
            _pairs(stack[-1]).append(_Pair(key, value, (_Edit(start, 1, _POP + _POP),)))
        elif name == "POP":
            stack.pop()
        else:
            self._run_opaque(opcode)

    def _run_opaque(self, opcode: _Opcode) -> None:
        """What makes one value out of others, none of which is looked into except for the argument of set([...])."""
        name, stack = opcode.name, self.stack
        if name in ("TUPLE", "FROZENSET", "OBJ", "INST"):
            mark, values = self._from_mark()
            stack.append(_Value(mark.start, parts=tuple(values) if name == "TUPLE" else ()))
        elif name in ("TUPLE1", "TUPLE2", "TUPLE3"):
            count = int(name[-1])
            values = stack[-count:]
            del stack[-count:]
            stack.append(_Value(values[0].start, parts=tuple(values)))
        elif name in ("REDUCE", "NEWOBJ", "STACK_GLOBAL"):
            second, first = stack.pop(), stack.pop()
            stack.append(_Value(first.start, parts=(second,) if name == "REDUCE" else ()))
        elif name == "BUILD":
            stack.pop()
        else:
            stack.append(_Value(opcode.start))

    def _from_mark(self) -> tuple[_Value, list[_Value]]:
        values: list[_Value] = []
        while not (value := self.stack.pop()).is_mark:
            values.append(value)
        return value, values[::-1]


def _run_elements(values: list[_Value], end: int) -> list[_Element]:
    """The elements between a MARK and the opcode at `end` that takes them in; each is popped before the next begins."""
    nexts = [*(value.start for value in values[1:]), end]
    return [_Element(value, _Edit(at, 0, _POP)) for value, at in zip(values, nexts, strict=False)]


def _run_pairs(values: list[_Value], end: int) -> list[_Pair]:
    """The same for keys and values by turns."""
    elements = _run_elements(values, end)
    pairs = zip(elements[::2], elements[1::2], strict=True)
    return [_Pair(key.value, value.value, (key.drop, value.drop)) for key, value in pairs]


def _elements(value: _Value) -> list[_Element]:
    if value.elements is None:
        raise EntryNotUnderstood("elements are added to what is no list or set")
    return value.elements


def _pairs(value: _Value) -> list[_Pair]:
    if value.pairs is None:
        raise EntryNotUnderstood("items are added to what is no dictionary")
    return value.pairs


def _index(opcode: _Opcode) -> int:
    return int(opcode.argument) if opcode.name in ("GET", "PUT") else int.from_bytes(opcode.argument, "little")
