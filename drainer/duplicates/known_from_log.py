"""The identity of a delivery that only a log knows: list and Message-ID, nothing of the content.

In    the reverse-path or list that a log names, and a Message-ID
Out   a digest. `drainer import-log` writes it into the ledger, and every decision looks it up with the message's own digests
Pure  values only

The reverse-path that Mailman gives its mail names the list: choir-bounces@lists.example.org, with or without VERP. An entry
of 2.1 has the list's name ("choir"), one of 3 its list-id ("choir.lists.example.org"): both are written. Mail with another
reverse-path (notices of the site, a list with a bounces address of its own) cannot be attributed to a list and is left out.
"""

from __future__ import annotations

import re
from hashlib import blake2b

_BOUNCES = re.compile(r"(?P<list>.+?)-bounces(?:\+.*)?@(?P<domain>[^@]+)\Z", re.DOTALL)
_PREFIX = "import-"


def lists_named_by(reverse_path: str) -> tuple[str, ...]:
    """Values of QueueEntry.list_id for mail that goes out under this reverse-path; () if it names no list."""
    match = _BOUNCES.match(reverse_path)
    return (match["list"].lower(), f"{match['list']}.{match['domain']}".lower()) if match else ()


def lists_named(name: str) -> tuple[str, ...]:
    """The same for a list's name in Mailman's smtp log: "choir" (2.1), "choir@lists.example.org" (3)."""
    return (name.lower().replace("@", ".", 1),)


def imported_identity(list_id: str, message_id: str) -> bytes:
    """The digest of a delivery known from a log, 16 bytes. Its first byte keeps it apart from those of fingerprint.py."""
    text = f"{list_id.lower()}\0{message_id.replace(' ', '')}"
    return b"\xfe" + blake2b(text.encode("utf-8", "surrogateescape"), digest_size=15, person=b"imported").digest()


def is_import(filebase: str) -> bool:
    """Whether this name in the ledger stands for an import and not for an entry."""
    return filebase.startswith(_PREFIX)


def import_name(stamp: str) -> str:
    """The name in the ledger of an import.

    stamp  when, such as "20261122T095001Z"
    """
    return _PREFIX + stamp
