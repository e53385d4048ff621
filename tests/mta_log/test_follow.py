"""The log is followed from its end: through rotation, truncation and lines that are still being written."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import UTC
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drainer.errors import MtaLogUnreadable
from drainer.mta_log.follow import MOST_BYTES, FileFollower, follower

NOW_S = 1_796_047_905.0


class Log:
    """A log that a test writes, and what a follower says of it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.path.write_text("")
        self._writer = self.path.open("a")
        self.following = FileFollower(path, lambda line: b"noise" not in line, UTC)

    def write(self, *texts: str, end: str = "\n") -> None:
        for text in texts:
            self._writer.write(f"2026-11-30T14:11:45Z mail postfix/smtp[7]: {text}{end}")
        self._writer.flush()

    def rest(self, text: str) -> None:
        self._writer.write(text)
        self._writer.flush()

    def heard(self) -> list[str]:
        return [line.text for line in self.following.new_lines(NOW_S)]

    def moved(self) -> None:
        """logrotate renames it; the writer still has it open."""
        self.path.rename(self.path.with_name(self.path.name + ".1"))

    def opened(self) -> None:
        """The writer was told of it."""
        self._writer.close()
        self._writer = self.path.open("a")

    def close(self) -> None:
        self._writer.close()
        self.following.close()


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Log]:
    log = Log(tmp_path / "mail.log")
    yield log
    log.close()


def test_what_was_written_before_is_not_new(log: Log) -> None:
    log.write("old")
    assert log.heard() == []
    log.write("one", "noise", "two")
    assert log.heard() == ["one", "two"]
    assert log.heard() == []


def test_line_that_is_still_being_written_is_heard_once_it_is_whole(log: Log) -> None:
    log.heard()
    log.write("one", end="")
    assert log.heard() == []
    log.rest(" and its end\n")
    assert log.heard() == ["one and its end"]


def test_rotation_loses_no_line_and_tells_none_twice(log: Log) -> None:
    log.heard()
    log.write("before")
    log.moved()
    log.write("after the rename, into the old file")
    assert log.heard() == ["before", "after the rename, into the old file"], "the new file is not there yet"
    log.path.touch()
    log.write("into the old file again")
    assert log.heard() == ["into the old file again"]
    log.write("and again")
    log.opened()
    log.write("into the new one")
    assert log.heard() == ["and again", "into the new one"]
    log.write("and on")
    assert log.heard() == ["and on"]
    assert log.heard() == []


def test_two_rotations_between_two_looks_lose_no_line_of_the_last_files(log: Log) -> None:
    log.heard()
    log.write("one")
    log.moved()
    log.opened()
    log.write("two")
    assert log.heard() == ["one", "two"]
    log.path.with_name("mail.log.1").rename(log.path.with_name("mail.log.2"))
    log.moved()
    log.opened()
    log.write("three")
    assert log.heard() == ["three"]


def test_log_cut_to_nothing_in_place_is_read_from_its_beginning(log: Log) -> None:
    log.write("long " * 50)
    log.heard()
    os.truncate(log.path, 0)
    log.write("new")
    assert log.heard() == ["new"]


def test_log_that_grows_too_fast_is_not_read_after_and_that_is_said(log: Log) -> None:
    log.heard()
    os.truncate(log.path, MOST_BYTES + 1000)
    with pytest.raises(MtaLogUnreadable, match="grew by"):
        log.heard()
    log.rest("\n")
    log.write("one")
    assert log.heard() == ["one"]


def test_log_that_is_not_there_is_an_error_until_it_is(tmp_path: Path) -> None:
    path = tmp_path / "mail.log"
    following = follower(path, lambda _: True, NOW_S)
    for _ in range(2):
        with pytest.raises(MtaLogUnreadable, match="No such file"):
            list(following.new_lines(NOW_S))
    path.touch()
    assert list(following.new_lines(NOW_S)) == []
    following.close()


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo])
def test_what_is_no_file_is_refused(tmp_path: Path, make: object) -> None:
    path = tmp_path / "mail.log"
    make(path)  # type: ignore[operator]
    with pytest.raises(MtaLogUnreadable, match=r"a directory|a FIFO"):
        list(follower(path, lambda _: True, NOW_S).new_lines(NOW_S))


STEPS = st.lists(st.sampled_from(["write", "part", "look", "move", "open", "touch"]), max_size=30)


@given(STEPS)
def test_whatever_happens_to_the_file_each_line_is_heard_once(
    tmp_path_factory: pytest.TempPathFactory, steps: list[str]
) -> None:
    """Of a file that is rotated twice before the writer was told of the first time, lines may be lost: that is left out."""
    log = Log(tmp_path_factory.mktemp("log") / "mail.log")
    log.heard()
    written: list[str] = []
    heard: list[str] = []
    is_moved = False
    for number, step in enumerate(steps):
        if step == "write":
            log.write(f"line {number}")
            written.append(f"line {number}")
        elif step == "part":
            log.write(f"line {number}", end="")
            heard += log.heard()
            log.rest("\n")
            written.append(f"line {number}")
        elif step == "look":
            heard += log.heard()
        elif step == "move" and not is_moved:
            heard += log.heard()
            log.moved()
            is_moved = True
        elif step == "touch" and is_moved:
            log.path.touch()
        elif step == "open":
            log.opened()
            heard += log.heard()
            is_moved = False
    heard += log.heard()
    log.close()
    assert heard == written
