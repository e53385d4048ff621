"""A queue entry's name: received time, digest, suffix, and first-in-first-out order.

In    a file name from a queue directory
Out   a QueueFile, or None with the reason why the name is no entry's
Pure  no file is touched

Mailman's switchboard writes `<when>+<40 hex digits>.pck`, `<when>` being the repr of a float (2.1: received_time,
kept for life; 3: time of writing). FIFO order is by float(when), not by name. A `.pck` name it cannot parse kills
Mailman's own runner, so such names are reported, never made.
"""

from __future__ import annotations

import hashlib
import math
import re
from dataclasses import dataclass
from enum import StrEnum

HOME_QUEUE = "out"
MARKED_QUEUES = frozenset({"retry"})
QUEUE_MARK = "~"
_USUAL = re.compile(r"(([0-9]{1,15}\.[0-9]{1,9})\+[0-9a-f]{40})(\.(?:pck|bak|psv))\Z")
_WHEN = re.compile(r"[0-9]+(?:\.[0-9]+)?(?:e[+-]?[0-9]+)?\Z")


class Suffix(StrEnum):
    """What the ending of a file in a queue directory means to Mailman."""

    WAITING = ".pck"
    CLAIMED = ".bak"
    PRESERVED = ".psv"


_SUFFIX = {suffix.value: suffix for suffix in Suffix}


@dataclass(frozen=True, slots=True, order=True)
class QueueFile:
    """A well-formed entry name. Sorts first in, first out; equal times by digest, as good as any order.

    when_s    received time in seconds since the epoch
    filebase  the name without its suffix
    """

    when_s: float
    filebase: str
    suffix: Suffix

    @property
    def name(self) -> str:
        return self.filebase + self.suffix.value


@dataclass(frozen=True, slots=True)
class ForeignName:
    """A name that is not an entry's. `kills_runner`: Mailman's own runner dies on it (a .pck it cannot parse)."""

    name: str
    reason: str
    kills_runner: bool = False


HALF_WRITTEN = ".tmp"


def parse_name(name: str) -> QueueFile | ForeignName:
    """What a file name in a queue directory says.

    Returns  QueueFile for `<when>+<digest>` with .pck, .bak or .psv; else ForeignName with a reason of one clause.
             Any printable digest will do, as it does for Mailman (unless it runs slices)
    Source   Mailman Switchboard.get_files: os.path.splitext (which sees no suffix in ".pck"), splits at '+', float()
             of the first half; 2.1 dies on a second '+', 3 does not
    """
    if usual := _USUAL.match(name):
        return QueueFile(float(usual[2]), usual[1], _SUFFIX[usual[3]])
    if name.endswith(HALF_WRITTEN):
        return ForeignName(name, "half-written (.tmp): never read")
    for suffix in Suffix:
        if name.endswith(suffix.value):
            break
    else:
        return ForeignName(name, "not a queue file")
    filebase = name[: -len(suffix.value)]
    when, plus, digest = filebase.partition("+")
    is_split = bool(plus) and "+" not in digest and _is_float(when)
    kills_runner = suffix is Suffix.WAITING and bool(filebase.strip(".")) and not is_split
    if not plus:
        return ForeignName(name, "no '+' in the name", kills_runner)
    if not _WHEN.match(when) or not math.isfinite(float(when)):
        return ForeignName(name, "no time before the '+'", kills_runner)
    if not digest or "+" in digest:
        return ForeignName(name, "not exactly one '+' with a digest behind it", kills_runner)
    if not digest.isprintable():
        return ForeignName(name, "control characters or invalid UTF-8 in the name")
    return QueueFile(float(when), filebase, suffix)


def received_s(name: str) -> float | None:
    """The received time alone, as parse_name gives it, in less time; None for a ForeignName."""
    if usual := _USUAL.match(name):
        return float(usual[2])
    parsed = parse_name(name)
    return parsed.when_s if isinstance(parsed, QueueFile) else None


def renamed_filebase(filebase: str, salt: str) -> str:
    """Another name for the same entry, with the same received time, so that its place in the order stays.

    salt  anything that makes it differ from names given before
    Returns  a filebase as Mailman's own: 40 hex digits, no mark of a queue
    """
    when, _, _ = filebase.partition("+")
    digest = hashlib.sha1(f"{filebase} {salt}".encode("utf-8", "surrogatepass"), usedforsecurity=False).hexdigest()
    return f"{when}+{digest}"


def custody_filebase(filebase: str, queue: str) -> str:
    """The name an entry of one of Mailman's queues has while it is ours: from any queue but out/ the queue's name is
    added, so that the file itself says where it has to go back to, at no cost of an inode.

    Returns  `1700000000.1+ab12` from out/ as it is, from retry/ as `1700000000.1+ab12~retry`
    """
    return filebase if queue == HOME_QUEUE else f"{filebase}{QUEUE_MARK}{queue}"


def queue_of(filebase: str) -> str:
    """The queue an entry in custody came from."""
    _, mark, queue = filebase.rpartition(QUEUE_MARK)
    return queue if mark and queue in MARKED_QUEUES else HOME_QUEUE


def mailman_filebase(filebase: str) -> str:
    """The name an entry in custody had in Mailman's queue."""
    queue = queue_of(filebase)
    return filebase if queue == HOME_QUEUE else filebase[: -len(QUEUE_MARK + queue)]


def _is_float(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
