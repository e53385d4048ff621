"""The protocol between the composer and its co-process: frames with a kind, some fields, and octets.

In    fields and octets, or the octets of a frame
Out   the octets of a frame, or kind, fields and octets; FrameError for octets that are not a frame
Pure  no pipe: each end reads and writes its own way

A frame is: magic (4), kind (1), length of the fields (4), length of the octets (4), CRC-32 of the rest (4), the fields as
JSON, the octets. Python's json carries lone surrogates, so any string of Mailman's survives. Requests may follow each other
before the first one is answered; the answers come in the same order.

    parent                               co-process
    HELLO  settings, allowed names   ->
                                     <-  READY  versions         or REFUSED  detail; path and writing if a path is the reason
    COMPOSE  recipients; the entry   ->
                                     <-  COMPOSED  transactions       any number of these, the last one says that it is
                                                                          or FAILED  reason, detail
    LISTS                            ->
                                     <-  LISTED  list-id and posting address of each  or FAILED  reason, detail
    DECORATE  the entry              ->
                                     <-  DECORATION  texts               or FAILED  reason, detail
"""

from __future__ import annotations

import json
import struct
import zlib
from itertools import accumulate
from typing import Any, Iterator, NamedTuple, Sequence  # noqa: UP035 (runs on Python 3.8)

MAGIC = b"drn\x02"
HELLO, READY, REFUSED, COMPOSE, COMPOSED, FAILED, LISTS, LISTED, DECORATE, DECORATION = range(1, 11)

LONGEST_FIELDS = 64 * 2**20  # a bulk entry names each recipient at most twice: 64 MiB holds 300,000 recipients
LONGEST_OCTETS = 512 * 2**20

_PREFIX = struct.Struct(">4sBIII")
PREFIX_BYTES = _PREFIX.size


class FrameError(Exception):
    """The octets are not a frame, or announce an impossible size."""


class Transaction(NamedTuple):
    """One transaction as it is in a COMPOSED frame.

    content   number of its content: the answer's contents are counted from 0, over all its frames
    owed_for  the recipients asked for, parallel to `recipients`; None: the same
    """

    reverse_path: str
    recipients: list[str]
    mail_parameters: list[str]
    size: int
    content: int
    owed_for: list[str] | None


class Prefix(NamedTuple):
    """The first PREFIX_BYTES of a frame; lengths in octets."""

    kind: int
    fields_length: int
    octets_length: int
    checksum: int

    @property
    def rest_length(self) -> int:
        return self.fields_length + self.octets_length


def frame(kind: int, fields: dict[str, Any], octets: bytes = b"") -> bytes:
    """One frame in octets. Raises FrameError if it would be too large."""
    encoded = json.dumps(fields, separators=(",", ":")).encode("ascii")
    if len(encoded) > LONGEST_FIELDS or len(octets) > LONGEST_OCTETS:
        raise FrameError(f"a frame with {len(encoded)} octets of fields and {len(octets)} of content is too large")
    checksum = zlib.crc32(octets, zlib.crc32(encoded))
    return _PREFIX.pack(MAGIC, kind, len(encoded), len(octets), checksum) + encoded + octets


def prefix(octets: bytes) -> Prefix:
    """Decode the first PREFIX_BYTES octets of a frame. Raises FrameError."""
    if len(octets) != PREFIX_BYTES:
        raise FrameError(f"a frame ended after {len(octets)} octets")
    magic, kind, fields_length, octets_length, checksum = _PREFIX.unpack(octets)
    if magic != MAGIC:
        raise FrameError(f"not a frame but {octets!r}")
    if not HELLO <= kind <= DECORATION or fields_length > LONGEST_FIELDS or octets_length > LONGEST_OCTETS:
        raise FrameError(f"impossible frame of kind {kind} with {fields_length} + {octets_length} octets")
    return Prefix(kind, fields_length, octets_length, checksum)


def fields_and_octets(announced: Prefix, rest: bytes) -> tuple[dict[str, Any], bytes]:
    """Decode the rest of a frame, the octets after its prefix. Raises FrameError."""
    if len(rest) != announced.rest_length:
        raise FrameError(f"a frame ended after {len(rest)} of {announced.rest_length} octets")
    if zlib.crc32(rest) != announced.checksum:
        raise FrameError("a frame does not match its checksum")
    try:
        fields = json.loads(rest[: announced.fields_length])
    except ValueError as exc:
        raise FrameError("the fields of a frame are not JSON") from exc
    if not isinstance(fields, dict):
        raise FrameError("the fields of a frame are not an object")
    return fields, rest[announced.fields_length :]


def composed(transactions: Sequence[Transaction], contents: Sequence[bytes], complete: bool | None) -> bytes:
    """A COMPOSED frame.

    contents  those that the answer has not had before
    complete  None: the answer goes on; True: it ends, and covers all recipients; False: it ends, ask again for the others
    Raises    FrameError
    """
    fields = {"transactions": transactions, "lengths": [len(content) for content in contents], "complete": complete}
    return frame(COMPOSED, fields, b"".join(contents))


def transactions_and_contents(fields: dict[str, Any], octets: bytes) -> tuple[list[Transaction], list[bytes]]:
    """The opposite of composed(). Raises FrameError."""
    try:
        transactions = [Transaction(*item) for item in fields["transactions"]]
        lengths = fields["lengths"]
        ends = list(accumulate(lengths, initial=0))
        contents = [octets[end - length : end] for end, length in zip(ends[1:], lengths)]  # noqa: B905 (3.8)
        fits = ends[-1] == len(octets) and min(lengths, default=0) >= 0
    except (KeyError, TypeError) as exc:
        raise FrameError("a frame without its transactions") from exc
    if not fits:
        raise FrameError(f"a frame whose contents are {len(octets)} octets, and not what it says")
    return transactions, contents


class FrameReader:
    """Takes octets as they come, and hands on whole frames."""

    def __init__(self) -> None:
        self._octets = bytearray()
        self._announced: Prefix | None = None

    def fed(self, octets: bytes) -> Iterator[tuple[int, dict[str, Any], bytes]]:
        """Kind, fields and octets of each frame that is whole now. Raises FrameError; then nothing can be read any more."""
        self._octets += octets
        while True:
            if self._announced is None:
                if len(self._octets) < PREFIX_BYTES:
                    return
                self._announced = prefix(bytes(self._octets[:PREFIX_BYTES]))
                del self._octets[:PREFIX_BYTES]
            announced = self._announced
            if len(self._octets) < announced.rest_length:
                return
            rest = bytes(self._octets[: announced.rest_length])
            del self._octets[: announced.rest_length]
            self._announced = None
            yield (announced.kind, *fields_and_octets(announced, rest))
