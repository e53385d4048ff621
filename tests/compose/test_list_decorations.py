"""The decoration of an entry, looked up for its fingerprint: what the list's settings say, and never an error."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path

import pytest

from drainer.compose.list_decorations import ListDecorations
from drainer.duplicates.decoration import Decoration
from drainer.queuedir.entry import QueueEntry
from drainer.queuedir.read import read_entry
from tests.duplicates.labelled import SAMPLES
from tests.duplicates.test_decoration import KITES

RETRIED = next((SAMPLES / "failures" / "all_rcpt_450").glob("retry--*"))


def retried(list_id: str = "kite-makers") -> QueueEntry:
    return replace(read_entry(RETRIED), list_id=list_id)


def test_a_copy_in_another_process_gives_the_same_decoration() -> None:
    decorations = ListDecorations(SAMPLES / "lists", {})
    assert decorations(retried()) == pickle.loads(pickle.dumps(decorations))(retried()) == KITES


def test_an_entry_that_is_not_decorated_has_none() -> None:
    entry = retried()
    plain = replace(entry, metadata={key: value for key, value in entry.metadata.items() if key != "decorated"})
    assert ListDecorations(SAMPLES / "lists", {})(plain) is None


@pytest.mark.parametrize("name", ["no-such-list", "../kite-makers", "", "damaged", "a\0b"])
def test_a_list_that_cannot_be_read_means_no_decoration(tmp_path: Path, name: str) -> None:
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "config.pck").write_bytes(b"\x80\x02}q\x00(U\x04name")
    decorations = ListDecorations(tmp_path, {})
    assert decorations(retried(name)) is None
    (tmp_path / "kite-makers").mkdir()
    assert decorations(retried()) is None
    (tmp_path / "kite-makers" / "config.pck").write_bytes((SAMPLES / "lists/kite-makers/config.pck").read_bytes())
    assert isinstance(decorations(retried()), Decoration)
