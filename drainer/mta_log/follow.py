"""The MTA's log, followed from its end: what was written since the last look, and only that.

In    where the log is (setting mta.log_file); from look to look the place reached
Out   its new lines, one at a time
Raises  MtaLogUnreadable with the reason: then nothing is known of the time since the last look
Not here  what the lines mean (mta_log/postfix.py, exim.py); a log read backwards (mta_log/file.py)

A log that is rotated (renamed, and a new one made) is read to its end before the new one is begun; its writer may go on with
it for a while. One that was cut to nothing in place (copytruncate) is read from its beginning. A log that grows by more than
MOST_BYTES between two looks is not read after: the place reached is its end.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from datetime import tzinfo
from itertools import chain
from pathlib import Path
from typing import BinaryIO, Protocol

from drainer.errors import MtaLogUnreadable
from drainer.files.access import and_advice
from drainer.files.regular_file import open_regular
from drainer.mta_log.file import LOCAL, is_journal, journal_output, pieces_of
from drainer.mta_log.lines import LogLine, log_lines, parse_line

MOST_BYTES = 2**25
JOURNAL_WITHIN_S = 25.0
_PIECE_BYTES = 2**18
_LONGEST_LINE = 2**16

Wanted = Callable[[bytes], bool]
"""Whether a line, as it is in the file, may be worth taking apart: most of a log's lines are not."""


class LogFollower(Protocol):
    def new_lines(self, now_s: float) -> Iterator[LogLine]:
        """What was written since the last call; the first one only finds the end.

        now_s   dates traditional stamps, which name no year
        Raises  MtaLogUnreadable, perhaps after some lines
        """

    def close(self) -> None: ...


def follower(where: Path, wanted: Wanted, now_s: float, zone: tzinfo = LOCAL) -> LogFollower:
    """Of a file or a journal, as mta.log_file names it. now_s: a journal's entries since then are new."""
    return JournalFollower(where, now_s) if is_journal(where) else FileFollower(where, wanted, zone)


class FileFollower:
    """For one thread at a time."""

    def __init__(self, path: Path, wanted: Wanted, zone: tzinfo = LOCAL) -> None:
        self._path = path
        self._wanted = wanted
        self._zone = zone
        self._file: _Following | None = None
        self._before: _Following | None = None

    def new_lines(self, now_s: float) -> Iterator[LogLine]:
        try:
            for piece in self._pieces():
                if self._wanted(piece) and (
                    line := parse_line(piece.decode("utf-8", "surrogateescape"), now_s, self._zone)
                ):
                    yield line
        except OSError as exc:
            raise MtaLogUnreadable(f"{self._path}: {exc.strerror or exc}{and_advice(self._path)}") from exc

    def close(self) -> None:
        for file in (self._file, self._before):
            if file is not None:
                file.close()

    def _pieces(self) -> Iterator[bytes]:
        if self._file is None:
            self._file = _Following(self._path)
            self._file.to_the_end()
            return
        if self._before is not None:
            yield from self._before.pieces()
        yield from self._file.pieces()
        if self._before is not None and self._file.place and not self._before.has_grown:
            self._before.close()
            self._before = None
        if self._file.is_another(self._path):
            following = _Following(self._path)
            if self._before is not None:
                self._before.close()
            # Its writer has it open until it is told of the rotation.
            self._before, self._file = self._file, following
            yield from chain(self._before.pieces(), self._file.pieces())


class _Following:
    """One open file, and how far it was read."""

    def __init__(self, path: Path) -> None:
        self.place = 0
        self.has_grown = False
        self._file: BinaryIO = open_regular(path)
        self._rest = b""

    def to_the_end(self) -> None:
        self.place = self._file.seek(0, os.SEEK_END)

    def is_another(self, path: Path) -> bool:
        """Whether that path is another file by now. While it is none, its writer has not made the new one yet."""
        try:
            there = path.stat()
        except FileNotFoundError:
            return False
        mine = os.fstat(self._file.fileno())
        return (there.st_dev, there.st_ino) != (mine.st_dev, mine.st_ino)

    def pieces(self) -> Iterator[bytes]:
        """Whole lines, with their ends. Raises OSError; MtaLogUnreadable if there is too much."""
        size = os.fstat(self._file.fileno()).st_size
        self.has_grown = size != self.place
        if size < self.place:
            self.place, self._rest = 0, b""
        if size - self.place > MOST_BYTES:
            grown = size - self.place
            self.to_the_end()
            self._rest = b""
            raise MtaLogUnreadable(f"the log grew by {grown:,} bytes since the last look, and was not read after")
        self._file.seek(self.place)
        while piece := self._file.read(_PIECE_BYTES):
            self.place += len(piece)
            *lines, self._rest = (self._rest + piece).split(b"\n")
            if len(self._rest) > _LONGEST_LINE:
                self._rest = b""  # no line of a mail log; what follows it is passed over up to its end
            yield from (line + b"\n" for line in lines)

    def close(self) -> None:
        self._file.close()


class JournalFollower:
    """By journalctl, run for each look: it goes to a place in the journal at once. For one thread at a time."""

    def __init__(self, where: Path, now_s: float) -> None:
        self._where = where
        self._since_s = now_s
        self._cursor = ""

    def new_lines(self, now_s: float) -> Iterator[LogLine]:
        since = ("--after-cursor", self._cursor) if self._cursor else ("--since", f"@{self._since_s:.6f}")
        try:
            with journal_output(self._where, since, JOURNAL_WITHIN_S) as stream:
                yield from log_lines(self._noted(pieces_of(stream)), now_s)
        except MtaLogUnreadable:
            self._since_s, self._cursor = now_s, ""
            raise

    def close(self) -> None:
        """Nothing is open between two calls."""

    def _noted(self, pieces: Iterator[bytes]) -> Iterator[bytes]:
        read = 0
        for piece in pieces:
            if piece.startswith(b"__CURSOR="):
                self._cursor = piece[len(b"__CURSOR=") :].decode("ascii", "replace").strip()
            read += len(piece)
            if read > MOST_BYTES:
                raise MtaLogUnreadable(f"the journal has more than {MOST_BYTES:,} bytes of mail since the last look")
            yield piece
