"""Reads the MTA's log for reconcile.py: the file and its rotated predecessors, as far back as is needed.

In    the log's path, the moment from which lines are wanted
Out   an MtaEvidence that was fed them, oldest first
Not here  what the lines mean (mta_log.py)

A file whose last change lies before the wanted moment holds nothing of it and is not read. A predecessor that should be
read and cannot be is a gap: the evidence then says "cannot say".
"""

from __future__ import annotations

import gzip
import re
import zlib
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, tzinfo
from pathlib import Path

from drainer.ledger.mta_log import MtaEvidence

_MARGIN_S = 3600.0
_NUMBERED = re.compile(r"\.([0-9]+)(?:\.gz)?\Z")
_DATED = re.compile(r"-([0-9]{8})(?:-?[0-9]*)?(?:\.gz)?\Z")


def read_mta_log(
    path: Path, from_s: float, now_s: float, message_ids: Iterable[str] | None = None, zone: tzinfo | None = None
) -> MtaEvidence | None:
    """Evidence from the log since `from_s`, or None if the log itself cannot be read.

    from_s       the oldest attempt's moment, seconds since the epoch; an hour before it is read as well
    now_s        dates traditional stamps, which name no year
    message_ids  only mail with these is remembered, whatever the size of the log
    zone         of traditional stamps; None: this machine's own
    """
    evidence = MtaEvidence(now_s, message_ids, zone or datetime.fromtimestamp(now_s, UTC).astimezone().tzinfo or UTC)
    wanted_s = from_s - _MARGIN_S
    for file in _rotated(path, wanted_s):
        try:
            evidence.feed(_lines(file))
        except (OSError, EOFError, zlib.error):
            evidence.gap(wanted_s, _changed_s(file) or now_s)
    try:
        evidence.feed(_lines(path))
    except OSError:
        return None
    return evidence


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


def _lines(file: Path) -> Iterator[str]:
    if file.name.endswith(".gz"):
        with gzip.open(file, "rt", encoding="utf-8", errors="surrogateescape", newline="\n") as lines:
            yield from lines
    else:
        with file.open(encoding="utf-8", errors="surrogateescape", newline="\n") as lines:
            yield from lines
