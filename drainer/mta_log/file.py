"""Reads the MTA's log for in_doubt/policy.py and import-log: a file and its rotated predecessors, or the journal.

In    where the log is (setting mta.log_file), the moment from which lines are wanted
Out   an MtaEvidence that was fed them, oldest first; or MtaLogUnreadable with the reason
Not here  what the lines mean (mta_log/answer.py and the files beside it)

A file that was last changed before the wanted moment is not read. A predecessor that should be read and cannot be is a gap:
then the evidence says "cannot say". All of logrotate's names are known: mail.log.1, mail.log.2.gz, mail.log-20261122,
mail.log-20261122.xz. A file packed by zstd needs the `zstd` command.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import re
import shutil
import subprocess
import threading
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta, tzinfo
from functools import partial
from pathlib import Path
from typing import IO, BinaryIO, Protocol

from drainer.errors import MtaLogUnreadable
from drainer.files.regular_file import open_regular
from drainer.mta_log.answer import MtaEvidence
from drainer.mta_log.lines import LogLine, log_lines

JOURNAL = "journal"
"""What mta.log_file begins with when it is no file."""

_MARGIN_S = 3600.0
_LINE_AT_MOST = 65_536
_PACKED = r"(?:\.(?:gz|xz|bz2|zst))?"
_NUMBERED = re.compile(rf"\.([0-9]+){_PACKED}\Z")
_DATED = re.compile(rf"[-.]([0-9]{{8}})(?:[-.]?[0-9]*)?{_PACKED}\Z")


class _Octets(Protocol):
    def readline(self, size: int, /) -> bytes: ...


_UNPACKED: dict[str, Callable[[BinaryIO], gzip.GzipFile | lzma.LZMAFile | bz2.BZ2File]] = {
    ".gz": lambda file: gzip.GzipFile(fileobj=file),
    ".xz": lzma.LZMAFile,
    ".bz2": bz2.BZ2File,
}
PACKED = frozenset({*_UNPACKED, ".zst"})
"""Endings of files that are unpacked to be read."""


class _LocalTime(tzinfo):
    """This machine's own zone, summer time included. Of the hour that comes twice, the first is meant."""

    def utcoffset(self, moment: datetime | None) -> timedelta:
        assert moment is not None
        return timedelta(seconds=time.localtime(moment.replace(tzinfo=None).timestamp()).tm_gmtoff)

    def dst(self, moment: datetime | None) -> None:
        return None

    def tzname(self, moment: datetime | None) -> str:
        return "local"

    def fromutc(self, moment: datetime) -> datetime:
        local = datetime.fromtimestamp(moment.replace(tzinfo=UTC).timestamp())
        return local.replace(tzinfo=self)


LOCAL = _LocalTime()


def read_mta_log(
    where: Path, from_s: float, now_s: float, message_ids: Iterable[str] | None = None, zone: tzinfo = LOCAL
) -> MtaEvidence:
    """Evidence from the log since `from_s`.

    where        a file; or "journal", "journal:UNIT", "journal:/DIRECTORY" (settings/mta.py, log_file)
    from_s       the oldest attempt's moment, seconds since the epoch; an hour before it is read as well
    now_s        dates traditional stamps, which name no year
    message_ids  only mail with these is remembered, whatever the size of the log
    zone         of stamps that name none
    Raises       MtaLogUnreadable
    """
    evidence = MtaEvidence(message_ids)
    wanted_s = from_s - _MARGIN_S
    if is_journal(where):
        evidence.feed(_journal_lines(where, wanted_s, now_s))
        return evidence
    for file in _rotated(where, wanted_s):
        try:
            evidence.feed(file_lines(file, now_s, zone))
        except MtaLogUnreadable as exc:
            evidence.gap(wanted_s, _changed_s(file) or now_s, str(exc))
    evidence.feed(file_lines(where, now_s, zone))
    return evidence


def is_journal(where: Path) -> bool:
    return str(where).partition(":")[0] == JOURNAL


def journal_files(where: Path) -> list[Path]:
    """The files of a journal, readable or not; [] where there is no journal."""
    directory = str(where).partition(":")[2]
    places = [Path(directory)] if directory.startswith("/") else [Path("/var/log/journal"), Path("/run/log/journal")]
    try:
        found = [child for place in places if place.is_dir() for child in place.iterdir()]
        return [child / "system.journal" if child.is_dir() else child for child in found]
    except OSError:
        return places


