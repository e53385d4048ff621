"""Frames: what is written is read, and nothing else passes for a frame."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drainer.compose.coprocess import frames

_strings = st.text(st.characters(), max_size=20) | st.just("lone \udcfc surrogate")


@given(st.dictionaries(_strings, _strings | st.integers() | st.lists(_strings)), st.binary(max_size=200))
def test_a_frame_is_read_as_it_was_written(fields: dict[str, object], octets: bytes) -> None:
    written = frames.frame(frames.COMPOSE, fields, octets)
    announced = frames.prefix(written[: frames.PREFIX_BYTES])
    assert announced.kind == frames.COMPOSE
    assert frames.fields_and_octets(announced, written[frames.PREFIX_BYTES :]) == (fields, octets)


@given(st.binary(min_size=frames.PREFIX_BYTES, max_size=frames.PREFIX_BYTES))
def test_any_octets_are_a_prefix_within_bounds_or_an_error(octets: bytes) -> None:
    try:
        announced = frames.prefix(octets)
    except frames.FrameError:
        return
    assert announced.rest_length <= frames.LONGEST_FIELDS + frames.LONGEST_OCTETS


@given(st.data())
def test_a_frame_with_one_octet_changed_is_refused(data: st.DataObject) -> None:
    written = bytearray(frames.frame(frames.DECORATION, {"footer": "x"}, b"some content"))
    place = data.draw(st.integers(frames.PREFIX_BYTES, len(written) - 1))
    written[place] ^= data.draw(st.integers(1, 255))
    announced = frames.prefix(bytes(written[: frames.PREFIX_BYTES]))
    with pytest.raises(frames.FrameError):
        frames.fields_and_octets(announced, bytes(written[frames.PREFIX_BYTES :]))


def test_output_of_a_stray_print_is_refused() -> None:
    with pytest.raises(frames.FrameError, match="not a frame but b'Hello"):
        frames.prefix(b"Hello, I am a plugin\n"[: frames.PREFIX_BYTES])


def test_a_cut_frame_is_refused() -> None:
    written = frames.frame(frames.DECORATION, {"footer": "x"}, b"some content")
    announced = frames.prefix(written[: frames.PREFIX_BYTES])
    with pytest.raises(frames.FrameError, match="ended after"):
        frames.fields_and_octets(announced, written[frames.PREFIX_BYTES : -1])


_transactions = st.lists(
    st.builds(
        frames.Transaction,
        _strings, st.lists(_strings), st.lists(_strings), st.integers(0), st.integers(0), st.none() | st.lists(_strings),
    )
)  # fmt: skip


@given(_transactions, st.lists(st.binary(max_size=30)), st.sampled_from([True, False, None]))
def test_transactions_and_their_contents_are_read_as_they_were_written(
    transactions: list[frames.Transaction], contents: list[bytes], complete: bool | None
) -> None:
    ((kind, fields, octets),) = frames.FrameReader().fed(frames.composed(transactions, contents, complete))
    assert (kind, fields["complete"]) == (frames.COMPOSED, complete)
    assert frames.transactions_and_contents(fields, octets) == (transactions, contents)


@given(st.lists(st.binary(max_size=40), max_size=5), st.lists(st.integers(1, 60), min_size=1))
def test_frames_are_read_however_they_are_cut(contents: list[bytes], cuts: list[int]) -> None:
    written = b"".join(frames.frame(frames.DECORATION, {"footer": "x"}, content) for content in contents)
    reader, found = frames.FrameReader(), []
    for number in range(len(written)):
        cut = cuts[number % len(cuts)]
        found += [octets for _, _, octets in reader.fed(written[:cut])]
        written = written[cut:]
    assert found == contents


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=7),
    max_leaves=20,
)


@given(st.fixed_dictionaries({}, optional={"transactions": _json, "lengths": _json}), st.binary(max_size=9))
def test_any_fields_are_transactions_or_an_error(fields: dict[str, object], octets: bytes) -> None:
    try:
        _, contents = frames.transactions_and_contents(fields, octets)
    except frames.FrameError:
        return
    assert b"".join(contents) == octets
