"""Addresses of an envelope as Mailman 2.1 gives them to the MTA.

In    addresses as they stand in metadata and settings
Out   arguments of MAIL and RCPT; the reverse-path that carries the recipient (VERP)
Pure  values only

Source  MAILMAN21.md §4 "VERP", §6 "On the wire"; addresses as Python 2.7.18 parses them
"""

from __future__ import annotations

import email.utils
import re
from collections.abc import Callable, Mapping
from functools import partial

from drainer.compose.mailman2_site import ListSettings, SiteSettings
from drainer.errors import ComposerFailed

_ATOM = r"[^][\x00-\x20()<>@,:;.\"\\\x7f-\U0010ffff]+"
_PLAIN_ADDRESS = re.compile(rf"{_ATOM}(?:\.{_ATOM})*@{_ATOM}(?:\.{_ATOM})*\Z")
_BLANKS = re.compile(r"[ \t]+")  # Python 2 drops them inside an address, Python 3 does not
# Pythons that have a strict mode use it by default; Python 2 had none.
_parse: Callable[[str], tuple[str, str]] = (
    partial(email.utils.parseaddr, strict=False)
    if hasattr(email.utils, "supports_strict_parsing")
    else email.utils.parseaddr
)


def wire_address(address: str) -> str:
    """The address between the angle brackets of MAIL or RCPT, which is not always the one given.

    `Name <a@b>` becomes `a@b`, comments and outer blanks go, `a,b@c` becomes `a`, `x@y@z` the empty address.
    Raises   ComposerFailed for an address with a line end in it, which would be a command of its own
    """
    if _PLAIN_ADDRESS.match(address):
        return address
    if any(character in address for character in "\r\n\0"):
        raise ComposerFailed(f"an address with a line end or NUL in it: {address!r}")
    parsed = _parse(address)[1]
    return parsed if '"' in address else _BLANKS.sub("", parsed)


def envelope_sender(settings: ListSettings, metadata: Mapping[str, object]) -> str:
    """The reverse-path of an entry before VERP: `envsender` where there is one, else the list's -bounces address."""
    given = metadata.get("envsender")
    if isinstance(given, str):
        return given
    return f"{settings.internal_name}-bounces@{settings.host_name}"


def verp_sender(sender: str, recipient: str, site: SiteSettings) -> str | None:
    """The reverse-path with the recipient inside; None for a recipient Mailman skips: without `@`, or nothing before it.

    A sender without `@`, such as the null reverse-path, stays as it is (Mailman shunts the entry).
    """
    mailbox, at, host = recipient.lower().partition("@")
    if not at or not mailbox:
        return None
    bounces, sender_at, domain = sender.lower().partition("@")
    if not sender_at or not bounces:
        return sender
    return f"{site.verp_format % {'bounces': bounces, 'mailbox': mailbox, 'host': host}}@{domain}"
