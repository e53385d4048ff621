"""What may stand in a queue directory besides good entries, and what the metadata of one may say of its recipients."""

from __future__ import annotations

import email.message
import os
import pickle
import socket
from pathlib import Path

import pytest

from drainer.errors import EntryEmpty, EntryGarbage, EntryNotUnderstood, EntryTooLarge, EntryVanished
from drainer.queuedir.content import body_bytes, header_text
from drainer.queuedir.entry import Flavour
from drainer.queuedir.read import read_entry
from tests.pickles.samples import path2, path3

NAME = "1700000000.1+" + "ab" * 20 + ".pck"
TEXT = "From: ann@example.com\nSubject: x\n\nbody\n"


def written(tmp_path: Path, metadata: object, message: object = TEXT, protocol: int = 5) -> Path:
    path = tmp_path / NAME
    path.write_bytes(pickle.dumps(message, protocol) + pickle.dumps(metadata, protocol))
    return path


def test_file_that_is_gone_has_vanished(tmp_path: Path) -> None:
    with pytest.raises(EntryVanished):
        read_entry(tmp_path / NAME)


def test_symbolic_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / NAME).symlink_to(path3("ascii_plain"))
    with pytest.raises(EntryNotUnderstood, match="not a regular file"):
        read_entry(tmp_path / NAME)


def test_pipe_directory_and_socket_are_refused_without_waiting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # a socket's path has to be short
    os.mkfifo("pipe.pck")
    Path("directory.pck").mkdir()
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket.pck")
        for name in ("pipe.pck", "directory.pck", "socket.pck"):
            with pytest.raises(EntryNotUnderstood, match="not a regular file"):
                read_entry(Path(name))


def test_file_over_the_limit_is_not_read_and_one_at_the_limit_is(tmp_path: Path) -> None:
    path = written(tmp_path, {"recipients": {"a@example.com"}, "listid": "l.example.com"})
    assert read_entry(path, path.stat().st_size).recipients == ("a@example.com",)
    with pytest.raises(EntryTooLarge):
        read_entry(path, path.stat().st_size - 1)


def test_sparse_file_of_a_terabyte_costs_nothing(tmp_path: Path) -> None:
    path = tmp_path / NAME
    path.touch()
    os.truncate(path, 2**40)
    with pytest.raises(EntryTooLarge):
        read_entry(path)


def test_mail_of_thirty_megabytes_passes(tmp_path: Path) -> None:
    message = email.message.Message()
    message["Subject"] = "big"
    message.set_payload("0123456789abcde\n" * (30 * 2**16))
    entry = read_entry(written(tmp_path, {"recipients": {"a@example.com"}, "listid": "l.example.com"}, message))
    assert header_text(entry.message, "subject") == "big"
    assert len(body_bytes(entry.message) or b"") == 30 * 2**20


def test_filebase_is_the_name_without_its_suffix(tmp_path: Path) -> None:
    path = tmp_path / NAME.replace(".pck", ".bak")
    path.write_bytes(path3("ascii_plain").read_bytes())
    assert read_entry(path).filebase == NAME.removesuffix(".pck")


def test_metadata_pickle_begins_where_the_message_pickle_ends() -> None:
    entry = read_entry(path3("ascii_plain"))
    assert entry.raw == path3("ascii_plain").read_bytes()
    assert pickle.loads(entry.raw[entry.message_bytes :])["listid"] == entry.list_id
    entry = read_entry(path2("ascii_plain"))
    assert entry.flavour is Flavour.MAILMAN2
    assert entry.raw[entry.message_bytes - 1 : entry.message_bytes + 1] == b".}"


def test_recips_as_plain_text_are_refused_because_each_character_would_be_a_recipient(tmp_path: Path) -> None:
    with pytest.raises(EntryNotUnderstood, match="'recips' is a str"):
        read_entry(written(tmp_path, {"recips": "ann@example.com", "listname": "kites", "version": 3}, protocol=1))


def test_recipient_that_is_not_text_is_named(tmp_path: Path) -> None:
    with pytest.raises(EntryNotUnderstood, match="42"):
        read_entry(written(tmp_path, {"recips": ["ann@example.com", 42], "listname": "kites"}))


def test_recipients_of_mailman_3_are_sorted_when_a_set_and_keep_their_order_when_a_list(tmp_path: Path) -> None:
    addresses = ["zoe@example.com", "ann@example.com", "zoe@example.com"]
    metadata = {"listid": "kites.example.org"}
    assert read_entry(written(tmp_path, metadata | {"recipients": addresses})).recipients == (
        "zoe@example.com",
        "ann@example.com",
    )
    assert read_entry(written(tmp_path, metadata | {"recipients": set(addresses)})).recipients == (
        "ann@example.com",
        "zoe@example.com",
    )


def test_empty_undelivered_means_no_recipient_whatever_recips_says(tmp_path: Path) -> None:
    metadata = {"listname": "kites", "recips": ["ann@example.com"], "undelivered": []}
    assert read_entry(written(tmp_path, metadata)).recipients == ()


def test_entry_without_listname_is_the_site_lists(tmp_path: Path) -> None:
    assert read_entry(written(tmp_path, {"recips": ["ann@example.com"], "version": 3})).list_id == "mailman"


@pytest.mark.parametrize("metadata", [[], "text", None])
def test_metadata_that_mailman_cannot_use_either_is_garbage(tmp_path: Path, metadata: object) -> None:
    with pytest.raises(EntryGarbage):
        read_entry(written(tmp_path, metadata))


@pytest.mark.parametrize("metadata", [{1: 2}, {"what": "ever"}, {"listid": 7, "recipients": []}])
def test_metadata_that_mailman_can_load_and_we_do_not_know_is_not_for_bad(tmp_path: Path, metadata: object) -> None:
    with pytest.raises(EntryNotUnderstood) as caught:
        read_entry(written(tmp_path, metadata))
    assert not caught.value.belongs_in_bad


@pytest.mark.parametrize("message", [None, 7, ["x"], {"a": 1}])
def test_first_pickle_that_is_no_message_is_not_understood(tmp_path: Path, message: object) -> None:
    with pytest.raises(EntryNotUnderstood, match="not a message"):
        read_entry(written(tmp_path, {"recipients": [], "listid": "l.example.com"}, message))


def test_plain_text_with_parts_nested_without_end_is_refused(tmp_path: Path) -> None:
    deep = "".join(f'Content-Type: multipart/mixed; boundary="b{i}"\n\n--b{i}\n' for i in range(1000)) + "\n"
    with pytest.raises(EntryNotUnderstood, match="nested too deep"):
        read_entry(written(tmp_path, {"recipients": [], "listid": "l.example.com"}, deep))


def test_empty_file_is_empty(tmp_path: Path) -> None:
    (tmp_path / NAME).touch()
    with pytest.raises(EntryEmpty):
        read_entry(tmp_path / NAME)