def file_lines(file: Path, latest_s: float, zone: tzinfo = LOCAL) -> Iterator[LogLine]:
    """The lines of one file, packed or not; a journal's export too. Raises MtaLogUnreadable, perhaps after some lines."""
    yield from log_lines(_pieces(file), latest_s, zone)


def text_lines(file: Path) -> Iterator[str]:
    """The same file's lines as they are. Raises MtaLogUnreadable, perhaps after some lines."""
    return (piece.decode("utf-8", "surrogateescape") for piece in _pieces(file))


def _pieces(file: Path) -> Iterator[bytes]:
    try:
        with _unpacked(file) as stream:
            yield from pieces_of(stream)
    except (OSError, EOFError, zlib.error, lzma.LZMAError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) and exc.strerror else f"damaged: {exc}"
        raise MtaLogUnreadable(f"{file} cannot be read: {reason}") from exc


@contextmanager
def _unpacked(file: Path) -> Iterator[_Octets]:
    with open_regular(file) as octets:
        if file.suffix == ".zst":
            with _output_of(["zstd", "-dcq"], octets) as output:
                yield output
        elif unpacked := _UNPACKED.get(file.suffix):
            with unpacked(octets) as stream:
                yield stream
        else:
            yield octets


def _journal_lines(where: Path, from_s: float, now_s: float) -> Iterator[LogLine]:
    """What journald keeps of the mail system since then. Raises MtaLogUnreadable, perhaps after some lines."""
    since = ("--since", f"@{max(from_s, 0.0):.0f}")
    with journal_output(where, since) as stream:
        yield from log_lines(pieces_of(stream), now_s)


def pieces_of(stream: _Octets) -> Iterator[bytes]:
    """Lines with their ends; overlong ones in parts."""
    return iter(partial(stream.readline, _LINE_AT_MOST), b"")


@contextmanager
def journal_output(where: Path, since: Sequence[str], within_s: float | None = None) -> Iterator[IO[bytes]]:
    """What `journalctl -o export` says of the mail system. Raises MtaLogUnreadable, perhaps after some of it.

    since     the words that say from where
    within_s  seconds after which it is ended
    """
    _, _, which = str(where).partition(":")
    # journald's own lines are read too: they say when it dropped lines.
    match = ["SYSLOG_FACILITY=2", "+", "SYSLOG_IDENTIFIER=systemd-journald"]
    if which.startswith("/"):
        match += ["--directory", which]
    elif which:
        match[0] = f"_SYSTEMD_UNIT={which if '.' in which else which + '.service'}"
    fields = "--output-fields=MESSAGE,SYSLOG_IDENTIFIER,SYSLOG_PID,_PID,_SOURCE_REALTIME_TIMESTAMP"
    with _output_of(["journalctl", "--no-pager", "-o", "export", fields, *since, *match], within_s=within_s) as stream:
        yield stream


@contextmanager
def _output_of(command: list[str], given: BinaryIO | None = None, within_s: float | None = None) -> Iterator[IO[bytes]]:
    """A command's standard output, with its input from a file. If it fails, its standard error is the reason.

    Raises MtaLogUnreadable
    """
    program = shutil.which(command[0])
    if program is None:
        raise MtaLogUnreadable(f"there is no {command[0]} here to read it with")
    with subprocess.Popen(
        [program, *command[1:]], stdin=given or subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        limit = threading.Timer(within_s or 0.0, process.kill)
        if within_s is not None:
            limit.start()
        try:
            yield process.stdout
            said = process.stderr.read(2000).decode("utf-8", "replace").strip().splitlines()
            if process.wait() != 0 or said:
                raise MtaLogUnreadable(f"{command[0]}: {said[0] if said else f'exit status {process.returncode}'}")
        finally:
            limit.cancel()
            if process.poll() is None:
                process.kill()


def _rotated(path: Path, from_s: float) -> list[Path]:
    """Predecessors that changed since `from_s`, oldest first."""
    found = []
    try:
        files = list(path.parent.iterdir())
    except OSError:
        return []
    for file in files:
        rest = file.name.removeprefix(path.name)
        if rest == file.name or not (_NUMBERED.match(rest) or _DATED.match(rest)):
            continue
        changed_s = _changed_s(file)
        if changed_s is not None and changed_s >= from_s:
            found.append((changed_s, file))
    return [file for _, file in sorted(found)]


def _changed_s(file: Path) -> float | None:
    try:
        return file.stat().st_mtime
    except OSError:
        return None
