"""Which keys the backlog index has certainly not got, without looking.

In    keys as 64-bit numbers, evenly spread (parts of digests)
Out   False for a key never added; True for every other, and for a few that were not (Bloom, CACM 13/7, 1970)
Pure  values only

Nearly every mail of a backlog has no key in common with another one. To find that in the tables took three look-ups: a
quarter of the time that it took to write the entry.
"""

from __future__ import annotations

from collections.abc import Iterable

_BITS = 2**25
"""4 MiB. With 100,000 entries of five keys each, one key in a thousand is looked up in vain; with a million, one in 15."""


class KeyFilter:
    """Has a fixed size. A key that is removed from the index stays here, and is looked up in vain."""

    def __init__(self) -> None:
        self._octets = bytearray(_BITS // 8)

    def add(self, keys: Iterable[int]) -> None:
        octets = self._octets
        for key in keys:
            first, second = key & (_BITS - 1), key >> 25 & (_BITS - 1)
            octets[first >> 3] |= 1 << (first & 7)
            octets[second >> 3] |= 1 << (second & 7)

    def may_have(self, key: int) -> bool:
        first, second = key & (_BITS - 1), key >> 25 & (_BITS - 1)
        octets = self._octets
        return bool(octets[first >> 3] >> (first & 7) & 1 and octets[second >> 3] >> (second & 7) & 1)
