"""Static check of a pickle before loading.

In    bytes and the place where a pickle begins
Out   where it ends; or the reason why it is not opened
Pure  no object of the pickle is made here

The pickle machine runs on shapes instead of values (machine.py): a slot of the stack says "text of n bytes", "some other
scalar", "a class" or "container number k". That is enough to refuse, before it costs memory or time, what C's unpickler
would do without an error:
  - memory not paid for by bytes in the file: high memo indexes, declared lengths, many tiny containers (FREE_OPCODES)
  - the same container fetched again and again, so that a walk through the result never ends (FETCHED_PER_BYTE)
  - a container inside itself
  - nesting on which recursive code breaks (max_depth)
  - keys and members of sets other than text: hashing a tuple recurses without a check, and numbers can be chosen to
    collide
  - classes anywhere but where an instance is made; opcodes Mailman's pickles do not use

Bound: a pickle that passes costs at most 16 bytes of memory per byte of its size plus 64 MiB, scanning included.
"""

from __future__ import annotations

from drainer.errors import EntryGarbage, EntryTruncated, UnsafePickle
from drainer.pickles.machine import (
    ABSENT,
    CLASS,
    CONTAINER_WEIGHT,
    DICT,
    FETCHED_PER_BYTE,
    FREE_FETCHED,
    LIST,
    MAX_DEPTH,
    SCALAR,
    TEXT,
    TUPLE,
    Machine,
)
from drainer.pickles.opcodes import NEVER_MAILMANS, OTHERS
from drainer.pickles.shapes import shape_and_end

STRETCH = 1024
"""Opcodes run between two looks at the budget."""

MOST_SHAPES = 4096

_accepted: dict[tuple[bytes, int], int] = {}
"""Shape of a pickle that passed, and the `max_depth` it passed with -> what the values fetched in it weighed."""


def pickle_end(raw: bytes, start: int = 0, *, max_depth: int = MAX_DEPTH) -> int:
    """Where the pickle that begins at `start` ends, its STOP included.

    max_depth  containers inside containers, at most
    Raises  EntryTruncated   the bytes end before STOP does
            EntryGarbage     this is no pickle, or none the machine could run
            UnsafePickle     opening it would cost more than its size justifies, or needs what Mailman never writes
    Source  pickletools; Modules/_pickle.c of CPython 3.11 to 3.13

    A pickle of a shape that has passed before passes too, for each check of the machine depends on the shape alone, except:
      budget   a pickle that has a shape is too short to use it up
      fetched  the weight of all that is fetched from the memo: a fixed sum, and the length of each text as often as it is
               fetched. A text weighs -TEXT besides its length, so all texts together are fetched weight / -TEXT times at
               most. Texts of one fetch are never longer than `raw`
    """
    found = shape_and_end(raw, start)
    if found is None:
        return machine_end(raw, start, max_depth)[0]
    shape, end = found
    weight = _accepted.get((shape, max_depth))
    if weight is None or weight + weight // -TEXT * len(raw) > FREE_FETCHED + FETCHED_PER_BYTE * len(raw):
        end, weight = machine_end(raw, start, max_depth)
        if len(_accepted) >= MOST_SHAPES:
            _accepted.clear()
        _accepted[shape, max_depth] = weight
    return end


def machine_end(raw: bytes, start: int, max_depth: int) -> tuple[int, int]:
    """The same by running the machine; and what the values weighed that were fetched from the memo.

    One long function on purpose: it is the hot loop of reading. The opcodes that nearly all of an entry consists of are
    spelt out, a text or tuple together with its memo opcode. A call for each opcode made it two and a half times as slow
    (2.7 KB of Mailman 3, 456 opcodes).
    """
    m = Machine(raw, start, max_depth)
    size = len(raw)
    stack, marks, memo, nodes = m.stack, m.marks, m.memo, m.nodes
    pos = start
    try:
        while True:
            m.charge(STRETCH)
            for _ in range(STRETCH):
                opcode = raw[pos]
                pos += 1
                if opcode >= 0x80:
                    if opcode == 0x8C:  # SHORT_BINUNICODE
                        slot = TEXT - raw[pos]
                        pos += 1 + TEXT - slot
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
                            nodes.append([TUPLE, CONTAINER_WEIGHT - first - second, 1, 0])
                        else:
                            m.new(TUPLE, [first, second])
                    else:
                        pos = OTHERS[opcode](m, pos)
                elif opcode == 0x71:  # BINPUT
                    if raw[pos] == len(memo):
                        memo.append(stack[-1])
                    else:
                        m.put(raw[pos])
                    pos += 1
                elif opcode == 0x55:  # SHORT_BINSTRING
                    slot = TEXT - raw[pos]
                    pos += 1 + TEXT - slot
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
                    if slot > ABSENT:
                        m.get(slot)
                    elif slot == ABSENT:
                        raise EntryGarbage("a value is fetched that was never memoized")
                    else:
                        m.fetched -= slot
                        stack.append(slot)
                elif opcode == 0x4E:  # NONE
                    stack.append(SCALAR)
                elif opcode == 0x4B:  # BININT1
                    stack.append(SCALAR)
                    pos += 1
                elif opcode == 0x28:  # MARK
                    marks.append(len(stack))
                elif opcode == 0x7D:  # EMPTY_DICT
                    stack.append(len(nodes))
                    nodes.append([DICT, CONTAINER_WEIGHT, 1, 0])
                elif opcode == 0x5D:  # EMPTY_LIST
                    stack.append(len(nodes))
                    nodes.append([LIST, CONTAINER_WEIGHT, 1, 0])
                elif opcode == 0x29:  # EMPTY_TUPLE
                    stack.append(len(nodes))
                    nodes.append([TUPLE, CONTAINER_WEIGHT, 1, 0])
                elif opcode == 0x2E:  # STOP
                    if len(stack) == (marks[-1] if marks else 0):
                        raise EntryGarbage("the pickle leaves no value")
                    if len(stack) != 1 or marks or stack[0] == CLASS or m.holds_classes(stack[0]):
                        raise UnsafePickle("the pickle leaves a class, or more than one value")
                    m.check_fetched()
                    return pos, m.fetched
                else:
                    pos = OTHERS[opcode](m, pos)
    except IndexError:
        if pos >= size:
            raise EntryTruncated("the file ends within a pickle") from None
        raise EntryGarbage("an opcode needs more values than there are") from None
    except KeyError:
        if opcode in NEVER_MAILMANS:
            raise UnsafePickle(f"opcode {NEVER_MAILMANS[opcode]} is none Mailman's pickles have") from None
        raise EntryGarbage(f"{opcode:#04x} is no pickle opcode") from None
