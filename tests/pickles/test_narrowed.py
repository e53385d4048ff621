"""A part-delivered entry is handed back with fewer recipients and nothing else changed, as both Mailmans see it."""

from __future__ import annotations

import json
import pickle
import random
import subprocess
from pathlib import Path

import pytest

from drainer.errors import EntryNotUnderstood
from drainer.pickles.narrowed import narrowed
from drainer.pickles.restricted import load_pair
from drainer.queuedir.entry import QueueEntry, entry_from_pickles
from drainer.queuedir.narrow import with_recipients
from drainer.queuedir.read import read_entry
from tests.pickles.samples import (
    MAILMAN2,
    MAILMAN3,
    is_entry2,
    labels2,
    labels3,
    mailman3_python,
    path2,
    path3,
    python2,
    readable,
)

_UNDER_PYTHON_2 = r'''
import cPickle, json, os, sys, types
for name in ("Mailman", "Mailman.Message"):
    sys.modules[name] = types.ModuleType(name)
import email.Message
class Message(email.Message.Message): pass
class UserNotification(Message): pass
class OwnerNotification(Message): pass
for made in (Message, UserNotification, OwnerNotification):
    made.__module__ = "Mailman.Message"
    setattr(sys.modules["Mailman.Message"], made.__name__, made)

def plain(value):
    """Types and values, as text that can be compared."""
    if isinstance(value, types.InstanceType) or hasattr(value, "__dict__"):
        return [str(value.__class__), plain(value.__dict__)]
    if isinstance(value, dict):
        return ["dict", sorted([plain(key), plain(item)] for key, item in value.items())]
    if isinstance(value, (list, tuple)):
        return [type(value).__name__, [plain(item) for item in value]]
    return [type(value).__name__, repr(value)]

def read(path):
    with open(path, "rb") as file:
        message, metadata = cPickle.load(file), cPickle.load(file)
        assert not isinstance(metadata, dict) or file.read() == b"" or path.endswith(".before")
    recips, undelivered = metadata.pop("recips", None), metadata.pop("undelivered", None)
    typed = lambda items: None if items is None else [
        typed(item) if isinstance(item, list) else (type(item).__name__, item.decode("latin-1")) for item in items]
    return plain(message), plain(metadata), typed(recips), typed(undelivered)

answers = {}
for name in sorted(os.listdir(".")):
    if name.endswith(".after"):
        before, after = read(name[:-6] + ".before"), read(name)
        answers[name[:-6]] = [before[:2] == after[:2], after[2], after[3]]
print(json.dumps(answers))
'''


def subset(entry: QueueEntry, chance: random.Random) -> list[str]:
    keep = [address for address in entry.recipients if chance.random() < 0.5]
    return keep or [entry.recipients[-1]]


def latin1(address: str) -> str:
    return address.encode("ascii", "surrogateescape").decode("latin-1")


def reread(raw: bytes) -> QueueEntry:
    return entry_from_pickles("1.0+x", raw, load_pair(raw))


def test_python_2_finds_everything_but_the_recipients_unchanged(tmp_path: Path) -> None:
    python, chance, kept = python2(), random.Random(20140714), {}
    for index, (name, label) in enumerate(sorted(labels2().items())):
        if not is_entry2(label):
            continue
        entry = read_entry(MAILMAN2 / "qfiles" / name)
        if not entry.recipients:
            continue
        keep = subset(entry, chance)
        (tmp_path / f"{index}.before").write_bytes(entry.raw)
        (tmp_path / f"{index}.after").write_bytes(with_recipients(entry, keep))
        kept[str(index)] = (label, [latin1(address) for address in keep])
    done = subprocess.run([python, "-c", _UNDER_PYTHON_2], cwd=tmp_path, check=True, capture_output=True)
    answers = json.loads(done.stdout)
    assert set(answers) == set(kept)
    assert len(kept) > 300
    for index, (unchanged, recips, undelivered) in answers.items():
        label, keep = kept[index]
        assert unchanged, label["case"]
        owed = [address for chunk in undelivered for address in chunk] if undelivered is not None else recips
        assert owed == [["str", address] for address in keep], label["case"]
        assert set(map(tuple, owed)) <= set(map(tuple, recips)), label["case"]


_UNDER_MAILMAN_3 = """
import json, os, sys
from mailman.config import config
config.create_paths = False
from mailman.core.switchboard import Switchboard
here = os.getcwd()
board = Switchboard("out", here)
answers = {}
for filebase in board.files:
    message, metadata = board.dequeue(filebase)
    kind = type(metadata["recipients"]).__name__
    recipients = sorted(metadata.pop("recipients"))
    metadata = [(key, type(value).__name__, str(value)) for key, value in sorted(metadata.items())]
    leaves = [repr(part.get_payload(decode=True)) for part in message.walk()]
    answers[filebase] = [kind, recipients, metadata, message.keys(), leaves]
    board.finish(filebase)
print(json.dumps(answers))
"""


