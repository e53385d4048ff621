"""Names of entries: those of Mailman are read, those that end its runner are reported, and no name raises."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from drainer.queuedir.filebase import (
    ForeignName,
    QueueFile,
    Suffix,
    custody_filebase,
    mailman_filebase,
    parse_name,
    queue_of,
    renamed_filebase,
)
from tests.queuedir.conftest import GENUINE

LABELS = Path(__file__).parents[1] / "samples" / "mailman2"

times = st.floats(min_value=0, max_value=1e12, allow_nan=False).filter(lambda when: "e+" not in repr(when))
digests = st.text("0123456789abcdef", min_size=40, max_size=40)
suffixes = st.sampled_from(list(Suffix))


def queue_file(name: str) -> QueueFile:
    file = parse_name(name)
    assert isinstance(file, QueueFile)
    return file


def mailman2_dies_on(name: str) -> bool:
    """Switchboard.get_files of Mailman 2.1, as MAILMAN21.md §1 tells it."""
    filebase, extension = os.path.splitext(name)  # noqa: PTH122 - what Mailman calls
    if extension != ".pck":
        return False
    try:
        when, _ = filebase.split("+")
        float(when)
    except ValueError:
        return True
    return False


file_names = st.text(st.characters(exclude_characters="/\0"), max_size=30)


@given(times, digests, suffixes)
def test_every_name_mailman_writes_is_read_and_written_alike(when: float, digest: str, suffix: Suffix) -> None:
    name = f"{when!r}+{digest}{suffix.value}"
    file = queue_file(name)
    assert (file.when_s, file.suffix, file.name) == (when, suffix, name)


@example("0.+")
@given(st.text("0123456789+.einfa_- ~pckbsvtm\n\udc80é", max_size=30) | file_names)
def test_any_name_gives_a_file_or_a_reason_and_the_runner_dies_where_we_say(text: str) -> None:
    for name in (text, text + ".pck", f"1.5+{text}.pck", f"{text}+ab.pck"):
        parsed = parse_name(name)
        if isinstance(parsed, ForeignName):
            assert parsed.reason and parsed.name == name
            assert parsed.kills_runner == mailman2_dies_on(name)
        else:
            assert parsed.name == name and math.isfinite(parsed.when_s)
            assert not mailman2_dies_on(name)
            parsed.filebase.encode("utf-8")


@pytest.mark.parametrize("queue", ["out", "resubmission"])
def test_genuine_names_are_entries_exactly_where_the_labels_say(queue: str) -> None:
    labels = json.loads((LABELS / "labels.json").read_text("utf-8"))
    seen = 0
    for key, label in labels.items():
        if not key.startswith(queue + "/"):
            continue
        seen += 1
        foreign = isinstance(parse_name(key.partition("/")[2]), ForeignName)
        assert foreign == (label["class"] in ("misnamed", "not_a_queue_file")), key
    assert seen > 150


def test_order_is_by_time_as_a_number_and_then_by_name() -> None:
    names = ["1000.5+a.pck", "999.75+b.pck", "1000.5+0.pck", "1e3+z.pck"]
    assert [file.name for file in sorted(queue_file(name) for name in names)] == [
        "999.75+b.pck",
        "1e3+z.pck",
        "1000.5+0.pck",
        "1000.5+a.pck",
    ]


@given(times, digests, st.text(max_size=8), st.sampled_from(["out", "retry"]))
def test_another_name_keeps_the_time_and_is_one_mailman_reads(when: float, digest: str, salt: str, queue: str) -> None:
    ours = custody_filebase(f"{when!r}+{digest}", queue)
    other = renamed_filebase(ours, salt)
    assert other != ours and queue_of(other) == "out"
    assert queue_file(other + ".pck").when_s == when
    assert len(other.partition("+")[2]) == 40 and int(other.partition("+")[2], 16) >= 0


@given(times, digests, st.sampled_from(["out", "retry"]))
def test_name_in_custody_says_where_the_entry_came_from(when: float, digest: str, queue: str) -> None:
    filebase = f"{when!r}+{digest}"
    ours = custody_filebase(filebase, queue)
    assert (queue_of(ours), mailman_filebase(ours)) == (queue, filebase)
    assert queue_file(ours + ".pck").filebase == ours


def test_genuine_set_has_the_184_entries_the_other_tests_count_on() -> None:
    assert sum(isinstance(parse_name(path.name), QueueFile) for path in GENUINE.iterdir()) == 184
