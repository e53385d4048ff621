"""By which numbers the index looks up digests.

In    digests of an entry that was read (duplicates/fingerprint.py)
Out   integers; digests that are stored as one blob
Pure  values only

Digests come in random order, so a look-up is fast only while the tables fit into SQLite's cache. Integers keep them small.

A key is two integers. The first is made of the name half of a digest, and the second, of three bytes in SQLite, of its body
half. So one look-up finds copies, and passes over mails that have the name in common and nothing else. A script whose Date
never changes writes thousands of these.
"""

from __future__ import annotations

from collections.abc import Sequence

from drainer.duplicates.fingerprint import Fingerprint
from drainer.ledger.records import DECORATED_BIT, DIGEST_BYTES, KIN_BYTES, is_of_decorated

Key = tuple[int, int]
_SIGN = 2**23


def start_of(key: bytes) -> int:
    """The part of a digest that it is looked up by, as an SQLite integer: the first eight bytes without the version of the
    rules. Rows found by it have to be compared with the whole digest, unless a false hit does no harm."""
    return int.from_bytes(key[1:KIN_BYTES], "big")


def key_of(digest: bytes) -> Key:
    """Both integers of a digest. The second one is negative if the mail is decorated (records.is_of_decorated): among mails
    of one name these are found by themselves."""
    rest = (digest[8] << 15) + (digest[9] << 7) + (digest[10] >> 1)
    return int.from_bytes(digest[1:KIN_BYTES], "big"), rest - _SIGN if digest[-1] & DECORATED_BIT else rest


def keys_of_entry(identity: Sequence[bytes], message_id: bytes | None) -> list[Key]:
    """What the table `key` has for an entry. A decorated one has a negative key for each of its names: also for those of
    another mail that it proved to be, from which it has no mark."""
    keys = [key_of(digest) for digest in identity]
    if any(map(is_of_decorated, identity)):
        marked = {start for start, rest in keys if rest < 0}
        keys += [(start, -1) for start in dict.fromkeys(start for start, _ in keys) if start not in marked]
    if message_id:
        keys.append(key_of(message_id))
    return keys


def shared_keys(print_: Fingerprint) -> list[bytes]:
    """All digests that an entry may have in common with others."""
    others = (digest for digest in (print_.message_id, print_.resend) if digest)
    return [*print_.identity, *others]


def split(joined: bytes, size: int = DIGEST_BYTES) -> tuple[bytes, ...]:
    """Digests, or recipient keys of `size` bytes, that are stored as one blob."""
    if len(joined) == size:
        return (joined,)
    return tuple([joined[start : start + size] for start in range(0, len(joined), size)])
