"""A pickle of a shape that has passed is decided as the machine decides it, whatever texts and numbers are in it."""

from __future__ import annotations

import pickle
import pickletools
import random
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drainer.errors import EntryUnreadable
from drainer.pickles import prescan
from drainer.pickles.machine import MAX_DEPTH
from drainer.pickles.prescan import machine_end, pickle_end
from drainer.pickles.shapes import MOST_BYTES, shape_and_end
from tests.pickles.hostile import shared, short
from tests.pickles.samples import readable

GENUINE = [path.read_bytes() for path in readable()]
_LOOKS_LIKE_OPCODES = b"U\x8cCXTBKMJGhqjrc\n.\x94\x95(]I0"
_TEXTS = {
    "SHORT_BINUNICODE": 1,
    "SHORT_BINSTRING": 1,
    "SHORT_BINBYTES": 1,
    "BINUNICODE": 4,
    "BINSTRING": 4,
    "BINBYTES": 4,
}
_NUMBERS = ("BININT", "BININT1", "BININT2", "BINFLOAT", "FRAME")


def outcome(decide: Callable[[], int]) -> object:
    try:
        return decide()
    except EntryUnreadable as refused:
        return type(refused), str(refused)


def decided_alike(raw: bytes, start: int = 0, max_depth: int = MAX_DEPTH) -> object:
    """Twice: the first time may make the shape known."""
    by_machine = outcome(lambda: machine_end(raw, start, max_depth)[0])
    for _ in range(2):
        assert outcome(lambda: pickle_end(raw, start, max_depth=max_depth)) == by_machine
    return by_machine


def with_other_texts(raw: bytes, chosen: random.Random) -> bytes:
    """The same opcodes with other texts and numbers."""
    made = bytearray()
    found = [(opcode.name, pos or 0) for opcode, _, pos in pickletools.genops(raw)]
    for (name, pos), end in zip(found, [*(pos for _, pos in found[1:]), len(raw)], strict=True):
        made.append(raw[pos])
        if name in _TEXTS:
            width = _TEXTS[name]
            size = chosen.choice((0, 1, 5, 67, 85, 140, 255, 255 if width == 1 else 300))
            made += size.to_bytes(width, "little") + bytes(chosen.choices(_LOOKS_LIKE_OPCODES, k=size))
        elif name in _NUMBERS and chosen.random() < 0.9:
            made += bytes(chosen.choices(_LOOKS_LIKE_OPCODES, k=end - pos - 1))
        else:
            made += raw[pos + 1 : end]
    return bytes(made)


def pickles_of(raw: bytes) -> list[bytes]:
    first = machine_end(raw, 0, MAX_DEPTH)[0]
    return [raw[:first], raw[first : machine_end(raw, first, MAX_DEPTH)[0]]]


def loads(pickled: bytes) -> bool:
    """Whether pickletools can read its texts."""
    try:
        list(pickletools.genops(pickled))
    except ValueError:
        return False
    return True


SEEDS = [one for raw in GENUINE for one in pickles_of(raw) if loads(one)]


def test_nearly_every_genuine_pickle_has_a_shape_and_many_share_one() -> None:
    shapes = [found[0] for seed in SEEDS if (found := shape_and_end(seed, 0)) is not None]
    assert len(shapes) > 0.9 * len(SEEDS)
    assert len(set(shapes)) < len(shapes) / 2


def test_every_genuine_pickle_is_decided_alike() -> None:
    for raw in GENUINE:
        end = decided_alike(raw)
        assert isinstance(end, int)
        assert isinstance(decided_alike(raw, end, 100), int)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(SEEDS), st.integers(0, 2**32))
def test_same_opcodes_with_other_texts_and_numbers_are_decided_alike(seed: bytes, number: int) -> None:
    decided_alike(seed)
    decided_alike(with_other_texts(seed, random.Random(number)) + b"behind")


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(SEEDS), st.integers(0, 2**32), st.data())
def test_damaged_pickles_of_a_known_shape_are_decided_alike(seed: bytes, number: int, data: st.DataObject) -> None:
    decided_alike(seed)
    raw = bytearray(with_other_texts(seed, random.Random(number)) if data.draw(st.booleans()) else seed)
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(raw) - 1))
        if data.draw(st.booleans()):
            raw[at] = data.draw(st.sampled_from(_LOOKS_LIKE_OPCODES))
        else:
            del raw[at : at + data.draw(st.integers(1, 5))]
        if not raw:
            break
    decided_alike(bytes(raw))


@settings(max_examples=200, deadline=None)
@given(
    st.recursive(
        st.none() | st.integers(-(2**33), 2**33) | st.floats() | st.text() | st.binary(),
        lambda inner: (
            st.lists(inner) | st.dictionaries(st.text(), inner) | st.tuples(inner, inner) | st.sets(st.text())
        ),
        max_leaves=20,
    ),
    st.integers(0, 5),
    st.integers(1, 4),
)
def test_pickled_values_are_decided_alike_in_every_protocol_and_depth(value: object, protocol: int, depth: int) -> None:
    raw = pickle.dumps(value, protocol)
    for max_depth in (depth, MAX_DEPTH, depth):
        decided_alike(raw, 0, max_depth)


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.sampled_from(
            [b"(", b"0", b"N", b"]", b"}", b")", b"\x8f", b"\x90", b"a", b"e", b"s", b"u", b"t", b"\x85", b"\x86", b"\x94",
             b"h\x00", b"h\x01", b"q\x00", b"q\x01", b"qU", b"hM", b"KJ", b"K\x01", b"\x8c\x01a", b"U\x02KM", b"C\x01U",
             b"X\x02\x00\x00\x00\x94.", b"JU\x8cMJ", b"MGG", b"cos\nsystem\n", b"I01\n", b"\x80\x02", b"r\x00\x00\x00\x00"]
        ),
        max_size=30,
    )
)  # fmt: skip
def test_random_programs_are_decided_alike(program: list[bytes]) -> None:
    decided_alike(b"".join(program) + b".")


@pytest.mark.parametrize("fetches", [1, 3, 30, 200])
def test_known_shape_is_refused_when_its_fetched_texts_become_too_long(fetches: int) -> None:
    """The sum that depends on lengths: it may pass with short texts, and must not with long ones."""

    def fetching(size: int) -> bytes:
        return b"(X" + size.to_bytes(4, "little") + b"x" * size + b"\x94" + b"h\x00" * fetches + b"l."

    assert isinstance(decided_alike(fetching(3)), int)
    found = [decided_alike(fetching(size)) for size in (30, 3_000, 60_000, 600_000)]
    assert isinstance(found[0], int)
    assert (fetches < 30) == all(isinstance(one, int) for one in found)


def test_container_that_doubles_is_refused_under_a_known_shape_too() -> None:
    small, large = (shared(b"??\x86", depth) + b"." for depth in (10, 20))
    assert isinstance(decided_alike(small), int) and not isinstance(decided_alike(large), int)
    assert isinstance(decided_alike(small.replace(short("x"), short("y" * 200))), int)


def test_shape_has_a_bound_and_a_pickle_beyond_it_is_decided_by_the_machine() -> None:
    names = [f"n{number}" for number in range(MOST_BYTES)]
    raw = pickle.dumps(names, 4)
    assert shape_and_end(raw, 0) is None
    assert decided_alike(raw) == len(raw)


def test_known_shapes_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prescan, "MOST_SHAPES", 10)
    for size in range(50):
        decided_alike(pickle.dumps([None] * size, 4))
    assert len(prescan._accepted) <= 10
