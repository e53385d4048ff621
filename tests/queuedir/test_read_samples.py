"""Genuine queue files of Mailman 2.1 and 3 are read, or refused, exactly as their labels say."""

from __future__ import annotations

import email.header
from collections import Counter
from datetime import datetime

import pytest

from drainer.errors import EntryEmpty, EntryGarbage, EntryTruncated, EntryUnreadable
from drainer.pickles.standins import StandIn
from drainer.queuedir.content import body_bytes, header_text, raw_bytes, value_text, walk_parts
from drainer.queuedir.entry import Flavour, QueueEntry
from drainer.queuedir.read import read_entry
from tests.pickles.samples import MAILMAN2, MAILMAN3, Label, is_entry2, labels2, labels3, path2, path3, stand_ins

READABLE2 = {name: label for name, label in labels2().items() if is_entry2(label)}


def latin1(text: str) -> str:
    """A text as the labels have it: bytes read as latin-1."""
    return raw_bytes(text).decode("latin-1")


def entry2(name: str) -> QueueEntry:
    return read_entry(MAILMAN2 / "qfiles" / name)


def test_every_readable_2_1_entry_is_read_with_its_list_and_recipients() -> None:
    for name, label in READABLE2.items():
        entry = entry2(name)
        assert entry.flavour is Flavour.MAILMAN2, label["case"]
        assert entry.list_id == label["metadata"].get("listname", "mailman"), label["case"]
        recips = entry.metadata.get("recips")
        if isinstance(label["recips"], list):
            assert isinstance(recips, list)
            assert [latin1(address) for address in recips] == label["recips"], label["case"]
        elif "recips_count" in label:
            assert isinstance(recips, list)
            assert len(recips) == label["recips_count"], label["case"]
        else:
            assert recips is None, label["case"]


def test_effective_recipients_are_recips_each_once_or_undelivered_in_their_place() -> None:
    for name, label in READABLE2.items():
        if not isinstance(label["recips"], list):
            continue
        expected = label["recips"]
        if label.get("undelivered") is not None:
            expected = [address for chunk in label["undelivered"] for address in chunk]
        assert [latin1(address) for address in entry2(name).recipients] == list(dict.fromkeys(expected)), label["case"]


def test_2_1_headers_read_as_labelled() -> None:
    for name, label in READABLE2.items():
        message = entry2(name).message
        for header in ("message_id", "subject"):
            got, expected = header_text(message, header.replace("_", "-")), label[header]
            if expected is None:
                assert got is None, label["case"]
            else:
                octets = expected.encode("latin-1").decode("ascii", "surrogateescape")
                assert got == value_text(octets), (label["case"], header)


def test_header_object_reads_like_the_encoded_words_mailman_makes_of_it() -> None:
    compared = 0
    for name, label in READABLE2.items():
        if label["subject"] and "=?" in label["subject"] and "unknown" not in label["case"]:
            text = str(email.header.make_header(email.header.decode_header(label["subject"].replace("\n", ""))))
            got = header_text(entry2(name).message, "subject")
            assert got is not None
            assert got.split() == text.split(), label["case"]
            compared += 1
    assert compared > 10


def test_2_1_metadata_comes_with_its_types_and_values() -> None:
    kinds = {"str": str, "int": int, "bool": bool, "float": float, "list": list, "dict": dict, "NoneType": type(None)}
    for name, label in READABLE2.items():
        metadata = entry2(name).metadata
        assert set(metadata) == set(label["metadata_types"]), label["case"]
        for key, kind in label["metadata_types"].items():
            value = metadata[key]
            assert isinstance(value, StandIn) if kind == "instance" else type(value) is kinds[kind], (name, key)
            if isinstance(value, bool | int | float):
                assert value == label["metadata"][key]
            elif isinstance(value, str):
                assert latin1(value) == label["metadata"][key]


def test_2_1_classes_are_exactly_those_the_label_names() -> None:
    for name, label in READABLE2.items():
        entry = entry2(name)
        found = {inner.pickled_as for inner in stand_ins(entry.message, entry.metadata)}
        if entry.plaintext is None:
            assert found == set(label["globals"]), label["case"]


