"""The pickle machine on shapes: a stack, marks, a memo and containers, without any value.

In    what an opcode does (opcodes.py), in the order of the pickle
Out   the machine after it; EntryTruncated, EntryGarbage or UnsafePickle where it refuses
Pure  no object of the pickle is made here

A slot of the stack or the memo is one number: a negative one says "text of n bytes" (TEXT - n) or some other scalar, 0 says
"a class", a positive one is the number of a container.
"""

from __future__ import annotations

import re

from drainer.errors import EntryGarbage, EntryTruncated, UnsafePickle

MAX_DEPTH = 1000
MAX_ATOM_KEYS = 1000
"""Dictionary keys and members of sets that are no text, in one pickle."""

FREE_OPCODES = 400_000
BYTES_PER_OPCODE = 8
CONTAINER_COSTS_OPCODES = 2
SET_COSTS_OPCODES = 4
"""A pickle may run FREE_OPCODES, and one more for each BYTES_PER_OPCODE of its size. A container or a set counts as
several."""

FREE_FETCHED = 4 * 2**20
FETCHED_PER_BYTE = 16
"""Values fetched from the memo may weigh FREE_FETCHED bytes, and FETCHED_PER_BYTE more for each byte of the file."""

LONGEST_NUMBER = 100

SCALAR = -1  # None, a number, a boolean
ABSENT = -2  # a memo index that was skipped
TEXT = -16  # TEXT - n is a text or bytes of n bytes
CLASS = 0  # the number of no container

LIST, DICT, SET, TUPLE, INSTANCE, RECONSTRUCTED = range(1, 7)
KIND, WEIGHT, DEPTH, CLOSED = range(4)
CONTAINER_WEIGHT = 64

_DIGITS = re.compile(rb"[0-9]{1,9}\r?\Z")
_NUMBER = re.compile(rb"\s*[+-]?[0-9_]+\s*\Z")


class Machine:
    """Stack, marks, memo and containers of one pickle.

    A container is [kind, weight, depth, closed]. Its weight is roughly the bytes that a walk through it would visit.

    A container is closed once another one holds it, or once it was fetched from the memo; after that it is not changed. So
    no container ever contains itself, and the weight and depth it was held or fetched with stay true.
    """

    def __init__(self, raw: bytes, start: int, max_depth: int) -> None:
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
        self.budget = FREE_OPCODES + (len(raw) - start) // BYTES_PER_OPCODE

    def new(self, kind: int, held: list[int]) -> int:
        """A container that holds these slots; its number."""
        nodes = self.nodes
        node = [kind, CONTAINER_WEIGHT, 1, 0]
        nodes.append(node)
        if held:
            self.hold(node, held)
        return len(nodes) - 1

    def hold(self, node: list[int], held: list[int]) -> None:
        """Put slots into a container. Raises UnsafePickle for a class and for too deep nesting."""
        if not held:
            return
        if max(held) < 0:
            node[WEIGHT] -= sum(held)
            return
        weight, depth = 0, node[DEPTH]
        for slot in held:
            if slot < 0:
                weight -= slot
            elif slot == CLASS:
                raise UnsafePickle("a class stands where a value belongs")
            else:
                inner = self.nodes[slot]
                if inner[KIND] == RECONSTRUCTED:
                    raise UnsafePickle("a class stands where a value belongs")
                inner[CLOSED] = 1
                weight += inner[WEIGHT]
                if inner[DEPTH] >= depth:
                    depth = inner[DEPTH] + 1
        if depth > self.max_depth:
            raise UnsafePickle(f"nested deeper than {self.max_depth}")
        node[WEIGHT] += weight
        node[DEPTH] = depth

    def from_mark(self) -> list[int]:
        """The slots above the last mark, taken off the stack together with it."""
        start = self.marks.pop()
        held = self.stack[start:]
        del self.stack[start:]
        return held

    def top(self, kind: int) -> list[int]:
        """The container on top of the stack, which has to be of this kind and made there, not fetched."""
        slot = self.stack[-1]
        if slot < 0 or (slot > 0 and self.nodes[slot][KIND] == TUPLE):
            raise EntryGarbage("an opcode meets a value of another kind than it works on")
        if slot == CLASS or self.nodes[slot][KIND] != kind:
            raise UnsafePickle("an opcode fills something that drainer does not know as a container")
        if self.nodes[slot][CLOSED]:
            raise UnsafePickle("a container is changed after it was held or fetched: it could come to hold itself")
        return self.nodes[slot]

    def check_keys(self, keys: list[int]) -> None:
        """Raises UnsafePickle for keys that are neither text nor a few plain numbers."""
        if not keys or max(keys) <= TEXT:
            return
        if max(keys) >= 0:
            raise UnsafePickle("a dictionary key or member of a set is neither text nor a plain number")
        self.atom_keys += len(keys)
        if self.atom_keys > MAX_ATOM_KEYS:
            raise UnsafePickle("too many dictionary keys or members of sets are numbers")

    def put(self, index: int) -> None:
        """Memoize the top of the stack under `index`. An index may be one too high: cPickle of Python 2 counts from
        1."""
        memo = self.memo
        if index != len(memo):
            if index != len(memo) + 1:
                raise UnsafePickle("a memo index is not the next one")
            memo.append(ABSENT)
            self.memo_has_gaps = True
        memo.append(self.stack[-1])

    def get(self, slot: int) -> None:
        """Push a slot of the memo."""
        if slot == ABSENT:
            raise EntryGarbage("a value is fetched that was never memoized")
        if slot > 0:
            node = self.nodes[slot]
            node[CLOSED] = 1
            self.fetched += node[WEIGHT]
            self.check_fetched()
        else:
            self.fetched -= slot
        self.stack.append(slot)

    def check_fetched(self) -> None:
        """Raises UnsafePickle if fetched values weigh more than the size of the file justifies."""
        if self.fetched > self.most_fetched:
            raise UnsafePickle("values are fetched again more often than the size justifies")

    def holds_classes(self, slot: int) -> bool:
        """Whether a slot is what copyreg._reconstructor is given: classes, no value."""
        return slot > 0 and self.nodes[slot][KIND] == RECONSTRUCTED

    def charge(self, opcodes: int) -> None:
        """Take the next opcodes off the budget before they are run. Raises UnsafePickle if the containers made so far cost
        more than what was left."""
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
        self.stack.append(TEXT - size)
        return end

    def long_index(self, pos: int) -> int:
        """The memo index of four bytes at `pos`."""
        if pos + 4 > len(self.raw):
            raise EntryTruncated("the file ends within a memo index")
        return int.from_bytes(self.raw[pos : pos + 4], "little")

    def index_line(self, pos: int) -> tuple[int, int]:
        """The memo index on the line at `pos`, and where the next line begins."""
        line, pos = self.line(pos, LONGEST_NUMBER)
        if not _DIGITS.match(line):
            if _NUMBER.match(line):
                raise UnsafePickle("a memo index is written as Mailman writes none")
            raise EntryGarbage("a memo index is not a number")
        return int(line), pos
