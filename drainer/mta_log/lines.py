"""A log's lines in all their formats: when, which program, what it said.

In    octets of a log: traditional or RFC 3339 syslog, what `journalctl` prints (-o export, json, short and its kin),
      Exim's own main log
Out   LogLine; and the values MTA's own readers (mta_log/postfix.py, mta_log/exim.py) make of it: MailLine, Sign
Pure  no file is read, no clock

Anything else is skipped: logs hold torn lines, other programs' dumps and plain garbage. A last line without its end is
still being written, and is left alone.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from enum import StrEnum
from typing import Literal

FIELD_AT_MOST = 1 << 20
"""Octets of a field in a journal export; a longer one is no mail log's."""

_WEEKDAY = re.compile(r"[A-Z][a-z]{2} [0-9]{4}-")
_STAMPS = (
    r"[A-Z][a-z]{2} [ 0-9][0-9] [0-9:]{8}(?:\.[0-9]+)?(?: [0-9]{4})?",
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[^ ]+",
    r"[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9:]{8} [A-Z][A-Z0-9+-]*",
    r"[0-9]{9,11}\.[0-9]{1,9}",
)
_SYSLOG = re.compile(
    rf"(?P<stamp>{'|'.join(_STAMPS)}) (?P<host>\S+) (?P<program>[^\s\[:]+)(?:\[(?P<pid>[0-9]+)\])?: "
    r"(?:\[ID [^\]]*\] )?(?P<text>.*)\Z",
    re.DOTALL,
)
_EXIM = re.compile(
    r"(?P<stamp>[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9:]{8}(?:\.[0-9]+)?(?: [+-][0-9]{4})?) "
    r"(?:\[(?P<pid>[0-9]+)\] )?(?P<text>.*)\Z",
    re.DOTALL,
)
_JOURNAL_FIELD = re.compile(rb"_{0,2}[A-Z][A-Z0-9_]{0,63}\Z")
_MONTHS = {
    name: number
    for number, name in enumerate("Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split(), start=1)
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class LogLine:
    """A line, split. program: syslog's tag ("postfix-out/qmgr"); "exim" in Exim's own log. pid, host: "" if not given."""

    at_s: float
    program: str
    pid: str
    text: str
    host: str = ""

    @property
    def instance(self) -> str:
        """One MTA among those that write to a log, which may be the log of many hosts: "postfix-out@mail"."""
        return f"{self.program.partition('/')[0]}@{self.host}"


@dataclass(frozen=True, slots=True)
class MailLine:
    """What one line says of one mail; "" and None: nothing.

    instance, queue_id  which mail
    message_id    named here; reverse_path: it was accepted from there
    count         how many recipients it was accepted for; all_recipients: these
    to, ordered_as  a recipient delivered to, and the name that the client gave
    status        of that recipient
    relay         where it went: "mx.example.org[192.0.2.1]:25", "local", "none"; Exim: the host, "" if the line names none
    reply         what that host said, or what the MTA says itself
    ended         the mail has left the queue
    refused       it never was in the queue
    """

    instance: str
    queue_id: str
    message_id: str | None = None
    reverse_path: str | None = None
    count: int | None = None
    all_recipients: tuple[str, ...] | None = None
    to: str | None = None
    ordered_as: str | None = None
    status: Literal["", "sent", "deferred", "failed"] = ""
    relay: str = ""
    reply: str = ""
    ended: bool = False
    refused: bool = False


class Sign(StrEnum):
    """What a line says of the log itself.

    ALIVE  the MTA wrote it in the course of its work
    BEGUN  it started;  STOPPED  it was stopped in order, so that nothing was lost when it starts again
    LOST   the logger dropped lines
    NONE   nothing: another program's line, or a warning, which may go to a file of its own
    """

    ALIVE = "alive"
    BEGUN = "begun"
    STOPPED = "stopped"
    LOST = "lost"
    NONE = "none"


def log_lines(pieces: Iterable[bytes], latest_s: float, zone: tzinfo = UTC) -> Iterator[LogLine]:
    """The lines of a log, whichever kind its first line shows it to be.

    pieces    its lines with their ends, or parts of overlong ones
    latest_s  a moment no line can be later than by more than a day: it gives traditional stamps, which name no year,
              the latest year that fits
    zone      of stamps that name none
    """
    found = iter(pieces)
    for first in found:
        rest = _again(first, found)
        if first.startswith(b"__CURSOR="):
            yield from _exported(rest)
        elif first.startswith(b"{"):
            yield from filter(None, map(_json_line, rest))
        else:
            for piece in rest:
                if piece.endswith(b"\n") and (
                    line := parse_line(piece.decode("utf-8", "surrogateescape"), latest_s, zone)
                ):
                    yield line


def parse_line(line: str, latest_s: float, zone: tzinfo = UTC) -> LogLine | None:
    """A text line's parts, or None if it is not one. latest_s, zone: see log_lines."""
    text = line.rstrip("\r\n")
    match = _SYSLOG.match(text, 4 if _WEEKDAY.match(text) else 0)
    program = match["program"] if match else "exim"
    match = match or _EXIM.match(text)
    at_s = _stamp_s(match["stamp"], latest_s, zone) if match else None
    if match is None or at_s is None:
        return None
    return LogLine(at_s, program, match["pid"] or "", match["text"], match.groupdict().get("host", ""))


def _again(first: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    yield first
    yield from rest


def _json_line(piece: bytes) -> LogLine | None:
    try:
        fields = json.loads(piece)
    except (ValueError, RecursionError):
        return None
    return _journal_line({name: _octets(value) for name, value in fields.items()}) if isinstance(fields, dict) else None


def _octets(value: object) -> bytes:
    """journalctl writes what is not text as a list of its octets, what is too long as null, repeated fields as lists."""
    if isinstance(value, str):
        return value.encode("utf-8", "surrogateescape" if value.isprintable() else "replace")
    if isinstance(value, list) and all(type(octet) is int and 0 <= octet < 256 for octet in value):
        return bytes(value)
    return b""


def _exported(pieces: Iterator[bytes]) -> Iterator[LogLine]:
    """Source  systemd's "Journal Export Format": NAME=VALUE, or NAME, 64-bit length, octets; an empty line ends an entry"""
    fields: dict[str, bytes] = {}
    for piece in pieces:
        name, equals, value = piece.removesuffix(b"\n").partition(b"=")
        if equals:
            fields[name.decode("ascii", "replace")] = value
        elif name:
            binary = _binary(pieces) if _JOURNAL_FIELD.match(name) else None
            if binary is None:
                fields.clear()
            else:
                fields[name.decode("ascii")] = binary
        else:
            if line := _journal_line(fields):
                yield line
            fields = {}


def _binary(pieces: Iterator[bytes]) -> bytes | None:
    """A field given by its length; None if that cannot be."""
    octets = b""
    for piece in pieces:
        octets += piece
        size = int.from_bytes(octets[:8], "little") if len(octets) >= 8 else 0
        if size > FIELD_AT_MOST or len(octets) > size + 9 >= 9 + size > 9:
            return None
        if len(octets) >= 8 and len(octets) == size + 9:
            return octets[8:-1]
    return None


def _journal_line(fields: dict[str, bytes]) -> LogLine | None:
    # The moment at which the program wrote it, if the journal has that; otherwise when journald received it.
    stamp = fields.get("_SOURCE_REALTIME_TIMESTAMP") or fields.get("__REALTIME_TIMESTAMP", b"")
    message = fields.get("MESSAGE", b"")
    program = fields.get("SYSLOG_IDENTIFIER", b"")
    if not (stamp.isdigit() and len(stamp) < 20 and message and program):
        return None
    pid = fields.get("SYSLOG_PID") or fields.get("_PID", b"")
    return LogLine(int(stamp) / 1e6, _text(program), _text(pid), _text(message), _text(fields.get("_HOSTNAME", b"")))


def _text(octets: bytes) -> str:
    return octets.decode("utf-8", "surrogateescape")


@functools.lru_cache(64)  # a busy log has hundreds of lines with one stamp, and reading it is most of the work
def _stamp_s(stamp: str, latest_s: float, zone: tzinfo) -> float | None:
    try:
        if stamp[4:5] == "-":
            # journalctl's short-full names the zone by letters; Exim's own log has an offset behind a space, or none.
            name = re.search(r" ([A-Z][A-Z0-9+-]*)\Z", stamp)
            moment = datetime.fromisoformat(re.sub(r" (?=[+-][0-9]{4}\Z)| [A-Z]\S*\Z", "", stamp))
            named = UTC if name and name[1] in ("UTC", "GMT") else zone
            return (moment if moment.tzinfo else moment.replace(tzinfo=named)).timestamp()
        if stamp[0].isdigit():
            return float(stamp)
        return _traditional_s(stamp, latest_s, zone)
    except (KeyError, ValueError, OverflowError):
        return None


def _traditional_s(stamp: str, latest_s: float, zone: tzinfo) -> float | None:
    """ "Nov 22 06:13:01", followed by a fraction or a year where the logger is configured so."""
    month, day = _MONTHS[stamp[:3]], int(stamp[4:6])
    hour, minute, second = (int(part) for part in stamp[7:15].split(":"))
    clock = timedelta(hours=hour, minutes=minute, seconds=min(second, 59))
    if clock >= timedelta(days=1):
        return None
    fraction, _, year = stamp[15:].partition(" ")
    part_s = float(fraction or 0)
    if year:
        return (datetime(int(year), month, day, tzinfo=zone) + clock).timestamp() + part_s
    limit = datetime.fromtimestamp(latest_s, zone) + timedelta(days=1)
    for candidate in range(limit.year, limit.year - 9, -1):  # 29 February goes back up to eight years (1900, 2100)
        try:
            moment = datetime(candidate, month, day, tzinfo=zone) + clock
        except ValueError:
            continue
        if moment <= limit:
            return moment.timestamp() + part_s
    return None