@pytest.mark.parametrize(
    ("case", "error"),
    [
        ("truncated_in_message", EntryTruncated),
        ("truncated_in_metadata", EntryTruncated),
        ("first_pickle_only", EntryTruncated),
        ("tmp_leftover", EntryTruncated),
        ("zero_length", EntryEmpty),
        ("garbage", EntryGarbage),
        ("zero_filled", EntryGarbage),
        ("text_file_named_pck", EntryGarbage),
        ("not_a_queue_file", EntryGarbage),
    ],
)
def test_what_mailman_cannot_read_is_refused_with_its_reason(case: str, error: type[EntryUnreadable]) -> None:
    with pytest.raises(error) as caught:
        read_entry(path2(case))
    assert type(caught.value) is error
    assert str(caught.value).startswith(f"{error.reason}: ")


def test_every_unreadable_label_has_a_case_above() -> None:
    unreadable = Counter(label["case"] for label in labels2().values() if label.get("unreadable") is not None)
    assert len(unreadable) == 9


def test_bytes_after_the_metadata_do_not_matter() -> None:
    label = labels2()["out/" + path2("extra_bytes_after").name]
    entry = read_entry(path2("extra_bytes_after"))
    assert [latin1(address) for address in entry.recipients] == label["recips"]
    assert label["bytes_after"] == 17


@pytest.mark.parametrize("case", ["plaintext_entry", "plaintext_entry_8bit"])
def test_2_1_plain_text_entry_has_its_bytes_and_its_parsed_form(case: str) -> None:
    entry = read_entry(path2(case))
    assert entry.plaintext is not None
    head, _, body = entry.plaintext.partition(b"\n\n")
    assert b"\nMessage-I" in head
    assert body_bytes(entry.message) == body
    assert entry.message.pickled_as == "Mailman.Message Message"


def test_every_mailman_3_entry_is_read_as_mailman_reads_it() -> None:
    for name, label in labels3().items():
        entry = read_entry(MAILMAN3 / name)
        assert entry.flavour is Flavour.MAILMAN3, label["case"]
        assert entry.list_id == label["listid"], label["case"]
        assert sorted(entry.recipients) == sorted(set(label["recipients"])), label["case"]
        assert header_text(entry.message, "message-id") == label["message_id"], label["case"]
        if "\ufffd" not in label["subject"]:
            assert header_text(entry.message, "subject") == label["subject"], label["case"]
        assert _types(entry) == label["metadata_types"], label["case"]
        assert _scalars(entry) == {
            key: value
            for key, value in label["metadata"].items()
            if label["metadata_types"][key] in ("bool", "int", "float", "str", "NoneType", "datetime")
        }


def _types(entry: QueueEntry) -> dict[str, str]:
    return {key: type(value).__name__ for key, value in entry.metadata.items()}


def _scalars(entry: QueueEntry) -> Label:
    return {
        key: str(value) if isinstance(value, datetime) else value
        for key, value in entry.metadata.items()
        if isinstance(value, bool | int | float | str | None | datetime)
    }


def test_mailman_3_leaf_bodies_are_those_python_decodes() -> None:
    apart = {
        "bad_base64",
        "digest",
        "plaintext_unicode",
    }  # Python drops line ends of bad base64, and reads text as latin-1
    for name, label in labels3().items():
        if label["case"] in apart:
            continue
        leaves = [body_bytes(part.message) for part in walk_parts(read_entry(MAILMAN3 / name).message)]
        bodies = [leaf.decode("latin-1") for leaf in leaves if leaf is not None]
        assert bodies == label["leaf_bodies"], label["case"]


def test_raw_8bit_subject_of_mailman_3_is_read_as_latin_1_when_it_is_no_utf_8() -> None:
    assert header_text(read_entry(path3("raw_8bit_subject_no_prefix")).message, "Subject") == "Grüße"


def test_mailman_3_plain_text_may_be_genuine_unicode() -> None:
    entry = read_entry(path3("plaintext_unicode"))
    assert entry.plaintext is not None
    assert body_bytes(entry.message) == "Äpfel\n".encode()
    assert header_text(entry.message, "subject") == "Grüße"


def test_parts_of_a_mailman_3_digest_are_walked_in_order() -> None:
    parts = list(walk_parts(read_entry(path3("digest")).message))
    assert parts[0].message.pickled_as == "mailman.email.message MultipartDigestMessage"
    subjects = [header_text(part.message, "subject") for part in parts if "MMDF" in part.message.pickled_as]
    assert subjects[:2] == ["[Kites] Wind tomorrow", "[Kites] café time"]
    assert max(part.depth for part in parts) >= 4
