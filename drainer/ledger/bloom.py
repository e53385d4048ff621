"""A Bloom filter: a set of bounded size that may take a stranger for a member, and never a member for a stranger.

In    keys: whole numbers whose lower bits are as good as random
Out   whether a key was added: no, or perhaps
Pure  values only

Nothing is ever taken out. The fuller it is, the more often it says "perhaps" of a stranger: of n keys in m bits, in a share
of (1 - e^(-2n/m))^2 (two bits for each key).
"""

from __future__ import annotations


class BloomFilter:
    """width  the filter has 2^width bits. It looks at the lower 2 * width bits of a key"""

    def __init__(self, width: int) -> None:
        self._bits = bytearray(1 << (width - 3))
        self._mask = (1 << width) - 1
        self._width = width

    def add(self, key: int) -> None:
        bits, one, other = self._bits, key & self._mask, key >> self._width & self._mask
        bits[one >> 3] |= 1 << (one & 7)
        bits[other >> 3] |= 1 << (other & 7)

    def may_have(self, key: int) -> bool:
        """False: the key was never added."""
        bits, one = self._bits, key & self._mask
        if not bits[one >> 3] >> (one & 7) & 1:
            return False
        other = key >> self._width & self._mask
        return bool(bits[other >> 3] >> (other & 7) & 1)
