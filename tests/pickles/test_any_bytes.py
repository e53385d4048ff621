"""Whatever the bytes: a value or an EntryUnreadable with its reason, and nothing that is endless to walk."""

from __future__ import annotations

import io
import pickle
import pickletools

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from drainer.errors import EntryError, EntryTruncated, EntryUnreadable
from drainer.pickles.prescan import pickle_end
from drainer.pickles.restricted import load_one, load_pair
from drainer.queuedir.content import body_bytes, content_type, header_values, walk_parts
from drainer.queuedir.entry import QueueEntry, entry_from_pickles
from tests.pickles.hostile import RUNS_CODE
from tests.pickles.lenient import some_mailman_could_open
from tests.pickles.samples import MAILMAN2, path2, path3, readable

SEEDS = [
    path2(case).read_bytes() for case in ("ascii_plain", "plaintext_entry", "mixed_unclosed", "undelivered_bulk")
] + [path3(case).read_bytes() for case in ("ascii_plain", "multipart", "recovered", "recovered_plaintext")]
_FRAGMENTS = [
    b"(", b".", b"0", b"1", b"2", b"N", b"]", b"}", b")", b"\x8f", b"\x91", b"\x90", b"a", b"e", b"s", b"u", b"t",
    b"l", b"d", b"o", b"b", b"R", b"\x81", b"\x85", b"\x86", b"\x87", b"\x94", b"h\x00", b"h\x01", b"q\x00",
    b"q\x01", b"K\x01", b"\x88", b"\x8c\x01a", b"\x8c\x08_headers", b"\x8c\x08_payload", b"U\x02\xff\xfe", b"C\x01a",
    b"cemail.message\nMessage\n", b"cemail.header\nHeader\n", b"cdatetime\ndatetime\n", b"c__builtin__\nset\n",
    b"c_codecs\nencode\n", b"(imailbox\nMMDFMessage\n", b"I01\n", b"F1e400\n", b"L1L\n", b"Vx\\ud800\n",
    b"S'\\xff'\n", b"p0\n", b"g0\n", b"\x80\x02", b"\x93", b"J\x00\x00\x00\x00", b"\x8c\x06recips",
    b"\x8c\nrecipients", b"\x8c\x06listid", b"G\x7f\xf8\x00\x00\x00\x00\x00\x00", b"\x8a\x01\x05", b"g+0\n", b"S'\\q'\n",
    b"ccollections\nOrderedDict\n", b"cemail.policy\nEmailPolicy\n",
]  # fmt: skip


def use(entry: QueueEntry) -> None:
    """What others do with an entry, as far as it must not fail."""
    for part in walk_parts(entry.message):
        for header in ("From", "Subject", "Message-ID", "Date"):
            assert all(isinstance(value, str) for value in header_values(part.message, header))
        content_type(part.message)
        body_bytes(part.message)


def opened(raw: bytes) -> None:
    try:
        use(entry_from_pickles("1.0+x", raw, load_pair(raw)))
    except EntryUnreadable as refused:
        assert str(refused).startswith(refused.reason)
        assert not (refused.belongs_in_bad and some_mailman_could_open(raw)), (
            "bad/ is for files that no Mailman can open"
        )


def test_lenient_reader_opens_every_genuine_entry_and_what_runs_code() -> None:
    assert all(some_mailman_could_open(path.read_bytes()) for path in [*readable(), path2("inject_without_recips")])
    assert some_mailman_could_open(RUNS_CODE["posix.system"] + b"}.")


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200))
@example(b"")
@example(b"\x80")
@example(b".")
def test_random_bytes_give_a_value_or_a_reason(raw: bytes) -> None:
    opened(raw)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from(_FRAGMENTS), max_size=40).map(b"".join))
def test_random_programs_give_a_value_or_a_reason(program: bytes) -> None:
    opened(program + b".}.")
    opened(b"\x8c\x01x." + program + b".")


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(SEEDS), st.data())
def test_damaged_entries_give_a_value_or_a_reason(seed: bytes, data: st.DataObject) -> None:
    raw = bytearray(seed)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(raw) - 1))
        kind = data.draw(st.sampled_from(["flip", "cut", "repeat", "insert"]))
        if kind == "flip":
            raw[at] = data.draw(st.integers(0, 255))
        elif kind == "cut":
            del raw[at : at + data.draw(st.integers(1, 30))]
        elif kind == "repeat":
            raw[at:at] = raw[at : at + data.draw(st.integers(1, 30))]
        else:
            raw[at:at] = data.draw(st.sampled_from(_FRAGMENTS))
        if not raw:
            break
    opened(bytes(raw))


@pytest.mark.parametrize("seed", SEEDS, ids=range(len(SEEDS)))
def test_entry_cut_anywhere_is_truncated(seed: bytes) -> None:
    end = load_pair(seed).metadata_end
    for length in range(1, end):
        with pytest.raises(EntryTruncated):
            load_pair(seed[:length])
    load_pair(seed[:end])


@settings(max_examples=100, deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | st.text() | st.binary(),
        lambda inner: (
            st.lists(inner)
            | st.dictionaries(st.text() | st.integers(), inner)
            | st.tuples(inner, inner)
            | st.sets(st.text() | st.binary())
        ),
        max_leaves=20,
    ),
    st.integers(0, 5),
)
def test_plain_values_come_back_as_they_were_pickled_in_every_protocol(value: object, protocol: int) -> None:
    raw = pickle.dumps(value, protocol)
    assert pickle_end(raw) == len(raw)
    assert load_one(raw) == value


def test_pickles_end_where_pickletools_finds_their_stop() -> None:
    beyond_pickletools = path2("plaintext_entry_8bit")  # it cannot decode 8-bit bytes in a STRING
    for path in readable():
        if path == beyond_pickletools:
            continue
        raw = path.read_bytes()
        pair, stream = load_pair(raw), io.BytesIO(raw)
        for end in (pair.message_bytes, pair.metadata_end):
            for _ in pickletools.genops(stream):
                pass
            assert stream.tell() == end, path


def test_every_genuine_entry_can_be_used() -> None:
    for path in readable():
        raw = path.read_bytes()
        use(entry_from_pickles(path.name, raw, load_pair(raw)))


def test_config_of_every_2_1_list_opens() -> None:
    for path in sorted(MAILMAN2.glob("lists/*/config.pck")):
        config = load_one(path.read_bytes())
        assert isinstance(config, dict)
        assert {"host_name", "msg_footer", "members", "preferred_language"} <= set(config), path


def test_hostile_metadata_does_not_hide_behind_a_good_message() -> None:
    raw = path3("ascii_plain").read_bytes()
    good = raw[: load_pair(raw).message_bytes]
    for name, program in RUNS_CODE.items():
        with pytest.raises(EntryError):
            entry_from_pickles(name, good + program, load_pair(good + program))