def test_mailmans_own_switchboard_dequeues_the_kept_recipients_and_the_same_mail(tmp_path: Path) -> None:
    python, chance = mailman3_python(), random.Random(20230308)
    whole, part, kept = tmp_path / "whole", tmp_path / "part", {}
    whole.mkdir()
    part.mkdir()
    for name, label in labels3().items():
        entry = read_entry(MAILMAN3 / name)
        if entry.recipients:
            keep = subset(entry, chance)
            (whole / name).write_bytes(entry.raw)
            (part / name).write_bytes(with_recipients(entry, keep))
            kept[entry.filebase] = (label["case"], sorted(keep))
    before, after = (
        json.loads(subprocess.run([python, "-c", _UNDER_MAILMAN_3], cwd=at, check=True, capture_output=True).stdout)
        for at in (whole, part)
    )
    assert set(after) == set(kept)
    for filebase, (case, keep) in kept.items():
        assert after[filebase][0] == before[filebase][0], case
        assert after[filebase][1] == keep, case
        assert after[filebase][2:] == before[filebase][2:], case


def test_message_pickle_is_copied_byte_for_byte() -> None:
    for path in readable():
        entry = read_entry(path)
        if entry.recipients:
            narrowed_file = with_recipients(entry, entry.recipients[:1])
            assert narrowed_file[: entry.message_bytes] == entry.raw[: entry.message_bytes]
            assert reread(narrowed_file).recipients == entry.recipients[:1]


def test_keeping_all_recipients_changes_nothing() -> None:
    for path in readable():
        entry = read_entry(path)
        if entry.recipients:
            again = reread(with_recipients(entry, entry.recipients))
            assert again.recipients == entry.recipients
            assert list(again.metadata) == list(entry.metadata)


def test_narrowing_again_and_again_ends_with_one() -> None:
    for path in (path2("big_ascii"), path3("big"), path2("undelivered_verp"), path3("recovered_plaintext")):
        entry = read_entry(path)
        while len(entry.recipients) > 1:
            keep = entry.recipients[: len(entry.recipients) // 2]
            entry = reread(with_recipients(entry, keep))
            assert entry.recipients == keep


def test_chunk_of_undelivered_that_is_all_settled_goes_as_a_whole() -> None:
    entry = read_entry(path2("undelivered_bulk"))
    chunks = entry.metadata["undelivered"]
    assert isinstance(chunks, list)
    assert len(chunks) > 1
    assert reread(with_recipients(entry, chunks[1])).metadata["undelivered"] == [chunks[1]]


@pytest.mark.parametrize("protocol", range(6))
def test_address_named_twice_is_handed_back_once(protocol: int) -> None:
    metadata = {"recips": ["a@x.example", "b@x.example", "a@x.example"], "listname": "x", "note": ["a@x.example"]}
    after = pickle.loads(narrowed(pickle.dumps(metadata, protocol), ["a@x.example"], ("recips",)))
    assert after == metadata | {"recips": ["a@x.example"]}


@pytest.mark.parametrize("protocol", range(6))
def test_set_stays_a_set_in_every_protocol(protocol: int) -> None:
    metadata = {"recipients": {f"r{n}@x.example" for n in range(2500)}, "listid": "x", "more": {"recipients": ["r1"]}}
    keep = [f"r{n}@x.example" for n in range(0, 2500, 7)]
    after = pickle.loads(narrowed(pickle.dumps(metadata, protocol), keep, ("recipients",)))
    assert after == metadata | {"recipients": set(keep)}


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("count", [3, 2500])
def test_dictionary_of_recipients_loses_the_settled_ones(protocol: int, count: int) -> None:
    metadata = {"recips": {f"r{n}@x.example": {"n": n} for n in range(count)}, "listname": "x"}
    keep = [f"r{n}@x.example" for n in range(0, count, 2)]
    after = pickle.loads(narrowed(pickle.dumps(metadata, protocol), keep, ("recips",)))
    assert after == metadata | {"recips": {name: metadata["recips"][name] for name in keep}}  # type: ignore[index]


@pytest.mark.parametrize("recips", [("a@x.example", "b@x.example"), frozenset(("a@x.example", "b@x.example"))])
def test_recipients_that_cannot_be_taken_out_keep_the_entry_here(recips: object) -> None:
    """If it were handed back with all recipients, Mailman would send second copies to those that have had it."""
    raw = pickle.dumps("Subject: x\n\n") + pickle.dumps({"listname": "x", "recips": recips}, 4)
    with pytest.raises(EntryNotUnderstood, match="cannot be taken out"):
        with_recipients(reread(raw), ["b@x.example"])


def test_recipients_shared_with_another_value_are_not_taken_out_of_both() -> None:
    shared = ["a@x.example", "b@x.example"]
    with pytest.raises(EntryNotUnderstood, match="'archive' would come out wrong"):
        narrowed(pickle.dumps({"recips": shared, "archive": shared}), ["a@x.example"], ("recips",))


def test_only_recipients_of_the_entry_can_be_kept() -> None:
    entry = read_entry(path2("ascii_plain"))
    for keep in ([], ["stranger@example.com"], [*entry.recipients, "stranger@example.com"]):
        with pytest.raises(ValueError, match="recipients to keep"):
            with_recipients(entry, keep)


def test_bytes_after_the_metadata_are_left_out() -> None:
    entry = read_entry(path2("extra_bytes_after"))
    again = with_recipients(entry, entry.recipients)
    assert load_pair(again).metadata_end == len(again)
