"""What a log from before knows a message by: list and Message-ID, nothing of its content.

In    the reverse-path or list a log names, a Message-ID
Out   the digest `drainer import-log` writes into the ledger, and that every decision asks for beside a message's own
Pure  values only

The list is told by the reverse-path Mailman gives its mail: choir-bounces@lists.example.org, with or without VERP. An entry
of 2.1 has the list's name ("choir"), one of 3 its list-id ("choir.lists.example.org"): both are written. Mail with another
reverse-path (notices of the site, a list's own bounces address) is no list's, and not learnt.
"""

from __future__ import annotations

import re
from hashlib import blake2b

_BOUNCES = re.compile(r"(?P<list>.+?)-bounces(?:\+.*)?@(?P<domain>[^@]+)\Z", re.DOTALL)
_PREFIX = "import-"


def lists_named_by(reverse_path: str) -> tuple[str, ...]:
    """What an entry may have as list_id whose mail goes out under this reverse-path; () if it names no list."""
    match = _BOUNCES.match(reverse_path)
    return (match["list"].lower(), f"{match['list']}.{match['domain']}".lower()) if match else ()


def lists_named(name: str) -> tuple[str, ...]:
    """The same for a list's name as Mailman's smtp log has it: "choir" (2.1), "choir@lists.example.org" (3)."""
    return (name.lower().replace("@", ".", 1),)


def imported_identity(list_id: str, message_id: str) -> bytes:
    """The digest of a delivery known from a log, 16 bytes; of other kinds than those of fingerprint.py."""
    text = f"{list_id.lower()}\0{message_id.replace(' ', '')}"
    return b"\xfe" + blake2b(text.encode("utf-8", "surrogateescape"), digest_size=15, person=b"imported").digest()


def is_import(filebase: str) -> bool:
    """Whether this stands in the place of an entry in the ledger: what an import learnt."""
    return filebase.startswith(_PREFIX)


def import_name(stamp: str) -> str:
    """stamp  when, such as "20261122T095001Z" """
    return _PREFIX + stamp
